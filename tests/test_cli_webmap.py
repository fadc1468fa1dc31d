"""`geotessera webmap`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import geometry_mask
from rasterio.warp import transform
from typer.testing import CliRunner

from geotessera import cli
from geotessera.raster import create_rgb
from geotessera.testing.stores import SampleStore
from geotessera.types import Window
from geotessera.webmap import region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

    import browser
    from geotessera.testing import SampleWorld

SEAM = "-0.003,51.998,0.004,52.002"
"""A box over the border of zones 30 and 31 that both hold all of."""

EAST = "0.0005,51.998,0.004,52.002"
"""A box in zone 31."""

TINY = "23.95,83.64,24.05,83.68"
"""A box in the tiny world's two tiles."""

ZOOMS = ["--min-zoom", "12", "--max-zoom", "14"]


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["webmap", *words])


def document(*words: str, code: int = 0) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    row, col = np.mgrid[:160, :200]
    pixels = np.stack([row, col, (row + col) // 2]).astype(np.uint8)
    path = tmp_path / "my picture.tif"
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": 3, "height": 160, "width": 200, "dtype": "uint8",
        "crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5.15e6, 10, 10),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleStore]:
    """A mirror that has the default dataset's store."""
    root = tmp_path_factory.mktemp("mirror")
    return root, SampleStore.build(root / "zarr" / "v1.1-dclimate", kind="dclimate")


def data_of(page: Path) -> Any:
    found = re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- A mosaic --------------------------------------------------------------------------------


def test_a_mosaic_becomes_a_map(mosaic: Path, tmp_path: Path) -> None:
    result = run(str(mosaic), "-o", str(tmp_path / "map"), *ZOOMS)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("SUCCESS: ")
    assert any("viewer.html" in line for line in lines)
    assert f"geotessera serve {tmp_path / 'map'}" in result.stdout
    assert names(tmp_path / "map") == ["tiles", "tiles.js", "tiles.json", "viewer.html"]
    data = data_of(tmp_path / "map" / "viewer.html")
    assert data["tiles"] == "tiles/{z}/{x}/{y}.png"
    assert data["packs"] == "tiles.js/{z}/{x8}_{y8}.js"
    assert data["zooms"] == [12, 14]
    assert data["initialZoom"] == 10
    assert data["region"] is None
    assert data["center"] == pytest.approx([15.013, 46.496], abs=1e-3)
    record = json.loads((tmp_path / "map" / "tiles.json").read_text())
    assert record["scheme"] == "xyz"
    assert record["zoom"] == [12, 14]
    assert "/" not in record["source"][0].removeprefix("../")  # no absolute paths


def test_the_directory_is_named_for_the_mosaic(
    mosaic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(mosaic.name, *ZOOMS, "--no-packs").exit_code == 0
    assert names(tmp_path / "my picture_webmap") == ["tiles", "tiles.json", "viewer.html"]
    assert data_of(tmp_path / "my picture_webmap" / "viewer.html")["packs"] is None


def test_the_same_again_reuses_the_tiles(mosaic: Path, tmp_path: Path) -> None:
    words = [str(mosaic), "-o", str(tmp_path / "map"), *ZOOMS]
    first = document(*words)
    assert first["tiles"]["written"] == first["tiles"]["count"] > 0
    (tmp_path / "map" / "viewer.html").write_text("old")
    again = document(*words)
    assert (again["tiles"]["cut"], again["tiles"]["count"]) == (0, first["tiles"]["count"])
    assert data_of(tmp_path / "map" / "viewer.html")  # always written
    shutil.move(tmp_path / "map", tmp_path / "elsewhere")
    moved = document(str(mosaic), "-o", str(tmp_path / "elsewhere"), *ZOOMS)
    assert moved["tiles"]["cut"] == 0
    assert document(*words[:1], "-o", str(tmp_path / "elsewhere"), *ZOOMS, "--force")["tiles"][
        "cut"
    ] == first["tiles"]["count"]  # fmt: skip
    assert "all reused" in run(str(mosaic), "-o", str(tmp_path / "elsewhere"), *ZOOMS).stdout


def test_a_region_file_is_drawn_over_a_mosaic(mosaic: Path, tmp_path: Path) -> None:
    shape = shapely.box(15.001, 46.49, 15.01, 46.495)
    geopandas.GeoDataFrame(geometry=[shape], crs=4326).to_file(tmp_path / "region.geojson")
    words = ["--region-file", str(tmp_path / "region.geojson"), "-o", str(tmp_path / "map")]
    assert run(str(mosaic), *words, *ZOOMS).exit_code == 0
    drawn = data_of(tmp_path / "map" / "viewer.html")["region"]["geometry"]
    assert shapely.geometry.shape(drawn).equals(shape)


def test_an_archive_beside_the_tiles_or_alone(mosaic: Path, tmp_path: Path) -> None:
    both = document(str(mosaic), "-o", str(tmp_path / "a"), *ZOOMS, "--pmtiles")
    assert Path(both["tiles"]["pmtiles"]).read_bytes().startswith(b"PMTiles\x03")
    alone = document(str(mosaic), "-o", str(tmp_path / "b"), *ZOOMS, "--pmtiles", "--no-tiles")
    assert names(tmp_path / "b") == ["tiles.json", "tiles.pmtiles"]
    assert alone["viewer"] is None
    one, other = ((tmp_path / d / "tiles.pmtiles").read_bytes() for d in "ab")
    assert one == other


def test_an_archive_alone_takes_away_what_an_earlier_run_left(mosaic: Path, tmp_path: Path) -> None:
    words = [str(mosaic), "-o", str(tmp_path / "map"), *ZOOMS]
    assert run(*words).exit_code == 0
    (tmp_path / "map/notes.txt").write_text("mine")
    result = run(*words, "--pmtiles", "--no-tiles")
    assert result.exit_code == 0, result.output
    assert "of an earlier run" in result.stdout
    assert names(tmp_path / "map") == ["notes.txt", "tiles.json", "tiles.pmtiles"]
    (tmp_path / "map/viewer.html").write_text("<!doctype html><p>A page of my own</p>")
    result = run(*words, "--pmtiles", "--no-tiles")
    assert "of an earlier run" not in result.stdout
    assert "my own" in (tmp_path / "map/viewer.html").read_text()
    assert run(*words).exit_code == 0
    assert {"tiles", "tiles.js"} <= set(names(tmp_path / "map"))


def test_the_command_that_shows_a_map_takes_its_name_for_no_option(
    mosaic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(str(mosaic), "-o", "-map", "--max-zoom", "8")
    assert "geotessera serve ./-map" in result.stdout


@pytest.mark.parametrize(
    "words",
    [["--bbox", "1,2,3,4"], ["--tile", "1,2"], ["--country", "Malta"], ["--store-url", "x"],
     ["--depth", "64"], ["--pca"]],
)  # fmt: skip
def test_a_mosaic_and_a_region_do_not_go_together(
    mosaic: Path, tmp_path: Path, words: list[str]
) -> None:
    result = run(str(mosaic), "-o", str(tmp_path / "map"), *words)
    assert result.exit_code == 2
    assert words[0] in result.stderr
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 1, "--bbox, --tile, --region-file, --country"),
        (["none.tif"], 1, "no mosaic"),
        (["text.png"], 1, r"\.tif"),
        (["--tile", "0,52", "--bbox", "0,51,1,52"], 1, "only one region"),
        (["--tile", "0,52", "--bands", "0,1"], 1, "exactly three"),
        (["--tile", "0,52", "--bands", "a"], 1, "--bands"),
        (["--tile", "0,52", "--pca", "--bands", "0,1,2"], 2, "--pca"),
        (["--tile", "0,52", "--source", "moon"], 2, "--source"),
        (["--tile", "0,52", "--source", "tiles", "--depth", "4"], 2, "--depth"),
        (["p.tif", "--min-zoom", "9", "--max-zoom", "8"], 2, "--min-zoom"),
        (["p.tif", "--max-zoom", "25"], 2, "--max-zoom"),
        (["p.tif", "--min-zoom", "-1"], 2, "--min-zoom"),
        (["p.tif", "--no-tiles"], 2, "--pmtiles"),
        (["p.tif", "--no-tiles", "--pmtiles", "--serve"], 2, "--serve"),
        (["p.tif", "--nothing"], 2, "--nothing"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no mosaic")
    result = run(*words)
    assert result.exit_code == code, result.output
    assert re.search(said, result.stderr)
    assert names(tmp_path) == ["text.png"]


def test_a_failed_run_leaves_no_tiles(tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_text("no raster")
    failed = document(str(tmp_path / "bad.tif"), "-o", str(tmp_path / "map"), code=1)
    assert failed["error"]["type"] == "FormatError"
    assert not (tmp_path / "map" / "tiles").exists()
    assert not (tmp_path / "map" / "viewer.html").exists()


def test_bands_of_a_mosaic_are_said_to_be_ignored(mosaic: Path, tmp_path: Path) -> None:
    result = run(str(mosaic), "-o", str(tmp_path / "map"), *ZOOMS, "--bands", "5,6")
    assert result.exit_code == 0
    assert "--bands does not apply" in result.stderr


# --- Regions -----------------------------------------------------------------------------------


def test_a_region_is_read_from_the_store(mirror: tuple[Path, SampleStore], tmp_path: Path) -> None:
    root, store = mirror
    words = ["--base-url", str(root), f"--bbox={EAST}", "-o", str(tmp_path), *ZOOMS]
    found = document(*words, "--bands", "2,0,1")
    assert found["mosaic"] == {"path": str(tmp_path / "rgb_mosaic.tif"), "status": "created"}
    assert names(tmp_path) == [
        "rgb_mosaic.json", "rgb_mosaic.tif", "tiles", "tiles.js", "tiles.json", "viewer.html",
    ]  # fmt: skip
    with rasterio.open(tmp_path / "rgb_mosaic.tif") as raster:
        assert raster.crs.to_epsg() == 32631
        grid = store.grids[31]
        row = round((grid.transform[5] - raster.transform.f) / 10)
        col = round((raster.transform.c - grid.transform[2]) / 10)
        colours, mask = raster.read(), raster.dataset_mask() > 0
        window = Window(row, col, raster.height, raster.width)
    wanted = store.embedding(31, 2024, window)[..., [2, 0, 1]]
    own = np.isfinite(wanted).all(axis=2)
    assert own.mean() > 0.3
    np.testing.assert_array_equal(mask, own)
    low, high = wanted[own].min(axis=0), wanted[own].max(axis=0)
    levels = (wanted[own].astype(float) - low) / (high - low) * 255
    assert np.abs(colours[:, own].T - levels).max() <= 1


def test_a_streamed_mosaic_is_reused_while_it_is_as_it_was(
    mirror: tuple[Path, SampleStore], tmp_path: Path
) -> None:
    root, _ = mirror
    out = tmp_path / "map"

    def words(*more: str) -> list[str]:
        return ["--base-url", str(root), f"--bbox={SEAM}", "-o", str(out), *ZOOMS, *more]

    first = document(*words())
    assert document(*words())["mosaic"]["status"] == "reused"
    # Another cache, and a directory that has moved: nothing to do.
    shutil.move(out, tmp_path / "other")
    out = tmp_path / "other"
    again = document(*words("--cache-dir", str(tmp_path / "cache")))
    assert again["mosaic"]["status"] == "reused"
    assert again["tiles"]["cut"] == 0
    # Another request, a changed file, a damaged or missing marker: made again.
    changed = document(*words("--bands", "3,2,1"))
    assert changed["mosaic"]["status"] == "created"
    assert changed["tiles"]["written"] > 0
    assert document(*words())["mosaic"]["status"] == "created"
    os.utime(out / "rgb_mosaic.tif")
    back = document(*words())
    assert back["mosaic"]["status"] == "created"
    assert back["tiles"]["written"] == 0  # the same pixels
    for damage in ("", "{", "[]", '{"request": 1}'):
        (out / "rgb_mosaic.json").write_text(damage)
        assert document(*words())["mosaic"]["status"] == "created"
    assert document(*words("--force"))["mosaic"]["status"] == "created"
    assert back["tiles"]["count"] == first["tiles"]["count"]


def test_bands_that_were_read_are_not_read_again(
    mirror: tuple[Path, SampleStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = mirror
    words = ["--base-url", str(root), f"--bbox={SEAM}", "-o", str(tmp_path / "map"), *ZOOMS]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(region, "create_rgb", stop)
        assert run(*words).exit_code == 130
    assert not (tmp_path / "map" / "rgb_mosaic.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(region, "write_mosaic", stop)
        assert run(*words, "--bands", "1,2,3").exit_code == 130  # other bands are
        assert run(*words).exit_code == 130  # and they took the place of the first
    found = document(*words)
    assert found["mosaic"]["status"] == "created"
    with monkeypatch.context() as patched:
        patched.setattr(region, "create_rgb", stop)
        assert run(*words, "--force").exit_code == 130
        patched.setattr(region, "write_mosaic", stop)
        patched.setattr(region, "create_rgb", create_rgb)
        assert document(*words)["mosaic"]["status"] == "created"
    assert not [name for name in names(tmp_path / "map") if name.startswith(".")]


def test_a_region_file_clips_the_map(mirror: tuple[Path, SampleStore], tmp_path: Path) -> None:
    root, _ = mirror
    shape = shapely.Polygon([(0.0005, 51.9985), (0.0035, 51.9985), (0.0005, 52.0015)])
    geopandas.GeoDataFrame(geometry=[shape], crs=4326).to_file(tmp_path / "r.geojson")
    region = ["--region-file", str(tmp_path / "r.geojson")]
    found = document("--base-url", str(root), *region, "-o", str(tmp_path / "map"), *ZOOMS)
    with rasterio.open(found["mosaic"]["path"]) as raster:
        mask = raster.dataset_mask() > 0
        inside = ~geometry_mask(
            geopandas.GeoSeries([shape], crs=4326).to_crs(raster.crs), mask.shape, raster.transform
        )
    assert not mask[~inside].any()
    assert mask[inside].mean() > 0.5
    drawn = data_of(tmp_path / "map" / "viewer.html")["region"]["geometry"]
    assert shapely.geometry.shape(drawn).equals(shape)


def test_a_mirror_of_tiles_will_do(tiny_world: SampleWorld, tmp_path: Path) -> None:
    words = ["--base-url", str(tiny_world.root()), f"--bbox={TINY}", *ZOOMS]
    words += ["--cache-dir", str(tmp_path / "cache")]
    found = document(*words, "-o", str(tmp_path / "map"), "--source", "tiles")
    assert found["tiles"]["count"] > 0
    assert not [name for name in names(tmp_path / "map") if name.startswith(".")]
    with rasterio.open(found["mosaic"]["path"]) as raster:
        assert raster.dtypes == ("uint8",) * 3
        assert raster.crs.to_epsg() in (32634, 32635)
        assert (raster.dataset_mask() > 0).mean() > 0.5
    for name, more in (("auto", []), ("named", ["--dataset-variant", "cambridge"])):
        auto = document(*words, *more, "-o", str(tmp_path / name))
        assert auto["tiles"]["count"] == found["tiles"]["count"]


def test_principal_components_of_a_region(tiny_world: SampleWorld, tmp_path: Path) -> None:
    words = ["--base-url", str(tiny_world.root()), f"--bbox={TINY}", *ZOOMS, "--pca"]
    words += ["--cache-dir", str(tmp_path / "cache"), "--source", "tiles"]
    found = document(*words, "-o", str(tmp_path / "map"))
    assert found["mosaic"]["status"] == "created"
    with rasterio.open(found["mosaic"]["path"]) as raster:
        assert raster.count == 3
        assert "PCA_COMPONENTS" in raster.tags()
    assert not [name for name in names(tmp_path / "map") if name.startswith(".")]
    assert document(*words, "-o", str(tmp_path / "map"))["mosaic"]["status"] == "reused"


def test_principal_components_of_a_store(mirror: tuple[Path, SampleStore], tmp_path: Path) -> None:
    root, _ = mirror
    words = ["--base-url", str(root), f"--bbox={EAST}", "-o", str(tmp_path / "map"), *ZOOMS]
    found = document(*words, "--pca")
    with rasterio.open(found["mosaic"]["path"]) as raster:
        assert raster.count == 3
        assert raster.crs.to_epsg() == 32631
        assert (raster.dataset_mask() > 0).any()
    assert not [name for name in names(tmp_path / "map") if name.startswith(".")]
    assert document(*words)["mosaic"]["status"] == "created"  # bands are another request


def test_a_region_without_data_is_an_error(
    mirror: tuple[Path, SampleStore], tmp_path: Path
) -> None:
    root, _ = mirror
    words = ["--base-url", str(root), "-o", str(tmp_path / "map")]
    assert run(*words, "--bbox", "100,10,100.1,10.1").exit_code == 1
    result = run(*words, f"--bbox={SEAM}", "--year", "1999")
    assert result.exit_code == 1
    assert "1999" in result.stderr
    assert not (tmp_path / "map" / "tiles").exists()


# --- Serving -----------------------------------------------------------------------------------


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_an_occupied_port_is_found_before_any_work(
    mosaic: Path, tmp_path: Path, occupied: int
) -> None:
    result = run(str(mosaic), "-o", str(tmp_path / "map"), "--serve", "-p", str(occupied))
    assert result.exit_code == 2
    assert "Cannot bind web server" in result.stderr
    assert not (tmp_path / "map").exists()


def started(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", "from geotessera.cli import main; main()", "webmap", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_map_is_served_afterwards(mosaic: Path, tmp_path: Path) -> None:
    words = ["-o", str(tmp_path / "map"), *ZOOMS, "--serve", "-p", "0", "--no-open"]
    process = started(str(mosaic), *words)
    assert process.stdout is not None
    url = None
    for line in process.stdout:
        if found := re.search(r"http://\S+viewer\.html", line):
            url = found[0]
            break
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert b"<html" in answer.read().lower()
    tile = next((tmp_path / "map" / "tiles").rglob("*.png"))
    address = url.replace("viewer.html", tile.relative_to(tmp_path / "map").as_posix())
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.read() == tile.read_bytes()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 2500, 2500), np.uint8)
    placed = rasterio.transform.from_origin(5e5, 5.15e6, 10, 10)
    with rasterio.open(
        tmp_path / "p.tif", "w", driver="GTiff", count=3, height=2500, width=2500, dtype="uint8",
        crs="EPSG:32633", transform=placed, tiled=True,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    words = [str(tmp_path / "p.tif"), "-o", str(tmp_path / "map"), "--max-zoom", "16"]
    process = started(*words, "--no-packs")
    tiles = tmp_path / "map" / "tiles"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        record = tiles / ".units.jsonl"
        if record.exists() and record.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "continues" in said
    assert any(tiles.rglob("*.png"))
    assert not (tmp_path / "map" / "viewer.html").exists()


# --- In a browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["disk", "server"])
def test_the_map_shows_the_mosaic(
    mosaic: Path, tmp_path: Path, chromium: browser.Chromium, place: str
) -> None:
    import browser as browsers

    with rasterio.open(mosaic, "r+") as dataset:
        for band, value in ((1, 250), (2, 20), (3, 30)):
            dataset.write(np.full((160, 200), value, np.uint8), band)
        lon, lat = transform(dataset.crs, "EPSG:4326", *([value] for value in dataset.xy(80, 100)))
    words = [str(mosaic), "-o", str(tmp_path / "map"), *ZOOMS, "--initial-zoom", "14"]
    assert run(*words).exit_code == 0
    page = tmp_path / "map" / "viewer.html"
    with browsers.served(tmp_path / "map") as base:
        url = page.as_uri() if place == "disk" else f"{base}/viewer.html"
        with chromium.open(url) as opened:
            opened.settled()
            assert np.abs(opened.colour(lon[0], lat[0]).astype(int) - (250, 20, 30)).max() <= 6
            assert opened.elsewhere == []
