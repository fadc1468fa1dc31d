"""A client for many small requests: what each costs is this process's own time.

1,480 ranges of 60 kB cost `requests` 1.1 s of processor time, `urllib3` 0.45 s, `http.client`
0.25 s and the few lines here 0.1 s. They send a GET and read an answer of announced length;
whatever else there is (proxies, a netrc file, redirects, chunks, encodings) is left to
`requests`.
"""

from __future__ import annotations

import atexit
import http.client
import os
import ssl
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from geotessera.errors import TransferError, TruncatedError, UnreachableError
from geotessera.remote.failures import said
from geotessera.remote.http import (
    DEFAULT_POLICY,
    Reply,
    answered,
    is_encoded,
    open_url,
    read_chunks,
)
from geotessera.remote.session import is_loopback, release, use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from geotessera.remote.http import RetryPolicy

__all__ = ["LightReply", "open_light"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IDLE_SECONDS = 60.0
_DRAIN_BYTES = 64 << 10
_HEAD_BYTES = 8 << 10
_MOST_HEAD = 64 << 10
_PORTS = {"http": 80, "https": 443}


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


@contextmanager
def open_light(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (200,),
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Iterator[LightReply]:
    """Send a request until it is answered, and yield the answer; as `open_url`, but lighter."""
    origin = _origin(url)
    if origin is not None:
        target = "/" + url.partition("://")[2].partition("/")[2]
        reply = answered(
            url,
            lambda: origin.send(target, headers or {}, policy, url),
            _Reply.give_up,
            headers=headers,
            failures=(OSError, http.client.HTTPException),
            accept=(*accept, *_REDIRECTS),
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
            raise _wrong_length(self._url, len(body), count)
        return bytes(body)


class _Reply:
    """An answer on a connection of an `_Origin`, with its body unread."""

    def __init__(self, origin: _Origin, connection: _Connection, url: str) -> None:
        self._origin, self._connection, self._url = origin, connection, url
        self.status_code, self.headers, self._begun = connection.read_head()
        announced = self.headers.get("content-length", "")
        self._left = int(announced) if announced.isdecimal() and len(announced) < 19 else -1
        if self.status_code in (204, 304):
            self._left = 0
        self.is_simple = (
            self._left >= 0
            and self.status_code >= 200
            and self.status_code not in _REDIRECTS
            and "transfer-encoding" not in self.headers
            and not is_encoded(self)
        )
        self._keeps = self.headers.get("connection", "").lower() != "close"

    def read(self, count: int | None = None) -> bytes:
        length, self._keeps, keeps = self._left, False, self._keeps
        if count is not None and length != count:
            raise _wrong_length(self._url, length, count)
        begun = self._begun
        if len(begun) < length:
            body = bytearray(length)
            body[: len(begun)] = begun
            self._fill(memoryview(body), len(begun))
            begun = bytes(body)
        elif len(begun) > length:
            raise _wrong_length(self._url, len(begun), length)
        self._left, self._keeps = 0, keeps
        return begun

    def _fill(self, body: memoryview, got: int) -> None:
        receive = self._connection.sock.recv_into
        try:
            while got < len(body) and (more := receive(body[got:])):
                got += more
        except TimeoutError as error:
            raise UnreachableError(
                f"{self._url} stalled after {got:,} bytes: nothing arrived for the read timeout; "
                "check the link and try again",
                url=self._url,
            ) from error
        except OSError as error:
            raise self._broken(got, len(body), said(error)) from error
        if got < len(body):
            raise self._broken(got, len(body), "the connection was closed")

    def _broken(self, got: int, length: int, why: str) -> TruncatedError:
        return TruncatedError(
            f"{self._url} broke off after {got:,} of {length:,} bytes ({why}): try again",
            url=self._url,
        )

    def give_up(self) -> None:
        """Give the connection back if nothing is left of the body, else close it."""
        release()
        if self._keeps and 0 < self._left <= _DRAIN_BYTES and self.is_simple:
            with suppress(TransferError):
                self.read()
        self._origin.take_back(self._connection, reusable=self._keeps and self._left == 0)


def _wrong_length(url: str, got: int, count: int) -> TruncatedError:
    return TruncatedError(
        f"{url} sent {got:,} bytes where {count:,} were asked for: try again", url=url
    )


class _Connection:
    """A connection: `abort` finds it by its attributes `user` and `sock`."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        if scheme == "https":
            self._opener: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, context=_context()
            )
        else:
            self._opener = http.client.HTTPConnection(host, port)
        self.sock: Any = None
        self.user = 0
        self.since = 0.0

    def open(self, timeout: float) -> None:
        self._opener.timeout = timeout
        self._opener.connect()
        self.sock = self._opener.sock

    def close(self) -> None:
        self._opener.close()

    def read_head(self) -> tuple[int, _Headers, bytes]:
        """Return the status, the headers, and what came of the body with them."""
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            more = self.sock.recv(_HEAD_BYTES)
            if not more:
                if not buffer:
                    raise http.client.RemoteDisconnected("the connection was closed unanswered")
                raise http.client.BadStatusLine("the connection was closed within the headers")
            buffer += more
            if len(buffer) > _MOST_HEAD:
                raise http.client.BadStatusLine("the headers have no end")
        first, *lines = buffer[:end].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isdecimal()):
            raise http.client.BadStatusLine(first[:100])
        headers = _Headers()
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if version == "HTTP/1.0":
            headers["connection"] = "close"
        return int(code), headers, buffer[end + 4 :]


class _Headers(dict[str, str]):
    """Headers by names in lower case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class _Origin:
    """The connections to one server."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        from geotessera import _native

        self._server = scheme, host, port
        self._idle: deque[_Connection] = deque()
        self._quiet_until = 0.0
        name = f"[{host}]" if ":" in host else host
        named = name if port == _PORTS[scheme] else f"{name}:{port}"
        self._common = (
            f" HTTP/1.1\r\nHost: {named}\r\nUser-Agent: geotessera/{_native.__version__}\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\n"
        )

    def send(
        self, target: str, headers: Mapping[str, str], policy: RetryPolicy, url: str
    ) -> _Reply:
        """Send a request once.

        A connection that was kept alive may have been closed by the server meanwhile: then
        a fresh one is taken, which counts as the same attempt.
        """
        quiet = self._quiet_until - time.monotonic()
        if quiet > 0:
            policy.sleep(min(policy.jittered(quiet), policy.longest_wait))
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        message = f"GET {target}{self._common}{lines}\r\n"
        if not message.isascii() or message.count("\r\n") != 6 + len(headers):
            raise TransferError(f"{url} cannot be requested: check the URL", url=url)
        data = message.encode("ascii")
        while True:
            connection = self._take()
            kept = connection is not None
            if connection is None:
                connection = _Connection(*self._server)
            use(connection)
            try:
                if not kept:
                    connection.open(policy.connect_timeout)
                connection.sock.settimeout(policy.read_timeout)
                connection.sock.sendall(data)
                reply = _Reply(self, connection, url)
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                release()
                if not kept:
                    raise
            except BaseException:
                connection.close()
                release()
                raise
        if reply.status_code in (429, 503):
            after = reply.headers.get("retry-after", "").strip()
            if after.isdecimal():  # it is meant for all threads, not only for this one
                self._quiet_until = time.monotonic() + min(float(after[:9]), policy.longest_wait)
        return reply

    def _take(self) -> _Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if time.monotonic() - connection.since < _IDLE_SECONDS and not _is_dropped(connection):
                return connection
            connection.close()
        return None

    def take_back(self, connection: _Connection, *, reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if not reusable:
            connection.close()
            return
        connection.since = time.monotonic()
        self._idle.append(connection)
        self.trim(connection.since)

    def trim(self, now: float) -> None:
        """Close what was idle for long."""
        with suppress(IndexError):
            while now - self._idle[0].since > _IDLE_SECONDS:
                self._idle.popleft().close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()


def _is_dropped(connection: _Connection) -> bool:
    """Return whether something came unasked on an idle connection: usually its end."""
    sock = connection.sock
    sock.settimeout(0)
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


@cache
def _context() -> ssl.SSLContext:
    import certifi

    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    chosen = next((path for name in names if (path := os.environ.get(name))), certifi.where())
    if Path(chosen).is_dir():
        return ssl.create_default_context(capath=chosen)
    return ssl.create_default_context(cafile=chosen)


def _is_plain(url: str, host: str) -> bool:
    """Return whether nothing in the environment says how this host is to be asked."""
    from urllib.request import getproxies, proxy_bypass

    named = os.environ.get("NETRC")
    files = [named] if named else ["~/.netrc", "~/_netrc"]
    if any(Path(file).expanduser().exists() for file in files):
        return False
    scheme = url.partition("://")[0]
    proxies = getproxies()
    if is_loopback(url) or not (proxies.get(scheme) or proxies.get("all")):
        return True
    return bool(proxy_bypass(host))


_origins: dict[str, _Origin | None] = {}
_lock = threading.Lock()


def _origin(url: str) -> _Origin | None:
    """Return the connections to a URL's server; None if `requests` has to be used."""
    base = "/".join(url.split("/", 3)[:3]).lower()
    try:
        return _origins[base]
    except KeyError:
        pass
    with _lock:
        if base not in _origins:
            parts = urlsplit(base)
            try:
                port = parts.port or _PORTS[parts.scheme]
            except (ValueError, KeyError):
                return None
            host = parts.hostname or ""
            plain = bool(host) and not parts.username and _is_plain(base, host)
            for other in _origins.values():  # they may never be asked again
                if other is not None:
                    other.trim(time.monotonic())
            _origins[base] = _Origin(parts.scheme, host, port) if plain else None
        return _origins[base]


def _forget() -> None:
    # A child must not speak on its parent's connections.
    global _lock
    _lock = threading.Lock()
    _origins.clear()


@atexit.register
def _close_all() -> None:
    for origin in _origins.values():
        if origin is not None:
            origin.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
