"""Pixels of mosaics, against GDAL's warp of the dequantised tiles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import from_origin

from geotessera import _native
from geotessera.errors import FormatError, InputError
from geotessera.export import export_tile
from geotessera.mosaic import (
    MosaicPlan,
    MosaicRaster,
    Opener,
    plan_files,
    plan_like,
    plan_region,
    render,
)
from geotessera.sources import GeoTiff
from geotessera.sources.npy_file import NpyFile
from geotessera.types import GridSpec, QuantizedRaster, TileId, Window
from mosaic_world import MadeTile, centres, make_tile, oracle, owners, pixel_positions, same_bits

if TYPE_CHECKING:
    from pathlib import Path

# Near 71° N where UTM zones 34 and 35 meet: tiles are narrow, and the seam is within the box.
SEAM = [(23.95, 70.95), (24.05, 70.95), (23.95, 71.05)]
BOX = (23.95, 70.985, 24.03, 71.015)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[MadeTile]:
    base = tmp_path_factory.mktemp("tiles")
    return [make_tile(base, lon, lat) for lon, lat in sorted(SEAM)]


@pytest.fixture(scope="module")
def smooth_tiles(tmp_path_factory: pytest.TempPathFactory) -> list[MadeTile]:
    base = tmp_path_factory.mktemp("smooth")
    return [make_tile(base, lon, lat, smooth=True) for lon, lat in sorted(SEAM)]


def rasters(tiles: list[MadeTile]) -> list[MosaicRaster]:
    return [tile.raster for tile in tiles]


def check(plan: MosaicPlan, tiles: list[MadeTile], *, least: float = 0.5) -> None:
    """Compare a mosaic with GDAL's, where GDAL's is beyond doubt."""
    found = render(plan).values
    expected, certain = oracle(plan.grid, tiles, plan.method)
    covered = ~np.isnan(expected[..., 0])
    assert covered.mean() > least
    assert certain[covered].mean() > (0.9 if plan.method == "nearest" else 0.6)
    if plan.method == "nearest":
        assert np.array_equal(found[certain], expected[certain], equal_nan=True)
    else:
        # Relative to the pixels that are summed: their sum may be next to nothing.
        largest = max(float(np.nanmax(np.abs(tile.pixels))) for tile in tiles)
        np.testing.assert_allclose(found[certain], expected[certain], rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    "crs", ["EPSG:32634", "EPSG:32635", "EPSG:32633", "EPSG:4326", "EPSG:3857"]
)
def test_northern_mosaics_are_gdals(tiles: list[MadeTile], crs: str, method: str) -> None:
    resolution = {"EPSG:4326": (3e-4, 1e-4), "EPSG:3857": 32}.get(crs, 10)
    plan = plan_region(rasters(tiles), BOX, crs, resolution=resolution, method=method)  # type: ignore[arg-type]
    # One cell of the box has no tile, and neighbouring tiles' slivers reach into it.
    check(plan, tiles)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:3413"])
def test_interpolated_positions_are_gdals(
    tiles: list[MadeTile], smooth_tiles: list[MadeTile], crs: str, method: str
) -> None:
    # A thousandth of a pixel more or less: too little to see between pixels that resemble.
    chosen = tiles if method == "nearest" else smooth_tiles
    plan = plan_region(rasters(chosen), BOX, crs, resolution=12, method=method)  # type: ignore[arg-type]
    check(plan, chosen)


@pytest.mark.parametrize(
    ("place", "crs"),
    [
        ((-0.15, 51.45), "EPSG:27700"),
        ((-70.05, -45.05), "EPSG:4326"),
        ((-70.05, -45.05), "+proj=laea +lat_0=-30 +lon_0=-60 +ellps=WGS84"),
        ((140.05, -75.05), "EPSG:3031"),
    ],
)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_other_places_are_gdals(
    tmp_path: Path, place: tuple[float, float], crs: str, method: str
) -> None:
    tile = make_tile(tmp_path, *place, bands=2, smooth=method == "bilinear")
    lon, lat = place
    box = (lon - 0.02, lat - 0.02, lon + 0.04, lat + 0.03)
    plan = plan_region([tile.raster], box, crs, method=method)  # type: ignore[arg-type]
    check(plan, [tile], least=0.4)


def test_native_grids_copy_pixels(tiles: list[MadeTile]) -> None:
    tile = tiles[0]
    plan = plan_like([tile.raster], tile.grid)
    assert same_bits(render(plan).values, np.where(np.isnan(tile.pixels), np.nan, tile.pixels))


def test_snapped_tiles_share_one_grid(tmp_path: Path) -> None:
    pair = [make_tile(tmp_path, lon, 70.95) for lon in (23.85, 23.95)]
    snapped = [MosaicRaster.of(replace(tile.descriptor, georeference="snapped")) for tile in pair]
    plan = plan_region(snapped, (23.88, 70.96, 23.92, 70.98), 32634, align=True, quantized=True)
    assert all(value % 10 == 0 for value in plan.grid.transform)
    found = render(plan)
    # Each pixel is one of a tile, and both tiles' pixels lie on the grid's.
    column, _, sure = owners(plan.grid)
    for tile, raster in zip(pair, snapped, strict=True):
        col = round((plan.grid.transform[2] - raster.grid.transform[2]) / 10)
        row = round((raster.grid.transform[5] - plan.grid.transform[5]) / 10)
        own = sure & (column == raster.cell[0])  # type: ignore[index]
        assert own.sum() > 1000
        rows, cols = np.nonzero(own)
        there = (rows + row, cols + col)
        valid = np.isfinite(tile.scales[there])
        assert valid.mean() > 0.9
        assert np.array_equal(found.values[own][valid], tile.values[there][valid])
        assert np.array_equal(found.scales[own][valid], tile.scales[there][valid])  # type: ignore[index]


def test_threads_share_an_opener(tiles: list[MadeTile]) -> None:
    plan = plan_region(rasters(tiles), BOX, "EPSG:3413", block=128)
    expected = render(plan).values
    made = np.empty_like(expected)
    with Opener(limit=2) as opener, ThreadPoolExecutor(8) as pool:

        def make(window: Window) -> None:
            rows = slice(window.row, window.row + window.height)
            cols = slice(window.col, window.col + window.width)
            made[rows, cols] = render(plan, window, opener=opener, mapped=False).values

        list(pool.map(make, plan.blocks()))
    assert same_bits(made, expected)


def test_seams_fall_on_cell_edges(tiles: list[MadeTile]) -> None:
    whole = [replace(tile.raster, grid=tile.grid) for tile in tiles[:2]]
    plan = plan_region(whole, BOX, "EPSG:32634")
    found = render(plan).values
    column, row, sure = owners(plan.grid)
    for tile in tiles[:2]:
        cell = tile.raster.cell
        assert cell is not None
        own = sure & (column == cell[0]) & (row == cell[1])
        alone = render(plan_like([tile.raster], plan.grid)).values
        own &= ~np.isnan(alone[..., 0])
        assert own.sum() > 1000
        assert np.array_equal(found[own], alone[own])


def test_the_order_of_tiles_does_not_matter(tiles: list[MadeTile]) -> None:
    one = plan_region(rasters(tiles), BOX, "EPSG:4326")
    other = plan_region(rasters(tiles)[::-1], BOX, "EPSG:4326")
    assert one == other
    assert one.digest == other.digest
    assert same_bits(render(one).values, render(other).values)


def test_the_order_of_files_matters(tmp_path: Path, tiles: list[MadeTile]) -> None:
    grid = GridSpec(32634, (10.0, 0.0, 0.0, 0.0, -10.0, 600.0), 60, 60)
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"{number}.tif")
        profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "nodata": np.nan}
        profile |= {"height": 60, "width": 60, "crs": grid.crs, "transform": grid.affine}
        with rasterio.open(paths[-1], "w", **profile) as dataset:
            pixels = np.full((2, 60, 60), number, np.float32)
            pixels[:, :, : 20 * number] = np.nan
            pixels[0, :10, :] = np.nan  # a pixel with one band is still one
            dataset.write(pixels)
    first = render(plan_files(paths, method="nearest")).values
    last = render(plan_files(paths[::-1], method="nearest")).values
    assert np.isnan(first[:, :20]).all()
    assert (first[10:, 20:] == 1).all()
    assert np.isnan(first[:10, 20:, 0]).all()
    assert (first[:10, 20:, 1] == 1).all()
    assert (last[10:, 20:40] == 1).all()
    assert (last[10:, 40:] == 2).all()
    for mapped in (True, False):
        cut = render(plan_files(paths), Window(5, 7, 31, 44), mapped=mapped).values
        assert same_bits(cut, np.ascontiguousarray(first[5:36, 7:51]))


@pytest.mark.parametrize("crs", ["EPSG:32634", "EPSG:4326", "EPSG:3413"])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_nothing_but_the_plan_changes_a_bit(
    tiles: list[MadeTile], crs: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_region(rasters(tiles), (23.98, 70.98, 24.01, 71.01), crs, method=method)  # type: ignore[arg-type]
    expected = render(plan).values
    assert not np.isnan(expected).all()
    assert same_bits(expected, render(plan, mapped=False).values)
    threads = _native.num_threads()
    _native.set_num_threads(1 if threads > 1 else 3)
    try:
        assert same_bits(expected, render(plan).values)
    finally:
        _native.set_num_threads(threads)
    monkeypatch.setattr("geotessera.mosaic.execute._LARGEST", 1)
    for block, mapped in ((64, True), (97, False)):
        made = np.empty_like(expected)
        with Opener(limit=1) as opener:
            for window in replace(plan, block=block).blocks():
                rows = slice(window.row, window.row + window.height)
                cols = slice(window.col, window.col + window.width)
                render(plan, window, out=made[rows, cols], opener=opener, mapped=mapped)
        assert same_bits(expected, made)


@pytest.mark.parametrize("per_band", [False, True])
def test_quantised_mosaics_are_the_float_ones(tmp_path: Path, per_band: bool) -> None:
    pair = [make_tile(tmp_path, lon, 70.95, per_band=per_band) for lon in (23.95, 24.05)]
    box = (23.97, 70.97, 24.02, 70.99)
    for crs in ("EPSG:32634", "EPSG:4326"):
        floats = plan_region(rasters(pair), box, crs, bands=[2, 0, 1])
        ints = plan_region(rasters(pair), box, crs, bands=[2, 0, 1], quantized=True)
        assert ints.scales_per_band == per_band
        expected = render(floats).values
        found = render(ints)
        assert isinstance(found, QuantizedRaster)
        assert same_bits(expected, found.dequantize())
        assert found.scales is not None
        assert found.scales.shape == expected.shape[: 3 if per_band else 2]
        empty = np.isnan(expected).all(axis=2) & ~np.isfinite(found.scales.reshape(
            *expected.shape[:2], -1)).any(axis=2)  # fmt: skip
        assert empty.any()
        assert (found.values[empty] == 0).all()
        assert np.isposinf(found.scales[empty]).all()
        by_band = render(ints, layout="chw", mapped=False)
        assert same_bits(np.ascontiguousarray(np.moveaxis(by_band.values, 0, -1)), found.values)


def test_bands_are_chosen_after_the_raster(tiles: list[MadeTile]) -> None:
    everything = render(plan_region(rasters(tiles), BOX, "EPSG:32635")).values
    some = render(plan_region(rasters(tiles), BOX, "EPSG:32635", bands=[2, 0, 2])).values
    assert same_bits(some, np.ascontiguousarray(everything[..., [2, 0, 2]]))


def test_band_subsets_do_not_change_precedence(tmp_path: Path) -> None:
    pair = [make_tile(tmp_path, lon, 70.95, per_band=True, holes=0.3) for lon in (23.95, 24.05)]
    box = (23.99, 70.97, 24.01, 70.99)
    everything = render(plan_region(rasters(pair), box, "EPSG:32634")).values
    one = render(plan_region(rasters(pair), box, "EPSG:32634", bands=[1])).values
    assert same_bits(one, np.ascontiguousarray(everything[..., [1]]))
    alone = np.isnan(everything[..., 1]) & ~np.isnan(everything).all(axis=2)
    assert alone.any()


def test_a_single_pixel(tiles: list[MadeTile]) -> None:
    plan = plan_region(rasters(tiles), BOX, "EPSG:4326", method="bilinear")
    everything = render(plan).values
    for row, col in ((0, 0), (plan.shape[0] // 2, plan.shape[1] // 2)):
        for mapped in (True, False):
            one = render(plan, Window(row, col, 1, 1), mapped=mapped).values
            assert same_bits(one[0, 0], everything[row, col].copy())


def test_a_coarse_mosaic_reads_little(tiles: list[MadeTile]) -> None:
    grid = GridSpec(4326, (0.01, 0.0, 23.9, 0.0, -0.01, 71.1), 20, 20)
    plan = plan_like(rasters(tiles), grid)
    found = render(plan, mapped=False).values
    expected, certain = oracle(grid, tiles, "nearest")
    assert (~np.isnan(expected[..., 0])).sum() > 200
    assert np.array_equal(found[certain], expected[certain], equal_nan=True)


def test_where_there_is_no_tile_there_is_nothing(tiles: list[MadeTile]) -> None:
    grid = GridSpec(4326, (0.001, 0.0, 23.0, 0.0, -0.001, 71.2), 300, 1600)
    found = render(plan_like(rasters(tiles[:1]), grid)).values
    lon = 23.0 + 0.001 * (np.arange(grid.width) + 0.5)
    assert np.isnan(found[:, (lon < 23.88) | (lon > 24.02)]).all()
    assert not np.isnan(found).all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32660", "EPSG:32601"])
def test_the_antimeridian_is_no_edge(tmp_path: Path, crs: str) -> None:
    pair = [make_tile(tmp_path, lon, -17.05, holes=0) for lon in (179.95, -179.95)]
    epsg = crs.replace(":326", ":327")
    plan = plan_region(rasters(pair), (179.95, -17.08, -179.97, -17.03), epsg)
    found = render(plan).values
    # A pixel of either tile a few pixels within it is where it should be.
    assert (np.isnan(found).any(axis=2)).mean() < 0.3
    ready = 0
    for tile in pair:
        for row, col in ((600, 900), (500, 300), (700, 200)):
            u, v = _position_of(plan.grid, tile.grid, row, col)
            if not (0 <= u < plan.grid.width and 0 <= v < plan.grid.height):
                continue
            back, down = pixel_positions_of_pixel(plan.grid, tile.grid, int(v), int(u))
            assert np.array_equal(found[int(v), int(u)], tile.pixels[down, back])
            ready += 1
    assert ready >= 2


@pytest.mark.parametrize("west", [-180.0, 0.0])
def test_a_raster_goes_round_the_globe(tmp_path: Path, west: float) -> None:
    values = np.random.default_rng(3).normal(size=(1, 90, 180)).astype(np.float32)
    path = tmp_path / "globe.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(
        path, "w", **profile, height=90, width=180, transform=from_origin(west, 90, 2, 2)
    ) as file:
        file.write(values)
    grid = GridSpec(4326, (1.0, 0.0, 60.0, 0.0, -1.0, 50.0), 100, 360)
    found = render(plan_files([path], like=grid), mapped=False).values[..., 0]
    lon, lat = centres(grid)
    expected = values[0, ((90 - lat) / 2).astype(int), ((lon - west) % 360 / 2).astype(int)]
    assert np.array_equal(found, expected)


def _position_of(grid: GridSpec, raster: GridSpec, row: int, col: int) -> tuple[float, float]:
    """Pixel coordinates in a grid of the centre of a raster's pixel, longitudes going on."""
    a, _, left, _, e, top = raster.transform
    x, y = left + a * (col + 0.5), top + e * (row + 0.5)
    x, y = Transformer.from_crs(raster.crs_name, grid.crs_name, always_xy=True).transform(x, y)
    period = {4326: 360.0, 3857: 2 * np.pi * 6378137}.get(grid.epsg or 0)
    if period and x < 0:
        x += period
    a, _, left, _, e, top = grid.transform
    return (x - left) / a, (y - top) / e


