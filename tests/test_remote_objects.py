"""Objects of stores, whole or in part: exact bytes or a clear error, from every kind of place."""

from __future__ import annotations

import os
import pickle
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from engine_helpers import policy_for
from geotessera import errors as e
from geotessera.datasets import TESSERA_MIRROR_S3_HTTP_URL, TESSERA_MIRROR_URL
from geotessera.remote import connections
from geotessera.remote import http as remote_http
from geotessera.remote.byterange import NoRangesError
from geotessera.remote.http import RetryPolicy, enable_http_logging
from geotessera.remote.light import origins
from geotessera.remote.objects import ObjectReader, open_reader
from geotessera.remote.objects.http import HttpReader
from geotessera.remote.objects.local import LocalReader
from geotessera.remote.objects.parts import merge
from geotessera.remote.objects.reader_store import ReaderStore, store_of, zarr_store
from geotessera.remote.objects.routing import GATEWAY_ENV, base_of
from geotessera.remote.objects.s3 import S3Reader
from geotessera.testing import SampleStore
from geotessera.testing.server import Fault, LoopbackServer
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUICK = RetryPolicy(
    connect_timeout=20.0,
    read_timeout=20.0,
    retries=2,
    backoff=0.01,
    body_pauses=(0.01, 0.01),
    longest_wait=0.2,
)

INDEX = 16 * 4 + 4  # 2 x 2 inner chunks, and a CRC

type Open = Callable[..., ObjectReader]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return SampleStore.build(tmp_path_factory.mktemp("objects") / "store")


@pytest.fixture(scope="module")
def shard(store: SampleStore) -> str:
    found = sorted((store.path / "utm30/embeddings/c").rglob("*"))
    return next(str(path.relative_to(store.path)) for path in found if path.is_file())


@pytest.fixture(autouse=True)
def _gives_back_connections() -> Iterator[None]:
    yield
    # Threads that were told to stop may still do so.
    until(lambda: not connections._connections.used)


@pytest.fixture
def server(store: SampleStore) -> Iterator[LoopbackServer]:
    with LoopbackServer(store.path) as running:
        yield running


@pytest.fixture(params=["directory", "http", "s3", "store"])
def reader(
    request: pytest.FixtureRequest, store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectReader]:
    match request.param:
        case "directory":
            yield open_reader(store.path)
        case "store":
            yield open_reader(zarr.storage.LocalStore(store.path, read_only=True))
        case "http":
            with LoopbackServer(store.path) as server:
                yield open_reader(server.url, policy=QUICK)
        case "s3":
            with LoopbackServer(store.path.parent.parent) as server:
                use_endpoint(monkeypatch, server)
                parts = store.path.parts
                yield open_reader(f"s3://{parts[-2]}/{parts[-1]}", policy=QUICK)


