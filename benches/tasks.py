"""Tasks that both the package and its peer can run: one process, one task, one JSON line.

Usage: ``python tasks.py TASK WORLD [ROUNDS]`` with the interpreter of either package. Only the
API that both share is used, so the same lines are timed on both sides.
"""

import contextlib
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TILES = [(2024, 0.15, 52.25), (2024, 0.05, 52.25)]
BOX = (0.001, 52.101, 0.299, 52.399)

Timed = tuple[Callable[[], object], int]


def client(world: Path) -> Any:
    from geotessera import GeoTessera

    return GeoTessera(
        dataset_variant="cambridge", embeddings_dir=world / "tiles", registry_dir=world / "tiles"
    )


def points(count: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(1)
    west, south, east, north = BOX
    return np.c_[rng.uniform(west, east, count), rng.uniform(south, north, count)]


def quantised(world: Path) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(2)
    shape = (1115, 690, 128)
    values = rng.integers(-128, 128, shape, dtype=np.int8)
    return values, rng.uniform(0.01, 0.1, shape[:2]).astype(np.float32)


def task_import(world: Path) -> Timed:
    def run() -> None:
        import geotessera  # noqa: F401

    return run, 1


def task_dequantize(world: Path) -> Timed:
    from geotessera import dequantize_embedding

    values, scales = quantised(world)
    return lambda: dequantize_embedding(values, scales), 9


def task_dequantize_out(world: Path) -> Timed:
    """The peer has no ``out=``: it is timed with a fresh output."""
    import inspect

    import numpy as np

    from geotessera import dequantize_embedding

    values, scales = quantised(world)
    if "out" not in inspect.signature(dequantize_embedding).parameters:
        return lambda: dequantize_embedding(values, scales), 9
    out = np.zeros(values.shape, np.float32)
    return lambda: dequantize_embedding(values, scales, out=out), 9


def task_fetch_embedding(world: Path) -> Timed:
    gt = client(world)
    return lambda: gt.fetch_embedding(0.15, 52.25, 2024), 7


def task_sample_first_1000(world: Path) -> Timed:
    gt = client(world)
    chosen = [tuple(row) for row in points(1000).tolist()]
    return lambda: gt.sample_embeddings_at_points(chosen, year=2024), 1


def task_sample_million_tuples(world: Path) -> Timed:
    gt = client(world)
    chosen = [tuple(row) for row in points(1_000_000).tolist()]
    return lambda: gt.sample_embeddings_at_points(chosen, year=2024), 3


def task_sample_million_array(world: Path) -> Timed:
    gt = client(world)
    chosen = points(1_000_000)
    return lambda: gt.sample_embeddings_at_points(chosen, year=2024), 3


def task_sample_metadata(world: Path) -> Timed:
    gt = client(world)
    chosen = [tuple(row) for row in points(100_000).tolist()]
    return lambda: gt.sample_embeddings_at_points(chosen, year=2024, include_metadata=True), 3


def _export(world: Path, bands: list[int] | None) -> Timed:
    gt = client(world)

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=world) as directory:
            gt.export_embedding_geotiffs(TILES, directory, bands=bands)

    return run, 1


def task_export_3_bands(world: Path) -> Timed:
    return _export(world, [0, 1, 2])


def task_export_128_bands(world: Path) -> Timed:
    return _export(world, None)


def _planet(world: Path) -> Any:
    from geotessera import GeoTessera

    return GeoTessera(dataset_variant="cambridge", registry_dir=world / "planet")


def task_registry_open(world: Path) -> Timed:
    import geotessera.core  # noqa: F401 - only the opening is timed

    return lambda: _planet(world), 1


def task_city_query(world: Path) -> Timed:
    gt = _planet(world)
    # The box is not aligned with the grid: both sides find the same tiles.
    box = (0.02, 52.12, 0.28, 52.38)
    return lambda: gt.registry.load_blocks_for_region(box, 2024), 51


TASKS: dict[str, Callable[[Path], Timed]] = {
    name.removeprefix("task_"): value
    for name, value in globals().copy().items()
    if name.startswith("task_")
}


def main() -> None:
    name, world = sys.argv[1], Path(sys.argv[2])
    logging.disable(logging.CRITICAL)
    run, rounds = TASKS[name](world)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
        del result
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                rss_anonymous = int(line.split()[1]) * 1024
    print(json.dumps({"seconds": seconds, "peak_rss": rss, "rss_anonymous": rss_anonymous}))


if __name__ == "__main__":
    main()
