"""The web server for maps, against raw sockets and clients that mean no good."""

from __future__ import annotations

import contextlib
import errno
import gc
import http.client
import os
import re
import shutil
import socket
import threading
import time
import urllib.request
from email.utils import formatdate
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geotessera import serving
from geotessera.errors import GeoTesseraError
from geotessera.serving import handler, server
from geotessera.serving.binding import is_loopback
from geotessera.serving.conditions import UNSATISFIABLE, State, wanted_range
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b"outside the directory"
DATA = bytes(range(256)) * 40
ODD = 'a <b>&"c" ü#?%41;.txt'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("served")
    (base / "secret.txt").write_bytes(SECRET)
    root = base / "map"
    (root / "tiles" / "3").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(SECRET)
    (root / ".hidden.txt").write_bytes(SECRET)
    (root / "viewer.html").write_text("<!DOCTYPE html><title>map</title>")
    (root / "data.bin").write_bytes(DATA)
    (root / "empty.txt").write_bytes(b"")
    (root / "tiles" / "3" / "1.png").write_bytes(b"\x89PNG")
    (root / ODD).write_text("odd")
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("index")
    (root / "inside.bin").symlink_to("data.bin")
    (root / "outside.txt").symlink_to("../secret.txt")
    (root / "up").symlink_to("..")
    (root / "hide").symlink_to(".git")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture(scope="module")
def web(root: Path) -> Iterator[serving.Server]:
    with serving.bind(port=0) as running:
        yield running.start(root)


