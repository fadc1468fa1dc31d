"""Where tiles are on disk: paths, names, and which files make a whole tile.

::

    <base>/global_0.1_degree_representation/{year}/grid_X_Y/grid_X_Y.npy
    <base>/global_0.1_degree_representation/{year}/grid_X_Y/grid_X_Y_scales.npy
    <base>/global_0.1_degree_representation/{year}/grid_X_Y/grid_X_Y_{year}.tiff
    <base>/global_0.1_degree_tiff_all/grid_X_Y.tiff
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from geotessera.datasets import (
    EMBEDDINGS_DIR_NAME,
    LANDMASKS_DIR_NAME,
    tile_to_embedding_paths,
    tile_to_geotiff_path,
    tile_to_landmask_filename,
)
from geotessera.grid import parse_grid_name, tile_to_grid_name
from geotessera.types import TileId

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "TileFiles",
    "find_geotiff",
    "geotiff_candidates",
    "geotiff_identity",
    "geotiff_path",
    "local_tile_files",
    "npy_identity",
    "scan_geotiffs",
    "scan_npy",
]

logger = logging.getLogger("geotessera")

_YEAR = re.compile(r"\d{4}", re.ASCII)
_GEOTIFF_NAME = re.compile(r"grid_[+-]?\d*\.\d+_[+-]?\d*\.\d+_(\d{4})\.tiff?", re.ASCII)


class TileFiles(NamedTuple):
    """The three files of an NPY tile; it is complete when all three are there."""

    embedding: Path
    scales: Path
    landmask: Path

    def missing(self) -> list[Path]:
        """Return those of the files that do not exist."""
        return [path for path in self if not os.path.isfile(path)]  # noqa: PTH113 - 3× faster

    def complete(self) -> bool:
        """Return whether the tile can be used.

        A tile of which only some files exist counts as absent, with a logged warning.
        A landmask alone is no damage: every year of a tile shares it.
        """
        missing = self.missing()
        if missing and (self.embedding not in missing or self.scales not in missing):
            logger.warning(
                "incomplete tile %s: %s missing; it counts as absent",
                self.embedding.parent,
                ", ".join(path.name for path in missing),
            )
        return not missing


def local_tile_files(base: str | os.PathLike[str], tile: TileId) -> TileFiles:
    """Return where the files of an NPY tile belong below a directory."""
    base = Path(base)
    embedding, scales = tile_to_embedding_paths(tile.lon, tile.lat, tile.year)
    return TileFiles(
        base / EMBEDDINGS_DIR_NAME / embedding,
        base / EMBEDDINGS_DIR_NAME / scales,
        base / LANDMASKS_DIR_NAME / tile_to_landmask_filename(tile.lon, tile.lat),
    )


def geotiff_path(base: str | os.PathLike[str], tile: TileId) -> Path:
    """Return where an exported tile belongs below a directory."""
    return Path(base) / EMBEDDINGS_DIR_NAME / tile_to_geotiff_path(tile.lon, tile.lat, tile.year)


def geotiff_candidates(base: str | os.PathLike[str], tile: TileId) -> tuple[Path, ...]:
    """Return where an exported tile may be, in the order in which it is looked for."""
    usual = geotiff_path(base, tile)
    top = Path(base) / usual.name
    return usual, usual.with_suffix(".tif"), top, top.with_suffix(".tif")


def find_geotiff(base: str | os.PathLike[str], tile: TileId) -> Path | None:
    """Return the exported GeoTIFF of a tile, or None; no directory is scanned."""
    return next((path for path in geotiff_candidates(base, tile) if path.is_file()), None)


def npy_identity(path: str | os.PathLike[str]) -> TileId | None:
    """Return the tile that an embedding file holds, from its path, or None.

    The name says where; the grand-parent directory, exactly four digits, says when.
    Scales, unfinished files and foreign names are no embedding.
    """
    path = Path(path)
    lon, lat = parse_grid_name(path.name)
    year = path.parent.parent.name
    if lon is None or lat is None or not _YEAR.fullmatch(year):
        return None
    # The parser reads a prefix; what follows it decides, so `_scales` is not a tile.
    if path.name != f"{tile_to_grid_name(lon, lat)}.npy":
        return None
    return TileId(int(year), lon, lat)


def geotiff_identity(path: str | os.PathLike[str]) -> TileId | None:
    """Return the tile that an exported GeoTIFF holds, from its name, or None."""
    name = Path(path).name
    match = _GEOTIFF_NAME.fullmatch(name)
    lon, lat = parse_grid_name(name)
    if match is None or lon is None or lat is None:
        return None
    return TileId(int(match[1]), lon, lat)


def scan_npy(base: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the embedding files below a directory, sorted; see `npy_identity`."""
    for path in _walk(Path(base) / EMBEDDINGS_DIR_NAME):
        if path.suffix == ".npy" and npy_identity(path) is not None and path.is_file():
            yield path


def scan_geotiffs(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the GeoTIFFs anywhere below a directory, sorted; landmasks are left out."""
    if LANDMASKS_DIR_NAME in Path(directory).parts:
        return
    for path in _walk(Path(directory)):
        # Opening a pipe that has a tile's name would wait for ever.
        if path.suffix in (".tif", ".tiff") and path.is_file():
            yield path


def _walk(top: Path) -> Iterator[Path]:
    """Yield files, unfinished ones left out, without entering landmask directories."""
    for directory, inner, names in os.walk(top):
        inner[:] = sorted(
            name for name in inner if name != LANDMASKS_DIR_NAME and not name.startswith(".")
        )
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(directory, name)
