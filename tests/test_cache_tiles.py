"""Whole tiles kept between runs: `GeoTessera(cache_tiles=…)` and ``--cache-tiles``."""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from geotessera import GeoTessera, Status, cli
from geotessera.errors import InputError, TileError, TileNotFoundError, TransferError
from geotessera.remote import disk
from geotessera.remote.lru.space import BLOCK, SHARE
from geotessera.sources import NpyTile
from geotessera.testing import SampleWorld
from geotessera.testing.server import Fault, LoopbackServer
from geotessera.types import TileId
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geotessera.testing.world import WorldTile

POSIX = pytest.mark.skipif(os.name != "posix", reason="processes and links of POSIX")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty cache."""
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GEOTESSERA_CACHE_TILES", raising=False)
    # Sessions of other tests may hold the same tiles.
    monkeypatch.setattr("geotessera.access.tile_store._session", None)
    return here


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the tiles are cached."""
    return tmp_path / "cache" / "geotessera" / "tiles"


@pytest.fixture
def server(tiny_world: SampleWorld) -> Iterator[LoopbackServer]:
    with LoopbackServer(tiny_world.root("B")) as running:
        yield running


def tile_requests(server: LoopbackServer) -> list[str]:
    """Return the requests for tiles and landmasks, not for registries."""
    return [one.path for one in server.requests if one.path.endswith((".npy", ".tiff"))]


def disk_use(place: Path) -> int:
    sizes = [p.stat().st_size for p in (place / "entries").rglob("*") if p.is_file()]
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def cached(place: Path) -> list[str]:
    """Return the names of cached embeddings, by a plain walk."""
    return sorted(p.name for p in (place / "entries").rglob("grid_*.npy") if "scales" not in p.name)


def later(world: SampleWorld) -> None:
    """Give all files new time stamps, later than those of copies that are cached."""
    for path in world.root().rglob("*.*"):
        os.utime(path, (time.time() + 10, time.time() + 10))


def assert_right(found: Any, one: WorldTile) -> None:
    np.testing.assert_array_equal(found[0].view(np.uint32), one.embedding().view(np.uint32))
    assert tuple(found[2])[:6] == one.grid.transform


def room(world: SampleWorld, tiles: float) -> int:
    """Return a limit that so many tiles of a world fit into."""
    return int(tiles * (max(sum(one.sizes) for one in world.tiles) + 2**17))


# --- What it is for --------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["B", "A"])
def test_the_second_run_does_no_request(
    small_world: SampleWorld, place: Path, generation: Any
) -> None:
    one = small_world.tiles[0]
    lon, lat, year = one.tile.lon, one.tile.lat, one.tile.year
    with LoopbackServer(small_world.root(generation)) as server:
        first = GeoTessera(base_url=server.url, cache_tiles="1GB")
        assert_right(first.fetch_embedding(lon, lat, year), one)
        assert len(tile_requests(server)) >= 3
        server.clear()
        assert_right(
            GeoTessera(base_url=server.url, cache_tiles="1GB").fetch_embedding(lon, lat, year), one
        )
        assert tile_requests(server) == []
        server.clear()
        offline = GeoTessera(base_url=server.url, cache_tiles=10**9, offline=True)
        assert_right(offline.fetch_embedding(lon, lat, year), one)
        assert offline.check_tiles_present([(lon, lat)], year) == {one.files.embedding.stem: True}
        assert server.requests == []
    assert cached(place) == [one.files.embedding.name]
    assert not any(Path.cwd().iterdir())


def test_another_process_does_no_request(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path
) -> None:
    one = tiny_world.tiles[0]
    code = f"""
        from geotessera import GeoTessera
        gt = GeoTessera(base_url={server.url!r}, cache_tiles="1GB")
        values = gt.fetch_embedding({one.tile.lon}, {one.tile.lat}, 2024)[0]
        print(values[7, 11].tolist())
    """
    lines = []
    for _ in range(2):
        server.clear()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
        )
        lines.append(json.loads(done.stdout.replace("nan", "NaN")))
        assert not list((place / "in-use").rglob("*"))  # removed at exit
    np.testing.assert_array_equal(lines[0], one.embedding()[7, 11])
    np.testing.assert_array_equal(lines[1], lines[0])
    assert tile_requests(server) == []


def test_never_by_default(tiny_world: SampleWorld, server: LoopbackServer, place: Path) -> None:
    one = tiny_world.tiles[0]
    GeoTessera(base_url=server.url).fetch_embedding(one.tile.lon, one.tile.lat, 2024)
    assert not place.exists()


