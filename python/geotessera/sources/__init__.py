"""Sources of pixels: everything that can be read as a raster, one interface."""

from geotessera.sources.base import RasterSource, SourceDescriptor
from geotessera.sources.geotiff import GeoTiff, GeoTiffSource
from geotessera.sources.landmask import Georeference, read_georeference, read_mask
from geotessera.sources.local import find_tile
from geotessera.sources.npy import NpySource, NpyTile

__all__ = [
    "GeoTiff",
    "GeoTiffSource",
    "Georeference",
    "NpySource",
    "NpyTile",
    "RasterSource",
    "SourceDescriptor",
    "find_tile",
    "read_georeference",
    "read_mask",
]
