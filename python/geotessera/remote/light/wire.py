"""A connection to a web server, and the heads of the answers that come on it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["HEAD_BYTES", "Connection", "Headers", "grown_head", "parse_head"]

HEAD_BYTES = 8 << 10
"""What is read at a time of an answer's head, and what there is of its body with it."""

_MOST_HEAD = 64 << 10


class Headers(dict[str, str]):
    """Headers by names in lower case."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header by its name in any case."""
        return self[name] if name in self else super().get(name.lower(), default)


def parse_head(head: bytes) -> tuple[int, Headers]:
    """Return the status and the headers of an answer.

    Parameters
    ----------
    head : bytes
        What came before the empty line.

    Raises
    ------
    http.client.BadStatusLine
        It is no answer of HTTP/1.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isdecimal()):
        raise http.client.BadStatusLine(first[:100])
    headers = Headers()
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if version == "HTTP/1.0":
        headers["connection"] = "close"
    return int(code), headers


def grown_head(buffer: bytes, more: bytes) -> bytes:
    """Return headers and what came of them next.

    Raises
    ------
    http.client.RemoteDisconnected
        There is no answer.
    http.client.BadStatusLine
        It does not end.
    """
    if not more:
        if not buffer:
            raise http.client.RemoteDisconnected("the connection was closed unanswered")
        raise http.client.BadStatusLine("the connection was closed within the headers")
    buffer += more
    if len(buffer) > _MOST_HEAD:
        raise http.client.BadStatusLine("the headers have no end")
    return buffer


class Connection:
    """A connection: `session.abort` finds it by its attributes `user` and `sock`."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self._server = scheme, host, port
        self.sock: Any = None
        self.user = 0
        self.since = 0.0

    def open(self, timeout: float) -> None:
        """Connect, and wait until that is done."""
        scheme, host, port = self._server
        if scheme == "https":
            opener: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=_context()
            )
        else:
            opener = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            opener.connect()
        except BaseException:
            opener.close()
            raise
        self.sock = opener.sock

    def begin(self, family: int, address: Any) -> None:
        """Begin to connect to an address that was seen to answer, without waiting."""
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            self.sock.connect(address)

    def connected(self) -> bool:
        """Go on once the socket can be written: return whether a handshake is still to be done.

        Raises
        ------
        OSError
            Nobody is there.
        """
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        scheme, host, _ = self._server
        if scheme != "https":
            return False
        plain, self.sock = self.sock, None
        self.sock = _context().wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        return True

    def close(self) -> None:
        """Close it; nothing happens if it is not open."""
        if self.sock is not None:
            self.sock.close()

    def read_head(self) -> tuple[int, Headers, bytes]:
        """Return the status, the headers, and what came of the body with them."""
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            buffer = grown_head(buffer, self.sock.recv(HEAD_BYTES))
        return *parse_head(buffer[:end]), buffer[end + 4 :]


@cache
def _context() -> ssl.SSLContext:
    import certifi

    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    chosen = next((path for name in names if (path := os.environ.get(name))), certifi.where())
    if Path(chosen).is_dir():
        return ssl.create_default_context(capath=chosen)
    return ssl.create_default_context(cafile=chosen)
