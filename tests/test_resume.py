"""Interrupted transfers: killed, crashed, taken over, shared; never a wrong file."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine_helpers import BLOCK, FAST, NAMES, SPAN, fetch, files, litter, publish, tile_group
from geotessera.remote import disk, owner
from geotessera.remote.owner import Owner
from geotessera.remote.transfer import leftovers, resume
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILD = """
import sys
from pathlib import Path
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest
url, out, size, sha256, jobs = sys.argv[1:]
request = FileRequest(url, Path(out), size=int(size), sha256=sha256 or None)
print("go", flush=True)
for result in transfer([Group(0, (request,))], jobs=int(jobs), block=16384, span=65536):
    if result.error is not None:
        raise result.error
"""

BIG = random.Random(5).randbytes(4_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    publish(tmp_path / "root")
    (tmp_path / "root" / "big.npy").write_bytes(BIG)
    with LoopbackServer(tmp_path / "root") as running:
        yield running


def start_child(server: LoopbackServer, dest: Path, sha256: str = "") -> subprocess.Popen[str]:
    line = [sys.executable, "-c", CHILD, server.url_of("big.npy"), str(dest), str(len(BIG))]
    return subprocess.Popen([*line, sha256, "4"], stdout=subprocess.PIPE, text=True)


def wait_for_bytes(server: LoopbackServer, count: int, child: subprocess.Popen[str]) -> None:
    while sum(each.sent for each in server.requests) < count and child.poll() is None:
        time.sleep(0.005)


# --- Real processes ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX thing")
def test_twenty_kills_cost_less_than_twenty_restarts(
    server: LoopbackServer, tmp_path: Path
) -> None:
    dest = tmp_path / "out" / "big.npy"
    server.bandwidth = 4e5
    for turn in range(20):
        before = sum(each.sent for each in server.requests)
        child = start_child(server, dest)
        assert child.stdout is not None
        with child.stdout as lines:
            assert lines.readline() == "go\n"
            wait_for_bytes(server, before + 90_000 + turn * 4000, child)
            child.send_signal(signal.SIGKILL)
            child.wait()
        if dest.exists():
            break  # on a busy machine kills come late: what they cost is asked of all the same
    server.bandwidth = float("inf")
    request = FileRequest(server.url_of("big.npy"), dest, size=len(BIG))
    for result in transfer([Group(0, (request,))], block=16384, span=65536):
        assert result.error is None
    assert dest.read_bytes() == BIG
    assert litter(tmp_path) == []
    # Each kill costs what was on its way: four connections' blocks and the system's buffers.
    assert sum(each.sent for each in server.requests) < 3 * len(BIG)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX thing")
@pytest.mark.parametrize("hashed", [True, False])
def test_a_kill_half_way_leaves_half_to_do(
    hashed: bool, server: LoopbackServer, tmp_path: Path
) -> None:
    dest = tmp_path / "out" / "big.npy"
    digest = hashlib.sha256(BIG).hexdigest() if hashed else ""
    server.bandwidth = 2e6
    child = start_child(server, dest, digest)
    assert child.stdout is not None
    with child.stdout:
        wait_for_bytes(server, len(BIG) * 6 // 10, child)
        child.kill()
        child.wait()
    server.clear()
    server.bandwidth = float("inf")
    request = FileRequest(server.url_of("big.npy"), dest, size=len(BIG), sha256=digest or None)
    (result,) = transfer([Group(0, (request,))], block=16384, span=65536)
    assert result.error is None
    assert dest.read_bytes() == BIG
    assert sum(each.sent for each in server.requests) < len(BIG) * 0.7
    assert all("if-range" in each.headers for each in server.requests)


def test_two_processes_never_spoil_each_others_files(
    server: LoopbackServer, tmp_path: Path
) -> None:
    server.bandwidth = 3e6
    dest = tmp_path / "out" / "big.npy"
    children = [start_child(server, dest) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        with child.stdout:
            assert child.wait(60) == 0
    assert dest.read_bytes() == BIG
    assert litter(tmp_path) == []


# --- Taking over ---------------------------------------------------------------------------------


def interrupted(server: LoopbackServer, group: Group) -> Path:
    """Leave the embedding unfinished, and return the part file."""
    path = f"*/{NAMES[2]}"
    server.add(Fault("truncate", path=path, skip=4))
    (result,) = fetch(group, jobs=1)
    assert result.error is not None
    server.clear()
    (part,) = group.files[2].dest.parent.glob(f".{NAMES[2]}_tmp_*.part")
    return part


@pytest.fixture
def group(server: LoopbackServer, tmp_path: Path) -> Group:
    bodies = {name: (tmp_path / "root" / name).read_bytes() for name in NAMES}
    return tile_group(server, bodies, tmp_path / "out")


def assert_whole(group: Group, root: Path) -> None:
    for request in group.files:
        assert request.dest.read_bytes() == (root / request.dest.name).read_bytes()
    assert litter(group.files[0].dest.parent) == []


def sent(server: LoopbackServer) -> int:
    return sum(each.sent for each in server.requests if each.path.endswith(NAMES[2]))


def test_a_failed_transfer_goes_on(server: LoopbackServer, group: Group) -> None:
    part = interrupted(server, group)
    assert part.stat().st_size == 9000
    fetch(group)
    assert_whole(group, server.root)
    assert sent(server) < 9000 - 3 * SPAN


def test_a_damaged_part_is_found_out(server: LoopbackServer, group: Group) -> None:
    part = interrupted(server, group)
    spoilt = bytearray(part.read_bytes())
    spoilt[BLOCK + 5] ^= 1
    part.write_bytes(spoilt)
    fetch(group)
    assert_whole(group, server.root)
    assert sent(server) < 9000 - 3 * SPAN  # the sound blocks were used


@pytest.mark.parametrize("cut", [0, 1, 30, -1, -20])
def test_a_record_that_was_cut_off_is_used_as_far_as_it_goes(
    cut: int, server: LoopbackServer, group: Group
) -> None:
    record = Path(f"{interrupted(server, group)}.json")
    content = record.read_bytes()
    record.write_bytes(content[:cut] if cut else b"")
    fetch(group)
    assert_whole(group, server.root)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://elsewhere/x"},
        {"length": 5},
        {"length": None},
        {"block": 7},
        {"format": 1},
        {"etag": '"other"'},
        {"sha256": "0" * 64},
        {"dated": "x", "etag": None, "modified": 5},
    ],
    ids=str,
)
def test_a_record_of_something_else_is_not_used(
    change: dict[str, Any], server: LoopbackServer, group: Group
) -> None:
    record = Path(f"{interrupted(server, group)}.json")
    header, *blocks = record.read_text().splitlines()
    record.write_text("\n".join([json.dumps(json.loads(header) | change), *blocks, ""]))
    assert fetch(group)[0].error is None
    assert_whole(group, server.root)


def test_a_record_of_the_first_format_is_not_used(server: LoopbackServer, group: Group) -> None:
    part = interrupted(server, group)
    record = Path(f"{part}.json")
    content = part.read_bytes()
    header, *blocks = (json.loads(line) for line in record.read_text().splitlines())
    del header["format"]
    starts = [each["block"] * BLOCK for each in blocks]
    old = [hashlib.sha256(content[start : start + BLOCK]).hexdigest() for start in starts]
    lines = [{"block": s // BLOCK, "sha256": d} for s, d in zip(starts, old, strict=True)]
    record.write_text("".join(f"{json.dumps(line)}\n" for line in [header, *lines]))
    fetch(group)
    assert_whole(group, server.root)
    assert sent(server) == 9000


def test_the_record_holds_the_digest_of_each_block(server: LoopbackServer, group: Group) -> None:
    part = interrupted(server, group)
    content = part.read_bytes()
    _, *lines = Path(f"{part}.json").read_text().splitlines()
    assert len(lines) >= 3
    for each in map(json.loads, lines):
        block = content[each["block"] * BLOCK :][:BLOCK]
        assert each["xxh128"] == xxhash.xxh3_128_hexdigest(block)


def test_a_changed_object_starts_again(server: LoopbackServer, group: Group) -> None:
    interrupted(server, group)
    (server.root / NAMES[2]).write_bytes(random.Random(9).randbytes(9000))
    assert fetch(group)[0].error is None
    assert_whole(group, server.root)


def test_a_living_process_keeps_its_file(
    server: LoopbackServer, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = interrupted(server, group)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        start = owner._start_of(other.pid) or "0" * 8
        me = owner.this_process()
        for suffix in ("", ".json"):
            name = f"{part.name}{suffix}".replace(
                f"_{me.pid}_{me.start}_", f"_{other.pid}_{start}_"
            )
            Path(f"{part}{suffix}").rename(part.with_name(name))
        fetch(group)
        assert len(litter(part.parent)) == 2
        assert sent(server) == 9000
    finally:
        other.communicate(b"\n")
    for request in group.files:
        request.dest.unlink()
    server.clear()
    fetch(group)
    assert_whole(group, server.root)
    assert sent(server) < 9000


@pytest.mark.parametrize(("age", "taken"), [(10, False), (7200, True)])
def test_another_machines_file_is_left_for_an_hour(
    age: float, taken: bool, server: LoopbackServer, group: Group
) -> None:
    part = interrupted(server, group)
    me = owner.this_process()
    then = time.time() - age
    for suffix in ("", ".json"):
        moved = part.with_name(f"{part.name}{suffix}".replace(me.host, "0123abcd"))
        Path(f"{part}{suffix}").rename(moved)
        os.utime(moved, (then, then))
    fetch(group)
    assert (sent(server) < 9000) is taken
    assert (litter(part.parent) == []) is taken


def test_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    me = owner.this_process()
    now = time.time()
    assert owner.is_gone(me, now) is False
    assert owner.is_gone(me._replace(start="f" * 8), 0) is True
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert owner.is_gone(me._replace(pid=dead.pid), now) is True
    assert owner.is_gone(Owner("f" * 8, 1, "0" * 8), now) is False
    assert owner.is_gone(Owner("f" * 8, 1, "0" * 8), now - 7200) is None


# --- Anything, in any order ----------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here: nothing of what follows reaches the disk."""


