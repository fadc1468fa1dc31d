"""All tiles in one file: a PMTiles archive, which servers of plain files can serve."""

from __future__ import annotations

import struct
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from geotessera.types import ProgressCallback
    from geotessera.webmap.tree import TileTree
    from geotessera.webmap.zooms import Tile

__all__ = ["is_archive", "is_whole", "write_archive"]

_HEADER = struct.Struct("<7sB8Q")
"""The first fields of an archive: its name and version, and where its parts begin and how long
they are, in bytes."""


_EVERY = 256
"""Tiles between two reports of progress."""


def write_archive(
    tree: TileTree,
    tiles: Iterable[Tile],
    path: Path,
    *,
    bounds: Sequence[float],
    center: tuple[float, float],
    zoom: int,
    name: str,
    progress: ProgressCallback | None = None,
) -> None:
    """Write tiles as a PMTiles archive (version 3), whole or not at all.

    Parameters
    ----------
    tree : TileTree
        The tiles' files.
    tiles : iterable of Tile
        All that there are, at least one.
    path : Path
        The archive.
    bounds : sequence of float
        (west, south, east, north) in degrees.
    center : (float, float)
        Longitude and latitude that viewers start at.
    zoom : int
        And the zoom.
    name : str
        What viewers call it.
    progress : callable, optional
        Called with (tiles done, tiles in all, status text).
    """
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import Writer

    places = {zxy_to_tileid(*tile): tile for tile in tiles}
    # In the order of their numbers, along a Hilbert curve, so that neighbours lie together.
    order = np.sort(np.fromiter(places, np.int64, len(places)))
    west, south, east, north = bounds
    header = {
        "tile_type": TileType.PNG,
        "tile_compression": Compression.NONE,
        "min_lon_e7": _e7(west),
        "min_lat_e7": _e7(south),
        "max_lon_e7": _e7(east if west <= east else 180.0),
        "max_lat_e7": _e7(north),
        "center_zoom": zoom,
        "center_lon_e7": _e7(center[0]),
        "center_lat_e7": _e7(center[1]),
    }
    if west > east:  # the format knows no box across the antimeridian
        header["min_lon_e7"] = _e7(-180.0)
    metadata: dict[str, Any] = {"name": name, "type": "overlay", "format": "png"}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer: Any = Writer(file)  # type: ignore[no-untyped-call]
        # It would copy all tiles through the system's temporary directory, which may be small.
        writer.tile_f.close()
        writer.tile_f = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - the writer's
        try:
            for done, number in enumerate(order.tolist()):
                data = tree.read(places[number])
                if data is not None:
                    writer.write_tile(number, data)
                if progress is not None and done % _EVERY == 0:
                    progress(done, len(order), "tiles in one file")
            writer.finalize(header, metadata)
        finally:
            writer.tile_f.close()


def is_archive(path: Path) -> bool:
    """Return whether a file is a PMTiles archive."""
    try:
        with path.open("rb") as file:
            return file.read(7) == b"PMTiles"
    except OSError:
        return False


def is_whole(path: Path) -> bool:
    """Return whether a file is a PMTiles archive, and none of its end is missing."""
    try:
        with path.open("rb") as file:
            name, _, *parts = _HEADER.unpack(file.read(_HEADER.size))
            end = max(begin + size for begin, size in zip(parts[::2], parts[1::2], strict=True))
            return bool(name == b"PMTiles" and file.seek(0, 2) == end)
    except (OSError, struct.error):
        return False


def _e7(degrees: float) -> int:
    return round(degrees * 10_000_000)
