"""What the directories of a GeoTIFF say: how large its images are, and where their blocks.

Blocks come from elsewhere; a directory can be written when all of them are there, at the
end of the file or, for a COG, at its beginning: GDAL's conventions ("ghost area") want blocks
in row-major order, each between its length and its last four bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from geotessera.tiff.fields import CLASSIC, DOUBLE, LONG, SHORT, Field, read_fields, serialize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geotessera.tiff.fields import Form
    from geotessera.types import GridSpec

__all__ = ["GHOST", "Image", "describe", "image_fields", "one_tile"]

_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_BANDS, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT = 277, 284, 317, 322, 323
_TILE_OFFSETS, _TILE_BYTES = 324, 325
_EXTRA, _SAMPLE_FORMAT, _NODATA = 338, 339, 42113

# Where the pixels of GDAL's own small file are: all else is taken over.
_PLACES = (_REDUCED, _WIDTH, _HEIGHT, _COMPRESSION, 273, 278, 279, _PREDICTOR)
_OF_OVERVIEWS = (_BITS, _PHOTOMETRIC, _BANDS, _PLANAR, _EXTRA, _SAMPLE_FORMAT, _NODATA)

_STRUCTURE = (
    b"LAYOUT=IFDS_BEFORE_DATA\n"
    b"BLOCK_ORDER=ROW_MAJOR\n"
    b"BLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "  # a blank, so that YES fits
)
GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_STRUCTURE) + _STRUCTURE
"""What follows the header of a COG."""


@dataclass(frozen=True, slots=True)
class Image:
    """One of a file's images: the raster itself (level 0) or one of its overviews.

    Parameters
    ----------
    level : int
        How often the raster was halved.
    height, width : int
        Size in pixels.
    side : int
        Height and width of its blocks.
    """

    level: int
    height: int
    width: int
    side: int

    @property
    def rows(self) -> int:
        """Rows of blocks."""
        return -(-self.height // self.side)

    @property
    def columns(self) -> int:
        """Columns of blocks."""
        return -(-self.width // self.side)

    @classmethod
    def pyramid(cls, height: int, width: int, side: int, *, overviews: bool) -> list[Self]:
        """Return a raster and its overviews, down to one that is a block or less."""
        images = [cls(0, height, width, side)]
        while overviews and max(height, width) > side:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
            images.append(cls(len(images), height, width, side))
        return images


def describe(
    grid: GridSpec,
    bands: int,
    dtype: str,
    nodata: float | None,
    tags: Mapping[str, str],
    names: Sequence[str | None],
) -> dict[int, Field]:
    """Return the fields that say what a raster is, as GDAL writes them.

    GDAL writes a raster of one block with the same georeference, bands and tags; all its
    fields but those of size and place are taken over, so any CRS is as GDAL has it.
    """
    from rasterio.io import MemoryFile

    profile = {
        "driver": "GTiff", "height": 16, "width": 16, "count": bands, "dtype": dtype,
        "crs": grid.crs, "transform": grid.affine, "nodata": nodata, "interleave": "pixel",
        "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate",
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.update_tags(**tags)
            dataset.descriptions = tuple(names)
        fields = read_fields(memory.read())
    return {tag: field for tag, field in fields.items() if tag not in _PLACES}


def image_fields(
    base: Mapping[int, Field],
    image: Image,
    compression: int,
    predictor: int,
    offsets: Sequence[int],
    sizes: Sequence[int],
    form: Form,
) -> dict[int, Field]:
    """Return the directory of an image.

    Parameters
    ----------
    base : mapping of int to Field
        What `describe` returned.
    image : Image
        Its size.
    compression, predictor : int
        TIFF's numbers.
    offsets, sizes : sequence of int
        Where each block is and how long, in row-major order; 0 and 0 for a block that
        holds nothing but nodata.
    form : Form
        What the file is.
    """
    own = {
        _WIDTH: Field.of(LONG, [image.width]),
        _HEIGHT: Field.of(LONG, [image.height]),
        _COMPRESSION: Field.of(SHORT, [compression]),
        _TILE_WIDTH: Field.of(SHORT, [image.side]),
        _TILE_HEIGHT: Field.of(SHORT, [image.side]),
        _TILE_OFFSETS: Field.of(form.offset_kind, offsets),
        _TILE_BYTES: Field.of(LONG, sizes),
    }
    if predictor != 1:
        own[_PREDICTOR] = Field.of(SHORT, [predictor])
    if image.level:
        own[_REDUCED] = Field.of(LONG, [1])
        base = {tag: field for tag, field in base.items() if tag in _OF_OVERVIEWS}
    return {**base, **own}


def one_tile(data: bytes, width: int, height: int, compression: int) -> bytes:
    """Return a TIFF of bytes (uint8) in one tile."""
    fields = {
        _WIDTH: Field.of(LONG, [width]),
        _HEIGHT: Field.of(LONG, [height]),
        _BITS: Field.of(SHORT, [8]),
        _COMPRESSION: Field.of(SHORT, [compression]),
        _PHOTOMETRIC: Field.of(SHORT, [1]),
        _BANDS: Field.of(SHORT, [1]),
        _TILE_WIDTH: Field.of(LONG, [width]),
        _TILE_HEIGHT: Field.of(LONG, [height]),
        _TILE_OFFSETS: Field.of(LONG, [CLASSIC.header_bytes]),
        _TILE_BYTES: Field.of(LONG, [len(data)]),
        # A place, so that nobody warns that there is none.
        33550: Field(DOUBLE, 3, struct.pack("<3d", 2, 2, 0)),
        33922: Field(DOUBLE, 6, struct.pack("<6d", *[0] * 6)),
    }
    data += bytes(-len(data) % 8)
    at = CLASSIC.header_bytes + len(data)
    return CLASSIC.header(at) + data + serialize([fields], at, CLASSIC)
