"""The cache of files: order, bound, damage, and many who use it at once."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from geotessera.errors import InputError
from geotessera.remote import disk
from geotessera.remote.lru import FileCache
from geotessera.remote.lru import entry as lru_entry
from geotessera.remote.lru.space import BLOCK, SHARE, Space
from geotessera.sizes import parse_size
from waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POSIX = pytest.mark.skipif(os.name != "posix", reason="processes and links of POSIX")


def content(key: str, size: int = 5000) -> bytes:
    """Bytes that only this key has."""
    return random.Random(key).randbytes(size)


def disk_use(cache: FileCache) -> int:
    """Bytes of all entries, in blocks, by a plain walk."""
    sizes = [p.stat().st_size for p in (cache.directory / "entries").rglob("*") if p.is_file()]
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def entry_files(cache: FileCache) -> list[Path]:
    return sorted(p for p in (cache.directory / "entries").rglob("*") if p.is_file())


def leftovers(cache: FileCache) -> list[str]:
    found = [
        str(p.relative_to(cache.directory))
        for folder in ("tmp", "in-use")
        for p in (cache.directory / folder).rglob("*")
        if p.is_file()
    ]
    return sorted(found)


def group_of(cache: FileCache, key: str, files: Mapping[str, bytes], **how: Any) -> Any:
    """Adopt files with this content."""
    with cache.workspace() as place:
        for name, data in files.items():
            (place / name).write_bytes(data)
        return cache.adopt(key, {name: place / name for name in files}, **how)


def read(lease: Any) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in lease.files.items()}


# --- Bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"abc"), memoryview(b"0123456789")])
def test_bytes_come_back(tmp_path: Path, data: Any) -> None:
    cache = FileCache(tmp_path / "c", 10**6)
    assert cache.get("k") is None
    assert not cache.directory.exists()  # looking makes nothing
    assert cache.put("k", data)
    assert cache.get("k") == bytes(data)
    assert FileCache(tmp_path / "c", 10**6).get("k") == bytes(data)
    assert cache.get("K") is None
    cache.remove("k")
    assert cache.get("k") is None
    assert leftovers(cache) == []


def test_arrays_are_bytes(tmp_path: Path) -> None:
    import numpy as np

    cache = FileCache(tmp_path, 10**6)
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    cache.put("a", array)
    found = cache.get("a")
    assert found is not None
    np.testing.assert_array_equal(np.frombuffer(found, "<f4").reshape(3, 4), array)


def test_the_newest_bytes_win(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10**6)
    cache.put("k", b"old")
    cache.put("k", b"newer")
    assert cache.get("k") == b"newer"
    assert cache.usage() == (BLOCK, 1)


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 4 * BLOCK)
    for key in "abcd":
        cache.put(key, key.encode())
    assert cache.get("a") == b"a"
    cache.put("c", b"C")
    cache.put("e", b"e")
    assert [key for key in "abcde" if cache.get(key) is not None] == ["a", "c", "d", "e"]


def test_an_entry_larger_than_the_limit_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 4 * BLOCK)
    cache.put("a", b"a")
    assert not cache.put("big", bytes(5 * BLOCK))
    assert cache.get("a") == b"a"
    assert cache.writable


def test_small_entries_do_not_each_look_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path, 640 * BLOCK)
    scans = []
    scan = Space.scan
    monkeypatch.setattr(Space, "scan", lambda self: scans.append(1) or scan(self))
    for number in range(2000):
        assert cache.put(f"k{number}", b"x")
    assert disk_use(cache) <= 640 * BLOCK
    assert len(scans) <= 200
    assert cache.get("k1999") == b"x"


class Model(RuleBasedStateMachine):
    """Two objects on one directory, against a dictionary in order of use."""

    limit = 24 * BLOCK

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.caches = [FileCache(self.folder.name, self.limit) for _ in range(2)]
        self.model: dict[str, bytes] = {}  # the last used is last
        self.evicted_use = -1  # when the newest victim was used
        self.uses: dict[str, int] = {}
        self.clock = 0

    def use(self, key: str) -> None:
        self.clock += 1
        self.uses[key] = self.clock

    keys = st.sampled_from("abcdefgh")
    which = st.integers(0, 1)

    @rule(key=keys, which=which, blocks=st.integers(0, 9), fill=st.binary(min_size=1, max_size=3))
    def put(self, key: str, which: int, blocks: int, fill: bytes) -> None:
        data = fill * (blocks * BLOCK // len(fill))
        assert self.caches[which].put(key, data)
        self.model[key] = data
        self.use(key)

    @rule(key=keys, which=which)
    def get(self, key: str, which: int) -> None:
        found = self.caches[which].get(key)
        if found is None:
            if key in self.model:
                self.check_victims()
            assert key not in self.model
        else:
            assert found == self.model[key]
            self.use(key)

    @rule(key=keys, which=which)
    def remove(self, key: str, which: int) -> None:
        self.caches[which].remove(key)
        self.model.pop(key, None)

    @rule(key=keys, which=which, at=st.floats(0, 1), cut=st.booleans())
    def damage(self, key: str, which: int, at: float, cut: bool) -> None:
        path = self.caches[which]._place(key)
        if not path.exists():
            return
        whole = path.read_bytes()
        where = min(int(at * len(whole)), len(whole) - 1)
        path.write_bytes(
            whole[:where] if cut else whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :]
        )
        assert self.caches[which].get(key) is None
        self.model.pop(key, None)

    def check_victims(self) -> None:
        """Forget what was evicted; it was used before everything that is left."""
        left = {key for key in self.model if self.caches[0]._place(key).exists()}
        gone = self.model.keys() - left
        if gone and left:
            assert max(self.uses[key] for key in gone) < min(self.uses[key] for key in left)
        for key in gone:
            del self.model[key]

    @invariant()
    def bound(self) -> None:
        before = sum(-(-(32 + 1 + len(data)) // BLOCK) * BLOCK for data in self.model.values())
        self.check_victims()
        used = disk_use(self.caches[0])
        assert used == self.caches[0].usage().bytes <= self.limit * (1 + 2 / SHARE)
        if before <= self.limit - 10 * BLOCK:
            assert used >= before - BLOCK * len(self.model)  # nothing went without need

    def teardown(self) -> None:
        self.folder.cleanup()


def test_it_is_a_bounded_dictionary() -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=120,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- Damage ----------------------------------------------------------------------------------


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10**6)
    data = content("k", 40)
    cache.put("k", data)
    (path,) = entry_files(cache)
    whole = path.read_bytes()
    wrong = [whole[:size] for size in range(len(whole))] + [whole + b"\0"]
    wrong += [
        whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
        for at in range(len(whole))
        for bit in (1, 128)
    ]
    for bad in wrong:
        path.write_bytes(bad)
        assert cache.get("k") is None
        assert not path.exists()
        assert lru_entry.unpack("k", bad) is None
    path.write_bytes(whole)
    assert cache.get("k") == data


def test_an_entry_in_another_keys_place_is_not_served(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10**6)
    cache.put("k", b"k's")
    cache.put("l", b"l's")
    cache._place("l").replace(cache._place("k"))
    assert cache.get("k") is None


FILES = {"one": b"1" * 5000, "two": b"2", "three": b"3" * 90}


@pytest.mark.parametrize("known", [False, True])
def test_a_group_of_files_comes_back(tmp_path: Path, known: bool) -> None:
    cache = FileCache(tmp_path, 10**6)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    lease = group_of(cache, "g", FILES, digests=digests if known else None)
    assert read(lease) == FILES
    other = FileCache(tmp_path, 10**6)
    expected = {name: (len(FILES[name]), digests[name]) for name in FILES}
    found = other.lease("g", expected)
    assert found is not None
    assert read(found) == FILES
    assert other.lease("h") is None
    assert other.usage() == ((2 + 1 + 1 + 1) * BLOCK, 1)
    lease.close()
    found.close()
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    "expected",
    [
        {"one": (5000, None), "two": (None, None)},
        {"one": (5001, None), "two": (None, None), "three": (None, None)},
        {"one": (None, None), "two": (None, "0" * 64), "three": (None, None)},
    ],
    ids=["names", "size", "digest"],
)
def test_a_group_that_is_not_what_is_published_now_is_dropped(
    tmp_path: Path, expected: Any
) -> None:
    cache = FileCache(tmp_path, 10**6)
    group_of(cache, "g", FILES).close()
    assert cache.lease("g", dict.fromkeys(FILES, (None, None))) is not None
    assert cache.lease("g", expected) is None
    assert cache.usage().entries == 0


@pytest.mark.parametrize("what", ["flip", "truncate", "lengthen", "delete", "record", "no record"])
def test_a_damaged_group_is_not_served(tmp_path: Path, what: str) -> None:
    cache = FileCache(tmp_path, 10**6)
    group_of(cache, "g", FILES).close()
    place = cache._group("g")
    match what:
        case "flip":
            (place / "one").write_bytes(b"1" * 4999 + b"2")
        case "truncate":
            os.truncate(place / "one", 4000)
        case "lengthen":
            (place / "one").write_bytes(b"1" * 5001)
        case "delete":
            (place / "two").unlink()
        case "record":
            (place / "entry.json").write_bytes((place / "entry.json").read_bytes()[:-9])
        case "no record":
            (place / "entry.json").unlink()
    assert cache.lease("g") is None
    assert read(group_of(cache, "g", FILES)) == FILES
    assert cache.lease("g") is not None


def test_digests_are_checked_again_when_there_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geotessera import _native

    hashed: list[Any] = []
    real = _native.hash_files
    monkeypatch.setattr(_native, "hash_files", lambda *a: hashed.append(a) or real(*a))

    def looked(expect: bool) -> None:
        hashed.clear()
        assert FileCache(tmp_path, 10**6).lease("g") is not None
        assert bool(hashed) == expect

    group_of(FileCache(tmp_path, 10**6), "g", FILES)
    looked(False)
    os.utime(FileCache(tmp_path, 10**6)._group("g") / "one", (1, 1))
    looked(True)
    looked(False)
    # After a restart: what was written last may not have reached the disk.
    monkeypatch.setattr(lru_entry, "boot_id", lambda: "another start")
    looked(True)
    looked(False)
    monkeypatch.undo()
    monkeypatch.setattr(_native, "hash_files", lambda *a: hashed.append(a) or real(*a))
    looked(False)
    month = time.time() + 31 * 86400
    monkeypatch.setattr("geotessera.remote.lru.entry.time.time", lambda: month)
    looked(True)
    looked(False)


def test_same_time_stamp_and_other_bytes_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path, 10**6)
    group_of(cache, "g", FILES).close()
    path = cache._group("g") / "one"
    stat = path.stat()
    path.write_bytes(bytes(5000))  # as a power cut leaves it
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr(lru_entry, "boot_id", lambda: "another start")
    assert cache.lease("g") is None


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    cache = FileCache(tmp_path / "c", 10**6)
    group_of(cache, "g", FILES).close()
    record = cache._group("g") / "entry.json"
    record.write_text(record.read_text().replace('"one"', '"../../../../secret"'))
    assert cache.lease("g") is None


# --- Leases ----------------------------------------------------------------------------------


@POSIX
def test_a_lease_outlives_eviction_by_anybody(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 8 * BLOCK)
    lease = group_of(cache, "g", FILES)
    other = FileCache(tmp_path, 8 * BLOCK)
    other.put("x", bytes(7 * BLOCK))
    assert cache.lease("g") is None
    assert read(lease) == FILES
    del lease
    gc.collect()
    assert leftovers(cache) == []


@POSIX
def test_a_lease_outlives_its_successor(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10**6)
    old = group_of(cache, "g", FILES)
    newer = {"one": b"new", "two": b"er"}
    group_of(cache, "g", newer).close()
    assert read(old) == FILES
    found = cache.lease("g")
    assert found is not None
    assert read(found) == newer


def test_what_cannot_be_kept_is_leased_all_the_same(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 2 * BLOCK)
    lease = group_of(cache, "g", FILES)
    assert read(lease) == FILES
    assert cache.lease("g") is None
    lease.close()
    assert leftovers(cache) == []


def test_groups_and_bytes_share_the_bound(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 12 * BLOCK)
    group_of(cache, "old", FILES).close()  # five blocks
    cache.put("bytes", bytes(5 * BLOCK))
    group_of(cache, "new", FILES).close()
    assert cache.lease("old") is None
    assert cache.get("bytes") is not None
    found = cache.lease("new")
    assert found is not None
    assert disk_use(cache) <= 12 * BLOCK


# --- Places that cannot be written -----------------------------------------------------------


@POSIX
def test_a_read_only_cache_is_read_and_nothing_is_put(
    tmp_path: Path, read_only_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FileCache(read_only_directory, 10**6)
    assert not cache.put("k", b"x")
    assert not cache.put("l", b"x")
    assert len([r for r in caplog.records if "is not used" in r.getMessage()]) == 1
    assert cache.get("k") is None
    assert cache.lease("g") is None
    assert cache.usage() == (0, 0)


@POSIX
def test_a_cache_that_others_filled_is_read_in_place(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("shared")
    writer = FileCache(place, 10**6)
    group_of(writer, "g", FILES).close()
    writer.put("k", b"bytes")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    for name in ("link", "utime"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(disk, "create", refuse)
    reader = FileCache(place, 10**6)
    assert reader.get("k") == b"bytes"
    lease = reader.lease("g")
    assert lease is not None
    assert read(lease) == FILES
    lease.close()
    assert read(lease) == FILES  # the cache's own are not deleted


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["create", "write_at", "rename"])
def test_a_full_disk_is_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    step: str,
) -> None:
    cache = FileCache(tmp_path, 10**6)
    cache.put("there", b"before")

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, step, fail)
    assert not cache.put("k", b"x")
    assert not cache.put("l", b"x")
    monkeypatch.undo()
    assert cache.get("there") == b"before"
    assert cache.get("k") is None
    assert not cache.writable
    assert len([r for r in caplog.records if "is not used" in r.getMessage()]) == 1
    assert leftovers(cache) == []


@POSIX
def test_a_full_disk_keeps_the_leased_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FileCache(tmp_path, 10**6)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "create", fail)
    lease = group_of(cache, "g", FILES)
    assert read(lease) == FILES
    assert cache.lease("g") is None
    assert "is not used" in caplog.text
    lease.close()
    assert leftovers(cache) == []


@POSIX
def test_a_file_system_without_links_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    cache = FileCache(tmp_path, 10**6)
    assert read(group_of(cache, "g", FILES)) == FILES
    assert "no hard links" in caplog.text


def test_the_directory_may_be_deleted_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    cache = FileCache(tmp_path / "c", 10**6)
    cache.put("k", b"x")
    shutil.rmtree(tmp_path / "c")
    assert cache.get("k") is None
    assert cache.put("k", b"y")
    assert cache.get("k") == b"y"
    assert caplog.records == []


# --- What can come between two steps -------------------------------------------------------


def between(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]
) -> None:
    """Do something once, before a function is called for the first time."""
    real, calls = getattr(owner, name), []

    def hooked(*args: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            act()
        return real(*args, **how)

    monkeypatch.setattr(owner, name, hooked)


def test_two_who_had_the_same_room_in_mind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (FileCache(tmp_path, 10 * BLOCK) for _ in range(2))
    between(monkeypatch, disk, "rename", lambda: two.put("b", bytes(6 * BLOCK)))
    assert one.put("a", bytes(6 * BLOCK))
    assert disk_use(one) <= 10 * BLOCK


def test_what_was_just_used_is_not_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileCache(tmp_path, 4 * BLOCK)
    for key in "abcd":
        cache.put(key, key.encode())
    from geotessera.remote.lru import space as lru_space

    between(monkeypatch, lru_space, "_last_use", lambda: FileCache(tmp_path, 1).get("a"))
    cache.put("e", b"e")
    assert [key for key in "abcde" if cache.get(key) is not None] == ["a", "c", "d", "e"]


@POSIX
def test_no_mixture_of_two_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(digit: bytes) -> None:
        with cache.workspace() as place:
            for name in "ab":
                (place / name).write_bytes(digit * 9)
                os.utime(place / name, (1, 1))
            cache.adopt("g", {name: place / name for name in "ab"})

    cache = FileCache(tmp_path, 10**6)
    put(b"1")
    links: list[Any] = []
    link = os.link

    def replaced_after_the_first(*args: Any) -> None:
        link(*args)
        links.append(args)
        if len(links) == 1:
            put(b"2")

    monkeypatch.setattr(os, "link", replaced_after_the_first)
    lease = cache.lease("g")
    assert lease is None or len(set(read(lease).values())) == 1
    lease = cache.lease("g")
    assert lease is None or read(lease) == {"a": b"2" * 9, "b": b"2" * 9}


# --- Many at once ----------------------------------------------------------------------------


def test_a_group_that_goes_when_it_was_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread replaces or evicts it between our rename and our look at it."""
    cache = FileCache(tmp_path, 2**20)
    group_of(cache, "key", {"a": b"old"})
    rename = Path.rename
    refused: list[Path] = []

    def in_the_way(path: Path, target: Path) -> Path:
        if target.suffix == ".d" and not refused:
            refused.append(target)
            shutil.rmtree(target)
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", in_the_way)
    group_of(cache, "key", {"a": b"new"})
    assert refused
    assert cache.writable
    lease = cache.lease("key")
    assert lease is not None
    assert read(lease) == {"a": b"new"}


