"""`geotessera download`, `sample` and `mosaic` from Zarr stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from geotessera import cli
from geotessera.sidecar import recorded_dataset, write_tessera_metadata
from geotessera.testing import SampleWorld
from geotessera.testing.server import LoopbackServer
from geotessera.testing.store_pixels import to_lonlat
from geotessera.testing.stores import SampleStore
from geotessera.types import Window

if TYPE_CHECKING:
    from typer.testing import Result

SCRIPT = Path(sys.executable).with_name("geotessera")
SEAM = "-0.003,51.998,0.004,52.002"
"""A box over the border of zones 30 and 31 that both hold all of."""


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleStore]:
    """A mirror that has the default dataset's store."""
    root = tmp_path_factory.mktemp("mirror")
    return root, SampleStore.build(root / "zarr" / "v1.1-dclimate", kind="dclimate")


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore.build(tmp_path / "store")


def run(command: str, *words: str) -> Result:
    return CliRunner().invoke(cli.app, [command, *words])


def document(*words: str, code: int = 0) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def check_zone(path: Path, store: SampleStore, bands: list[int] | None = None) -> None:
    """Compare a file with what the store's recipe says of its window."""
    with rasterio.open(path) as raster:
        zone = raster.crs.to_epsg() % 100
        grid = store.grids[zone]
        row = round((grid.transform[5] - raster.transform.f) / 10)
        col = round((raster.transform.c - grid.transform[2]) / 10)
        window = Window(row, col, raster.height, raster.width)
        expected = store.embedding(zone, 2024, window)
        values = raster.read().transpose(1, 2, 0)
    np.testing.assert_array_equal(values, expected if bands is None else expected[..., bands])


# --- Files -------------------------------------------------------------------------------


def test_the_default_is_the_store_of_a_mirror(
    mirror: tuple[Path, SampleStore], tmp_path: Path
) -> None:
    root, store = mirror
    out = tmp_path / "out"
    result = run("download", "--base-url", str(root), f"--bbox={SEAM}", "-o", str(out))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    success = next(line for line in lines if line.startswith("SUCCESS:"))
    assert "2 zone files" in success
    paths = [out / "tessera_2024_utm30.tif", out / "tessera_2024_utm31.tif"]
    assert lines[-2:] == [str(path) for path in paths]
    assert sorted(out.iterdir()) == [*paths, out / "tessera_metadata.json"]
    assert recorded_dataset(out) == ("1.1", "dclimate")
    for path in paths:
        check_zone(path, store)
        with rasterio.open(path) as raster:
            tags, block = raster.tags(), raster.block_shapes[0]
            assert raster.compression.value == "LZW"
            assert np.isnan(raster.nodata)
        assert block == (256, 256)
        assert tags["TESSERA_DATASET_VARIANT"] == "dclimate"
        assert tags["TESSERA_YEAR"] == "2024"
        assert tags["TESSERA_SOURCE"] == str(store.path)


def test_the_files_cover_the_box(mirror: tuple[Path, SampleStore], tmp_path: Path) -> None:
    root, store = mirror
    found = document("download", "--base-url", str(root), f"--bbox={SEAM}", "-o", str(tmp_path))
    west, south, east, north = map(float, SEAM.split(","))
    for name, (low, high) in zip(found["files"], [(west, 0.0), (0.0, east)], strict=True):
        with rasterio.open(name) as raster:
            left, bottom, right, top = raster.bounds
            grid = store.grids[raster.crs.to_epsg() % 100]
        lon, lat = to_lonlat(grid, np.array([left, right]), np.array([bottom, top]))
        near = 2e-4  # two pixels
        assert lon[0] < low + near
        assert lon[1] > high - near
        assert lat[0] < south + near
        assert lat[1] > north - near


def test_bands_depth_and_year(store: SampleStore, tmp_path: Path) -> None:
    where = ("--store-url", str(store.path), f"--bbox={SEAM}")
    found = document("download", *where, "-o", str(tmp_path / "a"), "--bands", "3,1,3")
    assert found["bands"] == [3, 1, 3]
    assert found["dataset"] is None
    for name in found["files"]:
        check_zone(Path(name), store, [3, 1, 3])
        with rasterio.open(name) as raster:
            assert raster.descriptions == tuple(f"Tessera_Band_{band}" for band in (3, 1, 3))
            assert raster.tags()["TESSERA_BANDS"] == "3,1,3"
    found = document("download", *where, "-o", str(tmp_path / "b"), "--depth", "4")
    assert found["depth"] == 4
    for name in found["files"]:
        check_zone(Path(name), store, [0, 1, 2, 3])
    assert not (tmp_path / "b" / "tessera_metadata.json").exists()


