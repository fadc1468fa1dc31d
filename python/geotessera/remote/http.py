"""HTTP: one retry policy for every byte.

Rules: connect and per-read timeouts instead of a timeout for the whole body, which would
kill healthy slow transfers; ``Retry-After`` is obeyed; what cannot get better is not retried.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from geotessera.errors import (
    TransferError,
    TruncatedError,
    UnreachableError,
)
from geotessera.remote.failures import RETRY_STATUSES, chain, said, status_error
from geotessera.remote.session import release, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_POLICY",
    "Reply",
    "RetryPolicy",
    "answered",
    "enable_http_logging",
    "http_date",
    "is_encoded",
    "note_answer",
    "open_url",
    "read_chunks",
]

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
"""The most that is read from a connection at a time."""

_FAST_READ = 256 << 10
_FAST_RATE = 4e6
_RATE_SECONDS = 0.02

REFUSED_SECONDS = 30.0
"""So long after a host refused all attempts of a request, each further request is sent once."""


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long is waited for a server, and how often it is asked again.

    Parameters
    ----------
    connect_timeout : float
        Seconds to establish a connection.
    read_timeout : float
        Seconds without a single byte after which a transfer counts as stalled.
    retries : int
        How often a request is repeated after 429, 500, 502, 503, 504 or a failed
        connection.
    backoff : float
        Seconds before the first repetition; doubled each time.
    jitter : float
        Up to this fraction is added to each wait, so that many clients do not return
        together.
    longest_wait : float
        Cap of one wait in seconds, whatever ``Retry-After`` says.
    body_pauses : tuple of float
        Seconds before each new attempt after a body that broke off or did not verify.
    stall_timeout : float
        Seconds without a single byte for all files of a transfer together, after which it
        is given up. What is slow but moves is healthy.
    sleep : callable
        What waits; tests replace it.
    """

    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    jitter: float = 0.25
    longest_wait: float = 120.0
    body_pauses: tuple[float, ...] = (1.0, 2.0, 4.0)
    stall_timeout: float = 300.0
    sleep: Callable[[float], object] = _sleep

    def wait_before(self, retry: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait before a repetition, counted from 0."""
        wait = self.backoff * 2.0**retry if retry_after is None else retry_after
        return min(self.jittered(wait), self.longest_wait)

    def jittered(self, wait: float) -> float:
        """Return a wait lengthened a little, so that many clients do not return together."""
        return wait * (1 + self.jitter * random.random())


DEFAULT_POLICY = RetryPolicy()


def http_date(text: str | None) -> float | None:
    """Return the POSIX time of an HTTP date, or None where there is none or it is not one."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


class Reply(Protocol):
    """The head of an answer, whatever client it came from."""

    @property
    def status_code(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Any:
        """Headers: a mapping whose names have no case."""


def _retry_after(response: Reply) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    moment = http_date(text)
    return None if moment is None else max(moment - time.time(), 0.0)


@cache
def _hopeless() -> tuple[type[Exception], ...]:
    """Failures that repetition cannot cure."""
    from requests import exceptions as e

    return (e.InvalidURL, e.InvalidSchema, e.MissingSchema, e.TooManyRedirects, e.InvalidHeader)


_refused: dict[str, float] = {}
"""When hosts last refused a connection again and again, or had no address."""


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _goes_on_refusing(host: str, error: BaseException, *, repeated: bool) -> bool:
    """Return whether a host is known not to be there: more attempts would only take time.

    Nobody should wait half a minute for each file of a server that is gone. What is
    remembered is only how often to ask: each request does ask, and reports its own failure.
    """
    if not any(isinstance(each, ConnectionRefusedError | socket.gaierror) for each in chain(error)):
        return False
    known = time.monotonic() - _refused.get(host, -math.inf) < REFUSED_SECONDS
    if known or repeated:
        _refused[host] = time.monotonic()
    return known


def _reject(response: requests.Response) -> None:
    """Close an answer, but keep its connection if the rest of the body is small."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) <= 65536:
        response.raw.drain_conn()
    response.close()


def answered[R: Reply](
    url: str,
    send: Callable[[], R],
    reject: Callable[[R], object],
    *,
    failures: tuple[type[Exception], ...],
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (200,),
    policy: RetryPolicy = DEFAULT_POLICY,
) -> R:
    """Send a request until it is answered, by any client.

    Parameters
    ----------
    url : str
        What errors and the log call it.
    send : callable
        Sends it once, and returns the answer with its body unread.
    reject : callable
        Gives an answer up.
    failures : tuple of type
        What `send` raises where there is no connection, or no answer in time.
    method, headers
        For the log.
    accept, policy
        As for `open_url`.

    Raises
    ------
    HTTPStatusError, UnreachableError, TransferError
        As `open_url`.
    """
    host = _host(url)
    gone = False
    for retry in itertools.count():
        failure: TransferError
        asked: float | None = None
        began = time.monotonic()
        try:
            response = send()
        except TransferError:
            raise
        except failures as error:
            failure = UnreachableError(
                f"{url} could not be reached: {said(error)}; "
                "check the network, the base URL and the proxy settings",
                url=url,
            )
            failure.__cause__ = error
            # Waiting cures no certificate.
            again = not any(isinstance(e, ssl.SSLCertVerificationError) for e in chain(error))
            last = 0 < retry == policy.retries
            gone = _goes_on_refusing(host, error, repeated=last)
        else:
            note_answer(method, url, headers, response, time.monotonic() - began)
            if response.status_code in accept:
                return response
            asked = _retry_after(response)
            failure = refused = status_error(url, response.status_code, asked)
            refused.retry_after = asked
            again = response.status_code in RETRY_STATUSES
            reject(response)
        failure.passing = again
        wait = policy.wait_before(retry, asked)
        if gone or not again or retry >= policy.retries:
            raise failure
        logger.info("%s; trying again in %.1f s", failure, wait)
        policy.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def note_answer(
    method: str, url: str, headers: Mapping[str, str] | None, response: Reply, seconds: float
) -> None:
    """Log an answer, and that its server is there."""
    if _refused:
        _refused.pop(_host(url), None)
    if not logger.isEnabledFor(logging.DEBUG):
        return
    part = (headers or {}).get("Range", "")
    size = response.headers.get("Content-Length", "?")
    logger.debug(
        "%s %s %s: %d, %s bytes, %.0f ms",
        *(method, url, part or "whole", response.status_code, size, 1000 * seconds),
    )


def enable_http_logging(level: int = logging.DEBUG) -> None:
    """Write to stderr what is asked of servers.

    Parameters
    ----------
    level : int
        ``logging.DEBUG`` for every request, ``logging.INFO`` for what has to be repeated.
    """
    logger.setLevel(level)
    if not any(isinstance(handler, _Handler) for handler in logger.handlers):
        handler = _Handler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler of `enable_http_logging`, of which one is enough."""


@contextmanager
def open_url(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (200,),
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Iterator[requests.Response]:
    """Send a request until it is answered, and yield the answer with its body unread.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``; redirects are followed.
    method : str
        HTTP method.
    headers : mapping, optional
        Further request headers.
    accept : tuple of int
        Statuses that are an answer.
    policy : RetryPolicy
        Timeouts and repetitions.

    Yields
    ------
    requests.Response
        Closed afterwards; read it with `read_chunks`.

    Raises
    ------
    HTTPStatusError
        Any other status: `NotFoundError` for 404 and 410, `ForbiddenError` for 401, 403 and
        407, `ThrottledError` for 429 and 503.
    UnreachableError
        No connection, or no answer in time.
    TransferError
        An impossible URL, a redirect loop.
    """
    import requests

    timeout = (policy.connect_timeout, policy.read_timeout)

    def send() -> requests.Response:
        try:
            return session().request(
                method, url, headers=headers, stream=True, timeout=timeout, allow_redirects=True
            )
        except _hopeless() as error:
            raise TransferError(f"{url} cannot be requested: {error}", url=url) from error

    response = answered(
        url,
        send,
        _reject,
        method=method,
        headers=headers,
        failures=(requests.RequestException,),
        accept=accept,
        policy=policy,
    )
    if response.status_code == 304:
        response.raw.drain_conn()  # nothing comes: this gives the connection back
    try:
        with response:
            yield response
    finally:
        release()


def is_encoded(response: Reply) -> bool:
    """Return whether a server insisted on an encoding that was not asked for."""
    encoding: str = response.headers.get("Content-Encoding", "identity")
    return encoding.lower() != "identity"


def read_chunks(response: requests.Response, url: str) -> Iterator[bytes]:
    """Yield a body as it arrives, in pieces of at most `CHUNK_BYTES`.

    Raises
    ------
    TruncatedError
        If the connection ended before the announced length.
    UnreachableError
        If nothing arrived for the read timeout.
    """
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    encoded = is_encoded(response)
    # read1 returns what is there: progress is seen even where a link brings only kilobytes
    # a second. A decoder may have nothing to give yet: read.
    # On a fast link read waits for little and gives much: TLS brings 16 KiB a record, and
    # looking at each costs as much as to decipher it.
    got = 0
    fast = False
    since, before = time.monotonic(), 0
    while True:
        try:
            if fast or encoded:
                chunk: bytes = response.raw.read(_FAST_READ, decode_content=encoded)
            else:
                chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except (ReadTimeoutError, TimeoutError) as error:
            raise UnreachableError(
                f"{url} stalled after {got:,} bytes: nothing arrived for the read timeout; "
                "check the link and try again",
                url=url,
            ) from error
        except (HTTPError, OSError) as error:
            raise TruncatedError(
                f"{url} broke off after {got:,} of "
                f"{response.headers.get('Content-Length', 'unknown')} bytes ({said(error)}): "
                "try again",
                url=url,
            ) from error
        if not chunk:
            return
        got += len(chunk)
        yield chunk
        now = time.monotonic()
        if now - since > _RATE_SECONDS:
            fast = got - before > _FAST_RATE * (now - since)
            since, before = now, got
