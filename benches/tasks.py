"""Tasks that both the package and its peer can run: one process, one task, one JSON line.

Usage: ``python tasks.py TASK WORLD [ROUNDS]`` with the interpreter of either package. Only the
API that both share is used, so the same lines are timed on both sides.
"""

import contextlib
import json
import logging
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TILES = [(2024, 0.15, 52.25), (2024, 0.05, 52.25)]
BOX = (0.001, 52.101, 0.299, 52.399)
FOUR_TILES = (0.001, 52.201, 0.199, 52.399)

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


def _mosaic(world: Path, crs: str, **options: Any) -> Timed:
    gt = client(world)
    return lambda: gt.fetch_mosaic_for_region(FOUR_TILES, 2024, crs, **options), 1


def task_mosaic_utm(world: Path) -> Timed:
    return _mosaic(world, "EPSG:32631")


def task_mosaic_4326(world: Path) -> Timed:
    return _mosaic(world, "EPSG:4326")


def task_mosaic_nearest_4326(world: Path) -> Timed:
    """The peer has no nearest and no int8; GDAL has: `task_gdal_nearest_4326`."""
    return _mosaic(world, "EPSG:4326", quantized=True)


def task_gdal_nearest_4326(world: Path) -> Timed:
    """What GDAL needs for the int8 bands alone, from arrays and into an array, with all cores."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.warp import calculate_default_transform, reproject

    west, south, east, north = FOUR_TILES
    sources = []
    for lon in (0.05, 0.15):
        for lat in (52.25, 52.35):
            name = f"grid_{lon:.2f}_{lat:.2f}"
            tiles = world / "tiles"
            with rasterio.open(tiles / "global_0.1_degree_tiff_all" / f"{name}.tiff") as mask:
                crs, transform, shape, bounds = mask.crs, mask.transform, mask.shape, mask.bounds
            path = tiles / "global_0.1_degree_representation" / "2024" / name / f"{name}.npy"
            bands = np.ascontiguousarray(np.moveaxis(np.load(path), 2, 0))
            sources.append((bands, crs, transform))
            if len(sources) == 1:
                height, width = shape
                step = calculate_default_transform(crs, "EPSG:4326", width, height, *bounds)[0].a
    size = (128, round((north - south) / step), round((east - west) / step))
    grid = from_origin(west, north, step, step)

    def run() -> object:
        out = np.zeros(size, np.int8)
        for bands, crs, transform in sources:
            reproject(
                bands, out, src_transform=transform, src_crs=crs, dst_transform=grid,
                dst_crs="EPSG:4326", resampling=rasterio.enums.Resampling.nearest,
                init_dest_nodata=False, num_threads=len(os.sched_getaffinity(0)),
            )  # fmt: skip
        return out

    return run, 1


TASKS: dict[str, Callable[[Path], Timed]] = {
    name.removeprefix("task_"): value
    for name, value in globals().copy().items()
    if name.startswith("task_")
}

WITHOUT_PEER = {"mosaic_nearest_4326", "gdal_nearest_4326"}


def anonymous_memory() -> int:
    """Bytes of this process that are no file's: what a memory budget is about."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def peak_anonymous_memory() -> Iterator[list[int]]:
    """Ask fifty times a second, from a thread that the work hardly notices."""
    peak = [anonymous_memory()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous_memory())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def bytes_of(result: Any) -> int:
    if isinstance(result, tuple):
        return sum(map(bytes_of, result))
    parts = [getattr(result, name, None) for name in ("values", "scales")]
    return sum(getattr(part, "nbytes", 0) for part in (result, *parts))


def main() -> None:
    name, world = sys.argv[1], Path(sys.argv[2])
    logging.disable(logging.CRITICAL)
    run, rounds = TASKS[name](world)
    seconds, cpu = [], []
    # Nothing shares the processor with tasks that take microseconds.
    heavy = name.startswith(("mosaic", "gdal"))
    watched = peak_anonymous_memory() if heavy else contextlib.nullcontext([0])
    with watched as peak:
        for _ in range(rounds):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = run()
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
            result_bytes = bytes_of(result)
            del result
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rss_anonymous": anonymous_memory(),
        "peak_anonymous": peak[0],
        "result_bytes": result_bytes,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
