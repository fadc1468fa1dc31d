"""One request for a file or a range of it, and what came back."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from geotessera.errors import TransferError
from geotessera.remote.http import is_encoded, open_url, read_chunks
from geotessera.remote.mirror import local_path, open_mirrored, read_mirrored
from geotessera.remote.ranges import Remote, answered_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests

    from geotessera.remote.http import RetryPolicy

__all__ = ["Answer", "NotTheRangeError", "ask"]


class NotTheRangeError(TransferError):
    """An answer that cannot be put together with what is there.

    Attributes
    ----------
    whole : bool
        Whether the server cannot do ranges at all; else the file changed.
    """

    passing = True

    def __init__(self, message: str, *, url: str, whole: bool) -> None:
        super().__init__(message, url=url)
        self.whole = whole


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of a file.

    Parameters
    ----------
    remote : Remote
        What the sender says of the file.
    start : int
        Where the bytes begin.
    stop : int or None
        Where they end; None if that is not known.
    chunks : iterator of bytes
        They arrive as it is read.
    """

    remote: Remote
    start: int
    stop: int | None
    chunks: Iterator[bytes]


@contextmanager
def ask(
    url: str, start: int, stop: int | None, known: Remote | None, policy: RetryPolicy
) -> Iterator[Answer]:
    """Ask once for bytes of a file, and yield the answer with its body unread.

    Parameters
    ----------
    url : str
        ``http(s)://`` or ``file://`` URL, or a plain path, which is always read whole.
    start, stop : int
        First byte, last byte + 1; the whole file where `stop` is None.
    known : Remote or None
        What was learnt before: another version of the file is no answer.
    policy : RetryPolicy
        Its timeouts are used; nothing is repeated.

    Raises
    ------
    NotTheRangeError
        The file is another one than `known`, or the server cannot do ranges.
    TransferError
        As `open_url`.
    """
    source = local_path(url)
    if source is not None:
        with _read_local(source, url) as answer:
            yield answer
        return
    once = replace(policy, retries=0)
    ranged = stop is not None and not (known is not None and start == 0 and stop == known.length)
    headers = {}
    accept: tuple[int, ...] = (200,)
    if ranged:
        assert stop is not None
        headers["Range"] = f"bytes={start}-{stop - 1}"
        accept = (200, 206, 416)
        if known is not None and known.validator is not None:
            headers["If-Range"] = known.validator
    with open_url(url, headers=headers, accept=accept, policy=once) as response:
        match response.status_code:
            case 206:
                yield _partial(response, url, start, stop, known)
            case 416:
                raise NotTheRangeError(f"{url} has no byte {start:,}", url=url, whole=True)
            case _:
                yield _whole(response, url, known, is_fresh=start == 0)


def _partial(
    response: requests.Response, url: str, start: int, stop: int | None, known: Remote | None
) -> Answer:
    found = answered_range(response)
    if found is None or stop is None or found[0] != start or found[1] > stop:
        given = response.headers.get("Content-Range")
        raise NotTheRangeError(
            f"{url} answers bytes {given!r} where {start}-{stop} was asked", url=url, whole=True
        )
    remote = Remote.of(response, found[2])
    if known is not None and not known.is_same(remote):
        raise NotTheRangeError(f"{url} has changed", url=url, whole=False)
    return Answer(remote, found[0], found[1], read_chunks(response, url))


def _whole(
    response: requests.Response, url: str, known: Remote | None, *, is_fresh: bool
) -> Answer:
    length = response.headers.get("Content-Length", "")
    sized = length.isdecimal() and not is_encoded(response)
    remote = Remote.of(response, int(length) if sized else None)
    if known is not None and not known.is_same(remote):
        raise NotTheRangeError(f"{url} has changed", url=url, whole=False)
    if not is_fresh:
        raise NotTheRangeError(f"{url} is sent whole where a part was asked", url=url, whole=True)
    return Answer(remote, 0, remote.length, read_chunks(response, url))


@contextmanager
def _read_local(source: Path, url: str) -> Iterator[Answer]:
    with open_mirrored(source, url) as file:
        stat = os.fstat(file.fileno())
        remote = Remote(stat.st_size, modified=formatdate(stat.st_mtime, usegmt=True))
        yield Answer(remote, 0, stat.st_size, read_mirrored(file, source, url))
