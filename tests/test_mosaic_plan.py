"""Plans of mosaics: grids, precedence, what may be put together, what is said about it."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geotessera.errors import BandError, DatasetMismatchError, EmptySelectionError, InputError
from geotessera.grid import tile_footprint
from geotessera.mosaic import (
    MosaicRaster,
    crs_code,
    grid_around,
    grid_like,
    grid_of_bounds,
    plan_files,
    plan_like,
    plan_region,
    project_bbox,
)
from geotessera.mosaic.reach import reach_of, source_window
from geotessera.sources import GeoTiff, NpyTile
from geotessera.types import GridSpec, Provenance, Window
from mosaic_world import make_tile, pixel_positions


def tile(
    lon: float, lat: float, *, bands: int = 128, year: int | None = 2024, **changes: Any
) -> MosaicRaster:
    """A tile as a plan knows it; no file is behind it."""
    name = f"grid_{lon:.2f}_{lat:.2f}"
    raster = MosaicRaster(
        NpyTile(f"{name}.npy", f"{name}_scales.npy", f"{name}.tiff"),
        tile_footprint(lon, lat),
        bands,
        (round(lon * 10 - 0.5), round(lat * 10 - 0.5)),
        Provenance("1.1", "cambridge", year),
        identity="tile",
    )
    return replace(raster, **changes)


CAMBRIDGE = [tile(lon, lat) for lon in (0.05, 0.15, 0.25) for lat in (52.15, 52.25)]
BOX = (0.06, 52.16, 0.14, 52.24)

# What geotessera 0.11.0 makes of BOX and six tiles with the footprints of CAMBRIDGE:
# rows, columns, pixel, left and top.
UPSTREAM = {
    "EPSG:4326": (718, 718, 0.00011146069649492588, 0.06, 52.24),
    "EPSG:32631": (911, 582, 10.0, 298909.53933200694, 5791805.300401844),
    "EPSG:32630": (913, 585, 10.000344317198609, 708920.6175544047, 5792378.487155822),
    "EPSG:3857": (892, 547, 16.289434684188016, 6679.169447596413, 6843637.40704008),
    "EPSG:3035": (957, 662, 10.0040745112593, 3643214.59309768, 3282987.2988616996),
    "EPSG:27700": (906, 573, 9.997708952464853, 540756.1145792742, 262358.53747568716),
}

# What its merge makes of three tiles: rows and columns, first and last tile first.
MERGED = {
    "EPSG:32631": ((2251, 1455), (2251, 1455)),
    "EPSG:32630": ((2337, 1506), (2336, 1506)),
    "EPSG:3857": ((2285, 1457), (2281, 1453)),
    "EPSG:4326": ((1838, 1912), (1840, 1912)),
    "EPSG:3035": ((2309, 1660), (2309, 1660)),
}


# --- Grids -----------------------------------------------------------------------------


@pytest.mark.parametrize("crs", UPSTREAM)
def test_a_box_makes_upstreams_grid(crs: str) -> None:
    grid = plan_region(CAMBRIDGE[::-1], BOX, crs).grid
    height, width, pixel, left, top = UPSTREAM[crs]
    assert (grid.height, grid.width) == (height, width)
    assert grid.epsg_or_wkt == int(crs[5:])
    expected = (pixel, 0, left, 0, -pixel, top)
    # Another release of PROJ or GDAL may move a corner by a micrometre.
    assert grid.transform == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("crs", MERGED)
def test_files_make_upstreams_grid(crs: str) -> None:
    grids = [tile_footprint(*at) for at in ((0.05, 52.15), (0.15, 52.15), (0.15, 52.25))]
    for order, shape in zip((grids, grids[::-1]), MERGED[crs], strict=True):
        grid = grid_around(order, crs_code(crs))
        assert (grid.height, grid.width) == shape


def test_the_first_tile_that_shares_an_area_gives_the_resolution() -> None:
    # (0.05, 52.15) comes first, but only touches the box; (0.15, 52.15) touches it too.
    grid = plan_region(CAMBRIDGE, (0.1, 52.2, 0.2, 52.3), "EPSG:3857").grid
    alone = plan_region([tile(0.15, 52.25)], (0.1, 52.2, 0.2, 52.3), "EPSG:3857").grid
    assert grid == alone
    other = plan_region([tile(0.15, 52.15)], (0.1, 52.2, 0.2, 52.3), "EPSG:3857").grid
    assert grid.transform[0] != other.transform[0]


@pytest.mark.parametrize(
    ("box", "crs"),
    [
        ((-180, -90, 180, 90), 32631),  # its edges are a line of 334 km there
        ((-180, -60, 180, 75), 32660),
        ((-180, -90, 180, 90), 27700),
    ],
)
def test_boxes_that_a_crs_has_no_place_for_are_refused(box: tuple[float, ...], crs: int) -> None:
    with pytest.raises(InputError, match="too far round the globe for EPSG"):
        project_bbox(box, crs)


@pytest.mark.parametrize(
    ("box", "crs"),
    [
        ((-180, 60, 180, 90), 3995),
        ((-180, -90, 180, -60), 3031),
        ((-180, -90, 180, 90), 4326),
        ((-180, -85, 180, 85), 3857),
        ((-125, 24, -66, 50), 5070),
        ((-125, 24, -66, 50), 32614),
        ((19, 41, -169, 82), 3576),
        ((-32, 34, 45, 72), 3035),
        ((166, -48, -176, -34), 2193),
        ((-76, -56, -66, -17), 32719),
    ],
)
def test_bounds_of_a_box_hold_what_is_in_it(box: tuple[float, ...], crs: int) -> None:
    west, south, east, north = box
    lon = np.linspace(west, east + 360 * (west > east), 60)
    lat = np.linspace(south, north, 50)
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(*np.meshgrid(lon, lat))
    if crs in (4326, 3857):
        x = np.meshgrid(lon, lat)[0] * (20037508.342789244 / 180 if crs == 3857 else 1)
    left, bottom, right, top = project_bbox(box, crs)
    slack = 0.01 * max(right - left, top - bottom)
    assert left - slack < x.min() < x.max() < right + slack
    assert bottom - slack < y.min() < y.max() < top + slack


def test_resolution_and_alignment() -> None:
    grid = plan_region(CAMBRIDGE, BOX, 32631, resolution=(20, 40), align=True).grid
    left, bottom, right, top = project_bbox(BOX, 32631)
    assert (grid.transform[0], grid.transform[4]) == (20, -40)
    assert grid.bounds == (
        math.floor(left / 20) * 20,
        math.floor(bottom / 40) * 40,
        math.ceil(right / 20) * 20,
        math.ceil(top / 40) * 40,
    )
    assert grid_of_bounds(32631, (20.0, 40.0, 60.0, 80.0), 20, align=True).bounds == (
        20,
        40,
        60,
        80,
    )
    assert grid_of_bounds(4326, (0.1, 0.2, 0.3, 0.4), 0.1, align=True).width == 2
    tiny = grid_of_bounds(32631, (0.0, 0.0, 1.0, 1.0), 10)
    assert (tiny.height, tiny.width) == (1, 1)
    for resolution in (0, -1, math.nan, math.inf, (10,), "ten"):
        with pytest.raises(InputError, match="resolution"):
            plan_region(CAMBRIDGE, BOX, 4326, resolution=resolution)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="units of the CRS"):
        plan_region(CAMBRIDGE, BOX, "EPSG:3857", resolution=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32760", "EPSG:3832", "EPSG:3031"])
def test_boxes_cross_the_antimeridian(crs: str) -> None:
    pair = [tile(179.95, -17.05), tile(-179.95, -17.05)]
    plan = plan_region(pair, (179.93, -17.09, -179.96, -17.02), crs)
    # Every kilometre or so along the box's edges, longitudes going on beyond 180.
    lon, lat = np.linspace(179.93, 180.04, 12), np.linspace(-17.09, -17.02, 12)
    lon, lat = (axis.ravel() for axis in np.meshgrid(lon, lat))
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    if crs in ("EPSG:4326", "EPSG:3857"):
        x = lon * (1 if crs == "EPSG:4326" else 111319.49079327358)
    pixel = plan.grid.transform[0]
    expected = (x.min(), y.min(), x.max(), y.max())
    assert plan.grid.bounds == pytest.approx(expected, rel=0, abs=pixel)
    assert len(plan.rasters) == 2


def test_a_crs_that_is_cut_at_the_antimeridian_is_refused() -> None:
    pair = [tile(179.95, -17.05), tile(-179.95, -17.05)]
    with pytest.raises(InputError, match="cut"):
        plan_region(pair, (179.93, -17.09, -179.96, -17.02), "+proj=eqearth +datum=WGS84")


def test_the_resolution_of_a_tile_on_the_antimeridian_is_a_usual_one() -> None:
    # A tile's raster reaches across ±180°, which GDAL takes for the whole globe.
    for lon in (179.95, -179.95):
        near = plan_region([tile(lon, -17.05)], (lon - 0.02, -17.06, lon + 0.02, -17.04), 4326)
        usual = plan_region([tile(3.05, -17.05)], (3.03, -17.06, 3.07, -17.04), 4326)
        assert near.grid.transform[0] == pytest.approx(usual.grid.transform[0], rel=0.02)


@pytest.mark.parametrize("west", [179.5, -180.5])
def test_geographic_rasters_on_the_antimeridian_make_usual_grids(west: float) -> None:
    raster = GridSpec(4326, (0.01, 0.0, west, 0.0, -0.01, 10.0), 100, 100)
    grid = grid_around([raster], 3857)
    assert (grid.height, grid.width) == pytest.approx((100, 100), abs=2)
    metres = 2 * math.pi * 6378137 / 360
    assert grid.bounds[0] == pytest.approx(west * metres, abs=10)
    # And back, from metres that go on beyond the edge of the map.
    again = grid_around([grid], 4326)
    assert again.bounds == pytest.approx(raster.bounds, abs=0.02)
    assert again.transform[0] == pytest.approx(0.01, rel=0.02)


def test_crs_by_any_name() -> None:
    wkt = CRS.from_epsg(3035).to_wkt()
    for crs in (3035, "3035", "EPSG:3035", "epsg:3035", wkt, CRS.from_epsg(3035),
                pyproj.CRS.from_epsg(3035)):  # fmt: skip
        assert crs_code(crs) == 3035
    custom = crs_code("+proj=laea +lat_0=-30 +lon_0=-60 +ellps=WGS84")
    assert isinstance(custom, str)
    assert CRS.from_wkt(custom).is_projected
    # Geocentric, vertical and local ones cannot be drawn as a map.
    for crs in ("EPSG:999999", "nonsense", -1, "", None, 4978, 5773, 'LOCAL_CS["here"]'):
        with pytest.raises(InputError, match="coordinate reference system"):
            crs_code(crs)


# --- Like something --------------------------------------------------------------------

LIKE = GridSpec(32631, (20.0, 0.0, 300000.0, 0.0, -20.0, 5790000.0), 40, 30)


@dataclass
class Box:
    """What odc-geo's GeoBox looks like from outside."""

    crs: Any
    affine: Any
    shape: tuple[int, int]


