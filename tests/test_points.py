"""All the forms in which points come, against what they say."""

from __future__ import annotations

import json
import re

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from geotessera import inputs
from geotessera.errors import InputError
from geotessera.points import parse_points, read_points_file
from geotessera.regions import read_region_file

LOCAL_CRS = 'LOCAL_CS["site",UNIT["metre",1]]'
PAIRS = [(0.17, 52.23), (-1.5, 51.25), (179.5, -89.0)]


def collection(pairs, **members):
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": list(p)}}
        for p in pairs
    ]
    return {"type": "FeatureCollection", "features": features, **members}


def frame(crs="EPSG:4326"):
    return gpd.GeoDataFrame(
        {"label": list("abc")}, geometry=[shapely.Point(p) for p in PAIRS], crs=crs
    )


@pytest.mark.parametrize(
    "points",
    [
        PAIRS,
        tuple(PAIRS),
        (pair for pair in PAIRS),
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, np.float64)[::-1][::-1],
        collection(PAIRS),
        collection([(*pair, 12.5) for pair in PAIRS]),
        collection(PAIRS)["features"],
        collection(PAIRS, crs={"properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
        frame(),
        frame().geometry,
        frame().geometry.array,
        [shapely.Point(p) for p in PAIRS],
        np.array([shapely.Point(p) for p in PAIRS]),
        pd.DataFrame({"lat": [p[1] for p in PAIRS], "lon": [p[0] for p in PAIRS]}),
        pd.DataFrame({"Longitude": [p[0] for p in PAIRS], "LATITUDE": [p[1] for p in PAIRS]}),
        pd.DataFrame({"x": [p[0] for p in PAIRS], "y": [p[1] for p in PAIRS]}),
    ],
)  # fmt: skip
def test_every_form(points):
    array = parse_points(points)
    assert array.dtype == np.float64
    assert array.tolist() == [list(pair) for pair in PAIRS]


@pytest.mark.parametrize(
    "nothing",
    [[], (), np.empty((0, 2)), collection([]), frame()[:0], pd.DataFrame({"lon": [], "lat": []})],
)
def test_no_points(nothing):
    assert parse_points(nothing).shape == (0, 2)


@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90))))
def test_pairs_come_back(pairs):
    assert inputs.parse_points(pairs) == pairs


def test_other_crs_are_reprojected():
    pairs = [(530000.0, 180000.0), (400000.0, 300000.0)]
    series = gpd.GeoSeries([shapely.Point(p) for p in pairs], crs="EPSG:27700")
    transformer = Transformer.from_crs("EPSG:27700", "EPSG:4326", always_xy=True)
    expected = [transformer.transform(*p) for p in pairs]
    np.testing.assert_allclose(parse_points(series), expected, rtol=0, atol=1e-9)
    declared = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::27700"}}
    np.testing.assert_allclose(
        parse_points(collection(pairs, crs=declared)), expected, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("points", "fragment"),
    [
        ([(1, 2), (float("nan"), 1)], r"point 1 \(nan, 1\.0\).*leave"),
        ([(1, 2), (1, float("inf"))], r"point 1"),
        ([(1, 2), (0, 95.5)], r"point 1 \(0\.0, 95\.5\).*swapped"),
        ([(530000, 180000)], r"point 0.*reproject"),
        ([(1, 2), (1, 2, 3)], "point 1"),
        ([(1, 2), ("a", 3)], "point 1"),
        ([1, 2], "point 0"),
        ("0.1,52", "pairs"),
        (None, "pairs"),
        (np.zeros((3, 3)), "shape"),
        ({"type": "Point", "coordinates": [1, 2]}, "FeatureCollection of Point"),
        ({"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon"}}]}, "Point"),
        ({"type": "FeatureCollection", "features": [{"geometry": None}]}, "Point"),
        (collection([[]]), "empty Point"),
        (collection([["x", 1]]), "point 0"),
        (collection([(1, 2)], crs={"properties": {"name": "EPSG:999999"}}), "not known"),
        (collection([(1, 2)], crs={"properties": None}), "does not name a CRS"),
        (frame(crs=None), "CRS"),
        (gpd.GeoDataFrame({"a": [1]}), "no active geometry column"),
        (gpd.GeoSeries([shapely.Point(1, 2)], crs=LOCAL_CRS), "'site' cannot be placed"),
        (gpd.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs=LOCAL_CRS), "cannot be placed"),
        ([shapely.Point(1, 2), (1, 2)], "geometry 1 must be a Point"),
        ([(1, 2), shapely.Point(1, 2)], "point 1"),
        ([shapely.Point(1, 2), "POINT (1 2)"], "geometry 1 must be a Point"),
        (np.array([shapely.Point(1, 2), None]), "geometry 1 .* no geometry"),
        (gpd.GeoSeries([shapely.Point(1, 2), None], crs=4326), "geometry 1 must be a Point"),
        (gpd.GeoSeries([shapely.Point()], crs=4326), "geometry 0 must be a Point"),
        (gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326), "geometry 0 must be a Point"),
        (pd.DataFrame({"a": [1]}), "columns lon and lat"),
        (pd.DataFrame({"lon": ["x"], "lat": [1]}), "numbers"),
        (pd.DataFrame([[1, 2, 3]], columns=["lon", "Lon", "lat"]), "more than one"),
        (pd.DataFrame({"lon": [None], "lat": [1.0]}), "point 0"),
    ],
)
def test_errors_name_the_row(points, fragment):
    with pytest.raises(ValueError, match=fragment):
        parse_points(points)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "csv", "tsv", "parquet", "pq"])
