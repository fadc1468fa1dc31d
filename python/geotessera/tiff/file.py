"""A GeoTIFF that is being made: blocks in any order, resumable; at the end a directory.

Blocks are appended to a hidden file beside the target as they are made. A plain GeoTIFF is
that file with its directories at the end; a cloud-optimised one is put together from it,
by copying byte ranges. GDAL's COG driver would take 1.1–1.5 GB for 128 bands, and minutes.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geotessera.remote.disk import write_at
from geotessera.remote.partfile import writing_to
from geotessera.tiff.codecs import COMPRESSIONS
from geotessera.tiff.fields import BIG, Form, form_of, serialize
from geotessera.tiff.images import GHOST, Image, image_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from numpy.typing import NDArray

    from geotessera.tiff.codecs import Codec
    from geotessera.tiff.fields import Field

__all__ = ["BLOCK", "Blocks", "MemoryBlocks", "TiffFile", "row_major"]

BLOCK = 256
"""Side of a file's block in pixels: 8.4 MB of 128 int8 bands, what a reader fetches for one."""

_FRAME = 4  # bytes of a block's length before it, and of its end again behind it
_COPY_BYTES = 8 << 20

type Place = tuple[int, int, int, int]
"""A block: number of the file, level, row and column."""

type Entry = tuple[int, ...]
"""What is known of a finished block: where it is, its length, its CRC-32."""


class Blocks(Protocol):
    """The finished blocks of files that are being made."""

    fresh: bool
    """Whether there were none to go on from."""

    def __contains__(self, place: Place, /) -> bool: ...
    def __getitem__(self, place: Place, /) -> Entry: ...
    def items(self) -> Iterable[tuple[Place, Entry]]:
        """Return all of them."""
        ...

    def add(self, place: Place, entry: Entry) -> None:
        """Note that a block is finished."""
        ...


class MemoryBlocks(dict[Place, Entry]):
    """The finished blocks of files that are made in one go."""

    fresh = True

    def add(self, place: Place, entry: Entry) -> None:
        """Note that a block is finished."""
        self[place] = entry