def test_like_a_grid_a_file_and_a_geobox(tmp_path: Path) -> None:
    path = tmp_path / "like.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 40, "width": 30}
    with rasterio.open(path, "w", crs=LIKE.crs, transform=LIKE.affine, **profile) as made:
        made.write(np.zeros((1, 40, 30), np.uint8))
    with rasterio.open(path) as dataset:
        for like in (
            LIKE,
            path,
            str(path),
            dataset,
            Box(pyproj.CRS.from_epsg(32631), LIKE.affine, (40, 30)),
        ):
            assert grid_like(like) == LIKE
            assert plan_region(CAMBRIDGE, BOX, like=like).grid == LIKE
            assert plan_like(CAMBRIDGE, like).grid == LIKE
    with pytest.raises(InputError, match="leave out crs, resolution"):
        plan_region(CAMBRIDGE, BOX, 4326, resolution=1, like=LIKE)


def test_like_xarray_objects() -> None:
    xarray = pytest.importorskip("xarray")
    x, y = 300010.0 + 20 * np.arange(30), 5789990.0 - 20 * np.arange(40)
    data = xarray.DataArray(np.zeros((40, 30)), coords={"y": y, "x": x}, dims=("y", "x"))
    rio = data.assign_coords(spatial_ref=0)
    rio.spatial_ref.attrs["crs_wkt"] = LIKE.crs.to_wkt()
    # What differences of coordinates lose, the transform beside them keeps.
    skewed = rio.assign_coords(x=x + 1e-7 * np.arange(30))
    skewed.spatial_ref.attrs["GeoTransform"] = "300000 20 0 5790000 0 -20"
    assert grid_like(skewed) == LIKE
    skewed.spatial_ref.attrs["GeoTransform"] = "0 20 0 0 0 -20"  # of another raster
    assert grid_like(skewed).bounds == pytest.approx(LIKE.bounds)
    plain = data.assign_attrs(crs="EPSG:32631")
    coded = data.assign_attrs({"proj:code": "EPSG:32631"})
    for like in (rio, plain, coded, rio.to_dataset(name="a")):
        assert grid_like(like) == LIKE
    degrees = xarray.DataArray(
        np.zeros((2, 3)), coords={"lat": [52.2, 52.1], "lon": [0.1, 0.2, 0.3]}, dims=("lat", "lon")
    )
    assert grid_like(degrees).epsg == 4326
    assert grid_like(degrees).bounds == pytest.approx((0.05, 52.05, 0.35, 52.25))
    for wrong, what in (
        (data, "declares no CRS"),
        (plain.isel(y=slice(None, None, -1)), "not north-up"),
        (plain.isel(x=[0, 1, 3]), "not evenly spaced"),
        (plain.isel(x=[0]), "at least 2"),
        (plain.drop_vars(["x", "y"]), "no one-dimensional coordinates"),
        (plain.isel(x=[0, 1]).assign_coords(x=["a", "b"]), "x of like= are no numbers"),
    ):
        with pytest.raises(InputError, match=what):
            grid_like(wrong)