def test_sixteen_threads(tmp_path: Path) -> None:
    limit = 64 * BLOCK
    cache = FileCache(tmp_path, limit)

    def work(seed: int) -> int:
        rng = random.Random(seed)
        hits = 0
        for _ in range(60):
            key = f"k{rng.randrange(40)}"
            if rng.random() < 0.2:
                files = {"a": content(key), "b": content(key + "b", 100)}
                lease = cache.lease(key) or group_of(cache, key, files)
                assert read(lease) == files
                hits += 1
            elif (found := cache.get(key)) is not None:
                assert found == content(key)
                hits += 1
            else:
                cache.put(key, content(key))
        return hits

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) > 0
    assert disk_use(cache) <= limit
    gc.collect()
    assert leftovers(cache) == []
    assert cache.writable


WORKER = """
    import random, sys, time
    from pathlib import Path
    from geotessera.remote.lru import FileCache
    place, limit, seed, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    cache, rng = FileCache(place, limit), random.Random(seed)
    content = lambda key, size: random.Random(key).randbytes(size)
    hits = misses = 0
    for number in range(rounds):
        print(number, flush=True)
        key = f"k{rng.randrange(60)}"
        size = 3000 + 400 * int(key[1:])
        if rng.random() < 0.3:
            lease = cache.lease(key)
            if lease is None:
                misses += 1
                with cache.workspace() as work:
                    (work / "a").write_bytes(content(key, size))
                    (work / "b").write_bytes(content(key, 9))
                    lease = cache.adopt(key, {"a": work / "a", "b": work / "b"})
            else:
                hits += 1
            time.sleep(0.001)
            assert lease.files["a"].read_bytes() == content(key, size)
            assert lease.files["b"].read_bytes() == content(key, 9)
        else:
            found = cache.get(key)
            if found is None:
                misses += 1
                assert cache.put(key, content(key, size))
            else:
                hits += 1
                assert found == content(key, size)
    assert cache.writable
    assert hits and misses
"""


