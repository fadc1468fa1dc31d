"""Many ranges at once by one thread: exact bytes, or what one request at a time would say."""

from __future__ import annotations

import _thread
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine_helpers import policy_for
from geotessera import errors as e
from geotessera.remote import connections
from geotessera.remote.http import RetryPolicy, enable_http_logging, logger
from geotessera.remote.light import origins, sweep, wire
from geotessera.remote.objects import ObjectReader, arrivals, network, open_reader
from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geotessera.remote.objects.arrivals import Arrivals

COUNT = 300
JOBS = 16

QUICK = RetryPolicy(
    connect_timeout=20.0,
    read_timeout=20.0,
    retries=2,
    backoff=0.01,
    body_pauses=(0.01, 0.01),
    longest_wait=0.2,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweep")
    (made / "shard").write_bytes(random.Random(7).randbytes(1_500_000))
    (made / "other").write_bytes(b"o" * 1000)
    return made


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory with a certificate and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    made = tmp_path_factory.mktemp("identity")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", made / "key.pem", "-out", made / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return made


def secured(server: LoopbackServer, identity: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a server that has not been started speak TLS; return its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity / "certificate.pem", identity / "key.pem")
    server._http.socket = context.wrap_socket(
        server._http.socket, server_side=True, do_handshake_on_connect=False
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(identity / "certificate.pem"))
    wire._context.cache_clear()
    return server.url.replace("http://127.0.0.1", "https://localhost")


@pytest.fixture(params=["plain", "tls"])
def place(
    request: pytest.FixtureRequest, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LoopbackServer, str]]:
    server = LoopbackServer(tree)
    url = server.url
    if request.param == "tls":
        identity = request.getfixturevalue("identity")
        url = secured(server, identity, monkeypatch)
    with server:
        yield server, url
    origins._close_all()
    wire._context.cache_clear()


