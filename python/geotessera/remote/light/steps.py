"""What is done on a connection that must not block: generators that yield what they wait for."""

from __future__ import annotations

import selectors
import ssl
from collections.abc import Generator
from typing import TYPE_CHECKING

from geotessera.remote.light.wire import grown_head, parse_head

if TYPE_CHECKING:
    from geotessera.remote.light.replies import OpenReply
    from geotessera.remote.light.wire import Connection, Headers

__all__ = ["READ", "WRITE", "Steps", "connect", "receive_body", "receive_head", "send"]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_HEAD_BYTES = 16 << 10
_PIECE_BYTES = 256 << 10
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)

type Steps[T] = Generator[int, None, T]
"""Yields what a connection waits for; an exception that is thrown in ends the waiting."""


def connect(connection: Connection) -> Steps[None]:
    """Wait for a connection that was begun, and shake hands."""
    yield WRITE
    if not connection.connected():
        return
    while True:
        try:
            connection.sock.do_handshake()
        except ssl.SSLWantReadError:
            yield READ
        except ssl.SSLWantWriteError:
            yield WRITE
        else:
            return


def send(connection: Connection, data: bytes) -> Steps[None]:
    """Send a request."""
    while data:
        try:
            data = data[connection.sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            yield WRITE
        except ssl.SSLWantReadError:
            yield READ


def receive_head(connection: Connection) -> Steps[tuple[int, Headers, bytes]]:
    """Receive the status, the headers, and what comes of the body with them."""
    receive, buffer = connection.sock.recv, b""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        try:
            more = receive(_HEAD_BYTES)
        except _WANT_READ:
            yield READ
        except ssl.SSLWantWriteError:
            yield WRITE
        else:
            buffer = grown_head(buffer, more)
    return *parse_head(buffer[:end]), buffer[end + 4 :]


def receive_body(connection: Connection, reply: OpenReply, length: int) -> Steps[bytes]:
    """Receive a body; raises `TransferError` where it does not arrive whole."""
    receive, got = connection.sock.recv, len(reply.begun)
    pieces = [reply.begun]
    try:
        while got < length:
            try:
                more = receive(min(length - got, _PIECE_BYTES))
            except _WANT_READ:
                yield READ
            except ssl.SSLWantWriteError:
                yield WRITE
            else:
                if not more:
                    break
                got += len(more)
                pieces.append(more)
    except OSError as error:
        raise reply.broken(got, length, error) from error
    if got < length:
        raise reply.broken(got, length)
    return b"".join(pieces)
