"""A registry as a memory-mapped index: which cells have tiles in which years, and their sizes.

A registry file of 4.6 million rows takes seconds and gigabytes to load as a table. Its
index is built once and then mapped: opening it reads a header, and a query touches the
pages it needs and nothing else.

The file: a magic, the length and CRC-32 of a JSON header, the header, then sections of
little-endian numbers, each at a multiple of 4096 bytes (in the header: of the first one):

``grid``
    (3600, 1800) unsigned: bit *k* of a cell is set if it has a tile in year *k*. Columns
    first, so that a scan lists tiles by longitude, then latitude.
``cells``
    uint32, one a row: ``column * 1800 + row``, ascending within each year.
``grid_size``, ``scales_size``
    uint32 bytes, a row each; 0 where unknown.
``grid_hash``, ``scales_hash``
    SHA-256, (rows, 32) bytes; zeros where unknown.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from geotessera.cells import COLUMNS, ROWS, CellRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["WORLD", "IndexIdentity", "Section", "TileIndex", "write_index"]

WORLD = CellRange(0, 0, COLUMNS, ROWS)
"""All cells."""

type Payload = Literal["grid", "scales"]

# Changing what the file holds, or how it is made, changes the last byte.
_MAGIC = b"GTINDEX\x01"
_PREFIX = struct.Struct("<8sII")
_ALIGN = 4096
_LONGEST_HEADER = 1 << 20


class IndexIdentity(NamedTuple):
    """What an index was made from: a state of a file, and the filter on its rows."""

    size: int
    mtime_ns: int
    kind: str
    version: str
    variant: str


class Section(NamedTuple):
    """One array of an index that is about to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Iterable[NDArray[Any]]
    """The whole array in parts, in order: made, written and dropped one after another."""


def write_index(
    path: Path,
    identity: IndexIdentity,
    facts: dict[str, Any],
    sections: list[Section],
) -> None:
    """Write an index file.

    Parameters
    ----------
    path : Path
        Where to; the caller makes the write atomic.
    identity : IndexIdentity
        What it is made from.
    facts : dict
        ``generation``, ``years`` and ``starts`` (first row of each year, then the count).
    sections : list of Section
        In the order of the file.
    """
    places: dict[str, list[Any]] = {}
    offset = 0
    for section in sections:
        places[section.name] = [offset, section.dtype, list(section.shape)]
        offset += _padded(np.dtype(section.dtype).itemsize * int(np.prod(section.shape)))
    header = json.dumps(facts | {"identity": identity, "sections": places, "bytes": offset})
    encoded = header.encode()
    with path.open("wb") as out:
        out.write(_PREFIX.pack(_MAGIC, len(encoded), zlib.crc32(encoded)))
        out.write(encoded)
        start = _padded(out.tell())
        for section in sections:
            out.seek(start + places[section.name][0])
            for part in section.data:
                out.write(np.ascontiguousarray(part, section.dtype).data)
        out.truncate(start + offset)