def test_a_point_is_its_tile(store: SampleStore, tmp_path: Path) -> None:
    where = ("--store-url", str(store.path), "--tile", "0.03,51.99", "--dry-run")
    (zone,) = document("download", *where)["zones"]
    assert zone["zone"] == 31
    assert 0 < zone["width"] <= store.grids[31].width


# --- Runs again --------------------------------------------------------------------------


def stamps(paths: list[str]) -> list[int]:
    return [Path(path).stat().st_mtime_ns for path in paths]


def test_a_second_run_keeps_what_is_there(store: SampleStore, tmp_path: Path) -> None:
    line = ("download", "--store-url", str(store.path), f"--bbox={SEAM}", "-o", str(tmp_path))
    first = document(*line)
    assert (first["written"], first["skipped"]) == (2, 0)
    before = stamps(first["files"])
    again = document(*line)
    assert (again["written"], again["skipped"]) == (0, 2)
    assert stamps(again["files"]) == before
    assert "there already" in run(*line).stdout
    forced = document(*line, "--no-resume")
    assert (forced["written"], forced["skipped"]) == (2, 0)
    assert all(new > old for new, old in zip(stamps(forced["files"]), before, strict=True))


@pytest.mark.parametrize(
    "change",
    [["--bands", "0"], ["--compress", "zstd"], ["--depth", "4"], ["--bbox=-0.002,51.998,0.004,52"]],
)
def test_another_request_is_another_file(
    store: SampleStore, tmp_path: Path, change: list[str]
) -> None:
    line = ["download", "--store-url", str(store.path), "-o", str(tmp_path)]
    box = [f"--bbox={SEAM}"]
    assert document(*line, *box)["written"] == 2
    box = [] if change[0].startswith("--bbox") else box
    assert document(*line, *box, *change)["skipped"] == 0


def test_a_missing_or_damaged_file_is_made_again(store: SampleStore, tmp_path: Path) -> None:
    line = ("download", "--store-url", str(store.path), f"--bbox={SEAM}", "-o", str(tmp_path))
    first, second = (Path(path) for path in document(*line)["files"])
    whole = second.read_bytes()
    first.unlink()
    second.write_bytes(b"II*\0 no more")
    found = document(*line)
    assert (found["written"], found["skipped"]) == (2, 0)
    assert second.stat().st_size == len(whole)
    check_zone(first, store)
    check_zone(second, store)


