"""A server of files that costs little processor time: byte ranges and latency, no faults.

The tests' server (`geotessera.testing.server`) runs a thread for each connection, and with a
hundred of them takes more time than the clients that are measured on the same processors.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["serve"]

_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")


@lru_cache(4096)
def _file(path: str) -> tuple[int, int, bytes] | None:
    """Return descriptor, length and ETag of a file, which stays open."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    state = os.fstat(descriptor)
    return descriptor, state.st_size, b'"%x-%x"' % (state.st_size, state.st_mtime_ns)


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, root: Path, latency: float, traffic: dict[str, int]) -> None:
        self.root, self.latency, self.traffic = root, latency, traffic
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer whole requests after the latency."""
        self.pending += data
        while b"\r\n\r\n" in self.pending:
            head, _, self.pending = self.pending.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(self.latency, self.answer, head)

    def answer(self, head: bytes) -> None:
        """Answer one request, unless the client went away meanwhile."""
        if self.transport.is_closing():
            return
        line, *fields = head.split(b"\r\n")
        method, target, _ = line.split(b" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (each.partition(b":") for each in fields)
        }
        body, extra, status = self.content(target.decode(), headers.get(b"range"))
        self.traffic["requests"] += 1
        self.traffic["data_requests"] += b"/c/" in target
        self.traffic["sent"] += len(body)
        length = b"Content-Length: %d\r\n" % len(body)
        start = b"HTTP/1.1 %s\r\n%s%sAccept-Ranges: bytes\r\n\r\n" % (status, length, extra)
        self.transport.writelines([start, b"" if method == b"HEAD" else body])

    def content(self, target: str, wanted: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Return body, further header lines and status."""
        found = _file(f"{self.root}{target}") if ".." not in target else None
        if found is None or os.path.isdir(f"{self.root}{target}"):  # noqa: PTH112
            return b"", b"", b"404 Not Found"
        descriptor, size, tag = found
        match = _RANGE.fullmatch(wanted or b"")
        start, stop = 0, size
        if match and match[1]:
            start = int(match[1])
            stop = min(int(match[2]) + 1, size) if match[2] else size
        elif match:
            start = max(0, size - int(match[2]))
        if match and start >= stop:
            return b"", b"Content-Range: bytes */%d\r\n" % size, b"416 Range Not Satisfiable"
        body = os.pread(descriptor, stop - start, start)
        extra = b"ETag: %s\r\n" % tag
        if match is None:
            return body, extra, b"200 OK"
        extra += b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, size)
        return body, extra, b"206 Partial Content"


async def serve(root: Path, latency: float) -> None:
    """Serve until the standard input ends; answer its lines with what was asked since."""
    loop = asyncio.get_running_loop()
    traffic = dict.fromkeys(("requests", "sent", "data_requests"), 0)
    listener = await loop.create_server(
        lambda: Server(root, latency, traffic), "127.0.0.1", 0, backlog=1024
    )
    done = asyncio.Event()

    def told() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin.fileno())
            done.set()
            return
        print(json.dumps(traffic), flush=True)
        traffic.update(dict.fromkeys(traffic, 0))

    loop.add_reader(sys.stdin.fileno(), told)
    print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    await done.wait()
