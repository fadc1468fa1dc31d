"""The room of a `FileCache`: what its entries take, and which of them go.

No lock and no shared counter: every object keeps a running total of what it found and what it
added, and looks at all entries again before it could be far off.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from geotessera.remote import disk
from geotessera.remote.lru.entry import RECORD_NAME
from geotessera.remote.owner import Owner, is_abandoned, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["BLOCK", "SHARE", "Space", "Usage", "block_size", "remove_own", "touch"]

logger = logging.getLogger("geotessera")

SHARE = 32
"""A cache object adds at most this part of the limit before it looks at all sizes again."""

SPARE = 16
"""Small entries make room for this part of the limit at once, so that not each looks anew."""

BLOCK = 4096
"""Sizes count in blocks, as file systems give them."""

_OWNED = re.compile(r"([0-9a-f]{8})-(\d+)-([0-9a-f]{8})(-[0-9a-f]+)?")
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Backups may leave out this directory; it may be deleted at any time.\n"
)


class Usage(NamedTuple):
    """What a cache holds: bytes on disk, and entries."""

    bytes: int
    entries: int


class _Entry(NamedTuple):
    """An entry that a scan found."""

    used: int  # ns; 0 for one that is damaged
    size: int
    path: Path


class Space:
    """A directory of entries that are together not larger than a limit.

    Parameters
    ----------
    directory : Path
        It need not exist.
    limit : int
        Bytes on disk.
    pinned : callable, optional
        Returns entries that must stay.
    """

    def __init__(
        self,
        directory: Path,
        limit: int,
        pinned: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self.directory = directory
        self.limit = limit
        self.entries = directory / "entries"
        self._pinned = pinned
        self._share = limit // SHARE
        self._lock = threading.Lock()
        self._known: int | None = None  # bytes at the last scan, and what was added since
        self._added = 0  # by this object since the last scan
        self._pending = 0  # admitted, and perhaps not in its place yet
        self._swept = False

    def usage(self) -> Usage:
        """Return what the cache holds; looks at every entry."""
        found = list(self.scan())
        return Usage(sum(entry.size for entry in found), len(found))

    def admit(self, size: int) -> bool:
        """Make room for an entry, and count it; False if it cannot be had.

        Whoever was admitted calls `settle` in the end, whatever became of the entry.
        """
        if size > self.limit:
            return False
        with self._lock:
            total = self._known
            if total is None or self._added + size > self._share or total + size > self.limit:
                total = self._evict(size)
                self._added = 0
            granted = total + size <= self.limit
            if granted:
                total += size
                self._added += size
                self._pending += size
            self._known = total
            return granted

    def settle(self, size: int) -> None:
        """Note that an admitted entry is in its place, or never will be."""
        with self._lock:
            self._pending -= size
            # Other processes may have had the same room in mind.
            if size > self._share:
                self._known, self._added = self._evict(0), 0

    def _evict(self, needed: int) -> int:
        """Delete what was not used for longest, until there is room; return the bytes left."""
        if not self._swept:
            self._swept = True
            self._sweep()
        found = list(self.scan())
        total = self._pending + sum(entry.size for entry in found)
        if total + needed <= self.limit:
            return total
        spare = self.limit // SPARE if needed <= self._share else 0
        pinned = set(self._pinned())
        for entry in sorted(found):
            if total + needed <= self.limit - spare:
                break
            if entry.path in pinned or _last_use(entry.path) > entry.used:
                continue  # somebody just used it
            if self.discard(entry.path):
                total -= entry.size
        return total

    def scan(self) -> Iterator[_Entry]:
        """Yield all entries."""
        for shard in _listed(self.entries):
            for entry in _listed(shard.path):
                with suppress(OSError):
                    if not entry.name.endswith(".d"):
                        stat = entry.stat(follow_symlinks=False)
                        yield _Entry(stat.st_mtime_ns, block_size(stat.st_size), Path(entry.path))
                        continue
                    stats = {one.name: one.stat() for one in _listed(entry.path)}
                    record = stats.get(RECORD_NAME)
                    size = sum(block_size(stat.st_size) for stat in stats.values())
                    yield _Entry(record.st_mtime_ns if record else 0, size, Path(entry.path))

    def discard(self, path: Path) -> bool:
        """Delete an entry; return whether it is gone, whoever did it."""
        try:
            if path.suffix != ".d":
                disk.remove(path)
                return True
            gone = self.fresh_name()
            path.rename(gone)
        except FileNotFoundError:
            return True
        except OSError as error:
            logger.debug("%s cannot be deleted: %s", path, error)
            return False
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _sweep(self) -> None:
        """Delete what processes that are gone left behind."""
        for folder in ("tmp", "in-use"):
            for entry in _listed(self.directory / folder):
                match = _OWNED.fullmatch(entry.name)
                if match is None:
                    continue
                owner = Owner(match[1], int(match[2]), match[3])
                with suppress(OSError):
                    modified = entry.stat(follow_symlinks=False).st_mtime
                    if owner != this_process() and is_abandoned(owner, modified):
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry.path, ignore_errors=True)
                        else:
                            Path(entry.path).unlink()

    # --- Places --------------------------------------------------------------------------

    def fresh_name(self) -> Path:
        """Return a name in ``tmp`` that nobody else has."""
        folder = self.directory / "tmp"
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                (self.directory / "CACHEDIR.TAG").write_text(_TAG, encoding="ascii")
        return folder / f"{_owner_name()}-{secrets.token_hex(6)}"

    def own_place(self) -> Path:
        """Make a directory in ``in-use`` that nobody else has."""
        own = self.directory / "in-use" / _owner_name()
        made = own / secrets.token_hex(6)
        made.mkdir(parents=True)
        _remove_at_exit(own, os.getpid())
        return made


def _owner_name() -> str:
    return "-".join(map(str, this_process()))


def block_size(size: int) -> int:
    """Return what a file of a size takes on disk."""
    return -(-size // BLOCK) * BLOCK or BLOCK


def _listed(directory: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


_latest = 0


def touch(path: Path) -> None:
    """Note that an entry is used; later than every earlier use by this process."""
    global _latest
    _latest = now = max(time.time_ns(), _latest + 1)
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def _last_use(path: Path) -> int:
    """Return when an entry was used; 0 if it is gone or damaged."""
    try:
        return (path / RECORD_NAME if path.suffix == ".d" else path).stat().st_mtime_ns
    except OSError:
        return 0


def remove_own(directory: Path, pid: int) -> None:
    """Remove a directory of a process, if it is this one."""
    if os.getpid() == pid:  # a forked child leaves its parent's files alone
        shutil.rmtree(directory, ignore_errors=True)


@cache
def _remove_at_exit(directory: Path, pid: int) -> None:
    atexit.register(remove_own, directory, pid)
