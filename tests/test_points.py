"""All the forms in which points come, against what they say."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from geotessera import inputs
from geotessera.errors import InputError
from geotessera.points import parse_points, read_points_file

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
        [shapely.Point(p) for p in PAIRS],
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
        (frame(crs=None), "CRS"),
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