def test_the_environment_asks_too(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny_world.tiles[0]
    monkeypatch.setenv("GEOTESSERA_CACHE_TILES", "500 MiB")
    GeoTessera(base_url=server.url).fetch_embedding(one.tile.lon, one.tile.lat, 2024)
    assert cached(place) == [one.files.embedding.name]
    monkeypatch.setenv("GEOTESSERA_CACHE_TILES", "")
    server.clear()
    GeoTessera(base_url=server.url).fetch_embedding(one.tile.lon, one.tile.lat, 2024)
    assert len(tile_requests(server)) >= 3


@pytest.mark.parametrize("size", ["10 bananas", "-1GB", "0", "", 0, -5, True])
def test_bad_sizes(server: LoopbackServer, size: Any) -> None:
    with pytest.raises(InputError, match=r"cache_tiles=.* is not a size: expected a positive"):
        GeoTessera(base_url=server.url, cache_tiles=size)
    assert server.requests == []


def test_a_bad_size_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOTESSERA_CACHE_TILES", "lots")
    with pytest.raises(InputError, match="GEOTESSERA_CACHE_TILES='lots' is not a size"):
        GeoTessera()


def test_a_directory_of_tiles_comes_first(
    tiny_world: SampleWorld,
    server: LoopbackServer,
    place: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = tiny_world.tiles[0]
    gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path / "mine", cache_tiles="1GB")
    assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, 2024), one)
    assert "cache_tiles is not used" in caplog.text
    assert not place.exists()
    assert list((tmp_path / "mine").rglob("*_scales.npy"))


# --- What is served ------------------------------------------------------------------------


def test_years_places_datasets_and_mirrors_are_told_apart(tmp_path: Path, place: Path) -> None:
    tiles = [TileId(year, lon, 83.65) for year in (2023, 2024) for lon in (23.95, 24.05)]
    worlds = [
        SampleWorld.build(
            tmp_path / where, bands=1, tiles=tiles, seed=seed, version=version, variant=variant
        )
        for seed, (where, version, variant) in enumerate(
            [("one", "1.1", "cambridge"), ("one", "1.0", "vultr"), ("two", "1.1", "cambridge")]
        )
    ]
    for _ in range(2):
        for world in worlds:
            gt = GeoTessera(world.version, world.variant, base_url=world.root(), cache_tiles="1GB")
            for one in world.tiles:
                assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, one.tile.year), one)
    assert len(cached(place)) == len(worlds) * len(tiles)


def test_a_changed_registry_invalidates(tmp_path: Path, place: Path) -> None:
    old = SampleWorld.build(tmp_path / "w", size="tiny", generation="A", seed=1)
    lon, lat = old.tiles[0].tile[1:]
    with LoopbackServer(old.root()) as server:
        first = GeoTessera(base_url=server.url, cache_tiles="1GB").fetch_embedding(lon, lat, 2024)
        new = SampleWorld.build(tmp_path / "w", size="tiny", generation="A", seed=2)
        assert new.tiles[0].sizes[:2] == old.tiles[0].sizes[:2]
        later(new)
        second = GeoTessera(base_url=server.url, cache_tiles="1GB").fetch_embedding(lon, lat, 2024)
    assert not np.array_equal(first[0], second[0], equal_nan=True)
    assert_right(second, new.tiles[0])
    assert len(cached(place)) == 1


def test_a_tile_that_is_withdrawn_is_not_served(tmp_path: Path) -> None:
    old = SampleWorld.build(tmp_path / "w", size="tiny")
    kept, gone = old.tiles
    where = gone.tile.lon, gone.tile.lat, 2024
    GeoTessera(base_url=old.root(), cache_tiles="1GB").fetch_embedding(*where)
    SampleWorld.build(tmp_path / "w", size="tiny", tiles=[kept.tile])
    with pytest.raises(TileNotFoundError):
        GeoTessera(base_url=old.root(), cache_tiles="1GB").fetch_embedding(*where)


