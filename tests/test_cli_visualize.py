from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geotessera import cli
from geotessera.pictures import make_picture, rasters_below
from geotessera.testing import SampleStore, SampleWorld
from geotessera.testing.server import Fault, LoopbackServer
from mosaic_world import make_tile
from test_pictures import geotiff, pixels_of, small
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from typer.testing import Result

SCRIPT = Path(sys.executable).with_name("geotessera")

BOTH = "23.9001,83.6001,24.0999,83.6999"
"""A box in the tiny world's two tiles."""

PART = "23.98,83.63,24.02,83.66"
"""A box of a few hundred pixels on both sides of the seam."""


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["visualize", *map(str, words)])


def run_json(*words: str | Path, code: int = 0) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two tiles of five bands."""
    base = tmp_path_factory.mktemp("tiles")
    for lon in (0.15, 0.25):
        made = make_tile(base, lon, 52.25, bands=5, grid=small(lon, 52.25), smooth=True)
        noise = np.random.default_rng(1).integers(-3, 4, made.values.shape, dtype=np.int8)
        np.save(made.descriptor.embedding, made.values + noise)
    return base


@pytest.fixture
def mirror(tiny_world: SampleWorld, tmp_path: Path) -> list[str]:
    return ["--base-url", str(tiny_world.root()), "--cache-dir", str(tmp_path / "cache")]


# --- Directories and files ------------------------------------------------------------------


def test_a_directory_becomes_a_picture(tiles: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "p.tif"
    result = run(tiles, output)
    assert result.exit_code == 0, result.output
    assert "Found 2 tiles (npy format)" in result.stdout
    assert "SUCCESS: 2 tiles (npy)" in result.stdout
    assert f"  {output}" in result.stdout
    assert "Components: 3" in result.stdout
    assert "CRS: EPSG:3857" in result.stdout
    assert f"  geotessera webmap {output} --serve" in result.stdout
    assert list(output.parent.iterdir()) == [output]
    make_picture(rasters_below(tiles).rasters, tmp_path / "q.tif")
    for one, other in zip(pixels_of(output), pixels_of(tmp_path / "q.tif"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_json_says_what_was_made(tiles: Path, tmp_path: Path) -> None:
    words = ["--crs", "EPSG:32631", "--n-components", "4", "--balance", "adaptive", "--png"]
    document = run_json(tiles, tmp_path / "p.tif", *words, "--resolution", "20")
    files = [tmp_path / name for name in ("p.tif", "p.png", "p.pgw", "p.png.aux.xml")]
    assert document["files"] == [str(path) for path in files]
    assert document["bytes"] == sum(path.stat().st_size for path in files)
    assert (document["tiles"], document["format"], document["year"]) == (2, "npy", 2024)
    assert (document["components"], document["bands"], document["balance"]) == (4, 3, "adaptive")
    assert document["crs"] == "EPSG:32631"
    assert len(document["explained_variance"]) == 4
    _, _, grid = pixels_of(tmp_path / "p.tif")
    assert document["transform"] == list(grid.transform)
    assert (document["height"], document["width"]) == (grid.height, grid.width)
    assert document["transform"][0] == 20


def test_georeference_is_snapped_unless_told(tiles: Path, tmp_path: Path) -> None:
    snapped = run_json(tiles, tmp_path / "a.tif", "--crs", "EPSG:32631")["transform"]
    words = ("--georeference", "landmask")
    landmask = run_json(tiles, tmp_path / "b.tif", "--crs", "EPSG:32631", *words)["transform"]
    assert snapped[2] % 10 == snapped[5] % 10 == 0
    assert landmask[2] % 10 != 0
    assert 0 < landmask[2] - snapped[2] < 10


@pytest.mark.parametrize(("count", "bands"), [(1, 1), (2, 2)])
def test_fewer_than_three_components(tiles: Path, tmp_path: Path, count: int, bands: int) -> None:
    result = run(tiles, tmp_path / "p.tif", "--n-components", str(count))
    assert result.exit_code == 0
    assert f"Warning: with {count} component" in result.stderr
    assert "ERROR" not in result.stderr
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.count == bands


def test_models_are_saved_and_used(tiles: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.npz"
    first = run_json(tiles, tmp_path / "a.tif", "--save-model", model, "--balance", "percentile")
    assert first["saved_model"] == str(model)
    second = run_json(tiles, tmp_path / "b.tif", "--model", model)
    assert (second["model"], second["balance"]) == (str(model), "percentile")
    assert (tmp_path / "a.tif").read_bytes()[-1000:]  # something was written
    for one, other in zip(
        pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "b.tif"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert first["explained_variance"] == second["explained_variance"]


def test_a_model_of_other_bands_is_refused(tiles: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.npz"
    assert run(tiles, tmp_path / "a.tif", "--save-model", model).exit_code == 0
    make_tile(tmp_path / "other", 0.15, 52.25, bands=4, grid=small(0.15, 52.25))
    document = run_json(tmp_path / "other", tmp_path / "b.tif", "--model", model, code=1)
    assert "5 bands" in document["error"]["message"]
    assert "have 4" in document["error"]["message"]
    both = run(tiles, tmp_path / "b.tif", "--model", model, "--n-components", "2")
    assert both.exit_code == 2
    absent = run(tiles, tmp_path / "b.tif", "--model", tmp_path / "none.npz")
    assert absent.exit_code == 1
    assert "none.npz" in absent.stderr
    assert not (tmp_path / "b.tif").exists()


def test_one_file(tiles: Path, tmp_path: Path) -> None:
    made = make_tile(tmp_path / "t", 0.15, 52.25, bands=4, grid=small(0.15, 52.25))
    path = geotiff(tmp_path / "zone.tif", made, 4)
    for given, form in ((path, "geotiff"), (Path(made.descriptor.embedding), "npy")):
        document = run_json(given, tmp_path / "p.tif", "--georeference", "landmask")
        assert (document["tiles"], document["format"]) == (1, form)
    with rasterio.open(path) as dataset, rasterio.open(tmp_path / "p.tif") as picture:
        left, bottom, right, top = rasterio.warp.transform_bounds(
            dataset.crs, picture.crs, *dataset.bounds
        )
        np.testing.assert_allclose(picture.bounds, (left, bottom, right, top), atol=20)


def test_a_second_run_in_the_same_directory_draws_the_same_tiles(
    tmp_path: Path,
) -> None:
    make_tile(tmp_path, 0.15, 52.25, bands=4, grid=small(0.15, 52.25))
    first = run_json(tmp_path, tmp_path / "p.tif", "--n-components", "4")
    again = run_json(tmp_path, tmp_path / "q.tif", "--n-components", "4")
    assert (first["tiles"], again["tiles"]) == (1, 1)
    assert first["explained_variance"] == again["explained_variance"]


def test_years_and_regions_of_a_directory(tmp_path: Path) -> None:
    base = tmp_path / "tiles"
    for lon, year in ((0.15, 2023), (0.15, 2024), (0.25, 2024)):
        make_tile(base, lon, 52.25, bands=4, grid=small(lon, 52.25), year=year)
    refused = run(base, tmp_path / "p.tif")
    assert refused.exit_code == 1
    assert "2023, 2024" in refused.stderr
    assert "--year" in refused.stderr
    assert run_json(base, tmp_path / "p.tif", "--year", "2024")["tiles"] == 2
    west = run_json(base, tmp_path / "p.tif", "--year", "2024", "--bbox", "0.11,52.21,0.19,52.29")
    assert west["tiles"] == 1
    none = run(base, tmp_path / "q.tif", "--year", "2022")
    assert none.exit_code == 1
    assert "No tiles of 2022 found in" in none.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{tiles}", "p.jpg"], 1, "Output file must have .tif or .tiff extension"),
        (["{tiles}", "p"], 1, "Output file must have .tif or .tiff extension"),
        (["{tiles}", "."], 1, "Output file must have"),
        (["{empty}", "p.tif"], 1, "No tiles found in {empty}; expected GeoTIFFs"),
        (["{tiles}", "p.tif", "--save-model", "m.txt"], 1, "m.txt: a model is saved as .npz or"),
        (["{tiles}", "p.tif", "--resolution", "0.001"], 1, "has no room in"),
        (["{tiles}", "p.tif", "--crs", "+proj=ortho +lat_0=-80 +lon_0=200"], 1, "has no place in"),
        (["nowhere", "p.tif"], 1, "there is no nowhere; expected a file or a directory"),
        (["{tiles}", "p.tif", "--percentile-low", "60", "--percentile-high", "40"], 1, "[60, 40]"),
        (["{tiles}", "p.tif", "--n-components", "6"], 1, "6 components"),
        (["{tiles}", "p.tif", "--n-components", "0"], 2, "--n-components"),
        (["{tiles}", "p.tif", "--balance", "best"], 2, "--balance"),
        (["{tiles}", "p.tif", "--crs", "EPSG:nonsense"], 1, "no coordinate reference system"),
        (["{tiles}", "p.tif", "--resolution", "-1"], 1, "must be positive"),
        (["{tiles}", "p.tif", "--clip"], 2, "--clip needs a region"),
        (["{tiles}", "p.tif", "x.tif"], 2, "3 paths"),
        (["p.tif"], 2, "Missing argument OUTPUT_FILE"),
        ([], 2, "Missing argument"),
        (["", "p.tif"], 2, "empty"),
        (["{tiles}", "p.tif", "--source", "zarr"], 2, "belong to regions"),
        (["{tiles}", "p.tif", "--embeddings-dir", "x"], 2, "belong to regions"),
        (["p.tif", "--bbox", "0,0,1,1", "--tile", "0,0"], 1, "only one"),
        (["p.tif", "--bbox", "0,0,1,1", "--source", "best"], 2, "--source"),
    ],
)  # fmt: skip
def test_what_is_refused(
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"tiles": str(tiles), "empty": "empty"}
    result = run(*[word.format(**names) for word in words])
    assert result.exit_code == code, result.output
    assert message.format(**names) in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_input_is_not_replaced(tmp_path: Path) -> None:
    made = make_tile(tmp_path / "t", 0.15, 52.25, bands=4, grid=small(0.15, 52.25))
    path = geotiff(tmp_path / "zone.tif", made, 4)
    before = path.read_bytes()
    result = run(path, path)
    assert result.exit_code == 1
    assert "name another file" in result.stderr
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tiles, tmp_path / "file" / "p.tif")
    assert result.exit_code == 1
    assert "cannot write here" in result.stderr


# --- Regions --------------------------------------------------------------------------------


def test_a_region_of_tiles_on_both_sides_of_a_seam(
    tiny_world: SampleWorld, mirror: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "p.tif"
    document = run_json(out, *mirror, f"--bbox={BOTH}", "--resolution", "60")
    assert (document["tiles"], document["format"], document["year"]) == (2, "npy", 2024)
    assert document["dataset"] == {"version": "1.1", "variant": tiny_world.variant}
    assert list(out.parent.iterdir()) == [out]  # what was fetched is gone
    with rasterio.open(out) as dataset:
        assert dataset.crs.to_epsg() == 3857
        tags = dataset.tags()
        assert tags["TESSERA_DATASET_VARIANT"] == tiny_world.variant
        west, south, east, north = rasterio.warp.transform_bounds(
            dataset.crs, "EPSG:4326", *dataset.bounds
        )
    np.testing.assert_allclose([west, south, east, north], [23.9, 83.6, 24.1, 83.7], atol=1e-3)
    valid = sum(int(np.isfinite(one.scales()).sum()) for one in tiny_world.tiles)
    assert document["pixels"] <= valid
    assert document["pixels"] > 0.7 * valid


def test_fetched_tiles_are_kept_where_told(
    tiny_world: SampleWorld, mirror: list[str], tmp_path: Path
) -> None:
    kept, out = tmp_path / "kept", tmp_path / "p.tif"
    words = [*mirror, f"--bbox={PART}", "--resolution", "60", "--embeddings-dir", str(kept)]
    first = run_json(out, *words)
    assert len(list(kept.rglob("*.npy"))) == 4
    with LoopbackServer(tiny_world.root()) as server:
        words[1] = server.url
        words[3] = str(tmp_path / "fresh")
        again = run_json(tmp_path / "q.tif", *words)
        assert server.count("*.npy") == 0
    assert first["explained_variance"] == again["explained_variance"]


def test_water_and_outline(tiny_world: SampleWorld, mirror: list[str], tmp_path: Path) -> None:
    shape = tmp_path / "shape.geojson"
    ring = [[23.96, 83.65], [24.04, 83.65], [24.0, 83.69], [23.96, 83.65]]
    feature = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        ],
    }
    shape.write_text(json.dumps(feature))
    words = [*mirror, "--region-file", shape, "--resolution", "60"]
    whole = run_json(tmp_path / "a.tif", *words)
    assert whole["tiles"] == 2
    run_json(tmp_path / "b.tif", *words, "--clip")
    dry = run_json(tmp_path / "c.tif", *words, "--clip", "--mask-water")
    shown = [pixels_of(tmp_path / name)[1] for name in ("a.tif", "b.tif", "c.tif")]
    assert 0.3 * shown[0].mean() < shown[1].mean() < 0.7 * shown[0].mean()
    assert not (shown[2] & ~shown[1]).any()
    assert dry["pixels"] < whole["pixels"]


def test_a_store_gives_the_picture_of_its_tiles(
    tiny_world: SampleWorld, mirror: list[str], tmp_path: Path
) -> None:
    store = SampleStore.from_world(tiny_world, tmp_path / "store", shard=512)
    region = [f"--bbox={PART}", "--resolution", "60", "--resampling", "nearest"]
    run_json(tmp_path / "tiles.tif", *mirror, *region, "--mask-water")
    with LoopbackServer(store.path) as server:
        words = ["--store-url", server.url, "--dataset-variant", tiny_world.variant]
        document = run_json(tmp_path / "out" / "store.tif", *words, *region)
        assert server.count("*embeddings/c/*") > 0
        server.clear()
        run_json(tmp_path / "all.tif", *words, f"--bbox={BOTH}", "--resolution", "60")
        sent = server.bytes_sent
    # Read three times, sent once.
    stored = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
    assert 0.5 * stored < sent < 1.5 * stored
    assert document["format"] == "zarr"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["store.tif"]
    levels, shown, grid = pixels_of(tmp_path / "out" / "store.tif")
    other, also, same = pixels_of(tmp_path / "tiles.tif")
    assert grid == same
    # A store keeps one pixel where tiles overlap.
    assert (shown == also).mean() > 0.98
    both = shown & also
    close = np.abs(levels.astype(int) - other)[both] <= 3
    assert close.mean() > 0.95


def test_a_tile_that_cannot_be_had(
    tiny_world: SampleWorld, tmp_path: Path, quick_retries: None
) -> None:
    out = tmp_path / "out"
    gone = Fault("status", path="*grid_24.05_83.65.npy", status=404)
    with LoopbackServer(tiny_world.root(), faults=[gone]) as server:
        words = ["--base-url", server.url, "--cache-dir", tmp_path / "cache", f"--bbox={BOTH}"]
        result = run(out / "p.tif", *words)
    assert result.exit_code == 1
    assert "FAILED: grid_24.05_83.65" in result.stderr
    assert "1 of 2 tiles could not be had" in result.stderr
    assert not out.exists() or list(out.iterdir()) == []


def test_nothing_there(mirror: list[str], tmp_path: Path) -> None:
    sea = run(tmp_path / "p.tif", *mirror, "--bbox=0,0,0.1,0.1")
    assert sea.exit_code == 1
    assert "no tiles of 2024" in sea.stderr
    year = run(tmp_path / "p.tif", *mirror, f"--bbox={PART}", "--year", "2019")
    assert year.exit_code == 1
    assert "2024" in year.stderr
    assert not (tmp_path / "p.tif").exists()


def test_ctrl_c_leaves_nothing(tiny_world: SampleWorld, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    slow = Fault("stall", path="*grid_24.05*.npy", seconds=600)
    with LoopbackServer(tiny_world.root(), faults=[slow]) as server:
        line = [SCRIPT, "visualize", out / "p.tif", "--bbox", "23,83,25,84"]
        line += ["--base-url", server.url, "--cache-dir", tmp_path / "cache"]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: server.count("*.npy"), lambda: process.poll() is None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []
