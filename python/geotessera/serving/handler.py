"""One connection: its requests, one after another, and their answers."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geotessera.serving.binding import is_loopback
from geotessera.serving.conditions import (
    UNSATISFIABLE,
    State,
    is_unchanged,
    must_refuse,
    wanted_range,
)
from geotessera.serving.files import Refusal, listing, locate, media_type, open_file

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from typing import BinaryIO

    from geotessera.serving.server import Server

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""Until a request's head must be here, from its first byte."""

IDLE_SECONDS = 15.0
"""That a connection may wait for its next request."""

STALL_SECONDS = 30.0
"""That a client may take nothing of what it is sent."""

HEAD_BYTES = 65_536
"""That the head of a request may have."""

_BODY_HEADERS = ("Content-Length", "Transfer-Encoding")


class _HeadTooLargeError(Exception):
    pass


class _Reader(io.RawIOBase):
    """A socket that is read until a time, and up to a number of bytes, for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.allow(IDLE_SECONDS)

    def allow(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._left = HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._left <= 0:
            raise _HeadTooLargeError
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class Connection(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of the server's directory."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server  # type: ignore[assignment] # all that is used of it

    def setup(self) -> None:
        """Read through deadlines."""
        super().setup()
        self.rfile.close()
        self._reader = _Reader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self.close_connection = True
        self._lingers = False

    def handle(self) -> None:
        """Answer requests until the connection is to be closed, whatever comes."""
        try:
            self.close_connection = False
            while not self.close_connection and self._comes():
                self._answer_one()
        except (OSError, ValueError) as error:  # gone, stalled, or closed from outside
            logger.debug("connection of %s: %s", self.client_address, error)
        except Exception:
            # Never to the client, nor over the terminal of who serves a map.
            logger.debug("a request failed", exc_info=True)
            logger.error("a request could not be answered (details at level DEBUG)")
            with contextlib.suppress(OSError, ValueError):
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _comes(self) -> bool:
        """Wait for the first byte of a request."""
        self._reader.allow(IDLE_SECONDS)
        try:
            return bool(self.rfile.peek(1))  # type: ignore[attr-defined]
        except TimeoutError:
            return False

    def _answer_one(self) -> None:
        self._reader.allow(HEAD_SECONDS)
        # Until the request is known, answers are HTTP/1.1's, with a body.
        self.command, self.request_version, self.requestline = "", self.protocol_version, ""
        self.close_connection = True
        try:
            self.raw_requestline = self.rfile.readline(HEAD_BYTES + 1)
            if len(self.raw_requestline) > HEAD_BYTES:
                raise _HeadTooLargeError
            if not self.raw_requestline.endswith(b"\n") or not self.parse_request():
                return
        except _HeadTooLargeError:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        except TimeoutError:
            self.send_error(HTTPStatus.REQUEST_TIMEOUT)
            return
        self.connection.settimeout(STALL_SECONDS)
        if self.server.is_crowded:
            self.close_connection = True
        try:
            self._check()
            self._answer()
        except Refusal as refusal:
            if self.path == "/favicon.ico" and refusal.status is HTTPStatus.NOT_FOUND:
                # Browsers ask for it unasked, and would log that it is not there.
                self._send_head(HTTPStatus.NO_CONTENT, {})
            else:
                self._refuse(refusal.status, refusal.text)

    def _check(self) -> None:
        """Refuse what is no request for a file of this server."""
        if self.request_version == "HTTP/0.9":
            raise self._broken("HTTP/1.0 or 1.1 is needed")
        if any(name in self.headers for name in _BODY_HEADERS):
            # Nobody reads it: what follows would be taken for the next request.
            self.close_connection = self._lingers = True
        if self.command not in ("GET", "HEAD"):
            self.close_connection = True
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this server only answers GET and HEAD")
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1 or (not hosts and self.request_version != "HTTP/1.0"):
            raise self._broken("one Host is needed")
        # A page of another site may have its own name resolve to this machine.
        if hosts and self.server.is_local and not is_loopback(_name_of(hosts[0])):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server answers to localhost; to be asked by another name, it has to be "
                "started with --host",
            )

    def _broken(self, text: str) -> Refusal:
        self.close_connection = True
        return Refusal(HTTPStatus.BAD_REQUEST, text)

    def _answer(self) -> None:
        root = self.server.directory
        path = locate(root, self.path)
        if path.is_dir():
            place, _, query = self.path.partition("?")
            if not place.endswith("/"):
                self._redirect(path.relative_to(root), query)
                return
            index = path / "index.html"
            if not index.is_file():
                self._send_text(HTTPStatus.OK, listing(root, path), "text/html; charset=utf-8")
                return
            path = locate(root, place.rstrip("/") + "/index.html")
        with open_file(path) as file:
            self._send_file(path, file)

    def _redirect(self, path: Path, query: str) -> None:
        # From the path that was found, so that no other site can be named.
        location = "/" + quote(os.fsencode(path.as_posix())) + "/"
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", location + ("?" + quote(query, safe="=&%+") if query else ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, path: Path, file: BinaryIO) -> None:
        state = State.of(os.fstat(file.fileno()))
        if must_refuse(self.headers, state):
            raise Refusal(HTTPStatus.PRECONDITION_FAILED, "the file is another one by now")
        validators = {"ETag": state.etag, "Last-Modified": state.last_modified}
        if is_unchanged(self.headers, state):
            self._send_head(HTTPStatus.NOT_MODIFIED, validators)
            return
        part = wanted_range(self.headers, state) if self.command == "GET" else None
        if part == UNSATISFIABLE:
            self._send_head(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                {"Content-Range": f"bytes */{state.size}", "Content-Length": "0"},
            )
            return
        first, last = (part.start, part.stop) if part is not None else (0, state.size)
        headers = {
            "Content-Type": media_type(path.name),
            "Content-Length": str(last - first),
            "Accept-Ranges": "bytes",
            **validators,
        }
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{state.size}"
        status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
        self._send_head(status, headers)
        if self.command == "GET" and last > first:
            # The system copies it; a file that shrank meanwhile ends the connection.
            sent = self.connection.sendfile(file, first, last - first)
            if sent != last - first:
                self.close_connection = True

    def _send_text(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._send_head(
            status,
            {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            },
        )
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        """Add what every answer carries."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        # Pages of other sites may not take scripts and pictures from here.
        self.send_header("Cross-Origin-Resource-Policy", "same-site")
        if self.close_connection:
            self.send_header("Connection", "close")
        super().end_headers()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self._lingers = True
        body = f"{status.value} {status.phrase}: {text}\n".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD"
        self._send_head(status, headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what could not be read as a request, in plain text, and close."""
        self.close_connection = True
        self._lingers = True
        self.connection.settimeout(STALL_SECONDS)
        status = HTTPStatus(code)
        self._refuse(status, "this request is not understood")

    def handle_expect_100(self) -> bool:
        """Ask for no body: nobody reads it."""
        return True

    def finish(self) -> None:
        """Close, with the client's rest taken in first: else it might not see the answer."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        if self._lingers:
            self._linger()

    def _linger(self) -> None:
        until = time.monotonic() + 1.0
        with contextlib.suppress(OSError, ValueError):
            self.connection.shutdown(1)
            for _ in range(64):
                self.connection.settimeout(max(until - time.monotonic(), 0.01))
                if not self.connection.recv(65_536):
                    break

    def version_string(self) -> str:
        """Name the server, and no versions."""
        return "geotessera"

    def log_message(self, format: str, *args: Any) -> None:
        """Log at DEBUG, with what is not printable escaped."""
        text = (format % args).encode("unicode_escape").decode()
        logger.debug("%s %s", self.client_address[0], text)


def _name_of(host: str) -> str:
    """Return the name in a Host header: without its port, and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
