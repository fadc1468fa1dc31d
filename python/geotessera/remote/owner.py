"""Who writes an unfinished file, and whether that process is still there."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["STALE_SECONDS", "Owner", "boot_id", "is_abandoned", "is_gone", "this_process"]

STALE_SECONDS = 3600.0
"""After so long without a write, a file of another machine counts as left behind."""

_FOREIGN_SECONDS = 86400.0
"""After so long it may be deleted: of a process on another machine nothing is known."""


class Owner(NamedTuple):
    """A process: its machine, its number, and when it began (numbers are used again)."""

    host: str
    pid: int
    start: str


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache(maxsize=1)
def _host() -> str:
    words = [socket.gethostname()]
    # Containers may share a name, but not each other's process numbers.
    with suppress(OSError):
        words.append(str(Path("/proc/self/ns/pid").readlink()))
    with suppress(OSError):
        words.append(Path("/etc/machine-id").read_text().strip())
    return _short(" ".join(words))


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return what names this start of this machine, or nothing where it is not known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start_of(pid: int) -> str | None:
    """Return when a process began, or None where that cannot be found out."""
    if sys.platform != "linux":
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold anything; the 22nd field is the 20th after it.
    return _short(f"{boot_id()} {stat.rpartition(')')[2].split()[19]}")


@lru_cache(maxsize=2)
def _owner(pid: int) -> Owner:
    return Owner(_host(), pid, _start_of(pid) or "0" * 8)


def this_process() -> Owner:
    """Return what names this process, also after a fork."""
    return _owner(os.getpid())


def _is_running(owner: Owner) -> bool | None:
    """Return whether a process runs; None where that cannot be found out."""
    if owner.host != _host() or os.name != "posix":
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, and somebody else's
    start = _start_of(owner.pid)
    if start is None:
        return None
    return start == owner.start


def is_gone(owner: Owner, modified: float) -> bool | None:
    """Return whether the writer of a file is gone.

    Parameters
    ----------
    owner : Owner
        The writer; not this process.
    modified : float
        POSIX time of the file's last change.

    Returns
    -------
    bool or None
        True if it certainly is; None if it must be supposed: nothing was written for
        `STALE_SECONDS` and nobody can be asked; False else.
    """
    running = _is_running(owner)
    if running is not None:
        return not running
    return None if time.time() - modified > STALE_SECONDS else False


def is_abandoned(owner: Owner, modified: float) -> bool:
    """Return whether nobody needs what a process began: it is gone, or was silent for a day.

    Parameters
    ----------
    owner, modified
        As for `is_gone`.
    """
    gone = is_gone(owner, modified)
    return bool(gone) or (gone is None and time.time() - modified > _FOREIGN_SECONDS)