def pixel_positions_of_pixel(
    grid: GridSpec, raster: GridSpec, row: int, col: int
) -> tuple[int, int]:
    """(column, row) in a raster of one pixel centre of a grid."""
    u, v = pixel_positions(grid.window(Window(row, col, 1, 1)), raster)
    return int(u[0, 0]), int(v[0, 0])


def test_outlines_hide_what_is_outside(tiles: list[MadeTile]) -> None:
    triangle = shapely.Polygon([(23.94, 70.98), (24.02, 70.98), (23.98, 71.03)])
    for crs in ("EPSG:32634", "EPSG:4326"):
        clipped = plan_region(rasters(tiles), triangle, crs, clip=True)
        whole = plan_region(rasters(tiles), triangle, crs)
        assert clipped.grid == whole.grid
        assert clipped.digest != whole.digest
        found, everything = render(clipped).values, render(whole).values
        x, y = centres(whole.grid)
        move = Transformer.from_crs(whole.grid.crs_name, "EPSG:4326", always_xy=True)
        lon, lat = (x, y) if crs == "EPSG:4326" else move.transform(x, y)
        within = shapely.contains_xy(triangle, lon, lat)
        # An edge drawn in pieces of 0.01° strays by millimetres.
        doubt = shapely.distance(triangle.exterior, shapely.points(lon, lat)) < 1e-6
        expected = np.where(within[..., None], everything, np.float32(np.nan))
        assert np.array_equal(found[~doubt], expected[~doubt], equal_nan=True)
        assert 0.2 < within.mean() < 0.8
        part = render(clipped, Window(100, 30, 200, 77), layout="chw", mapped=False).values
        assert same_bits(
            np.ascontiguousarray(np.moveaxis(part, 0, -1)),
            np.ascontiguousarray(found[100:300, 30:107]),
        )


