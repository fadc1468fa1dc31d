"""A file server on this machine that misbehaves on demand and counts what it is asked.

It serves a directory tree as object stores do: ranges, ETags (the body's MD5),
Last-Modified, conditional requests, connections kept alive.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urlsplit

from geotessera.testing.faults import Fault, FaultKind, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Fault", "FaultKind", "LoopbackServer", "Request"]

_CHUNK = 64 << 10
_BYTE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_HTTP_ERRORS = (ConnectionError, TimeoutError)


class LoopbackServer:
    """Serves a directory on 127.0.0.1, at a port that the system chooses.

    Parameters
    ----------
    root : path-like
        Directory to serve.
    latency : float
        Seconds before every answer.
    bandwidth : float
        Bytes per second of each connection.
    faults : iterable of Fault
        Misbehaviour from the start; `add` and `clear` change it.

    Attributes
    ----------
    requests : list of Request
        Everything that was asked, in order of arrival.
    connections : int
        Connections that were opened.
    peak : int
        The most requests that were answered at the same time.

    Examples
    --------
    >>> import tempfile, urllib.request
    >>> from pathlib import Path
    >>> root = Path(tempfile.mkdtemp())
    >>> _ = (root / "a.txt").write_text("hello")
    >>> with LoopbackServer(root) as server:
    ...     with urllib.request.urlopen(server.url + "/a.txt") as answer:
    ...         answer.read()
    ...     len(server.requests)
    b'hello'
    1
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        latency: float = 0.0,
        bandwidth: float = float("inf"),
        faults: Iterable[Fault] = (),
    ) -> None:
        self.root = Path(root)
        self.latency = latency
        self.bandwidth = bandwidth
        self.requests: list[Request] = []
        self.connections = 0
        self.peak = 0
        self._active = 0
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: dict[int, int] = {}
        self._etags: dict[tuple[str, int, int], str] = {}
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._http = _Server(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.01,), name="LoopbackServer", daemon=True
        )
        self.add(*faults)

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def bytes_sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(request.sent for request in self.requests)

    def url_of(self, relative: str | os.PathLike[str]) -> str:
        """Return the URL of a file below the root."""
        return f"{self.url}/{quote(Path(relative).as_posix())}"

    def count(self, pattern: str = "*") -> int:
        """Return how many requests had a path that matches a pattern."""
        return sum(fnmatch.fnmatchcase(request.path, pattern) for request in self.requests)

    def add(self, *faults: Fault) -> None:
        """Misbehave in further ways from now on."""
        with self._lock:
            self._faults += faults

    def clear(self) -> None:
        """Forget the log, and behave from now on."""
        with self._lock:
            self._faults.clear()
            self._seen.clear()
            self.requests.clear()

    def start(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, and close all connections."""
        self._closing.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        with self._lock:
            open_sockets = list(self._sockets)
        for connection in open_sockets:
            with suppress(OSError):  # the other side may have closed it
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What the handlers ask for.

    def _matching(self, path: str) -> list[Fault]:
        found = []
        with self._lock:
            for fault in self._faults:
                if not fnmatch.fnmatchcase(path, fault.path):
                    continue
                seen = self._seen.get(id(fault), 0)
                self._seen[id(fault)] = seen + 1
                if seen >= fault.skip and (fault.times is None or seen < fault.skip + fault.times):
                    found.append(fault)
        return found

    def _etag(self, path: Path, stat: os.stat_result) -> str:
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in self._etags:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "md5").hexdigest()
            self._etags[key] = f'"{digest}"'
        return self._etags[key]

    def _resolve(self, path: str) -> Path | None:
        """Return the file that a decoded path names; never one outside the root."""
        parts = [part for part in path.split("/") if part]
        if any(part in (".", "..") or re.search(r"[\\\0]", part) for part in parts):
            return None
        found = self.root.joinpath(*parts)
        return found if found.is_file() else None


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(self, owner: LoopbackServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # Without the base class's look-up of the host's name, which may take seconds.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.owner._lock:
            self.owner._sockets.add(request)
            self.owner.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.owner._lock:
            self.owner._sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a small body must not wait for an acknowledgement
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.server.owner
        url = urlsplit(self.path)
        log = Request(
            self.command,
            unquote(url.path),
            {name.lower(): value for name, value in self.headers.items()},
            self.headers.get("Range"),
        )
        with owner._lock:
            owner.requests.append(log)
            owner._active += 1
            owner.peak = max(owner.peak, owner._active)
        answer = _Answer(self, log, url.query, owner._matching(log.path))
        try:
            answer.send()
        except _HTTP_ERRORS:
            self.close_connection = True
        finally:
            answer.end()

    do_HEAD = do_GET  # noqa: N815 - the base class's name


class _Answer:
    """The answer to one request."""

    def __init__(self, handler: _Handler, log: Request, query: str, faults: list[Fault]) -> None:
        self.handler, self.log, self.query = handler, log, query
        self.owner = handler.server.owner
        self.faults = faults
        self.headers: dict[str, str] = {}
        self.counts = True

    def end(self) -> None:
        """Count it no more: called before its last byte, after which a client may ask again."""
        if self.counts:
            self.counts = False
            with self.owner._lock:
                self.owner._active -= 1

    def of_kind(self, *kinds: FaultKind) -> Iterator[Fault]:
        return (fault for fault in self.faults if fault.kind in kinds)

    def send(self) -> None:
        delay = self.owner.latency + sum(fault.seconds for fault in self.of_kind("latency"))
        if delay:
            self.owner._closing.wait(delay)
        for fault in self.of_kind("status"):
            if fault.retry_after is not None:
                self.headers["Retry-After"] = str(fault.retry_after)
            self.send_empty(fault.status)
            return
        if not self.query:
            for fault in self.of_kind("redirect"):
                self.headers["Location"] = fault.location or f"{self.handler.path}?redirected"
                self.send_empty(302)
                return
        path = self.owner._resolve(self.log.path)
        if path is None:
            self.send_empty(404)
        else:
            self.send_file(path)

    def send_headers(self, status: int, length: int) -> None:
        self.headers["Content-Length"] = str(length)
        for fault in self.of_kind("header"):
            for name, value in fault.headers.items():
                self.headers.pop(name, None)
                if value is not None:
                    self.headers[name] = value
        self.log.status = status
        self.handler.send_response(status)
        for name, value in self.headers.items():
            self.handler.send_header(name, value)
        if self.handler.close_connection:
            self.handler.send_header("Connection", "close")
        if self.log.method != "GET" or self.headers.get("Content-Length") == "0":
            self.end()
        self.handler.end_headers()

    def send_empty(self, status: int) -> None:
        self.send_headers(status, 0)

    def send_file(self, path: Path) -> None:
        stat = path.stat()
        etag = self.owner._etag(path, stat)
        self.headers = {
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Last-Modified": formatdate(int(stat.st_mtime), usegmt=True),
        }
        if self.is_current(etag, int(stat.st_mtime)):
            self.log.status = 304
            self.handler.send_response(304)
            for name in ("ETag", "Last-Modified"):
                self.handler.send_header(name, self.headers[name])
            self.end()
            self.handler.end_headers()
            return
        status, start, stop = self.window(stat.st_size, etag)
        if status == 416:
            self.headers["Content-Range"] = f"bytes */{stat.st_size}"
            self.send_empty(416)
            return
        if status == 206:
            self.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
        announced = stop - start
        for fault in self.of_kind("wrong-length"):
            announced += fault.extra
            self.handler.close_connection = True
        self.send_headers(status, max(announced, 0))
        if self.log.method == "GET":
            self.send_body(path, start, min(stop, start + max(announced, 0)))

    def is_current(self, etag: str, mtime: int) -> bool:
        known = self.log.headers.get("if-none-match")
        if known is not None:
            return known.strip() == "*" or etag in [tag.strip() for tag in known.split(",")]
        since = self.log.headers.get("if-modified-since")
        try:
            return since is not None and parsedate_to_datetime(since).timestamp() >= mtime
        except ValueError:
            return False

    def window(self, size: int, etag: str) -> tuple[int, int, int]:
        """Return the status and the first and last byte (exclusive) to send."""
        if any(self.of_kind("no-range")):
            return 200, 0, size
        self.headers["Accept-Ranges"] = "bytes"
        match = _BYTE_RANGE.fullmatch((self.log.range or "").replace(" ", ""))
        if self.log.method != "GET" or match is None or match[0] == "bytes=-":
            return 200, 0, size
        if self.log.headers.get("if-range", etag) not in (etag, self.headers["Last-Modified"]):
            return 200, 0, size
        if not match[1]:
            start, stop = max(size - int(match[2]), 0), size
        else:
            start = int(match[1])
            stop = min(int(match[2]) + 1, size) if match[2] else size
            if match[2] and int(match[2]) < start:
                return 200, 0, size
        return (206, start, stop) if start < stop else (416, 0, 0)

    def send_body(self, path: Path, start: int, stop: int) -> None:
        rate = min([self.owner.bandwidth, *(fault.rate for fault in self.of_kind("bandwidth"))])
        spoiled = any(self.of_kind("corrupt", "truncate", "reset", "stall"))
        if rate == float("inf") and not spoiled:
            self.log.sent = stop - start  # before the client can have it
            if stop > start:
                with path.open("rb") as file:
                    if stop - start > 1:
                        self.handler.connection.sendfile(file, start, stop - start - 1)
                    self.end()
                    self.handler.connection.sendfile(file, stop - 1, 1)
            return
        self.send_slowly(path, start, stop, rate)

    def send_slowly(self, path: Path, start: int, stop: int, rate: float) -> None:
        """Send in chunks that end where something is to happen."""

        def position(fault: Fault) -> int:
            return (stop - start) // 2 if fault.after is None else min(fault.after, stop - start)

        events = sorted(
            ((position(fault), fault) for fault in self.of_kind("truncate", "reset", "stall")),
            key=lambda event: event[0],
        )
        flipped = [position(fault) for fault in self.of_kind("corrupt")]
        began, done = time.monotonic(), 0
        # Slow is steady, not silent; a large piece leaves the machine to the client.
        piece = _CHUNK if events or flipped else 16 * _CHUNK
        most = int(max(1, min(piece, rate / 20)))
        with path.open("rb") as file:
            file.seek(start)
            while True:
                while events and events[0][0] == done:
                    if self.happen(events.pop(0)[1]):
                        return
                if done == stop - start:
                    return
                end = min(done + most, stop - start, *(at for at, _ in events))
                chunk: bytes | bytearray = file.read(end - done)
                for at in flipped:
                    if done <= at < end:
                        chunk = bytearray(chunk)
                        chunk[at - done] ^= 0xFF
                self.log.sent += len(chunk)
                if end == stop - start:
                    self.end()
                self.handler.wfile.write(chunk)
                done = end
                ahead = done / rate - (time.monotonic() - began)
                if ahead > 0 and self.owner._closing.wait(ahead):
                    raise ConnectionAbortedError

    def happen(self, fault: Fault) -> bool:
        """Let a fault happen in the middle of a body; return whether that was the end."""
        if fault.kind == "stall":
            return self.owner._closing.wait(fault.seconds)
        self.handler.close_connection = True
        connection = self.handler.connection
        if fault.kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(connection.detach())
        return True
