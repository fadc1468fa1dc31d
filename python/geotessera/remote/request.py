"""One file that is wanted, and what became of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from geotessera.errors import InputError

__all__ = ["FileRequest", "Transferred", "local_path"]


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


def local_path(url: str | os.PathLike[str]) -> Path | None:
    """Return the path that a ``file://`` URL or a plain path names, or None for HTTP.

    Raises
    ------
    InputError
        For other schemes, and for a ``file://`` URL of another host.
    """
    text = os.fspath(url)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    match scheme.lower():
        case "http" | "https":
            return None
        case "file":
            parts = urlsplit(text)
            if parts.netloc not in ("", "localhost"):
                raise InputError(
                    f"{text} names the host {parts.netloc!r}: "
                    "a local file is file:///absolute/path or a plain path"
                )
            return Path(url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))
    raise InputError(
        f"{text} has the scheme {scheme!r}: expected http://, https://, file:// or a path"
    )
