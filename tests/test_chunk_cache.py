"""Chunks kept on disk: asked for once, by all processes together, and never of another version."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zarr

from geotessera import errors as e
from geotessera.remote.http import RetryPolicy
from geotessera.remote.objects import ObjectReader, open_reader
from geotessera.remote.objects import chunk_cache as module
from geotessera.remote.objects.chunk_cache import DEFAULT_LIMIT, CachedReader, chunk_cache
from geotessera.remote.objects.reader_store import zarr_store
from geotessera.testing import SampleStore
from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = RetryPolicy(
    connect_timeout=20.0,
    read_timeout=20.0,
    retries=1,
    backoff=0.01,
    body_pauses=(0.01,),
    longest_wait=0.1,
)
INDEX = 16 * 4 + 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return SampleStore.build(tmp_path_factory.mktemp("cached") / "store")


@pytest.fixture
def server(store: SampleStore) -> Iterator[LoopbackServer]:
    with LoopbackServer(store.path) as running:
        yield running


@pytest.fixture
def shards(store: SampleStore) -> list[str]:
    found = sorted((store.path / "utm30").rglob("c/*/0/*/*")) + sorted(
        (store.path / "utm30/scales/c").rglob("*")
    )
    return [str(path.relative_to(store.path)) for path in found if path.is_file()][:6]


def cached(
    server: LoopbackServer, place: Path, policy: RetryPolicy = QUICK, **options: Any
) -> CachedReader:
    made = open_reader(server.url, cache_dir=place, policy=policy, **options)
    assert isinstance(made, CachedReader)
    return made


def region(reader: ObjectReader, shards: list[str]) -> list[Any]:
    """Read what an engine reads: metadata, indexes, chunks, and what does not exist."""
    ranges = [(key, start, 40) for key in shards for start in (0, 40, 200)]
    return [
        reader.get("zarr.json"),
        reader.get("utm99/zarr.json"),
        reader.read_suffixes([*((key, INDEX) for key in shards), ("utm30/scales/c/9/9/9", INDEX)]),
        reader.get_ranges([*ranges, ("utm30/scales/c/8/8/8", 0, 5)]),
        reader.get_ranges(ranges[:5]),
    ]


def right(store: SampleStore, shards: list[str]) -> list[Any]:
    reader = open_reader(store.path)
    found = region(reader, shards)
    found[2] = [None if one is None else one.data for one in found[2]]
    return found


def data_of(found: list[Any]) -> list[Any]:
    return [*found[:2], [None if one is None else one.data for one in found[2]], *found[3:]]


def test_the_second_run_asks_for_nothing(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    first = cached(server, tmp_path)
    assert data_of(region(first, shards)) == right(store, shards)
    # Metadata, what does not exist, each index, and two runs of chunks in each shard: once.
    assert len(server.requests) == first.traffic.requests == 2 + (6 + 1) + (12 + 1)
    assert server.bytes_sent == first.traffic.bytes
    assert first.traffic.hits == 5
    server.clear()
    again = cached(server, tmp_path)
    assert data_of(region(again, shards)) == right(store, shards)
    assert not server.requests
    assert (again.traffic.requests, again.traffic.bytes) == (0, 0)
    assert again.traffic.hits == 2 + 7 + 19 + 5


def test_only_what_is_missing_is_asked_for(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    cached(server, tmp_path).get_ranges([(shards[0], 0, 40), (shards[0], 80, 40)])
    server.clear()
    found = cached(server, tmp_path).get_ranges([(shards[0], at, 40) for at in (0, 40, 80, 120)])
    assert b"".join(one or b"" for one in found) == (store.path / shards[0]).read_bytes()[:160]
    assert {one.range for one in server.requests} == {"bytes=40-79", "bytes=120-159"}


def test_offline(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    region(cached(server, tmp_path), shards)
    url = server.url
    server.close()
    made = open_reader(url, cache_dir=tmp_path, offline=True, policy=QUICK)
    assert data_of(region(made, shards)) == right(store, shards)
    with pytest.raises(e.OfflineError, match="not in the cache"):
        made.get("utm31/zarr.json")
    with pytest.raises(e.OfflineError, match=r"1 of 2 ranges"):
        made.get_ranges([(shards[0], 0, 40), (shards[0], 1, 40)])
    with pytest.raises(e.OfflineError, match="network"):
        made.get_suffix(shards[0], 5)
    assert isinstance(made.begin([(shards[0], 0, 40)]).result()[0], bytes)


def test_an_old_cache_is_good_enough_offline(
    server: LoopbackServer, shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = region(cached(server, tmp_path), shards)
    server.clear()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e9)
    assert region(cached(server, tmp_path, offline=True), shards) == found
    assert not server.requests


def test_when_a_server_is_asked_again(
    server: LoopbackServer,
    store: SampleStore,
    shards: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region(cached(server, tmp_path), shards)
    server.clear()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + module.METADATA_SECONDS + 1)
    again = cached(server, tmp_path)
    assert data_of(region(again, shards)) == right(store, shards)
    assert sorted((one.path, one.status, one.sent) for one in server.requests) == [
        ("/utm99/zarr.json", 404, 0),
        ("/zarr.json", 304, 0),
    ]
    server.clear()
    region(cached(server, tmp_path), shards)
    assert not server.requests  # it was noted
    monkeypatch.setattr(time, "time", lambda: now + module.DATA_SECONDS + 1)
    region(cached(server, tmp_path), shards)
    assert server.count("*/c/*") == 6 + 2  # a byte of each object, and two that do not exist
    assert server.bytes_sent == 6


def test_a_server_that_is_gone_leaves_what_is_kept(
    server: LoopbackServer,
    shards: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = cached(server, tmp_path)
    kept = one.get("zarr.json"), one.get_range(shards[0], 0, 40)
    url = server.url
    server.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + module.DATA_SECONDS + 1)
    made = open_reader(url, cache_dir=tmp_path, policy=QUICK)
    assert (made.get("zarr.json"), made.get_range(shards[0], 0, 40)) == kept
    assert caplog.text.count("what is kept in the cache is used") == 2
    with pytest.raises(e.UnreachableError):
        made.get_range(shards[0], 1, 40)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[LoopbackServer, Path]]:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/shard").write_bytes(b"a" * 1000)
    with LoopbackServer(tmp_path / "tree") as server:
        yield server, tmp_path / "tree/shard"


def replace_file(path: Path, data: bytes) -> None:
    later = path.stat().st_mtime_ns + 10**10
    path.write_bytes(data)
    os.utime(path, ns=(later, later))


def test_versions_are_never_mixed(changing: tuple[LoopbackServer, Path], tmp_path: Path) -> None:
    server, path = changing
    first = cached(server, tmp_path / "cache")
    old = first.read_suffix("shard", 10)
    assert old is not None
    assert first.get_range("shard", 0, 5) == b"aaaaa"
    replace_file(path, b"b" * 1000)
    for _ in range(2):
        with pytest.raises(e.ChangedError):
            first.get_ranges([("shard", 0, 5), ("shard", 50, 5)])
    # Of the old version only old bytes come.
    assert first.get_range("shard", 0, 5) == b"aaaaa"
    # Another process begins anew, and an index of the old version is refused.
    other = cached(server, tmp_path / "cache")
    assert other.get_range("shard", 50, 5) == b"bbbbb"
    assert other.get_range("shard", 0, 5) == b"bbbbb"
    with pytest.raises(e.ChangedError):
        other.get_ranges([("shard", 0, 5)], {"shard": old.version})
    first.forget("shard")
    assert first.get_ranges([("shard", 0, 5), ("shard", 50, 5)]) == [b"bbbbb", b"bbbbb"]


def test_a_changed_object_is_noticed_when_its_index_is_read(
    changing: tuple[LoopbackServer, Path], tmp_path: Path
) -> None:
    server, path = changing
    first = cached(server, tmp_path / "cache")
    assert first.get_range("shard", 0, 5) == b"aaaaa"
    replace_file(path, b"b" * 1000)
    again = cached(server, tmp_path / "cache")
    with pytest.raises(e.ChangedError):
        again.get_suffix("shard", 10)
    again.forget("shard")
    assert again.get_suffix("shard", 10) == b"b" * 10
    assert again.get_range("shard", 0, 5) == b"bbbbb"


def test_metadata_of_another_version_replace_what_is_kept(
    changing: tuple[LoopbackServer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path = changing
    path = path.with_name("zarr.json")
    path.write_bytes(b"old")
    assert cached(server, tmp_path / "cache").get("zarr.json") == b"old"
    replace_file(path, b"newer")
    assert cached(server, tmp_path / "cache").get("zarr.json") == b"old"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + module.METADATA_SECONDS + 1)
    assert cached(server, tmp_path / "cache").get("zarr.json") == b"newer"
    path.unlink()
    monkeypatch.setattr(time, "time", lambda: now + 2 * module.METADATA_SECONDS + 9)
    assert cached(server, tmp_path / "cache").get("zarr.json") is None


def test_failures_are_not_kept(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    for fault in (
        Fault("status", status=403),
        Fault("status", status=503),
        Fault("truncate", after=3),
        Fault("reset", after=3),
        Fault("stall", after=3, seconds=1),
    ):
        server.clear()
        server.add(fault)
        policy = replace(QUICK, read_timeout=0.3) if fault.seconds else QUICK
        made = cached(server, tmp_path, policy=policy)
        for asked in (
            lambda made=made: made.get("zarr.json"),
            lambda made=made: made.get_suffix(shards[0], INDEX),
            lambda made=made: made.get_ranges([(shards[0], 0, 9), (shards[1], 7, 9)]),
        ):
            with pytest.raises(e.TransferError):
                asked()
    server.clear()
    assert data_of(region(cached(server, tmp_path), shards)) == right(store, shards)


def test_a_batch_that_fails_keeps_what_arrived(
    server: LoopbackServer, shards: list[str], tmp_path: Path
) -> None:
    server.add(Fault("status", status=403, path=f"/{shards[-1]}"))
    ranges = [(key, 0, 9) for key in sorted(shards)]
    with pytest.raises(e.ForbiddenError):
        cached(server, tmp_path, jobs=1).get_ranges(ranges)
    server.clear()
    cached(server, tmp_path).get_ranges(ranges)
    assert 0 < len(server.requests) < len(ranges) or shards[-1] == min(shards)


def test_damage_is_noticed(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    region(cached(server, tmp_path), shards)
    entries = list((tmp_path / module.DIRECTORY / "entries").rglob("*"))
    for number, path in enumerate(path for path in entries if path.is_file()):
        data = bytearray(path.read_bytes())
        data[-1 - number % 7] ^= 0x10
        path.write_bytes(data[: len(data) - number % 2])
    server.clear()
    assert data_of(region(cached(server, tmp_path), shards)) == right(store, shards)
    assert len(server.requests) == 2 + (6 + 1) + (12 + 1)


def test_the_cache_is_bounded(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    limit = 200_000
    made = cached(server, tmp_path, cache_max_size=limit)
    for start in range(0, 600, 5):
        made.get_range(shards[0], start, 5)
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())
    assert 0 < made.files.usage().bytes <= limit
    assert used <= limit * 33 // 32 + 8192
    with pytest.raises(e.InputError, match="cache_max_size"):
        cached(server, tmp_path, cache_max_size="much")
    assert chunk_cache(tmp_path).limit == DEFAULT_LIMIT
    assert chunk_cache(tmp_path, "1.5 GB").limit == 1_500_000_000


def test_a_cache_that_cannot_be_written_is_done_without(
    server: LoopbackServer,
    store: SampleStore,
    shards: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    made = cached(server, tmp_path / "file")
    assert data_of(region(made, shards)) == right(store, shards)
    assert caplog.text.count("is not used") == 1


def test_two_spellings_of_a_store_share_what_is_kept(tmp_path: Path) -> None:
    from geotessera.datasets import TESSERA_MIRROR_S3_HTTP_URL, TESSERA_MIRROR_URL

    one, two = (
        open_reader(f"{base}/zarr/v1", cache_dir=tmp_path, offline=True, via_gateway=gateway)
        for base, gateway in ((TESSERA_MIRROR_URL, True), (TESSERA_MIRROR_S3_HTTP_URL, False))
    )
    assert isinstance(one, CachedReader)
    assert isinstance(two, CachedReader)
    one._learn("shard", '"v"')
    assert two._of("shard") is not None
    assert one.inner.url_of("x") != two.inner.url_of("x")


def test_it_is_pickled_by_its_directory(
    server: LoopbackServer, shards: list[str], tmp_path: Path
) -> None:
    made = cached(server, tmp_path, cache_max_size="1MB")
    made.get_range(shards[0], 0, 9)
    again = pickle.loads(pickle.dumps(made))
    server.clear()
    assert again.get_range(shards[0], 0, 9) == made.get_range(shards[0], 0, 9)
    assert not server.requests
    assert again.files.limit == 1_000_000


def test_threads_share_it(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    made = cached(server, tmp_path)
    expected = right(store, shards)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda _: data_of(region(made, shards)), range(32)))
    assert all(one == expected for one in found)
    server.clear()
    region(cached(server, tmp_path), shards)
    assert not server.requests


def _process(url: str, place: str, shards: list[str], queue: Any) -> None:
    made = open_reader(url, cache_dir=place, policy=QUICK)
    queue.put((data_of(region(made, shards)), made.traffic.requests))


def test_processes_share_it(
    server: LoopbackServer, store: SampleStore, shards: list[str], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    expected = right(store, shards)

    def run(count: int) -> int:
        arguments = (server.url, str(tmp_path), shards, queue)
        processes = [context.Process(target=_process, args=arguments) for _ in range(count)]
        for process in processes:
            process.start()
        found = [queue.get(timeout=PATIENCE) for _ in processes]
        for process in processes:
            process.join()
        assert all(data == expected for data, _ in found)
        return sum(requests for _, requests in found)

    once = 2 + 7 + 13
    assert once <= run(2) <= 2 * once
    assert run(1) == 0


def test_zarr_python_reads_through_it(
    server: LoopbackServer, store: SampleStore, tmp_path: Path
) -> None:
    for requests in (True, False):
        server.clear()
        made = zarr_store(server.url, cache_dir=tmp_path, cache_max_size="10MB")
        array = zarr.open_array(made, path="utm30/embeddings", mode="r", zarr_format=3)
        expected = zarr.open_array(store.path, path="utm30/embeddings", mode="r")
        assert (array[1, :, :70, :70] == expected[1, :, :70, :70]).all()  # type: ignore[union-attr]
        assert bool(server.requests) == requests