def test_refresh_bypasses_and_replaces(tmp_path: Path, place: Path) -> None:
    old = SampleWorld.build(tmp_path / "w", size="tiny", seed=1)
    lon, lat = old.tiles[0].tile[1:]
    before = old.tiles[0].embedding()
    with LoopbackServer(old.root()) as server:
        gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
        gt.fetch_embedding(lon, lat, 2024)
        new = SampleWorld.build(tmp_path / "w", size="tiny", seed=2)
        later(new)
        found = gt.fetch_embedding(lon, lat, 2024)[0]
        np.testing.assert_array_equal(found, before)  # generation B publishes no digests
        assert_right(gt.fetch_embedding(lon, lat, 2024, refresh=True), new.tiles[0])
        server.add(Fault("status", path="*.npy", status=404))
        assert_right(gt.fetch_embedding(lon, lat, 2024), new.tiles[0])
        again = GeoTessera(base_url=server.url, cache_tiles="1GB")
        with pytest.raises(TransferError):
            again.fetch_embedding(lon, lat, 2024, refresh=True)
        # What could not be replaced is still there.
        assert_right(again.fetch_embedding(lon, lat, 2024), new.tiles[0])
    assert len(cached(place)) == 1


@pytest.mark.parametrize("name", ["*.npy", "*_scales.npy", "*.tiff"])
@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_a_damaged_tile_is_fetched_again(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path, name: str, how: str
) -> None:
    one = tiny_world.tiles[0]
    where = one.tile.lon, one.tile.lat, 2024
    GeoTessera(base_url=server.url, cache_tiles="1GB").fetch_embedding(*where)
    gc.collect()
    (path, *_) = sorted((place / "entries").rglob(name))
    whole = path.read_bytes()
    if how == "flip":
        at = len(whole) * 2 // 3
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
    elif how == "truncate":
        os.truncate(path, len(whole) - 1)
    else:
        path.unlink()
    for expected in (3, 0):
        server.clear()
        gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
        assert_right(gt.fetch_embedding(*where), one)
        assert len(set(tile_requests(server))) == expected


def test_what_is_not_verified_is_not_kept(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny_world.tiles[0]
    where = one.tile.lon, one.tile.lat, 2024
    monkeypatch.setenv("GEOTESSERA_SKIP_HASH", "1")
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    assert_right(gt.fetch_embedding(*where), one)
    assert not place.exists()


# --- The bound -------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_goes(small_world: SampleWorld, place: Path) -> None:
    a, b, c = small_world.tiles[:3]
    limit = room(small_world, 2)

    def fetch(server: LoopbackServer, one: WorldTile) -> bool:
        """Return whether it took a request."""
        gc.collect()
        server.clear()
        gt = GeoTessera(base_url=server.url, cache_tiles=limit)
        assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, one.tile.year), one)
        assert disk_use(place) <= limit
        return bool(tile_requests(server))

    with LoopbackServer(small_world.root("B")) as server:
        assert [fetch(server, one) for one in (a, b, a)] == [True, True, False]
        assert fetch(server, c)  # b goes, a was used since
        assert [fetch(server, one) for one in (a, c, b)] == [False, False, True]


@pytest.mark.parametrize("tiles", [0.5, 1, 3])
def test_each_tile_of_a_region_is_fetched_once(
    small_world: SampleWorld, place: Path, tiles: float, caplog: pytest.LogCaptureFixture
) -> None:
    limit = room(small_world, tiles)
    wanted = [one for one in small_world.tiles if one.tile.year == 2024]
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url, cache_tiles=limit)
        found = gt.fetch_embeddings([one.tile for one in wanted])
        for one, (year, lon, lat, *rest) in zip(wanted, found, strict=True):
            assert (year, lon, lat) == one.tile
            assert_right(rest, one)
        embeddings = [path for path in tile_requests(server) if path.endswith("5.npy")]
        assert len(embeddings) == len(set(embeddings)) == len(wanted)
    assert disk_use(place) <= limit
    assert len(cached(place)) == int(tiles)


@POSIX
def test_a_tile_in_use_survives_its_eviction(small_world: SampleWorld, place: Path) -> None:
    one = small_world.tile(23.95, 83.75)
    gt = GeoTessera(base_url=small_world.root("B"), cache_tiles=room(small_world, 1))
    tile = gt._tile(one.tile)  # nothing is opened yet
    source = gt._tile(one.tile).source()
    assert one.files.embedding.name in cached(place)
    for other in small_world.tiles[:2]:
        client = GeoTessera(base_url=small_world.root("B"), cache_tiles=room(small_world, 1))
        client._tile(other.tile)
    assert one.files.embedding.name not in cached(place)
    np.testing.assert_array_equal(tile.load_embedding(), one.embedding())
    np.testing.assert_array_equal(source.land(), one.mask())
    values = source.gather(np.array([5])).values
    np.testing.assert_array_equal(values[0], one.values().reshape(-1, small_world.bands)[5])
    del tile, source, client, gt
    gc.collect()
    assert not [p for p in (place / "in-use").rglob("*") if p.is_file()]