def test_what_has_no_grid_is_refused(tmp_path: Path) -> None:
    for like in (7, object(), tmp_path / "absent.tif", Path(__file__)):
        with pytest.raises(InputError, match="like="):
            grid_like(like)
    turned = Box("EPSG:32631", rasterio.Affine(10, 1, 0, 1, -10, 0), (4, 4))
    with pytest.raises(InputError, match="not north-up"):
        grid_like(turned)
    for shape in ((0, 4), (4, 0)):
        empty = Box("EPSG:32631", rasterio.Affine(10, 0, 0, 0, -10, 0), shape)
        with pytest.raises(InputError, match="has no pixels"):
            grid_like(empty)


# --- Where rasters and windows lie ------------------------------------------------------

PLACES = st.sampled_from(
    [
        ((0.05, 52.15), 4326, 1.1e-4),
        ((0.05, 52.15), 3857, 16.0),
        ((0.05, 52.15), 32630, 10.0),
        ((0.05, 52.15), 27700, 10.0),
        ((0.05, 52.15), 3035, 25.0),
        ((23.95, 70.95), 3413, 10.0),
        ((140.05, -75.05), 3031, 10.0),
        ((-70.05, -45.05), 4326, 1e-3),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    PLACES,
    st.tuples(*[st.floats(-0.06, 0.06)] * 2),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_rectangles_are_never_too_small(
    place: tuple[tuple[float, float], int, float],
    off: tuple[float, float],
    height: int,
    width: int,
) -> None:
    (lon, lat), epsg, pixel = place
    raster = tile_footprint(lon, lat)
    x, y = project_bbox(
        (lon + off[0], lat + off[1], lon + off[0] + 1e-6, lat + off[1] + 1e-6), epsg
    )[:2]
    grid = GridSpec(epsg, (pixel, 0.0, x, 0.0, -pixel, y), height, width)
    u, v = pixel_positions(grid, raster)
    inside = (u >= 0) & (u < raster.width) & (v >= 0) & (v < raster.height)
    rows, cols = np.nonzero(inside)
    reach = reach_of(grid, raster)
    if not len(rows):
        return
    assert reach is not None
    assert reach.row <= rows.min()
    assert rows.max() < reach.row + reach.height
    assert reach.col <= cols.min()
    assert cols.max() < reach.col + reach.width
    needed = source_window(grid, reach, raster)
    assert needed is not None
    # Bilinear neighbours are a pixel further.
    for axis, first, count, size in (
        (u[inside], needed.col, needed.width, raster.width),
        (v[inside], needed.row, needed.height, raster.height),
    ):
        assert first <= max(math.floor(axis.min() - 0.5), 0)
        assert first + count >= min(math.floor(axis.max() - 0.5) + 2, size)


def test_rectangles_are_not_much_too_large() -> None:
    raster = tile_footprint(0.05, 52.15)
    for epsg, pixel in ((32631, 10.0), (32630, 10.0), (27700, 10.0)):
        grid = grid_of_bounds(epsg, project_bbox((0.05, 52.15, 0.06, 52.16), epsg), pixel)
        window = source_window(grid, Window(0, 0, grid.height, grid.width), raster)
        assert window is not None
        assert window.height < 1.1 * grid.height + 6
        assert window.width < 1.2 * grid.width + 6
        far = grid_of_bounds(epsg, project_bbox((0.15, 52.15, 0.16, 52.16), epsg), pixel)
        assert reach_of(far, raster) is None


def test_a_pole_within_a_grid_hides_nothing() -> None:
    arctic = grid_of_bounds(3413, (-2e6, -2e6, 2e6, 2e6), 5000)
    raster = GridSpec(4326, (0.1, 0.0, -180.0, 0.0, -0.1, 90.0), 400, 3600)
    window = source_window(arctic, Window(300, 300, 200, 200), raster)
    assert window is not None
    assert (window.row, window.width) == (0, 3600)
    assert reach_of(raster, arctic) is not None
    zone = grid_of_bounds(32631, (100_000, 9_500_000, 900_000, 10_400_000), 5000)
    window = source_window(zone, Window(0, 0, zone.height, zone.width), raster)
    assert window is not None
    assert (window.row, window.width) == (0, 3600)


@pytest.mark.parametrize("west", [-180.0, 0.0, -360.0])
def test_both_ends_of_a_globe_are_reached(west: float) -> None:
    globe = GridSpec(4326, (0.5, 0.0, west, 0.0, -0.5, 90.0), 360, 720)
    for left in (-180.0, 0.0, 170.0):
        grid = GridSpec(4326, (0.25, 0.0, left, 0.0, -0.25, 80.0), 500, 1440)
        for window in (Window(0, 0, 500, 1440), Window(100, 700, 64, 50), Window(9, 1, 3, 1200)):
            lon = left + 0.25 * (window.col + np.arange(window.width) + 0.5)
            u = ((lon - west) % 360) / 0.5
            found = source_window(grid, window, globe)
            assert found is not None
            assert found.col <= np.floor(u.min())
            assert found.col + found.width > u.max()
    # A fine globe, and a raster of which a sliver lies across its seam.
    fine = GridSpec(4326, (1e-4, 0.0, west, 0.0, -1e-4, 1.0), 20_000, 3_600_000)
    across = GridSpec(4326, (1e-4, 0.0, west + 360 - 0.1, 0.0, -1e-4, 0.5), 100, 1005)
    reach = reach_of(fine, across)
    assert reach is not None
    assert (reach.col, reach.width) == (0, fine.width)
    beside = replace(across, transform=(1e-4, 0.0, west + 350, 0.0, -1e-4, 0.5))
    reach = reach_of(fine, beside)
    assert reach is not None
    assert reach.width < 1100


def test_blocks_cover_the_grid_and_know_their_rasters() -> None:
    plan = plan_region(CAMBRIDGE, (0.01, 52.11, 0.29, 52.29), 32631, block=200)
    seen = np.zeros(plan.shape[:2], int)
    for window in plan.blocks():
        assert (window.row % 200, window.col % 200) == (0, 0)
        seen[window.row :, window.col :][: window.height, : window.width] += 1
    assert (seen == 1).all()
    assert plan.block_count == sum(1 for _ in plan.blocks())
    for window in list(plan.blocks())[::5]:
        grid = plan.grid.window(window)
        touching = set()
        for at, raster in enumerate(plan.rasters):
            u, v = pixel_positions(grid, raster.grid)
            if ((u >= 0) & (u < raster.grid.width) & (v >= 0) & (v < raster.grid.height)).any():
                touching.add(at)
        named = plan.rasters_of(window)
        assert touching <= set(named)
        assert list(named) == sorted(named)
    assert any(len(plan.rasters_of(window)) < 4 for window in plan.blocks())
    cut = list(plan.blocks(Window(150, 390, 100, 20)))
    assert cut == [Window(150, 390, 50, 10), Window(150, 400, 50, 10), Window(200, 390, 50, 10),
                   Window(200, 400, 50, 10)]  # fmt: skip


# --- What may be put together -----------------------------------------------------------


def test_tiles_come_by_longitude_and_latitude() -> None:
    plan = plan_region(CAMBRIDGE[::-1], (0.01, 52.11, 0.29, 52.29))
    assert [raster.centre for raster in plan.rasters] == [raster.centre for raster in CAMBRIDGE]
    assert plan.grid.epsg == 32631


def test_rasters_that_do_not_touch_are_left_out() -> None:
    plan = plan_region([*CAMBRIDGE, tile(10.05, 45.05)], BOX)
    assert len(plan.rasters) == 4
    with pytest.raises(EmptySelectionError, match="none of 6 rasters"):
        plan_region(CAMBRIDGE, (10, 45, 10.1, 45.1), "EPSG:4326")
    with pytest.raises(InputError, match="at least one"):
        plan_region([], BOX, 4326, resolution=0.001)


@pytest.mark.parametrize(
    ("other", "error", "what"),
    [
        (tile(0.15, 52.15, year=2023), DatasetMismatchError, "years.*2024.*2023"),
        (
            tile(0.15, 52.15, provenance=Provenance("1.0", "vultr", 2024)),
            DatasetMismatchError,
            "datasets.*1.1 cambridge.*1.0 vultr",
        ),
        (tile(0.15, 52.15, bands=64), BandError, "128 bands.*64"),
    ],
)
def test_what_does_not_compare_is_not_mixed(
    other: MosaicRaster, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        plan_region([tile(0.05, 52.15), other], BOX)


def test_lists_of_bands_must_agree() -> None:
    one = tile(0.05, 52.15, bands=2, band_names=("Tessera_Band_0", "Tessera_Band_1"))
    other = tile(0.15, 52.15, bands=2, band_names=("Tessera_Band_0", "Tessera_Band_7"))
    with pytest.raises(DatasetMismatchError, match=r"Band_1 as band 1.*Band_7"):
        plan_region([one, other], BOX)
    unnamed = tile(0.15, 52.15, bands=2)
    assert plan_region([one, unnamed], BOX, bands=[1, 1]).band_names == ("Tessera_Band_1",) * 2


def test_what_is_not_known_is_not_refused() -> None:
    unknown = tile(0.15, 52.15, provenance=Provenance())
    plan = plan_region([unknown, tile(0.05, 52.15)], BOX)
    assert plan.provenance == Provenance("1.1", "cambridge", 2024)


def test_arguments_are_checked() -> None:
    with pytest.raises(BandError, match="128 is out of range"):
        plan_region(CAMBRIDGE, BOX, bands=[0, 128])
    with pytest.raises(InputError, match="unknown method 'cubic'"):
        plan_region(CAMBRIDGE, BOX, method="cubic")  # type: ignore[typeddict-item]
    with pytest.raises(InputError, match="cannot be bilinear"):
        plan_region(CAMBRIDGE, BOX, method="bilinear", quantized=True)
    floats = replace(CAMBRIDGE[0], quantized=False)
    with pytest.raises(InputError, match="holds float32 pixels"):
        plan_region([floats], BOX, quantized=True)
    with pytest.raises(InputError, match="block=0"):
        plan_region(CAMBRIDGE, BOX, block=0)
    with pytest.raises(InputError, match="bbox"):
        plan_region(CAMBRIDGE, (1, 2, 3))


# --- What a plan is ---------------------------------------------------------------------


def test_a_plan_survives_pickling_and_other_processes() -> None:
    plan = plan_region(CAMBRIDGE, BOX, "EPSG:27700", bands=[np.int64(3), 1], clip=True)
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert copy.digest == plan.digest
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).digest)"
    fresh = replace(plan)  # whose digest has not been asked for
    found = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(fresh), capture_output=True, check=True
    )
    assert found.stdout.decode().strip() == plan.digest


