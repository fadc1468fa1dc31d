"""Sampling by byte ranges: the values of whole tiles, for the bytes of their pixels."""

from __future__ import annotations

import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from geotessera import GeoTessera, Status
from geotessera.access.landmask_cache import LANDMASK_DAYS
from geotessera.access.ranged_tiles import RangedTiles
from geotessera.cli import app
from geotessera.errors import (
    ChangedError,
    FormatError,
    InputError,
    NotFoundError,
    ThrottledError,
    TileError,
    TileNotFoundError,
    TruncatedError,
    UnreachableError,
)
from geotessera.remote.byterange import (
    DEFAULT_GAP,
    NoRangesError,
    Piece,
    RangeCosts,
    RangedObject,
    RangePool,
    first_failure,
    pieces,
)
from geotessera.remote.http import RetryPolicy
from geotessera.sources.ranged import RangedTile
from geotessera.testing import SampleWorld
from geotessera.testing.registries import write_registries
from geotessera.testing.server import Fault, LoopbackServer
from geotessera.testing.world import WorldTile, _npy_header
from waiting import PATIENCE, until

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

QUICK = RetryPolicy(
    connect_timeout=20.0,
    read_timeout=20.0,
    retries=2,
    backoff=0.01,
    body_pauses=(0.01, 0.01),
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty cache."""
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return here


@pytest.fixture
def server(tiny_world: SampleWorld) -> Iterator[LoopbackServer]:
    with LoopbackServer(tiny_world.root("B")) as running:
        yield running


def near(tiles: Any, count: int, seed: int = 0, reach: float = 0.04) -> NDArray[np.float64]:
    """Points around the centres of some tiles, (lon, lat)."""
    rng = np.random.default_rng(seed)
    parts = [
        np.c_[
            rng.uniform(max(one.tile.lon - reach, -180), min(one.tile.lon + reach, 180), count),
            rng.uniform(one.tile.lat - reach, one.tile.lat + reach, count),
        ]
        for one in tiles
    ]
    return np.concatenate(parts)


def quick(gt: GeoTessera, policy: RetryPolicy = QUICK, **options: Any) -> GeoTessera:
    """A client that does not wait long for its ranges."""
    gt._ranged = RangedTiles(gt.registry, gt._store, policy=policy, **options)
    return gt


def assert_only_ranges(server: LoopbackServer) -> None:
    got = [one for one in server.requests if one.path.endswith(".npy") and one.method == "GET"]
    assert all(one.range for one in got)


def asked(server: LoopbackServer, name: str) -> int:
    return server.count(f"*{name}")


EVERYTHING: dict[str, Any] = {"include_metadata": True, "return_status": True}


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found[0].view(np.uint32), expected[0].view(np.uint32))
    assert found[1] == expected[1]
    np.testing.assert_array_equal(found[2], expected[2])


# --- The same values -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(small_world: SampleWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.checkout(tmp_path_factory.mktemp("tiles"))


@pytest.mark.parametrize("generation", ["B", "A"])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("mask_water", [False, True])
@pytest.mark.parametrize("disk", [False, True])
def test_the_values_of_whole_tiles(
    small_world: SampleWorld,
    local: Path,
    generation: Any,
    method: Any,
    mask_water: bool,
    disk: bool,
) -> None:
    points = near(small_world.tiles, 7, reach=0.06)
    options = EVERYTHING | {"method": method, "mask_water": mask_water, "bands": [3, 0]}
    whole = GeoTessera(base_url=small_world.root("B"), embeddings_dir=local)
    expected = whole.sample_embeddings_at_points(points, 2024, auto_download=False, **options)
    assert {*expected[2].tolist()} >= {Status.VALID, Status.NO_TILE}
    with LoopbackServer(small_world.root(generation)) as server:
        base = small_world.root(generation) if disk else server.url
        gt = GeoTessera(base_url=base)
        # The process may have fetched tiles of the same mirror before.
        before = set(gt._store.session_target().rglob("*.npy"))
        assert_same(
            gt.sample_embeddings_at_points(points, 2024, fetch="ranges", **options), expected
        )
        assert_only_ranges(server)
    assert set(gt._store.session_target().rglob("*.npy")) == before


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_points(small_world: SampleWorld, local: Path, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(small_world.tiles))
    _, lon, lat = one.tile
    place = st.tuples(
        st.floats(max(lon - 0.1, -180), min(lon + 0.1, 180)), st.floats(lat - 0.06, lat + 0.06)
    )
    points = np.array(data.draw(st.lists(place, min_size=1, max_size=30)))
    options = EVERYTHING | {"method": data.draw(st.sampled_from(["nearest", "bilinear"]))}
    whole = GeoTessera(base_url=small_world.root("B"), embeddings_dir=local)
    expected = whole.sample_embeddings_at_points(points, one.tile.year, **options)
    costs = RangeCosts(data.draw(st.sampled_from([0, 100, DEFAULT_GAP])), 4)
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        gt._ranged = RangedTiles(gt.registry, gt._store, costs=costs)
        found = gt.sample_embeddings_at_points(points, one.tile.year, fetch="ranges", **options)
    assert_same(found, expected)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_scales_per_band(tiny_world: SampleWorld, tmp_path: Path, method: Any) -> None:
    world = tmp_path / "mirror"
    shutil.copytree(tiny_world.root("B"), world)
    mirror = replace(tiny_world.mirror("B"), base=str(world))
    remade = []
    for one in tiny_world.tiles:
        path = world / one.files.scales.relative_to(tiny_world.root("B"))
        scales = np.random.default_rng(1).uniform(0.01, 0.2, one.values().shape)
        scales[scales > 0.19] = np.nan
        np.save(path, scales.astype(np.float32))
        sizes = (one.sizes[0], path.stat().st_size, one.sizes[2])
        remade.append(replace(one, sizes=sizes))
    write_registries(mirror, remade)
    points = near(tiny_world.tiles, 20)
    with LoopbackServer(world) as server:
        gt = GeoTessera(base_url=server.url)
        found = gt.sample_embeddings_at_points(
            points, 2024, method=method, fetch="ranges", **EVERYTHING
        )
        assert_only_ranges(server)
        expected = gt.sample_embeddings_at_points(
            points, 2024, method=method, fetch="tiles", **EVERYTHING
        )
    assert (found[2] == Status.VALID).sum() > 10
    assert_same(found, expected)


def test_a_window_of_a_remote_tile(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    one = tiny_world.tiles[0]
    urls = [server.url_of(path.relative_to(tiny_world.root("B"))) for path in one.files[:2]]
    source = RangedTile(urls[0], urls[1], one.files.landmask).open()
    block = source.read((3, 4, 5, 6), bands=[1, 3])  # type: ignore[arg-type]
    np.testing.assert_array_equal(block.values, one.values()[3:8, 4:10, [1, 3]])
    np.testing.assert_array_equal(block.scales, one.scales()[3:8, 4:10])
    assert source.grid == one.grid
    np.testing.assert_array_equal(source.land(), one.mask())


# --- The bytes -----------------------------------------------------------------------------


def full_size(directory: Path) -> tuple[SampleWorld, list[WorldTile]]:
    """Nine tiles of 52° N as published: 128 bands, 107 MB each, most of them holes."""
    centres = [(2024, lon, lat) for lon in (0.05, 0.15, 0.25) for lat in (52.05, 52.15, 52.25)]
    world = SampleWorld.build(directory, bands=1, tiles=centres)
    rng = np.random.default_rng(0)
    remade = []
    for one in world.tiles:
        shape = (one.grid.height, one.grid.width, 128)
        head = _npy_header(shape, "|i1")
        size = len(head) + int(np.prod(shape))
        with one.files.embedding.open("wb") as file:
            file.write(head)
            file.truncate(size)
            for row in range(0, shape[0], 7):
                file.seek(len(head) + row * shape[1] * 128)
                file.write(rng.integers(-127, 128, 4096, np.int8).tobytes())
        remade.append(replace(one, sizes=(size, *one.sizes[1:])))
    write_registries(world.mirror("B"), remade)
    return world, remade


class Hasty(LoopbackServer):
    """A server that does not hash a gigabyte for its ETags."""

    def _etag(self, path: Path, stat: os.stat_result) -> str:
        return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'


def test_a_hundred_points_cost_a_three_hundredth(tmp_path: Path) -> None:
    world, tiles = full_size(tmp_path / "world")
    rng = np.random.default_rng(2)
    points = np.c_[rng.uniform(0.0, 0.3, 100), rng.uniform(52.0, 52.3, 100)]
    whole = sum(sum(one.sizes) for one in tiles)
    with Hasty(world.root("B"), latency=0.02) as server:
        gt = GeoTessera(base_url=server.url)
        before = server.bytes_sent
        found = gt.sample_embeddings_at_points(points, 2024, **EVERYTHING)
        assert whole / (server.bytes_sent - before) > 300
        # Two headers and a landmask a tile, at most two ranges a point.
        assert len(server.requests) < 9 * 3 + 2 * 100 + 10
        assert server.peak > 8
        landmasks = asked(server, ".tiff")
        assert landmasks == 9

        again = GeoTessera(base_url=server.url)
        assert_same(again.sample_embeddings_at_points(points, 2024, **EVERYTHING), found)
        assert asked(server, ".tiff") == landmasks
    mapped = GeoTessera(base_url=world.root("B"), embeddings_dir=world.checkout(tmp_path / "t"))
    assert_same(mapped.sample_embeddings_at_points(points, 2024, **EVERYTHING), found)


# --- When which ----------------------------------------------------------------------------


def test_dense_points_take_the_whole_tile(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    points = near(tiny_world.tiles, 2000)
    GeoTessera(base_url=server.url).sample_embeddings_at_points(points, 2024)
    whole = [one for one in server.requests if one.path.endswith(".npy") and not one.range]
    assert len(whole) == 4


def test_points_again_and_again_take_the_whole_tile(
    tiny_world: SampleWorld, server: LoopbackServer
) -> None:
    points = near(tiny_world.tiles[:1], 1)
    gt = GeoTessera(base_url=server.url)
    first = gt.sample_embeddings_at_points(points, 2024)
    assert gt._store.local(tiny_world.tiles[0].tile) is None
    for _ in range(10):
        np.testing.assert_array_equal(gt.sample_embeddings_at_points(points, 2024), first)
    assert gt._store.local(tiny_world.tiles[0].tile) is not None
    count = len(server.requests)
    gt.sample_embeddings_at_points(points, 2024)
    assert len(server.requests) == count


def test_a_directory_of_tiles_is_filled_with_whole_ones(
    tiny_world: SampleWorld, server: LoopbackServer, tmp_path: Path
) -> None:
    points = near(tiny_world.tiles, 2)
    gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path / "tiles")
    ranged = gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
    assert not list((tmp_path / "tiles").rglob("*.npy"))
    np.testing.assert_array_equal(gt.sample_embeddings_at_points(points, 2024), ranged)
    assert len(list((tmp_path / "tiles").rglob("*.npy"))) == 4


@pytest.mark.parametrize("fetch", ["auto", "ranges", "tiles"])
def test_local_tiles_are_looked_up_once(
    tiny_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch: str
) -> None:
    monkeypatch.chdir(tiny_world.checkout(tmp_path / "tiles"))
    gt = GeoTessera(base_url=tiny_world.root("B"))
    points = near(tiny_world.tiles, 5)
    looked: list[Any] = []
    local = gt._store.local

    def noted(tile: Any) -> Any:
        looked.append(tile)
        return local(tile)

    monkeypatch.setattr(gt._store, "local", noted)
    found = gt.sample_embeddings_at_points(points, 2024, fetch=fetch)
    assert sorted(looked) == sorted(one.tile for one in tiny_world.tiles)
    assert np.isfinite(found).any()


def test_fetch_tiles_asks_for_no_range(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    gt = GeoTessera(base_url=server.url)
    gt.sample_embeddings_at_points(near(tiny_world.tiles, 2), 2024, fetch="tiles")
    assert gt._store.local(tiny_world.tiles[0].tile) is not None


def test_what_fetch_may_be(tiny_world: SampleWorld) -> None:
    gt = GeoTessera(base_url=tiny_world.root("B"))
    with pytest.raises(InputError, match="auto, ranges, tiles"):
        gt.sample_embeddings_at_points([(23.95, 83.65)], 2024, fetch="bytes")


def test_what_a_method_may_be(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    gt = GeoTessera(base_url=server.url)
    count = len(server.requests)
    with pytest.raises(InputError, match="nearest, bilinear"):
        gt.sample_embeddings_at_points([(23.95, 83.65)], 2024, method="cubic", fetch="ranges")  # type: ignore[arg-type]
    assert len(server.requests) == count


def test_many_threads_share_the_connections(
    tiny_world: SampleWorld, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOTESSERA_RANGE_JOBS", "5")
    gt = GeoTessera(base_url=server.url)
    points = near(tiny_world.tiles, 40)
    expected = GeoTessera(base_url=tiny_world.root("B")).sample_embeddings_at_points(points, 2024)

    def work(first: int) -> bool:
        part = slice(first, first + 10)
        found = gt.sample_embeddings_at_points(points[part], 2024, fetch="ranges")
        return np.array_equal(found, expected[part], equal_nan=True)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(0, 80, 10)))
    assert server.peak <= 5


def test_a_descriptor_opens_elsewhere(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    one = tiny_world.tiles[0]
    urls = [server.url_of(path.relative_to(tiny_world.root("B"))) for path in one.files[:2]]
    source = RangedTile(urls[0], urls[1], one.files.landmask, one.sizes[:2]).open()
    copy = pickle.loads(pickle.dumps(source.descriptor)).open()
    some = copy.gather(np.array([5, 900]))
    np.testing.assert_array_equal(some.values, one.values().reshape(-1, 4)[[5, 900]])


def test_nothing_is_fetched_without_leave(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    gt = GeoTessera(base_url=server.url)
    count = len(server.requests)
    with pytest.raises(TileNotFoundError):
        gt.sample_embeddings_at_points([(23.95, 83.65)], 2024, auto_download=False, fetch="ranges")
    offline = GeoTessera(base_url=server.url, offline=True)
    with pytest.raises(TileError, match="offline"):
        offline.sample_embeddings_at_points([(23.95, 83.65)], 2024, fetch="ranges")
    assert len(server.requests) == count


def test_a_mirror_on_disk_is_read_in_place(tiny_world: SampleWorld) -> None:
    gt = GeoTessera(base_url=tiny_world.root("B").as_uri())
    gt.sample_embeddings_at_points(near(tiny_world.tiles, 2), 2024)
    assert gt._store.local(tiny_world.tiles[0].tile) is None


@pytest.mark.parametrize(("fetch", "ranges"), [("auto", True), ("ranges", True), ("tiles", False)])
def test_on_the_command_line(
    tiny_world: SampleWorld, server: LoopbackServer, tmp_path: Path, fetch: str, ranges: bool
) -> None:
    table = tmp_path / "p.csv"
    np.savetxt(table, near(tiny_world.tiles, 1), delimiter=",", header="lon,lat", comments="")
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(
        app, ["sample", str(table), "-o", str(out), "--base-url", server.url, "--fetch", fetch]
    )
    assert done.exit_code == 0, done.output
    npy = [one for one in server.requests if one.path.endswith(".npy") and one.method == "GET"]
    sent = sum(one.sent for one in npy)
    whole = sum(sum(one.sizes[:2]) for one in tiny_world.tiles)
    assert (sent < whole / 2) == ranges


# --- Landmasks -----------------------------------------------------------------------------


def landmask_files(gt: GeoTessera) -> list[Path]:
    return sorted(gt.registry.landmasks_cache.glob("*.tiff"))


def test_a_damaged_landmask_is_fetched_again(
    tiny_world: SampleWorld, server: LoopbackServer
) -> None:
    points = near(tiny_world.tiles, 3)
    first = GeoTessera(base_url=server.url).sample_embeddings_at_points(points, 2024)
    gt = GeoTessera(base_url=server.url)
    for path in landmask_files(gt):
        path.write_bytes(b"no landmask")
    np.testing.assert_array_equal(gt.sample_embeddings_at_points(points, 2024), first)
    assert asked(server, ".tiff") == 4
    assert {path.read_bytes() for path in landmask_files(gt)} == {
        one.files.landmask.read_bytes() for one in tiny_world.tiles
    }


def test_an_old_landmask_is_compared_once(
    tiny_world: SampleWorld, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = near(tiny_world.tiles[:1], 3)
    GeoTessera(base_url=server.url).sample_embeddings_at_points(points, 2024, fetch="ranges")
    later = time.time() + (LANDMASK_DAYS + 1) * 86400
    monkeypatch.setattr("geotessera.access.landmask_cache.time.time", lambda: later)
    gt = GeoTessera(base_url=server.url)
    for _ in range(2):
        gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
    answers = [one.status for one in server.requests if one.path.endswith(".tiff")]
    assert answers == [200, 304]
    server.add(Fault("status", "*.tiff", status=403))
    old = GeoTessera(base_url=server.url)
    found = old.sample_embeddings_at_points(points, 2024, fetch="ranges")
    np.testing.assert_array_equal(
        found, gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
    )


def test_a_cache_that_cannot_be_written(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    points = near(tiny_world.tiles, 3)
    gt = GeoTessera(base_url=server.url)
    gt.registry.landmasks_cache.parent.mkdir(parents=True, exist_ok=True)
    gt.registry.landmasks_cache.write_text("in the way")
    found = gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
    expected = GeoTessera(base_url=tiny_world.root("B")).sample_embeddings_at_points(points, 2024)
    np.testing.assert_array_equal(found, expected)


# --- Faults --------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Fault, type[Exception] | None]] = {
    "not found": (Fault("status", "*.npy", status=404), NotFoundError),
    "gone scales": (Fault("status", "*_scales.npy", status=410), NotFoundError),
    "no landmask": (Fault("status", "*.tiff", status=404), NotFoundError),
    "overloaded": (Fault("status", "*.npy", status=503), ThrottledError),
    "overloaded once": (Fault("status", "*.npy", status=503, times=2, retry_after=0), None),
    "cut": (Fault("truncate", "*.npy"), TruncatedError),
    "cut once": (Fault("truncate", "*.npy", times=2), None),
    "cut scales": (Fault("truncate", "*_scales.npy", after=3), TruncatedError),
    "reset": (Fault("reset", "*.npy"), TruncatedError),
    "reset once": (Fault("reset", "*.npy", times=2, skip=4), None),
    "stalled": (Fault("stall", "*.npy", seconds=1.5), UnreachableError),
    "stalled once": (Fault("stall", "*.npy", seconds=1.5, times=1, skip=5), None),
    "slow to answer": (Fault("latency", "*.npy", seconds=0.1), None),
    "redirected": (Fault("redirect", "*.npy"), None),
    "damaged header": (Fault("corrupt", "*.npy", after=0), FormatError),
    "other type": (Fault("corrupt", "*_scales.npy", after=21), FormatError),
    "damaged landmask": (Fault("corrupt", "*.tiff", after=0), OSError),
    "another range": (
        Fault("header", "*.npy", headers={"Content-Range": "bytes 1-9/99"}, times=2),
        None,
    ),
    "no ETag": (Fault("header", "*.npy", headers={"ETag": None}), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_overcome_or_named(
    tiny_world: SampleWorld, server: LoopbackServer, name: str
) -> None:
    fault, error = FAULTS[name]
    points = near(tiny_world.tiles[:1], 5, reach=0.06)
    expected = GeoTessera(base_url=tiny_world.root("B")).sample_embeddings_at_points(
        points, 2024, return_status=True
    )
    policy = replace(QUICK, read_timeout=0.5) if fault.kind == "stall" else QUICK
    gt = quick(GeoTessera(base_url=server.url), policy)
    server.add(fault)
    options: dict[str, Any] = {"fetch": "ranges", "return_status": True}
    if error is None:
        values, status = gt.sample_embeddings_at_points(points, 2024, **options)
        np.testing.assert_array_equal(values, expected[0])
        np.testing.assert_array_equal(status, expected[1])
        return
    with pytest.raises(TileError, match=r"grid_23\.95_83\.65") as caught:
        gt.sample_embeddings_at_points(points, 2024, **options)
    assert isinstance(caught.value.__cause__, error)
    values, status = gt.sample_embeddings_at_points(points, 2024, errors="coerce", **options)
    assert np.isnan(values).all()
    owned = expected[1] != Status.NO_TILE
    assert (status[owned] == Status.FAILED).all()
    assert (status[~owned] == Status.NO_TILE).all()


def test_one_bad_tile_leaves_the_others(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    points = np.array([(23.95, 83.65), (24.05, 83.65)])
    gt = quick(GeoTessera(base_url=server.url))
    server.add(Fault("status", "*grid_23.95_83.65.npy", status=404))
    _, metadata, status = gt.sample_embeddings_at_points(
        points, 2024, errors="coerce", fetch="ranges", **EVERYTHING
    )
    assert status.tolist()[0] == Status.FAILED
    assert status.tolist()[1] != Status.FAILED
    assert "grid_23.95_83.65.npy does not exist" in metadata[0]["error"]


def test_retry_after_is_obeyed(tiny_world: SampleWorld, server: LoopbackServer) -> None:
    waits: list[float] = []
    gt = GeoTessera(base_url=server.url)
    gt._ranged = RangedTiles(
        gt.registry, gt._store, policy=replace(QUICK, jitter=0, sleep=waits.append)
    )
    server.add(Fault("status", "*.npy", status=429, retry_after=7, times=1))
    gt.sample_embeddings_at_points(near(tiny_world.tiles[:1], 2), 2024, fetch="ranges")
    assert waits == [7]


@pytest.mark.parametrize("fetch", ["auto", "ranges"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("no-range"),
        Fault("header", "*.npy", headers={"Content-Range": None}),
        Fault("header", "*.npy", headers={"Content-Range": "bytes 5-196/9999"}),
    ],
)
def test_without_ranges_whole_tiles_come_with_one_note(
    tiny_world: SampleWorld,
    server: LoopbackServer,
    caplog: pytest.LogCaptureFixture,
    fetch: str,
    fault: Fault,
) -> None:
    points = near(tiny_world.tiles, 5)
    gt = quick(GeoTessera(base_url=server.url))
    server.add(fault)
    found = gt.sample_embeddings_at_points(points, 2024, fetch=fetch)
    gt.sample_embeddings_at_points(points + 0.001, 2024, fetch=fetch)
    notes = [one for one in caplog.records if "whole tiles are fetched" in one.getMessage()]
    assert len(notes) == 1
    assert gt._store.local(tiny_world.tiles[0].tile) is not None
    expected = GeoTessera(base_url=tiny_world.root("B")).sample_embeddings_at_points(points, 2024)
    np.testing.assert_array_equal(found, expected)


def changing(tiny_world: SampleWorld, root: Path) -> tuple[Path, WorldTile]:
    shutil.copytree(tiny_world.root("B"), root)
    one = tiny_world.tiles[0]
    return root / one.files.embedding.relative_to(tiny_world.root("B")), one


class Replacing(LoopbackServer):
    """Replaces a file after some of its ranges were served."""

    def __init__(self, root: Path, path: Path, contents: list[bytes], after: int) -> None:
        super().__init__(root)
        self.path, self.contents, self.after = path, contents, after
        self.served = 0

    def _etag(self, path: Path, stat: os.stat_result) -> str:
        if path == self.path:
            self.served += 1
            if self.served > self.after and self.contents:
                self.served = 0
                aside = path.with_suffix(".new")
                aside.write_bytes(self.contents.pop(0))
                aside.replace(path)
                stat = path.stat()
        return super()._etag(path, stat)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_tile_that_changes_is_read_again(
    tiny_world: SampleWorld, tmp_path: Path, after: int
) -> None:
    path, one = changing(tiny_world, tmp_path / "mirror")
    new = path.read_bytes()[:128] + bytes(x ^ 1 for x in path.read_bytes()[128:])
    points = near([one], 8)
    with Replacing(tmp_path / "mirror", path, [new], after) as server:
        gt = GeoTessera(base_url=server.url)
        gt._ranged = RangedTiles(gt.registry, gt._store, costs=RangeCosts(0, 1), policy=QUICK)
        found = gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
        expected = gt.sample_embeddings_at_points(points, 2024, fetch="tiles")
        assert not server.contents
    np.testing.assert_array_equal(found, expected)


def test_a_tile_that_changes_all_the_time(tiny_world: SampleWorld, tmp_path: Path) -> None:
    path, one = changing(tiny_world, tmp_path / "mirror")
    old = path.read_bytes()
    contents = [old[:-1] + bytes([turn]) for turn in range(1, 30)]
    with Replacing(tmp_path / "mirror", path, contents, 2) as server:
        gt = GeoTessera(base_url=server.url)
        gt._ranged = RangedTiles(gt.registry, gt._store, costs=RangeCosts(0, 1), policy=QUICK)
        points = near([one], 8)
        with pytest.raises(TileError, match="changed while it was read") as caught:
            gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
        assert isinstance(caught.value.__cause__, ChangedError)
        assert len(contents) > 20  # it was not tried for ever


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_than_the_registry_says(
    tiny_world: SampleWorld, tmp_path: Path, change: int
) -> None:
    path, one = changing(tiny_world, tmp_path / "mirror")
    with path.open("r+b") as file:
        file.truncate(one.sizes[0] + change)
    with LoopbackServer(tmp_path / "mirror") as server:
        gt = quick(GeoTessera(base_url=server.url))
        with pytest.raises(TileError, match="where the registry says"):
            gt.sample_embeddings_at_points(near([one], 2), 2024, fetch="ranges")
    disk = GeoTessera(base_url=tmp_path / "mirror")
    with pytest.raises(TileError, match="where the registry says"):
        disk.sample_embeddings_at_points(near([one], 2), 2024, fetch="ranges")


@pytest.mark.parametrize("disk", [False, True])
def test_implausible_scales_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, disk: bool
) -> None:
    place = (23.95, 83.65)
    world = SampleWorld.build(
        tmp_path / "w", bands=2, tiles=[(2024, *place)], faults={place: "corrupt-scales"}
    )
    one = world.tiles[0]
    with LoopbackServer(world.root("B")) as server:
        urls = [server.url_of(path.relative_to(world.root("B"))) for path in one.files[:2]]
        if disk:
            from geotessera.sources.ranged import MirroredTile

            some = MirroredTile(*one.files).open().gather(np.arange(5))
        else:
            source = RangedTile(urls[0], urls[1], one.files.landmask).open()
            some = source.gather(np.arange(5))
            assert source.implausible == 4
    assert some.scales is not None
    np.testing.assert_array_equal(some.scales, one.scales().ravel()[:5])
    assert "4 of 5 scales are not between 0 and 1" in caplog.text


def test_a_layout_that_cannot_be_found_out(
    tiny_world: SampleWorld, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gt = GeoTessera(base_url=server.url)

    def away(*_: object) -> Any:
        raise UnreachableError("nobody answers")

    monkeypatch.setattr(gt.registry, "tile_urls", away)
    points = near(tiny_world.tiles[:1], 2)
    with pytest.raises(TileError, match="nobody answers"):
        gt.sample_embeddings_at_points(points, 2024, fetch="ranges")
    _, status = gt.sample_embeddings_at_points(
        points, 2024, fetch="ranges", errors="coerce", return_status=True
    )
    assert (status == Status.FAILED).all()


# --- Ranges of one file --------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    numbers=st.sets(st.integers(0, 300)).map(sorted),
    offset=st.integers(0, 200),
    record=st.integers(1, 20),
    gap=st.integers(0, 60),
    longest=st.integers(1, 100),
)
def test_pieces_hold_every_record_once(
    numbers: list[int], offset: int, record: int, gap: int, longest: int
) -> None:
    plan = pieces(np.array(numbers, np.int64), offset, record, gap, longest)
    assert [at for piece in plan for at in range(piece.first, piece.last)] == [*range(len(numbers))]
    for piece in plan:
        assert piece.start == offset + numbers[piece.first] * record
        assert piece.stop == offset + (numbers[piece.last - 1] + 1) * record
        assert piece.stop - piece.start <= max(longest, record)
        inner = numbers[piece.first : piece.last]
        assert all((b - a - 1) * record <= gap for a, b in pairwise(inner))
    for one, other in pairwise(plan):
        apart = other.start - one.stop
        assert apart > gap or other.start + record - one.start > longest


def test_pieces_by_hand() -> None:
    numbers = np.array([0, 1, 5, 9])
    assert pieces(numbers, 128, 10, 0) == [
        Piece(128, 148, 0, 2),
        Piece(178, 188, 2, 3),
        Piece(218, 228, 3, 4),
    ]
    assert pieces(numbers, 128, 10, 30) == [Piece(128, 228, 0, 4)]


def test_a_connection_is_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)) * 40)
    with LoopbackServer(tmp_path) as server:
        one = RangedObject(server.url_of("f"))
        with RangePool(RangeCosts(0, 2), QUICK) as pool:
            out, work = pool.records(one, np.arange(0, 100, 2), 3, 7)
            assert first_failure(work) is None
        assert server.connections <= 2
        assert len(server.requests) == 50
        # Until an answer says which version there is, requests go without; the server may take
        # one of those down after many that were sent later.
        etags = [request.headers.get("if-match") for request in server.requests]
        version = server._etag(tmp_path / "f", (tmp_path / "f").stat())
        assert set(etags) == {None, version}
        assert etags.count(None) <= 5
    raw = np.frombuffer((tmp_path / "f").read_bytes(), np.uint8)
    expected = np.stack([raw[3 + at * 7 : 10 + at * 7] for at in range(0, 100, 2)])
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("start", "error"), [(2000, TruncatedError), (0, NoRangesError)])
def test_a_range_that_is_not_there(tmp_path: Path, start: int, error: type[Exception]) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    faults = [Fault("no-range")] if error is NoRangesError else []
    with LoopbackServer(tmp_path, faults=faults) as server, pytest.raises(error):
        RangedObject(server.url_of("f")).read(start, start + 10, QUICK)


def test_leaving_stops_what_waits(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    with LoopbackServer(tmp_path, faults=[Fault("status", retry_after=60)]) as server:
        one = RangedObject(server.url_of("f"))
        with RangePool(RangeCosts(jobs=2)) as pool:
            work = [pool.submit(one.read, at, at + 1, pool.policy) for at in range(5)]
            until(lambda: len(server.requests) >= 2)
        assert isinstance(work[0].exception(timeout=PATIENCE), UnreachableError)


@pytest.mark.parametrize("name", ["GEOTESSERA_RANGE_GAP", "GEOTESSERA_RANGE_JOBS"])
@pytest.mark.parametrize("value", ["-1", "many", "1e9", "99999999999"])
def test_costs_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert RangeCosts.from_environment() == RangeCosts()
    monkeypatch.setenv(name, "17")
    assert RangeCosts.from_environment() != RangeCosts()
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=name):
        RangeCosts.from_environment()


def test_headers_of_any_length(tiny_world: SampleWorld, tmp_path: Path) -> None:
    path, one = changing(tiny_world, tmp_path / "mirror")
    values = one.values()
    head = {"descr": "|i1", "fortran_order": False, "shape": values.shape}
    text = (repr(head) + " " * 900 + "\n").encode()
    magic = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little")
    path.write_bytes(magic + text + values.tobytes())
    with LoopbackServer(tmp_path / "mirror") as server:
        other = server.url_of(path.relative_to(tmp_path / "mirror"))
        scales = other.replace(".npy", "_scales.npy")
        some = RangedTile(other, scales, one.files.landmask).open().gather(np.array([0, 77]))
    np.testing.assert_array_equal(some.values, values.reshape(-1, values.shape[2])[[0, 77]])
