"""Outlines on grids, against shapely's answer for every pixel centre."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from geotessera.errors import InputError
from geotessera.mosaic.clip import covers_nothing, inside, outline_in
from geotessera.mosaic.grids import crs_code, grid_of_bounds, project_bbox
from geotessera.regions import Region
from geotessera.types import GridSpec, Window
from mosaic_world import centres


def all_of(grid: GridSpec) -> Window:
    return Window(0, 0, grid.height, grid.width)


def lonlat(grid: GridSpec) -> tuple[np.ndarray, np.ndarray]:
    x, y = centres(grid)
    if grid.epsg == 4326:
        return x, y
    return Transformer.from_crs(grid.crs_name, 4326, always_xy=True).transform(x, y)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32760", "EPSG:3031", "EPSG:3832"])
def test_outlines_cross_the_antimeridian(crs: str) -> None:
    # A disc of 0.4° round (180, -17), cut at the antimeridian as regions are.
    disc = shapely.Point(180, -17).buffer(0.4)
    region = Region.from_geometry(disc)
    code = crs_code(crs)
    pixel = 0.01 if crs == "EPSG:4326" else 1000
    grid = grid_of_bounds(code, project_bbox(region.bbox, code), pixel)
    assert region.geometry is not None
    outline = outline_in(region.geometry, grid)
    lon, lat = lonlat(grid)
    expected = shapely.contains_xy(disc, lon % 360, lat)
    doubt = shapely.distance(disc.exterior, shapely.points(lon % 360, lat)) < 1e-4
    found = inside(outline, grid, all_of(grid))
    assert found is not None
    assert 0.3 < expected.mean() < 0.9
    assert np.array_equal(found[~doubt], expected[~doubt])


def test_an_outline_round_the_whole_globe_is_on_every_grid() -> None:
    antarctica = shapely.box(-180, -90, 180, -60)
    for left in (-180.0, 170.0, 350.0):
        grid = GridSpec(4326, (0.5, 0.0, left, 0.0, -0.5, -50.0), 40, 40)
        found = inside(outline_in(antarctica, grid), grid, all_of(grid))
        assert found is not None
        assert not found[:20].any()
        assert found[20:].all()


def test_windows_are_told_at_once_where_they_can_be() -> None:
    grid = GridSpec(32631, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 1000, 1000)
    square = shapely.box(1000, -9000, 9000, -1000)
    assert covers_nothing(square, grid, Window(0, 0, 99, 1000))
    assert not covers_nothing(square, grid, Window(0, 0, 101, 1000))
    assert inside(square, grid, Window(100, 100, 800, 800)) is None
    part = inside(square, grid, Window(90, 95, 30, 40))
    assert part is not None
    rows, cols = np.indices((30, 40))
    assert np.array_equal(part, (rows >= 10) & (cols >= 5))


def test_windows_do_not_change_what_is_inside() -> None:
    grid = GridSpec(32631, (10.0, 0.0, 300000.0, 0.0, -10.0, 5790000.0), 300, 400)
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radius = rng.uniform(500, 1400, 40)
    shape = shapely.Polygon(
        np.c_[302000 + radius * np.cos(angle), 5788500 + radius * np.sin(angle)]
    ).difference(shapely.Point(302000, 5788500).buffer(200))
    expected = shapely.contains_xy(shape, *centres(grid))
    assert 0.1 < expected.mean() < 0.5
    for height, width in ((300, 400), (37, 91)):
        for row in range(0, 300, height):
            for col in range(0, 400, width):
                window = Window(row, col, min(height, 300 - row), min(width, 400 - col))
                part = expected[row : row + window.height, col : col + window.width]
                found = inside(shape, grid, window)
                assert np.array_equal(np.ones_like(part) if found is None else found, part)
                assert not (covers_nothing(shape, grid, window) and part.any())


def test_far_parts_of_an_outline_do_not_matter() -> None:
    # UTM has no place for the other side of the globe.
    russia = shapely.union_all([shapely.box(27, 50, 180, 70), shapely.box(-180, 60, -169, 70)])
    grid = GridSpec(32637, (1000.0, 0.0, 300000.0, 0.0, -1000.0, 5600000.0), 100, 100)
    found = inside(outline_in(russia, grid), grid, all_of(grid))
    assert found is not None
    _, lat = lonlat(grid)
    sure = np.abs(lat - 50) > 1e-5
    assert np.array_equal(found[sure], (lat > 50)[sure])
    assert 0.3 < found.mean() < 0.7
    none = outline_in(shapely.box(-100, 30, -90, 40), grid)
    assert covers_nothing(none, grid, all_of(grid))


def test_an_outline_without_a_place_is_refused() -> None:
    # A view of one hemisphere, and space around it.
    view = crs_code("+proj=ortho +lat_0=0 +lon_0=0")
    grid = GridSpec(view, (1e5, 0.0, -7e6, 0.0, -1e5, 7e6), 140, 140)
    with pytest.raises(InputError, match="no place"):
        outline_in(shapely.box(170, 0, 175, 5), grid)


THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np, shapely
from geotessera.mosaic.clip import covers_nothing, inside
from geotessera.types import GridSpec, Window

grid = GridSpec(3035, (10.0, 0.0, 4e6, 0.0, -10.0, 3e6), 512, 512)
turn = np.linspace(0, 2 * np.pi, 400)
reach = 2000 + 400 * np.sin(40 * turn)
outline = shapely.Polygon(
    np.c_[4_002_500 + reach * np.cos(turn), 2_997_500 + reach * np.sin(turn)]
)
windows = [Window(row, col, 64, 64) for row in range(0, 512, 64) for col in range(0, 512, 64)]

def count(window):
    if covers_nothing(outline, grid, window):
        return 0
    mask = inside(outline, grid, window)
    return 64 * 64 if mask is None else int(mask.sum())

expected = [count(window) for window in windows]
with ThreadPoolExecutor(16) as pool:
    for _ in range(100):
        assert list(pool.map(count, windows)) == expected
"""


def test_threads_ask_one_outline() -> None:
    # In a process of its own: unguarded, GEOS crashes.
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