def test_the_digest_knows_what_decides_the_pixels() -> None:
    plan = plan_region(CAMBRIDGE, BOX, 32631)
    same = [
        plan_region(CAMBRIDGE[::-1], BOX, "EPSG:32631"),
        plan_region(CAMBRIDGE, BOX, 32631, block=64),
        plan_region([*CAMBRIDGE, tile(10.05, 45.05)], BOX, 32631),
    ]
    moved = [
        replace(one, descriptor=NpyTile(f"/elsewhere/{one.name}", "s", "l")) for one in CAMBRIDGE
    ]
    same.append(plan_region(moved, BOX, 32631))
    assert {one.digest for one in same} == {plan.digest}
    snapped = replace(CAMBRIDGE[0].grid, transform=(10.0, 0.0, 295000.0, 0.0, -10.0, 5792000.0))
    other = [
        plan_region(CAMBRIDGE, BOX, 32630),
        plan_region(CAMBRIDGE, BOX, 32631, resolution=20),
        plan_region(CAMBRIDGE, BOX, 32631, method="bilinear"),
        plan_region(CAMBRIDGE, BOX, 32631, quantized=True),
        plan_region(CAMBRIDGE, BOX, 32631, bands=range(128)),
        plan_region(CAMBRIDGE, BOX, 32631, clip=True),
        plan_region(CAMBRIDGE[1:], BOX, 32631),
        plan_region(
            [replace(one, provenance=Provenance("1.1", "cambridge", 2023)) for one in CAMBRIDGE],
            BOX,
            32631,
        ),
        plan_region([replace(CAMBRIDGE[0], grid=snapped), *CAMBRIDGE[1:]], BOX, 32631),
    ]
    assert len({plan.digest, *(one.digest for one in other)}) == len(other) + 1


