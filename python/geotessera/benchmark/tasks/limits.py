"""What the machine can do at most, measured with NumPy, hashlib, GDAL and sockets."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shared import Place

PAGE = mmap.PAGESIZE


def _in_threads(threads: int, work: Callable[[int], object]) -> Callable[[], object]:
    """Return a call that does numbered pieces of work at the same time."""
    pool = ThreadPoolExecutor(threads)
    list(pool.map(work, range(threads)))  # threads exist, pages are touched

    def run() -> object:
        list(pool.map(work, range(threads)))
        return None

    return run


def copy(place: Place, size: int, threads: int) -> Callable[[], object]:
    """Copy memory that is not in a cache (memcpy)."""
    import numpy as np

    source = np.ones((threads, size // threads), np.uint8)
    target = np.zeros_like(source)
    return _in_threads(threads, lambda i: np.copyto(target[i], source[i]))


def add(place: Place, size: int, threads: int) -> Callable[[], object]:
    """Add two arrays into a third (two reads and a write, as STREAM's sums)."""
    import numpy as np

    shape = (threads, size // threads // 12)
    a, b, c = (np.ones(shape, np.float32) for _ in range(3))
    return _in_threads(threads, lambda i: np.add(a[i], b[i], out=c[i]))


def fill(place: Place, size: int, threads: int) -> Callable[[], object]:
    """Write a constant."""
    import numpy as np

    target = np.zeros((threads, size // threads), np.uint8)
    return _in_threads(threads, lambda i: target[i].fill(1))


def touch(place: Place, size: int, threads: int) -> Callable[[], object]:
    """Write to memory for the first time, as every fresh result is: the kernel zeroes pages."""
    import numpy as np

    pool = ThreadPoolExecutor(threads)

    def run() -> object:
        target = np.empty((threads, size // threads), np.uint8)
        list(pool.map(lambda i: target[i].fill(1), range(threads)))
        return None

    return run


def fault(place: Place, pages: int) -> Callable[[], object]:
    """Touch small pages, one after the other, without huge ones."""
    import numpy as np

    def run() -> object:
        with mmap.mmap(-1, pages * PAGE) as memory:
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            view = np.frombuffer(memory, np.uint8)
            view[::PAGE] = 1
            del view
        return None

    return run


def digest(place: Place, algorithm: str, size: int, threads: int) -> Callable[[], object]:
    """Digest memory with OpenSSL."""
    data = memoryview(os.urandom(size // threads))
    return _in_threads(threads, lambda i: hashlib.new(algorithm, data).digest())


def compress(place: Place, size: int, how: str, threads: int) -> Callable[[], object]:
    """Write float32 embeddings as a GeoTIFF in memory with GDAL."""
    import numpy as np
    import rasterio
    from rasterio.io import MemoryFile

    side, bands = 512, max(1, size // (512 * 512 * 4))
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.integers(-2, 3, (bands, side, side)), axis=2) // 4
    scales = (0.04 + 0.03 * rng.random((side, side))).astype(np.float32)
    pixels = np.clip(walk, -127, 127).astype(np.float32) * scales
    profile = {"driver": "GTiff", "dtype": "float32", "count": bands, "height": side}
    profile |= {"width": side, "tiled": True, "compress": how, "num_threads": threads}
    profile |= {"interleave": "band"}  # twice as fast and more as pixel by pixel

    def run() -> object:
        with rasterio.Env(GDAL_CACHEMAX=512 << 20), MemoryFile() as memory:
            with memory.open(**profile) as dataset:
                dataset.write(pixels)
            return {"written_bytes": len(memory.getbuffer())}

    return run


def disk_write(place: Place, size: int) -> Callable[[], object]:
    """Write a file of the work directory until it is on the disk."""
    block = os.urandom(8 << 20)

    def run() -> object:
        path = place.scratch / "disk"
        with path.open("wb", buffering=0) as file:
            for _ in range(size // len(block)):
                file.write(block)
            os.fsync(file.fileno())
        return None

    return run


def disk_read(place: Place, size: int, cached: bool) -> Callable[[], object]:
    """Read a file of the work directory: from the disk, or from the page cache."""
    path = place.scratch / "disk"
    disk_write(place, size)()
    buffer = bytearray(8 << 20)

    def run() -> object:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
            if not cached and hasattr(os, "posix_fadvise"):  # for the next time
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return None

    run()
    return run


def http_rate(place: Place, size: int) -> Callable[[], object]:
    """Receive one large body from the server on this machine, over one connection."""
    import http.client
    from urllib.parse import urlsplit

    server = urlsplit(place.url)
    connection = http.client.HTTPConnection(server.hostname or "", server.port)
    buffer = bytearray(1 << 20)

    def run() -> object:
        connection.request("GET", f"{server.path}/large")
        answer = connection.getresponse()
        received = 0
        while count := answer.readinto(buffer):
            received += count
        if received != size:
            raise RuntimeError(f"{received} bytes instead of {size}")
        return None

    return run


def http_requests(place: Place, count: int) -> Callable[[], object]:
    """Ask the server for small ranges, one after the other, over one connection."""
    import socket
    from urllib.parse import urlsplit

    server = urlsplit(place.url)
    connection = socket.create_connection((server.hostname, server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    path = f"{server.path}/large".encode()
    request = b"GET %s HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n" % path

    def run() -> object:
        for _ in range(count):
            connection.sendall(request)
            answer = b""
            while not answer.partition(b"\r\n\r\n")[2]:
                answer += connection.recv(65536)
        return None

    return run


def interpreter(place: Place, imports: str) -> Callable[[], object]:
    """Start this interpreter and import something."""
    line: list[Any] = [sys.executable, "-c", f"import {imports}"]
    return lambda: subprocess.run(line, check=True) and None
