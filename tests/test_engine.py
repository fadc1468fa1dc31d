"""The engine against a misbehaving server: the documented outcome, and never a wrong file."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_helpers import (
    BLOCK,
    FAST,
    NAMES,
    SIZES,
    SPAN,
    fetch,
    files,
    litter,
    policy_for,
    publish,
    tile_group,
)
from geotessera.errors import (
    ChangedError,
    ChecksumMismatchError,
    DiskFullError,
    ForbiddenError,
    HTTPStatusError,
    InputError,
    NotFoundError,
    ReadOnlyError,
    SizeMismatchError,
    StalledError,
    ThrottledError,
    TransferError,
    TruncatedError,
    UnreachableError,
    UnwritableDestination,
)
from geotessera.remote import connections, disk
from geotessera.remote.http import RetryPolicy
from geotessera.remote.transfer import fetcher
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def bodies(tmp_path: Path) -> dict[str, bytes]:
    return publish(tmp_path / "root")


@pytest.fixture
def server(bodies: dict[str, bytes], tmp_path: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer(tmp_path / "root") as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# --- What is asked, and what arrives ---------------------------------------------------------


@pytest.mark.parametrize("hashed", [True, False])
def test_a_tile_arrives_whole_in_ranges(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path, hashed: bool
) -> None:
    (result,) = fetch(tile_group(server, bodies, out, hashed=hashed))
    assert result.error is None
    assert files(out) == bodies
    assert litter(out) == []
    assert [done.path.name for done in result.files] == list(NAMES)
    ranges = sorted(
        int(each.range.removeprefix("bytes=").partition("-")[0])
        for each in server.requests
        if each.path.endswith(".05.npy") and each.range
    )
    assert ranges == list(range(0, 9000, SPAN))
    assert server.count("*.tiff") == 1
    assert sum(each.sent for each in server.requests) == sum(map(len, bodies.values()))
    later = [each for each in server.requests if each.range and "bytes=0-" not in each.range]
    assert all("if-range" in each.headers for each in later)


def test_sizes_need_not_be_known(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    (result,) = fetch(tile_group(server, bodies, out, sized=False))
    assert result.error is None
    assert files(out) == bodies
    assert len(server.requests) == 3


def test_what_is_there_is_not_fetched(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    fetch(tile_group(server, bodies, out))
    server.clear()
    (result,) = fetch(tile_group(server, bodies, out))
    assert (result.error, result.files, server.requests) == (None, [], [])
    (result,) = fetch(tile_group(server, bodies, out, replace=True))
    assert len(result.files) == 3


def test_files_of_a_tile_get_their_names_in_order(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    rename, remove = disk.rename, disk.remove

    def noted_rename(source: Path, target: Path) -> None:
        order.append(target.name)
        rename(source, target)

    def noted_remove(path: Path) -> None:
        order.extend([f"-{path.name}"] if path.name in NAMES else [])
        remove(path)

    monkeypatch.setattr(disk, "rename", noted_rename)
    monkeypatch.setattr(disk, "remove", noted_remove)
    fetch(tile_group(server, bodies, out))
    assert order == list(NAMES)
    order.clear()
    fetch(tile_group(server, bodies, out, replace=True))
    assert order == [f"-{NAMES[2]}", *NAMES]


def test_a_failed_refresh_keeps_the_old_files(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    fetch(tile_group(server, bodies, out))
    for name in NAMES:
        (out / name).write_bytes(b"old")
    server.add(Fault("status", path=f"*/{NAMES[1]}", status=404))
    (result,) = fetch(tile_group(server, bodies, out, replace=True))
    assert isinstance(result.error, NotFoundError)
    assert set(files(out).values()) == {b"old"}
    server.clear()
    fetch(tile_group(server, bodies, out, replace=True))
    assert files(out) == bodies


def test_the_process_shares_its_connections(
    server: LoopbackServer, bodies: dict[str, bytes], tmp_path: Path
) -> None:
    server.latency = 0.01
    threads = [
        threading.Thread(
            target=fetch, args=[tile_group(server, bodies, tmp_path / f"{i}")], kwargs={"jobs": 3}
        )
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(files(tmp_path / f"{i}") == bodies for i in range(8))
    assert 2 <= server.peak <= 3


def test_sixteen_threads_that_want_one_tile_fetch_it_once(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.extend(fetch(tile_group(server, bodies, out))))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.error for result in results] == [None] * 16
    assert sum(each.sent for each in server.requests) == sum(map(len, bodies.values()))
    assert files(out) == bodies
    assert litter(out) == []


def test_years_of_a_cell_share_a_landmask(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    landmask, scales, embedding = tile_group(server, bodies, out).files
    other = FileRequest(embedding.url, out / "2023" / NAMES[2], size=embedding.size)
    results = fetch(Group(1, (landmask, scales, embedding)), Group(2, (landmask, other)))
    assert [result.error for result in results] == [None, None]
    assert server.count(f"*{NAMES[0]}") == 1
    assert (out / "2023" / NAMES[2]).read_bytes() == bodies[NAMES[2]]


@pytest.mark.parametrize("jobs", [0, -1, 257, "x", 1.5, True])
def test_jobs_must_be_a_number_of_connections(jobs: Any) -> None:
    with pytest.raises(InputError, match="jobs"):
        list(transfer([], jobs=jobs))


def test_the_environment_says_how_many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections.check_jobs() == 8
    monkeypatch.setenv("GEOTESSERA_JOBS", "3")
    assert connections.check_jobs() == 3
    assert connections.check_jobs(5) == 5
    monkeypatch.setenv("GEOTESSERA_JOBS", "many")
    with pytest.raises(InputError, match="GEOTESSERA_JOBS='many'"):
        connections.check_jobs()


def test_progress_is_in_bytes_and_in_the_callers_thread(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    seen: list[tuple[int, int, int]] = []

    def progress(done: int, total: int, text: str) -> None:
        seen.append((done, total, threading.get_ident()))

    whole = sum(map(len, bodies.values()))
    list(transfer([tile_group(server, bodies, out)], progress=progress, total=whole))
    assert seen[0][:2] == (0, whole)
    assert seen[-1][:2] == (whole, whole)
    assert {thread for *_, thread in seen} == {threading.get_ident()}


# --- Faults, for each kind of file --------------------------------------------------------------

PASSING = [
    Fault("truncate", times=2),
    Fault("truncate", times=2, after=0),
    Fault("truncate", times=2, after=1),
    Fault("reset", times=2),
    Fault("reset", times=2, after=0),
    Fault("stall", times=1, seconds=2),
    Fault("wrong-length", times=1, extra=7),
    Fault("wrong-length", times=1, extra=-1),
    Fault("corrupt", times=1),
    Fault("status", times=3, status=429, retry_after=0),
    Fault("status", times=3, status=503),
    Fault("status", times=3, status=500),
    Fault("status", times=3, status=502),
    Fault("status", times=3, status=504),
    Fault("latency", times=1, seconds=2),
    Fault("redirect"),
    Fault("no-range"),
    Fault("bandwidth", rate=50_000),
    Fault("header", headers={"ETag": None}),
    Fault("header", headers={"ETag": 'W/"weak"'}),
    Fault("header", headers={"ETag": None, "Last-Modified": None}),
    Fault("header", headers={"Last-Modified": "yesterday"}),
    Fault("header", headers={"Content-Range": None}),
    Fault("header", headers={"Content-Range": "bytes 0-1023/77"}),
    Fault("header", headers={"Content-Range": "pages 1-2/3"}),
    Fault("header", headers={"ETag": '"another"'}, skip=2, times=1),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}-{fault.headers or ''}")
@pytest.mark.parametrize("hashed", [True, False])
def test_faults_that_pass_are_overcome(
    fault: Fault,
    name: str,
    hashed: bool,
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
) -> None:
    server.add(replace(fault, path=f"*/{name}"))
    (result,) = fetch(tile_group(server, bodies, out, hashed=hashed), policy=policy_for(fault))
    assert result.error is None
    assert files(out) == bodies
    assert litter(out) == []


LASTING = [
    (Fault("truncate", after=0), TruncatedError),
    (Fault("truncate", after=10), TruncatedError),
    (Fault("reset", after=10), TruncatedError),
    (Fault("stall", after=10, seconds=2), UnreachableError),
    (Fault("latency", seconds=2), UnreachableError),
    (Fault("wrong-length", extra=-1), TransferError),
    (Fault("corrupt"), ChecksumMismatchError),
    (Fault("status", status=404), NotFoundError),
    (Fault("status", status=410), NotFoundError),
    (Fault("status", status=401), ForbiddenError),
    (Fault("status", status=403), ForbiddenError),
    (Fault("status", status=429, retry_after=0), ThrottledError),
    (Fault("status", status=503), ThrottledError),
    (Fault("status", status=500), HTTPStatusError),
    (Fault("status", status=204), HTTPStatusError),
    (Fault("redirect", location="/nowhere"), NotFoundError),
    (Fault("header", headers={"ETag": f'"{"0" * 32}"'}), ChecksumMismatchError),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "error"), LASTING, ids=lambda value: getattr(value, "kind", None)
)
def test_faults_that_stay_are_named_and_nothing_is_committed(
    fault: Fault,
    error: type[Exception],
    name: str,
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
    tmp_path: Path,
) -> None:
    server.add(replace(fault, path=f"*/{name}"))
    policy = policy_for(fault, replace(FAST, retries=1, body_pauses=(0.001,)))
    other = publish(tmp_path / "root" / "other", 1)
    good = Group(
        "good",
        tuple(
            FileRequest(server.url_of(f"other/{each}"), out / "other" / each, size=len(body))
            for each, body in other.items()
            if each != name
        ),
    )
    results = {
        result.key: result.error
        for result in fetch(tile_group(server, bodies, out), good, policy=policy)
    }
    assert isinstance(results["tile"], error)
    assert name in str(results["tile"])
    assert results["good"] is None
    assert files(out / "other") == {each: body for each, body in other.items() if each != name}
    assert set(files(out)) == set(files(out / "other"))
    server.clear()
    assert fetch(tile_group(server, bodies, out))[0].error is None
    assert all((out / each).read_bytes() == body for each, body in bodies.items())


def test_a_file_that_always_changes_is_named(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    # Every second answer is of another version, so that no two ranges fit together.
    for turn in range(200):
        headers = {"ETag": f'"{turn}"', "Content-Range": "bytes 5-6/7"}
        server.add(Fault("header", path=f"*/{NAMES[2]}", skip=turn, times=1, headers=headers))
        server.add(Fault("truncate", path=f"*/{NAMES[2]}", skip=turn, times=1, after=BLOCK))
    (result,) = fetch(tile_group(server, bodies, out))
    assert isinstance(result.error, ChangedError | TruncatedError)
    assert files(out) == {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("disk", [True, False])
def test_another_length_than_the_registry_says_is_no_matter_of_waiting(
    name: str,
    more: int,
    disk: bool,
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
) -> None:
    base = server.root.as_uri() if disk else server.url
    requests = [
        FileRequest(f"{base}/{each}", out / each, size=len(body) + more * (each == name))
        for each, body in bodies.items()
    ]
    patient = RetryPolicy(body_pauses=(60,), backoff=60)
    (result,) = fetch(Group("tile", tuple(requests)), policy=patient)
    assert isinstance(result.error, SizeMismatchError)
    assert name in str(result.error)
    assert disk or server.count(f"*/{name}") == 2
    assert files(out) == {}


@pytest.mark.parametrize("hashed", [True, False])
def test_the_body_cut_at_every_offset(hashed: bool, server: LoopbackServer, tmp_path: Path) -> None:
    body = bytes(range(256)) + bytes(64)  # a block, and what is left
    (tmp_path / "root" / "small").write_bytes(body)
    request = tile_group(server, {"small": body}, tmp_path, hashed=hashed).files[0]
    for offset in range(len(body) + 1):
        server.clear()
        server.add(Fault("truncate", times=1, after=offset))
        (result,) = fetch(Group(offset, (request,), replace=True), jobs=1)
        assert result.error is None
        assert request.dest.read_bytes() == body
    assert litter(tmp_path) == []


def test_a_failed_block_is_repeated_alone(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    server.add(Fault("truncate", path=f"*/{NAMES[2]}", skip=4, times=1, after=SPAN // 2))
    (result,) = fetch(tile_group(server, bodies, out))
    assert result.error is None
    sent = sum(each.sent for each in server.requests)
    assert sent == sum(map(len, bodies.values()))
    assert len(server.requests) == 1 + 2 + 9 + 1


def test_slow_but_steady_is_healthy_and_silence_is_not(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    server.add(Fault("bandwidth", rate=2000))
    patient = RetryPolicy(read_timeout=60, stall_timeout=1)
    began = time.monotonic()
    assert fetch(tile_group(server, bodies, out), policy=patient)[0].error is None
    assert time.monotonic() - began > patient.stall_timeout
    server.clear()
    server.add(Fault("stall", after=0, seconds=60))
    began = time.monotonic()
    with pytest.raises(StalledError, match="nothing arrived"):
        fetch(tile_group(server, bodies, out, replace=True), policy=patient)
    assert time.monotonic() - began < 50
    assert files(out) == bodies


def test_a_server_that_asks_to_wait_is_left_alone(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    server.add(Fault("status", path=f"*/{NAMES[0]}", status=429, retry_after=1, times=1))
    began = time.monotonic()
    fetch(
        tile_group(server, bodies, out), jobs=1, policy=RetryPolicy(backoff=0.001, longest_wait=2)
    )
    assert time.monotonic() - began >= 1
    assert files(out) == bodies


# --- The disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [Path.unlink, lambda part: os.truncate(part, 5)])
def test_what_cannot_be_read_again_is_named(
    spoil: Callable[[Path], None],
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_at, prefix = disk.write_at, f".{NAMES[2]}_tmp_"

    def write(descriptor: int, data: memoryview, offset: int) -> None:
        write_at(descriptor, data, offset)
        if offset + len(data) == len(bodies[NAMES[2]]):
            for name in litter(out):
                if name.startswith(prefix) and name.endswith(".part"):
                    spoil(out / name)

    monkeypatch.setattr(disk, "write_at", write)
    with pytest.raises(UnwritableDestination, match="read again"):
        fetch(tile_group(server, bodies, out), jobs=1)
    assert NAMES[2] not in files(out)


def test_bytes_are_digested_before_the_last_of_them_arrives(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, read_into = [], fetcher.read_into

    def watched(hasher: Any, path: Path, start: int, stop: int, *rest: Any) -> bool:
        read.append((path.name, start, stop))
        return read_into(hasher, path, start, stop, *rest)

    monkeypatch.setattr(fetcher, "read_into", watched)
    fetch(tile_group(server, bodies, out), jobs=1)
    ranges = [each[1:] for each in read if each[0].startswith(f".{NAMES[2]}_tmp_")]
    assert ranges == [*itertools.pairwise([*range(0, SIZES[2], SPAN), SIZES[2]])]


@pytest.mark.parametrize("where", ["write_at", "preallocate", "append_line"])
def test_a_full_disk_stops_everything_and_is_named(
    where: str,
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import errno

    calls = iter(range(1000))
    real = getattr(disk, where)

    def full(*args: Any) -> None:
        if next(calls) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(disk, where, full)
    groups = [tile_group(server, bodies, out / f"{i}", key=i) for i in range(20)]
    with pytest.raises(DiskFullError, match="room"):
        fetch(*groups, jobs=2)
    assert len(server.requests) < 20
    monkeypatch.undo()
    assert all(result.error is None for result in fetch(*groups))
    assert all(files(out / f"{i}") == bodies for i in range(20))


def test_a_read_only_directory_is_found_before_any_request(
    server: LoopbackServer, bodies: dict[str, bytes], read_only_directory: Path
) -> None:
    with pytest.raises(ReadOnlyError):
        fetch(tile_group(server, bodies, read_only_directory))
    assert server.requests == []


# --- Stopping -----------------------------------------------------------------------------------


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "geotessera"]


@pytest.mark.parametrize(
    "slow", [Fault("stall", after=0, seconds=60), Fault("latency", seconds=60)]
)
def test_stopping_waits_for_no_server(
    slow: Fault, server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    server.add(slow)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    results = transfer([tile_group(server, bodies, out)], stop=stop, policy=RetryPolicy())
    assert list(results) == []
    assert time.monotonic() - began < 50
    assert engine_threads() == []


def test_an_exception_in_the_callers_thread_stops_and_the_next_run_goes_on(
    server: LoopbackServer, bodies: dict[str, bytes], out: Path
) -> None:
    server.bandwidth = 20_000

    def progress(done: int, total: int, text: str) -> None:
        if done > 5000:
            raise KeyboardInterrupt

    group = tile_group(server, bodies, out)
    with pytest.raises(KeyboardInterrupt):
        list(transfer([group], jobs=2, progress=progress, block=BLOCK, span=SPAN))
    assert engine_threads() == []
    assert files(out) == {}
    assert any(name.endswith(".part") for name in litter(out))
    server.bandwidth = float("inf")
    server.clear()
    assert fetch(group)[0].error is None
    assert sum(each.sent for each in server.requests) < sum(map(len, bodies.values())) - 2000
    assert files(out) == bodies
    assert litter(out) == []


# --- Anything, at random --------------------------------------------------------------------------

faults = st.builds(
    Fault,
    kind=st.sampled_from(
        ["truncate", "reset", "corrupt", "status", "wrong-length", "no-range", "header"]
    ),
    path=st.sampled_from(["*", *(f"*/{name}" for name in NAMES)]),
    times=st.integers(1, 4),
    skip=st.integers(0, 12),
    status=st.sampled_from([403, 404, 429, 500, 503]),
    after=st.none() | st.integers(0, 1100),
    extra=st.integers(-3, 3),
    headers=st.sampled_from(
        [{"ETag": None}, {"ETag": '"x"'}, {"Content-Range": None}, {"Last-Modified": None}]
    ),
)


@st.composite
def plans(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Groups of files (name, size); a name may be in several groups, as a landmask is."""
    sizes = {
        f"f{number}": draw(st.sampled_from([0, 1, BLOCK, BLOCK + 1, SPAN]) | st.integers(0, 4000))
        for number in range(draw(st.integers(1, 6)))
    }
    names = st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=3, unique=True)
    return [[(name, sizes[name]) for name in draw(names)] for _ in range(draw(st.integers(1, 4)))]