def test_a_plan_says_what_it_is() -> None:
    plan = plan_region(CAMBRIDGE, BOX, 32631, bands=[5, 3], quantized=True)
    text = str(plan)
    for part in ("EPSG:32631", "582 × 911 of 10 × 10", "int8 + scales, 2 bands, chosen: 5, 3",
                 "nearest", "4, dataset 1.1 cambridge, year 2024", "4 of 512 × 512", "3.0 MB",
                 plan.digest[:16]):  # fmt: skip
        assert part in text
    assert plan.nbytes == 911 * 582 * 6
    assert "582 × 911 px × 2 bands" in repr(plan)
    assert "\n" not in repr(plan)
    custom = plan_region(CAMBRIDGE, BOX, "+proj=laea +lat_0=50 +lon_0=0 +ellps=WGS84")
    assert len(max(str(custom).splitlines(), key=len)) < 120


# --- What files say ---------------------------------------------------------------------


def test_rasters_know_their_files(tmp_path: Path) -> None:
    made = make_tile(tmp_path, 23.95, 70.95, per_band=True)
    raster = made.raster
    assert raster.grid == made.grid
    assert raster.cell == (239, 709)
    assert raster.centre == (23.95, 70.95)
    assert (raster.band_count, raster.quantized, raster.scales_per_band) == (3, True, True)
    assert raster.band_names == ("Tessera_Band_0", "Tessera_Band_1", "Tessera_Band_2")
    descriptor = made.descriptor
    snapped = MosaicRaster.of(replace(descriptor, georeference="snapped"))
    assert all(value % 10 == 0 for value in snapped.grid.transform)
    assert snapped.signature() != raster.signature()
    # A tile that is still to be fetched: its landmask is enough.
    Path(descriptor.embedding).unlink()
    Path(descriptor.scales).unlink()
    with pytest.raises(FileNotFoundError):
        MosaicRaster.of(descriptor)
    ahead = MosaicRaster.of(descriptor, band_count=3)
    assert ahead.signature() == raster.signature()
    assert (ahead.grid, ahead.cell, ahead.band_count) == (raster.grid, raster.cell, 3)


