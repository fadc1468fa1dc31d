"""Digests of files that are read again, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geotessera._native import Hasher

__all__ = ["read_into"]

PIECE_BYTES = 8 << 20
"""What is digested without a look at whether it is wanted still: 15 ms."""


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
    while start < stop:
        if wanted is not None and not wanted():
            return False
        end = min(start + PIECE_BYTES, stop)
        if hasher.update_file(path, start, end) != end - start:
            return False
        start = end
    return True