@pytest.fixture
def server(tree: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer(tree) as running:
        yield running
    # Threads that were told to stop may still do so.
    until(lambda: not connections._connections.used)
    assert not connections._connections.allowed


def wanted(count: int = COUNT) -> list[tuple[str, int, int]]:
    """Return ranges that do not touch, some longer than what is received at a time."""
    rng = random.Random(count)
    lengths = [rng.choice((3, 40, 900, 3000, 9000)) for _ in range(count)]
    lengths[count // 2] = 200_000
    ranges, start = [], 0
    for length in lengths:
        ranges.append(("shard", start, length))
        start += length + 1
    rng.shuffle(ranges)
    return ranges


def check(reader: ObjectReader, tree: Path, ranges: list[tuple[str, int, int]]) -> None:
    whole = (tree / "shard").read_bytes()
    found = reader.get_ranges(ranges)
    assert all(type(one) is bytes for one in found)
    assert found == [whole[start : start + length] for _, start, length in ranges]


def test_every_range_is_asked_for_once(place: tuple[LoopbackServer, str], tree: Path) -> None:
    server, url = place
    reader = open_reader(url, policy=QUICK, jobs=JOBS)
    check(reader, tree, wanted())
    assert len(server.requests) == COUNT == reader.traffic.requests
    assert server.bytes_sent == reader.traffic.bytes == sum(each[2] for each in wanted())
    assert 1 < server.connections <= JOBS
    before = server.connections
    check(reader, tree, wanted())
    assert server.connections == before  # kept
    found = reader.read_suffixes([("shard", 9), ("none", 4), ("other", 3), ("shard", 70_000)])
    whole = (tree / "shard").read_bytes()
    assert [one and one.data for one in found] == [whole[-9:], None, b"ooo", whole[-70_000:]]
    assert reader.begin(wanted()).result() == reader.get_ranges(wanted())


def test_strangers_are_not_believed(
    tree: Path, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a connection was opened before."""
    server = LoopbackServer(tree)
    url = secured(server, identity, monkeypatch)
    with server:
        reader = open_reader(url, policy=QUICK, jobs=JOBS)
        reader.get_range("shard", 0, 3)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        wire._context.cache_clear()
        origins._close_all()
        with pytest.raises(e.UnreachableError, match="certificate"):
            reader.get_ranges(wanted())
    wire._context.cache_clear()


PASSING = {
    "throttled": (Fault("status", times=1, skip=20, status=503, retry_after=0), 1),
    "too many": (Fault("status", times=3, skip=20, status=429), 3),
    "broken": (Fault("status", times=1, skip=20, status=500), 1),
    "truncated": (Fault("truncate", times=1, skip=20, after=1), 1),
    "all truncated": (Fault("truncate", times=JOBS, after=1), JOBS),
    "reset": (Fault("reset", times=1, skip=20, after=1), 1),
    "closed before an answer": (Fault("truncate", times=1, after=0), 1),
    "stalled": (Fault("stall", times=1, skip=20, after=1, seconds=4), 1),
    "slow to answer": (Fault("latency", times=1, skip=20, seconds=4), 1),
    "longer than sent": (Fault("wrong-length", times=1, skip=20, extra=9), 1),
    "shorter than sent": (Fault("wrong-length", times=1, skip=20, extra=-2), 1),
    "another range": (
        Fault("header", times=1, skip=20, headers={"Content-Range": "bytes 7-9/1500000"}),
        1,
    ),
    "no range": (Fault("header", times=1, skip=20, headers={"Content-Range": None}), 1),
    "no length": (
        Fault("header", times=1, skip=20, headers={"Content-Length": None, "Connection": "close"}),
        1,
    ),
    "not chunked": (
        Fault(
            "header",
            times=1,
            skip=20,
            headers={"Content-Length": None, "Transfer-Encoding": "chunked"},
        ),
        1,
    ),
    "encoded": (Fault("header", times=1, skip=20, headers={"Content-Encoding": "gzip"}), 1),
    "redirected": (Fault("redirect", times=1, skip=20), 1),
    "says that it closes": (Fault("header", headers={"Connection": "close"}), 0),
    "closes without a word": (Fault("truncate", after=1 << 30), 0),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_faults_cost_one_more_request_each(
    server: LoopbackServer, tree: Path, name: str
) -> None:
    fault, more = PASSING[name]
    server.add(fault)
    reader = open_reader(server.url, policy=policy_for(fault, QUICK), jobs=JOBS)
    check(reader, tree, wanted())
    # A request that was in flight when a connection was closed is sent again.
    closes = name == "closes without a word"
    assert len(server.requests) == COUNT + more or (closes and len(server.requests) >= COUNT)


def test_a_server_that_closes_idle_connections_is_asked_on_new_ones(
    server: LoopbackServer, tree: Path
) -> None:
    reader = open_reader(server.url, policy=replace(QUICK, retries=0, body_pauses=()), jobs=JOBS)
    check(reader, tree, wanted())
    for connection in list(server._sockets):
        connection.shutdown(socket.SHUT_RDWR)
    check(reader, tree, wanted())
    assert len(server.requests) == 2 * COUNT


def test_retry_after_is_obeyed(server: LoopbackServer, tree: Path) -> None:
    server.add(Fault("status", times=1, skip=20, status=503, retry_after=7))
    waits: list[float] = []
    policy = replace(QUICK, longest_wait=60, sleep=waits.append)
    reader = open_reader(server.url, policy=policy, jobs=JOBS)
    check(reader, tree, wanted())
    assert any(7 <= wait <= 7 * 1.25 for wait in waits)
    assert len(waits) > COUNT // 2  # the server asked all of us
    before = len(waits)
    check(reader, tree, wanted(5))
    assert len(waits) >= before + 5


@pytest.mark.parametrize(
    ("status", "kind"), [(403, e.ForbiddenError), (418, e.HTTPStatusError), (416, e.TruncatedError)]
)
def test_what_cannot_get_better_ends_it_at_once(
    server: LoopbackServer, tree: Path, status: int, kind: type[Exception]
) -> None:
    server.add(Fault("status", status=status, skip=20), Fault("latency", seconds=0.02))
    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    with pytest.raises(kind):
        reader.get_ranges(wanted())
    assert len(server.requests) < 20 + 4 * JOBS
    server.clear()
    check(reader, tree, wanted())


def test_lasting_faults_are_errors(server: LoopbackServer, tree: Path) -> None:
    for fault, kind in (
        (Fault("status", status=503), e.ThrottledError),
        (Fault("truncate", after=1), e.TruncatedError),
        (Fault("reset", after=1), e.TruncatedError),
    ):
        server.clear()
        server.add(fault)
        with pytest.raises(kind, match=r"127\.0\.0\.1"):
            open_reader(server.url, policy=QUICK, jobs=JOBS).get_ranges(wanted())
        assert len(server.requests) <= JOBS * 4


def test_versions_are_not_mixed(server: LoopbackServer) -> None:
    server.add(Fault("header", skip=50, headers={"ETag": '"another"'}))
    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    with pytest.raises(e.ChangedError):
        reader.get_ranges(wanted())
    assert len(server.requests) < 50 + 4 * JOBS
    server.clear()
    with pytest.raises(e.ChangedError):
        open_reader(server.url, policy=QUICK).get_ranges(wanted(), {"shard": '"old"'})


def test_an_answer_that_is_there_at_once_may_end_it(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While connections are still being taken: all of them are given back."""
    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    reader.get_ranges(wanted())
    server.add(Fault("header", headers={"ETag": '"another"'}))
    real = sweep.send

    def sent(*args: Any) -> Any:
        yield from real(*args)
        time.sleep(0.05)

    monkeypatch.setattr(sweep, "send", sent)
    with pytest.raises(e.ChangedError):
        reader.get_ranges(wanted())
    assert connections._connections.used == 0


def test_what_does_not_exist_is_none(server: LoopbackServer) -> None:
    ranges = [("none" if number % 3 else "other", 2 * number, 1) for number in range(60)]
    found = open_reader(server.url, policy=QUICK, jobs=JOBS).get_ranges(ranges)
    assert found == [None if number % 3 else b"o" for number in range(60)]
    assert len(server.requests) == 60


def test_a_server_without_ranges_is_read_whole(server: LoopbackServer, tree: Path) -> None:
    server.add(Fault("no-range"))
    reader = open_reader(server.url, policy=QUICK, jobs=4)
    check(reader, tree, wanted())
    assert len(server.requests) <= 8
    asked = len(server.requests)
    check(reader, tree, wanted())
    assert len(server.requests) == asked


def test_giving_up_ends_it(server: LoopbackServer) -> None:
    server.add(Fault("stall", after=1, seconds=100))
    reader = open_reader(server.url, policy=replace(QUICK, read_timeout=100), jobs=JOBS)
    pending = [reader.begin(wanted()) for _ in range(2)]
    until(lambda: len(server.requests) >= JOBS)
    began = time.monotonic()
    for one in pending:
        one.cancel()
    until(lambda: not any(each.name == "geotessera-ahead" for each in threading.enumerate()))
    assert time.monotonic() - began < 50
    assert len(server.requests) == JOBS


def test_an_interrupt_ends_it(server: LoopbackServer, tree: Path) -> None:
    server.add(Fault("stall", after=1, seconds=100))
    reader = open_reader(server.url, policy=replace(QUICK, read_timeout=100), jobs=JOBS)
    began = 0.0

    def interrupt() -> None:  # in the middle: before, it would end the tests
        nonlocal began
        until(lambda: len(server.requests) >= JOBS)
        began = time.monotonic()
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        reader.get_ranges(wanted())
    assert time.monotonic() - began < 50
    thread.join()
    server.clear()
    check(reader, tree, wanted())


def collected(arriving: Arrivals) -> dict[int, bytes | None]:
    found: dict[int, bytes | None] = {}
    for numbers, data in arriving:
        for number, one in zip(numbers, data, strict=True):
            assert number not in found
            found[number] = one
    return found


def test_ranges_are_taken_as_they_come(
    place: tuple[LoopbackServer, str], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_GROUP", 20_000)
    server, url = place
    ranges = [*wanted(), ("shard", 5, 0), ("none", 3, 4)]
    whole = (tree / "shard").read_bytes()
    expected = [*(whole[start : start + length] for _, start, length in wanted()), b"", None]
    reader = open_reader(url, policy=QUICK, jobs=JOBS)
    assert collected(reader.stream(ranges)) == dict(enumerate(expected))
    assert len(server.requests) == COUNT + 1
    assert not collected(reader.stream([]))
    # What readers do that cannot say what comes when.
    monkeypatch.setattr(arrivals, "_BATCH", 20_000)
    assert collected(ObjectReader.stream(reader, ranges)) == dict(enumerate(expected))
    assert len(server.requests) == 2 * (COUNT + 1)


def test_what_nobody_takes_is_not_received(
    server: LoopbackServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_GROUP", 20_000)
    monkeypatch.setattr(arrivals, "_MOST", 30_000)
    arriving = open_reader(server.url, policy=QUICK, jobs=JOBS).stream(wanted())
    assert isinstance(arriving, arrivals.Arriving)
    end = time.monotonic() + 20
    while arriving._bytes < 30_000:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)
    assert arriving._bytes < 30_000 + max(length for _, _, length in wanted())
    assert len(collected(arriving)) == COUNT
    assert len(server.requests) == COUNT


def test_long_ranges_are_on_their_way_a_few_at_a_time(
    server: LoopbackServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has begun to arrive is in memory, too."""
    monkeypatch.setattr(network, "TOGETHER_BYTES", 350_000)
    ranges = [("shard", 100_001 * number, 100_000) for number in range(12)]
    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    assert len(collected(reader.stream(ranges))) == 12
    assert server.connections == 3
    monkeypatch.setattr(network, "TOGETHER_BYTES", 1)
    origins._close_all()
    assert len(collected(reader.stream(ranges))) == 12  # one at a time at least
    assert server.connections == 4


def test_a_pause_of_who_takes_the_answers_is_no_silence(
    server: LoopbackServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, real = 0.0, time.monotonic
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: real() + passed))
    reader = open_reader(server.url, policy=replace(QUICK, read_timeout=60), jobs=JOBS)
    check = reader._checked  # type: ignore[attr-defined]

    def slow(*args: Any) -> Any:
        nonlocal passed
        passed += 100.0
        return check(*args)

    monkeypatch.setattr(reader, "_checked", slow)
    reader.get_ranges(wanted())
    assert len(server.requests) == COUNT


def test_nobody_waits_for_what_was_given_up(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_GROUP", 10_000)
    monkeypatch.setattr(arrivals, "_MOST", 10_000)
    full = open_reader(server.url, policy=QUICK, jobs=JOBS).stream(wanted())
    server.add(Fault("stall", after=1, seconds=30))
    patient = replace(QUICK, read_timeout=30)
    stalled = open_reader(server.url, policy=patient, jobs=JOBS).stream(wanted())
    for one in (full, stalled):
        one.cancel()
    end = time.monotonic() + 20
    while any(thread.name == "geotessera-ahead" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_fails_is_raised_where_the_ranges_are_taken(server: LoopbackServer) -> None:
    server.add(Fault("status", status=403))
    with pytest.raises(e.ForbiddenError):
        collected(open_reader(server.url, policy=QUICK, jobs=JOBS).stream(wanted()))
    with pytest.raises(e.InputError):
        open_reader(server.url, policy=QUICK, jobs=JOBS).stream([("shard", -1, 2)])


def test_batches_share_the_connections(server: LoopbackServer, tree: Path) -> None:
    server.latency = 0.02
    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    threads = [
        threading.Thread(target=check, args=(reader, tree, wanted(120 + number)), daemon=True)
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    # The server counts an answer until it has noted its end: it may see one more a thread.
    assert JOBS // 2 <= server.peak <= 2 * JOBS
    assert len(server.requests) == sum(120 + number for number in range(6))


def test_how_many_connections_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_descriptors", lambda: 4096)
    assert sweep.connections_for(2, 0, 256) == 2
    assert sweep.connections_for(200, 0, 256) == sweep.FEW
    assert sweep.connections_for(200, 150, 256) == 150
    assert sweep.connections_for(600, 0, 256) == 200
    assert sweep.connections_for(601, 0, 256) == 201  # not one request more than three each
    assert sweep.connections_for(6000, 0, 256) == 256
    assert sweep.connections_for(6000, 0, 16) == 16
    monkeypatch.setattr(sweep, "_descriptors", lambda: 256)
    assert sweep.connections_for(6000, 0, 256) == 64


def test_connections_that_cannot_be_opened_are_done_without(
    server: LoopbackServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, opened = wire.Connection.begin, [0]

    def scarce(self: wire.Connection, family: int, address: object) -> None:
        opened[0] += 1
        if opened[0] > 3:
            raise OSError(24, os.strerror(24))
        begin(self, family, address)

    monkeypatch.setattr(wire.Connection, "begin", scarce)
    check(open_reader(server.url, policy=QUICK, jobs=JOBS), tree, wanted())
    assert opened[0] == 4
    assert server.connections == 4  # with the one that is opened first
    assert len(server.requests) == COUNT


def test_a_batch_that_cannot_begin_lets_the_next_one(
    server: LoopbackServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(24, os.strerror(24))

    reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
    with monkeypatch.context() as patch:
        patch.setattr(sweep.selectors, "DefaultSelector", full)
        with pytest.raises(OSError, match="files"):
            reader.get_ranges(wanted())
    check(reader, tree, wanted())


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", " "])
def test_what_would_be_another_request_is_refused(end: str) -> None:
    origin = origins.Origin("http", "localhost", 80)
    assert origin.message("/a", {"Range": "bytes=0-1"}, "url").startswith(b"GET /a HTTP/1.1\r\n")
    with pytest.raises(e.TransferError, match="check the URL"):
        origin.message(f"/a{end}X-Other: 1", {}, "url")
    if end != " ":
        with pytest.raises(e.TransferError, match="check the URL"):
            origin.message("/a", {"Range": f"bytes=0-1{end}X-Other: 1"}, "url")


def test_a_server_that_is_gone_is_an_error(tree: Path) -> None:
    with LoopbackServer(tree) as server:
        reader = open_reader(server.url, policy=QUICK, jobs=JOBS)
        check(reader, tree, wanted())
    for _ in range(2):
        with pytest.raises(e.UnreachableError):
            reader.get_ranges(wanted())


def test_the_log_says_what_is_asked(
    server: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    level, handlers = logger.level, list(logger.handlers)
    try:
        enable_http_logging()
        open_reader(server.url, policy=QUICK).get_ranges([("shard", 3, 4), ("other", 5, 6)])
        text = capsys.readouterr().err
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers
    assert text.count(f"GET {server.url}/shard bytes=3-6: 206, 4 bytes") == 1
    assert text.count(f"GET {server.url}/other bytes=5-10: 206, 6 bytes") == 1