def start(place: Path, limit: int, seed: int, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), *map(str, (place, limit, seed, rounds))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@POSIX
def test_processes_share_and_evict_at_once(tmp_path: Path) -> None:
    limit = 100 * BLOCK
    workers = [start(tmp_path, limit, seed, 800) for seed in range(3)]
    for worker in workers:
        _, err = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, err
    cache = FileCache(tmp_path, limit)
    assert disk_use(cache) <= limit * (1 + 3 / SHARE)
    assert leftovers(cache) == []


@POSIX
def test_kill_in_the_middle_of_everything(tmp_path: Path) -> None:
    limit = 100 * BLOCK
    for seed in range(6):
        with start(tmp_path, limit, seed, 10**9) as worker:
            assert worker.stdout is not None
            for _ in range(10 + 30 * seed):
                assert worker.stdout.readline()
            worker.kill()
    cache = FileCache(tmp_path, limit)
    served = 0
    for number in range(60):
        key, size = f"k{number}", 3000 + 400 * number
        found, lease = cache.get(key), cache.lease(key)
        assert found is None or found == content(key, size)
        assert lease is None or read(lease) == {"a": content(key, size), "b": content(key, 9)}
        served += found is not None or lease is not None
        lease = None
    assert served
    # A new process finds out that the others are gone, and what they left.
    cache.put("k", b"x")
    assert leftovers(cache) == []
    assert disk_use(cache) <= limit * (1 + 1 / SHARE)


