from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner, Result

from geotessera import cli
from geotessera.cli import coverage_icechunk
from geotessera.errors import TransferError
from geotessera.regions import Region
from geotessera.testing.stores import zone_grid
from geotessera.testing.tile_registry import write_tile_registry
from registry_fixtures import landmasks_b, manifest_b

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def block(lon: float, lat: float, columns: int, rows: int) -> Iterator[tuple[float, float]]:
    """Centres of cells from a south-western one on, round the globe."""
    for column in range(columns):
        for row in range(rows):
            x = (round(lon * 100) + 10 * column + 18000) % 36000 - 18000
            yield x / 100, round(lat + row / 10, 2)


PLACES = {
    "Fiji": [*block(177.05, -18.45, 40, 25)],  # across the antimeridian
    "France": [*block(1.05, 46.05, 10, 10), *block(55.25, -21.25, 5, 5)],  # and La Réunion
    "Norway": [*block(9.05, 60.05, 10, 10)],
    "Tonga": [*block(-175.45, -21.45, 6, 5)],
}
TILES = [(2024, *place) for places in PLACES.values() for place in places]
TILES += [(2023, *place) for place in PLACES["Norway"][:50]]
LAND = [*sorted({tile[1:] for tile in TILES}), *block(20.05, 0.05, 3, 3)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("registry")
    manifest_b(directory / "manifest.parquet", TILES)
    landmasks_b(directory / "landmasks.parquet", LAND)
    return directory


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.delenv("GEOTESSERA_BASE_URL", raising=False)


@pytest.fixture
def light_globe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes half of the time; the tests of pages look at globes."""
    monkeypatch.setattr("geotessera.coverage.globe.write_globe", lambda path, *_, **__: path)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["coverage", "--width", "300", *map(str, words)])


def run_json(*words: object, code: int = 0) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def local(registry: Path) -> list[str]:
    return ["--registry-dir", str(registry), "--dataset-variant", "cambridge"]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


FILES = {
    "coverage.json", "coverage_v1.1_cambridge.json", "coverage_v1.1_cambridge_2023.json",
    "coverage_v1.1_cambridge_2024.json", "coverage_texture_v1.1_cambridge.png", "globe.html",
}  # fmt: skip


# --- Files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "picture"),
    [("m.png", "m.png"), ("m.JPG", "m.JPG"), ("maps", "maps/tessera_coverage.png"),
     ("v1.1", "v1.1/tessera_coverage.png"), ("there.png", "there.png/tessera_coverage.png")],
)  # fmt: skip
def test_a_picture_or_a_directory(
    registry: Path, tmp_path: Path, output: str, picture: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "there.png").mkdir()
    result = run(*local(registry), "-o", tmp_path / "out" / output)
    assert result.exit_code == 0, result.output
    path = tmp_path / "out" / picture
    with Image.open(path) as image:
        assert image.size[0] == 300
    assert names(path.parent) - {"there.png"} == FILES | {path.name} - {"there.png"}
    assert str(path) in result.stdout
    assert "geotessera download" in result.stdout
    assert "Traceback" not in result.output


def test_the_default_is_the_current_directory(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(*local(registry)).exit_code == 0
    assert names(tmp_path / "here") == FILES | {"tessera_coverage.png"}


def test_files_are_of_the_whole_dataset_and_the_document_says_all(
    registry: Path, tmp_path: Path
) -> None:
    document = run_json(*local(registry), "-o", tmp_path, "--country", "NO", "--year", "2023")
    assert document["map"] == str(tmp_path / "tessera_coverage.png")
    assert document["index"] == str(tmp_path / "coverage.json")
    assert document["globe"] == str(tmp_path / "globe.html")
    assert document["year"] == 2023
    assert document["region"]["name"] == "Norway"
    (one,) = document["datasets"]
    assert one == {
        "id": "v1.1_cambridge", "version": "1.1", "variant": "cambridge", "years": [2023, 2024],
        "tiles": len(TILES) - 50, "landmasks": len(LAND), "no_coverage": 9,
        "tiles_by_year": {"2023": 50, "2024": len(TILES) - 50},
        "region": {"tiles": 100, "tiles_by_year": {"2023": 50, "2024": 100}},
    }  # fmt: skip
    index = json.loads((tmp_path / "coverage.json").read_text())
    assert index["schema_version"] == 2
    assert index["datasets"][0]["color"] == [31, 119, 180]
    listed = json.loads((tmp_path / "coverage_v1.1_cambridge_2024.json").read_text())
    assert listed == sorted(f"{lon:.2f},{lat:.2f}" for year, lon, lat in TILES if year == 2024)
    with Image.open(tmp_path / "coverage_texture_v1.1_cambridge.png") as image:
        colors = {color: count for count, color in image.getcolors()}
    assert colors[(100, 100, 100, 76)] == 9
    assert colors[(0, 200, 0, 255)] == 50
    assert colors[(255, 200, 0, 255)] == len(TILES) - 100
    assert set(document["files"]) == {
        str(tmp_path / n) for n in FILES - {"coverage.json", "globe.html"}
    }
    assert (tmp_path / "globe.html").stat().st_size > 100_000


@pytest.mark.usefixtures("light_globe")
def test_people_read_tables_with_verbose(registry: Path, tmp_path: Path) -> None:
    result = run(*local(registry), "-o", tmp_path, "--country", "FR", "-v", "--year", 2019)
    assert "Country: France" in result.stdout
    assert f"in all: {len(TILES) - 50:,}" in result.stdout
    assert "In the region" in result.stdout
    assert "no tiles of 2019, only of 2023-2024" in result.stderr
    assert (
        "geotessera download --country FR --dataset-version v1.1 --dataset-variant cambridge "
        "--output tiles/" in result.stdout
    )
    result = run(*local(registry), "-o", tmp_path, "--country", "FR", "--year", 2023)
    assert "--country FR --year 2023 --dataset-version v1.1" in result.stdout


# --- Regions ------------------------------------------------------------------------------


@pytest.mark.usefixtures("light_globe")
@pytest.mark.parametrize(
    ("country", "name"),
    [
        ("FR", "France"),
        ("NOR", "Norway"),
        ("Tonga", "Tonga"),
        ("fji", "Fiji"),
        ("Norwey", "Norway"),
    ],
)
def test_the_tiles_of_a_country_are_those_of_its_outline(
    registry: Path, tmp_path: Path, country: str, name: str
) -> None:
    document = run_json(*local(registry), "-o", tmp_path, "--country", country)
    outline = Region.from_country(name).geometry
    assert outline is not None
    cells = [
        shapely.box(lon - 0.05 + 1e-9, lat - 0.05 + 1e-9, lon + 0.05 - 1e-9, lat + 0.05 - 1e-9)
        for _, lon, lat in TILES[:-50]
    ]
    expected = int(np.count_nonzero(shapely.intersects(outline, cells)))
    assert expected > 0
    assert document["region"]["name"] == name
    assert document["datasets"][0]["region"]["tiles"] == expected


@pytest.mark.usefixtures("light_globe")
def test_a_name_that_is_nearly_right_is_echoed(registry: Path, tmp_path: Path) -> None:
    result = run(*local(registry), "-o", tmp_path, "--country", "Norwey")
    assert "Country: Norway" in result.stdout


@pytest.mark.usefixtures("light_globe")
def test_a_file_selects_by_its_shapes(registry: Path, tmp_path: Path) -> None:
    # Its long edge is straight in the file's CRS, and passes no corner of a tile.
    triangle = shapely.Polygon([(1.01, 46.01), (1.28, 46.01), (1.01, 46.28)])
    path = tmp_path / "shape.gpkg"
    gpd.GeoDataFrame(geometry=[triangle], crs="EPSG:4326").to_crs("EPSG:2154").to_file(path)
    words = [*local(registry), "-o", tmp_path / "out", "--region-file", path]
    assert run_json(*words)["datasets"][0]["region"]["tiles"] == 6
    assert "in shape.gpkg: 6" in run(*words).stdout


@pytest.mark.usefixtures("light_globe")
@pytest.mark.parametrize(
    ("words", "tiles"),
    [(["--bbox", "179.9,-18.5,-179.8,-18.4"], 3), (["--bbox=-175.5,-21.5,-175.3,-21.4"], 2),
     (["--tile", "-175.41,-21.44"], 1), (["--bbox", "9.05,60.05"], 1),
     (["--bbox", "0,0,1,1"], 0)],
)  # fmt: skip
def test_boxes_and_tiles(registry: Path, tmp_path: Path, words: list[str], tiles: int) -> None:
    document = run_json(*local(registry), "-o", tmp_path, *words)
    assert document["datasets"][0]["region"]["tiles"] == tiles


@pytest.mark.parametrize(
    "words",
    [["--bbox", "1,2,3"], ["--bbox", "1,2,3,x"], ["--country", "Atlantis"], ["--tile", "1"],
     ["--region-file", "missing.geojson"], ["--bbox", "0,0,1,1", "--country", "FR"],
     ["--tile-color", "nothing"], ["--tile-alpha", "2"], ["--width", "10"], ["--tile-size", "0"],
     ["--by-source", "--tile-registry", "x"]],
)  # fmt: skip
def test_wrong_usage_is_2_and_costs_nothing(tmp_path: Path, words: list[str]) -> None:
    result = run("-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- Several datasets ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One registry of three datasets."""
    import pandas as pd

    directory = tmp_path_factory.mktemp("shared")
    sets = {
        ("1.0", "vultr"): [(2024, *place) for place in block(10.05, 10.05, 3, 3)],
        ("1.1", "cambridge"): [(y, *p) for y in (2023, 2024) for p in block(20.05, 10.05, 3, 3)],
        ("2.0", "2B-L~beta2"): [(2025, *place) for place in block(20.05, 10.05, 2, 2)],
    }
    frames = [
        pd.read_parquet(manifest_b(directory / f"{version}.parquet", tiles, version, variant))
        for (version, variant), tiles in sets.items()
    ]
    (directory / "all").mkdir()
    pd.concat(frames).to_parquet(directory / "all" / "manifest.parquet", index=False)
    return directory / "all"


@pytest.mark.parametrize(
    ("words", "ids"),
    [(["--by-source"], ["v1_vultr", "v1.1_cambridge", "v2_2B-L~beta2"]),
     (["--dataset-version", "all"], ["v1_vultr", "v1.1_cambridge", "v2_2B-L~beta2"]),
     (["--dataset-version", "v2", "--dataset-variant", "all"], ["v2_2B-L~beta2"]),
     (["--dataset-version", "v1.1", "--by-source"], ["v1.1_cambridge"])],
)  # fmt: skip
def test_several_datasets(shared: Path, tmp_path: Path, words: list[str], ids: list[str]) -> None:
    document = run_json("--registry-dir", shared, "-o", tmp_path, *words)
    assert [one["id"] for one in document["datasets"]] == ids
    index = json.loads((tmp_path / "coverage.json").read_text())
    assert [one["id"] for one in index["datasets"]] == ids
    tints = {tuple(one["color"]) for one in index["datasets"]}
    assert len(tints) == len(ids)
    for one in index["datasets"]:
        with Image.open(tmp_path / one["texture_png"]) as image:
            shown = {color[:3] for _, color in image.getcolors() if color[3]}
        assert (tuple(one["color"]) in shown) == (len(ids) > 1)
    left_out = {one["dataset"] for one in document["skipped"]}
    assert left_out == ({"v2-2B-L~beta1"} if len(ids) == 3 or "v2" in words else set())


@pytest.mark.usefixtures("light_globe")
def test_datasets_lie_over_each_other(shared: Path, tmp_path: Path) -> None:
    result = run("--registry-dir", shared, "-o", tmp_path / "m.png", "--by-source", "--bbox",
                 "19.9,9.9,20.5,10.5", "--tile-alpha", "1", "--no-countries")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Warning: v2-2B-L~beta1 is left out" in result.stderr
    with Image.open(tmp_path / "m.png") as image:
        colors = {color[:3] for _, color in image.convert("RGB").getcolors(10**6)}
    assert {(255, 127, 14), (214, 39, 40)} <= colors
    assert (31, 119, 180) not in colors


def test_none_left_is_1(registry: Path, tmp_path: Path) -> None:
    result = run("--registry-dir", registry, "--dataset-version", "v2", "--by-source",
                 "-o", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: none of the datasets")
    assert not (tmp_path / "out").exists()
    result = run("--registry-dir", registry, "--dataset-version", "v7", "--by-source")
    assert result.exit_code == 1
    assert "published as tiles" in result.stderr


# --- The Icechunk dataset -----------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    directory = tmp_path_factory.mktemp("icechunk") / "parts"
    groups = {"31N": zone_grid(0.5, 50.5, 8000, 6000), "60S": zone_grid(179.7, -17.0, 3000, 6000)}
    return directory, write_tile_registry(directory, groups, [2023, 2024])


def usable(row: dict[str, Any]) -> bool:
    refused, eligible = row["refused_px"], row["eligible_px"]
    mostly = bool(refused and eligible and refused / eligible > 0.5)
    return bool(row["embedded"] and not mostly)


def test_tiles_of_a_repository(parts: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    directory, rows = parts
    document = run_json("--tile-registry", directory, "-o", tmp_path)
    places: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        places.setdefault((row["zone"], row["tile"]), []).append(usable(row))
    assert document["states"] == {
        "Usable in all 2 years": sum(all(years) for years in places.values()),
        "Usable in some years": sum(any(y) and not all(y) for y in places.values()),
        "Usable in no year": sum(not any(years) for years in places.values()),
    }
    (one,) = document["datasets"]
    assert (one["id"], one["years"]) == ("v1.1_dclimate", [2023, 2024])
    listed = json.loads((tmp_path / "coverage_v1.1_dclimate_2024.json").read_text())
    for row in [row for row in rows if row["year"] == 2024 and usable(row)]:
        west, south, east, north = (
            row[f"bbox_{side}"] for side in ("west", "south", "east", "north")
        )
        east += 360 if west > east else 0
        lon = (np.floor(((west + east) / 2 + 180) * 10) / 10 + 0.05) % 360 - 180
        lat = np.floor((south + north) / 2 * 10) / 10 + 0.05
        assert f"{lon:.2f},{lat:.2f}" in listed
    assert (tmp_path / "globe.html").is_file()


def test_a_part_of_a_repository_is_a_map_alone(
    parts: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    directory, rows = parts
    words = ["--tile-registry", directory, "-o", tmp_path]
    document = run_json(*words, "--year", "2024")
    of_year = [row for row in rows if row["year"] == 2024]
    assert sum(document["states"].values()) == len(of_year)
    assert document["states"]["Not embedded"] == sum(not row["embedded"] for row in of_year)
    assert names(tmp_path) - {"user-cache"} == {"tessera_coverage.png"}
    crossing = run_json(*words, "--bbox", "179.9,-17.2,-179.9,-17.0")
    assert 0 < sum(crossing["states"].values()) < len(of_year)
    country = run_json(*words, "--country", "Fiji")
    assert country["datasets"] == []
    result = run(*words, "--country", "Tonga")
    assert result.exit_code == 1
    assert "has no tiles in Tonga" in result.stderr
    assert run(*words, "--year", "1999").exit_code == 1


def test_the_default_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise TransferError("the bucket could not be reached")

    monkeypatch.setattr("geotessera.tile_registry._Bucket.keys", unreachable)
    result = run("-o", tmp_path / "out")
    assert result.exit_code == 1
    *warnings, error = result.stderr.strip().splitlines()
    assert "140 MB" in "".join(warnings)
    assert error.startswith("Error: the tile registry of v1.1 dclimate could not be read")
    assert "--dataset-variant" in error
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    result = run("--offline", "--cache-dir", tmp_path / "cache", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "offline" in result.stderr


def test_parts_that_are_kept_are_enough_offline(
    parts: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    import shutil

    known = coverage_icechunk.find_dataset("1.1", "dclimate")
    assert known is not None
    assert known.tile_registry is not None
    kept = tmp_path / "cache" / "tile-registry" / known.tile_registry.removeprefix("s3://")
    shutil.copytree(parts[0], kept)
    document = run_json("--offline", "--cache-dir", tmp_path / "cache", "-o", tmp_path / "out")
    assert document["datasets"][0]["id"] == "v1.1_dclimate"


# --- Manners ------------------------------------------------------------------------------


def test_a_globe_that_fails_is_a_warning(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no room for a globe")

    monkeypatch.setattr("geotessera.coverage.globe.write_globe", fail)
    result = run(*local(registry), "-o", tmp_path)
    assert result.exit_code == 0
    assert "Warning: no globe was written: no room for a globe" in result.stderr
    assert "globe.html" not in names(tmp_path)


def test_a_directory_that_cannot_be_written_is_found_first(
    registry: Path, read_only_directory: Path
) -> None:
    result = run(*local(registry), "-o", read_only_directory / "new" / "m.png")
    assert result.exit_code == 1
    assert str(read_only_directory) in result.stderr
    assert result.stdout == ""


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['geotessera', 'coverage', '--help']\n"
        "from geotessera.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'matplotlib', 'pandas', 'rasterio', 'pyarrow', 'shapely', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "--by-source" in done.stdout
