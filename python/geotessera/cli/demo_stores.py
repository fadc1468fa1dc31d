"""The part of `geotessera demo` that reads the same landscape from cloud stores."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geotessera.cli.output import format_bytes
from geotessera.errors import GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from geotessera.testing import SampleWorld
    from geotessera.types import BBox

__all__ = ["show_stores"]


def show_stores(
    step: Callable[[str], AbstractContextManager[Any]],
    world: SampleWorld,
    server_url: str,
    work: Path,
    bounds: BBox,
    paths: dict[str, Path],
) -> None:
    """Build a Zarr store and an Icechunk repository of a world, and read both.

    Parameters
    ----------
    step : callable
        Returns what times a part of the work and shows its ``result``.
    world : SampleWorld
        The world, served from this machine.
    server_url : str
        The server of its generation B.
    work : Path
        Where results go.
    bounds : BBox
        Of the world's tiles.
    paths : dict
        What the demo made, by name.
    """
    from geotessera.points import read_points_file
    from geotessera.testing.stores import SampleStore

    points, _ = read_points_file(paths["points"])
    with step("Build the Zarr store of the same landscape") as one:
        made = SampleStore.from_world(world, depths=(4, 16))
        one.result = (
            f"zones {', '.join(map(str, made.grids))}, {made.bands} bands and the first 4 and 16, "
            f"shards of 4096 × 4096 pixels, {format_bytes(_size(made.path))}"
        )
    _read_zarr(step, f"{server_url}/zarr/v1.1", points, bounds, work, paths)
    _read_cells(step, world, server_url, points, work)
    if find_spec("icechunk") is not None:
        _read_icechunk(step, world, points)


def _read_zarr(
    step: Callable[[str], AbstractContextManager[Any]],
    url: str,
    points: Any,
    bounds: BBox,
    work: Path,
    paths: dict[str, Path],
) -> None:
    import numpy as np

    from geotessera.store import GeoTesseraZarr

    with step(f"GeoTesseraZarr: sample {len(points):,} points over HTTP") as one:
        client = GeoTesseraZarr(url, cache_dir=work / "cache")
        values = client.sample_points(points, 2024)
        traffic = client.store.reader.traffic
        one.result = (
            f"{np.isfinite(values[:, 0]).sum():,} embeddings by {traffic.requests} requests of "
            f"{format_bytes(traffic.bytes)}"
        )
    with step("Download zones of 16 bands, then again") as one:
        found = []
        for _ in range(2):
            directory = paths["zones"] = work / "zones"
            files = client.export_geotiffs(bounds, 2024, directory, depth=16, resume=True)
            found.append([path.stat().st_mtime_ns for path in directory.glob("*.tif")])
        if sorted(found[0]) != sorted(found[1]):
            raise GeoTesseraError(f"the second run wrote files of {directory} again")
        one.result = f"{len(files)} files, {format_bytes(_size(directory))}; all were there then"


def _read_cells(
    step: Callable[[str], AbstractContextManager[Any]],
    world: SampleWorld,
    server_url: str,
    points: Any,
    work: Path,
) -> None:
    import numpy as np

    from geotessera import cli

    with step('GeoTessera(source="zarr"): points and tiles of the same store') as one:
        cells = cli.GeoTessera(
            "v1.1", "cambridge", base_url=server_url, source="zarr", cache_dir=work / "cache"
        )
        values = cells.sample_embeddings_at_points(points, 2024)
        year, lon, lat = world.tiles[0].tile
        ours, _, _ = cells.fetch_embedding(lon, lat, year)
        tiles = cli.GeoTessera(
            "v1.1", "cambridge", base_url=server_url, embeddings_dir=work / "tiles",
            cache_dir=work / "cache",
        )  # fmt: skip
        theirs, _, _ = tiles.fetch_embedding(lon, lat, year)
        land = np.isfinite(ours[..., 0])
        if not (ours[land] == theirs[land]).all():
            raise GeoTesseraError("a cell of the store is not the tile it was made of")
        one.result = (
            f"{np.isfinite(values[:, 0]).sum():,} embeddings; {land.sum():,} pixels of a tile, "
            "equal bit for bit to the published one"
        )


def _read_icechunk(
    step: Callable[[str], AbstractContextManager[Any]], world: SampleWorld, points: Any
) -> None:
    import numpy as np

    from geotessera.store import GeoTesseraZarr
    from geotessera.testing.repositories import SampleRepository

    with step("Build an Icechunk repository of it") as one, _quiet():
        made = SampleRepository.from_world(world)
        one.result = f"groups {', '.join(made.groups)}, {format_bytes(_size(made.path))}"
    with step(f"Sample {len(points):,} points of the repository") as one, _quiet():
        values = GeoTesseraZarr(made.path).sample_points(points, 2024)
        one.result = f"{np.isfinite(values[:, 0]).sum():,} embeddings"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep icechunk's own remarks about local directories off the screen."""
    import icechunk

    icechunk.set_logs_filter("error")
    yield


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
