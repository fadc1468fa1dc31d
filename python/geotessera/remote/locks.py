"""Locks that keep other processes out while a file or directory is being made."""

from __future__ import annotations

import errno

__all__ = ["try_lock"]


def try_lock(descriptor: int) -> bool:
    """Lock an open file or directory until it is closed; return whether nobody else has.

    Where there are no locks (Windows, some network file systems) nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
