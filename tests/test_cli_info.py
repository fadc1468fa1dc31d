from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import rasterio
from rasterio.warp import transform_bounds
from typer.testing import CliRunner, Result

from geotessera import cli
from geotessera.datasets import DATASETS, zarr_store_url
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.testing.server import LoopbackServer
from geotessera.testing.stores import SampleStore

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld


def info(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["info", *words])


def info_json(*words: str, code: int = 0) -> Any:
    result = info(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def exported(tiny_world: SampleWorld, tmp_path: Path) -> Path:
    """A directory with one tile as NPY and as GeoTIFF of two bands, the other as NPY."""
    out = tmp_path / "out"
    tile = tiny_world.tiles[0].tile
    where = ["--base-url", str(tiny_world.root()), "--cache-dir", str(tmp_path / "cache")]
    line = ["download", "-o", str(out), "--tile", f"{tile.lon},{tile.lat}", "--bands", "2,0"]
    assert CliRunner().invoke(cli.app, [*line, *where]).exit_code == 0
    tiny_world.checkout(out, [tiny_world.tiles[1].tile])
    return out


# --- Published --------------------------------------------------------------------------


def test_the_catalogue_and_the_summary(small_world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(small_world.root("A")) as server:
        where = ("--base-url", server.url, "--cache-dir", str(tmp_path))
        document = info_json(*where)
        shown = info(*where, "-v").stdout
    assert [(row["version"], row["variant"]) for row in document["datasets"]] == [
        (dataset.version, dataset.variant) for dataset in DATASETS
    ]
    summary = document["summary"]
    assert summary["dataset"] == {"version": "1.1", "variant": "cambridge"}
    assert summary["years"] == [2023, 2024]
    assert summary["tiles_by_year"] == {"2023": 2, "2024": 7}
    assert summary["tile_count"] == 9
    assert summary["landmasks"] == 7
    for word in ("dclimate *", "cambridge", "2B-L~beta1", "2023, 2024", "9"):
        assert word in shown


def test_without_a_registry_the_catalogue_is_still_shown(tmp_path: Path) -> None:
    result = info("--offline", "--cache-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "dclimate" in result.stdout
    assert "Traceback" not in result.output
    assert result.stderr.splitlines()[-1].startswith("Error: the registry of 1.1-cambridge")
    document = info_json("--offline", "--cache-dir", str(tmp_path), code=1)
    assert len(document["datasets"]) == len(DATASETS)
    assert document["error"]["type"] == "RegistryError"


def test_a_dataset_without_tiles_is_shown_by_its_store(tiny_world: SampleWorld) -> None:
    where = ("--base-url", str(tiny_world.root()), "--dataset-variant", "dclimate")
    result = info(*where)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: the store of 1.1-dclimate could not")


def test_a_store_is_summed_up(tmp_path: Path) -> None:
    store = SampleStore.build(tmp_path / "store", size="tiny")
    document = info_json("--store-url", str(store.path), "-v")
    summary = document["summary"]
    assert summary["dataset"] is None
    assert summary["years"] == [2023, 2024]
    assert summary["zones"] == [30, 31]
    assert (summary["bands"], summary["depths"]) == (8, [4, 8])
    found = {one["zone"]: (one["height"], one["width"]) for one in summary["zone_grids"]}
    assert found == {zone: (grid.height, grid.width) for zone, grid in store.grids.items()}
    shown = info("--store-url", str(store.path), "-v").stdout
    for word in ("2023, 2024", "2: 30, 31", "4, 8", "EPSG:32630", "96 × 128"):
        assert word in shown


def test_stores_are_where_the_mirror_has_them(tmp_path: Path) -> None:
    document = info_json("--base-url", str(tmp_path / "mirror"), code=1)
    stores = {(row["version"], row["variant"]): row["store_url"] for row in document["datasets"]}
    assert stores["1.1", "dclimate"] == str(tmp_path / "mirror/zarr/v1.1-dclimate")
    public = info_json("--offline", "--cache-dir", str(tmp_path), code=1)["datasets"]
    assert [row["store_url"] for row in public] == [
        zarr_store_url(row["version"], row["variant"]) for row in public
    ]


# --- On disk ----------------------------------------------------------------------------


def test_a_directory_is_described_by_its_rasters(exported: Path, tiny_world: SampleWorld) -> None:
    document = info_json("--tiles", str(exported))
    assert document["tile_count"] == 3
    assert document["formats"] == ["npy", "geotiff"]
    assert document["years"] == [2024]
    assert document["datasets"] == ["1.1-cambridge"]
    assert document["crs"] == sorted({f"EPSG:{one.grid.epsg}" for one in tiny_world.tiles})
    assert document["band_counts"] == {"2": 1, "4": 2}
    boxes = [
        transform_bounds(one.grid.crs, "EPSG:4326", *one.grid.bounds) for one in tiny_world.tiles
    ]
    assert document["bounds"] == pytest.approx(
        [
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        ]
    )


def test_people_read_names_with_verbose(exported: Path) -> None:
    shown = info("--tiles", str(exported), "-v").stdout
    assert "grid_23.95_83.65_2024.tiff" in shown
    assert "23.95, 83.65" in shown
    assert "grid_" not in info("--tiles", str(exported)).stdout


@pytest.mark.parametrize("which", ["geotiff", "embedding", "scales"])
def test_one_file(exported: Path, tiny_world: SampleWorld, which: str) -> None:
    tile = tiny_world.tiles[0].tile
    files = local_tile_files(exported, tile)._asdict() | {"geotiff": geotiff_path(exported, tile)}
    document = info_json("--tiles", str(files[which]))
    (found,) = document["tiles"]
    assert (found["lon"], found["lat"], found["year"]) == (tile.lon, tile.lat, 2024)
    assert found["bands"] == (2 if which == "geotiff" else 4)
    grid = tiny_world.tiles[0].grid
    assert (found["height"], found["width"]) == (grid.height, grid.width)


def test_a_zone_export_is_described_by_its_own_bounds(tmp_path: Path) -> None:
    path = tmp_path / "tessera_2023_utm31.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=20,
        width=30,
        count=3,
        dtype="float32",
        crs="EPSG:32631",
        transform=rasterio.transform.from_origin(500_000, 5_500_000, 10, 10),
    ) as raster:
        raster.update_tags(TESSERA_YEAR="2023")
    (found,) = info_json("--tiles", str(path))["tiles"]
    assert (found["year"], found["lon"], found["bands"]) == (2023, None, 3)
    expected = transform_bounds("EPSG:32631", "EPSG:4326", 500_000, 5_499_800, 500_300, 5_500_000)
    assert found["bounds"] == pytest.approx(expected)


def test_the_retired_option_still_works(exported: Path) -> None:
    result = info("--geotiffs", str(exported))
    assert result.exit_code == 0
    assert "retired" in result.stderr


def test_damaged_files_are_named_and_the_others_described(
    exported: Path, tiny_world: SampleWorld
) -> None:
    files = local_tile_files(exported, tiny_world.tiles[1].tile)
    shutil.copy(files.scales, files.embedding.with_name("copy"))
    files.embedding.unlink()
    files.embedding.write_bytes(b"nonsense")
    document = info_json("--tiles", str(exported))
    assert document["tile_count"] == 2
    assert [files.embedding.name in text for text in document["unreadable"]] == [True]
    assert files.embedding.name in info("--tiles", str(exported)).stderr


@pytest.mark.parametrize("name", ["empty", "nowhere", "notes.txt", "stray.npy", "bad.tif"])
def test_nothing_to_describe_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for other in ("notes.txt", "stray.npy", "bad.tif"):
        (tmp_path / other).write_text("text")
    result = info("--tiles", str(tmp_path / name))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output