def test_a_tile_is_pickled_without_its_lease(tiny_world: SampleWorld) -> None:
    one = tiny_world.tiles[0]
    gt = GeoTessera(base_url=tiny_world.root("B"), cache_tiles="1GB")
    tile = gt._tile(one.tile)
    copy = pickle.loads(pickle.dumps(tile._descriptor))
    assert type(copy) is NpyTile
    np.testing.assert_array_equal(copy.open().pixels().values, one.values())


# --- Sampling --------------------------------------------------------------------------------


def points_in(tiles: Any) -> np.ndarray:
    return np.array([(one.tile.lon + d, one.tile.lat + d / 9) for one in tiles for d in (0, 0.01)])


def sampled(gt: GeoTessera, world: SampleWorld, **how: Any) -> np.ndarray:
    values, status = gt.sample_embeddings_at_points(
        points_in(world.tiles), 2024, return_status=True, **how
    )
    assert set(status.tolist()) <= {Status.VALID, Status.NODATA}
    return np.asarray(values)


def test_points_take_cached_tiles_for_local(
    tiny_world: SampleWorld, server: LoopbackServer, tmp_path: Path
) -> None:
    expected = sampled(
        GeoTessera(embeddings_dir=tiny_world.checkout(tmp_path / "all"), base_url=server.url),
        tiny_world,
    )
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    np.testing.assert_array_equal(sampled(gt, tiny_world), expected)
    for fetch in ("auto", "ranges", "tiles"):
        server.clear()
        gt = GeoTessera(base_url=server.url, cache_tiles="1GB", offline=fetch == "auto")
        np.testing.assert_array_equal(sampled(gt, tiny_world, fetch=fetch), expected)
        assert tile_requests(server) == []


def test_points_in_more_tiles_than_there_is_room_for(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path
) -> None:
    gt = GeoTessera(base_url=server.url, cache_tiles=room(tiny_world, 1))
    sampled(gt, tiny_world)
    assert all(one.range for one in server.requests if one.path.endswith(".npy"))
    assert not place.exists()
    sampled(gt, tiny_world, fetch="tiles")
    assert len(cached(place)) == 1


def test_a_tile_that_fails_does_not_hinder_the_others(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path
) -> None:
    bad, good = tiny_world.tiles
    server.add(Fault("status", path=f"*{bad.files.scales.name}", status=404))
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    _, status = gt.sample_embeddings_at_points(
        points_in([bad, good]), 2024, return_status=True, errors="coerce"
    )
    assert status.tolist() == [Status.FAILED] * 2 + [Status.VALID] * 2
    assert cached(place) == [good.files.embedding.name]
    with pytest.raises(TileError):
        gt.sample_embeddings_at_points(points_in([bad]), 2024)


# --- Places that cannot be written -----------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_one_warning(
    tiny_world: SampleWorld,
    server: LoopbackServer,
    place: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    for one in tiny_world.tiles:
        assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, 2024), one)
    sampled(gt, tiny_world)
    assert len([r for r in caplog.records if "is not used" in r.getMessage()]) == 1


@pytest.mark.parametrize("batch", [False, True])
def test_a_full_disk_is_one_warning(
    tiny_world: SampleWorld,
    server: LoopbackServer,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    batch: bool,
) -> None:
    create = disk.create

    def full(path: Path) -> int:
        if path.is_relative_to(place):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create(path)

    monkeypatch.setattr(disk, "create", full)
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    if batch:
        sampled(gt, tiny_world)
    for one in tiny_world.tiles:
        assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, 2024), one)
    assert len([r for r in caplog.records if "is not used" in r.getMessage()]) == 1
    assert cached(place) == []


@POSIX
def test_a_cache_of_others_is_only_read(
    tiny_world: SampleWorld, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    one = tiny_world.tiles[0]
    where = one.tile.lon, one.tile.lat, 2024
    GeoTessera(base_url=server.url, cache_tiles="1GB").fetch_embedding(*where)
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    server.clear()

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "link", refuse)
    assert_right(gt.fetch_embedding(*where), one)
    assert tile_requests(server) == []


# --- Many at once ----------------------------------------------------------------------------


