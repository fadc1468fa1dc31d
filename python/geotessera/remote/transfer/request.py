"""One file that is wanted, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileRequest", "Transferred"]


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One file that is wanted.

    Parameters
    ----------
    url : str
        ``http(s)://`` or ``file://`` URL (percent-encoded), or a plain path.
    dest : Path
        Final name; its directory is made where it is missing.
    sha256 : str, optional
        Published digest, 64 hex digits.
    size : int, optional
        Published size in bytes.
    label : str
        What progress reports call it; by default the file's name.
    etag : str, optional
        The ETag that was recorded for the file at `dest`, for conditional requests.
    """

    url: str
    dest: Path
    sha256: str | None = None
    size: int | None = None
    label: str = ""
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of a `FileRequest`.

    Parameters
    ----------
    path : Path
        Where the file is.
    url : str
        Where it came from.
    size : int
        Bytes.
    sha256 : str or None
        Digest of the bytes; None if `not_modified`.
    md5 : str or None
        The same, computed only where the server's ETag is one.
    etag : str or None
        As the server sent it.
    last_modified : float or None
        POSIX time, also the file's mtime.
    not_modified : bool
        The file that was there is the current one; nothing was transferred.
    """

    path: Path
    url: str
    size: int
    sha256: str | None = None
    md5: str | None = None
    etag: str | None = None
    last_modified: float | None = None
    not_modified: bool = False
