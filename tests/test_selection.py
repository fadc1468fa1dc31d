"""Tiles are chosen by a region's outline, not its box, by every command and method."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas
import pytest
import shapely
from typer.testing import CliRunner

from geotessera import cli
from geotessera.core import GeoTessera
from geotessera.regions import Region
from geotessera.testing import SampleWorld
from geotessera.types import TileId

if TYPE_CHECKING:
    from pathlib import Path

# Wrangel Island, which the antimeridian cuts, and Taymyr.
RUSSIAN = {(179.95, 71.05), (-179.95, 71.05), (-179.85, 71.05), (100.05, 71.05)}
# In Russia's box: sea; in the band from -180 to 180 that was downloaded once: Canada, Norway.
OTHERS = {(-179.95, 73.05), (179.95, 73.05), (-100.05, 71.05), (23.95, 70.05)}

# A corner across the antimeridian, without the tile that its box has besides.
CORNER = [shapely.box(179.91, 71.01, 180, 71.09), shapely.box(-180, 71.01, -179.91, 71.09),
          shapely.box(-179.99, 73.01, -179.91, 73.09)]  # fmt: skip
IN_CORNER = {(179.95, 71.05), (-179.95, 71.05), (-179.95, 73.05)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    tiles = [TileId(2024, *place) for place in sorted(RUSSIAN | OTHERS)]
    return SampleWorld.build(tmp_path_factory.mktemp("selection"), tiles=tiles, bands=1)


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("region") / "corner.gpkg"
    geopandas.GeoDataFrame(geometry=CORNER, crs="EPSG:4326").to_crs(3995).to_file(path)
    return path


@pytest.fixture(params=["country", "region_file"])
def asked(request: pytest.FixtureRequest, corner: Path) -> tuple[list[str], set[Any]]:
    if request.param == "country":
        return ["--country", "Russian Federation"], RUSSIAN
    return ["--region-file", str(corner)], IN_CORNER


def run(world: SampleWorld, tmp_path: Path, *words: str) -> Any:
    where = ["--base-url", str(world.root("B")), "--cache-dir", str(tmp_path / "cache")]
    result = CliRunner().invoke(cli.app, [*words, *where, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("fmt", ["tiff", "npy"])
def test_download(
    world: SampleWorld, tmp_path: Path, asked: tuple[list[str], set[Any]], fmt: str
) -> None:
    out = tmp_path / "out"
    line = ["download", "--source", "tiles", "-f", fmt, "-o", str(out), *asked[0]]
    planned = run(world, tmp_path, *line, "--dry-run")
    done = run(world, tmp_path, *line)
    assert planned["tiles"] == done["tiles"] == len(asked[1])
    names = {path.name for path in out.glob("global_0.1_degree_representation/2024/*")}
    assert names == {f"grid_{lon:.2f}_{lat:.2f}" for lon, lat in asked[1]}


def test_mosaic(world: SampleWorld, tmp_path: Path, corner: Path) -> None:
    crs = ["--crs", "EPSG:3995", "--resolution", "500"]
    for words, expected in (
        (["--country", "RU"], RUSSIAN), (["--region-file", str(corner)], IN_CORNER)
    ):  # fmt: skip
        plan = run(world, tmp_path, "mosaic", "--dry-run", *crs, *words)
        assert plan["tiles"] == len(expected)


def test_the_client(world: SampleWorld, tmp_path: Path, corner: Path) -> None:
    client = GeoTessera(
        "v1.1", "cambridge", base_url=str(world.root("B")), cache_dir=tmp_path / "cache"
    )
    for region, expected in ((Region.of("RUS"), RUSSIAN), (Region.of(corner), IN_CORNER)):
        tiles = region.select(client.registry.iter_tiles_in_region(region.bbox, 2024))
        assert {(tile.lon, tile.lat) for tile in tiles} == expected


def test_no_row_of_the_globe_is_asked_for(world: SampleWorld) -> None:
    """Russia is 171° wide, and not 360°."""
    bbox = Region.from_country("Russia").bbox
    assert bbox.west > bbox.east
    assert bbox.east + 360 - bbox.west < 172
