"""Each fault at each kind of file of a mirror: the documented outcome, never a wrong file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from engine_helpers import litter
from geotessera import GeoTessera
from geotessera.errors import (
    ChecksumMismatchError,
    DownloadError,
    ForbiddenError,
    HTTPStatusError,
    NotFoundError,
    RegistryError,
    ThrottledError,
    TransferError,
    TruncatedError,
    UnreachableError,
)
from geotessera.layout import local_tile_files
from geotessera.remote.http import RetryPolicy
from geotessera.remote.records import FileRecords
from geotessera.testing import SampleWorld
from geotessera.testing.server import Fault, LoopbackServer
from geotessera.verify import verify_directory
from waiting import PATIENCE, until

if TYPE_CHECKING:
    import os
    from pathlib import Path

KINDS = {
    "embedding": "*grid_23.95_83.65.npy",
    "scales": "*grid_23.95_83.65_scales.npy",
    "landmask": "*grid_23.95_83.65.tiff",
    "registry": "*/manifest.parquet",
}
HOME = (2024, 23.95, 83.65)
BOX = (23.91, 83.61, 24.09, 83.69)

# What lasts, and what passes after a while; None: it costs time and nothing else.
FAULTS: dict[str, tuple[Fault, type[Exception] | None]] = {
    "cut": (Fault("truncate", after=100), TruncatedError),
    "nothing sent": (Fault("truncate", after=0), TruncatedError),
    "reset": (Fault("reset", after=100), TruncatedError),
    "stalled": (Fault("stall", after=10, seconds=3), UnreachableError),
    "silent": (Fault("latency", seconds=3), UnreachableError),
    "flipped": (Fault("corrupt", after=50), ChecksumMismatchError),
    "announces more": (Fault("wrong-length", extra=9), TransferError),
    "announces less": (Fault("wrong-length", extra=-9), TransferError),
    "401": (Fault("status", status=401), ForbiddenError),
    "403": (Fault("status", status=403), ForbiddenError),
    "404": (Fault("status", status=404), NotFoundError),
    "410": (Fault("status", status=410), NotFoundError),
    "429": (Fault("status", status=429, retry_after=0), ThrottledError),
    "500": (Fault("status", status=500), HTTPStatusError),
    "502": (Fault("status", status=502), HTTPStatusError),
    "503": (Fault("status", status=503, retry_after=0), ThrottledError),
    "504": (Fault("status", status=504), HTTPStatusError),
    "empty success": (Fault("status", status=204), HTTPStatusError),
    "redirected away": (Fault("redirect", location="/nowhere"), NotFoundError),
    "another MD5": (Fault("header", headers={"ETag": f'"{"0" * 32}"'}), ChecksumMismatchError),
    "redirected": (Fault("redirect"), None),
    "slow": (Fault("bandwidth", rate=20e6), None),
    "no ranges": (Fault("no-range"), None),
    "no ETag": (Fault("header", headers={"ETag": None}), None),
    "no version": (Fault("header", headers={"ETag": None, "Last-Modified": None}), None),
    "another range": (Fault("header", headers={"Content-Range": "bytes 1-9/99"}), None),
}

QUICK = RetryPolicy(
    read_timeout=20, retries=1, backoff=0.001, longest_wait=0.01, body_pauses=(0.001, 0.001)
)
IMPATIENT = replace(QUICK, read_timeout=0.7, body_pauses=(0.001,))


def use(policy: RetryPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("http", "transfer.engine", "transfer.refresh", "transfer.single"):
        monkeypatch.setattr(f"geotessera.remote.{module}.DEFAULT_POLICY", policy)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use(QUICK, monkeypatch)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """The tiny world with digests in its registry, and without."""
    directory = tmp_path_factory.mktemp("world")
    return SampleWorld.build(directory, size="tiny", bands=3, generation=("B", "A"))


def assert_right(world: SampleWorld, directory: Path, *, whole: bool = True) -> None:
    """Whatever has its final name has the published bytes; an embedding has its neighbours."""
    for one in world.tiles:
        local = local_tile_files(directory, one.tile)
        for mine, theirs in zip(local, one.files, strict=True):
            assert not mine.exists() or mine.read_bytes() == theirs.read_bytes()
        assert whole is False or local.complete()
        assert local.complete() or not local.embedding.exists()


CASES = [(name, True) for name in FAULTS] + [(name, False) for name in FAULTS if FAULTS[name][1]]


@pytest.mark.parametrize(("name", "lasting"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_overcome_or_named(
    kind: str,
    name: str,
    lasting: bool,
    world: SampleWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault, error = FAULTS[name]
    if fault.seconds:
        use(IMPATIENT, monkeypatch)
    refused = fault.kind == "status" and fault.status in (204, 401, 403, 404, 410)
    out, cache = tmp_path / "out", tmp_path / "cache"
    with LoopbackServer(world.root("B")) as server:
        server.add(replace(fault, path=KINDS[kind], times=None if lasting else 1))
        fails = error is not None and (lasting or refused or name == "redirected away")

        def attempt() -> Any:
            gt = GeoTessera(base_url=server.url, cache_dir=cache, embeddings_dir=out)
            return gt.download_region(BOX, 2024)

        if not fails:
            assert len(attempt().complete) == 2
        elif kind == "registry":
            with pytest.raises(RegistryError) as caught:
                attempt()
            assert error is not None
            assert any(isinstance(one, error) for one in _chain(caught.value))
            assert not list(cache.rglob("*.parquet"))
            assert not list(out.rglob("*.npy"))
        else:
            assert error is not None
            with pytest.raises(DownloadError, match="1 of 2") as failed:
                attempt()
            (found,) = failed.value.report.failed.values()
            assert isinstance(found, error)
            assert len(failed.value.report.complete) == 1
            assert not local_tile_files(out, world.tiles[0].tile).embedding.exists()
        assert_right(world, out, whole=not fails)
        server.clear()
        assert len(attempt().complete) == 2
    assert_right(world, out)
    assert litter(out) == []
    assert verify_directory(out).ok


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


class Changing(LoopbackServer):
    """Replaces a file of its root once some of its bytes are sent.

    Its ETags are no digests, and it may ignore ``If-Range``: only the client can notice.
    """

    def __init__(
        self, root: Path, path: Path, content: bytes, after: int, *, careless: bool
    ) -> None:
        super().__init__(root)
        self.path, self.content, self.after = path, content, after
        self.careless = careless
        self.asked = 0

    def _etag(self, path: Path, stat: os.stat_result) -> str:
        if path == self.path:
            self.asked += 1
            if self.asked == self.after:
                aside = path.with_suffix(".new")
                aside.write_bytes(self.content)
                aside.replace(path)
                stat = path.stat()
        if self.careless:
            for request in self.requests:
                request.headers.pop("if-range", None)
        return f'"{stat.st_mtime_ns:x}-{stat.st_ino:x}"'


@pytest.mark.parametrize("careless", [False, True])
@pytest.mark.parametrize("after", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_changes_half_way(
    kind: str, after: int, careless: bool, world: SampleWorld, tmp_path: Path
) -> None:
    """Blocks of two versions never meet: what arrives is one of them, whole."""
    root = tmp_path / "mirror"
    shutil.copytree(world.root("B"), root)
    (path,) = [
        one
        for one in root.rglob("*")
        if one.is_file() and fnmatchcase(f"/{one.relative_to(root).as_posix()}", KINDS[kind])
    ]
    old = path.read_bytes()
    # The same length; a registry must stay one.
    new = old if kind == "registry" else old[:200] + bytes(byte ^ 1 for byte in old[200:])
    with Changing(root, path, new, after, careless=careless) as server:
        # Cut short first, so that the rest is asked for; of arrays, after their first block.
        cut = 600_000 if len(old) > 600_000 else None
        server.add(Fault("truncate", path=KINDS[kind], times=after - 1, after=cut))
        gt = GeoTessera(
            base_url=server.url, cache_dir=tmp_path / "cache", embeddings_dir=tmp_path / "out"
        )
        with suppress(DownloadError):
            gt.download_region(BOX, 2024)
        gt.download_region(BOX, 2024)
    if kind == "registry":
        assert gt.registry.has_tile(*HOME)
        return
    (got,) = (tmp_path / "out").rglob(path.name)
    assert got.read_bytes() in (old, new)
    assert litter(tmp_path / "out") == []


def test_a_bad_tile_among_the_tiles_of_points(world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(world.root("B")) as server:
        server.add(Fault("status", KINDS["scales"], status=404))
        gt = GeoTessera(
            base_url=server.url, cache_dir=tmp_path / "cache", embeddings_dir=tmp_path / "out"
        )
        points = [(23.95, 83.65), (24.05, 83.65)]
        found = gt.download_tiles_for_points(points, 2024)
        assert found == {"grid_23.95_83.65": False, "grid_24.05_83.65": True}
        assert gt.download_tile(23.95, 83.65, 2024) is False
        server.clear()
        assert all(gt.download_tiles_for_points(points, 2024).values())
    assert_right(world, tmp_path / "out")


def test_what_the_server_said_is_recorded(world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(world.root("B")) as server:
        gt = GeoTessera(
            base_url=server.url, cache_dir=tmp_path / "cache", embeddings_dir=tmp_path / "out"
        )
        gt.download_region(BOX, 2024)
        records = FileRecords(tmp_path / "out").load()
        for one in world.tiles:
            for mine, theirs in zip(
                local_tile_files(tmp_path / "out", one.tile), one.files, strict=True
            ):
                record = records[mine.relative_to(tmp_path / "out").as_posix()]
                assert record.etag == server._etag(theirs, theirs.stat())
                assert record.etag == f'"{record.md5}"'
                assert record.size == theirs.stat().st_size
                assert record.url == server.url_of(theirs.relative_to(world.root("B")))


# --- Many at once ----------------------------------------------------------------------------

CHILD = """
import sys
from geotessera import GeoTessera
base, cache, out = sys.argv[1:]
gt = GeoTessera(base_url=base, cache_dir=cache, embeddings_dir=out)
assert len(gt.download_region((23.91, 83.61, 24.09, 83.69), 2024).complete) == 2
"""


def test_two_processes_and_sixteen_threads_fill_one_directory(
    world: SampleWorld, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    with LoopbackServer(world.root("A"), bandwidth=4e6) as server:
        line = [sys.executable, "-W", "ignore", "-c", CHILD, server.url, str(cache), str(out)]
        children = [subprocess.Popen(line) for _ in range(2)]
        gt = GeoTessera(base_url=server.url, cache_dir=cache, embeddings_dir=out)
        results: list[bool] = []
        threads = [
            threading.Thread(
                target=lambda n=n: results.append(
                    gt.download_tile(*world.tiles[n % 2].tile[1:], 2024)
                )
            )
            for n in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [child.wait(PATIENCE) for child in children] == [0, 0]
    assert results == [True] * 16
    assert_right(world, out)
    assert litter(out) == []
    report = verify_directory(out)
    assert report.ok
    assert report.by_record == 6


def test_the_next_tiles_come_while_the_caller_works(world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(world.root("B")) as server:
        gt = GeoTessera(base_url=server.url, cache_dir=tmp_path / "cache")
        stream = gt.fetch_embeddings([one.tile for one in world.tiles])
        next(stream)
        until(lambda: server.count("*grid_24.05_83.65.npy"))
        assert next(stream)[1] == 24.05