@POSIX
def test_kill_in_the_middle_of_one_put(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from geotessera.remote import disk
        from geotessera.remote.lru import FileCache
        cache = FileCache(sys.argv[1], 10**7)
        cache.put("k", b"old")
        write, step = disk.write_at, int(sys.argv[2])
        def cut(descriptor, data, offset):
            write(descriptor, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 0:
            disk.write_at = cut
        else:
            disk.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        cache.put("k", bytes(100_000))
    """
    for step in "01":
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), step], check=False
        )
        assert done.returncode == -signal.SIGKILL
        cache = FileCache(tmp_path, 10**7)
        assert len(leftovers(cache)) == 1
        assert cache.get("k") == b"old"
        cache.put("l", b"x")
        assert leftovers(cache) == []


@POSIX
def test_a_forked_child_leaves_its_parents_lease_alone(tmp_path: Path) -> None:
    code = """
        import os, sys
        from geotessera.remote.lru import FileCache
        cache = FileCache(sys.argv[1], 10**6)
        with cache.workspace() as work:
            (work / "a").write_bytes(b"a")
            lease = cache.adopt("g", {"a": work / "a"})
        if os.fork() == 0:
            sys.exit(0)  # with finalizers and exit handlers
        os.wait()
        print(lease.files["a"].read_bytes())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "b'a'\n", done.stderr
    assert leftovers(FileCache(tmp_path, 1)) == []


# --- Sizes in words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10GB", 10 * 1000**3),
        ("10 gb", 10 * 1000**3),
        ("500 MiB", 500 * 1024**2),
        (" 1.5KiB ", 1536),
        ("2T", 2 * 1000**4),
        (".5 kb", 500),
        ("7 bytes", 7),
        ("4096", 4096),
        ("10_000", 10_000),
        (4096, 4096),
        (1e9, 10**9),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("10 bananas", "", "GB", "-1", "-10GB", "0", "0.1", "1e9", "10 GB 5", "1..5 GB", "١GB"),
        *("9999999999 PB", 0, -5, True, float("nan"), float("inf"), None, [1]),
    ],
)
def test_no_sizes(text: Any) -> None:
    with pytest.raises(InputError, match=r"cache_tiles=.* is not a size: expected a positive"):
        parse_size(text, "cache_tiles")


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_one_error(text: str) -> None:
    with suppress(InputError):
        assert parse_size(text) >= 1
