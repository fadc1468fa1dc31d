"""Finding the source of one tile on disk, by its path: no directory is scanned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from geotessera.datasets import normalize_version
from geotessera.errors import FormatError
from geotessera.layout import find_geotiff, local_tile_files
from geotessera.sources.geotiff import GeoTiff
from geotessera.sources.npy import NpyTile
from geotessera.types import Provenance

if TYPE_CHECKING:
    import os

    from geotessera.types import TileId

    type LocalTile = NpyTile | GeoTiff

__all__ = ["find_tile", "stands_for"]

logger = logging.getLogger("geotessera")


def find_tile(
    base: str | os.PathLike[str],
    tile: TileId,
    dataset: tuple[str, str] | None = None,
) -> LocalTile | None:
    """Return the descriptor of a complete tile below a directory, or None.

    Parameters
    ----------
    base : path
        Root of the local layout.
    tile : TileId
        Year and centre.
    dataset : tuple of str, optional
        (version, variant) that the directory holds, where known.

    Returns
    -------
    NpyTile, GeoTiff or None
        The three NPY files where they are complete, else the exported GeoTIFF.
    """
    files = local_tile_files(base, tile)
    if files.complete():
        version, variant = dataset or (None, None)
        return NpyTile(*files, provenance=Provenance(version, variant, tile.year))
    path = find_geotiff(base, tile)
    if path is None:
        return None
    return GeoTiff(path, files.landmask if files.landmask.is_file() else None)


def stands_for(
    geotiff: GeoTiff, tile: TileId, dataset: tuple[str, str], file_size: int | None
) -> bool:
    """Return whether an exported GeoTIFF holds all of a dataset's tile.

    An export may hold some of the bands, in any order, or come from another dataset or year;
    it must not pass for the whole tile then.

    Parameters
    ----------
    geotiff : GeoTiff
        The file.
    tile : TileId
        Year and centre.
    dataset : tuple of str
        (version, variant).
    file_size : int or None
        Bytes of the tile's embedding file, where known: they tell its depth.
    """
    try:
        with geotiff.open() as source:
            found, grid, descriptions = source.provenance, source.grid, source.descriptions
    except (FormatError, FileNotFoundError) as error:
        logger.warning("%s does not serve as a tile: %s", geotiff.path, error)
        return False
    version, variant = normalize_version(dataset[0]), dataset[1]
    reason = ""
    if found.version and (found.version, found.variant) != (version, variant):
        reason = f"it holds dataset {found.version} {found.variant}, not {version} {variant}"
    elif found.year not in (None, tile.year):
        reason = f"it holds {found.year}, not {tile.year}"
    elif any(name not in (None, f"Tessera_Band_{at}") for at, name in enumerate(descriptions)):
        reason = "its bands are a selection"
    elif file_size is not None and file_size // (grid.height * grid.width) != len(descriptions):
        depth = file_size // (grid.height * grid.width)
        reason = f"it holds {len(descriptions)} of {depth} bands"
    if reason:
        logger.warning("%s does not serve as a tile: %s", geotiff.path, reason)
    return not reason