def test_a_killed_run_leaves_no_file_and_is_gone_on_with(tmp_path: Path) -> None:
    world = SampleWorld.build(tmp_path / "world", size="tiny")
    store = SampleStore.from_world(world, tmp_path / "store", shard=512)
    out = tmp_path / "out"
    words = ["download", "--bbox=23.9,83.6,24.1,83.7", "-o", str(out), "--json"]
    with LoopbackServer(store.path, latency=0.3) as server:
        words += ["--store-url", server.url, "--jobs", "1"]
        running = subprocess.Popen([SCRIPT, *words], stdout=subprocess.DEVNULL, stderr=-3)
        end = time.monotonic() + 30
        while not list(out.glob(".*tmp_mosaic*")) and time.monotonic() < end:
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert not list(out.glob("tessera_*"))
        assert list(out.glob(".*tmp_mosaic*"))
        server.latency = 0.0
        done = subprocess.run([SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["written"] == 2
    assert not list(out.glob(".*tmp_mosaic*"))
    for path in found["files"]:
        check_zone(Path(path), store)


def test_the_cache_answers_a_second_run(store: SampleStore, tmp_path: Path) -> None:
    line = ["download", f"--bbox={SEAM}", "--cache-dir", str(tmp_path / "cache")]
    with LoopbackServer(store.path) as server:
        line += ["--store-url", server.url]
        first = document(*line, "-o", str(tmp_path / "a"))
        before = len(server.requests)
        again = document(*line, "-o", str(tmp_path / "b"))
        data = [one for one in server.requests[before:] if "/c/" in one.path]
    assert first["read"]["bytes"] > 0
    assert data == []
    offline = document(*line, "-o", str(tmp_path / "c"), "--offline")
    for one, other in zip(again["files"], offline["files"], strict=True):
        with rasterio.open(one) as a, rasterio.open(other) as b:
            np.testing.assert_array_equal(a.read(), b.read())


# --- What is wrong -----------------------------------------------------------------------


def test_a_dry_run_writes_nothing(store: SampleStore, tmp_path: Path) -> None:
    where = ("--store-url", str(store.path), f"--bbox={SEAM}", "--dry-run")
    shown = run("download", *where).stdout.splitlines()
    found = document("download", *where, "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert found["files"] == 2
    assert found["bytes"] == sum(one["width"] * one["height"] * 8 * 4 for one in found["zones"])
    assert shown[0].startswith("2 zone files, ")
    assert "transferred" in shown[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--year", "2019"], ("2019", "2023, 2024")),
        (["--depth", "5"], ("depth 5", "[4, 8]")),
        (["--bbox=10,10,11,11"], ("does not intersect",)),
        (["--bands", "0,x"], ("--bands",)),
        (["--bands", "8"], ("band 8",)),
        (["--compress", "zip"], ("zip", "lzw")),
        (["--store-url", "/nowhere/store"], ("/nowhere/store",)),
        (["--tile", "0,52"], ("only one",)),
    ],
)
def test_errors_are_one_line_and_code_1(
    store: SampleStore, tmp_path: Path, words: list[str], says: tuple[str, ...]
) -> None:
    line = ["download", "-o", str(tmp_path / "out"), *words]
    if "--store-url" not in words:
        line += ["--store-url", str(store.path)]
    if not words[0].startswith("--bbox"):
        line.append(f"--bbox={SEAM}")
    result = run(*line)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    for part in says:
        assert part in last
    assert result.stdout == ""  # no table of what then is not done
    assert not list(tmp_path.glob("out/*"))


def test_options_of_tiles_are_refused(mirror: tuple[Path, SampleStore], tmp_path: Path) -> None:
    for option in ("--cog", "--no-keep-npy"):
        line = ["download", f"--bbox={SEAM}", "-o", str(tmp_path), option]
        for where in (["--source", "zarr"], ["--base-url", str(mirror[0])]):
            result = run(*line, *where)
            assert result.exit_code == 2
            assert f"{option} belongs to tiles" in result.stderr


def test_another_datasets_directory_is_refused(
    mirror: tuple[Path, SampleStore], store: SampleStore, tmp_path: Path
) -> None:
    write_tessera_metadata(tmp_path / "out", "v1.1", "cambridge")
    line = ["download", f"--bbox={SEAM}", "-o", str(tmp_path / "out")]
    with LoopbackServer(mirror[0]) as server:
        result = run(*line, "--source", "zarr", "--base-url", server.url)
        assert server.requests == []
    assert result.exit_code == 1
    assert "cannot be interchanged" in result.stderr
    unknown = run(*line, "--store-url", str(store.path))
    assert unknown.exit_code == 1
    assert "nobody says what" in unknown.stderr
    named = run(*line, "--store-url", str(store.path), "--dataset-variant", "cambridge")
    assert named.exit_code == 0, named.output
    assert not list((tmp_path / "out").glob("*utm29*"))
    with rasterio.open(tmp_path / "out" / "tessera_2024_utm30.tif") as raster:
        assert raster.tags()["TESSERA_DATASET_VARIANT"] == "cambridge"


def test_a_mirror_without_a_store_is_read_by_its_tiles(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    where = ["--base-url", str(tiny_world.root()), "--cache-dir", str(tmp_path / "cache")]
    line = ["download", *where, "--tile", "23.95,83.65", "-o"]
    result = run(*line, str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "There is no store" in result.stderr
    assert recorded_dataset(tmp_path / "out") == ("1.1", "cambridge")
    refused = run(*line, str(tmp_path / "other"), "--source", "zarr")
    assert refused.exit_code == 1
    assert "v1.1-dclimate" in refused.stderr.splitlines()[-1]
    deep = run(*line, str(tmp_path / "other"), "--depth", "16")
    assert deep.exit_code == 1  # a depth is of stores: no tiles then
    assert not (tmp_path / "other").exists()


# --- Other commands ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Two tiles on a zone seam, in the default store and in the variant's own."""
    made = SampleWorld.build(tmp_path_factory.mktemp("world"), size="tiny")
    SampleStore.from_world(made, shard=512)
    SampleStore.from_world(made, kind="dclimate", shard=512)
    return made


def test_sample_reads_the_store_of_a_dataset_without_tiles(
    world: SampleWorld, tmp_path: Path
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("lon,lat\n" + "".join(f"{23.91 + at / 100},83.65\n" for at in range(18)))
    where = ["--base-url", str(world.root())]
    out = tmp_path / "a.npz"
    variants = {"dclimate": [], "cambridge": ["--source", "zarr"]}
    for variant, more in variants.items():
        found = document(
            "sample", str(points), "-o", str(out), *where, "--dataset-variant", variant, *more
        )
        assert found["bands"] == 4
        assert found["status"]["valid"] > 0
        name = "v1.1" if variant == "cambridge" else "v1.1-dclimate"
        assert found["dataset"] == {
            "version": "1.1",
            "variant": variant,
            "source": str(world.root() / "zarr" / name),
        }
    tiles = document(
        "sample", str(points), "-o", str(tmp_path / "b.npz"), *where,
        "--cache-dir", str(tmp_path / "cache"), "--mask-water", "--dataset-variant", "cambridge",
    )  # fmt: skip
    assert tiles["dataset"] == {"version": "1.1", "variant": "cambridge", "source": "tiles"}
    assert tiles["status"]["valid"] == found["status"]["valid"]


def test_sample_and_mosaic_refuse_options_of_the_other_source(
    world: SampleWorld, tmp_path: Path
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("lon,lat\n23.95,83.65\n")
    sample = ["sample", str(points), "-o", str(tmp_path / "a.csv")]
    mosaic = ["mosaic", "--tile", "23.95,83.65", "-o", str(tmp_path / "m.tif")]
    for line in (
        [*sample, "--source", "tiles", "--store-url", "x"],
        [*sample, "--source", "zarr", "--tiles", str(tmp_path)],
        [*sample, "--source", "zarr", "--registry-dir", str(tmp_path)],
        [*mosaic, "--cache-size", "1GB"],
        [*mosaic, "--source", "zarr", "--embeddings-dir", str(tmp_path)],
        [*mosaic, "--source", "zarr", "--georeference", "landmask"],
        [*mosaic, "--source", "npy"],
    ):
        result = run(*line, "--base-url", str(world.root()))
        assert result.exit_code == 2, (line, result.output)


def test_a_mosaic_of_cells_is_that_of_tiles(world: SampleWorld, tmp_path: Path) -> None:
    # One tile: where one has water, a store has the neighbour's pixel, if it overlaps.
    box = ["mosaic", "--bbox=23.9,83.6,24.0,83.7", "--crs", "EPSG:32634", "--quantized"]
    where = ["--base-url", str(world.root()), "--dataset-variant", "cambridge"]
    ours, theirs = tmp_path / "ours.tif", tmp_path / "theirs.tif"
    found = document(*box, *where, "-o", str(ours), "--source", "zarr")
    assert found["dataset"] == {"version": "1.1", "variant": "cambridge"}
    assert found["fetched"] == {"tiles": 0, "bytes": 0}
    document(*box, *where, "-o", str(theirs), "--cache-dir", str(tmp_path / "cache"))
    with rasterio.open(ours) as one, rasterio.open(theirs) as other:
        assert one.transform == other.transform
        assert one.descriptions == other.descriptions
        values, expected = one.read(), other.read()
    with rasterio.open(tmp_path / "ours_scales.tif") as scales:
        there = np.isfinite(scales.read(1))
    assert 0.2 < there.mean() < 1
    np.testing.assert_array_equal(values[:, there], expected[:, there])


def test_the_gateway_is_an_option_of_the_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOTESSERA_VIA_GATEWAY", "")
    assert run("--via-gateway", "version").exit_code == 0
    assert os.environ["GEOTESSERA_VIA_GATEWAY"] == "1"
    assert run("download", "--via-gateway").exit_code == 2


def test_a_region_file_chooses_zones_by_its_outline(store: SampleStore, tmp_path: Path) -> None:
    parts = [shapely.box(-0.003, 51.999, -0.001, 52.0), shapely.box(50, 10, 51, 11)]
    path = tmp_path / "region.geojson"
    geopandas.GeoDataFrame(geometry=parts, crs="EPSG:4326").to_file(path)
    asked = ["download", "--store-url", str(store.path), "--region-file", str(path)]
    planned = document(*asked, "--dry-run")
    assert [one["zone"] for one in planned["zones"]] == [30]  # the box meets 31 to 39, too
    assert planned["zones"][0]["width"] < 25
    done = document(*asked, "-o", str(tmp_path / "out"))
    (written,) = (Path(one) for one in done["files"])
    check_zone(written, store)
