"""Directories of TIFFs as bytes: fields of numbers, in files of 32-bit or 64-bit offsets.

Layout: TIFF 6.0 and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BIG",
    "CLASSIC",
    "DOUBLE",
    "LONG",
    "SHORT",
    "Field",
    "Form",
    "form_of",
    "read_fields",
    "serialize",
]

SHORT, LONG, DOUBLE, _LONG8 = 3, 4, 12, 16
"""TIFF's numbers of types of numbers."""

_LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 11: "f", 12: "d", 13: "I", 16: "Q"}


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


CLASSIC = Form(struct.pack("<2sH", b"II", 42), 8, "<H", "<HHI4s", "<I", LONG)
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
