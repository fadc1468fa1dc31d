"""A few bytes of big files: many small ranges over many connections.

What this costs is round trips, so ranges that are near each other become one request. A
request counts as much as `DEFAULT_GAP` bytes: at 30 ms and 32 connections a round trip takes
as long as 64 KiB at 70 MB/s.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from geotessera.errors import (
    ChangedError,
    InputError,
    TransferError,
    TruncatedError,
    UnreachableError,
)
from geotessera.remote.connections import MOST_JOBS, allow, slot
from geotessera.remote.http import DEFAULT_POLICY, RetryPolicy, open_url, read_chunks
from geotessera.remote.ranges import SPAN_BYTES, Remote, answered_range
from geotessera.remote.session import abort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from types import TracebackType

    import numpy as np
    import requests
    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_GAP",
    "DEFAULT_RANGE_JOBS",
    "GAP_ENV",
    "RANGE_JOBS_ENV",
    "NoRangesError",
    "Piece",
    "RangeCosts",
    "RangePool",
    "RangedObject",
    "first_failure",
    "pieces",
]

logger = logging.getLogger(__name__)

GAP_ENV = "GEOTESSERA_RANGE_GAP"
RANGE_JOBS_ENV = "GEOTESSERA_RANGE_JOBS"

DEFAULT_GAP = 64 << 10
"""Bytes that are rather read and thrown away than saved by another request."""

DEFAULT_RANGE_JOBS = 32
"""Connections at once; small ranges wait for round trips, not for the link."""

_MOST_GAP = 1 << 30


class NoRangesError(TransferError):
    """A server that does not answer with the bytes that were asked for."""


def _number(name: str, default: int, least: int, most: int) -> int:
    text = os.environ.get(name, "").strip()
    try:
        number = int(text) if text else default
    except ValueError:
        number = least - 1
    return _checked(name, text or number, number, least, most)


def _checked(name: str, given: object, number: int, least: int, most: int) -> int:
    if not least <= number <= most:
        raise InputError(f"{name}={given}: expected a whole number from {least} to {most}")
    return number


@dataclass(frozen=True, slots=True)
class RangeCosts:
    """What ranges cost, and so how they are asked for.

    Parameters
    ----------
    gap : int
        Ranges that are at most so many bytes apart become one; also the price of a request
        in bytes.
    jobs : int
        Connections at once.
    """

    gap: int = DEFAULT_GAP
    jobs: int = DEFAULT_RANGE_JOBS

    def __post_init__(self) -> None:
        _checked("gap", self.gap, self.gap, 0, _MOST_GAP)
        _checked("jobs", self.jobs, self.jobs, 1, MOST_JOBS)

    @classmethod
    def from_environment(cls, gap: int = DEFAULT_GAP, jobs: int = DEFAULT_RANGE_JOBS) -> Self:
        """Read ``GEOTESSERA_RANGE_GAP`` (bytes) and ``GEOTESSERA_RANGE_JOBS``.

        Parameters
        ----------
        gap, jobs : int
            What holds where they are not set.

        Raises
        ------
        InputError
            (a `ValueError`) if one is not a number, or out of range.
        """
        return cls(
            _number(GAP_ENV, gap, 0, _MOST_GAP),
            _number(RANGE_JOBS_ENV, jobs, 1, MOST_JOBS),
        )


class Piece(NamedTuple):
    """One request: bytes [start, stop) hold the records [first, last) of a list."""

    start: int
    stop: int
    first: int
    last: int


def pieces(
    numbers: NDArray[np.int64], offset: int, record: int, gap: int, longest: int = SPAN_BYTES
) -> list[Piece]:
    """Plan the requests for some records of equal size.

    Parameters
    ----------
    numbers : ndarray of int64, shape (n,)
        Which records, strictly increasing.
    offset, record : int
        Bytes before the first record, and of each.
    gap : int
        Bytes between two records for which they still become one request.
    longest : int
        Bytes of a request, beyond which another one begins; a record is never split.

    Returns
    -------
    list of Piece
        Ascending; together they hold every record once.
    """
    import numpy as np

    if not len(numbers):
        return []
    starts = offset + numbers * record
    cuts = np.flatnonzero(np.diff(starts) - record > gap) + 1
    made: list[Piece] = []
    for first, last in pairwise([0, *cuts.tolist(), len(numbers)]):
        while first < last:
            stop = last
            if starts[last - 1] + record - starts[first] > longest:
                limit = max(int(starts[first]) + longest - record, int(starts[first]))
                stop = first + int(np.searchsorted(starts[first:last], limit, side="right"))
            made.append(Piece(int(starts[first]), int(starts[stop - 1]) + record, first, stop))
            first = stop
    return made


@dataclass(eq=False, slots=True)
class RangedObject:
    """One file on a server, read range by range; all ranges are of one version of it.

    Safe to use from many threads.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``.
    size : int, optional
        Published bytes.
    """

    url: str
    size: int | None = None
    _remote: Remote | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def length(self) -> int:
        """Bytes in all, as the server says; known once a range has been read."""
        assert self._remote is not None
        assert self._remote.length is not None
        return self._remote.length

    def forget(self) -> None:
        """Take the file for another one from now on: it has changed."""
        with self._lock:
            self._remote = None

    def read(self, start: int, stop: int, policy: RetryPolicy = DEFAULT_POLICY) -> bytes:
        """Return the bytes [start, stop), fewer only where the file ends.

        Raises
        ------
        NoRangesError
            The server ignores ranges, or answers with others.
        ChangedError
            The file is not the one of which the first range was read.
        TruncatedError
            The file is not as long as it should be, or bodies break off again and again.
        HTTPStatusError, UnreachableError
            As `open_url`.
        """
        for pause in (*policy.body_pauses, None):
            # What fails in here was already repeated, or cannot get better.
            with open_url(
                self.url,
                headers=self._conditions(start, stop),
                accept=(200, 206, 412, 416),
                policy=policy,
            ) as response:
                try:
                    return self._body(response, self._check(response, start, stop) - start)
                except (TruncatedError, UnreachableError, NoRangesError) as error:
                    if pause is None or not error.passing:
                        raise
                    logger.info("%s; trying again in %g s", error, pause)
            policy.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _conditions(self, start: int, stop: int) -> dict[str, str]:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        known = self._remote
        if known is not None and known.etag is not None and known.validator == known.etag:
            headers["If-Match"] = known.etag
        return headers

    def _body(self, response: requests.Response, count: int) -> bytes:
        body = bytearray()
        for chunk in read_chunks(response, self.url):
            body += chunk
            if len(body) > count:
                break
        if len(body) != count:
            raise TruncatedError(
                f"{self.url} sent {len(body):,} bytes where {count:,} were asked for: try again",
                url=self.url,
            )
        return bytes(body)

    def _check(self, response: requests.Response, start: int, stop: int) -> int:
        """Return where the answered range ends, or raise if it is not the wanted one."""
        status = response.status_code
        if status == 412:
            raise self._changed()
        if status == 200:
            raise NoRangesError(f"{self.url}: the server ignores ranges", url=self.url)
        if status == 416:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            self._check_length(int(total) if total.isdecimal() else None)
            raise self._too_short(f"has no bytes at {start:,} (HTTP 416)")
        found = answered_range(response)
        if found is None or found[0] != start or found[1] != min(stop, found[2]):
            wrong = NoRangesError(
                f"{self.url}: bytes {start}-{stop - 1} were asked for, and answered by "
                f"{response.headers.get('Content-Range', 'no range')!r}",
                url=self.url,
            )
            wrong.passing = True
            raise wrong
        self._check_length(found[2])
        remote = Remote.of(response, found[2])
        with self._lock:
            if self._remote is None:
                self._remote = remote
            elif not self._remote.is_same(remote):
                raise self._changed()
        return found[1]

    def _check_length(self, total: int | None) -> None:
        known = self._remote
        if total is not None and known is not None and total != known.length:
            raise self._changed()
        if total is not None and self.size is not None and total != self.size:
            raise self._too_short(f"has {total:,} bytes where the registry says {self.size:,}")

    def _too_short(self, what: str) -> TruncatedError:
        error = TruncatedError(
            f"{self.url} {what}: try again; if it stays so, the server's copy or the registry is "
            "out of date",
            url=self.url,
        )
        error.passing = False
        return error

    def _changed(self) -> ChangedError:
        return ChangedError(f"{self.url} changed while it was read: try again", url=self.url)


class RangePool:
    """Threads that ask for ranges; leave the context to stop them at once.

    Parameters
    ----------
    costs : RangeCosts
        How many connections.
    policy : RetryPolicy, optional
        Timeouts and repetitions.
    """

    def __init__(self, costs: RangeCosts, policy: RetryPolicy | None = None) -> None:
        self.costs = costs
        self._stopped = threading.Event()
        self.policy = policy = policy or DEFAULT_POLICY
        if policy.sleep is DEFAULT_POLICY.sleep:
            self.policy = replace(policy, sleep=self._sleep)
        self._threads: set[int] = set()
        self._executor = ThreadPoolExecutor(costs.jobs, "geotessera-range")
        self._allowed = allow(costs.jobs)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise UnreachableError("stopped")

    def __enter__(self) -> Self:
        """Count the connections as allowed."""
        self._allowed.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop what still runs: after an interrupt nobody waits for it."""
        self._stopped.set()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for thread in list(self._threads):
            abort(thread)
        self._allowed.__exit__(kind, error, traceback)

    def submit[T](self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Let a thread do something that uses one connection."""
        return self._executor.submit(self._with_connection, work, *args)

    def _with_connection[T](self, work: Callable[..., T], *args: Any) -> T:
        thread = threading.get_ident()
        with slot(self._stopped.is_set) as got:
            if not got:
                raise UnreachableError("stopped")
            self._threads.add(thread)
            try:
                return work(*args)
            finally:
                self._threads.discard(thread)

    def records(
        self, source: RangedObject, numbers: NDArray[np.int64], offset: int, record: int
    ) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        """Begin to read some records of equal size.

        Parameters
        ----------
        source : RangedObject
            The file.
        numbers, offset, record
            As for `pieces`.

        Returns
        -------
        out : ndarray of uint8, shape (n, record)
            Filled when all futures are done.
        futures : list of Future
            One a request; each raises as `RangedObject.read`.
        """
        import numpy as np

        out = np.empty((len(numbers), record), np.uint8)
        starts = offset + numbers * record

        def fill(piece: Piece) -> None:
            body = source.read(piece.start, piece.stop, self.policy)
            if len(body) != piece.stop - piece.start:
                raise TruncatedError(f"{source.url} ends within a pixel: try again", url=source.url)
            every = np.lib.stride_tricks.sliding_window_view(np.frombuffer(body, np.uint8), record)
            mine = slice(piece.first, piece.last)
            out[mine] = every[starts[mine] - piece.start]

        plan = pieces(numbers, offset, record, self.costs.gap)
        return out, [self.submit(fill, piece) for piece in plan]


def first_failure(futures: Iterable[Future[Any]]) -> Exception | None:
    """Wait for some work, and return the first failure in its order, or None.

    The rest is not begun after a failure; what runs is waited for.
    """
    from concurrent.futures import FIRST_EXCEPTION, wait

    work = list(futures)
    wait(work, return_when=FIRST_EXCEPTION)
    failed = any(one.done() and not one.cancelled() and one.exception() for one in work)
    if not failed:
        return None
    for one in work:
        one.cancel()
    wait(work)
    for one in work:
        if not one.cancelled() and (error := one.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            return error
    return None
