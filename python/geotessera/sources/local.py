"""Finding the source of one tile on disk, by its path: no directory is scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.layout import find_geotiff, local_tile_files
from geotessera.sources.geotiff import GeoTiff
from geotessera.sources.npy import NpyTile
from geotessera.types import Provenance

if TYPE_CHECKING:
    import os

    from geotessera.types import TileId

    type LocalTile = NpyTile | GeoTiff

__all__ = ["find_tile"]


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
    return None if path is None else GeoTiff(path)