def test_files(tmp_path, suffix):
    path = tmp_path / f"points.{suffix}"
    table = pd.DataFrame(PAIRS, columns=["lon", "lat"]).assign(label=list("abc"))
    match suffix:
        case "csv":
            table.to_csv(path, index=False)
        case "tsv":
            table.to_csv(path, index=False, sep="\t")
        case "pq":
            table.to_parquet(path)
        case "parquet":
            frame().to_parquet(path)
        case _:
            frame().to_file(path)
    array, attributes = read_points_file(path)
    np.testing.assert_allclose(array, PAIRS, rtol=0, atol=1e-12)
    assert attributes["label"].tolist() == list("abc")


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_points_file(tmp_path / "absent.geojson")
    for name in ("bad.geojson", "bad.gpkg", "bad.parquet", "bad.csv"):
        (tmp_path / name).write_bytes(b"\x00\x01 rubbish")
        with pytest.raises(InputError, match=name):
            read_points_file(tmp_path / name)
    polygons = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": polygons}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (tmp_path / "polygons.geojson").write_text(text)
    with pytest.raises(InputError, match=r"polygons\.geojson: geometry 0 must be a Point"):
        read_points_file(tmp_path / "polygons.geojson")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        ("a,10.0,23.95,83.66\n", "line 2 has 4 fields, but there are 3 columns"),
        ("a,23.95,83.66,\nb,10.0,23.95,83.66\n", "line 3 has 4 fields"),
        ("a,23.95,83.66\nb,10.0,23.95,83.66\n", "line 3"),
        ("a,23.95,83.66,,\n", "line 2 has 5 fields"),
    ],
)
def test_a_row_with_too_many_fields_is_named(tmp_path, suffix, rows, fragment):
    # Else its first field would become an index, and 10.0 a longitude.
    path = tmp_path / f"points.{suffix}"
    text = "name,lon,lat\n" + rows
    path.write_text(text if suffix == "csv" else text.replace(",", "\t"))
    with pytest.raises(InputError, match=rf"points\.{suffix}.*{fragment}"):
        read_points_file(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_separator_at_the_end_moves_nothing(tmp_path, suffix):
    path = tmp_path / f"points.{suffix}"
    text = "name,lon,lat\na,10.0,23.95,\nb,11.0,24.05\n"
    path.write_text(text if suffix == "csv" else text.replace(",", "\t"))
    array, table = read_points_file(path)
    assert array.tolist() == [[10.0, 23.95], [11.0, 24.05]]
    assert table["name"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("empty.csv", lambda path: path.write_text("")),
        ("empty.txt", lambda path: path.write_text("")),
        ("blank.txt", lambda path: path.write_text("\n\n")),
        ("wkb.parquet", lambda path: geoparquet(path, [b"\x01\xff\xff"])),
        ("number.parquet", lambda path: geoparquet(path, [5])),
        ("column.parquet", lambda path: geoparquet(path, geo={"columns": {"geometry": None}})),
        ("columns.parquet", lambda path: geoparquet(path, geo={"columns": []})),
        ("primary.parquet", lambda path: geoparquet(path, geo={"primary_column": 1})),
        ("null.parquet", lambda path: geoparquet(path, geo=None)),
    ],
)
def test_damaged_files_are_named(tmp_path, name, make):
    path = tmp_path / name
    make(path)
    for read in (read_points_file, read_region_file):
        with pytest.raises(InputError, match=re.escape(name)):
            read(path)


def geoparquet(path, geometry=None, geo=()):
    """Write GeoParquet of one point, with other geometries or metadata."""
    frame()[:1].to_parquet(path)
    table = pq.read_table(path)
    if geometry is not None:
        column = table.schema.get_field_index("geometry")
        table = table.set_column(column, "geometry", pa.array(geometry))
    metadata = json.loads(table.schema.metadata[b"geo"])
    metadata = None if geo is None else metadata | dict(geo)
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(metadata)}), path)