def _padded(length: int) -> int:
    return -(-length // _ALIGN) * _ALIGN


class TileIndex:
    """An open index. Use `TileIndex.open`.

    Attributes
    ----------
    generation : {"A", "B"}
        Of the registry it was made from.
    years : tuple of int
        Ascending. A landmask index has the one year 1.
    count : int
        Tiles in all years.
    """

    def __init__(self, buffer: mmap.mmap, start: int, header: dict[str, Any]) -> None:
        self.generation: Literal["A", "B"] = header["generation"]
        self.years: tuple[int, ...] = tuple(header["years"])
        self.count: int = header["starts"][-1]
        self._starts: list[int] = header["starts"]
        self._number = {year: number for number, year in enumerate(self.years)}
        self._sections = {
            name: np.frombuffer(
                buffer, dtype, count=int(np.prod(shape)), offset=start + offset
            ).reshape(shape)
            for name, (offset, dtype, shape) in header["sections"].items()
        }
        self._grid: NDArray[np.unsignedinteger[Any]] = self._sections["grid"]
        self._cells: NDArray[np.uint32] = self._sections["cells"]

    @classmethod
    def open(cls, path: Path, identity: IndexIdentity) -> TileIndex | None:
        """Map an index file; None if it is absent, damaged, foreign or of another identity."""
        try:
            with path.open("rb") as file:
                return cls._from_file(file, identity)
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    @classmethod
    def _from_file(cls, file: IO[bytes], identity: IndexIdentity) -> TileIndex | None:
        magic, length, checksum = _PREFIX.unpack(file.read(_PREFIX.size).ljust(_PREFIX.size))
        if magic != _MAGIC or length > _LONGEST_HEADER:
            return None
        encoded = file.read(length)
        if zlib.crc32(encoded) != checksum:
            return None
        header = json.loads(encoded)
        if tuple(header["identity"]) != identity:
            return None
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = _padded(_PREFIX.size + length)
        return cls(buffer, start, header) if len(buffer) == start + header["bytes"] else None

    # --- Which tiles exist ---------------------------------------------------------------

    def counts(self, within: CellRange = WORLD) -> dict[int, int]:
        """Return the number of tiles of each year; years without any are left out."""
        if within == WORLD:
            pairs = zip(self._starts, self._starts[1:], strict=False)
            return {y: stop - start for y, (start, stop) in zip(self.years, pairs, strict=True)}
        part = self._part(within)
        counts = {y: int(np.count_nonzero(part & self._bit(y))) for y in self.years}
        return {year: count for year, count in counts.items() if count}

    def tiles(self, within: CellRange, year: int) -> Iterator[tuple[list[float], list[float]]]:
        """Yield the (longitudes, latitudes) of tile centres of a year, by longitude, latitude.

        A range across the antimeridian comes in two parts, west of it first.
        """
        if year not in self._number:
            return
        bit = self._bit(year)
        rows = slice(within.row, within.row + within.rows)
        for start, stop in within.spans():
            columns, lines = np.nonzero(self._grid[start:stop, rows] & bit)
            # Integers divided by 100 are the nearest doubles to the two-decimal centres.
            lon = (columns * 10 + (start * 10 - 17995)) / 100
            lat = (lines * 10 + (within.row * 10 - 8995)) / 100
            yield lon.tolist(), lat.tolist()

    def contains(self, year: int, column: int, row: int) -> bool:
        """Whether a cell has a tile in a year."""
        return year in self._number and bool(self._grid[column, row] & self._bit(year))

    def contains_many(
        self, year: int, columns: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each of many cells has a tile in a year."""
        if year not in self._number:
            return np.zeros(columns.shape, bool)
        found: NDArray[np.bool_] = (self._grid[columns, rows] & self._bit(year)) != 0
        return found

    def years_of(self, column: int, row: int) -> list[int]:
        """Return the years in which a cell has a tile, ascending."""
        bits = int(self._grid[column, row])
        return [year for number, year in enumerate(self.years) if bits >> number & 1]

    def _bit(self, year: int) -> np.unsignedinteger[Any]:
        return self._grid.dtype.type(1 << self._number[year])

    def _part(self, within: CellRange) -> NDArray[np.unsignedinteger[Any]]:
        rows = slice(within.row, within.row + within.rows)
        parts = [self._grid[start:stop, rows] for start, stop in within.spans()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    # --- What is known about a tile ------------------------------------------------------

    def has(self, section: str) -> bool:
        """Whether the registry holds ``grid_size``, ``scales_hash`` and the like."""
        return section in self._sections

    def size(self, payload: Payload, year: int, column: int, row: int) -> int | None:
        """Return the bytes of a tile's file, or None where the tile or its size is unknown."""
        sizes = self._sections.get(f"{payload}_size")
        position = self._position(year, column, row)
        return None if sizes is None or position is None else int(sizes[position]) or None

    def digest(self, payload: Payload, year: int, column: int, row: int) -> str | None:
        """Return the SHA-256 of a tile's file in hexadecimal, or None where unknown."""
        digests = self._sections.get(f"{payload}_hash")
        position = self._position(year, column, row)
        if digests is None or position is None:
            return None
        digest = digests[position].tobytes()
        return digest.hex() if any(digest) else None

    def _position(self, year: int, column: int, row: int) -> int | None:
        number = self._number.get(year)
        if number is None:
            return None
        start, stop = self._starts[number], self._starts[number + 1]
        cell = np.uint32(column * ROWS + row)
        position = start + int(np.searchsorted(self._cells[start:stop], cell))
        return position if position < stop and self._cells[position] == cell else None
