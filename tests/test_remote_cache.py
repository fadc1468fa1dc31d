"""The cache of registries: conditional refresh, and use without a network."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geotessera.errors import NotFoundError, RegistryError, TruncatedError, UnwritableDestination
from geotessera.remote.http import RetryPolicy
from geotessera.remote.transfer.refresh import cache_base, refresh
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = RetryPolicy(sleep=lambda _: None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "manifest.parquet").write_bytes(b"one")
    os.utime(tmp_path / "root" / "manifest.parquet", (1_700_000_000, 1_700_000_000))
    with LoopbackServer(tmp_path / "root") as running:
        yield running


@pytest.fixture
def url(server: LoopbackServer) -> str:
    return server.url_of("manifest.parquet")


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "v1" / "manifest.parquet"


@pytest.mark.skipif(sys.platform == "win32", reason="XDG directories are not used on Windows")
def test_cache_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_base() == tmp_path / "geotessera"
    monkeypatch.setenv("HOME", "/home/somebody")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_base() == Path("/home/somebody/.cache/geotessera")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_base() == Path("/home/somebody/.cache/geotessera")


def test_download_then_keep_then_renew(server: LoopbackServer, url: str, cached: Path) -> None:
    assert refresh(url, cached, policy=QUICK) == cached
    assert cached.read_bytes() == b"one"
    assert cached.stat().st_mtime == 1_700_000_000
    refresh(url, cached, policy=QUICK)
    (server.root / "manifest.parquet").write_bytes(b"two!")
    refresh(url, cached, policy=QUICK)
    assert cached.read_bytes() == b"two!"
    assert [request.status for request in server.requests] == [200, 304, 200]


def test_force_repairs_a_damaged_copy(server: LoopbackServer, url: str, cached: Path) -> None:
    refresh(url, cached, policy=QUICK)
    cached.write_bytes(b"bad")
    refresh(url, cached, policy=QUICK)
    assert cached.read_bytes() == b"bad"
    refresh(url, cached, force=True, policy=QUICK)
    assert cached.read_bytes() == b"one"


@pytest.mark.parametrize("fault", [Fault("status", status=503), Fault("status", status=404)])
def test_copy_is_used_when_the_server_fails(
    fault: Fault, server: LoopbackServer, url: str, cached: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refresh(url, cached, policy=QUICK)
    server.clear()
    server.add(fault)
    with caplog.at_level(logging.WARNING):
        assert refresh(url, cached, policy=QUICK) == cached
    assert cached.read_bytes() == b"one"
    assert "could not be refreshed" in caplog.text
    assert len(server.requests) <= 2, "a copy at hand is not worth long waits"


def test_copy_survives_a_broken_download(server: LoopbackServer, url: str, cached: Path) -> None:
    refresh(url, cached, policy=QUICK)
    (server.root / "manifest.parquet").write_bytes(b"two!")
    server.add(Fault("truncate"))
    refresh(url, cached, policy=QUICK)
    assert cached.read_bytes() == b"one"
    with pytest.raises(RegistryError) as caught:
        refresh(url, cached, offline_ok=False, policy=QUICK)
    assert isinstance(caught.value.__cause__, TruncatedError)
    assert cached.read_bytes() == b"one"


def test_nothing_cached_and_nothing_to_be_had(server: LoopbackServer, cached: Path) -> None:
    with pytest.raises(RuntimeError, match="no cached copy") as caught:
        refresh(server.url_of("none"), cached, policy=QUICK)
    assert isinstance(caught.value, RegistryError)
    assert isinstance(caught.value.__cause__, NotFoundError)
    assert not cached.parent.exists()


def test_unwritable_cache(url: str, read_only_directory: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        refresh(url, read_only_directory / "manifest.parquet", policy=QUICK)
    assert isinstance(caught.value.__cause__, UnwritableDestination)


def test_mirror_on_disk(server: LoopbackServer, cached: Path) -> None:
    refresh((server.root / "manifest.parquet").as_uri(), cached)
    assert cached.read_bytes() == b"one"
