"""What is known of the files in a tile directory: ``.geotessera/files.jsonl``.

One JSON object a line, the last line of a path wins. Written by appending alone, so that
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


def _parse(line: bytes) -> FileRecord | None:
    try:
        fields = json.loads(line)
        known = {name: fields.get(name) for name in _TYPES}
    except (ValueError, AttributeError, RecursionError):
        return None
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
        relative = PurePosixPath(Path(relative_path).as_posix())
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise InputError(
                f"{str(relative_path)!r} is not a path below {self.directory}: give a relative one"
            )
        entry = FileRecord(str(relative), size, sha256, md5, etag, url, mtime)
        line = json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"
        with writing_to(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                # A writer that died in a line must not take this one with it.
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return entry

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
        parsed = (_parse(line) for line in content.splitlines())
        return {entry.path: entry for entry in parsed if entry is not None}
