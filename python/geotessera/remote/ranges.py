"""What a server says of a file, and which bytes of it an answer holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.remote.http import http_date, is_encoded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from geotessera.remote.http import Reply

__all__ = ["BLOCK_BYTES", "SPAN_BYTES", "Remote", "answered_range", "missing_runs", "spans"]

BLOCK_BYTES = 512 << 10
"""What is recorded as whole at a time: what a kill costs each connection at most."""

SPAN_BYTES = 16 << 20
"""What is asked for at a time, a multiple of `BLOCK_BYTES`: a round trip of 30 ms costs a
tenth of it at 60 MB/s, and a tile of 130 MB still keeps all connections busy."""

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_STRONG_ETAG = re.compile(r'"[^"]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as its server describes it.

    Parameters
    ----------
    length : int or None
        Bytes in all.
    etag : str or None
        As it was sent.
    modified : str or None
        Last-Modified, as it was sent.
    md5 : str or None
        Digest of the bytes, where the ETag is one.
    dated : bool
        Whether the date tells versions apart: it is older than the answer.
    """

    length: int | None
    etag: str | None = None
    modified: str | None = None
    md5: str | None = None
    dated: bool = False

    @classmethod
    def of(cls, response: Reply, length: int | None) -> Remote:
        """Read the headers of an answer."""
        headers = response.headers
        etag, modified = headers.get("ETag"), headers.get("Last-Modified")
        match = _MD5_ETAG.fullmatch(etag or "")
        # Encrypted with a managed or a customer's key, S3's ETag looks like an MD5 and is none.
        encrypted = (
            headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
            or "x-amz-server-side-encryption-customer-algorithm" in headers
        )
        changed, sent = http_date(modified), http_date(headers.get("Date"))
        return cls(
            length=length,
            etag=etag,
            modified=modified,
            md5=match[1] if match and not encrypted and not is_encoded(response) else None,
            dated=changed is not None and sent is not None and changed < sent,
        )

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` takes: a strong ETag, or a date that tells versions apart."""
        if self.etag is not None and _STRONG_ETAG.fullmatch(self.etag):
            return self.etag
        return self.modified if self.dated else None

    @property
    def mtime(self) -> float | None:
        """POSIX time of Last-Modified."""
        return http_date(self.modified)

    def is_same(self, other: Remote) -> bool:
        """Whether two answers speak of the same bytes, as far as they say."""
        if None not in (self.length, other.length) and self.length != other.length:
            return False
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        return self.modified == other.modified


def answered_range(response: Reply) -> tuple[int, int, int] | None:
    """Return (first byte, last byte + 1, bytes in all) of a partial answer, or None.

    None also for an answer that contradicts itself.
    """
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or is_encoded(response):
        return None
    start, stop, total = int(match[1]), int(match[2]) + 1, int(match[3])
    length = response.headers.get("Content-Length", "")
    if not start < stop <= total or (length.isdecimal() and int(length) != stop - start):
        return None
    return start, stop, total


def missing_runs(length: int, block: int, whole: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) byte ranges that no whole block covers.

    Parameters
    ----------
    length, block : int
        Size of the file and of a block in bytes.
    whole : collection of int
        Indices of the blocks that are there.
    """
    start: int | None = None
    for index in range(-(-length // block)):
        if index in whole:
            if start is not None:
                yield start, index * block
                start = None
        elif start is None:
            start = index * block
    if start is not None:
        yield start, length


def spans(start: int, stop: int, span: int) -> Iterator[tuple[int, int]]:
    """Cut a byte range into requests of at most `span` bytes, on multiples of it."""
    while start < stop:
        end = min(stop, (start // span + 1) * span)
        yield start, end
        start = end
