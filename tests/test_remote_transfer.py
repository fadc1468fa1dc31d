"""Downloads against a misbehaving server: the documented outcome, and never a wrong file."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from engine_helpers import policy_for
from geotessera.errors import (
    ChecksumMismatchError,
    DiskFullError,
    ForbiddenError,
    HTTPStatusError,
    InputError,
    NotFoundError,
    ReadOnlyError,
    SizeMismatchError,
    ThrottledError,
    TransferError,
    TruncatedError,
    UnreachableError,
    UnwritableDestination,
)
from geotessera.remote import disk, http, session
from geotessera.remote.connections import allow, slot
from geotessera.remote.http import RetryPolicy
from geotessera.remote.ranges import BLOCK_BYTES
from geotessera.remote.temporary import is_temporary_name
from geotessera.remote.transfer import (
    FileRequest,
    download_file_to_temp,
    fetch_file,
    local_path,
)
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BODY = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
MTIME = 1_700_000_000


class Waits(list[float]):
    """Records the pauses instead of making them."""

    def policy(self, **changes: float) -> RetryPolicy:
        return RetryPolicy(jitter=0, sleep=self.append, **changes)  # type: ignore[arg-type]


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def policy(waits: Waits) -> RetryPolicy:
    return waits.policy(read_timeout=20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    root = tmp_path / "root"
    (root / "v1~x").mkdir(parents=True)
    (root / "v1~x" / "a b.npy").write_bytes(BODY)
    os.utime(root / "v1~x" / "a b.npy", (MTIME, MTIME))
    (root / "empty").write_bytes(b"")
    with LoopbackServer(root) as running:
        yield running


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "out" / "deep" / "a.npy"


@pytest.fixture
def wanted(server: LoopbackServer, dest: Path) -> FileRequest:
    return FileRequest(server.url_of("v1~x/a b.npy"), dest)


def with_sha256(request: FileRequest, sha256: str = SHA256) -> FileRequest:
    return FileRequest(request.url, request.dest, sha256=sha256)


def litter(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*") if is_temporary_name(path.name)]


def test_file_arrives_whole_with_digests_and_mtime(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    done = fetch_file(wanted, policy=policy)
    assert done.path == wanted.dest
    assert wanted.dest.read_bytes() == BODY
    assert (done.size, done.sha256, done.md5) == (len(BODY), SHA256, MD5)
    assert done.etag == f'"{MD5}"'
    assert done.last_modified == wanted.dest.stat().st_mtime == MTIME
    assert not done.not_modified
    assert [path.name for path in wanted.dest.parent.iterdir()] == ["a.npy"]
    assert len(server.requests) == 1


def test_empty_file(server: LoopbackServer, dest: Path, policy: RetryPolicy) -> None:
    done = fetch_file(FileRequest(server.url_of("empty"), dest), policy=policy)
    assert done.size == 0
    assert dest.read_bytes() == b""


def test_requests_name_the_package_and_ask_for_stored_bytes(
    server: LoopbackServer, wanted: FileRequest
) -> None:
    from geotessera import _native

    fetch_file(wanted)
    headers = server.requests[0].headers
    assert headers["user-agent"] == f"geotessera/{_native.__version__}"
    assert headers["accept-encoding"] == "identity"


def test_connections_are_kept_alive(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    fetch_file(wanted, policy=policy, conditional=True)
    with pytest.raises(NotFoundError):
        fetch_file(FileRequest(server.url_of("none"), wanted.dest), policy=policy)
    fetch_file(wanted, policy=policy)
    assert len(server.requests) == 4
    assert server.connections == 1


# --- Faults that pass: one bad answer, then a good one -----------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("truncate", times=1),
        Fault("truncate", times=1, after=0),
        Fault("truncate", times=1, after=len(BODY) - 1),
        Fault("reset", times=1),
        Fault("corrupt", times=1, after=0),
        Fault("corrupt", times=1, after=len(BODY) - 1),
        Fault("stall", times=1, seconds=2),
        Fault("wrong-length", times=1),
        Fault("wrong-length", times=1, extra=-1),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.after}-{fault.extra}",
)
@pytest.mark.parametrize("with_hash", [True, False])
def test_bad_body_is_fetched_again(
    fault: Fault,
    with_hash: bool,
    server: LoopbackServer,
    wanted: FileRequest,
    policy: RetryPolicy,
    waits: Waits,
) -> None:
    server.add(fault)
    done = fetch_file(
        with_sha256(wanted) if with_hash else wanted, policy=policy_for(fault, policy)
    )
    assert wanted.dest.read_bytes() == BODY
    assert done.sha256 == SHA256
    assert waits == [1.0]
    assert len(server.requests) == 2


def test_the_body_cut_at_every_offset(
    server: LoopbackServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    body = BODY[:300]
    (server.root / "small").write_bytes(body)
    for offset in range(len(body) + 1):
        server.clear()
        server.add(Fault("truncate", times=1, after=offset))
        dest = tmp_path / "out" / f"{offset}"
        fetch_file(FileRequest(server.url_of("small"), dest), policy=policy)
        assert dest.read_bytes() == body
        assert len(server.requests) == 1 + (offset < len(body))
    assert litter(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_status_is_asked_again_with_backoff(
    status: int, server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    server.add(Fault("status", status=status, times=3))
    fetch_file(wanted, policy=policy)
    assert wanted.dest.read_bytes() == BODY
    assert waits == [1, 2, 4]


def test_jitter_only_lengthens(server: LoopbackServer, wanted: FileRequest, waits: Waits) -> None:
    server.add(Fault("status", times=5))
    fetch_file(wanted, policy=RetryPolicy(sleep=waits.append))
    assert all(
        base <= wait <= 1.25 * base for base, wait in zip([1, 2, 4, 8, 16], waits, strict=True)
    )
    assert waits != [1, 2, 4, 8, 16]


def test_retry_after_in_seconds_is_obeyed_and_capped(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    server.add(Fault("status", status=429, retry_after=7, times=1))
    server.add(Fault("status", status=503, retry_after=86400, skip=1, times=1))
    server.add(Fault("status", status=503, retry_after="soon", skip=2, times=1))
    fetch_file(wanted, policy=policy)
    assert waits == [7, 120, 4]


def test_retry_after_as_date_is_obeyed(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    server.add(Fault("status", retry_after=formatdate(time.time() + 50, usegmt=True), times=1))
    server.add(
        Fault("status", retry_after=formatdate(time.time() - 50, usegmt=True), skip=1, times=1)
    )
    fetch_file(wanted, policy=policy)
    assert 30 < waits[0] <= 50
    assert waits[1] == 0


def test_redirects_are_followed(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(Fault("redirect"))
    fetch_file(wanted, policy=policy)
    assert wanted.dest.read_bytes() == BODY
    assert [request.status for request in server.requests] == [302, 200]


def test_redirect_loop_is_an_error(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    server.add(Fault("header", headers={"Location": "/v1~x/a b.npy"}), Fault("redirect"))
    with pytest.raises(TransferError, match="redirects"):
        fetch_file(wanted, policy=policy)
    assert waits == []


def test_bandwidth_and_latency_only_slow_down(
    server: LoopbackServer, wanted: FileRequest, waits: Waits
) -> None:
    # Longer than the read timeout in all: slow transfers that go on are healthy.
    server.add(Fault("bandwidth", rate=len(BODY) / 1.5), Fault("latency", seconds=0.05))
    fetch_file(wanted, policy=waits.policy(read_timeout=1.2))
    assert wanted.dest.read_bytes() == BODY
    assert len(server.requests) == 1


def test_body_without_announced_length(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(
        Fault("header", headers={"Content-Length": None, "Connection": "close"}),
        Fault("wrong-length", extra=0),
    )
    seen: list[tuple[int, int, str]] = []
    fetch_file(wanted, policy=policy, progress=lambda *report: seen.append(report))
    assert wanted.dest.read_bytes() == BODY
    assert seen[0][:2] == (0, 0)
    assert seen[-1][:2] == (len(BODY), len(BODY))


def test_encoding_that_was_not_asked_for_is_undone(
    server: LoopbackServer, dest: Path, policy: RetryPolicy
) -> None:
    import gzip

    (server.root / "z").write_bytes(gzip.compress(BODY))
    server.add(Fault("header", headers={"Content-Encoding": "gzip"}))
    done = fetch_file(
        FileRequest(server.url_of("z"), dest, sha256=SHA256, size=len(BODY)), policy=policy
    )
    assert dest.read_bytes() == BODY
    assert done.size == len(BODY)


# --- Faults that stay: the documented error, the old file kept --------------------------


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (Fault("truncate"), TruncatedError, 4),
        (Fault("reset"), TruncatedError, 4),
        (Fault("wrong-length"), TruncatedError, 4),
        (Fault("corrupt"), ChecksumMismatchError, 4),
        (Fault("wrong-length", extra=-1), ChecksumMismatchError, 4),
        (Fault("stall", seconds=1), UnreachableError, 4),
        (Fault("latency", seconds=1), UnreachableError, 6),
        (Fault("status", status=503), ThrottledError, 6),
        (Fault("status", status=429), ThrottledError, 6),
        (Fault("status", status=400), HTTPStatusError, 1),
        (Fault("status", status=401), ForbiddenError, 1),
        (Fault("status", status=403), ForbiddenError, 1),
        (Fault("status", status=501), HTTPStatusError, 1),
        (Fault("status", status=204), HTTPStatusError, 1),
        (Fault("status", status=206), HTTPStatusError, 1),
        (Fault("status", status=304), HTTPStatusError, 1),
        (Fault("status", status=404), NotFoundError, 1),
        (Fault("status", status=410), NotFoundError, 1),
    ],
    ids=lambda value: f"{value.kind}-{value.status}-{value.extra}" if type(value) is Fault else "",
)
@pytest.mark.parametrize("old", [b"what was there", None])
def test_lasting_fault(
    fault: Fault,
    error: type[TransferError],
    requests: int,
    old: bytes | None,
    server: LoopbackServer,
    wanted: FileRequest,
    waits: Waits,
    tmp_path: Path,
) -> None:
    if old is not None:
        wanted.dest.parent.mkdir(parents=True)
        wanted.dest.write_bytes(old)
    server.add(fault)
    with pytest.raises(error) as caught:
        fetch_file(wanted, policy=policy_for(fault, waits.policy(read_timeout=20)))
    assert type(caught.value) is error
    assert isinstance(caught.value, OSError)
    assert caught.value.url == wanted.url
    assert wanted.url in str(caught.value)
    if isinstance(caught.value, HTTPStatusError):
        assert caught.value.status == fault.status
    assert len(server.requests) == requests
    assert waits == {1: [], 4: [1, 2, 4], 6: [1, 2, 4, 8, 16]}[requests]
    assert litter(tmp_path) == []
    if old is not None:
        assert wanted.dest.read_bytes() == old
    else:
        assert not (tmp_path / "out").exists()


def test_refused_connection(waits: Waits, dest: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can have it
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(UnreachableError, match="refused") as caught:
            fetch_file(FileRequest(url, dest), policy=waits.policy())
    assert caught.value.url == url
    assert waits == [1, 2, 4, 8, 16]
    assert not dest.parent.exists()


def test_a_host_that_goes_on_refusing_is_asked_once_a_request(
    waits: Waits, dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(b"x")
    with LoopbackServer(tmp_path / "root") as server:
        request = FileRequest(server.url_of("a"), dest)
    fetch = partial(fetch_file, request, policy=waits.policy(retries=2))
    with pytest.raises(UnreachableError, match="refused"):
        fetch()
    assert waits == [1, 2]
    waits.clear()
    with pytest.raises(UnreachableError, match="refused") as caught:
        fetch()
    assert waits == []
    assert caught.value.passing
    # Another server of the machine is not meant, nor is this one some time later.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError):
            fetch_file(
                FileRequest(f"http://127.0.0.1:{taken.getsockname()[1]}/a", dest),
                policy=waits.policy(retries=2),
            )
    assert waits == [1, 2]
    waits.clear()
    with monkeypatch.context() as later:
        later.setattr(http, "REFUSED_SECONDS", 0)
        with pytest.raises(UnreachableError):
            fetch()
    assert waits == [1, 2]
    # When it is back, what it says is what is reported, and refusals are news again.
    port = urlsplit(request.url).port
    assert port is not None
    with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) as back:
        answer = threading.Thread(target=back.handle_request)
        answer.start()
        with pytest.raises(HTTPStatusError, match="501"):
            fetch()
        answer.join()
    waits.clear()
    with pytest.raises(UnreachableError):
        fetch()
    assert waits == [1, 2]


def test_unknown_host(waits: Waits, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnreachableError, match=r"nowhere\.invalid"):
        fetch_file(FileRequest("http://nowhere.invalid/a", dest), policy=waits.policy(retries=1))


@pytest.mark.parametrize("url", ["http://", "http://:80/", "http://[bad/"])
def test_impossible_url(url: str, waits: Waits, dest: Path) -> None:
    with pytest.raises(TransferError):
        fetch_file(FileRequest(url, dest), policy=waits.policy())
    assert waits == []


# --- Verification -------------------------------------------------------------------------


def test_published_sha256_must_match(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    wrong = "0" * 64
    with pytest.raises(ChecksumMismatchError, match=wrong) as caught:
        fetch_file(with_sha256(wanted, wrong), policy=policy)
    assert SHA256 in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not wanted.dest.exists()
    assert len(server.requests) == 4
    assert waits == [1, 2, 4]


def test_published_sha256_may_be_upper_case(wanted: FileRequest, policy: RetryPolicy) -> None:
    fetch_file(with_sha256(wanted, SHA256.upper()), policy=policy)
    assert wanted.dest.exists()


def test_verification_can_be_switched_off(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(Fault("corrupt"))
    done = fetch_file(with_sha256(wanted, "0" * 64), verify=False, policy=policy)
    assert wanted.dest.read_bytes() != BODY
    assert done.sha256 == hashlib.sha256(wanted.dest.read_bytes()).hexdigest()
    server.add(Fault("truncate"))
    with pytest.raises(TruncatedError):
        fetch_file(wanted, verify=False, policy=policy)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"{"0" * 32}-3"'},
        {"ETag": f'W/"{"0" * 32}"'},
        {"ETag": f'"{"A" * 32}"'},
        {"ETag": None},
        {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"},
        {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
    ids=["multipart", "weak", "upper case", "none", "kms", "customer key"],
)
def test_etag_that_is_no_md5_is_not_compared(
    headers: dict[str, str | None], server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(Fault("header", headers=headers))
    done = fetch_file(wanted, policy=policy)
    assert wanted.dest.read_bytes() == BODY
    assert done.md5 is None
    assert done.etag == headers["ETag"]


@pytest.mark.parametrize("etag", [f'"{"0" * 32}"', "0" * 32])
def test_etag_that_is_an_md5_must_match(
    etag: str, server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(Fault("header", headers={"ETag": etag}))
    with pytest.raises(ChecksumMismatchError, match=f"{MD5}.*ETag.*{'0' * 32}"):
        fetch_file(wanted, policy=policy)
    # A published SHA-256 outranks it.
    fetch_file(with_sha256(wanted), policy=policy)


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1, 0])
def test_published_size_must_match(
    size: int, server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy, waits: Waits
) -> None:
    with pytest.raises(SizeMismatchError, match=f"{len(BODY):,} bytes .* {size:,}"):
        fetch_file(FileRequest(wanted.url, wanted.dest, size=size), policy=policy)
    assert not wanted.dest.exists()
    assert len(server.requests) == 2
    assert waits == [0]


# --- Conditional requests ------------------------------------------------------------------


def test_current_file_is_kept(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    before = wanted.dest.stat()
    server.clear()
    seen: list[tuple[int, int, str]] = []
    done = fetch_file(
        wanted, conditional=True, policy=policy, progress=lambda *report: seen.append(report)
    )
    assert done.not_modified
    assert (done.size, done.etag) == (len(BODY), f'"{MD5}"')
    assert wanted.dest.stat().st_ino == before.st_ino
    assert [request.status for request in server.requests] == [304]
    assert server.requests[0].headers["if-modified-since"] == formatdate(MTIME, usegmt=True)
    assert [report[:2] for report in seen] == [(0, 0)]
    assert litter(wanted.dest.parent) == []


def test_newer_file_is_fetched(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    source = server.root / "v1~x" / "a b.npy"
    source.write_bytes(b"new")
    os.utime(source, (MTIME + 10, MTIME + 10))
    assert not fetch_file(wanted, conditional=True, policy=policy).not_modified
    assert wanted.dest.read_bytes() == b"new"


def test_recorded_etag_decides(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    other = FileRequest(wanted.url, wanted.dest, etag='"other"')
    assert not fetch_file(other, conditional=True, policy=policy).not_modified
    same = FileRequest(wanted.url, wanted.dest, etag=f'"{MD5}"')
    assert fetch_file(same, conditional=True, policy=policy).not_modified


def test_damaged_file_is_repaired_unless_conditional(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    wanted.dest.write_bytes(b"x" * len(BODY))
    assert fetch_file(wanted, conditional=True, policy=policy).not_modified
    assert not fetch_file(wanted, policy=policy).not_modified
    assert wanted.dest.read_bytes() == BODY


def test_file_of_wrong_size_is_never_kept(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    wanted.dest.parent.mkdir(parents=True)
    wanted.dest.write_bytes(b"short")
    request = FileRequest(wanted.url, wanted.dest, size=len(BODY))
    assert not fetch_file(request, conditional=True, policy=policy).not_modified
    assert wanted.dest.read_bytes() == BODY


# --- Progress and interruption --------------------------------------------------------------


def test_progress_from_zero_to_all(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    server.add(Fault("bandwidth", rate=len(BODY) / 0.5))
    seen: list[tuple[int, int, str]] = []
    request = FileRequest(wanted.url, wanted.dest, label="my tile")
    began = time.monotonic()
    fetch_file(request, policy=policy, progress=lambda *report: seen.append(report))
    elapsed = time.monotonic() - began
    done = [report[0] for report in seen]
    assert seen[0] == (0, len(BODY), "my tile")
    assert seen[-1] == (len(BODY), len(BODY), "my tile")
    assert done == sorted(done)
    assert 3 <= len(seen) <= 2 + elapsed * 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_exception_in_the_middle_leaves_nothing(
    error: type[BaseException],
    server: LoopbackServer,
    wanted: FileRequest,
    policy: RetryPolicy,
    tmp_path: Path,
) -> None:
    server.add(Fault("bandwidth", rate=len(BODY)))

    def interrupt(current: int, total: int, status: str) -> None:
        if current:
            assert litter(tmp_path) != []
            raise error

    with pytest.raises(error):
        fetch_file(wanted, policy=policy, progress=interrupt)
    assert not (tmp_path / "out").exists()
    assert len(server.requests) == 1


# --- Destinations that cannot be written -----------------------------------------------------


def test_unwritable_directory_is_found_before_any_request(
    server: LoopbackServer, wanted: FileRequest, waits: Waits, read_only_directory: Path
) -> None:
    request = FileRequest(wanted.url, read_only_directory / "a.npy")
    with pytest.raises(ReadOnlyError) as caught:
        fetch_file(request, policy=waits.policy())
    assert caught.value.errno == 13
    assert str(request.dest) in str(caught.value)
    assert server.requests == []
    assert waits == []


def test_file_in_the_way_is_found_before_any_request(
    server: LoopbackServer, wanted: FileRequest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    for dest in (tmp_path / "file" / "a.npy", tmp_path / "directory"):
        with pytest.raises(UnwritableDestination):
            fetch_file(FileRequest(wanted.url, dest))
    assert server.requests == []
    assert litter(tmp_path) == []


def test_full_disk_is_not_retried(
    server: LoopbackServer, dest: Path, policy: RetryPolicy, waits: Waits
) -> None:
    """A limit on file sizes refuses the write itself, as a full disk or a quota does."""
    (server.root / "big").write_bytes(bytes(6 << 20))
    request = FileRequest(server.url_of("big"), dest)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))
    try:
        with pytest.raises(DiskFullError) as caught:
            fetch_file(request, policy=policy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == 27
    assert len(server.requests) == 2  # to learn that it is long, and to fetch it so
    assert waits == []
    assert not dest.parent.exists()


# --- Long files -------------------------------------------------------------------------------

LONG = random.Random(2).randbytes(5 * BLOCK_BYTES + 77)


@pytest.fixture
def long(server: LoopbackServer, dest: Path) -> FileRequest:
    (server.root / "long").write_bytes(LONG)
    os.utime(server.root / "long", (MTIME, MTIME))
    return FileRequest(server.url_of("long"), dest)


QUICK = RetryPolicy(backoff=0.001, longest_wait=0.01, body_pauses=(0.001, 0.001))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("size", [None, len(LONG)])
def test_an_interrupted_long_file_is_gone_on_with(
    conditional: bool, size: int | None, server: LoopbackServer, long: FileRequest
) -> None:
    request = replace(long, size=size)
    if conditional:
        request.dest.parent.mkdir(parents=True)
        request.dest.write_bytes(b"old")
        os.utime(request.dest, (MTIME - 9, MTIME - 9))
    # The first request may only ask how long it is.
    server.add(Fault("truncate", after=BLOCK_BYTES + 5))
    with pytest.raises(TruncatedError):
        fetch_file(request, conditional=conditional, policy=replace(QUICK, body_pauses=()))
    if conditional:
        assert request.dest.read_bytes() == b"old"
    assert litter(request.dest.parent) != []
    server.clear()
    done = fetch_file(request, conditional=conditional, policy=QUICK)
    assert request.dest.read_bytes() == LONG
    assert (done.size, done.sha256) == (len(LONG), hashlib.sha256(LONG).hexdigest())
    assert litter(request.dest.parent) == []
    rest = [one for one in server.requests if one.range]
    assert sum(one.sent for one in rest) <= len(LONG) - BLOCK_BYTES
    assert fetch_file(request, conditional=True, policy=QUICK).not_modified


def test_a_long_file_is_replaced_at_once(
    server: LoopbackServer, long: FileRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    long.dest.parent.mkdir(parents=True)
    long.dest.write_bytes(b"old")
    there: list[bool] = []
    for name in ("rename", "remove", "write_at"):
        real = getattr(disk, name)

        def noted(*args: Any, real: Any = real) -> None:
            there.append(long.dest.is_file())
            real(*args)
            there.append(long.dest.is_file())

        monkeypatch.setattr(disk, name, noted)
    fetch_file(long, policy=QUICK)
    assert all(there)
    assert len(there) > 2
    assert long.dest.read_bytes() == LONG


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("corrupt"), ChecksumMismatchError),
        (Fault("reset", after=9), TruncatedError),
        (Fault("status", status=403), ForbiddenError),
        (Fault("status", status=410), NotFoundError),
        (Fault("status", status=503), ThrottledError),
        (Fault("stall", after=9, seconds=2), UnreachableError),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
@pytest.mark.parametrize("lasting", [True, False])
def test_faults_of_long_files(
    fault: Fault,
    error: type[Exception],
    lasting: bool,
    server: LoopbackServer,
    long: FileRequest,
    tmp_path: Path,
) -> None:
    policy = policy_for(fault, QUICK)
    long.dest.parent.mkdir(parents=True)
    long.dest.write_bytes(b"old")
    server.add(replace(fault, times=None if lasting else 1))
    passing = not lasting and fault.status not in (403, 410)
    if not passing:
        with pytest.raises(error):
            fetch_file(long, policy=policy)
        assert long.dest.read_bytes() == b"old"
        server.clear()
    fetch_file(long, policy=policy)
    assert long.dest.read_bytes() == LONG
    assert litter(tmp_path) == []


def test_files_fetched_alone_share_the_cap_on_connections(
    server: LoopbackServer, long: FileRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOTESSERA_JOBS", "3")
    server.latency = 0.02
    names = ["long" if n % 5 == 0 else "v1~x/a b.npy" for n in range(16)]
    most = 0

    class Users(dict[int, Any]):
        """Who waits on which connection; a server learns late that an answer was given up."""

        def __setitem__(self, thread: int, connection: Any) -> None:
            nonlocal most
            super().__setitem__(thread, connection)
            most = max(most, len(self))

    monkeypatch.setattr(session, "_users", Users())
    in_threads(
        16,
        lambda n: fetch_file(FileRequest(server.url_of(names[n]), tmp_path / "o" / f"{n}")),
    )
    assert 2 <= most <= 3
    bodies = {"long": LONG, "v1~x/a b.npy": BODY}
    assert all((tmp_path / "o" / f"{n}").read_bytes() == bodies[names[n]] for n in range(16))


def test_who_holds_the_last_connection_needs_no_other(
    long: FileRequest, policy: RetryPolicy
) -> None:
    with allow(1), slot(lambda: False) as got:
        assert got
        fetch_file(long, policy=policy)
    assert long.dest.read_bytes() == LONG


def test_a_long_file_without_a_lasting_name_leaves_nothing(
    server: LoopbackServer, long: FileRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("geotessera.remote.transfer.single.DEFAULT_POLICY", QUICK)
    server.add(Fault("truncate", after=3 * BLOCK_BYTES))
    with pytest.raises(TruncatedError):
        download_file_to_temp(long.url)
    assert list((tmp_path / "tmp").iterdir()) == []


# --- Mirrors on disk --------------------------------------------------------------------------


def test_local_path_of_urls() -> None:
    assert local_path("/a b/c%20d") == Path("/a b/c%20d")
    assert local_path(Path("x/y")) == Path("x/y")
    assert local_path("file:///a%20b/v1~x") == Path("/a b/v1~x")
    assert local_path("file://localhost/a") == Path("/a")
    assert local_path("https://host/a") is None
    assert local_path("HTTP://host/a") is None
    with pytest.raises(InputError, match="elsewhere"):
        local_path("file://elsewhere/a")
    with pytest.raises(InputError, match="s3"):
        local_path("s3://bucket/a")


@pytest.fixture(params=["path", "url"])
def mirrored(request: pytest.FixtureRequest, server: LoopbackServer) -> str:
    path = server.root / "v1~x" / "a b.npy"
    return str(path) if request.param == "path" else path.as_uri()


def test_mirror_on_disk(mirrored: str, dest: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    done = fetch_file(
        FileRequest(mirrored, dest, sha256=SHA256, size=len(BODY)),
        progress=lambda *report: seen.append(report),
    )
    assert dest.read_bytes() == BODY
    assert (done.size, done.sha256, done.etag) == (len(BODY), SHA256, None)
    assert dest.stat().st_mtime == MTIME
    assert seen[0][:2] == (0, len(BODY))
    assert seen[-1][:2] == (len(BODY), len(BODY))
    assert fetch_file(FileRequest(mirrored, dest), conditional=True).not_modified
    dest.write_bytes(b"damaged")
    assert not fetch_file(FileRequest(mirrored, dest), conditional=True).not_modified
    assert dest.read_bytes() == BODY


def test_mirror_on_disk_that_is_wrong(mirrored: str, dest: Path) -> None:
    with pytest.raises(ChecksumMismatchError):
        fetch_file(FileRequest(mirrored, dest, sha256="0" * 64))
    with pytest.raises(TruncatedError):
        fetch_file(FileRequest(mirrored, dest, size=1))
    for missing in (mirrored + "x", mirrored + "/below"):
        with pytest.raises(NotFoundError, match="mirror") as caught:
            fetch_file(FileRequest(missing, dest))
        assert caught.value.status == 404
        assert caught.value.url == missing
    with pytest.raises(TransferError, match="cannot be opened"):
        fetch_file(FileRequest(mirrored.rpartition("/")[0], dest))
    assert not dest.parent.exists()


# --- Many at once ---------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], object]) -> None:
    barrier = threading.Barrier(count)

    def run(index: int) -> object:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def test_threads_with_different_files(server: LoopbackServer, tmp_path: Path) -> None:
    bodies = [random.Random(i).randbytes(50_000 + i) for i in range(24)]
    for i, body in enumerate(bodies):
        (server.root / f"{i}").write_bytes(body)
    server.add(Fault("truncate", times=5), Fault("status", times=5, skip=3))
    policy = RetryPolicy(sleep=lambda _: None)

    def work(thread: int) -> None:
        for i in range(thread, len(bodies), 8):
            fetch_file(FileRequest(server.url_of(f"{i}"), tmp_path / "o" / f"{i}"), policy=policy)

    in_threads(8, work)
    assert [(tmp_path / "o" / f"{i}").read_bytes() for i in range(len(bodies))] == bodies
    assert litter(tmp_path) == []


def test_threads_with_one_file(server: LoopbackServer, wanted: FileRequest) -> None:
    server.add(Fault("bandwidth", rate=len(BODY) / 0.2))
    in_threads(4, lambda _: fetch_file(wanted))
    assert wanted.dest.read_bytes() == BODY
    assert [path.name for path in wanted.dest.parent.iterdir()] == ["a.npy"]


def test_failures_beside_successes_in_one_directory(
    server: LoopbackServer, tmp_path: Path, policy: RetryPolicy
) -> None:
    """A failed download takes its new directory back; it must not take another's."""
    for turn in range(20):
        directory = tmp_path / f"{turn}"

        def work(thread: int, directory: Path = directory) -> None:
            name = "empty" if thread % 2 else "missing"
            request = FileRequest(server.url_of(name), directory / "deep" / f"{thread}")
            if thread % 2:
                fetch_file(request, policy=policy)
            else:
                with pytest.raises(NotFoundError):
                    fetch_file(request, policy=policy)

        in_threads(4, work)
        assert sorted(p.name for p in (directory / "deep").iterdir()) == ["1", "3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_process_makes_its_own_connections(
    server: LoopbackServer, wanted: FileRequest, policy: RetryPolicy
) -> None:
    fetch_file(wanted, policy=policy)
    assert server.connections == 1
    child = os.fork()
    if child == 0:
        try:
            fetch_file(FileRequest(wanted.url, wanted.dest.with_name("child")), policy=policy)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert wanted.dest.with_name("child").read_bytes() == BODY
    assert server.connections == 2
    fetch_file(wanted, policy=policy)
    assert server.connections == 2