wide_faults = st.builds(
    lambda fault, number: replace(fault, path="*" if number > 5 else f"*/f{number}"),
    faults,
    st.integers(0, 8),
)


def test_what_one_group_left_another_of_the_transfer_goes_on_with(
    server: LoopbackServer, out: Path
) -> None:
    """Else the file would get its name beside an unfinished copy that nobody looks for again."""
    bodies = {"f1": random.Random(600).randbytes(600), "f0": b"0"}
    for name, body in bodies.items():
        (server.root / name).write_bytes(body)
    both = tile_group(server, bodies, out, hashed=True, sized=False, key=0)
    second = tile_group(server, {"f1": bodies["f1"]}, out, hashed=True, sized=False, key=1)
    server.add(Fault("truncate", "*/f0", times=9, after=0))
    results = {result.key: result.error for result in fetch(both, second, jobs=1)}
    assert results[0] is not None
    assert results[1] is None
    assert files(out) == {"f1": bodies["f1"]}
    assert litter(out) == []


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    plan=plans(),
    wrong=st.lists(wide_faults, max_size=4),
    sized=st.booleans(),
    jobs=st.integers(1, 5),
    refresh=st.booleans(),
)
def test_random_plans_with_random_faults_end_in_the_right_bytes_or_an_error(
    plan: list[list[tuple[str, int]]],
    wrong: list[Fault],
    sized: bool,
    jobs: int,
    refresh: bool,
    server: LoopbackServer,
    out: Path,
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    bodies = {name: random.Random(size).randbytes(size) for part in plan for name, size in part}
    for name, body in bodies.items():
        (server.root / name).write_bytes(body)
    groups = [
        tile_group(server, {name: bodies[name] for name, _ in part}, out, hashed=True, sized=sized,
                   replace=refresh, key=number)
        for number, part in enumerate(plan)
    ]  # fmt: skip
    if refresh:
        out.mkdir()
        for name in bodies:
            (out / name).write_bytes(b"old")
    server.clear()
    server.add(*wrong)
    results = {result.key: result.error for result in fetch(*groups, jobs=jobs)}
    assert results.keys() == {*range(len(plan))}
    present = files(out)
    for number, part in enumerate(plan):
        error = results[number]
        assert error is None or isinstance(error, TransferError)
        if error is None:
            assert all(present[name] == bodies[name] for name, _ in part)
    assert all(content in (bodies[name], b"old") for name, content in present.items())
    server.clear()
    assert not any(result.error for result in fetch(*groups, jobs=jobs))
    assert files(out) == bodies
    assert litter(out) == []


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    wrong=st.lists(faults, max_size=4),
    hashed=st.booleans(),
    sized=st.booleans(),
    jobs=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_random_faults_end_in_the_right_bytes_or_an_error(
    wrong: list[Fault],
    hashed: bool,
    sized: bool,
    jobs: int,
    seed: int,
    server: LoopbackServer,
    out: Path,
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    bodies = publish(server.root, seed)
    group = tile_group(server, bodies, out, hashed=hashed, sized=sized)
    server.clear()
    server.add(*wrong)
    (result,) = fetch(group, jobs=jobs)
    if result.error is None:
        # Without any digest, a flipped byte cannot be noticed.
        blind = (
            not hashed
            and any(f.kind == "header" and "ETag" in f.headers for f in wrong)
            and any(f.kind == "corrupt" for f in wrong)
        )
        assert files(out).keys() == bodies.keys()
        assert blind or files(out) == bodies
    else:
        assert isinstance(result.error, TransferError)
        assert files(out) == {}
    server.clear()
    if files(out) != bodies:
        (result,) = fetch(tile_group(server, bodies, out, hashed=hashed, sized=sized, replace=True))
        assert result.error is None
    assert files(out) == bodies
    assert litter(out) == []