def test_tiles_of_nobody_knows_what_are_told_by_their_files(tmp_path: Path) -> None:
    made = make_tile(tmp_path, 23.95, 70.95)
    unknown = replace(made.descriptor, provenance=Provenance())
    before = MosaicRaster.of(unknown).signature()
    assert before == MosaicRaster.of(unknown).signature()
    np.save(made.descriptor.embedding, made.values[::-1])
    assert before != MosaicRaster.of(unknown).signature()


def test_geotiffs_are_rasters(tmp_path: Path) -> None:
    paths = []
    for number in (0, 1):
        paths.append(tmp_path / f"grid_{0.05 + number / 10:.2f}_52.15_2024.tiff")
        profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "height": 8, "width": 9}
        transform = from_origin(300000 + 60 * number, 5790000, 10, 10)
        with rasterio.open(
            paths[-1], "w", crs="EPSG:32631", transform=transform, **profile
        ) as made:
            made.write(np.full((2, 8, 9), number, np.float32))
            made.descriptions = ("Tessera_Band_4", "Tessera_Band_2")
            made.update_tags(TESSERA_DATASET_VERSION="1.1", TESSERA_DATASET_VARIANT="cambridge",
                             TESSERA_YEAR="2024")  # fmt: skip
    plan = plan_files(paths[::-1])
    assert plan.grid == GridSpec(32631, (10.0, 0.0, 300000.0, 0.0, -10.0, 5790000.0), 8, 15)
    assert [Path(raster.name) for raster in plan.rasters] == paths[::-1]
    assert [raster.cell for raster in plan.rasters] == [None, None]
    assert plan.band_names == ("Tessera_Band_4", "Tessera_Band_2")
    assert plan.provenance == Provenance("1.1", "cambridge", 2024)
    assert MosaicRaster.of(GeoTiff(paths[0])).cell == (0, 521)
    bounded = plan_files(paths, bounds=(300020, 5789950, 300080, 5789990))
    assert bounded.grid.bounds == (300020, 5789950, 300080, 5789990)
    for bounds in ((1, 0, 0, 1), (1, 2, 3), ("a", 0, 1, 1), 5):
        with pytest.raises(InputError, match=r"bounds .*: expected left"):
            plan_files(paths, bounds=bounds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one file"):
        plan_files([])
    with pytest.raises(InputError, match="float32 pixels"):
        plan_files(paths, quantized=True)
