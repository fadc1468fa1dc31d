"""A user's script of the documented quick start, unchanged, against mirrors of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio

import oracles
from geotessera.testing import SampleWorld
from geotessera.testing.server import LoopbackServer

SCRIPT = Path(__file__).with_name("quickstart.py")
PLACES = [(lon, lat) for lon in (0.15, 0.25) for lat in (52.05, 52.15)]
PLOTS = [(0.1437, 52.0811), (0.2519, 52.1622), (0.1822, 52.1279), (0.2371, 52.0977)]
BANDS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """The script's region and a tile of another year and place."""
    return SampleWorld.build(
        tmp_path_factory.mktemp("quickstart"),
        generation=("B", "A", "A-simple"),
        tiles=[*((2024, *place) for place in PLACES), (2023, 20.95, -79.95)],
        bands=BANDS,
    )


@pytest.fixture(scope="module", params=["http-B", "http-A", "path-A-simple", "file-B"])
def left_behind(
    request: pytest.FixtureRequest,
    world: SampleWorld,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What is in the script's directory after it ran."""
    kind, generation = request.param.split("-", 1)
    root = world.root(generation)
    home = tmp_path_factory.mktemp("home")
    if kind == "http":
        with LoopbackServer(root) as server:
            _run(server.url, home)
    else:
        _run(root.as_uri() if kind == "file" else str(root), home)
    return home / "here"


def _run(mirror: str, home: Path) -> None:
    """Run the script with nothing but the mirror's address set, in an empty directory."""
    (home / "here").mkdir()
    hidden = ("GEOTESSERA_", "TESSERA_", "PYTHON")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    environment |= {"GEOTESSERA_BASE_URL": mirror, "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=home / "here",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def notes(left_behind: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((left_behind / "notes.json").read_text())
    return found


def test_the_script_saw_the_mirror_and_not_the_world(notes: dict[str, Any]) -> None:
    assert notes["years"] == [2023, 2024]
    assert notes["tiles"] == 5
    assert notes["count"] == 4


def test_its_tile_is_what_numpy_makes_of_the_files(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    one = world.tile(0.15, 52.05)
    np.testing.assert_array_equal(np.load(left_behind / "one.npy"), one.embedding())
    assert notes["one"] == {
        "shape": [one.grid.height, one.grid.width, BANDS],
        "crs": "EPSG:32631",
        "transform": list(one.grid.transform),
    }


def test_its_region_is_whole_and_in_order(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    assert [entry[:3] for entry in notes["region"]] == [[2024, *place] for place in PLACES]
    for _, lon, lat, shape, epsg in notes["region"]:
        wanted = world.tile(lon, lat).embedding()
        assert (shape, epsg) == ([*wanted.shape], 32631)
        band = np.load(left_behind / f"tile_{lon:.2f}_{lat:.2f}.npy")
        np.testing.assert_array_equal(band, wanted[..., 0])


def test_its_plots_are_sampled_where_they_lie(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    with np.load(left_behind / "plots.npz") as arrays:
        values, again = arrays["values"], arrays["again"]
    np.testing.assert_array_equal(values, again)
    to_utm = pyproj.Transformer.from_crs(4326, 32631, always_xy=True)
    for row, (lon, lat) in enumerate(PLOTS):
        one = world.tile(lon, lat)
        xy = np.array([to_utm.transform(lon, lat)])
        wanted, _, pixels = oracles.sample(one.values(), one.scales(), one.grid.transform, xy)
        np.testing.assert_array_equal(values[row], wanted[0])
        assert notes["pixels"][row] == [*pixels[0].tolist(), "EPSG:32631"]
        west, south, east, north = notes["bounds"][row]
        assert west <= lon < east
        assert south <= lat < north
    assert np.isfinite(values).any()


def test_its_maps_are_read_back_identical(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    maps = [(path, place, [2, 0, 1]) for path, place in zip(notes["files"], PLACES, strict=True)]
    for path, place, bands in [*maps, (notes["single"], PLACES[0], [*range(BANDS)])]:
        one = world.tile(*place)
        with rasterio.open(left_behind / path) as dataset:
            pixels = np.moveaxis(dataset.read(), 0, -1)
            assert dataset.descriptions == tuple(f"Tessera_Band_{band}" for band in bands)
            assert (dataset.crs.to_epsg(), dataset.dtypes[0]) == (32631, "float32")
            assert tuple(dataset.transform)[:6] == one.grid.transform
            assert np.isnan(dataset.nodata)
        np.testing.assert_array_equal(pixels, one.embedding()[..., bands])
    assert notes["single"] == "single.tif"
    assert [Path(path).parts[0] for path in notes["files"]] == ["maps"] * 4


def test_its_downloads_are_the_published_files(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    everywhere = {f"grid_{lon:.2f}_{lat:.2f}": True for lon, lat in PLACES}
    wanted = {name: everywhere[name] for name in notes["downloaded"]}
    assert notes["downloaded"] == notes["present"] == wanted
    assert notes["one more"] is True
    for one in (world.tile(*place) for place in PLACES):
        for file in one.files:
            (copy,) = (
                path
                for path in left_behind.rglob(file.name)
                if path.suffix != ".tif" and "maps" not in path.parts
            )
            assert copy.read_bytes() == file.read_bytes()


def test_its_tiles_are_discovered(
    world: SampleWorld, notes: dict[str, Any], left_behind: Path
) -> None:
    grids = {place: world.tile(*place).grid for place in PLACES}
    # The export with a name of the user's own is known by its year and its middle pixel.
    own, *found = sorted(notes["found"])
    assert found == [
        [2024, lon, lat, grid.height, grid.width] for (lon, lat), grid in grids.items()
    ]
    np.testing.assert_allclose(own[1:3], PLACES[0], rtol=0, atol=1e-3)
    one = world.tile(*PLACES[0])
    np.testing.assert_array_equal(np.load(left_behind / "first.npy"), one.embedding()[..., 1])
    to_utm = pyproj.Transformer.from_crs(4326, 32631, always_xy=True)
    xy = np.array([to_utm.transform(*PLACES[0])])
    wanted = oracles.sample(one.values(), one.scales(), one.grid.transform, xy)[0]
    np.testing.assert_array_equal(np.float32(notes["by tile"]), wanted[0])


def test_it_dequantises_by_hand_and_leaves_no_litter(left_behind: Path) -> None:
    np.testing.assert_array_equal(
        np.load(left_behind / "by_hand.npy"), np.full((2, 2, 3), 2, np.float32)
    )
    assert sorted(path.name for path in left_behind.iterdir() if path.suffix != ".npy") == [
        ".geotessera", "global_0.1_degree_representation", "global_0.1_degree_tiff_all", "maps",
        "notes.json", "plots.npz", "single.tif", "tessera_metadata.json",
    ]  # fmt: skip
