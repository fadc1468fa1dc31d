"""GeoTIFFs written block by block, by many threads; GDAL describes them and reads them back."""

from geotessera.tiff.codecs import COMPRESSIONS, Codec
from geotessera.tiff.file import BLOCK, Blocks, MemoryBlocks, TiffFile, row_major
from geotessera.tiff.images import describe
from geotessera.tiff.single import write_geotiff

__all__ = [
    "BLOCK",
    "COMPRESSIONS",
    "Blocks",
    "Codec",
    "MemoryBlocks",
    "TiffFile",
    "describe",
    "row_major",
    "write_geotiff",
]
