from __future__ import annotations

import json
import re
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import zarr
from typer.testing import CliRunner

from geotessera import cli
from geotessera.errors import UnwritableDestination
from geotessera.grid import tile_footprint
from geotessera.mosaic import budget, plan_region, record, render
from geotessera.mosaic.record import Record
from geotessera.sources import NpyTile
from geotessera.supply import mosaics as tile_mosaics
from geotessera.testing.server import Fault, LoopbackServer
from geotessera.types import Provenance
from registry_fixtures import landmasks_b, manifest_b

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from geotessera.mosaic import MosaicPlan
    from geotessera.testing import SampleWorld

BOTH = "23.9001,83.6001,24.0999,83.6999"
"""A box in the tiny world's two tiles."""


class Command:
    """`geotessera mosaic` from a mirror, into a directory of this test."""

    def __init__(self, world: SampleWorld, directory: Path) -> None:
        self.world = world
        self.cache = directory / "cache"
        self.out = directory / "out"
        self.base = str(world.root())

    def __call__(self, *words: str, region: str | None = BOTH, out: str | None = "m.tif") -> Result:
        line = ["mosaic", "--base-url", self.base, "--cache-dir", str(self.cache), *words]
        if region is not None:
            line.append(f"--bbox={region}")
        if out is not None:
            line += ["-o", str(self.out / out)]
        return CliRunner().invoke(cli.app, line)

    def json(self, *words: str, code: int = 0, **how: Any) -> Any:
        result = self(*words, "--json", **how)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())

    def plan(self, *, snapped: bool = True, **how: Any) -> MosaicPlan:
        """Return the mosaic of the same box as the library plans it."""
        known = Provenance(self.world.version, self.world.variant, 2024)
        tiles = [NpyTile(*one.files, provenance=known) for one in self.world.tiles]
        if snapped:
            tiles = [replace(tile, georeference="snapped") for tile in tiles]
        how = {"crs": 32634, "resolution": 10, "align": True} | how
        if "like" in how:
            del how["crs"], how["resolution"], how["align"]
        return plan_region(tiles, [float(part) for part in BOTH.split(",")], **how)


@pytest.fixture
def mosaic(tiny_world: SampleWorld, tmp_path: Path) -> Command:
    return Command(tiny_world, tmp_path)


def pixels(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read().transpose(1, 2, 0)


# --- What is written --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ([], {}),
        (["--crs", "EPSG:3857", "--resolution", "60"], {"crs": 3857, "resolution": 60}),
        (["--bands", "2,0", "--resampling", "bilinear"], {"bands": [2, 0], "method": "bilinear"}),
        (["--georeference", "landmask"], {"snapped": False}),
        (["--compress", "lzw", "--memory", "4 GB"], {}),
    ],
    ids=["default", "other-crs", "bilinear", "landmask", "memory"],
)
def test_a_geotiff_is_the_mosaic_that_the_library_makes(
    mosaic: Command, words: list[str], how: dict[str, Any]
) -> None:
    document = mosaic.json(*words)
    plan = mosaic.plan(**how)
    np.testing.assert_array_equal(pixels(mosaic.out / "m.tif"), render(plan).values)
    assert document["digest"] == plan.digest
    assert (document["height"], document["width"]) == plan.shape[:2]
    assert document["files"] == [str(mosaic.out / "m.tif")]
    assert document["fetched"]["tiles"] == 2
    assert mosaic.files() == ["m.tif"]  # what was fetched is gone


@pytest.mark.parametrize("fmt", ["cog", "zarr"])
def test_quantised_mosaics(mosaic: Command, fmt: str) -> None:
    name = "m.zarr" if fmt == "zarr" else "m.tif"
    document = mosaic.json("--quantized", "--format", fmt, out=name)
    whole = render(mosaic.plan(quantized=True))
    assert whole.scales is not None
    if fmt == "zarr":
        group: Any = zarr.open_group(mosaic.out / name, mode="r")
        np.testing.assert_array_equal(group["embeddings"][...], whole.values.transpose(2, 0, 1))
        np.testing.assert_array_equal(group["scales"][...], whole.scales)
        assert mosaic.files() == ["m.zarr"]
    else:
        np.testing.assert_array_equal(pixels(mosaic.out / name), whole.values)
        np.testing.assert_array_equal(pixels(mosaic.out / "m_scales.tif")[..., 0], whole.scales)
        assert mosaic.files() == ["m.tif", "m_scales.tif"]
        with rasterio.open(mosaic.out / name) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert document["quantized"] is True


def test_in_words(mosaic: Command) -> None:
    result = mosaic()
    assert result.exit_code == 0, result.output
    assert "EPSG:32634" in result.stdout
    assert "SUCCESS: " in result.stdout
    assert str(mosaic.out / "m.tif") in result.stdout