def use_endpoint(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_REGION", "us-west-2")


# --- Every kind of reader ---------------------------------------------------------------------


def test_whole_objects(reader: ObjectReader, store: SampleStore, shard: str) -> None:
    for key in ("zarr.json", "utm30/zarr.json", shard):
        assert reader.get(key) == (store.path / key).read_bytes()
    assert reader.get("nothing/here") is None


def test_ranges_come_in_the_order_asked(
    reader: ObjectReader, store: SampleStore, shard: str
) -> None:
    whole = (store.path / shard).read_bytes()
    ranges = [
        (shard, 100, 50),
        ("nothing", 0, 4),
        (shard, 0, 10),
        (shard, 10, 90),
        (shard, 100, 50),
        (shard, 90, 20),
        ("zarr.json", 1, 2),
        (shard, len(whole) - 1, 1),
    ]
    expected = [
        None if key == "nothing" else (store.path / key).read_bytes()[start : start + length]
        for key, start, length in ranges
    ]
    assert reader.get_ranges(ranges) == expected
    assert reader.begin(ranges).result() == expected
    assert [reader.get_range(*one) for one in ranges] == expected
    batches = [ranges[:3], [], ranges[3:4], ranges[4:]]
    assert [*chain(*reader.get_ranges_ahead(batches, ahead=2))] == expected
    assert reader.get_ranges([]) == []


def test_suffixes_have_versions(reader: ObjectReader, store: SampleStore, shard: str) -> None:
    whole = (store.path / shard).read_bytes()
    tail, none, same = reader.read_suffixes([(shard, INDEX), ("no/thing", 4), (shard, 1)])
    assert none is None
    assert tail is not None
    assert same is not None
    assert (tail.data, same.data) == (whole[-INDEX:], whole[-1:])
    assert tail.version == same.version
    assert reader.get_suffix(shard, INDEX) == whole[-INDEX:]
    assert reader.get_suffix(shard, len(whole)) == whole
    assert reader.get_ranges([(shard, 0, 3)], {shard: tail.version}) == [whole[:3]]
    with pytest.raises(e.TruncatedError, match="only"):
        reader.get_suffix(shard, len(whole) + 1)


def test_ranges_beyond_the_end_are_errors(
    reader: ObjectReader, store: SampleStore, shard: str
) -> None:
    size = (store.path / shard).stat().st_size
    for start in (size - 3, size, size + 100):
        with pytest.raises((e.TruncatedError, e.TransferError), match=r"embeddings"):
            reader.get_range(shard, start, 5)
    for start, length in ((-1, 5), (0, -1)):
        with pytest.raises(e.InputError, match="no range"):
            reader.get_range(shard, start, length)


def test_readers_are_pickled_by_location(
    reader: ObjectReader, store: SampleStore, shard: str
) -> None:
    again = pickle.loads(pickle.dumps(reader))
    assert type(again) is type(reader)
    assert again.location == reader.location
    assert again.get_range(shard, 3, 9) == (store.path / shard).read_bytes()[3:12]


def test_threads_share_a_reader(reader: ObjectReader, store: SampleStore, shard: str) -> None:
    whole = (store.path / shard).read_bytes()

    def ask(number: int) -> bool:
        ranges = [(shard, number * 7 + step * 31, 20) for step in range(8)]
        found = reader.get_ranges(ranges)
        suffix = reader.get_suffix(shard, INDEX)
        right = [whole[start : start + length] for _, start, length in ranges]
        return found == right and suffix == whole[-INDEX:] and reader.get("zarr.json") is not None

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(64)))


def test_zarr_python_reads_through_a_reader(reader: ObjectReader, store: SampleStore) -> None:
    made = store_of(reader)
    group = zarr.open_group(made, mode="r", zarr_format=3)
    expected = zarr.open_group(store.path, mode="r")
    for name in ("utm30/embeddings", "utm31/scales", "utm30/y"):
        left, right = group[name], expected[name]
        assert isinstance(left, zarr.Array)
        assert isinstance(right, zarr.Array)
        assert left[...].tobytes() == right[...].tobytes()  # type: ignore[union-attr]


# --- Locations --------------------------------------------------------------------------------


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GATEWAY_ENV, raising=False)
    assert isinstance(open_reader(tmp_path), LocalReader)
    assert isinstance(open_reader(tmp_path.as_uri()), LocalReader)
    assert open_reader(str(tmp_path) + "/").location == str(tmp_path)
    assert isinstance(open_reader("s3://tessera-embeddings/v1/"), S3Reader)
    assert open_reader("http://127.0.0.1:1/store/").location == "http://127.0.0.1:1/store"
    assert open_reader("memory://a/b").get("c") is None
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_reader(tmp_path / "nothing")
    for wrong in ("", " ", "s3://", "http://", "https:///a", "nonsense://x/y", 3, None):
        with pytest.raises(ValueError, match="expected"):
            open_reader(wrong)
    with pytest.raises(ValueError, match="cannot be combined"):
        open_reader(zarr.storage.MemoryStore(), cache_dir=tmp_path)
    with pytest.raises(ValueError, match="needs cache_dir"):
        open_reader("http://127.0.0.1:1/store", offline=True)
    with pytest.raises(ValueError, match="jobs"):
        open_reader("http://127.0.0.1:1/store", jobs=0)
    with pytest.raises(ValueError, match="no key"):
        open_reader(tmp_path).get("../secret")


