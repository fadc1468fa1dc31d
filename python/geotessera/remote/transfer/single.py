"""One file from a server or a mirror on disk to its final name, verified.

`fetch_file` is the seam between what is wanted (`FileRequest`) and what became of it
(`Transferred`): what executes many files needs nothing else.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.errors import (
    ChecksumMismatchError,
    SizeMismatchError,
    TruncatedError,
    UnreachableError,
)
from geotessera.remote.connections import allow, check_jobs, holds_slot, slot
from geotessera.remote.http import (
    DEFAULT_POLICY,
    RetryPolicy,
    is_encoded,
    open_url,
    read_chunks,
)
from geotessera.remote.mirror import local_path, open_mirrored, read_mirrored
from geotessera.remote.partfile import PartFile, writing_to
from geotessera.remote.ranges import BLOCK_BYTES, Remote
from geotessera.remote.transfer.checks import check_digest, check_length
from geotessera.remote.transfer.request import FileRequest, Transferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from geotessera.types import Algorithm, ProgressCallback

__all__ = ["download_file_to_temp", "fetch_file"]

logger = logging.getLogger(__name__)


class _Progress:
    """Calls back at the start, about ten times a second, and at the end."""

    _INTERVAL = 0.1

    def __init__(self, callback: ProgressCallback | None, total: int, text: str) -> None:
        self._callback, self._total, self._text = callback, total, text
        self._next = time.monotonic() + self._INTERVAL
        if callback is not None:
            callback(0, total, text)

    def update(self, done: int) -> None:
        now = time.monotonic()
        if self._callback is not None and now >= self._next:
            self._next = now + self._INTERVAL
            self._callback(done, self._total, self._text)

    def finish(self, done: int) -> None:
        if self._callback is not None:
            self._callback(done, done, self._text)


@dataclass(frozen=True, slots=True)
class _Body:
    """Bytes that arrive, and what their sender says of them."""

    chunks: Iterator[bytes]
    length: int | None
    etag: str | None = None
    md5: str | None = None
    last_modified: float | None = None


def _announced(response: requests.Response, url: str) -> _Body:
    length = response.headers.get("Content-Length", "")
    known = length.isdecimal() and not is_encoded(response)
    remote = Remote.of(response, int(length) if known else None)
    return _Body(
        chunks=read_chunks(response, url),
        length=remote.length,
        etag=remote.etag,
        md5=remote.md5,
        last_modified=remote.mtime,
    )


def _receive(
    request: FileRequest,
    body: _Body,
    part: PartFile,
    progress: ProgressCallback | None,
    verify: bool,
) -> Transferred:
    """Write a body to a part file while it is hashed, check it, and commit it."""
    from geotessera import _native

    if body.length is not None:
        check_length(request, body.length, request.size, "the registry")
    # A published SHA-256 says all that an MD5 could; MD5 is the slower of the two.
    md5 = body.md5 if verify and request.sha256 is None else None
    algorithms: tuple[Algorithm, ...] = ("sha256",) if md5 is None else ("sha256", "md5")
    hasher = _native.Hasher(*algorithms)
    total = body.length if body.length is not None else request.size or 0
    ticker = _Progress(progress, total, request.label or request.dest.name)
    done = 0
    with writing_to(request.dest):
        file = part.path.open("wb")
    try:
        for chunk in body.chunks:
            hasher.update(chunk)
            with writing_to(request.dest):
                file.write(chunk)
            done += len(chunk)
            ticker.update(done)
    finally:
        with writing_to(request.dest):
            file.close()

    check_length(request, done, body.length, "the server")
    check_length(request, done, request.size, "the registry")
    sha256 = hasher.hexdigest("sha256")
    if verify and request.sha256 is not None:
        check_digest(request, "SHA-256", sha256, request.sha256, "the registry")
    if md5 is not None:
        check_digest(request, "MD5", hasher.hexdigest("md5"), md5, "the server's ETag")
    if body.last_modified is not None:
        with suppress(OSError):  # some network file systems refuse; the bytes are right
            os.utime(part.path, (time.time(), body.last_modified))
    part.commit()
    ticker.finish(done)
    return Transferred(
        path=request.dest,
        url=request.url,
        size=done,
        sha256=sha256,
        md5=md5,
        etag=body.etag,
        last_modified=body.last_modified,
    )


def _kept(
    request: FileRequest, progress: ProgressCallback | None, etag: str | None = None
) -> Transferred:
    stat = request.dest.stat()
    if progress is not None:
        progress(0, 0, f"{request.label or request.dest.name} is up to date")
    return Transferred(
        path=request.dest,
        url=request.url,
        size=stat.st_size,
        etag=etag or request.etag,
        last_modified=stat.st_mtime,
        not_modified=True,
    )


def _present(request: FileRequest) -> os.stat_result | None:
    """Return the state of the file at the destination, None if it cannot be the right one."""
    try:
        stat = request.dest.stat()
    except OSError:
        return None
    return stat if request.size in (None, stat.st_size) else None


def _fetch_local(
    request: FileRequest,
    source: Path,
    progress: ProgressCallback | None,
    conditional: bool,
    verify: bool,
) -> Transferred:
    with PartFile(request.dest) as part, open_mirrored(source, request.url) as file:
        theirs = os.fstat(file.fileno())
        ours = _present(request) if conditional else None
        if ours is not None and ours.st_size == theirs.st_size and ours.st_mtime >= theirs.st_mtime:
            return _kept(request, progress)
        chunks = read_mirrored(file, source, request.url)
        body = _Body(chunks, theirs.st_size, last_modified=theirs.st_mtime)
        return _receive(request, body, part, progress, verify)


def _conditions(request: FileRequest) -> dict[str, str]:
    """Return the headers that ask for the file only if it is not the one that is there."""
    stat = _present(request)
    if stat is None:
        return {}
    conditions = {"If-Modified-Since": formatdate(stat.st_mtime, usegmt=True)}
    if request.etag:
        conditions["If-None-Match"] = request.etag
    return conditions


def fetch_file(
    request: FileRequest,
    *,
    progress: ProgressCallback | None = None,
    conditional: bool = False,
    verify: bool = True,
    policy: RetryPolicy | None = None,
    resume: bool = True,
) -> Transferred:
    """Get one file: streamed beside its destination, verified, then renamed over it.

    Nothing that is incomplete or does not verify ever has the final name, and a file that
    was there stays until its successor is whole. Safe to call from many threads and
    processes, for one file too. A file of more than `BLOCK_BYTES` comes in ranges, and the
    next call goes on with what an interrupted one left.

    Parameters
    ----------
    request : FileRequest
        What is wanted, and where.
    progress : callable, optional
        Called with (bytes done, bytes in all or 0, text): at the start, about ten times
        a second, at the end; (0, 0, text) if the file is up to date.
    conditional : bool
        Keep the file at the destination if it is not older than the server's (and, where
        an ETag is recorded, still has it). Damage is not noticed: use False to repair.
    verify : bool
        Check digests: the published SHA-256, else the MD5 in the server's ETag. Lengths
        are always checked.
    policy : RetryPolicy, optional
        Timeouts and repetitions; by default `DEFAULT_POLICY`.
    resume : bool
        Whether what is interrupted may be left for the next call.

    Returns
    -------
    Transferred
        Size, digests and what the server said.

    Raises
    ------
    NotFoundError
        The server (404, 410) or the mirror on disk does not have the file.
    HTTPStatusError
        Another answer than success.
    UnreachableError
        No connection, or a stall.
    TruncatedError
        The length is wrong, after all attempts.
    ChecksumMismatchError
        A digest is wrong, after all attempts.
    UnwritableDestination
        The destination cannot be written; found before any request where possible.
    """
    policy = policy or DEFAULT_POLICY
    source = local_path(request.url)
    if source is not None:
        return _fetch_local(request, source, progress, conditional, verify)

    # Who holds a connection must not wait for threads that need one.
    divisible = resume and not holds_slot()
    if divisible and not conditional and (request.size or 0) > BLOCK_BYTES:
        return _fetch_long(request, progress, verify, policy)
    with allow(check_jobs()), slot(lambda: False):
        done = _fetch_short(request, progress, conditional, verify, policy, divisible=divisible)
    if isinstance(done, int):
        return _fetch_long(replace(request, size=done), progress, verify, policy)
    return done


def _fetch_short(
    request: FileRequest,
    progress: ProgressCallback | None,
    conditional: bool,
    verify: bool,
    policy: RetryPolicy,
    *,
    divisible: bool,
) -> Transferred | int:
    """Get a file in one piece; return its length instead if it is long and `divisible`."""
    headers = _conditions(request) if conditional else {}
    accept = (200, 304) if headers else (200,)
    with PartFile(request.dest) as part:
        for attempt, pause in enumerate((*policy.body_pauses, None)):
            # What fails in here was already repeated, or cannot get better.
            with open_url(request.url, headers=headers, accept=accept, policy=policy) as response:
                if response.status_code == 304:
                    return _kept(request, progress, response.headers.get("ETag"))
                try:
                    body = _announced(response, request.url)
                    if divisible and body.length is not None and body.length > BLOCK_BYTES:
                        check_length(request, body.length, request.size, "the registry")
                        return body.length
                    return _receive(request, body, part, progress, verify)
                except (TruncatedError, ChecksumMismatchError, UnreachableError) as error:
                    if isinstance(error, SizeMismatchError) and pause is not None:
                        # It may be one bad answer, hardly two.
                        pause = None if attempt else 0.0
                    if pause is None:
                        raise
                    logger.warning("%s; trying again in %g s", error, pause)
            policy.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _fetch_long(
    request: FileRequest, progress: ProgressCallback | None, verify: bool, policy: RetryPolicy
) -> Transferred:
    """Get a file in ranges; what is interrupted is gone on with by the next call."""
    from geotessera.remote.transfer.engine import transfer  # which short files do without
    from geotessera.remote.transfer.plan import Group

    group = Group(request.dest, (request,), replace=request.dest.is_file())
    (result,) = transfer([group], progress=progress, verify=verify, policy=policy)
    if result.error is not None:
        raise result.error
    return result.files[0] if result.files else _kept(request, None)


def download_file_to_temp(
    url: str,
    progress_callback: ProgressCallback | None = None,
    cache_path: str | os.PathLike[str] | None = None,
) -> str:
    """Download a file and return its path.

    Parameters
    ----------
    url : str
        ``http(s)://`` or ``file://`` URL, or a plain path.
    progress_callback : callable, optional
        Called with (bytes done, bytes in all, text).
    cache_path : path-like, optional
        Where to put the file. If it is there already, it is kept unless the server's is
        newer. Without it, a temporary file ``*.npy`` that the caller owns and deletes.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    HTTPStatusError, UnreachableError, TruncatedError, ChecksumMismatchError
        As `fetch_file`; all are `OSError`.
    UnwritableDestination
        If `cache_path` cannot be written; before any request.
    """
    if cache_path is not None:
        request = FileRequest(url, Path(cache_path))
        return str(fetch_file(request, progress=progress_callback, conditional=True).path)
    with writing_to(Path(tempfile.gettempdir())):
        handle, name = tempfile.mkstemp(suffix=".npy")
        os.close(handle)
    try:
        request = FileRequest(url, Path(name))  # a name that nobody asks for again
        return str(fetch_file(request, progress=progress_callback, resume=False).path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
