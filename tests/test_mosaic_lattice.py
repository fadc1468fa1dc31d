"""Control grids, against PROJ's transformation of every pixel centre."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pyproj import Transformer

from geotessera.mosaic.lattices import FIRST_STEP, SQUARE, TOLERANCE, lattice_of
from geotessera.types import GridSpec, Lattice, Window
from mosaic_world import centres

LAEA_SOUTH = "+proj=laea +lat_0=-25 +lon_0=135 +ellps=GRS80"


def interpolated(lattice: Lattice, window: Window) -> np.ndarray:
    """x and y of a window's pixel centres, as the kernel's contract says."""
    rows = window.row + np.arange(window.height) + 0.5
    cols = window.col + np.arange(window.width) + 0.5
    at = []
    for places, first in ((rows, lattice.row), (cols, lattice.col)):
        node = np.floor((places - first) / lattice.step).astype(int)
        at.append((node, ((places - first) / lattice.step - node)))
    (i, down), (j, right) = at
    down, right = down[:, None, None], right[None, :, None]
    n = lattice.nodes
    above = n[i][:, j] * (1 - right) + n[i][:, j + 1] * right
    below = n[i + 1][:, j] * (1 - right) + n[i + 1][:, j + 1] * right
    return above * (1 - down) + below * down


def grid_at(crs: str | int, lon: float, lat: float, size: int, pixel: float = 10.0) -> GridSpec:
    """A grid of `size` pixels round a place."""
    from geotessera.mosaic import crs_code

    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    half = size * pixel / 2
    return GridSpec(crs_code(crs), (pixel, 0.0, x - half, 0.0, -pixel, y + half), size, size)


def error(grid: GridSpec, row: int, col: int, code: int | str, pixel: float) -> float:
    """The largest error of a square's lattice at its pixels' centres, in pixels."""
    lattice = lattice_of(grid, row, col, code, (pixel, pixel))
    height, width = min(SQUARE, grid.height - row), min(SQUARE, grid.width - col)
    window = Window(row, col, height, width)
    x, y = centres(grid.window(window))
    name = code if isinstance(code, str) else f"EPSG:{code}"
    x, y = Transformer.from_crs(grid.crs_name, name, always_xy=True).transform(x, y)
    off = np.abs(interpolated(lattice, window) - np.stack([x, y], axis=-1))
    return float(off.max()) / pixel


@pytest.mark.parametrize(
    ("crs", "place", "code"),
    [
        ("EPSG:3035", (10.0, 52.0), 32632),
        ("EPSG:3035", (-9.5, 38.5), 32629),
        ("EPSG:27700", (-0.15, 51.45), 32630),
        ("EPSG:27700", (-5.9, 57.2), 32629),
        ("EPSG:3413", (23.95, 70.95), 32634),
        ("EPSG:3413", (-45.0, 83.5), 32623),
        ("EPSG:3031", (140.0, -75.0), 32754),
        (LAEA_SOUTH, (146.5, -42.5), 32755),
        (LAEA_SOUTH, (146.5, -42.5), 4326),
        ("EPSG:32632", (10.0, 52.0), 3035),
    ],
)
def test_positions_are_right_to_the_tolerance(
    crs: str, place: tuple[float, float], code: int
) -> None:
    grid = grid_at(crs, *place, 700)
    pixel = 1e-4 if code == 4326 else 10.0
    for row, col in ((0, 0), (SQUARE, SQUARE), (0, SQUARE)):
        assert error(grid, row, col, code, pixel) <= TOLERANCE


def test_the_contract_s_tenth_of_a_pixel_is_kept_by_far() -> None:
    assert TOLERANCE <= 0.1


def test_a_lattice_is_refined_where_the_earth_curves() -> None:
    coarse = grid_at("EPSG:3413", 23.95, 70.95, 512, pixel=1000.0)
    lattice = lattice_of(coarse, 0, 0, 32634, (10.0, 10.0))
    assert lattice.step < FIRST_STEP
    assert error(coarse, 0, 0, 32634, 10.0) <= (TOLERANCE if lattice.step > 1 else 100)
    fine = lattice_of(grid_at("EPSG:3413", 23.95, 70.95, 512), 0, 0, 32634, (10.0, 10.0))
    assert fine.step == FIRST_STEP


def test_nodes_are_anchored_at_the_first_pixel() -> None:
    grid = grid_at("EPSG:3035", 10.0, 52.0, 1200)
    lattice = lattice_of(grid, 512, 1024, 32632, (10.0, 10.0))
    assert (lattice.row, lattice.col) == (512, 1024)
    a, _, left, _, e, top = grid.transform
    corner = Transformer.from_crs(3035, 32632, always_xy=True).transform(
        left + a * (1024 + lattice.step), top + e * (512 + 2 * lattice.step)
    )
    np.testing.assert_allclose(lattice.nodes[2, 1], corner, rtol=0, atol=1e-6)
    # The last square ends with the grid, give or take a step.
    assert (lattice.nodes.shape[1] - 1) * lattice.step == 192


def test_longitudes_go_on_across_the_antimeridian() -> None:
    grid = grid_at("EPSG:3832", 180.0, -17.0, 512)
    lon = lattice_of(grid, 0, 0, 4326).nodes[..., 0]
    assert np.ptp(lon) < 0.1
    assert abs(abs(lon.mean()) - 180) < 0.1


def test_places_without_coordinates_are_nan_and_their_neighbours_are_not() -> None:
    # The edge of the hemisphere that an orthographic view shows runs through this square.
    grid = grid_at("+proj=ortho +lat_0=0 +lon_0=0", 0.0, 0.0, 512, pixel=26000.0)
    lattice = lattice_of(grid, 0, 0, 4326)
    assert lattice.step == 1
    window = Window(0, 0, 512, 512)
    found = interpolated(lattice, window)
    x, y = centres(grid)
    lon, _ = Transformer.from_crs(grid.crs_name, 4326, always_xy=True).transform(x, y)
    known = np.isfinite(lon)
    assert 0.5 < known.mean() < 0.9
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[..., 0])[known].mean() > 0.98


def test_threads_get_the_same_lattices() -> None:
    grid = grid_at("EPSG:27700", -0.15, 51.45, 2048)
    wanted = [(row, col) for row in range(0, 2048, 512) for col in range(0, 2048, 512)]
    lattice_of.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: lattice_of(grid, *at, 32630, (10.0, 10.0)), wanted))
    lattice_of.cache_clear()
    for at, lattice in zip(wanted, found, strict=True):
        again = lattice_of(grid, *at, 32630, (10.0, 10.0))
        assert (again.row, again.col, again.step) == (lattice.row, lattice.col, lattice.step)
        assert np.array_equal(again.nodes, lattice.nodes)