def ask(
    web: serving.Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def raw(web: serving.Server, data: bytes, *, finish: bool = True) -> bytes:
    """Send bytes as they are; return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while chunk := connection.recv(65_536):
            answer += chunk
        return bytes(answer)


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found is not None, answer[:200]
    return int(found[1])


def get(path: bytes, host: bytes = b"localhost") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"


# --- Files ---------------------------------------------------------------------------------


def test_a_file_comes_with_what_browsers_need(web: serving.Server) -> None:
    with urllib.request.urlopen(web.url + "data.bin") as answer:
        assert answer.read() == DATA
        headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_head_is_get_without_the_body(web: serving.Server) -> None:
    head, nothing = ask(web, "/data.bin", "HEAD")
    full, _ = ask(web, "/data.bin")
    assert nothing == b""
    kept = ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges")
    assert [head.headers[name] for name in kept] == [full.headers[name] for name in kept]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pmtiles", "application/vnd.pmtiles"),
        ("a.json", "application/json"),
        ("a.geojson", "application/geo+json"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("A.PNG", "image/png"),
        ("a.tif", "image/tiff"),
        ("a.TIFF", "image/tiff"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.pdf", "application/pdf"),
        ("a.npy", "application/octet-stream"),
        ("a.json.gz", "application/octet-stream"),
        ("zarr", "application/octet-stream"),
    ],
)
def test_media_types(web: serving.Server, root: Path, name: str, kind: str, tmp_path: Path) -> None:
    (root / name).write_bytes(b"x")
    try:
        assert ask(web, "/" + name)[0].headers["Content-Type"] == kind
    finally:
        (root / name).unlink()


def test_names_are_decoded_once(web: serving.Server) -> None:
    assert ask(web, "/" + quote(ODD))[1] == b"odd"
    assert ask(web, "/" + quote(quote(ODD)))[0].status == 404


def test_queries_are_no_part_of_the_name(web: serving.Server) -> None:
    assert ask(web, "/data.bin?v=../1")[1] == DATA


def test_connections_are_kept(web: serving.Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
    connection.connect()
    first = connection.sock
    for path, status in [("/data.bin", 200), ("/none", 404), ("/", 200), ("/data.bin", 200)]:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first  # a map asks for many tiles that do not exist
    connection.close()


def test_pipelined_requests_are_answered_in_order(web: serving.Server) -> None:
    one = b"GET /tiles/3/1.png HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(web, one * 3).count(b"\x89PNG") == 3


# --- Ranges --------------------------------------------------------------------------------

SIZE = len(DATA)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=100-", 100, SIZE - 1),
        (f"bytes=9-{SIZE * 10}", 9, SIZE - 1),
        ("bytes=9-" + "9" * 5000, 9, SIZE - 1),
        ("bytes=-7", SIZE - 7, SIZE - 1),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
        ("Bytes = 1-2", 1, 2),
    ],
)
def test_ranges(web: serving.Server, wanted: str, first: int, last: int) -> None:
    response, body = ask(web, "/data.bin", Range=wanted)
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert body == DATA[first : last + 1]


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_ranges_behind_the_end(web: serving.Server, wanted: str) -> None:
    response, body = ask(web, "/data.bin", Range=wanted)
    assert (response.status, body) == (416, b"")
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=-5"])
def test_an_empty_file_has_no_range(web: serving.Server, wanted: str) -> None:
    assert ask(web, "/empty.txt", Range=wanted)[0].status == 416
    assert ask(web, "/empty.txt")[1] == b""


@pytest.mark.parametrize(
    "wanted",
    ["bytes=", "bytes=-", "bytes=9-5", "bytes=1-2,5-6", "items=0-1", "bytes=a-b", "bytes=+1-2",
     "bytes=١-٢".encode().decode("latin-1"), "0-1"],
)  # fmt: skip
def test_what_is_no_single_range_gets_everything(web: serving.Server, wanted: str) -> None:
    response, body = ask(web, "/data.bin", Range=wanted)
    assert (response.status, body) == (200, DATA)


def test_if_range(web: serving.Server) -> None:
    headers = ask(web, "/data.bin", "HEAD")[0].headers
    for validator in (headers["ETag"], headers["Last-Modified"]):
        assert ask(web, "/data.bin", Range="bytes=0-1", If_Range=validator)[1] == DATA[:2]
    for other in ('"other"', "W/" + headers["ETag"], formatdate(0, usegmt=True), "nonsense"):
        assert ask(web, "/data.bin", Range="bytes=0-1", If_Range=other)[1] == DATA


@given(st.integers(0, 50), st.text("bytes=-0123456789, ", max_size=14))
def test_ranges_never_leave_the_file(size: int, text: str) -> None:
    from email.message import Message

    headers = Message()
    headers["Range"] = "bytes=" + text
    found = wanted_range(headers, State(size, '"e"', 0))
    if found is not None and found != UNSATISFIABLE:
        assert 0 <= found.start < found.stop <= size


# --- Conditions ----------------------------------------------------------------------------


def test_what_is_unchanged_is_not_sent_again(web: serving.Server) -> None:
    headers = ask(web, "/data.bin")[0].headers
    tag, date = headers["ETag"], headers["Last-Modified"]
    for name, value in [
        ("If_None_Match", tag), ("If_None_Match", "W/" + tag), ("If_None_Match", "*"),
        ("If_None_Match", f'"x", {tag}'), ("If_Modified_Since", date),
    ]:  # fmt: skip
        response, body = ask(web, "/data.bin", **{name: value})
        assert (response.status, body) == (304, b""), value
        assert response.headers["ETag"] == tag
    for name, value in [
        ("If_None_Match", '"x"'), ("If_None_Match", ""),
        ("If_Modified_Since", formatdate(0, usegmt=True)), ("If_Modified_Since", "yesterday"),
        ("If_Modified_Since", "Mon, 99 Jan 99999 00:00:00 GMT"),
    ]:  # fmt: skip
        assert ask(web, "/data.bin", **{name: value})[0].status == 200, value
    both = {"If_None_Match": '"x"', "If_Modified_Since": date}
    assert ask(web, "/data.bin", **both)[0].status == 200  # the tag alone counts


def test_conditions_that_do_not_hold(web: serving.Server) -> None:
    headers = ask(web, "/data.bin")[0].headers
    assert ask(web, "/data.bin", If_Match=headers["ETag"])[0].status == 200
    assert ask(web, "/data.bin", If_Match='"x"')[0].status == 412
    old = formatdate(0, usegmt=True)
    assert ask(web, "/data.bin", If_Unmodified_Since=old)[0].status == 412
    now = headers["Last-Modified"]
    assert ask(web, "/data.bin", If_Unmodified_Since=now)[0].status == 200


def test_a_changed_file_has_another_tag(web: serving.Server, root: Path) -> None:
    path = root / "changing.txt"
    path.write_text("one")
    before = ask(web, "/changing.txt")[0].headers["ETag"]
    path.write_text("two")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    response, body = ask(web, "/changing.txt", If_None_Match=before)
    path.unlink()
    assert (response.status, body) == (200, b"two")


# --- Directories ---------------------------------------------------------------------------


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]


def listed(web: serving.Server, path: str) -> list[str]:
    response, body = ask(web, path)
    assert response.status == 200
    page = Links()
    page.feed(body.decode())
    assert "b" not in page.tags  # of the odd name
    return page.links


def test_a_listing_shows_what_is_served(web: serving.Server, root: Path) -> None:
    links = listed(web, "/")
    names = {unquote(link).removeprefix("./") for link in links}
    expected = {"viewer.html", "data.bin", "empty.txt", "tiles/", "site/", "inside.bin", ODD}
    assert names == expected
    for link in links:  # each leads somewhere
        assert ask(web, "/" + link.removeprefix("./"))[0].status == 200
    assert listed(web, "/tiles/") == ["../", "./3/"]


def test_directories_end_with_a_slash(web: serving.Server) -> None:
    response, _ = ask(web, "/tiles/3?a=1")
    assert response.status == 301
    assert response.headers["Location"] == "/tiles/3/?a=1"
    assert ask(web, "/data.bin/")[0].status == 404


def test_an_index_is_shown_instead_of_a_listing(web: serving.Server) -> None:
    response, body = ask(web, "/site/")
    assert body == b"index"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


def test_no_redirect_leads_to_another_site(web: serving.Server) -> None:
    for path in (b"//evil.example/..", b"//tiles", b"///tiles", b"/%2f%2fevil.example"):
        answer = raw(web, get(path))
        location = re.search(rb"Location: (\S*)", answer)
        assert location is None or location[1] == b"/tiles/"


# --- What is not served --------------------------------------------------------------------

TRAVERSALS = [
    b"/../secret.txt",
    b"/%2e%2e/secret.txt",
    b"/%2E%2E%2Fsecret.txt",
    b"/..%2fsecret.txt",
    b"/tiles/../../secret.txt",
    b"/tiles/..%2f..%2fsecret.txt",
    b"/..\\secret.txt",
    b"/..%5csecret.txt",
    b"/%5c..%5csecret.txt",
    b"/%252e%252e/secret.txt",
    b"/%c0%ae%c0%ae/secret.txt",
    b"/.%00./secret.txt",
    b"/data.bin%00.png",
    b"/secret.txt%00",
    b"//../secret.txt",
    b"/./../secret.txt",
    b"/up/secret.txt",
    b"/up/map/data.bin%00",
    b"/outside.txt",
    b"/.hidden.txt",
    b"/%2ehidden.txt",
    b"/.git/config",
    b"/tiles/.git/config",
    b"/hide/config",
    b"/hide/",
    b"/loop",
    b"/pipe",
    b"/up/",
    b"/up",
    b"/etc/passwd",
    b"/C:/secret.txt",
    b"/proc/self/environ",
    b"http://localhost/data.bin",
    b"http://evil.example/",
    b"file:///etc/passwd",
    b"*",
    b"secret.txt",
    b"?",
    b"/" + b"a" * 5000,
    b"/" + b"a/" * 5000,
    b"/" + b"tiles/" * 9000 + b"../" * 9001 + b"secret.txt",
    b"/%ff%fe",
    b"/data.bin%0d%0aX:1",
    b"/\xff",
]


@pytest.mark.parametrize("path", TRAVERSALS, ids=lambda path: ascii(path[:40]))
def test_nothing_outside_is_served(web: serving.Server, path: bytes) -> None:
    answer = raw(web, get(path))
    assert 400 <= status_of(answer) < 500
    assert SECRET not in answer
    assert DATA not in answer
    assert b"Traceback" not in answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [b"..", b".", b"/", b"//", b"%2e", b"%2f", b"\\", b"%5c", b"%00", b"up", b"hide",
             b"tiles", b"secret.txt", b"outside.txt", b"map", b".git", b"config", b"%", b"?", b"#"]
        ),
        max_size=10,
    )
)  # fmt: skip
def test_no_spelling_of_a_path_leads_outside(web: serving.Server, parts: list[bytes]) -> None:
    answer = raw(web, get(b"/" + b"".join(parts)))
    assert SECRET not in answer
    assert status_of(answer) < 500


def test_a_link_that_leads_out_is_explained(web: serving.Server) -> None:
    response, body = ask(web, "/outside.txt")
    assert response.status == 403
    assert b"outside the served directory" in body


def test_links_inside_are_followed(web: serving.Server) -> None:
    assert ask(web, "/inside.bin")[1] == DATA


# --- Requests that are none ----------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",  # HTTP/0.9
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1.1\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET  /  x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\n",  # TLS
        b"\x00" * 300 + b"\n",
        b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd",
        b"PUT /new.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd",
        b"DELETE /data.bin HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"__init__ / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + (b"X: " + b"y" * 9000 + b"\r\n") * 40,
    ],
    ids=range(20),
)
def test_malformed_requests_are_refused(web: serving.Server, root: Path, data: bytes) -> None:
    answer = raw(web, data)
    assert b"Traceback" not in answer
    if answer:
        status = re.match(rb"(?:HTTP/1\.1 )?(\d{3}) ", answer)  # HTTP/0.9 has no head
        assert status is not None
        assert 400 <= int(status[1]) <= 505
    assert not (root / "new.txt").exists()
    assert ask(web, "/data.bin")[1] == DATA  # and the server goes on


def test_other_methods_are_named(web: serving.Server) -> None:
    response, _ = ask(web, "/data.bin", "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_a_body_is_not_taken_for_a_request(web: serving.Server) -> None:
    smuggled = b"GET /data.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for header in (b"Content-Length: %d" % len(smuggled), b"Transfer-Encoding: chunked"):
        data = b"GET /empty.txt HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n" + smuggled
        answer = raw(web, data)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert DATA not in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1234", 200),
        ("LOCALHOST.", 200),
        ("map.localhost:80", 200),
        ("127.0.0.1", 200),
        ("127.8.8.8:9", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("192.168.1.2", 421),
        ("[2001:db8::1]", 421),
        ("0.0.0.0", 421),
        ("", 421),
    ],
)
def test_names_of_other_sites_are_refused(web: serving.Server, host: str, status: int) -> None:
    assert status_of(raw(web, get(b"/data.bin", host.encode()))) == status


def test_old_clients_name_no_host(web: serving.Server) -> None:
    answer = raw(web, b"GET /data.bin HTTP/1.0\r\n\r\n")
    assert status_of(answer) == 200
    assert answer.endswith(DATA)


# --- Slow and many -------------------------------------------------------------------------


def test_slow_requests_are_given_up(web: serving.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "HEAD_SECONDS", 0.4)
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        with contextlib.suppress(OSError):
            for _ in range(50):  # a byte now and then does not keep it alive
                slow.sendall(b"y")
                time.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            answer = slow.recv(4096)
            assert status_of(answer) == 408


def test_silent_connections_are_closed(
    web: serving.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "IDLE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE) as silent:
        assert silent.recv(100) == b""


def test_more_clients_than_places_are_served_in_turn(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 4)
    monkeypatch.setattr(server, "_CROWDED", 2)
    monkeypatch.setattr(handler, "IDLE_SECONDS", 1.0)
    with serving.bind(port=0) as web:
        web.start(root)
        silent = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(6)]
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(ask(web, "/data.bin")[1]))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        for one in silent:
            one.close()
    assert found == [DATA] * 12


def test_clients_that_go_away_leave_nothing_behind(web: serving.Server, root: Path) -> None:
    path = root / "large.bin"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", web.port)) as gone:
            gone.sendall(get(b"/large.bin"))
            gone.recv(100)
    path.unlink()
    assert ask(web, "/data.bin")[1] == DATA
    until(lambda: not web._open)


def test_large_files_are_not_loaded(web: serving.Server, root: Path) -> None:
    import resource

    path = root / "large.bin"
    with path.open("wb") as file:
        file.seek(400_000_000)
        file.write(b"end")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
    connection.request("GET", "/large.bin")
    response = connection.getresponse()
    buffer, total = bytearray(1 << 20), 0
    while count := response.readinto(buffer):
        total += count
        last = bytes(buffer[:count])
    connection.close()
    path.unlink()
    assert total == 400_000_003
    assert last.endswith(b"end")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_file_that_shrinks_ends_the_connection(
    web: serving.Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier:
        def __init__(self, found: os.stat_result) -> None:
            self.st_size = found.st_size + 100
            self.st_mtime, self.st_mtime_ns, self.st_ino = 0.0, 0, 0

    of = State.of
    monkeypatch.setattr(State, "of", lambda found: of(Earlier(found)))  # type: ignore[arg-type]
    with pytest.raises(http.client.IncompleteRead):
        ask(web, "/data.bin")


def test_faults_of_the_server_are_kept_from_clients(
    web: serving.Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(handler, "locate", fail)
    answer = raw(web, get(b"/data.bin"))
    assert status_of(answer) == 500
    assert b"internal detail" not in answer
    assert [one.levelname for one in caplog.records if one.exc_info is None] == ["ERROR"]


# --- Ports ---------------------------------------------------------------------------------


def test_a_port_is_held_exclusively(web: serving.Server) -> None:
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "::"):
        with pytest.raises(serving.BindError, match="Cannot bind web server") as caught:
            serving.bind(web.port, host)
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value, GeoTesseraError)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_taken_for_one_family_is_taken(family: socket.AddressFamily) -> None:
    with socket.socket(family) as other:
        try:
            if family == socket.AF_INET6:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        other.listen()
        with pytest.raises(serving.BindError, match="Cannot bind web server"):
            serving.bind(other.getsockname()[1])


def test_a_port_is_free_again_at_once(root: Path) -> None:
    with serving.bind(port=0) as first:
        first.start(root)
        port = first.port
        assert ask(first, "/data.bin")[1] == DATA
    with serving.bind(port) as second:
        assert ask(second.start(root), "/data.bin")[1] == DATA


def test_both_families_are_listened_to(web: serving.Server) -> None:
    with socket.create_connection(("127.0.0.1", web.port)):
        pass
    try:
        probe = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    probe.close()
    with socket.create_connection(("::1", web.port)) as connection:
        connection.sendall(get(b"/tiles/3/1.png", b"[::1]"))
        with connection.makefile("rb") as answer:
            assert answer.read().endswith(b"\x89PNG")


def test_without_ipv6_the_rest_is_listened_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int = -1, *rest: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
        return real(family, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr("geotessera.serving.binding.socket.socket", no_ipv6)
        web = serving.bind(port=0)
    with web:
        assert ask(web.start(root), "/data.bin")[1] == DATA


@pytest.mark.parametrize("port", [-1, 65_536])
def test_ports_that_are_none(port: int) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        serving.bind(port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 100 + ".b", "x y"])
def test_hosts_that_are_not_this_machine(host: str) -> None:
    with pytest.raises(serving.BindError, match="Cannot bind web server"):
        serving.bind(0, host)


def test_a_server_for_others_answers_to_any_name(root: Path) -> None:
    with serving.bind(0, "0.0.0.0") as web:
        assert not web.is_local
        assert web.url == f"http://localhost:{web.port}/"
        assert status_of(raw(web.start(root), get(b"/data.bin", b"map.example"))) == 200


def test_closing_ends_what_is_open(root: Path) -> None:
    web = serving.bind(port=0)
    web.start(root)
    kept = socket.create_connection(("127.0.0.1", web.port), timeout=PATIENCE)
    kept.sendall(get(b"/empty.txt").replace(b"Connection: close\r\n", b""))
    assert kept.recv(1000).startswith(b"HTTP/1.1 200")
    web.close()
    assert kept.recv(1000) == b""
    kept.close()
    web.close()  # twice is once
    gc.collect()  # unclosed sockets would warn
    assert not [one for one in threading.enumerate() if one is web._thread]


def test_serving_blocks_until_it_is_closed(root: Path) -> None:
    web = serving.bind(port=0)
    thread = threading.Thread(target=web.serve, args=(root,))
    thread.start()
    assert ask(web, "/data.bin")[1] == DATA
    web.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_directory_that_is_none(root: Path, tmp_path: Path) -> None:
    with serving.bind(port=0) as web:
        for path in (tmp_path / "none", root / "data.bin"):
            with pytest.raises(ValueError, match="no directory"):
                web.start(path)
        with pytest.raises(ValueError, match="no page"):
            web.start(root, page="none.html")


def test_pages_to_open(tmp_path: Path) -> None:
    assert serving.find_page(str(tmp_path)) == ""
    for name in reversed(serving.PAGES):
        (tmp_path / name).write_text("")
        assert serving.find_page(tmp_path) == name
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ü.html").write_text("")
    assert serving.find_page(tmp_path, "a b/ü.html") == "a%20b/%C3%BC.html"
    with pytest.raises(ValueError, match="outside"):
        serving.find_page(tmp_path, "../x.html")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.1.2.3", True), ("::1", True), ("127.0.0.1.nip.example", False),
     ("0.0.0.0", False), ("", False), ("localhost.example", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# --- A browser -----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_a_browser_reads_pages_and_parts_and_other_sites_do_not(
    web: serving.Server, root: Path, tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    (root / "page.html").write_text('<title>…</title><script type="module" src="page.js"></script>')
    (root / "page.js").write_text(
        "const part = await fetch('data.bin', {headers: {Range: 'bytes=2-5'}});"
        "document.title = part.status + ':' + new Uint8Array(await part.arrayBuffer());"
    )
    (root / "tile.js").write_text("window.taken = true;")
    # localhost and 127.0.0.1 are different sites.
    (tmp_path / "index.html").write_text(f'<script src="{web.url}tile.js"></script>')
    with serving.bind(port=0) as other, sync_api.sync_playwright() as play:
        other.start(tmp_path)
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(web.url + "page.html")
        page.wait_for_function("document.title != '…'")
        title = page.title()
        assert problems == []
        taken = []
        for name in ("127.0.0.1", "localhost"):
            page.goto(f"http://{name}:{other.port}/")
            taken.append(page.evaluate("window.taken === true"))
        browser.close()
    for name in ("page.html", "page.js", "tile.js"):
        (root / name).unlink()
    assert title == "206:2,3,4,5"
    assert taken == [False, True]


def test_an_icon_that_is_not_there_is_no_error(web: serving.Server, root: Path) -> None:
    assert ask(web, "/favicon.ico")[0].status == 204
    (root / "favicon.ico").write_bytes(b"icon")
    response, body = ask(web, "/favicon.ico")
    (root / "favicon.ico").unlink()
    assert (response.status, body) == (200, b"icon")
    assert ask(web, "/site/favicon.ico")[0].status == 404