def test_like_gives_the_grid_and_the_region(mosaic: Command, tmp_path: Path) -> None:
    mosaic("--crs", "EPSG:3035", "--resolution", "40", "--bands", "0")
    (mosaic.out / "m.tif").rename(tmp_path / "other.tif")
    document = mosaic.json("--like", str(tmp_path / "other.tif"), region=None)
    plan = mosaic.plan(like=tmp_path / "other.tif")
    assert document["crs"] == "EPSG:3035"
    np.testing.assert_array_equal(pixels(mosaic.out / "m.tif"), render(plan).values)


def test_clip_leaves_what_is_outside_the_shape_empty(mosaic: Command, tmp_path: Path) -> None:
    shape = tmp_path / "shape.geojson"
    triangle = [[23.92, 83.61], [24.08, 83.61], [24.0, 83.69], [23.92, 83.61]]
    geometry = {"type": "Polygon", "coordinates": [triangle]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    shape.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    clipped = mosaic.json("--region-file", str(shape), "--clip", region=None)
    inside = np.isfinite(pixels(mosaic.out / "m.tif")[..., 0])
    open_ = mosaic.json("--region-file", str(shape), region=None)
    everything = np.isfinite(pixels(mosaic.out / "m.tif")[..., 0])
    assert clipped["height"] == open_["height"]
    assert 0 < inside.sum() < 0.6 * everything.sum()
    assert (everything | ~inside).all()


def test_a_dry_run_fetches_and_writes_nothing(mosaic: Command) -> None:
    with LoopbackServer(mosaic.world.root()) as server:
        mosaic.base = server.url
        document = mosaic.json("--dry-run", out=None)
        assert server.count("*.npy") == server.count("*.tiff") == 0
        words = mosaic("--dry-run", "--quantized").stdout
    plan = mosaic.plan()
    assert document["bytes"] == plan.nbytes == plan.shape[0] * plan.shape[1] * 16
    assert document["to_fetch"]["tiles"] == 2
    arrays = sum(one.sizes[0] + one.sizes[1] for one in mosaic.world.tiles)
    assert document["to_fetch"]["bytes"] == arrays
    assert "305 × 1127" in words
    assert "2 of 2" in words
    assert not mosaic.out.exists()


# --- Regions in parts -------------------------------------------------------------------

OVERSEAS = [(-61.75, 16.05), (2.05, 48.05), (2.05, 48.15), (2.15, 48.05)]
BETWEEN = "-62,16,3,49"


@pytest.fixture
def overseas(mosaic: Command, tmp_path: Path) -> Command:
    """A dataset whose tiles are known by its registry alone: one in Guadeloupe, three in France."""
    tiles = [(2024, *place) for place in OVERSEAS]
    grids = [tile_footprint(*place) for place in OVERSEAS]
    sizes = [128 + 4 * grid.height * grid.width for grid in grids]
    manifest_b(tmp_path / "far/npy/v1.1-cam/manifest.parquet", tiles, grid_size=sizes)
    landmasks_b(tmp_path / "far/landmasks/v1.1/landmasks.parquet", OVERSEAS)
    mosaic.base = str(tmp_path / "far")
    return mosaic


def test_one_grid_round_parts_that_are_far_apart_is_refused_before_anything_is_fetched(
    overseas: Command,
) -> None:
    document = overseas.json(region=BETWEEN, code=1)
    message = document["error"]["message"]
    assert re.search(r"one grid round all tiles has [\d,]+ × [\d,]+ pixels in EPSG:32631", message)
    assert "lie in 2 parts 500 km apart or farther: choose with --part" in message
    assert "1: 3 tiles in 2,48,2.2,48.2; 2: 1 tiles in -61.8,16,-61.7,16.1; or 'all'" in message
    assert not overseas.out.exists() or overseas.files() == []


def test_a_dry_run_tells_the_parts_and_how_little_would_be_filled(overseas: Command) -> None:
    document = overseas.json("--dry-run", "--quantized", region=BETWEEN)
    assert document["crs"] == "EPSG:32631"
    # The first tile, in Guadeloupe, has pixels of 20 m there.
    assert document["transform"][0] == 10
    areas = [grid.height * grid.width for grid in map(tile_footprint, *zip(*OVERSEAS, strict=True))]
    # Guadeloupe's is four times as large there, and turned.
    assert 1 < document["bytes_filled"] / 8 / (sum(areas) + 3 * areas[0]) < 2
    assert document["bytes"] == document["height"] * document["width"] * 8
    assert [part["tiles"] for part in document["parts"]] == [3, 1]
    assert document["parts"][1]["bbox"] == pytest.approx([-61.8, 16.0, -61.7, 16.1])
    words = overseas("--dry-run", region=BETWEEN).stdout
    assert re.search(r"filled +0\.00\d+ % at most", words)
    assert "2: 1 tiles in -61.8,16,-61.7,16.1" in words


def test_a_part_has_a_grid_of_its_own(overseas: Command) -> None:
    document = overseas.json("--dry-run", "--part", "2", region=BETWEEN)
    assert document["tiles"] == 1
    assert document["crs"] == "EPSG:32620"
    assert max(document["height"], document["width"]) < 1200
    refused = overseas("--dry-run", "--part", "3", region=BETWEEN)
    assert refused.exit_code == 1
    assert "there is no --part 3" in refused.stderr
    for text in ("0", "first", "-1"):
        assert "--part" in overseas(f"--part={text}", region=BETWEEN).stderr


def test_all_parts_on_one_grid_if_that_is_asked_for(overseas: Command) -> None:
    """It is begun: what fails is that there are no tiles."""
    result = overseas("--part", "all", region=BETWEEN)
    assert "FAILED: grid_" in result.stderr
    coarse = overseas("--resolution", "1000", region=BETWEEN)
    assert "FAILED: grid_" in coarse.stderr


def test_a_dry_run_leaves_nothing_though_it_fails(
    mosaic: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The depth is not known from the registry, so that a tile is asked for."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    manifest_b(tmp_path / "far/npy/v1.1-cam/manifest.parquet", [(2024, 2.05, 48.05)])
    landmasks_b(tmp_path / "far/landmasks/v1.1/landmasks.parquet", [(2.05, 48.05)])
    mosaic.base = str(tmp_path / "far")
    result = mosaic("--dry-run", region="2,48,2.1,48.1", out=None)
    assert result.exit_code == 1
    assert "there is no plan" in result.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_disk_that_is_far_too_full_is_told_before_the_work(
    mosaic: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(room: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room))

    nbytes = mosaic.json("--dry-run", out=None)["bytes_filled"]
    free(nbytes // 9)
    result = mosaic()
    assert result.exit_code == 1
    assert "there is room for" in result.stderr
    assert mosaic.files() == []
    free(nbytes // 7)
    result = mosaic()
    assert result.exit_code == 0
    assert "it may not fit" in result.stderr
    result = mosaic("--format", "cog")
    assert result.exit_code == 1
    assert "twice" in result.stderr
    free(2 * nbytes)
    assert "it may not fit" not in mosaic("--format", "cog").stderr


# --- Tiles that are not local -----------------------------------------------------------


def test_tiles_are_kept_where_they_are_asked_to(mosaic: Command, tmp_path: Path) -> None:
    with LoopbackServer(mosaic.world.root()) as server:
        mosaic.base = server.url
        first = mosaic.json("--embeddings-dir", str(tmp_path / "tiles"))
        assert first["fetched"]["tiles"] == 2
        assert first["fetched"]["bytes"] == sum(sum(one.sizes[:2]) for one in mosaic.world.tiles)
        server.clear()
        again = mosaic.json("--embeddings-dir", str(tmp_path / "tiles"), out="n.tif")
        assert again["fetched"] == {"tiles": 0, "bytes": 0}
        assert server.count("*.npy") == 0
    np.testing.assert_array_equal(pixels(mosaic.out / "m.tif"), pixels(mosaic.out / "n.tif"))
    assert again["digest"] == first["digest"]
    offline = mosaic.json("--embeddings-dir", str(tmp_path / "tiles"), "--offline", out="o.tif")
    assert offline["digest"] == first["digest"]


def test_a_tile_that_fails_is_named_and_the_next_run_goes_on(
    mosaic: Command, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    bad = mosaic.world.tiles[1].tile
    name = f"grid_{bad.lon:.2f}_{bad.lat:.2f}"
    words = ("--resolution", "2", "--bands", "0")
    with LoopbackServer(mosaic.world.root()) as server:
        mosaic.base = server.url
        server.add(Fault("status", path=f"*{bad.lon:.2f}_*_scales.npy", status=404))
        document = mosaic.json(*words, code=1)
        assert [one["tile"] for one in document["failed"]] == [name]
        assert document["error"]["type"] == "IncompleteMosaicError"
        result = mosaic(*words)
        assert result.exit_code == 1
        assert f"FAILED: {name}" in result.stderr
        assert "run the same command again" in result.stderr
        assert not (mosaic.out / "m.tif").exists()
        server.clear()
        done = mosaic.json(*words)
        assert done["blocks"]["resumed"] > 0
        assert done["fetched"]["tiles"] >= 1
    expected = render(mosaic.plan(resolution=2, bands=[0])).values
    np.testing.assert_array_equal(pixels(mosaic.out / "m.tif"), expected)
    assert mosaic.files() == ["m.tif"]


def test_a_landmask_that_fails_is_named(mosaic: Command, quick_retries: None) -> None:
    with LoopbackServer(mosaic.world.root()) as server:
        mosaic.base = server.url
        server.add(Fault("status", path="*.tiff", status=404))
        document = mosaic.json(code=1)
    assert len(document["failed"]) == 2


def test_offline_says_what_is_missing(mosaic: Command) -> None:
    with LoopbackServer(mosaic.world.root()) as server:
        mosaic.base = server.url
        mosaic("--dry-run")  # caches the registry
        result = mosaic("--offline")
    assert result.exit_code == 1
    assert result.stderr.count("FAILED: ") == 2
    assert "offline" in result.stderr


def test_tiles_that_are_not_kept_go_while_the_mosaic_is_made(
    mosaic: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    monkeypatch.setattr(tile_mosaics, "AHEAD", 1)
    monkeypatch.setattr(tile_mosaics, "BATCH", 1)
    seen: list[int] = []
    released = tile_mosaics.TileSupply.release

    def release(self: Any, rasters: Any) -> None:
        released(self, rasters)
        work = mosaic.out / ".m.tif_tmp_mosaic_tiles"
        seen.append(len(list(work.rglob("grid_*[0-9].npy"))))

    monkeypatch.setattr(tile_mosaics.TileSupply, "release", release)
    mosaic.json()
    assert seen
    assert seen[-1] == 0
    assert mosaic.files() == ["m.tif"]


def test_a_full_disk_for_tiles_ends_the_run(
    mosaic: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise UnwritableDestination(28, "no room", "tiles")

    monkeypatch.setattr(tile_mosaics, "download_tiles", full)
    threads = threading.active_count()
    result = mosaic()
    assert result.exit_code == 1
    assert "no room" in result.stderr
    assert threading.active_count() == threads


@pytest.mark.parametrize("late", [False, True])
def test_what_another_process_is_making_is_left_alone(
    mosaic: Command, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    target = mosaic.out / "m.tif"
    work = mosaic.out / ".m.tif_tmp_mosaic_tiles"
    other = Record(target, "of another process")
    try:
        if late:  # it began while the tiles were looked for
            monkeypatch.setattr(record, "check_idle", lambda _: None)
        result = mosaic()
        assert result.exit_code == 1
        assert "is being made by another process" in result.stderr
        assert mosaic("--dry-run").exit_code == 0
        assert work.exists() is late  # what the other one may have put there, too
        assert other.path.exists()
    finally:
        other.discard()
    assert mosaic().exit_code == 0
    assert mosaic.files() == ["m.tif"]


def test_leftovers_of_another_dataset_are_not_used(mosaic: Command) -> None:
    from geotessera.sidecar import write_tessera_metadata

    work = mosaic.out / ".m.tif_tmp_mosaic_tiles"
    write_tessera_metadata(work, "v1", "vultr", {})
    mosaic.json()
    assert mosaic.files() == ["m.tif"]


# --- What is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "how", "code", "says"),
    [
        ([], {"out": None}, 1, "--output is needed"),
        ([], {"region": None}, 1, "a region is required"),
        ([], {"out": "m.png"}, 2, "--format tiff needs a name that ends in .tif or .tiff"),
        ([], {"out": f"{'n' * 300}.tif"}, 1, "File name too long"),
        (["--format", "zarr"], {}, 2, "needs a name that ends in"),
        (["--quantized", "--resampling", "bilinear"], {}, 2, "--quantized copies pixels"),
        (["--like", "a.tif", "--crs", "EPSG:3035"], {}, 2, "--like gives the whole grid"),
        (["--like", "absent.tif"], {}, 1, "absent.tif"),
        (["--compress", "jpeg"], {}, 1, "jpeg"),
        (["--memory", "much"], {}, 1, "--memory"),
        (["--memory", "1MB"], {}, 1, "is too little"),
        (["--bands", "0,9"], {}, 1, "9"),
        (["--crs", "Narnia"], {}, 1, "Narnia"),
        (["--resolution", "0"], {}, 1, "must be positive"),
        (["--year", "1999"], {}, 1, "2024"),
        (["--jobs", "0"], {}, 1, "jobs"),
        (["--embeddings-dir="], {}, 2, "--embeddings-dir is empty"),
    ],
)
def test_what_cannot_be_done_is_said(
    mosaic: Command, words: list[str], how: dict[str, Any], code: int, says: str
) -> None:
    result = mosaic(*words, **how)
    assert result.exit_code == code, result.output
    assert says in " ".join(result.stderr.split())
    assert not mosaic.out.exists() or mosaic.files() == []
