"""Unfinished files that another run can go on with.

``.<name>_tmp_<host>_<pid>_<start>_<random>.part`` holds the bytes where they belong, and
``….part.json`` says, line by line, what they are: first what the server said of the file,
then each whole block with its XXH3-128. A line is written after the block's bytes. After a
kill the system still has both; after a power cut either may be missing, so whoever takes
the file over reads every block and keeps those that have the digest. It is there for
accidents: who could forge a block could as well forge its line.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from geotessera.remote import disk
from geotessera.remote.partfile import create_with_parents, writing_to
from geotessera.remote.ranges import Remote, missing_runs
from geotessera.remote.temporary import temporary_path
from geotessera.remote.transfer.digests import read_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geotessera._native import Hasher
    from geotessera.remote.transfer.request import FileRequest
    from geotessera.types import Algorithm

__all__ = ["BLOCK_ALGORITHM", "PART", "SIDECAR", "ResumableFile", "delete", "is_mine"]

PART = ".part"
SIDECAR = ".json"
_FORMAT = 2
"""Of the record; one of another format is not used, nor is its file."""

BLOCK_ALGORITHM: Algorithm = "xxh128"
"""Digest of the blocks: a tenth of the time of SHA-256."""

_mine: set[str] = set()
"""Names of the files that this process is writing; others with its number are left over."""
_mine_lock = threading.Lock()


def is_mine(path: Path) -> bool:
    """Return whether this process is writing a file of that name."""
    with _mine_lock:
        return path.name in _mine


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR)


class ResumableFile:
    """An unfinished file of this process beside its target.

    Blocks may be written by several threads; each of them calls `hold` first and
    `release` at the end, so that the descriptor outlives its last writer.

    Parameters
    ----------
    destination : Path
        The final name.
    block : int
        Bytes of a block.

    Attributes
    ----------
    path : Path
        The temporary name.
    remote : Remote or None
        What the server says of the file, once it was asked.
    whole : dict of int to str
        Blocks that are whole, and their digests.
    hasher : Hasher or None
        Has taken in the bytes from the first on, up to its length.
    is_read : bool
        A thread digests what is there, or has digested all of it.
    """

    def __init__(self, destination: Path, block: int) -> None:
        self.destination = destination
        self.path = temporary_path(destination, PART)
        self.block = block
        self.remote: Remote | None = None
        self.whole: dict[int, str] = {}
        self.hasher: Hasher | None = None
        self.is_read = False
        self._size = 0
        self._descriptor = self._log = -1
        self._users = 0
        self._closed = False
        self._made: list[Path] = []
        self._lock = threading.Lock()
        with _mine_lock:
            _mine.add(self.path.name)
        try:
            with writing_to(destination):
                if destination.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "the target is a directory")
        except BaseException:
            self._forget()
            raise

    def create(self) -> None:
        """Make the file, empty, so that an unwritable place is found before any request."""
        try:
            with writing_to(self.destination):
                self._create()
        except BaseException:
            self.discard()
            raise

    def _create(self) -> None:
        self._descriptor, self._made = create_with_parents(
            self.path, lambda: disk.create(self.path)
        )

    def establish(self, request: FileRequest, remote: Remote) -> None:
        """Give the file its length, and begin to record it if it is worth resuming."""
        self.remote = remote
        if remote.length is None:
            return
        with writing_to(self.destination):
            disk.preallocate(self._descriptor, remote.length)
            worth = remote.length > self.block
            if worth and (remote.validator is not None or request.sha256 is not None):
                header = {
                    "format": _FORMAT,
                    "url": request.url,
                    "sha256": request.sha256,
                    "block": self.block,
                    **asdict(remote),
                }
                self._log = os.open(
                    _sidecar(self.path), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC, 0o666
                )
                disk.append_line(self._log, _line(header))

    def adopt(self, other: Path, *, copy: bool) -> bool:
        """Rename another's file to be this one; False if it is not there (any more).

        Its writer may only have slept, and still hold it open: `copy` goes on with a copy.
        """
        try:
            disk.rename(other, self.path)
        except FileNotFoundError:
            delete(other)  # a record without its file
            return False
        with suppress(FileNotFoundError):
            disk.rename(_sidecar(other), _sidecar(self.path))
        if copy:
            made = self.path.with_name(f"{self.path.name}.copy")
            shutil.copyfile(self.path, made)
            disk.rename(made, self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        return True

    def load(self, request: FileRequest) -> bool:
        """Read the record of an adopted file, and check its blocks; False if it is of no use."""
        try:
            records = list(_records(_sidecar(self.path)))
            header = records.pop(0)
            length = header["length"]
            texts = [header[name] for name in ("etag", "modified", "md5")]
            if type(length) is not int or not all(isinstance(text, str | None) for text in texts):
                return False
            etag, modified, md5 = texts
            remote = Remote(length, etag, modified, md5, header["dated"] is True)
            claimed = {int(each["block"]): str(each[BLOCK_ALGORITHM]) for each in records}
        except (FileNotFoundError, LookupError, TypeError, ValueError):
            return False
        same = header.get("url") == request.url and header.get("sha256") == request.sha256
        if not same or header.get("block") != self.block or header.get("format") != _FORMAT:
            return False
        if length != os.fstat(self._descriptor).st_size or request.size not in (None, length):
            return False
        if remote.validator is None and request.sha256 is None:
            return False
        self.remote = remote
        self.whole = {
            index: digest
            for index, digest in claimed.items()
            if self._digest(index, length) == digest
        }
        if not self.whole:
            return False
        # Without a published digest only the server can say whether this is still its file:
        # ask for the last block again.
        if request.sha256 is None and not self.missing():
            del self.whole[max(self.whole)]
        self._log = os.open(_sidecar(self.path), os.O_WRONLY | os.O_APPEND)
        # The last line may have been cut off.
        disk.append_line(self._log, b"\n")
        return True

    def _digest(self, index: int, length: int) -> str | None:
        from geotessera import _native

        start = index * self.block
        if not 0 <= start < length:
            return None
        hasher = _native.Hasher(BLOCK_ALGORITHM)
        if not read_into(hasher, self.path, start, min(start + self.block, length)):
            return None
        return hasher.hexdigest(BLOCK_ALGORITHM)

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes where they belong."""
        with writing_to(self.destination):
            disk.write_at(self._descriptor, data, offset)

    def finish_block(self, index: int, digest: str) -> None:
        """Record that all bytes of a block were written."""
        with self._lock:
            if self._log >= 0:
                with writing_to(self.destination):
                    disk.append_line(self._log, _line({"block": index, BLOCK_ALGORITHM: digest}))
            self.whole[index] = digest

    def finish_whole(self, size: int) -> None:
        """Note that all of a file that is not recorded was written."""
        self._size = size

    @property
    def is_recorded(self) -> bool:
        """Whether another run could go on with this file."""
        return self._log >= 0

    @property
    def size(self) -> int:
        """Bytes in all, once the file is whole."""
        length = self.remote.length if self.remote else None
        return self._size if length is None else length

    @property
    def received(self) -> int:
        """Bytes of the whole blocks."""
        assert self.remote is not None
        assert self.remote.length is not None
        with self._lock:
            return sum(min(self.block, self.remote.length - i * self.block) for i in self.whole)

    def joined(self, start: int) -> int:
        """Return up to where the blocks from an offset on are whole; both are blocks' ends."""
        assert self.remote is not None
        index = -(-start // self.block)
        with self._lock:
            while index in self.whole:
                index += 1
        return max(start, min(index * self.block, self.remote.length or 0))

    def block_end(self, offset: int) -> int:
        """Return where the block of an offset ends; the last one may be shorter."""
        end = (offset // self.block + 1) * self.block
        length = self.remote.length if self.remote else None
        return end if length is None else min(end, length)

    def missing(self) -> list[tuple[int, int]]:
        """Return the byte ranges that are still to come, of a file that is recorded."""
        assert self.remote is not None
        assert self.remote.length is not None
        return list(missing_runs(self.remote.length, self.block, self.whole))

    def hold(self) -> bool:
        """Keep the descriptor open until `release`; False if the file was closed."""
        with self._lock:
            self._users += not self._closed
            return not self._closed

    def release(self) -> None:
        """Undo `hold`."""
        with self._lock:
            self._users -= 1
            last = self._closed and not self._users
        if last:
            self._close()

    def close(self) -> None:
        """Leave the file for another run, once its last writer has let go."""
        with self._lock:
            first, self._closed = not self._closed, True
            idle = not self._users
        if first and idle:
            self._close()

    def _close(self) -> None:
        for descriptor in (self._descriptor, self._log):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._descriptor = self._log = -1

    def _forget(self) -> None:
        with _mine_lock:
            _mine.discard(self.path.name)

    def abandon(self) -> None:
        """Close the file and leave it as it is, for another run."""
        self.close()
        self._forget()

    def leave(self) -> None:
        """Close the file and keep it if anything of it can be of use, else delete it.

        Nobody may be writing any more.
        """
        if self._log >= 0 and self.whole:
            self.abandon()
        else:
            self.discard()

    def discard(self) -> None:
        """Close the file and delete it, and the directories that were made for it."""
        self.close()
        delete(self.path)
        self._forget()
        for directory in self._made:
            with suppress(OSError):
                directory.rmdir()

    def commit(self) -> None:
        """Give the file its final name; nobody may be writing any more."""
        self.close()
        assert self.remote is not None
        if self.remote.mtime is not None:
            with suppress(OSError):  # some network file systems refuse; the bytes are right
                os.utime(self.path, (time.time(), self.remote.mtime))
        with writing_to(self.destination):
            disk.rename(self.path, self.destination)
        with suppress(OSError):
            disk.remove(_sidecar(self.path))
        self._forget()


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def delete(path: Path) -> None:
    """Delete an unfinished file and its record, as far as they are there."""
    for each in (path, _sidecar(path)):
        with suppress(OSError):
            disk.remove(each)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # cut off by a crash
        if isinstance(fields, dict):
            yield fields


def _after_fork() -> None:
    global _mine_lock
    _mine_lock = threading.Lock()
    _mine.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
