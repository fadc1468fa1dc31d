"""Files of a mirror on disk, read as a server's answers are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from geotessera.errors import NotFoundError, TransferError
from geotessera.remote.http import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["open_mirrored", "read_mirrored"]


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
