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

Checksums of the sections' blocks come last (`geotessera.index.blocks`). What does not match
them when it is first used is made anew from the registry.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from geotessera.cells import COLUMNS, ROWS, CellRange
from geotessera.errors import RegistryError
from geotessera.index.blocks import (
    Blocks,
    DamagedBlockError,
    append_checksums,
    checksums_length,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["WORLD", "IndexIdentity", "Section", "TileIndex", "write_index"]

WORLD = CellRange(0, 0, COLUMNS, ROWS)
"""All cells."""

type Payload = Literal["grid", "scales"]

# Changing what the file holds, or how it is made, changes the last byte.
_MAGIC = b"GTINDEX\x02"
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
    with path.open("w+b") as out:
        out.write(_PREFIX.pack(_MAGIC, len(encoded), zlib.crc32(encoded)))
        out.write(encoded)
        start = _padded(out.tell())
        for section in sections:
            out.seek(start + places[section.name][0])
            for part in section.data:
                out.write(np.ascontiguousarray(part, section.dtype).data)
        out.truncate(start + offset)
        append_checksums(out, start)
        out.flush()
        # A renamed file whose content never reached the disk is found empty after a power cut.
        os.fsync(out.fileno())


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

    def __init__(
        self,
        buffer: mmap.mmap,
        start: int,
        header: dict[str, Any],
        renewed: Callable[[], TileIndex] | None = None,
    ) -> None:
        self.generation: Literal["A", "B"] = header["generation"]
        self.years: tuple[int, ...] = tuple(header["years"])
        self.count: int = header["starts"][-1]
        self._starts: list[int] = header["starts"]
        self._number = {year: number for number, year in enumerate(self.years)}
        self._renewed = renewed
        self._blocks = Blocks(buffer, start, header["bytes"])
        self._offsets: dict[str, int] = {
            name: offset for name, (offset, _, _) in header["sections"].items()
        }
        self._sections = {
            name: np.frombuffer(
                buffer, dtype, count=int(np.prod(shape)), offset=start + offset
            ).reshape(shape)
            for name, (offset, dtype, shape) in header["sections"].items()
        }
        self._grid: NDArray[np.unsignedinteger[Any]] = self._sections["grid"]
        self._cells: NDArray[np.uint32] = self._sections["cells"]

    @classmethod
    def open(
        cls,
        path: Path,
        identity: IndexIdentity,
        renewed: Callable[[], TileIndex] | None = None,
    ) -> TileIndex | None:
        """Map an index file.

        Parameters
        ----------
        path : Path
            The file.
        identity : IndexIdentity
            What it must have been made from.
        renewed : callable, optional
            Returns the same index made anew, for when a part that is used later turns out
            to be damaged.

        Returns
        -------
        TileIndex or None
            None if the file is absent, foreign or of another identity, or its header is damaged.
        """
        try:
            with path.open("rb") as file:
                return cls._from_file(file, identity, renewed)
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    @classmethod
    def _from_file(
        cls,
        file: IO[bytes],
        identity: IndexIdentity,
        renewed: Callable[[], TileIndex] | None,
    ) -> TileIndex | None:
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
        body = header["bytes"]
        if len(buffer) != start + body + checksums_length(body):
            return None
        return cls(buffer, start, header, renewed)

    # --- Sound data ----------------------------------------------------------------------

    def _checked(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Return a section whose bytes from `first` up to `last` have been checked."""
        offset = self._offsets[name]
        self._repairing(lambda: self._blocks.check(offset + first, offset + last))
        return self._sections[name]

    def _repairing(self, check: Callable[[], None]) -> None:
        try:
            check()
        except DamagedBlockError as error:
            if self._renewed is None:
                raise RegistryError("the index of a registry is damaged") from error
            vars(self).update(vars(self._renewed()))
            try:
                check()
            except DamagedBlockError:
                raise RegistryError(
                    "the index of a registry is damaged again and again: check the disk"
                ) from error

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
            columns, lines = np.nonzero(self._columns(start, stop)[:, rows] & bit)
            # Integers divided by 100 are the nearest doubles to the two-decimal centres.
            lon = (columns * 10 + (start * 10 - 17995)) / 100
            lat = (lines * 10 + (within.row * 10 - 8995)) / 100
            yield lon.tolist(), lat.tolist()

    def contains(self, year: int, column: int, row: int) -> bool:
        """Whether a cell has a tile in a year."""
        return year in self._number and bool(self._bits(column, row) >> self._number[year] & 1)

    def contains_many(
        self, year: int, columns: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each of many cells has a tile in a year."""
        if year not in self._number:
            return np.zeros(columns.shape, bool)
        places = (columns * ROWS + rows) * self._grid.itemsize + self._offsets["grid"]
        self._repairing(lambda: self._blocks.check_each(places))
        found: NDArray[np.bool_] = (self._grid[columns, rows] & self._bit(year)) != 0
        return found

    def years_of(self, column: int, row: int) -> list[int]:
        """Return the years in which a cell has a tile, ascending."""
        bits = self._bits(column, row)
        return [year for number, year in enumerate(self.years) if bits >> number & 1]

    def year_bits(self, within: CellRange = WORLD) -> NDArray[np.unsignedinteger[Any]]:
        """Return the grid, shape (3600, 1800), read-only: bit *k* is set for a tile in year *k*.

        Outside of a range that is not the world it is 0.
        """
        if within == WORLD:
            return self._columns(0, COLUMNS)
        grid = np.zeros((COLUMNS, ROWS), self._grid.dtype)
        rows = slice(within.row, within.row + within.rows)
        for start, stop in within.spans():
            grid[start:stop, rows] = self._columns(start, stop)[:, rows]
        grid.flags.writeable = False
        return grid

    def _bit(self, year: int) -> np.unsignedinteger[Any]:
        return self._grid.dtype.type(1 << self._number[year])

    def _bits(self, column: int, row: int) -> int:
        first = (column * ROWS + row) * self._grid.itemsize
        return int(self._checked("grid", first, first + 1)[column, row])

    def _columns(self, start: int, stop: int) -> NDArray[np.unsignedinteger[Any]]:
        line = ROWS * self._grid.itemsize
        return self._checked("grid", start * line, stop * line)[start:stop]

    def _part(self, within: CellRange) -> NDArray[np.unsignedinteger[Any]]:
        rows = slice(within.row, within.row + within.rows)
        parts = [self._columns(start, stop)[:, rows] for start, stop in within.spans()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    # --- What is known about a tile ------------------------------------------------------

    def has(self, section: str) -> bool:
        """Whether the registry holds ``grid_size``, ``scales_hash`` and the like."""
        return section in self._sections

    def size(self, payload: Payload, year: int, column: int, row: int) -> int | None:
        """Return the bytes of a tile's file, or None where the tile or its size is unknown."""
        name = f"{payload}_size"
        position = self._position(year, column, row)
        if name not in self._sections or position is None:
            return None
        return int(self._checked(name, position * 4, position * 4 + 4)[position]) or None

    def digest(self, payload: Payload, year: int, column: int, row: int) -> str | None:
        """Return the SHA-256 of a tile's file in hexadecimal, or None where unknown."""
        name = f"{payload}_hash"
        position = self._position(year, column, row)
        if name not in self._sections or position is None:
            return None
        digest = self._checked(name, position * 32, position * 32 + 32)[position].tobytes()
        return digest.hex() if any(digest) else None

    def _position(self, year: int, column: int, row: int) -> int | None:
        number = self._number.get(year)
        if number is None:
            return None
        start, stop = self._starts[number], self._starts[number + 1]
        cell = np.uint32(column * ROWS + row)

        def find() -> int:
            return start + int(np.searchsorted(self._cells[start:stop], cell))

        def found(position: int) -> bool:
            if position >= stop:
                return False
            cells = self._checked("cells", position * 4, position * 4 + 4)
            return bool(cells[position] == cell)

        # A search looks at many blocks, and one that found the cell needs no more checks.
        if found(position := find()):
            return position
        if not self.contains(self.years[number], column, row):
            return None
        self._checked("cells", start * 4, stop * 4)
        return position if found(position := find()) else None
