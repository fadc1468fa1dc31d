from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

SCRIPT = Path(sys.executable).with_name("geotessera")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """One run of the installed command, in a temporary directory of its own."""
    temporary = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [SCRIPT, "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        # No proxy and no server could help: the demo talks to itself only.
        env={**os.environ, "TMPDIR": str(temporary), "https_proxy": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


def paths(demo: dict[str, object]) -> dict[str, Path]:
    found = demo["paths"]
    assert isinstance(found, dict)
    return {name: Path(path) for name, path in found.items()}


def test_the_results_stay_and_the_world_goes(demo: dict[str, object]) -> None:
    assert all(path.exists() for path in paths(demo).values())
    assert not (Path(str(demo["directory"])) / "world").exists()


def test_points_are_sampled_both_ways_into_geoparquet(demo: dict[str, object]) -> None:
    nearest = gpd.read_parquet(paths(demo)["samples, nearest"])
    bilinear = gpd.read_parquet(paths(demo)["samples, bilinear"])
    assert nearest.crs.to_epsg() == 4326
    values = nearest.filter(like="tessera_").to_numpy(np.float32)
    assert values.shape == (2000, 128)
    assert {"valid", "water", "no_tile"} <= set(nearest["status"])
    assert demo["status_nearest"] == dict(nearest["status"].value_counts())
    np.testing.assert_array_equal(np.isfinite(values[:, 0]), nearest["status"] == "valid")
    assert not np.array_equal(
        values, bilinear.filter(like="tessera_").to_numpy(np.float32), equal_nan=True
    )
    assert len(set(nearest["tile"])) >= 4


def test_geotiffs_are_exported(demo: dict[str, object]) -> None:
    with rasterio.open(paths(demo)["first GeoTIFF"]) as raster:
        assert raster.count == 3
        assert np.isfinite(raster.read(1)).mean() > 0.2


def test_the_picture_is_a_landscape_without_its_water(demo: dict[str, object]) -> None:
    with rasterio.open(paths(demo)["PCA mosaic"]) as picture:
        assert picture.crs.to_epsg() == 3857
        bands, shown = picture.read(), picture.dataset_mask() == 255
        assert picture.overviews(1)
    assert 0.2 < shown.mean() < 0.95
    assert (bands[:, shown].std(axis=1) > 40).all()  # as many pixels of each colour: 74


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_web_map_shows_the_picture(demo: dict[str, object]) -> None:
    page = paths(demo)["web map"]
    assert "packs/" in page.read_text()
    record = json.loads((page.parent / "tiles.json").read_text())
    assert record["scheme"] == "xyz"
    tiles = sorted((page.parent / "tiles").glob("*/*/*.png"))
    assert {int(path.parts[-3]) for path in tiles} == set(range(7, 14))
    with rasterio.open(tiles[-1]) as tile:
        assert tile.count == 4
        assert (tile.read(4) > 0).any()
    assert list((page.parent / "packs").glob("*/*.js"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_globe_has_the_tiles(demo: dict[str, object]) -> None:
    with rasterio.open(paths(demo)["coverage map"]) as picture:
        assert picture.width == 2000
    assert "v1.1_cambridge" in paths(demo)["globe"].read_text()


def test_every_step_says_what_came_of_it(demo: dict[str, object]) -> None:
    steps = demo["steps"]
    assert isinstance(steps, list)
    assert len(steps) == 17 + 2 * (find_spec("icechunk") is not None)
    assert all(step["result"] for step in steps)
    results = " ".join(step["result"] for step in steps)
    assert "found: checksum in grid_" in results
    assert "12 files" in results
    assert "equal bit for bit" in results


def test_zones_are_downloaded_from_the_store(demo: dict[str, object]) -> None:
    files = sorted(paths(demo)["zones"].glob("*.tif"))
    assert [path.name for path in files] == ["tessera_2024_utm34.tif", "tessera_2024_utm35.tif"]
    for path in files:
        with rasterio.open(path) as raster:
            assert raster.count == 16
            assert np.isfinite(raster.read(1)).mean() > 0.2