def test_outputs_are_checked(tiles: list[MadeTile]) -> None:
    plan = plan_region(rasters(tiles), BOX, "EPSG:32634")
    with pytest.raises(InputError, match=r"out must be float32 of shape \(2, 3, 3\)"):
        render(plan, Window(0, 0, 2, 3), out=np.empty((3, 2, 3), np.float32))
    with pytest.raises(InputError, match="does not lie"):
        render(plan, Window(0, plan.grid.width, 2, 3))
    with pytest.raises(InputError, match="scales="):
        render(plan, scales=np.empty((2, 3), np.float32))
    with pytest.raises(InputError, match="layout"):
        render(plan, layout="whc")  # type: ignore[arg-type]


def test_rasters_that_changed_are_refused(tmp_path: Path) -> None:
    tile = make_tile(tmp_path, 23.95, 70.95)
    plan = plan_like([tile.raster], tile.grid)
    make_tile(tmp_path, 23.95, 70.95, bands=4)
    with pytest.raises(FormatError, match="changed since the mosaic was planned"):
        render(plan)
    tile.descriptor.embedding.unlink()  # type: ignore[union-attr]
    with pytest.raises(FileNotFoundError):
        render(plan)


def test_unmapped_mosaics_read_their_windows_and_map_nothing(
    tiles: list[MadeTile], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    plain = NpyFile.read

    def counting(self: NpyFile, window: Window, out: np.ndarray) -> None:
        read.append(out.nbytes)
        plain(self, window, out)

    def refuse(self: NpyFile) -> None:
        raise AssertionError(f"{self.path} is mapped")

    plan = plan_like(rasters(tiles), tiles[0].grid)
    window = Window(200, 100, 90, 120)
    expected = render(plan, window).values
    monkeypatch.setattr(NpyFile, "read", counting)
    monkeypatch.setattr(NpyFile, "map", refuse)
    found = render(plan, window, mapped=False)
    assert same_bits(found.values, expected)
    assert window.height * window.width * (3 + 4) < sum(read)
    assert sum(read) < 1.2 * window.height * window.width * (3 + 4)


def test_scales_of_both_kinds_go_together(tmp_path: Path) -> None:
    pair = [make_tile(tmp_path, 23.95, 70.95), make_tile(tmp_path, 24.05, 70.95, per_band=True)]
    box = (23.99, 70.97, 24.01, 70.98)
    expected = render(plan_region(rasters(pair), box, 32634)).values
    plan = plan_region(rasters(pair), box, 32634, quantized=True)
    assert plan.scales_per_band
    assert plan.pixel_bytes == 3 * 5
    for layout in ("hwc", "chw"):
        found = render(plan, layout=layout)  # type: ignore[arg-type]
        assert isinstance(found, QuantizedRaster)
        assert found.scales is not None
        assert found.scales.shape == found.values.shape
        made = found.dequantize()
        made = made if layout == "hwc" else np.moveaxis(made, 0, -1)
        assert same_bits(np.ascontiguousarray(made), expected)


def test_exported_tiles_and_npy_tiles_go_together(tmp_path: Path) -> None:
    pair = [make_tile(tmp_path, lon, 70.95) for lon in (23.95, 24.05)]
    path = tmp_path / "grid_24.05_70.95_2024.tiff"
    export_tile(pair[1].descriptor.open(), path, tile=TileId(2024, 24.05, 70.95),
                dataset=("1.1", "cambridge"))  # fmt: skip
    box = (23.99, 70.97, 24.01, 70.98)
    expected = render(plan_region(rasters(pair), box, "EPSG:3413", method="bilinear")).values
    mixed = plan_region([pair[0].raster, GeoTiff(path)], box, "EPSG:3413", method="bilinear")
    assert mixed.rasters[1].cell == (240, 709)
    for mapped in (True, False):
        assert same_bits(render(mixed, mapped=mapped).values, expected)