@pytest.mark.parametrize(
    ("value", "argument", "direct"),
    [
        (None, None, True),
        ("", None, True),
        ("0", None, True),
        ("false", None, True),
        ("1", None, False),
        ("yes", None, False),
        ("1", False, True),
        (None, True, False),
    ],
)
def test_published_stores_are_read_at_their_bucket(
    monkeypatch: pytest.MonkeyPatch, value: str | None, argument: bool | None, direct: bool
) -> None:
    monkeypatch.delenv(GATEWAY_ENV, raising=False)
    if value is not None:
        monkeypatch.setenv(GATEWAY_ENV, value)
    for spelling in (TESSERA_MIRROR_URL, TESSERA_MIRROR_S3_HTTP_URL):
        made = open_reader(f"{spelling}/zarr/v1/", via_gateway=argument)
        assert isinstance(made, HttpReader)
        assert made.location == f"{TESSERA_MIRROR_URL}/zarr/v1"
        base = TESSERA_MIRROR_S3_HTTP_URL if direct else TESSERA_MIRROR_URL
        assert made.url_of("zarr.json") == f"{base}/zarr/v1/zarr.json"
    assert base_of("https://example.org/zarr/v1/", argument) == "https://example.org/zarr/v1"


def test_keys_and_queries_are_put_into_urls() -> None:
    made = HttpReader("https://example.org/a?token=x%20y")
    assert made.url_of("b c/ü~1") == "https://example.org/a/b%20c/%C3%BC~1?token=x%20y"


# --- Requests ---------------------------------------------------------------------------------


@given(
    ranges=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 12)), max_size=12
    ),
    gap=st.integers(0, 9),
    longest=st.integers(1, 40),
)
def test_merged_requests_hold_every_range_once(
    ranges: list[tuple[str, int, int]], gap: int, longest: int
) -> None:
    plan = merge(ranges, gap, longest)
    assert sorted(index for one in plan for index in one.indices) == list(range(len(ranges)))
    for one in plan:
        wanted: set[int] = set()
        for index in one.indices:
            key, start, length = ranges[index]
            assert key == one.key
            assert one.start <= start
            assert start + length <= one.stop
            wanted |= set(range(start, start + length))
        # Nothing is asked for that is not wanted, but gaps.
        spare = sorted(set(range(one.start, one.stop)) - wanted)
        run = 0
        for before, byte in zip([-9, *spare], spare, strict=False):
            run = run + 1 if byte == before + 1 else 1
            assert run <= gap
        longest_range = max(ranges[index][2] for index in one.indices)
        assert one.stop - one.start <= max(longest, longest_range)


def test_touching_ranges_are_one_request_and_no_byte_is_spare(
    server: LoopbackServer, store: SampleStore, shard: str
) -> None:
    made = open_reader(server.url, policy=QUICK)
    made.get_ranges([(shard, 0, 100), (shard, 100, 20), (shard, 121, 9), (shard, 400, 5)])
    assert sorted(one.range or "" for one in server.requests) == [
        "bytes=0-119",
        "bytes=121-129",
        "bytes=400-404",
    ]
    assert server.bytes_sent == made.traffic.bytes == 134
    assert made.traffic.requests == 3
    server.clear()
    near = open_reader(server.url, policy=QUICK, gap=300)
    near.get_ranges([(shard, 0, 100), (shard, 121, 9), (shard, 400, 5)])
    assert [one.range for one in server.requests] == ["bytes=0-404"]


def test_suffixes_cost_one_request(server: LoopbackServer, shard: str) -> None:
    open_reader(server.url, policy=QUICK).get_suffix(shard, INDEX)
    assert [(one.method, one.range) for one in server.requests] == [("GET", f"bytes=-{INDEX}")]
    assert server.bytes_sent == INDEX


def test_nothing_is_asked_for_when_opening(server: LoopbackServer) -> None:
    open_reader(server.url)
    assert not server.requests


