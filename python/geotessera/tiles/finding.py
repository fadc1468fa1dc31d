"""Finding tiles on disk: by scanning a directory, and by path where the centre is known."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from geotessera.errors import FormatError, GeoTesseraError, InputError
from geotessera.layout import TileFiles, local_tile_files, npy_identity, scan_geotiffs, scan_npy
from geotessera.sources.local import find_tile
from geotessera.sources.npy import NpyTile
from geotessera.tiles.tile import Tile
from geotessera.types import Provenance, TileId

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = [
    "discover_formats",
    "discover_geotiff_tiles",
    "discover_npy_tiles",
    "discover_tiles",
    "tile_for_coord",
    "tiles_for_coords",
]

logger = logging.getLogger("geotessera")


def discover_npy_tiles(base_dir: str | os.PathLike[str]) -> list[Tile]:
    """Return the complete NPY tiles below a directory.

    Parameters
    ----------
    base_dir : path
        Root of the local layout.

    Returns
    -------
    list of Tile
        Sorted by year, latitude and longitude. Incomplete and unreadable tiles are left
        out with a logged warning; a directory that does not exist has none.
    """
    found = []
    for path in scan_npy(base_dir):
        tile = npy_identity(path)
        assert tile is not None  # scan_npy yields no others
        usual = local_tile_files(base_dir, tile)
        files = TileFiles(path, path.with_name(usual.scales.name), usual.landmask)
        if files.complete():
            provenance = Provenance(year=tile.year)
            found.append(Tile.from_descriptor(tile, NpyTile(*files, provenance=provenance)))
    return _readable(found)


def discover_geotiff_tiles(directory: str | os.PathLike[str]) -> list[Tile]:
    """Return the exported GeoTIFFs anywhere below a directory; landmasks are left out.

    Returns
    -------
    list of Tile
        Sorted by year, latitude and longitude. A file whose name and tags tell no tile
        is left out; so is an unreadable one, with a logged warning.
    """
    found = []
    for path in scan_geotiffs(directory):
        try:
            found.append(Tile.from_geotiff(path))
        except InputError:
            logger.debug("%s is not a tile: it tells no year", path)
        except (GeoTesseraError, OSError) as error:
            logger.warning("skipping %s: %s", path, error)
    return _readable(found)


def discover_tiles(directory: str | os.PathLike[str]) -> list[Tile]:
    """Return every tile below a directory, once; NPY wins over GeoTIFF.

    Returns
    -------
    list of Tile
        Sorted by year, latitude and longitude.
    """
    tiles = {tile: tile for tile in discover_geotiff_tiles(directory)}
    for tile in discover_npy_tiles(directory):
        tiles.pop(tile, None)  # a dictionary would keep the old key
        tiles[tile] = tile
    return sorted(tiles, key=_order)


def discover_formats(directory: str | os.PathLike[str]) -> dict[str, list[Tile]]:
    """Return the tiles of each format, ``"npy"`` and ``"geotiff"``, that there are."""
    found = {
        "npy": discover_npy_tiles(directory),
        "geotiff": discover_geotiff_tiles(directory),
    }
    return {name: tiles for name, tiles in found.items() if tiles}


def tile_for_coord(
    base_dir: str | os.PathLike[str], lon: float, lat: float, year: int
) -> Tile | None:
    """Return the local tile with a given centre, or None.

    Looked for by path, without a scan: the three NPY files; then the exported GeoTIFF at
    its usual place; then ``grid_X_Y_{year}.tif[f]`` at the top of the directory.

    Parameters
    ----------
    base_dir : path
        Root of the local layout.
    lon, lat : float
        Centre of the tile in WGS84 degrees.
    year : int
        Year of the embeddings.
    """
    tile = TileId.of(year, lon, lat)
    found = find_tile(base_dir, tile)
    return None if found is None else Tile.from_descriptor(tile, found)


def tiles_for_coords(
    base_dir: str | os.PathLike[str], coords: Iterable[tuple[float, float]], year: int
) -> dict[tuple[float, float], Tile]:
    """Return those of some tiles that are local, by centre; see `tile_for_coord`."""
    found = {(lon, lat): tile_for_coord(base_dir, lon, lat, year) for lon, lat in coords}
    return {place: tile for place, tile in found.items() if tile is not None}


def _readable(tiles: Iterable[Tile]) -> list[Tile]:
    """Return the tiles whose georeference can be read, sorted."""
    good = []
    for tile in tiles:
        try:
            tile._header  # noqa: B018 - reads the header, about 0.1 ms
        except (FormatError, OSError) as error:
            logger.warning("skipping %s: %s", tile.grid_name, error)
        else:
            good.append(tile)
    return sorted(good, key=_order)


def _order(tile: Tile) -> tuple[int, float, float]:
    return tile.year, tile.lat, tile.lon
