"""What is known of the files in a tile directory: ``.geotessera/files.jsonl``.

One JSON object a line, the last line of a path wins; one with ``"removed": true`` says that
the file was removed on purpose. Written by appending, so that threads and processes need no
lock; a line that was cut off is skipped by the reader. Lines that later ones replaced are left
out now and then, by a new file in place of the old one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from geotessera.errors import InputError
from geotessera.remote.partfile import atomic_path, writing_to

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FileRecord", "FileRecords"]

_SMALL_BYTES = 32 << 10
"""Below this nobody minds lines that were replaced."""

_CARRIED = re.compile(rb'\{"after":(\d{1,15}),')

_STALE_SECONDS = 3600.0
"""After so long, whoever was replacing the file has died at it."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What was known of a file when it was committed.

    Parameters
    ----------
    path : str
        Relative to the directory, with ``/``.
    size : int
        Bytes.
    sha256 : str
        Our own digest of the bytes, as they arrived.
    md5 : str or None
        The same, where it was computed.
    etag : str or None
        As the server sent it.
    url : str or None
        Where the file came from.
    mtime : float or None
        POSIX time of the server's Last-Modified.
    """

    path: str
    size: int
    sha256: str
    md5: str | None = None
    etag: str | None = None
    url: str | None = None
    mtime: float | None = None


_TYPES: dict[str, Any] = {
    "path": str,
    "size": int,
    "sha256": str,
    "md5": str | None,
    "etag": str | None,
    "url": str | None,
    "mtime": float | int | None,
}


def _parse(line: bytes) -> FileRecord | str | None:
    """Return a line's record, or the path of a file that was removed; None for neither."""
    try:
        fields = json.loads(line)
        known = {name: fields.get(name) for name in _TYPES}
        removed = fields.get("removed") is True
    except (ValueError, AttributeError, RecursionError):
        return None
    if removed and isinstance(known["path"], str):
        return str(known["path"])
    if all(isinstance(known[name], kind) for name, kind in _TYPES.items()):
        return FileRecord(**known)
    return None


def _in_order(content: bytes) -> list[bytes]:
    """Return lines by age; those that were carried over say after which byte they belong."""
    found = []
    at = 0
    for line in content.splitlines(keepends=True):
        at += len(line)
        carried = _CARRIED.match(line)
        text = line.rstrip(b"\r\n")
        found.append((int(carried[1]), b"{" + text[carried.end() :]) if carried else (at, text))
    return [text for _, text in sorted(found, key=itemgetter(0))]


class FileRecords:
    """The records of a tile directory.

    Parameters
    ----------
    directory : path-like
        The tile directory; it need not exist yet.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.path = self.directory / ".geotessera" / "files.jsonl"

    def record(
        self,
        relative_path: str | os.PathLike[str],
        size: int,
        sha256: str,
        md5: str | None = None,
        etag: str | None = None,
        url: str | None = None,
        mtime: float | None = None,
    ) -> FileRecord:
        """Append what is known of a file, and return it.

        Parameters
        ----------
        relative_path : path-like
            Below the directory.
        size, sha256, md5, etag, url, mtime
            As in `FileRecord`.

        Raises
        ------
        InputError
            If the path is absolute or leaves the directory.
        UnwritableDestination
            If the record cannot be written.
        """
        entry = FileRecord(self._relative(relative_path), size, sha256, md5, etag, url, mtime)
        self._append(asdict(entry))
        return entry

    def forget(self, relative_paths: Iterable[str | os.PathLike[str]]) -> None:
        """Record that files are removed on purpose; do so before they are.

        Raises
        ------
        InputError
            If a path is absolute or leaves the directory.
        UnwritableDestination
            If the record cannot be written.
        """
        recorded = self.load()
        for relative in map(self._relative, relative_paths):
            if relative in recorded:
                self._append({"path": relative, "removed": True})

    def _relative(self, path: str | os.PathLike[str]) -> str:
        relative = PurePosixPath(Path(path).as_posix())
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise InputError(
                f"{str(path)!r} is not a path below {self.directory}: give a relative one"
            )
        return str(relative)

    def _append(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        with writing_to(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = self._append_line(line)
        # At each doubling, so that what is read for it is in proportion to what was written.
        if size >= _SMALL_BYTES and size.bit_length() != (size - len(line)).bit_length():
            self.compact()

    def _append_line(self, line: bytes) -> int:
        """Append a line and return the size of the file."""
        while True:
            with self.path.open("ab+", buffering=0) as file:
                # A writer that died in a line must not take this one with it.
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._is(file.fileno()):
                    return end + len(line)
                # It was replaced meanwhile, perhaps without this line: twice does no harm.

    def _is(self, descriptor: int) -> bool:
        """Whether an open file still has its name; also if nothing has it any more."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return True

    def compact(self) -> bool:
        """Leave out lines that later ones replaced if they are more than half of all.

        Nothing that others record meanwhile is lost: what they appended before the old file
        was replaced is carried over, and who appends to it later notices.

        Returns
        -------
        bool
            Whether the file was replaced; not if another process is at it, or may not write.
        """
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            # Made by one alone, on network file systems too.
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            with suppress(OSError):
                if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                    lock.unlink()
            return False
        except OSError:
            return False
        try:
            with self.path.open("rb") as old:
                return self._replace(old)
        except OSError:
            return False
        finally:
            lock.unlink(missing_ok=True)

    def _replace(self, old: BinaryIO) -> bool:
        content, newline, cut = old.read().rpartition(b"\n")
        lines = _in_order(content + newline)
        live: dict[str, bytes] = {}
        for line in lines:
            entry = _parse(line)
            if isinstance(entry, FileRecord):
                live[entry.path] = line
            elif entry is not None:
                live.pop(entry, None)
        if len(lines) <= 2 * len(live):
            return False
        snapshot = b"".join(line + b"\n" for line in live.values())
        with atomic_path(self.path) as aside:
            with aside.open("wb") as new:
                new.write(snapshot)
                new.flush()
                os.fsync(new.fileno())
            aside.chmod(stat.S_IMODE(os.fstat(old.fileno()).st_mode))
        for line in (cut + old.read()).splitlines():
            if line[:1] == b"{" and _parse(line) is not None:
                # It is older than what others have appended to the new file by now.
                self._append_line(b'{"after":%d,' % len(snapshot) + line[1:] + b"\n")
        return True

    def record_local(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        """Hash files that were made here, on all cores, and record them.

        Parameters
        ----------
        paths : iterable of path-like
            Files below the directory.

        Raises
        ------
        OSError
            If a file cannot be read.
        """
        from geotessera import _native

        files = [Path(path) for path in paths]
        for file, digest in zip(files, _native.hash_files(files, ["sha256"]), strict=True):
            if isinstance(digest, OSError):
                raise digest
            stat = file.stat()
            relative = file.relative_to(self.directory)
            self.record(relative, stat.st_size, digest[0], mtime=stat.st_mtime)

    def load(self) -> dict[str, FileRecord]:
        """Return the newest record of each path; empty if nothing was ever recorded."""
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        found: dict[str, FileRecord] = {}
        for line in _in_order(content):
            entry = _parse(line)
            if isinstance(entry, FileRecord):
                found[entry.path] = entry
            elif entry is not None:
                found.pop(entry, None)
        return found
