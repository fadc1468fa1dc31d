"""Checksums of a file's blocks, compared when a block is first used.

Reading an index of hundreds of megabytes to check it whole would cost what the index is
there to save; a block takes microseconds.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mmap
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["Blocks", "DamagedBlockError", "append_checksums", "checksums_length"]

# Large enough that the table stays small, small enough that a lookup's blocks cost nothing.
_BLOCK = 1 << 14
_ENTRY = 4


class DamagedBlockError(Exception):
    """A block that is not what was written."""


def checksums_length(length: int) -> int:
    """Return the bytes of the checksums of a body of so many bytes."""
    return (-(-length // _BLOCK) + 1) * _ENTRY


def append_checksums(file: IO[bytes], start: int) -> None:
    """Append the CRC-32 of each block from `start` on, and one of these themselves."""
    file.seek(start)
    table = _little(array("I", (zlib.crc32(b) for b in iter(lambda: file.read(_BLOCK), b""))))
    file.write(table + zlib.crc32(table).to_bytes(_ENTRY, "little"))


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


class Blocks:
    """The body of a mapped file whose checksums follow it.

    Parameters
    ----------
    buffer : mmap
        The whole file.
    start, length : int
        Place of the body in bytes.

    Raises
    ------
    ValueError
        If the checksums themselves are damaged.
    """

    def __init__(self, buffer: mmap.mmap, start: int, length: int) -> None:
        self._body = memoryview(buffer)[start : start + length]
        table = buffer[start + length : start + length + checksums_length(length)]
        if zlib.crc32(table[:-_ENTRY]).to_bytes(_ENTRY, "little") != table[-_ENTRY:]:
            raise ValueError("damaged checksums")
        self._checksums: NDArray[np.uint32] = np.frombuffer(table[:-_ENTRY], "<u4")
        self._sound = bytearray(len(self._checksums))

    def check(self, first: int, last: int) -> None:
        """Check the bytes from `first` up to `last`.

        Raises
        ------
        DamagedBlockError
            If a block with one of them is not what was written.
        """
        block, end = first // _BLOCK, -(-last // _BLOCK)
        while (block := self._sound.find(0, block, end)) >= 0:
            self._check(block)

    def check_each(self, places: NDArray[np.integer[Any]]) -> None:
        """Check the bytes at many places; see `check`."""
        blocks = places // _BLOCK
        unsure = blocks[np.frombuffer(self._sound, np.uint8)[blocks] == 0]
        for block in np.unique(unsure).tolist():
            self._check(block)

    def _check(self, block: int) -> None:
        found = zlib.crc32(self._body[block * _BLOCK : (block + 1) * _BLOCK])
        if found != self._checksums[block]:
            raise DamagedBlockError(f"block {block}")
        self._sound[block] = 1
