"""Rasters that are moved onto a mosaic's grid: by less than half a pixel, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotessera.mosaic import MosaicPlan, MosaicRaster
from geotessera.mosaic.placement import on_whole_pixels
from geotessera.sources import GeoTiff
from geotessera.types import GridSpec

GRID = GridSpec(32635, (10.0, 0.0, 463045.834243989, 0.0, -10.0, 9293316.653810399), 600, 700)


def moved(raster: GridSpec, grid: GridSpec = GRID) -> GridSpec:
    rasters = [MosaicRaster(GeoTiff(Path("a.tif")), raster, 4)]
    return on_whole_pixels(MosaicPlan.of(grid, rasters, method="bilinear")).rasters[0].grid


@given(st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_nearest_whole_pixel(right: float, down: float) -> None:
    _, _, left, _, _, top = GRID.transform
    raster = GridSpec(32635, (10.0, 0.0, left + right, 0.0, -10.0, top + down), 900, 900)
    found = moved(raster)
    assert (found.epsg, found.height, found.width) == (32635, 900, 900)
    for axis, origin in ((2, left), (5, top)):
        pixels = (found.transform[axis] - origin) / 10
        assert pixels == pytest.approx(round(pixels), abs=1e-9)
        assert abs(found.transform[axis] - raster.transform[axis]) <= 5 + 1e-6
    assert moved(found) == found


@pytest.mark.parametrize(
    "raster",
    [
        GridSpec(32634, (10.0, 0.0, 537101.0, 0.0, -10.0, 9293447.0), 900, 900),
        GridSpec(32635, (10.00001, 0.0, 463001.0, 0.0, -10.0, 9293317.0), 900, 900),
        GridSpec(32635, (5.0, 0.0, 463001.0, 0.0, -5.0, 9293317.0), 900, 900),
    ],
)
def test_others_stay(raster: GridSpec) -> None:
    assert moved(raster) == raster


def test_a_turn_of_the_globe_is_no_shift() -> None:
    grid = GridSpec(4326, (0.1, 0.0, 179.0, 0.0, -0.1, 10.0), 50, 50)
    raster = GridSpec(4326, (0.1, 0.0, -180.03, 0.0, -0.1, 10.0), 50, 50)
    assert moved(raster, grid) == raster