def test_sixteen_threads_fetch_a_tile_once(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    ready = threading.Barrier(16)

    def work(number: int) -> None:
        ready.wait()
        for one in tiny_world.tiles[:: 1 if number % 2 else -1]:
            if number % 4 == 0:
                sampled(gt, tiny_world, fetch="tiles")
            assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, 2024), one)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    requests = tile_requests(server)
    assert len(requests) == len(set(requests)) == 6


WORKER = """
    import random, sys
    import numpy as np
    from geotessera import GeoTessera
    url, limit, seed, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    tiles = [tuple(map(float, text.split(","))) for text in sys.argv[5:]]
    gt = GeoTessera(base_url=url, cache_tiles=limit)
    rng = random.Random(seed)
    for _ in range(rounds):
        lon, lat, total = rng.choice(tiles)
        values = gt.fetch_embedding(lon, lat, 2024)[0]
        assert float(np.nansum(values, dtype=np.float64)) == total, (lon, lat)
"""


def start(
    world: SampleWorld, server: LoopbackServer, limit: int, seed: int, rounds: int
) -> subprocess.Popen[str]:
    tiles = [
        f"{one.tile.lon},{one.tile.lat},{float(np.nansum(one.embedding(), dtype=np.float64))!r}"
        for one in world.tiles
    ]
    return subprocess.Popen(
        [
            *(sys.executable, "-c", textwrap.dedent(WORKER), server.url),
            *map(str, (limit, seed, rounds)),
            *tiles,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@POSIX
def test_processes_share_a_cache_that_is_too_small(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path
) -> None:
    limit = room(tiny_world, 1)
    workers = [start(tiny_world, server, limit, seed, 40) for seed in range(3)]
    for worker in workers:
        _, err = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, err
        assert "is not used" not in err
    assert disk_use(place) <= limit * (1 + 3 / SHARE)
    assert len(cached(place)) == 1
    assert not [p for p in (place / "in-use").rglob("*") if p.is_file()]


@POSIX
def test_kill_in_the_middle_of_a_fetch(
    tiny_world: SampleWorld, server: LoopbackServer, place: Path
) -> None:
    server.add(Fault("stall", path="*[0-9].npy", after=100_000, seconds=600))
    with start(tiny_world, server, 10**9, 0, 1) as worker:
        until(
            lambda: any(p.stat().st_size for p in (place / "in-use").rglob("*[0-9].npy*.part")),
            lambda: worker.poll() is None,
        )
        worker.kill()
    assert cached(place) == []
    server.clear()
    gt = GeoTessera(base_url=server.url, cache_tiles="1GB")
    for one in tiny_world.tiles:
        assert_right(gt.fetch_embedding(one.tile.lon, one.tile.lat, 2024), one)
    assert len(cached(place)) == 2
    assert not list((place / "in-use").rglob("*.part"))


# --- The command line ------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, list(words))


def test_the_command_line(
    tiny_world: SampleWorld, server: LoopbackServer, tmp_path: Path, place: Path
) -> None:
    table = tmp_path / "p.csv"
    rows = "\n".join(f"{lon},{lat}" for lon, lat in points_in(tiny_world.tiles))
    table.write_text(f"lon,lat\n{rows}\n")
    line = ["sample", str(table), "-o", str(tmp_path / "o.csv"), "--base-url", server.url]
    first = run(*line, "--cache-tiles", "1GB")
    assert first.exit_code == 0, first.output
    content = (tmp_path / "o.csv").read_bytes()
    server.clear()
    assert run(*line, "--cache-tiles", "1GB", "--offline").exit_code == 0
    assert server.requests == []
    assert (tmp_path / "o.csv").read_bytes() == content
    summary = json.loads(run("info", "--base-url", server.url, "--json").stdout)["summary"]
    assert summary["tile_cache"] == {"path": str(place), "bytes": disk_use(place), "tiles": 2}
    assert "2 tiles" in run("info", "--base-url", server.url).stdout


@pytest.mark.parametrize("size", ["10 bananas", "-1GB", "0", ""])
def test_a_bad_size_on_the_command_line(tmp_path: Path, size: str) -> None:
    (tmp_path / "p.csv").write_text("lon,lat\n1,2\n")
    line = ["sample", str(tmp_path / "p.csv"), "-o", str(tmp_path / "o.csv")]
    result = run(*line, f"--cache-tiles={size}")
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"Error: --cache-tiles={size!r} is not a size: expected")
    assert len(result.stderr.strip().splitlines()) == 1