class TiffFile:
    """One GeoTIFF that is being made.

    Parameters
    ----------
    number : int
        Its number in the record.
    target : Path
        Its final name, for errors.
    path : Path
        Its name until it is finished.
    shape : tuple of int
        Rows, columns, bands.
    fill : float
        What its pixels hold where there is no embedding.
    """

    def __init__(
        self,
        number: int,
        target: Path,
        path: Path,
        shape: tuple[int, int, int],
        dtype: str,
        fill: float,
        codec: Codec,
        record: Blocks,
        *,
        overviews: bool,
    ) -> None:
        self.number = number
        self.target = target
        self.dtype = np.dtype(dtype)
        self.bands = shape[2]
        self.fill = fill
        self.codec = codec
        self.images = Image.pyramid(shape[0], shape[1], BLOCK, overviews=overviews)
        self.path = path
        self._record = record
        self._lock = threading.Lock()
        with writing_to(target):
            flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
            if record.fresh:
                os.ftruncate(self._descriptor, 0)

    # --- Blocks --------------------------------------------------------------------------

    def continue_after(self) -> None:
        """Append behind the last of the recorded blocks."""
        ends = (at + size + _FRAME for at, size, _ in self._entries())
        self._end = max(ends, default=BIG.header_bytes)

    def _entries(self) -> Iterator[tuple[int, ...]]:
        for place, entry in self._record.items():
            if place[0] == self.number and entry[1]:
                yield entry

    def is_whole(self, entry: tuple[int, ...]) -> bool:
        """Return whether a recorded block is in the file as it was written."""
        at, size, crc = entry
        return not size or zlib.crc32(self._read(at, size)) == crc

    def write(self, level: int, row: int, column: int, block: NDArray[Any]) -> None:
        """Compress a block, shape (side, side, band), append and record it."""
        self.append(level, row, column, self.encode(block))

    def encode(self, block: NDArray[Any]) -> memoryview | None:
        """Return the bytes of a block, shape (side, side, band); None if it is empty."""
        return None if self._is_empty(block) else self.codec.encode(block)

    def append(self, level: int, row: int, column: int, data: memoryview | None) -> None:
        """Append and record a block as `encode` made it."""
        place = self.number, level, row, column
        if data is None:
            self._record.add(place, (0, 0, 0))
            return
        with self._lock:
            at = self._end + _FRAME
            self._end = at + len(data) + _FRAME
        with writing_to(self.target):
            write_at(self._descriptor, memoryview(struct.pack("<I", len(data))), at - _FRAME)
            write_at(self._descriptor, data, at)
            write_at(self._descriptor, data[-_FRAME:], at + len(data))
        self._record.add(place, (at, len(data), zlib.crc32(data)))

    def pad(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return a block, shape (side, side, band), of what is left at an edge."""
        if part.shape[:2] == (BLOCK, BLOCK):
            return part
        block = np.full((BLOCK, BLOCK, self.bands), self.fill, self.dtype)
        block[: part.shape[0], : part.shape[1]] = part
        return block

    def _is_empty(self, block: NDArray[Any]) -> bool:
        if self.fill == self.fill:
            return not (block[0, 0, 0] != self.fill or (block != block.dtype.type(self.fill)).any())
        return bool(np.isnan(block[..., 0]).all() and np.isnan(block).all())

    def _every_second(self, level: int, row: int, column: int) -> NDArray[Any] | None:
        """Return every second row and column of a finished block; None if it is empty."""
        at, size, _ = self._record[self.number, level, row, column]
        if not size:
            return None
        shape = BLOCK, BLOCK, self.bands
        return self.codec.decode(self._read(at, size), shape, self.dtype, step=2)

    def _read(self, at: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, at)
        with self._lock:  # Windows; nobody writes while blocks are read
            os.lseek(self._descriptor, at, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def halve(self, level: int, row: int, column: int) -> None:
        """Write a block of an overview."""
        self.write(level, row, column, self.halved(level, row, column))

    def halved(self, level: int, row: int, column: int) -> NDArray[Any]:
        """Return a block of an overview: every second row and column of the level below."""
        below, half = self.images[level - 1], BLOCK // 2
        block = np.full((BLOCK, BLOCK, self.bands), self.fill, self.dtype)
        for down in range(min(2, below.rows - 2 * row)):
            for right in range(min(2, below.columns - 2 * column)):
                part = self._every_second(level - 1, 2 * row + down, 2 * column + right)
                if part is not None:
                    block[down * half : (down + 1) * half, right * half : (right + 1) * half] = part
        return block

    # --- The whole file ------------------------------------------------------------------

    def finish(self, base: dict[int, Field]) -> None:
        """Write the directories behind the blocks: the file is a GeoTIFF then."""
        at = self._end + -self._end % 8
        form = self._form(at)
        directories = serialize(
            [self._fields(base, image, form) for image in self.images], at, form
        )
        with writing_to(self.target):
            write_at(self._descriptor, memoryview(directories), at)
            os.ftruncate(self._descriptor, at + len(directories))
            write_at(self._descriptor, memoryview(form.header(at)), 0)

    def _form(self, end: int) -> Form:
        """Return what a file becomes whose blocks end there; a block's entry has 12 bytes."""
        return form_of(end + 12 * sum(image.rows * image.columns for image in self.images))

    def _fields(
        self,
        base: dict[int, Field],
        image: Image,
        form: Form,
        shifted: dict[tuple[int, int, int], int] | None = None,
    ) -> dict[int, Field]:
        places = [(image.level, *place) for place in row_major(image)]
        entries = [self._record[self.number, *place] for place in places]
        offsets = [entry[0] for entry in entries]
        if shifted is not None:
            offsets = [shifted.get(place, 0) for place in places]
        number = COMPRESSIONS[self.codec.compress]
        sizes = [entry[1] for entry in entries]
        return image_fields(base, image, number, self.codec.predictor, offsets, sizes, form)

    def assemble(self, path: Path, base: dict[int, Field], pool: Executor) -> None:
        """Write a COG: directories, then the blocks of all images, the smallest first."""
        form = self._form(self._end)
        start = form.header_bytes + len(GHOST)
        start += -start % 8
        pending = [self._fields(base, image, form) for image in self.images]
        end = start + len(serialize(pending, start, form))
        shifted: dict[tuple[int, int, int], int] = {}
        ranges: list[list[int]] = []  # from, to, length
        for image in reversed(self.images):
            for row, column in row_major(image):
                at, size, _ = self._record[self.number, image.level, row, column]
                if not size:
                    continue
                whole = size + 2 * _FRAME
                if ranges and sum(ranges[-1][::2]) == at - _FRAME and ranges[-1][2] < _COPY_BYTES:
                    ranges[-1][2] += whole
                else:
                    ranges.append([at - _FRAME, end, whole])
                shifted[image.level, row, column] = end + _FRAME
                end += whole
        placed = [self._fields(base, image, form, shifted) for image in self.images]
        directories = serialize(placed, start, form)
        front = (form.header(start) + GHOST).ljust(start, b"\0") + directories
        with writing_to(self.target):
            target = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            copies: list[Future[None]] = []
            try:
                write_at(target, memoryview(front), 0)
                for one in ranges:
                    copies.append(pool.submit(self._copy, target, *one))
                for copy in copies:
                    copy.result()
            finally:
                # Of a closed descriptor the number may be another file's next.
                for copy in copies:
                    copy.cancel()
                wait(copies)
                os.close(target)

    def _copy(self, target: int, start: int, to: int, length: int) -> None:
        while length and hasattr(os, "copy_file_range"):
            try:
                count = os.copy_file_range(self._descriptor, target, length, start, to)
            except OSError:
                break  # the file system cannot; if it is full, the way below says so too
            if not count:
                break
            start, to, length = start + count, to + count, length - count
        while length:
            data = self._read(start, min(length, _COPY_BYTES))
            if not data:
                raise OSError(f"{self.path} was cut off while it was read")
            write_at(target, memoryview(data), to)
            start, to, length = start + len(data), to + len(data), length - len(data)

    def close(self) -> None:
        """Let go of the unfinished file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def row_major(image: Image) -> Iterator[tuple[int, int]]:
    """Yield row and column of an image's blocks as files list them."""
    return ((row, column) for row in range(image.rows) for column in range(image.columns))
