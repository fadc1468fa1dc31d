"""`project` and `unproject` against PROJ."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotessera._native import project, unproject

MICROMETRE = 1e-6


def transformer(epsg: int) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(4326, epsg, always_xy=True)


def ground(lon: np.ndarray, lat: np.ndarray, lon2: np.ndarray, lat2: np.ndarray) -> np.ndarray:
    """Distance on the ground of two near places, metres (a sphere is close enough)."""
    east = (lon - lon2 + 180) % 360 - 180
    return 6378137 * np.radians(np.hypot(east * np.cos(np.radians(lat)), lat - lat2))


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize("zone", range(1, 61))
def test_every_zone_is_proj_within_a_micrometre_both_ways(zone: int, south: bool) -> None:
    epsg = (32700 if south else 32600) + zone
    rng = np.random.default_rng(epsg)
    east = np.concatenate([rng.uniform(-6, 6, 400), [-3, 3, 0, -6, 6, 3.1, -3.1]])
    lon = (6 * zone - 183 + east + 180) % 360 - 180
    lat = np.concatenate([rng.uniform(-84, 84, 400), [0, 84, -84, 72.05, 0.05, -0.05, 60]])
    x, y = project(lon, lat, epsg)
    proj = transformer(epsg)
    px, py = proj.transform(lon, lat)
    assert max(np.abs(x - px).max(), np.abs(y - py).max()) < MICROMETRE
    lon2, lat2 = unproject(px, py, epsg)
    plon, plat = proj.transform(px, py, direction="INVERSE")
    assert ground(lon2, lat2, plon, plat).max() < MICROMETRE
    assert ground(lon2, lat2, lon, lat).max() < MICROMETRE
    assert np.abs(lon2).max() <= 180


def test_far_from_the_zone_is_still_proj() -> None:
    rng = np.random.default_rng(0)
    lon, lat = 3 + rng.uniform(-35, 35, 2000), rng.uniform(-89.9, 89.9, 2000)
    x, y = project(lon, lat, 32631)
    px, py = transformer(32631).transform(lon, lat)
    assert max(np.abs(x - px).max(), np.abs(y - py).max()) < MICROMETRE


def test_the_antimeridian_and_the_poles() -> None:
    lon = np.array([180, -180, 179.999, -179.999, 180.5, -180.5, 0.0, 123.0])
    lat = np.array([10, 10, 10, 10, -3, -3, 90.0, -90.0])
    for epsg in (32601, 32660, 32701, 32760):
        x, y = project(lon, lat, epsg)
        px, py = transformer(epsg).transform(lon, lat)
        np.testing.assert_allclose(x, px, rtol=0, atol=MICROMETRE)
        np.testing.assert_allclose(y, py, rtol=0, atol=MICROMETRE)


@settings(max_examples=200, deadline=None)
@given(st.floats(-180, 180), st.floats(-85, 85))
def test_web_mercator_is_proj(lon: float, lat: float) -> None:
    x, y = project(np.array([lon]), np.array([lat]), 3857)
    px, py = transformer(3857).transform(lon, lat)
    assert abs(x[0] - px) < MICROMETRE
    assert abs(y[0] - py) < MICROMETRE
    lon2, lat2 = unproject(x, y, 3857)
    assert ground(lon2, lat2, np.array([lon]), np.array([lat]))[0] < MICROMETRE


def test_geographic_stays() -> None:
    lon, lat = np.array([-200.0, 0.1, 180.0]), np.array([-90.0, 12.3, 90.0])
    for function in (project, unproject):
        x, y = function(lon, lat, 4326)
        np.testing.assert_array_equal(x, lon)
        np.testing.assert_array_equal(y, lat)


@pytest.mark.parametrize("epsg", [32631, 32760, 4326, 3857])
def test_what_is_not_finite_becomes_nan(epsg: int) -> None:
    bad = np.array([np.nan, 0, np.inf, 0, -np.inf, 0])
    other = np.array([0, np.nan, 0, np.inf, 0, -np.inf])
    for function in (project, unproject):
        x, y = function(bad, other, epsg)
        assert np.isnan(x).all()
        assert np.isnan(y).all()
    x, y = project(np.zeros(2), np.array([90.0001, -1e300]), epsg)
    assert np.isnan(x).all()
    assert np.isnan(y).all()


def test_strided_and_empty_arrays() -> None:
    rng = np.random.default_rng(1)
    table = np.column_stack([rng.uniform(0, 6, 9000), rng.uniform(40, 60, 9000)])
    whole = project(table[:, 0].copy(), table[:, 1].copy(), 32631)
    views = project(table[::-3, 0], table[::-3, 1], 32631)
    for found, expected in zip(views, whole, strict=True):
        np.testing.assert_array_equal(found, expected[::-3])
    x, y = project(np.empty(0), np.empty(0), 32631)
    assert x.shape == y.shape == (0,)


@pytest.mark.parametrize("epsg", [0, -5, 32600, 32661, 32761, 27700, 2**40])
def test_unknown_systems_are_named(epsg: int) -> None:
    with pytest.raises(ValueError, match=f"EPSG:{epsg} is not"):
        project(np.zeros(1), np.zeros(1), epsg)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="shape"):
        project(np.zeros(2), np.zeros(3), 4326)
    with pytest.raises(ValueError, match="dimensions"):
        project(np.zeros((2, 2)), np.zeros((2, 2)), 4326)
    with pytest.raises(TypeError, match="float64"):
        project(np.zeros(2, np.float32), np.zeros(2), 4326)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="NumPy array"):
        project([1.0], [2.0], 4326)  # type: ignore[arg-type]
