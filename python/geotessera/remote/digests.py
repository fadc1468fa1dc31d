"""Digests of files that are read again, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geotessera._native import Hasher

__all__ = ["read_into"]

PIECE_BYTES = 256 << 10
"""What is read at once: it is still in the second-level cache when it is digested."""


def read_into(
    hasher: Hasher, path: Path, start: int, stop: int, wanted: Callable[[], bool] | None = None
) -> bool:
    """Digest a range of a file, and return whether all of it was there.

    Parameters
    ----------
    hasher : Hasher
        Takes the bytes in.
    path : Path
        The file; others may write to it elsewhere.
    start, stop : int
        First byte, last byte + 1.
    wanted : callable, optional
        Asked before each piece; False ends the reading.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    room = memoryview(bytearray(min(PIECE_BYTES, stop - start)))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop:
            if wanted is not None and not wanted():
                return False
            count = file.readinto(room[: min(len(room), stop - start)])
            if not count:
                return False
            hasher.update(room[:count])
            start += count
    return True
