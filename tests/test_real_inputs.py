"""Real points, outlines and countries, read as users give them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from typer.testing import CliRunner

import oracles
import realdata
from geotessera import GeoTessera, cli
from geotessera.errors import InputError
from geotessera.points import parse_points, read_points_file
from geotessera.regions import Region
from geotessera.testing import SampleWorld

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

pytestmark = pytest.mark.real

LIVERPOOL = (-2.95, 53.45)


def coordinates(collection: dict[str, Any]) -> NDArray[np.float64]:
    """What plain json says."""
    return np.array([one["geometry"]["coordinates"] for one in collection["features"]])


# --- Points --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relative", "count"),
    [
        ("labels/solarpanel/train_positive.geojson", 2449),
        ("labels/solarpanel/train_negative.geojson", 2449),
        ("labels/solarpanel/test_positive.geojson", 1693),
        ("labels/solarpanel/test_negative.geojson", 1693),
        ("labels/liverpool.geojson", 20),
    ],
)
def test_labelled_points_are_read_as_they_are_written(relative: str, count: int) -> None:
    path = realdata.path(relative)
    collection = json.loads(path.read_text())
    points, table = read_points_file(path)
    assert points.shape == (count, 2)
    assert len(table) == count
    np.testing.assert_array_equal(points, coordinates(collection))
    np.testing.assert_array_equal(parse_points(collection), points)
    np.testing.assert_array_equal(parse_points(collection["features"]), points)


def test_solar_panels_lie_in_their_own_box() -> None:
    west, south, east, north = json.loads(realdata.path("labels/solarpanel/bbox.json").read_text())[
        "bbox"
    ]
    for name in ("train_positive", "train_negative", "test_positive", "test_negative"):
        lon, lat = read_points_file(realdata.path(f"labels/solarpanel/{name}.geojson"))[0].T
        assert ((west <= lon) & (lon <= east) & (south <= lat) & (lat <= north)).all()


def test_labels_of_latitude_first_are_noticed_or_turned() -> None:
    entries = json.loads(realdata.path("labels/cambridge_labels.json").read_text())
    places = [place for place, _ in entries["training_points"]]
    assert len(places) == 1458
    lat_lon = np.array(places)
    table = pd.DataFrame({"lat": lat_lon[:, 0], "lon": lat_lon[:, 1]})
    np.testing.assert_array_equal(parse_points(table), lat_lon[:, ::-1])
    np.testing.assert_array_equal(parse_points(lat_lon[:, ::-1]), lat_lon[:, ::-1])
    np.testing.assert_array_equal(parse_points([(x, y) for y, x in places]), lat_lon[:, ::-1])
    # Latitude first in Indonesia would be off the globe, and the message says what to do.
    with pytest.raises(InputError, match="are they swapped"):
        parse_points(lat_lon + np.array([0, 117]))


@pytest.fixture(scope="module")
def liverpool(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    return SampleWorld.build(
        tmp_path_factory.mktemp("liverpool"), tiles=[(2024, *LIVERPOOL)], bands=4
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_liverpool_is_sampled_by_command(
    liverpool: SampleWorld, tmp_path: Path, suffix: str
) -> None:
    path = realdata.path("labels/liverpool.geojson")
    collection = json.loads(path.read_text())
    out = tmp_path / f"out{suffix}"
    done = CliRunner().invoke(
        cli.app,
        [
            "sample", str(path), "-o", str(out), "--json", "--tiles", str(tmp_path / "tiles"),
            "--base-url", str(liverpool.root()), "--cache-dir", str(tmp_path / "cache"),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out) if suffix == ".csv" else gpd.read_parquet(out)
    assert table["label"].tolist() == [one["properties"]["label"] for one in collection["features"]]
    assert set(table["tile"]) == {"grid_-2.95_53.45"}
    one = liverpool.tile(*LIVERPOOL)
    points = coordinates(collection)
    to_utm = pyproj.Transformer.from_crs(4326, one.grid.epsg, always_xy=True)
    wanted, status, _ = oracles.sample(
        one.values(), one.scales(), one.grid.transform, np.c_[to_utm.transform(*points.T)]
    )
    values = table[[f"tessera_{band}" for band in range(4)]].to_numpy()
    if suffix == ".csv":
        np.testing.assert_allclose(values, wanted, rtol=1e-6)
    else:
        np.testing.assert_array_equal(values, wanted)
    names = np.array(["valid", "water", "nodata", "outside"])
    assert table["status"].tolist() == names[status].tolist()


def test_points_of_a_projected_geopackage_are_projected() -> None:
    path = realdata.path("imagery/l8_iguacu/LC08_L1TP_224078_20200518_20200518_01_RT_points.gpkg")
    points, table = read_points_file(path)
    frame = gpd.read_file(path)
    assert frame.crs.to_epsg() == 32621
    to_degrees = pyproj.Transformer.from_crs(32621, 4326, always_xy=True)
    wanted = np.c_[to_degrees.transform(frame.geometry.x, frame.geometry.y)]
    np.testing.assert_allclose(points, wanted, rtol=0, atol=1e-11)
    assert table["name"].tolist() == ["water", "crop", "tree", "developed", "water", "tree"]
    np.testing.assert_array_equal(parse_points(frame), points)
    np.testing.assert_array_equal(parse_points(frame.geometry), points)


def test_a_real_file_of_polygons_is_no_file_of_points(
    liverpool: SampleWorld, tmp_path: Path
) -> None:
    path = realdata.path("imagery/l8_iguacu/LC08_L1TP_224078_20200518_20200518_01_RT_polygons.gpkg")
    with pytest.raises(InputError, match="Point"):
        read_points_file(path)
    client = GeoTessera(base_url=liverpool.root(), cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="Point"):
        client.sample_embeddings_at_points(gpd.read_file(path))
    done = CliRunner().invoke(
        cli.app,
        ["sample", str(path), "-o", str(tmp_path / "out.csv"), "--base-url", str(liverpool.root())],
    )
    assert done.exit_code == 1
    assert "Point" in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out.csv").exists()


# --- Regions -------------------------------------------------------------------------------


def cells(outline: BaseGeometry, margin: int = 3) -> dict[tuple[float, float], BaseGeometry]:
    """All cells of the grid about an outline, by centre; edges at exact tenths."""
    west, south, east, north = (np.array(outline.bounds) * 10).astype(int)
    return {
        (round((x + 0.5) / 10, 2), round((y + 0.5) / 10, 2)): shapely.box(
            x / 10, y / 10, (x + 1) / 10, (y + 1) / 10
        )
        for x in range(west - margin, east + margin)
        for y in range(south - margin, north + margin)
    }


def brute_force(outline: BaseGeometry) -> set[tuple[float, float]]:
    """Centres of the cells that share an area with an outline."""
    return {
        centre for centre, cell in cells(outline).items() if outline.intersection(cell).area > 1e-10
    }


def selected(region: Region, outline: BaseGeometry) -> set[tuple[float, float]]:
    return {(lon, lat) for _, lon, lat in region.select((2024, *place) for place in cells(outline))}


def test_tiles_of_the_cambridge_postcodes_equal_brute_force() -> None:
    path = realdata.path("roi/CB.geojson")
    outline = shapely.union_all(
        [
            shapely.geometry.shape(one["geometry"])
            for one in json.loads(path.read_text())["features"]
        ]
    )
    found = selected(Region.from_file(path), outline)
    assert found == brute_force(outline)
    # An outline asks for less than its box.
    west, south, east, north = outline.bounds
    assert len(brute_force(shapely.box(west, south, east, north))) > len(found) > 20


@pytest.fixture(scope="module")
def countries() -> gpd.GeoDataFrame:
    return gpd.read_file(realdata.path("countries/ne_50m_admin_0_countries.geojson"))


@pytest.mark.parametrize("code", ["LUX", "MLT", "SVN", "RWA", "SGP", "BRB", "LSO"])
def test_tiles_of_small_countries_equal_brute_force(countries: gpd.GeoDataFrame, code: str) -> None:
    real = countries.loc[countries["ADM0_A3"] == code].geometry.union_all()
    region = Region.from_country(code)
    ours = region.geometry
    assert ours is not None
    found = selected(region, real)
    assert found == brute_force(ours)
    # Another edition of the same map: it may differ where a border grazes a cell.
    known = cells(real)
    for centre in found ^ brute_force(real):
        assert min(real.intersection(known[centre]).area, ours.intersection(known[centre]).area) < (
            0.02 * known[centre].area
        )
    assert len(found & brute_force(real)) >= 0.97 * len(found | brute_force(real))


def test_a_border_in_metres_selects_what_the_country_does() -> None:
    path = realdata.path("imagery/s2_slovenia/svn_border.geojson")
    border = gpd.read_file(path)
    assert border.crs.to_epsg() == 32633
    outline = border.to_crs(4326).geometry.union_all()
    found = selected(Region.from_file(path), outline)
    assert found == brute_force(outline)
    country = selected(Region.from_country("Slovenia"), outline)
    assert len(found & country) >= 0.9 * len(found | country)
    assert (14.55, 45.85) in found & country
