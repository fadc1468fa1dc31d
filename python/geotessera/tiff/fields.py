"""The skeleton of a TIFF: directories of fields, where blocks are, what makes it a COG.

Blocks come from elsewhere; a directory can be written when all of them are there, at the
end of the file or, for a COG, at its beginning. Layout: TIFF 6.0, BigTIFF, and the COG
conventions of GDAL ("ghost area": blocks in row-major order, each between its length and
its last four bytes).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geotessera.types import GridSpec

__all__ = [
    "BIG",
    "CLASSIC",
    "GHOST",
    "TILE_BYTES",
    "TILE_OFFSETS",
    "Field",
    "Form",
    "Image",
    "describe",
    "form_of",
    "one_tile",
    "read_fields",
    "serialize",
]

_SHORT, _LONG, _LONG8 = 3, 4, 16
_LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 11: "f", 12: "d", 13: "I", 16: "Q"}

_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_BANDS, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT = 277, 284, 317, 322, 323
TILE_OFFSETS, TILE_BYTES = 324, 325
_EXTRA, _SAMPLE_FORMAT, _NODATA = 338, 339, 42113
_GDAL_METADATA = 42112

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
class Field:
    """A field of a directory: its TIFF type, its number of values, and their bytes."""

    kind: int
    count: int
    data: bytes

    @classmethod
    def of(cls, kind: int, values: Sequence[int]) -> Self:
        """Make a field of whole numbers."""
        return cls(kind, len(values), struct.pack(f"<{len(values)}{_LETTERS[kind]}", *values))

    def values(self) -> tuple[Any, ...]:
        """Return the numbers of a field."""
        return struct.unpack(f"<{self.count}{_LETTERS[self.kind]}", self.data)


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


@dataclass(frozen=True, slots=True)
class Form:
    """Classic TIFF, whose offsets have 32 bits, or BigTIFF.

    Parameters
    ----------
    magic : bytes
        What files begin with.
    header_bytes : int
        Length of what comes before everything else.
    head, entry, offset : str
        How the number of a directory's fields, a field and an offset are packed.
    offset_kind : int
        The TIFF type of an offset.
    """

    magic: bytes
    header_bytes: int
    head: str
    entry: str
    offset: str
    offset_kind: int

    @property
    def inline(self) -> int:
        """How many bytes of a value a field holds itself."""
        return struct.calcsize(self.offset)

    def header(self, first: int) -> bytes:
        """Return the first bytes of a file whose first directory is at an offset."""
        return self.magic + struct.pack(self.offset, first)


CLASSIC = Form(struct.pack("<2sH", b"II", 42), 8, "<H", "<HHI4s", "<I", _LONG)
BIG = Form(struct.pack("<2sHHH", b"II", 43, 8, 0), 16, "<Q", "<HHQ8s", "<Q", _LONG8)

_SPARE = 1 << 24


def form_of(size: int) -> Form:
    """Return what a file is whose blocks and directories have so many bytes, or nearly."""
    return CLASSIC if size < (1 << 32) - _SPARE else BIG


def read_fields(file: bytes) -> dict[int, Field]:
    """Return the first directory of a little-endian TIFF or BigTIFF."""
    form = BIG if file[2] == 43 else CLASSIC
    (start,) = struct.unpack_from(form.offset, file, len(form.magic))
    head, entry = form.head, form.entry
    (count,) = struct.unpack_from(head, file, start)
    fields = {}
    for number in range(count):
        at = start + struct.calcsize(head) + number * struct.calcsize(entry)
        tag, kind, length, value = struct.unpack_from(entry, file, at)
        letter = _LETTERS[kind]
        size = length * struct.calcsize(f"<{letter}")
        if size > len(value):
            (offset,) = struct.unpack(form.offset, value)
            value = file[offset : offset + size]
        fields[tag] = Field(kind, length, value[:size])
    return fields


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
        _WIDTH: Field.of(_LONG, [image.width]),
        _HEIGHT: Field.of(_LONG, [image.height]),
        _COMPRESSION: Field.of(_SHORT, [compression]),
        _TILE_WIDTH: Field.of(_SHORT, [image.side]),
        _TILE_HEIGHT: Field.of(_SHORT, [image.side]),
        TILE_OFFSETS: Field.of(form.offset_kind, offsets),
        TILE_BYTES: Field.of(_LONG, sizes),
    }
    if predictor != 1:
        own[_PREDICTOR] = Field.of(_SHORT, [predictor])
    if image.level:
        own[_REDUCED] = Field.of(_LONG, [1])
        base = {tag: field for tag, field in base.items() if tag in _OF_OVERVIEWS}
    return {**base, **own}


def serialize(directories: Sequence[Mapping[int, Field]], at: int, form: Form) -> bytes:
    """Return the bytes of a chain of directories that stands at an offset of a file."""
    out = bytearray()
    room = form.inline
    for number, fields in enumerate(directories):
        size = struct.calcsize(form.head) + struct.calcsize(form.entry) * len(fields) + room
        loose = at + len(out) + size + -size % 8
        entries, values = bytearray(), bytearray()
        for tag in sorted(fields):
            field = fields[tag]
            value = field.data
            if len(value) > room:
                value = struct.pack(form.offset, loose + len(values))
                values += field.data + bytes(-len(field.data) % 8)
            entries += struct.pack(
                form.entry, tag, field.kind, field.count, value.ljust(room, b"\0")
            )
        last = number == len(directories) - 1
        following = struct.pack(form.offset, 0 if last else loose + len(values))
        out += struct.pack(form.head, len(fields)) + entries + following + bytes(-size % 8) + values
    return bytes(out)


def one_tile(data: bytes, width: int, height: int, compression: int) -> bytes:
    """Return a TIFF of bytes (uint8) in one tile."""
    fields = {
        _WIDTH: Field.of(_LONG, [width]),
        _HEIGHT: Field.of(_LONG, [height]),
        _BITS: Field.of(_SHORT, [8]),
        _COMPRESSION: Field.of(_SHORT, [compression]),
        _PHOTOMETRIC: Field.of(_SHORT, [1]),
        _BANDS: Field.of(_SHORT, [1]),
        _TILE_WIDTH: Field.of(_LONG, [width]),
        _TILE_HEIGHT: Field.of(_LONG, [height]),
        TILE_OFFSETS: Field.of(_LONG, [CLASSIC.header_bytes]),
        TILE_BYTES: Field.of(_LONG, [len(data)]),
        # A place, so that nobody warns that there is none.
        33550: Field(12, 3, struct.pack("<3d", 2, 2, 0)),
        33922: Field(12, 6, struct.pack("<6d", *[0] * 6)),
    }
    data += bytes(-len(data) % 8)
    at = CLASSIC.header_bytes + len(data)
    return CLASSIC.header(at) + data + serialize([fields], at, CLASSIC)
