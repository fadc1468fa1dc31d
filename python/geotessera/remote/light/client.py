"""A client for many small requests: what each costs is this process's own time.

1,480 ranges of 60 kB cost `requests` 1.1 s of processor time, `urllib3` 0.45 s, `http.client`
0.25 s and the few lines of `origins` 0.1 s; what they do not speak is left to `requests`.
"""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from geotessera.errors import TransferError
from geotessera.remote.http import DEFAULT_POLICY, Reply, answered, open_url, read_chunks
from geotessera.remote.light.origins import origin_of
from geotessera.remote.light.replies import REDIRECTS, OpenReply, wrong_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from geotessera.remote.http import RetryPolicy

__all__ = ["Begun", "LightReply", "open_light"]


class LightReply(Reply, Protocol):
    """An answer with its body unread."""

    def read(self, count: int | None = None) -> bytes:
        """Return the body: exactly `count` bytes of it, or all.

        Raises
        ------
        TruncatedError
            It is shorter, or longer than `count`.
        UnreachableError
            It stalled.
        """


class Begun:
    """What became of a request that was sent once already, for who goes on with it.

    Parameters
    ----------
    outcome : OpenReply or Exception
        The answer with its body unread, or what happened instead.
    """

    def __init__(self, outcome: OpenReply | Exception) -> None:
        self._outcome: OpenReply | Exception | None = outcome

    def take(self) -> OpenReply | None:
        """Return the answer, or raise what happened; None from the second time on."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def take_broken(self) -> TransferError | None:
        """Return the error of a body that did not arrive, once; else None."""
        outcome = self._outcome
        if not isinstance(outcome, TransferError):
            return None
        self._outcome = None
        return outcome

    def close(self) -> None:
        """Give up an answer that nobody took."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, OpenReply):
            outcome.give_up()


@contextmanager
def open_light(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (200,),
    policy: RetryPolicy = DEFAULT_POLICY,
    begun: Begun | None = None,
) -> Iterator[LightReply]:
    """Send a request until it is answered, and yield the answer; as `open_url`, but lighter.

    Parameters
    ----------
    url, headers, accept, policy
        As for `open_url`.
    begun : Begun, optional
        The first attempt, if it was made already.
    """
    origin = origin_of(url)
    if origin is not None:
        target = "/" + url.partition("://")[2].partition("/")[2]

        def send() -> OpenReply:
            reply = begun.take() if begun else None
            return reply or origin.send(target, headers or {}, policy, url)

        reply = answered(
            url,
            send,
            OpenReply.give_up,
            headers=headers,
            failures=(OSError, http.client.HTTPException),
            accept=(*accept, *REDIRECTS),
            policy=policy,
        )
        try:
            if reply.is_simple:
                yield reply
                return
        finally:
            reply.give_up()
    with open_url(url, headers=headers, accept=accept, policy=policy) as response:
        yield _HeavyReply(response, url)


class _HeavyReply:
    """An answer that came through `requests`."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self.status_code = response.status_code
        self.headers: Any = response.headers
        self._response, self._url = response, url

    def read(self, count: int | None = None) -> bytes:
        body = bytearray()
        for chunk in read_chunks(self._response, self._url):
            body += chunk
            if count is not None and len(body) > count:
                break
        if count is not None and len(body) != count:
            raise wrong_length(self._url, len(body), count)
        return bytes(body)
