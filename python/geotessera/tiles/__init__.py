"""Tiles: what is on disk, where each is, and its pixels; cells of stores pass for tiles too."""

from geotessera.datasets import EMBEDDINGS_DIR_NAME, LANDMASKS_DIR_NAME
from geotessera.tiles.finding import (
    discover_formats,
    discover_geotiff_tiles,
    discover_npy_tiles,
    discover_tiles,
    tile_for_coord,
    tiles_for_coords,
)
from geotessera.tiles.tile import Tile

__all__ = [
    "EMBEDDINGS_DIR_NAME",
    "LANDMASKS_DIR_NAME",
    "Tile",
    "discover_formats",
    "discover_geotiff_tiles",
    "discover_npy_tiles",
    "discover_tiles",
    "tile_for_coord",
    "tiles_for_coords",
]
