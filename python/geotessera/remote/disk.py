"""The few operations that change the disk during a transfer, one function each."""

from __future__ import annotations

import errno
import os
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["append_line", "create", "preallocate", "remove", "rename", "write_at"]

_seek_lock = threading.Lock()


def create(path: Path) -> int:
    """Make a file that does not exist yet, and return its descriptor."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of a buffer at an offset."""
    while data:
        if hasattr(os, "pwrite"):
            count = os.pwrite(descriptor, data, offset)
        else:  # Windows
            with _seek_lock:
                os.lseek(descriptor, offset, os.SEEK_SET)
                count = os.write(descriptor, data)
        data, offset = data[count:], offset + count


def append_line(descriptor: int, line: bytes) -> None:
    """Append a line by one write, so that two writers' lines do not mix."""
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rename(source: Path, target: Path) -> None:
    """Give a file another name, at once, over what has it."""
    source.replace(target)


def remove(path: Path) -> None:
    """Delete a file if it is there."""
    path.unlink(missing_ok=True)


@cache
def _fallocate() -> Any:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


def preallocate(descriptor: int, length: int) -> None:
    """Give a file its length, and its room on the disk where the file system can.

    A disk that is too small says so here, before a byte is fetched. Not by
    ``posix_fallocate``: where the file system cannot, it writes every block, which takes
    minutes on NFS.
    """
    if sys.platform == "linux" and length:
        import ctypes

        try:
            fallocate = _fallocate()
        except (OSError, AttributeError):
            fallocate = None
        if fallocate is not None and fallocate(descriptor, 0, 0, length) != 0:
            code = ctypes.get_errno()
            if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OSError(code, os.strerror(code))
    os.ftruncate(descriptor, length)
