"""Outlines in projected CRSs, on the globe: against PROJ, point by point."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Transformer

from geotessera.errors import InputError
from geotessera.regions import Region

HOLED = shapely.Polygon(
    shapely.box(-6e5, -6e5, 6e5, 6e5).exterior, [shapely.box(-2e5, -2e5, 2e5, 2e5).exterior]
)


@pytest.mark.parametrize(
    ("crs", "outline"),
    [
        (32601, shapely.box(1e5, 5e6, 3e5, 5.1e6)),  # UTM on both sides of ±180°
        (32660, shapely.box(6e5, 5e6, 9e5, 5.1e6)),
        (32760, shapely.Point(8.5e5, 8.1e6).buffer(2e5)),
        (2193, shapely.box(1.0e6, 4.7e6, 3.2e6, 6.2e6)),  # New Zealand and the Chathams
        (3832, shapely.box(2.5e6, -2e6, 4.5e6, 1e6)),  # PDC Mercator, about 150° E
        (3576, shapely.box(-1e6, -3e6, 2e6, 5e5)),  # LAEA, with the pole, off its middle
        (3995, shapely.box(-1e5, -1e5, 1e5, 1e5)),  # round the pole
        (3031, HOLED),  # a ring round the pole
        (3995, shapely.box(-2e6, 1e6, 2e6, 2e6)),  # beside it, across ±180°
        (3995, shapely.MultiPolygon([HOLED, shapely.box(-5e4, -5e4, 5e4, 5e4)])),
        (3035, shapely.box(2.5e6, 1.4e6, 6.5e6, 5.4e6)),  # long edges far from ±180°
        (2263, shapely.box(9e5, 1.2e5, 1.1e6, 2.7e5)),  # in feet
        (3857, shapely.box(-2.0037508e7, -1e7, 2.0037508e7, 1e7)),
    ],
)
def test_projected_outlines_hold_the_points_that_they_hold(
    crs: int, outline: shapely.Geometry
) -> None:
    region = Region.of(gpd.GeoDataFrame(geometry=[outline], crs=crs))
    rng = np.random.default_rng(crs)
    lon = rng.uniform(-180, 180, 40_000)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 40_000)))
    # And as many about the outline.
    to_degrees = Transformer.from_crs(crs, 4326, always_xy=True)
    west, south, east, north = outline.buffer(outline.length / 20).bounds
    near = to_degrees.transform(
        rng.uniform(west, east, 40_000), rng.uniform(south, north, 40_000), errcheck=False
    )
    lon, lat = np.concatenate([lon, near[0]]), np.concatenate([lat, near[1]])
    there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lon) < 180)
    lon, lat = lon[there], lat[there]
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat, errcheck=False)
    back = to_degrees.transform(x, y, errcheck=False)
    good = np.isfinite(x) & np.isfinite(y)  # and where the CRS has one place for one
    good &= np.abs(np.where(good, back[1], 0) - lat) < 1e-6
    x, y, lon, lat = x[good], y[good], lon[good], lat[good]
    # Edges are metres off between points that are 10 km apart or a thousandth of all.
    scale = max(outline.bounds[2] - outline.bounds[0], outline.bounds[3] - outline.bounds[1])
    clear = shapely.distance(outline.boundary, shapely.points(x, y)) > 100 + scale / 1000
    expected = shapely.contains_xy(outline, x, y)
    found = shapely.contains_xy(region.geometry, lon, lat)
    assert expected[clear].sum() > 100
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_lines_and_points_across_the_antimeridian() -> None:
    line = shapely.LineString([(5e5, 5e6), (1e6, 5e6)])
    region = Region.of(gpd.GeoDataFrame(geometry=[line, shapely.Point(5e5, 5e6)], crs=32660))
    tiles = [(2024, round(lon / 100, 2), 45.15) for lon in range(-17995, 18000, 10)]
    chosen = {tile.lon for tile in region.select(tiles)}
    assert chosen
    assert all(lon > 176.9 or lon < -176 for lon in chosen)
    assert {179.95, -179.95} <= chosen


def test_outlines_that_geos_cannot_take() -> None:
    broken = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    shifted = shapely.transform(broken, lambda xy: xy + 0.3)
    frame = gpd.GeoDataFrame(geometry=[broken, shifted], crs=4326)
    assert Region.of(frame).bbox == pytest.approx((0, 0, 1.3, 1.3))
    with np.errstate(invalid="ignore"):
        nan = shapely.from_wkt("POLYGON ((0 0, 1 NaN, 1 1, 0 0))")
    with pytest.raises(InputError, match=r"outline|degrees"):
        Region.of(nan)
    with pytest.raises(InputError, match=r"outline|degrees"):
        Region.of(gpd.GeoDataFrame(geometry=[nan], crs=4326))