class Life:
    """A process, as far as the disk can tell: it dies at a given operation."""

    OPERATIONS = ("create", "write_at", "append_line", "rename", "remove", "preallocate")

    def __init__(self, number: int, dies_after: int | None, *, alone: bool = True) -> None:
        self.owner = Owner("0" * 8, number, "0" * 8)
        self.left = dies_after
        self.is_dead = False
        self.alone = alone

    def __enter__(self) -> Life:
        self.patch = pytest.MonkeyPatch()
        for name in self.OPERATIONS:
            self.patch.setattr(disk, name, self.mortal(getattr(disk, name)))
        self.files: list[resume.ResumableFile] = []
        init = resume.ResumableFile.__init__

        def noted(file: resume.ResumableFile, *args: Any, **options: Any) -> None:
            self.files.append(file)
            init(file, *args, **options)

        self.patch.setattr(resume.ResumableFile, "__init__", noted)
        self.patch.setattr(leftovers, "this_process", lambda: self.owner)
        self.patch.setattr(leftovers, "is_gone", lambda *_: self.alone)
        resume._mine.clear()
        return self

    def __exit__(self, *exc: object) -> None:
        self.patch.undo()
        # The system closes what a process leaves open that died; who lives closes all itself.
        left = [file for file in self.files if file._descriptor >= 0 or file._log >= 0]
        assert self.is_dead or not left
        for file in left:
            file._close()

    def mortal(self, operation: Any) -> Any:
        def call(*args: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.is_dead = True
            if self.is_dead:
                raise Crash
            return operation(*args)

        return call


class Transfers(RuleBasedStateMachine):
    """Start, crash, resume, change, corrupt: what has a final name is always right."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # thousands of steps are too many for a disk
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.server = LoopbackServer(self.directory / "root").start()
        self.out = self.directory / "out"
        self.versions: list[dict[str, bytes]] = []
        self.lives = 0
        self.spoilt = False
        self.publish()

    def publish(self) -> None:
        sizes = {NAMES[0]: 20, NAMES[1]: 70, NAMES[2]: 200}
        made = random.Random(len(self.versions))
        self.versions.append({name: made.randbytes(size) for name, size in sizes.items()})
        for name, body in self.versions[-1].items():
            (self.server.root).mkdir(exist_ok=True)
            (self.server.root / name).write_bytes(body)

    def run(
        self,
        dies_after: int | None,
        *,
        hashed: bool,
        jobs: int,
        replace: bool = False,
        alone: bool = True,
    ) -> Any:
        self.lives += 1
        group = tile_group(self.server, self.versions[-1], self.out, hashed=hashed, replace=replace)
        with Life(self.lives, dies_after, alone=alone):
            try:
                (result,) = transfer([group], jobs=jobs, policy=FAST, block=32, span=96)
            except Crash:
                return Crash
            return result.error

    @rule(hashed=st.booleans(), jobs=st.integers(1, 3), replace=st.booleans())
    def fetch(self, hashed: bool, jobs: int, replace: bool) -> None:
        error = self.run(None, hashed=hashed, jobs=jobs, replace=replace)
        assert error is None
        assert files(self.out).keys() == set(NAMES)
        if replace:
            assert files(self.out) == self.versions[-1]

    @rule(
        dies_after=st.integers(0, 60),
        hashed=st.booleans(),
        jobs=st.integers(1, 2),
        replace=st.booleans(),
    )
    def crash(self, dies_after: int, hashed: bool, jobs: int, replace: bool) -> None:
        self.run(dies_after, hashed=hashed, jobs=jobs, replace=replace)

    @rule(hashed=st.booleans(), jobs=st.integers(1, 2), replace=st.booleans())
    def fetch_beside_living_processes(self, hashed: bool, jobs: int, replace: bool) -> None:
        theirs = {name: (self.out / name).read_bytes() for name in litter(self.out)}
        assert self.run(None, hashed=hashed, jobs=jobs, replace=replace, alone=False) is None
        assert {name: (self.out / name).read_bytes() for name in litter(self.out)} == theirs

    @rule(
        kind=st.sampled_from(["truncate", "reset", "corrupt", "status", "no-range"]),
        skip=st.integers(0, 6),
        times=st.integers(1, 5),
    )
    def fail(self, kind: Any, skip: int, times: int) -> None:
        self.server.add(Fault(kind, skip=skip, times=times))
        self.run(None, hashed=True, jobs=2)
        self.server.clear()

    @rule()
    def change_objects(self) -> None:
        self.publish()

    @rule()
    def delete_files(self) -> None:
        for name in files(self.out):
            (self.out / name).unlink()

    # Which parts there are depends on threads: asked inside the rules, lest it decide on them.
    @rule(where=st.integers(0, 10_000), which=st.integers(0, 10))
    def corrupt_a_part(self, where: int, which: int) -> None:
        parts = [self.out / name for name in litter(self.out)]
        if not parts:
            return
        part = parts[which % len(parts)]
        content = bytearray(part.read_bytes())
        if content:
            content[where % len(content)] ^= 0x55
            part.write_bytes(content)

    @rule(keep=st.integers(0, 600), which=st.integers(0, 10))
    def truncate_a_part(self, keep: int, which: int) -> None:
        parts = [self.out / name for name in litter(self.out)]
        if not parts:
            return
        part = parts[which % len(parts)]
        part.write_bytes(part.read_bytes()[:keep])

    @invariant()
    def what_has_a_name_is_right(self) -> None:
        for name, content in files(self.out).items():
            assert any(content == version[name] for version in self.versions), name

    @invariant()
    def an_embedding_has_its_scales_and_landmask(self) -> None:
        present = files(self.out)
        if NAMES[2] in present:
            assert present.keys() == set(NAMES)

    def teardown(self) -> None:
        assert self.run(None, hashed=True, jobs=2, replace=True) is None
        assert files(self.out) == self.versions[-1]
        self.server.close()
        shutil.rmtree(self.directory)


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(
    max_examples=70,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
