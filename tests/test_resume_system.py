"""Interrupted and starved by the system itself: Ctrl-C, and a disk that is full."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from engine_helpers import litter
from geotessera.errors import DiskFullError
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest
from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = random.Random(7).randbytes(3_000_000)

CHILD = """
import sys, threading
from pathlib import Path
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest
url, out, size = sys.argv[1:]
request = FileRequest(url, Path(out), size=int(size))
print("go", flush=True)
try:
    list(transfer([Group(0, (request,))], jobs=3, block=16384, span=65536))
except KeyboardInterrupt:
    print("left", [t.name for t in threading.enumerate() if t.name == "geotessera"], flush=True)
    raise SystemExit(130)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.npy").write_bytes(BODY)
    with LoopbackServer(tmp_path / "root") as running:
        yield running


@pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX thing")
@pytest.mark.parametrize("how", ["slow", "silent"])
def test_ctrl_c_waits_for_no_server_and_can_be_resumed(
    how: str, server: LoopbackServer, tmp_path: Path
) -> None:
    dest = tmp_path / "out" / "a.npy"
    # Eight spans come at once, and the rest so slowly that it is never there, or not at all.
    server.add(Fault("bandwidth", skip=8, rate=10_000))
    if how == "silent":
        server.add(Fault("stall", skip=8, after=100, seconds=600))
    line = [sys.executable, "-c", CHILD, server.url_of("a.npy"), str(dest), str(len(BODY))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        until(
            lambda: sum(each.sent for each in server.requests) >= 500_000,
            lambda: child.poll() is None,
        )
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "left []\n"
        ended = time.monotonic() - began
        assert child.wait(PATIENCE) == 130
    assert ended < 50
    assert not dest.exists()
    assert len(litter(tmp_path)) == 2
    server.clear()
    request = FileRequest(server.url_of("a.npy"), dest, size=len(BODY))
    (result,) = transfer([Group(0, (request,))], block=16384, span=65536)
    assert result.error is None
    assert dest.read_bytes() == BODY
    assert sum(each.sent for each in server.requests) < len(BODY) - 200_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where this process may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(line, capture_output=True, check=False)
    except OSError:
        pytest.skip("this system has no mount command")
    if done.returncode:
        pytest.skip("this process may not mount file systems")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_too_small_is_found_before_its_bytes_come(
    server: LoopbackServer, small_disk: Path
) -> None:
    request = FileRequest(server.url_of("a.npy"), small_disk / "a.npy", size=len(BODY))
    with pytest.raises(DiskFullError, match="room"):
        list(transfer([Group(0, (request,))], block=16384, span=65536))
    assert list(small_disk.iterdir()) == []
    assert sum(each.sent for each in server.requests) <= 65536
