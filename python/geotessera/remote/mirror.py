"""Files of a mirror on disk, read as a server's answers are."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from geotessera.errors import InputError, NotFoundError, TransferError
from geotessera.remote.http import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["local_path", "open_mirrored", "read_mirrored"]


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


@contextmanager
def open_mirrored(source: Path, url: str) -> Iterator[BinaryIO]:
    """Open a file of a mirror on disk.

    Raises
    ------
    NotFoundError
        It does not exist.
    TransferError
        It cannot be opened.
    """
    try:
        file = source.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"{source} does not exist in the mirror on disk: "
            "check the mirror's path, the dataset, the year and the place",
            url=url,
            status=404,
        ) from error
    except OSError as error:
        raise TransferError(
            f"{source} cannot be opened ({error.strerror}): check the mirror's permissions",
            url=url,
        ) from error
    with file:
        yield file


def read_mirrored(file: BinaryIO, source: Path, url: str) -> Iterator[bytes]:
    """Yield a file in pieces of at most `CHUNK_BYTES`.

    Raises
    ------
    TransferError
        It cannot be read.
    """
    while True:
        try:
            chunk = file.read(CHUNK_BYTES)
        except OSError as error:
            raise TransferError(
                f"{source} cannot be read ({error.strerror}): check the mirror's disk", url=url
            ) from error
        if not chunk:
            return
        yield chunk