def test_ranges_are_read_at_once_and_connections_kept(
    server: LoopbackServer, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.latency = 0.2
    ranges = [(shard, 10 * number, 3) for number in range(32)]
    made = open_reader(server.url, policy=QUICK, jobs=16)
    made.get_ranges(ranges)
    assert 8 <= server.peak <= 16
    assert server.connections <= 16
    before = server.connections
    server.latency = 0.02
    made.get_ranges(ranges)
    assert server.connections == before
    monkeypatch.setenv("GEOTESSERA_RANGE_JOBS", "2")
    server.peak = 0
    open_reader(server.url, policy=QUICK).get_ranges(ranges[:8])
    # The server counts an answer until it has noted its end: it may see one more a thread.
    assert server.peak <= 4


def test_batches_ahead_are_begun_before_they_are_wanted(server: LoopbackServer, shard: str) -> None:
    batches = [[(shard, 100 * number, 5)] for number in range(5)]
    ahead = open_reader(server.url, policy=QUICK).get_ranges_ahead(batches)
    next(ahead)
    until(lambda: len(server.requests) >= 2)
    ahead.close()  # type: ignore[attr-defined]
    assert len(server.requests) == 2


def test_a_kept_connection_that_was_closed_is_replaced(
    server: LoopbackServer, store: SampleStore, shard: str
) -> None:
    made = open_reader(server.url, policy=replace(QUICK, retries=0, body_pauses=()))
    made.get_range(shard, 0, 4)
    for connection in list(server._sockets):
        connection.shutdown(socket.SHUT_RDWR)
    assert made.get_range(shard, 4, 4) == (store.path / shard).read_bytes()[4:8]


# --- What goes wrong --------------------------------------------------------------------------

PASSING = {
    "throttled": Fault("status", times=1, status=503, retry_after=0),
    "too many": Fault("status", times=1, status=429, retry_after="1"),
    "broken": Fault("status", times=2, status=500),
    "truncated": Fault("truncate", times=1, after=5),
    "empty": Fault("truncate", times=1, after=0),
    "reset": Fault("reset", times=1, after=5),
    "stalled": Fault("stall", times=1, after=5, seconds=1.6),
    "slow to answer": Fault("latency", times=1, seconds=1.6),
    "slow": Fault("bandwidth", rate=2e6),
    "longer than sent": Fault("wrong-length", times=1, extra=9),
    "shorter than sent": Fault("wrong-length", times=1, extra=-9),
    "redirected": Fault("redirect"),
    "no ranges": Fault("no-range"),
    "another range": Fault(
        "header", times=1, headers={"Content-Range": "bytes 7-9/100", "Content-Length": "3"}
    ),
    "no length": Fault("header", times=1, headers={"Content-Length": None}),
    "no version": Fault("header", headers={"ETag": None, "Last-Modified": None}),
}
FINAL: dict[str, tuple[Fault, type[Exception]]] = {
    "forbidden": (Fault("status", status=403), e.ForbiddenError),
    "unauthorised": (Fault("status", status=401), e.ForbiddenError),
    "throttled": (Fault("status", status=503, retry_after=0), e.ThrottledError),
    "broken": (Fault("status", status=500), e.HTTPStatusError),
    "strange": (Fault("status", status=418), e.HTTPStatusError),
    "truncated": (Fault("truncate", after=5), e.TruncatedError),
    "reset": (Fault("reset", after=5), e.TruncatedError),
    "stalled": (Fault("stall", after=5, seconds=1.6), e.UnreachableError),
    "longer than sent": (Fault("wrong-length", extra=9), e.TruncatedError),
    "redirected for ever": (Fault("redirect", location="/loop"), e.TransferError),
}


def three_kinds(store: SampleStore, shard: str) -> dict[str, tuple[str, Any, Any]]:
    whole = (store.path / shard).read_bytes()
    ranges = [(shard, 30, 40), (shard, 200, 60), (shard, 500, 7)]
    return {
        "metadata": ("zarr.json", "get", (store.path / "zarr.json").read_bytes()),
        "index": (shard, "get_suffix", whole[-INDEX:]),
        "chunks": (shard, "get_ranges", [whole[a : a + b] for _, a, b in ranges]),
    }


def ask(reader: ObjectReader, what: str, shard: str) -> Any:
    match what:
        case "metadata":
            return reader.get("zarr.json")
        case "index":
            return reader.get_suffix(shard, INDEX)
    return reader.get_ranges([(shard, 30, 40), (shard, 200, 60), (shard, 500, 7)])


@pytest.mark.parametrize("what", ["metadata", "index", "chunks"])
@pytest.mark.parametrize("name", PASSING)
def test_passing_faults_leave_no_trace(
    server: LoopbackServer, store: SampleStore, shard: str, name: str, what: str
) -> None:
    if name == "another range" and what == "metadata":
        pytest.skip("a whole object has no range to be wrong")
    server.add(PASSING[name])
    made = open_reader(server.url, policy=policy_for(PASSING[name], QUICK), jobs=1)
    right = three_kinds(store, shard)[what][2]
    if name == "longer than sent" and what != "metadata":
        # It also says in another header how many bytes there are.
        assert ask(made, what, shard) == right
        return
    if name == "shorter than sent" and what == "metadata":
        # Nobody can know; the document does not end, and who reads it will say so.
        assert ask(made, what, shard) == right[:-9]
        return
    assert ask(made, what, shard) == right
    if name != "no version":  # with one it is another object
        server.clear()
    assert ask(made, what, shard) == right


@pytest.mark.parametrize("what", ["metadata", "index", "chunks"])
@pytest.mark.parametrize("name", FINAL)
def test_lasting_faults_are_clear_errors_and_are_not_remembered(
    server: LoopbackServer, store: SampleStore, shard: str, name: str, what: str
) -> None:
    fault, kind = FINAL[name]
    server.add(fault)
    made = open_reader(server.url, policy=policy_for(fault, QUICK), jobs=2)
    if name == "longer than sent" and what != "metadata":
        kind = e.TransferError  # the headers contradict each other
    with pytest.raises(kind, match=r"127\.0\.0\.1"):
        ask(made, what, shard)
    server.clear()
    assert ask(made, what, shard) == three_kinds(store, shard)[what][2]


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_is_none(server: LoopbackServer, shard: str, status: int) -> None:
    server.add(Fault("status", status=status))
    made = open_reader(server.url, policy=QUICK)
    assert ask(made, "metadata", shard) is None
    assert ask(made, "index", shard) is None
    assert ask(made, "chunks", shard) == [None] * 3
    server.clear()
    assert ask(made, "metadata", shard) is not None


def test_how_often_is_asked(server: LoopbackServer, shard: str) -> None:
    for fault, requests in (
        (Fault("status", status=403), 1),
        (Fault("status", status=500), 1 + QUICK.retries),
        (Fault("truncate", after=1), 1 + len(QUICK.body_pauses)),
    ):
        server.clear()
        server.add(fault)
        with pytest.raises(e.TransferError):
            open_reader(server.url, policy=QUICK).get_range(shard, 0, 50)
        assert len(server.requests) == requests, fault


def test_retry_after_is_obeyed_by_all_threads(server: LoopbackServer, shard: str) -> None:
    server.add(Fault("status", times=1, status=429, retry_after=7))
    waits: list[float] = []
    policy = replace(QUICK, longest_wait=60, sleep=waits.append)
    open_reader(server.url, policy=policy).get_range(shard, 0, 5)
    assert 7 <= waits[0] <= 7 * 1.25
    # The server asked all of us.
    open_reader(server.url, policy=policy).get_range(shard, 5, 5)
    assert 5 < waits[-1] <= 7 * 1.25


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(e.UnreachableError, match="refused"):
        open_reader(f"http://127.0.0.1:{port}/x", policy=QUICK).get("zarr.json")


def test_a_server_that_speaks_no_tls() -> None:
    with LoopbackServer("/nonexistent") as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(e.UnreachableError) as caught:
            open_reader(url, policy=QUICK).get("zarr.json")
        assert isinstance(caught.value.__cause__, ssl.SSLError)


def test_servers_without_ranges_are_read_whole_once(
    server: LoopbackServer,
    store: SampleStore,
    shard: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.add(Fault("no-range"))
    made = open_reader(server.url, policy=QUICK)
    whole = (store.path / shard).read_bytes()
    assert made.get_suffix(shard, INDEX) == whole[-INDEX:]
    assert made.get_ranges([(shard, 5, 5), (shard, 90, 7)]) == [whole[5:10], whole[90:97]]
    assert len(server.requests) == 1
    assert caplog.text.count("ignores ranges") == 1
    monkeypatch.setattr("geotessera.remote.objects.http.WHOLE_BYTES", 1000)
    with pytest.raises(NoRangesError, match="another server"):
        open_reader(server.url, policy=QUICK).get_suffix(shard, INDEX)


def test_a_failure_ends_the_batch_at_once(server: LoopbackServer, shard: str) -> None:
    server.add(Fault("status", status=403, skip=3), Fault("latency", seconds=0.02))
    made = open_reader(server.url, policy=QUICK, jobs=4)
    with pytest.raises(e.ForbiddenError):
        made.get_ranges([(shard, 9 * number, 5) for number in range(400)])
    assert len(server.requests) < 30


def test_cancelling_cuts_connections(server: LoopbackServer, shard: str) -> None:
    server.add(Fault("stall", after=1, seconds=100))
    made = open_reader(server.url, policy=replace(QUICK, read_timeout=100), jobs=4)
    pending = made.begin([(shard, 9 * number, 5) for number in range(8)])
    until(lambda: len(server.requests) >= 4)
    began = time.monotonic()
    pending.cancel()
    until(
        lambda: (
            not any(
                thread.name.removeprefix("geotessera-").isdecimal()
                for thread in threading.enumerate()
            )
        )
    )
    assert time.monotonic() - began < 50
    assert len(server.requests) == 4


# --- Versions ---------------------------------------------------------------------------------


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/shard").write_bytes(b"a" * 1000 + b"A" * 10)
    return tmp_path / "tree"


def replace_file(path: Path, data: bytes, seconds: int = 10) -> None:
    path.with_suffix(".new").write_bytes(data)
    later = path.stat().st_mtime_ns + seconds * 10**9
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize("headers", [{}, {"ETag": None}], ids=["etag", "date"])
@pytest.mark.parametrize("how", ["http", "s3"])
def test_bytes_of_two_versions_are_never_mixed(
    changing: Path, how: str, headers: dict[str, None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("header", headers=headers)
    with LoopbackServer(changing.parent, faults=[fault]) as server:
        use_endpoint(monkeypatch, server)
        made = open_reader("s3://tree" if how == "s3" else f"{server.url}/tree", policy=QUICK)
        index = made.read_suffix("shard", 10)
        assert index is not None
        assert index.data == b"A" * 10
        replace_file(changing / "shard", b"b" * 1000 + b"B" * 10)
        for _ in range(2):  # it stays so
            with pytest.raises(e.ChangedError, match="try again"):
                made.get_ranges([("shard", 0, 5), ("shard", 50, 5)])
            with pytest.raises(e.ChangedError):
                made.get_suffix("shard", 10)
        # Whole objects are of one version by themselves.
        assert made.get("shard") == b"b" * 1000 + b"B" * 10
        made.forget("shard")
        # Somebody else's index is still of the old version.
        with pytest.raises(e.ChangedError):
            made.get_ranges([("shard", 0, 5)], {"shard": index.version})
        made.forget("shard")
        assert made.read_suffix("shard", 10) != index
        assert made.get_range("shard", 0, 5) == b"b" * 5


def test_a_replaced_file_is_read_as_it_was_until_it_is_forgotten(changing: Path) -> None:
    made = open_reader(changing)
    index = made.read_suffix("shard", 10)
    assert index is not None
    replace_file(changing / "shard", b"b" * 1000 + b"B" * 10)
    assert made.get_range("shard", 0, 5) == b"a" * 5  # the file that was opened
    made.close()
    with pytest.raises(e.ChangedError):
        made.get_range("shard", 0, 5)
    made.forget("shard")
    with pytest.raises(e.ChangedError):
        made.get_ranges([("shard", 0, 5)], {"shard": index.version})
    assert made.get_range("shard", 0, 5) == b"b" * 5


def test_few_files_stay_open(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"%03d" % number)
    made = open_reader(tmp_path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH208, PTH112
    found = made.get_ranges([(str(number), 0, 3) for number in range(100)])
    assert found == [b"%03d" % number for number in range(100)]
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 33  # noqa: PTH208
    made.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


# --- Buckets, stores, the log -----------------------------------------------------------------


def test_public_buckets_need_no_credentials(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tessera-embeddings").symlink_to(store.path.parent, target_is_directory=True)
    with LoopbackServer(tmp_path) as server:
        use_endpoint(monkeypatch, server)
        made = open_reader(f"s3://tessera-embeddings/{store.path.name}", policy=QUICK)
        assert made.get("zarr.json") == (store.path / "zarr.json").read_bytes()
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("fault", "kind", "requests"),
    [
        (Fault("status", status=403), e.ForbiddenError, 1),
        (Fault("status", status=503), e.ThrottledError, 1 + QUICK.retries),
        (Fault("truncate", after=3), e.TruncatedError, 1 + len(QUICK.body_pauses)),
        (Fault("stall", after=3, seconds=1.6), e.TransferError, 1 + len(QUICK.body_pauses)),
        (Fault("no-range"), NoRangesError, 1),
    ],
)
def test_buckets_fail_as_servers_do(
    store: SampleStore,
    shard: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    kind: type[Exception],
    requests: int,
) -> None:
    with LoopbackServer(store.path.parent, faults=[fault]) as server:
        use_endpoint(monkeypatch, server)
        made = open_reader("s3://store", policy=policy_for(fault, QUICK))
        with pytest.raises(kind, match="s3://store"):
            made.get_range(shard, 0, 50)
        assert len(server.requests) == requests
        server.clear()
        assert made.get_range(shard, 0, 5) == (store.path / shard).read_bytes()[:5]


def test_zarr_store(server: LoopbackServer, store: SampleStore) -> None:
    made = zarr_store(server.url)
    assert isinstance(made, ReaderStore)
    assert made == zarr_store(server.url + "/")
    assert pickle.loads(pickle.dumps(made)) == made
    array = zarr.open_array(made, path="utm30/embeddings", mode="r", zarr_format=3)
    right = zarr.open_array(store.path, path="utm30/embeddings", mode="r")
    assert (array[0, :, :40, :40] == right[0, :, :40, :40]).all()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(made, path="utm30/embeddings", mode="r+", zarr_format=3)[0] = 1
    assert isinstance(zarr_store(store.path), zarr.storage.LocalStore)
    memory = zarr.storage.MemoryStore()
    assert zarr_store(memory) is memory


def test_http_logging_says_what_is_asked(
    server: LoopbackServer, shard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = remote_http.logger
    level, handlers = log.level, list(log.handlers)
    try:
        enable_http_logging()
        enable_http_logging()
        server.add(Fault("status", times=1))
        open_reader(server.url, policy=QUICK).get_suffix(shard, INDEX)
        text = capsys.readouterr().err
    finally:
        log.setLevel(level)
        log.handlers[:] = handlers
    assert text.count(f"GET {server.url}/{shard} bytes=-{INDEX}: 206, {INDEX} bytes") == 1
    assert text.count("bytes: 503") + text.count(": 503") == 1
    assert "trying again" in text


def test_proxies_and_netrc_are_left_to_requests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert origins._is_plain("https://example.org", "example.org") or os.environ.get("https_proxy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "inside.example.org")
    assert not origins._is_plain("http://example.org", "example.org")
    assert origins._is_plain("http://inside.example.org", "inside.example.org")
    assert origins._is_plain("http://127.0.0.1:80", "127.0.0.1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not origins._is_plain("http://127.0.0.1:80", "127.0.0.1")


def test_a_netrc_file_is_obeyed(
    server: LoopbackServer, shard: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    made = open_reader(server.url, policy=QUICK)
    assert made.get_ranges([(shard, 0, 3), (shard, 9, 3)]) is not None
    assert server.requests[0].headers["authorization"].startswith("Basic")


def test_connections_that_are_idle_for_long_are_closed(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those to a server that is never asked again."""
    with LoopbackServer(store.path) as first, LoopbackServer(store.path) as second:
        assert open_reader(first.url).get("zarr.json")
        origin = origins.origin_of(first.url)
        assert origin is not None
        [kept] = origin._idle
        assert open_reader(second.url).get("zarr.json")
        assert list(origin._idle) == [kept]
        monkeypatch.setattr(origins, "_IDLE_SECONDS", -1.0)
        with LoopbackServer(store.path) as third:
            assert open_reader(third.url).get("zarr.json")
        assert not origin._idle
        assert kept.sock.fileno() == -1
