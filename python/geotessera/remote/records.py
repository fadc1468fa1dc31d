"""What is known of the files in a tile directory: ``.geotessera/files.jsonl``.

One JSON object a line, the last line of a path wins; one with ``"removed": true`` says that
the file was removed on purpose. Written by appending alone, so that
threads and processes need no lock; a line that was cut off is skipped by the reader.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.remote.partfile import writing_to

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FileRecord", "FileRecords"]


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
            with self.path.open("ab+", buffering=0) as file:
                # A writer that died in a line must not take this one with it.
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

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
        for line in content.splitlines():
            entry = _parse(line)
            if isinstance(entry, FileRecord):
                found[entry.path] = entry
            elif entry is not None:
                found.pop(entry, None)
        return found