def test_proxies_of_the_environment_are_used_but_not_for_this_machine(
    server: LoopbackServer,
    wanted: FileRequest,
    policy: RetryPolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.add(Fault("redirect"))
    fetch_file(wanted, policy=policy)
    assert wanted.dest.read_bytes() == BODY
    monkeypatch.setenv("http_proxy", server.url)
    with pytest.raises(NotFoundError):
        fetch_file(FileRequest("http://nowhere.invalid/a", wanted.dest), policy=policy)
    assert server.requests[-1].headers["host"] == "nowhere.invalid"


# --- The name of earlier releases ------------------------------------------------------------


def test_download_file_to_temp(wanted: FileRequest) -> None:
    path = Path(download_file_to_temp(wanted.url))
    try:
        assert path.suffix == ".npy"
        assert path.read_bytes() == BODY
    finally:
        path.unlink()


def test_download_file_to_temp_leaves_nothing_when_it_fails(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(HTTPStatusError):
        download_file_to_temp(server.url_of("none"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_download_file_to_temp_with_cache_path(server: LoopbackServer, wanted: FileRequest) -> None:
    seen: list[tuple[int, int, str]] = []
    for _ in range(2):
        path = download_file_to_temp(wanted.url, lambda *r: seen.append(r), wanted.dest)
        assert path == str(wanted.dest)
    assert [request.status for request in server.requests] == [200, 304]
    assert seen[-1][:2] == (0, 0)
