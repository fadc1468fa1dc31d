"""Connections to web servers, kept alive: of each server its own, shared by all threads.

They speak the plain part of HTTP/1.1: a GET, and an answer of announced length. What else there
is (proxies, a netrc file, redirects, chunks, encodings) is left to `requests`.
"""

from __future__ import annotations

import atexit
import http.client
import os
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geotessera.errors import TransferError
from geotessera.remote.light.replies import OpenReply
from geotessera.remote.light.wire import Connection
from geotessera.remote.session import is_loopback, release, use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geotessera.remote.http import RetryPolicy

__all__ = ["Origin", "origin_of"]

_IDLE_SECONDS = 60.0
_PORTS = {"http": 80, "https": 443}


class Origin:
    """The connections to one server.

    Attributes
    ----------
    place : tuple or None
        Family and address of a connection that was opened, for the next ones.
    turn : threading.Lock
        Held by who sends many requests, until all are sent.
    """

    def __init__(self, scheme: str, host: str, port: int) -> None:
        from geotessera import _native

        self.place: tuple[int, Any] | None = None
        self.turn = threading.Lock()
        self._server = scheme, host, port
        self._idle: deque[Connection] = deque()
        self._quiet_until = 0.0
        name = f"[{host}]" if ":" in host else host
        named = name if port == _PORTS[scheme] else f"{name}:{port}"
        self._common = (
            f" HTTP/1.1\r\nHost: {named}\r\nUser-Agent: geotessera/{_native.__version__}\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\n"
        )

    def send(
        self, target: str, headers: Mapping[str, str], policy: RetryPolicy, url: str
    ) -> OpenReply:
        """Send a request once.

        A connection that was kept alive may have been closed by the server meanwhile: then
        a fresh one is taken, which counts as the same attempt.
        """
        quiet = self.quiet_seconds
        if quiet > 0:
            policy.sleep(min(policy.jittered(quiet), policy.longest_wait))
        data = self.message(target, headers, url)
        while True:
            connection = self.take()
            kept = connection is not None
            if connection is None:
                connection = self.fresh()
            use(connection)
            try:
                if not kept:
                    self.open(connection, policy)
                connection.sock.settimeout(policy.read_timeout)
                connection.sock.sendall(data)
                reply = OpenReply(self, connection, url, *connection.read_head())
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
        self.heed(reply, policy)
        return reply

    def message(self, target: str, headers: Mapping[str, str], url: str) -> bytes:
        """Return the bytes of a request.

        Raises
        ------
        TransferError
            They would not be one.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        message = f"GET {target}{self._common}{lines}\r\n"
        # A blank, or any control character but those that end our lines, is somebody else's.
        ends = 6 + len(headers)
        if (
            not message.isascii()
            or not target.isprintable()
            or " " in target
            or message.count("\r\n") != ends
            or message.count("\r") != ends
            or message.count("\n") != ends
            or "\0" in message
        ):
            raise TransferError(f"{url} cannot be requested: check the URL", url=url)
        return message.encode("ascii")

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def quiet_seconds(self) -> float:
        """Seconds for which the server asked to be left alone, still."""
        return self._quiet_until - time.monotonic()

    def heed(self, reply: OpenReply, policy: RetryPolicy) -> None:
        """Note what an overloaded server asks for: it is meant for all threads, not for one."""
        if reply.status_code in (429, 503):
            after = reply.headers.get("retry-after", "").strip()
            if after.isdecimal():
                self._quiet_until = time.monotonic() + min(float(after[:9]), policy.longest_wait)

    def fresh(self) -> Connection:
        """Return a connection that is not open yet."""
        return Connection(*self._server)

    def open(self, connection: Connection, policy: RetryPolicy) -> None:
        """Open a fresh connection, and note where that succeeded."""
        connection.open(policy.connect_timeout)
        self.place = connection.sock.family, connection.sock.getpeername()

    def take(self) -> Connection | None:
        """Return an idle connection, or None."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if time.monotonic() - connection.since < _IDLE_SECONDS and not _is_dropped(connection):
                return connection
            connection.close()
        return None

    def take_back(self, connection: Connection, *, reusable: bool) -> None:
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


def _is_dropped(connection: Connection) -> bool:
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


_origins: dict[str, Origin | None] = {}
_lock = threading.Lock()


def origin_of(url: str) -> Origin | None:
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
            _origins[base] = Origin(parts.scheme, host, port) if plain else None
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
