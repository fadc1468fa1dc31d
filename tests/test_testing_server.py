"""The loopback server against the standard library's own client."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = random.Random(2).randbytes(200_000)
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # POSIX time 1,700,000,000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    root = tmp_path / "root"
    (root / "d~x").mkdir(parents=True)
    (root / "d~x" / "f g.bin").write_bytes(BODY)
    os.utime(root / "d~x" / "f g.bin", (1_700_000_000, 1_700_000_000))
    (root / "empty").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    with LoopbackServer(root) as running:
        yield running


class Client:
    def __init__(self, server: LoopbackServer) -> None:
        host = server.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=PATIENCE)

    def ask(
        self, path: str = "/d~x/f%20g.bin", method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, headers=named)
        answer = self.connection.getresponse()
        return answer, answer.read()


@pytest.fixture
def client(server: LoopbackServer) -> Iterator[Client]:
    made = Client(server)
    yield made
    made.connection.close()


def test_get_and_head(server: LoopbackServer, client: Client) -> None:
    for method, expected in (("GET", BODY), ("HEAD", b"")):
        answer, body = client.ask(method=method)
        assert answer.status == 200
        assert body == expected
        assert answer.headers["ETag"] == ETAG
        assert answer.headers["Last-Modified"] == DATE
        assert answer.headers["Content-Length"] == str(len(BODY))
        assert answer.headers["Accept-Ranges"] == "bytes"
    assert client.ask("/empty")[1] == b""
    assert [request.method for request in server.requests] == ["GET", "HEAD", "GET"]
    assert [request.path for request in server.requests] == ["/d~x/f g.bin"] * 2 + ["/empty"]
    assert server.bytes_sent == len(BODY)
    assert server.count("*.bin") == 2
    assert server.connections == 1


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("100-199", 100, 200),
        ("199999-", 199_999, 200_000),
        ("-10", 199_990, 200_000),
        ("-999999", 0, 200_000),
        ("150000-999999", 150_000, 200_000),
    ],
)
def test_range(asked: str, start: int, stop: int, server: LoopbackServer, client: Client) -> None:
    answer, body = client.ask(Range=f"bytes={asked}")
    assert answer.status == 206
    assert body == BODY[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"
    assert server.requests[0].sent == stop - start
    assert server.requests[0].range == f"bytes={asked}"


@pytest.mark.parametrize("asked", ["200000-", "300000-400000", "-0"])
def test_range_beyond_the_end(asked: str, client: Client) -> None:
    answer, body = client.ask(Range=f"bytes={asked}")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */200000"
    assert body == b""


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=-", "bytes=5-2", "lines=0-1"])
def test_range_that_is_ignored(asked: str, client: Client) -> None:
    answer, body = client.ask(Range=asked)
    assert answer.status == 200
    assert body == BODY


@pytest.mark.parametrize(
    ("condition", "status"), [(ETAG, 206), (DATE, 206), ('"other"', 200), ("W/" + ETAG, 200)]
)
def test_if_range(condition: str, status: int, client: Client) -> None:
    answer, body = client.ask(Range="bytes=0-9", If_Range=condition)
    assert answer.status == status
    assert len(body) == (10 if status == 206 else len(BODY))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": ETAG}, 304),
        ({"If_None_Match": f'"x", {ETAG}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_Modified_Since": DATE}, 304),
        ({"If_Modified_Since": DATE.replace("2023", "2024")}, 304),
        ({"If_Modified_Since": DATE.replace("2023", "2022")}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Modified_Since": DATE, "If_None_Match": '"x"'}, 200),
    ],
)
def test_conditional_requests(headers: dict[str, str], status: int, client: Client) -> None:
    answer, body = client.ask(**headers)
    assert answer.status == status
    assert body == (BODY if status == 200 else b"")
    assert client.ask("/empty")[0].status == 200  # the connection is in order


@pytest.mark.parametrize(
    "path", ["/../secret", "/d~x/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/d~x", "/none"]
)
def test_nothing_outside_the_root_and_no_directories(path: str, client: Client) -> None:
    answer, body = client.ask(path)
    assert answer.status == 404
    assert body == b""


def test_status_with_retry_after_for_some_requests(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("status", "*.bin", times=2, skip=1, status=429, retry_after=7))
    answers = [client.ask()[0] for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"
    server.add(Fault("status", "*.bin"))
    assert client.ask()[0].status == 503
    assert client.ask("/empty")[0].status == 200
    server.clear()
    assert client.ask()[0].status == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize("after", [0, 1, 70_000, 199_999])
def test_truncate(after: int, server: LoopbackServer, client: Client) -> None:
    server.add(Fault("truncate", after=after))
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.ask()
    assert caught.value.partial == BODY[:after]
    assert server.requests[0].sent == after


def test_reset(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("reset"))
    with pytest.raises(ConnectionResetError):
        client.ask()


@pytest.mark.parametrize("after", [0, 65_535, 65_536, 199_999])
def test_corrupt_flips_one_byte(after: int, server: LoopbackServer, client: Client) -> None:
    server.add(Fault("corrupt", after=after))
    answer, body = client.ask()
    assert answer.headers["ETag"] == ETAG
    assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [after]


def test_stall_goes_on_or_times_out(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("stall", seconds=0.05, times=1), Fault("stall", seconds=5, skip=1))
    assert client.ask()[1] == BODY
    assert client.connection.sock is not None
    client.connection.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.ask()


@pytest.mark.parametrize("extra", [5, -5])
def test_wrong_length(extra: int, server: LoopbackServer, client: Client) -> None:
    server.add(Fault("wrong-length", extra=extra))
    if extra > 0:
        with pytest.raises(http.client.IncompleteRead) as caught:
            client.ask()
        assert caught.value.partial == BODY
    else:
        assert client.ask()[1] == BODY[:extra]


def test_no_range(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("no-range"))
    answer, body = client.ask(Range="bytes=0-1")
    assert answer.status == 200
    assert body == BODY
    assert "Accept-Ranges" not in answer.headers


def test_redirect(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("redirect", times=2), Fault("redirect", location="http://x/y", skip=2))
    answer, _ = client.ask()
    assert answer.status == 302
    assert answer.headers["Location"] == "/d~x/f%20g.bin?redirected"
    assert client.ask(answer.headers["Location"])[1] == BODY
    assert client.ask()[0].headers["Location"] == "http://x/y"


def test_headers_are_replaced(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("header", headers={"ETag": 'W/"x"', "Last-Modified": None}))
    answer, _ = client.ask()
    assert answer.headers["ETag"] == 'W/"x"'
    assert "Last-Modified" not in answer.headers


def test_bandwidth_keeps_the_bytes(server: LoopbackServer, client: Client) -> None:
    server.add(Fault("bandwidth", rate=4e6), Fault("latency", seconds=0.01))
    assert client.ask()[1] == BODY
    assert client.ask(Range="bytes=100-149999")[1] == BODY[100:150_000]


def test_requests_at_the_same_time(server: LoopbackServer) -> None:
    server.add(Fault("latency", seconds=0.3))

    def run() -> None:
        client = Client(server)
        client.ask()
        client.connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.peak > 1
    assert len(server.requests) == server.connections == 8


def test_changed_file_has_a_new_etag(server: LoopbackServer, client: Client) -> None:
    client.ask()
    (server.root / "d~x" / "f g.bin").write_bytes(b"new")
    answer, body = client.ask()
    assert body == b"new"
    assert answer.headers["ETag"] == f'"{hashlib.md5(b"new").hexdigest()}"'


def test_close_ends_what_is_under_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    with LoopbackServer(tmp_path, faults=[Fault("stall", seconds=60)]) as server:
        client = Client(server)
        client.connection.request("GET", "/a")
        answer = client.connection.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    client.connection.close()
