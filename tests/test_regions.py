"""Regions: text, outlines, files; which tiles they select, against shapely cell by cell."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geotessera import inputs
from geotessera.errors import InputError
from geotessera.regions import Region, choose_region, parse_bbox, read_region_file
from geotessera.types import BBox, TileId


def cells(west, south, columns, rows):
    """Tiles of a block whose south-west corner is given in tenths of a degree."""
    return [
        TileId(2024, (west + i) / 10 + 0.05, (south + j) / 10 + 0.05)
        for i in range(columns)
        for j in range(rows)
    ]


BLOCK = [TileId(t.year, round(t.lon, 2), round(t.lat, 2)) for t in cells(-10, 500, 20, 20)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1,52,0.3,52.2", (0.1, 52, 0.3, 52.2)),
        (" -1 , -2 , 3 , 4 ", (-1, -2, 3, 4)),
        ((0, 1, 2, 3), (0, 1, 2, 3)),
        (np.array([0, 1, 2, 3]), (0, 1, 2, 3)),
        ("170,-20,-170,-10", (170, -20, -170, -10)),
        ("-180,-90,180,90", (-180, -90, 180, 90)),
        ("0.17,52.23", (0.1, 52.2, 0.2, 52.3)),
        ([0.17, 52.23], (0.1, 52.2, 0.2, 52.3)),
        ("180,0", (-180, 0, -179.9, 0.1)),
        ("180,90", (-180, 89.9, -179.9, 90)),
    ],
)
def test_boxes(value, expected):
    bbox = parse_bbox(value)
    assert isinstance(bbox, BBox)
    assert bbox == pytest.approx(expected, abs=1e-12)
    assert inputs.parse_bbox(value) == bbox


@pytest.mark.parametrize(
    "value",
    [
        "", "1", "1,2,3", "1,2,3,4,5", "a,b", "1,2,x,4", "0,1,0,2", "0,2,1,1", "0,1,1,1",
        "1,2,0,3", "-181,0,1,1", "0,-91,1,1", "0,0,181,1", "nan,0,1,1", "0,0,inf,1", "200,0",
        [None, 1],
    ],
)  # fmt: skip
def test_bad_boxes(value):
    with pytest.raises(InputError):
        parse_bbox(value)


def test_exactly_one_selector(tmp_path):
    with pytest.raises(ValueError, match="--bbox, --tile, --region-file, --country"):
        choose_region()
    with pytest.raises(ValueError, match="only one"):
        choose_region(bbox="0,0,1,1", tile="0,0")
    with pytest.raises(ValueError, match="lon,lat"):
        choose_region(tile="0,0,1,1")
    assert choose_region(tile="0.17,52.23").bbox == choose_region(bbox="0.17,52.23").bbox
    assert inputs.resolve_region(bbox=(0, 0, 1, 1)) == ((0, 0, 1, 1), None)
    bbox, frame = inputs.resolve_region(country="Malta")
    assert frame.total_bounds == pytest.approx(bbox)
    assert choose_region(country="fr").name == "France"


# --- Outlines ----------------------------------------------------------------------------


def by_area(geometry, tiles):
    """The oracle: tiles whose intersection with the outline has an area (rounding is 1e-17)."""
    return [
        tile
        for tile in tiles
        if geometry.intersection(
            shapely.box(
                round(tile.lon - 0.05, 1), round(tile.lat - 0.05, 1),
                round(tile.lon + 0.05, 1), round(tile.lat + 0.05, 1),
            )
        ).area > 1e-15
    ]  # fmt: skip


corner = st.tuples(st.integers(-1000, 1000), st.integers(50_000, 52_000))


@settings(max_examples=60, deadline=None)
@given(st.lists(corner, min_size=3, max_size=7, unique=True), st.sampled_from([1, 50, 100]))
def test_outlines_select_by_area(corners, step):
    # Vertices at thousandths, on half cells, or on the cells' corners, where much touches.
    hull = shapely.MultiPoint(
        [(x // step * step / 1000, y // step * step / 1000) for x, y in corners]
    )
    outline = hull.convex_hull
    if outline.geom_type == "Polygon" and outline.area > 1e-4:
        assert Region.from_geometry(outline).select(BLOCK) == by_area(outline, BLOCK)


def test_holes_and_edges():
    ring = shapely.box(-0.5, 50.5, 0.5, 51.5).difference(shapely.box(-0.3, 50.7, 0.3, 51.3))
    chosen = Region.from_geometry(ring).select(BLOCK)
    assert chosen == by_area(ring, BLOCK)
    assert len(chosen) == 100 - 36
    assert Region.from_geometry(shapely.box(0, 51, 0.1, 51.1)).select(BLOCK) == [
        TileId(2024, 0.05, 51.05)
    ]
    noisy = shapely.box(0.1 + 0.2, 51, 0.4, 51.1)  # 0.30000000000000004
    assert len(Region.from_geometry(noisy).select(BLOCK)) == 1


def test_points_and_lines_select_their_owners():
    corner = shapely.Point(0.1, 51.0)  # belongs to the cell north-east of it
    assert Region.from_geometry(corner).select(BLOCK) == [TileId(2024, 0.15, 51.05)]
    line = shapely.LineString([(0.1, 51.05), (0.1, 51.25)])
    lats = [tile.lat for tile in Region.from_geometry(line).select(BLOCK)]
    assert lats == [51.05, 51.15, 51.25]
    pole = Region.from_geometry(shapely.Point(180, 90))
    assert pole.select([(2024, 179.95, 89.95), (2024, 0.05, 0.05)]) == [(2024, 179.95, 89.95)]
    mixed = shapely.GeometryCollection([corner, shapely.box(-0.5, 50.5, -0.4, 50.6)])
    assert len(Region.from_geometry(mixed).select(BLOCK)) == 2


def test_a_box_keeps_all_and_an_outline_keeps_the_order():
    shuffled = BLOCK[::-1]
    assert Region.from_bbox("0,50,1,51").select(shuffled) == shuffled
    assert Region.from_geometry(shapely.box(-9, 40, 9, 60)).select(shuffled) == shuffled
    assert Region.from_country("Malta").select([]) == []
    with pytest.raises(InputError, match="not the centre"):
        Region.from_country("Malta").select([(2024, 14.5, 35.9)])


def test_outlines_across_the_antimeridian():
    beyond = Region.from_geometry(shapely.box(179.7, -17.0, 180.3, -16.5))
    assert beyond.bbox == pytest.approx((179.7, -17.0, -179.7, -16.5))
    lons = (179.65, 179.75, 179.95, -179.95, -179.75, -179.65)
    chosen = beyond.select([(2024, lon, -16.75) for lon in lons])
    assert [tile.lon for tile in chosen] == [179.75, 179.95, -179.95, -179.75]
    parts = shapely.MultiPolygon([shapely.box(170, 0, 180, 1), shapely.box(-180, 0, -175, 2)])
    assert Region.from_geometry(parts).bbox == (170, 0, -175, 2)
    both = shapely.MultiPolygon([shapely.box(-10, 0, 10, 1), shapely.box(20, 0, 30, 1)])
    assert Region.from_geometry(both).bbox == (-10, 0, 30, 1)
    west = Region.from_geometry(shapely.box(-190, 0, -170, 1))
    assert west.bbox == pytest.approx((170, 0, -170, 1))


def test_a_country_is_not_its_box():
    france = Region.from_country("France")
    tiles = [(2024, 2.35, 48.85), (2024, -53.05, 4.05), (2024, -30.05, 30.05), (2024, 9.95, 51.05)]
    assert france.select(tiles) == tiles[:2]


def test_bad_outlines():
    for outline in (shapely.Polygon(), shapely.box(0, 0, 500000, 1), shapely.box(0, 80, 1, 91)):
        with pytest.raises(InputError):
            Region.from_geometry(outline)
    bowtie = shapely.Polygon([(0, 51), (0.5, 51.5), (0.5, 51), (0, 51.5)])
    assert Region.from_geometry(bowtie).select(BLOCK) == by_area(shapely.make_valid(bowtie), BLOCK)


# --- Files -------------------------------------------------------------------------------


def frame(crs="EPSG:4326"):
    return gpd.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0.01, 51.01, 0.09, 51.05)], crs=crs)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "parquet"])
def test_files(tmp_path, suffix):
    path = tmp_path / f"region.{suffix}"
    frame().to_parquet(path) if suffix == "parquet" else frame().to_file(path)
    for location in (path, str(path)):
        assert Region.from_file(location).select(BLOCK) == [TileId(2024, 0.05, 51.05)]
    bbox, outlines = inputs.resolve_region(region_file=path)
    assert bbox == pytest.approx((0.01, 51.01, 0.09, 51.05))
    assert outlines.crs == "EPSG:4326"


def test_files_in_another_crs(tmp_path):
    frame().to_crs(32631).to_file(tmp_path / "utm.gpkg")
    assert Region.from_file(tmp_path / "utm.gpkg").bbox == pytest.approx(
        (0.01, 51.01, 0.09, 51.05), abs=1e-3
    )
    assert Region.from_file(frame().to_crs(3857)).bbox == pytest.approx(
        (0.01, 51.01, 0.09, 51.05), abs=1e-9
    )


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "bad.geojson").write_text("rubbish")
    (tmp_path / "bad.parquet").write_text("rubbish")
    frame()[:0].to_file(tmp_path / "empty.gpkg")
    for location, fragment in (
        (tmp_path / "absent.gpkg", "there is no region file"),
        (tmp_path / "bad.geojson", r"bad\.geojson cannot be read"),
        (tmp_path / "bad.parquet", r"bad\.parquet cannot be read"),
        (tmp_path / "empty.gpkg", "no features"),
        (frame(crs=None), "no CRS"),
        (frame().set_crs('LOCAL_CS["site",UNIT["metre",1]]', allow_override=True), "globe"),
        (gpd.GeoDataFrame({"a": [1]}), "no active geometry column"),
        (gpd.GeoDataFrame(geometry=[shapely.Point(0, 0), None], crs=4326), "feature 1"),
        ("http://127.0.0.1:1/region.geojson", "cannot be read"),
    ):
        with pytest.raises(InputError, match=fragment):
            read_region_file(location)


def test_no_outline_has_a_box_that_is_refused() -> None:
    parts = [shapely.box(lon, 0, lon + 1, 1) for lon in (179, -60, -1)]
    region = Region.from_geometry(shapely.union_all(parts))
    assert region.bbox == (-60, 0, 180, 1)  # the way across is narrower, and wider than 180°
    assert parse_bbox(region.bbox) == region.bbox
    tiles = [(2024, 179.55, 0.55), (2024, -59.55, 0.55), (2024, -0.55, 0.55), (2024, 99.95, 0.55)]
    assert len(region.select(tiles)) == 3
