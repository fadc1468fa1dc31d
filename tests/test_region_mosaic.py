"""Mosaics of a region, against GDAL's warp and what upstream 0.11.0 was seen to return."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from geotessera import GeoTessera, region_mosaic
from geotessera.errors import (
    BandError,
    EmptySelectionError,
    InputError,
    TileError,
    TileNotFoundError,
)
from geotessera.sources import NpyTile
from geotessera.testing import SampleWorld
from geotessera.tiles import Tile
from geotessera.types import GridSpec, QuantizedRaster, TileId
from mosaic_world import MadeTile, centres, oracle, same_bits

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import WorldTile

TILES = [
    (2024, 23.95, 83.65), (2024, 24.05, 83.65), (2024, 24.15, 83.65), (2024, 24.05, 83.75),
    (2023, 24.05, 83.65),
]  # fmt: skip
BOX = (24.02, 83.62, 24.18, 83.68)
"""Across two tiles of zone 35."""
SMALL = (24.09, 83.655, 24.11, 83.665)
"""The same two tiles, and little of them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Tiles of 4 bands on both sides of the seam of zones 34 and 35."""
    return SampleWorld.build(tmp_path_factory.mktemp("mosaic"), size="tiny", tiles=TILES)


@pytest.fixture(scope="module")
def gt(world: SampleWorld, tmp_path_factory: pytest.TempPathFactory) -> GeoTessera:
    directory = world.checkout(tmp_path_factory.mktemp("local"))
    return GeoTessera(base_url=world.root(), embeddings_dir=directory)


def made_tiles(world: SampleWorld, *places: tuple[float, float]) -> list[MadeTile]:
    return [made_tile(world.tile(*place)) for place in places]


def made_tile(one: WorldTile) -> MadeTile:
    descriptor = NpyTile(*one.files)
    return MadeTile(one.tile.lon, one.tile.lat, one.grid, descriptor, one.values(), one.scales())


def grid_of(mosaic: tuple[Any, Affine, str]) -> GridSpec:
    values, transform, crs = mosaic
    six: Any = tuple(transform)[:6]
    return GridSpec(int(crs.removeprefix("EPSG:")), six, *values.shape[:2])


# --- The grid ------------------------------------------------------------------------------

# What upstream 0.11.0 returned for BOX over a world with the same tiles: CRS, pixel size,
# left, top, rows, columns.
OBSERVED = {
    "EPSG:32635": (10.0, 463045.834243989, 9293316.653810399, 679, 231),
    "EPSG:32634": (10.000011089392986, 537099.0149241927, 9293447.924608719, 679, 233),
    "EPSG:4326": (0.00019047783456105482, 24.02, 83.68, 315, 840),
    "EPSG:3857": (90.15868898471393, 2673894.1688544312, 18475168.596286863, 670, 198),
    "EPSG:3995": (9.761368245026592, 279790.57033906353, -627046.2470070209, 692, 454),
}


@pytest.mark.parametrize("crs", OBSERVED)
def test_grid_is_upstreams(gt: GeoTessera, crs: str) -> None:
    values, transform, name = gt.fetch_mosaic_for_region(BOX, 2024, crs)
    pixel, left, top, height, width = OBSERVED[crs]
    assert (values.shape, values.dtype, name) == ((height, width, 4), np.float32, crs)
    assert values.flags.c_contiguous
    assert isinstance(transform, Affine)
    np.testing.assert_allclose(tuple(transform)[:6], (pixel, 0, left, 0, -pixel, top), rtol=1e-12)


def test_defaults(gt: GeoTessera) -> None:
    values, transform, crs = gt.fetch_mosaic_for_region(SMALL)
    named = gt.fetch_mosaic_for_region(
        bbox=SMALL, year=2024, target_crs="EPSG:4326", auto_download=True, progress_callback=None
    )
    assert same_bits(values, named[0])
    assert (transform, crs) == (named[1], "EPSG:4326") == (named[1], named[2])


def test_crs_without_a_code(gt: GeoTessera) -> None:
    text = "+proj=laea +lat_0=83.6 +lon_0=24 +datum=WGS84"
    values, transform, crs = gt.fetch_mosaic_for_region(SMALL, 2024, text)
    assert rasterio.CRS.from_user_input(crs) == rasterio.CRS.from_user_input(text)
    assert crs.startswith("PROJCS")
    assert transform.a == pytest.approx(10, rel=0.01)
    assert not np.isnan(values).all()


@pytest.mark.parametrize("resolution", [20, (0.5, 40.0)])
def test_resolution(gt: GeoTessera, resolution: Any) -> None:
    values, transform, _ = gt.fetch_mosaic_for_region(
        BOX, 2024, "EPSG:32635", resolution=resolution
    )
    across, down = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    assert (transform.a, transform.e) == (across, -down)
    assert values.shape[:2] == (round(6789.1 / down), round(2310.03 / across))


def test_like(gt: GeoTessera, tmp_path: Path) -> None:
    grid = GridSpec(32635, (7.0, 0.0, 463505.0, 0.0, -9.0, 9291008.0), 120, 190)
    path = tmp_path / "like.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 120, "width": 190}
    with rasterio.open(path, "w", **profile, crs=grid.crs, transform=grid.affine):
        pass
    values, transform, crs = gt.fetch_mosaic_for_region(None, 2024, like=path)
    assert (values.shape, transform, crs) == ((120, 190, 4), grid.affine, "EPSG:32635")
    again = gt.fetch_mosaic_for_region(BOX, 2024, like=grid)[0]
    assert same_bits(values, again)
    assert np.isfinite(values).any()
    with pytest.raises(InputError, match="resolution"):
        gt.fetch_mosaic_for_region(None, 2024, like=path, resolution=10)


# --- The pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32634"])
def test_pixels_are_gdals(world: SampleWorld, gt: GeoTessera, crs: str, resampling: Any) -> None:
    found = gt.fetch_mosaic_for_region(BOX, 2024, crs, resampling=resampling)
    tiles = made_tiles(world, (24.05, 83.65), (24.15, 83.65))
    expected, certain = oracle(grid_of(found), tiles, resampling)
    assert certain.mean() > 0.5
    largest = np.nanmax(np.abs(expected))
    atol = 0 if resampling == "nearest" else 1e-4 * largest
    np.testing.assert_allclose(found[0][certain], expected[certain], rtol=0, atol=atol)


def on_grid(tile: MadeTile, grid: GridSpec) -> MadeTile:
    """The tile moved to the nearest whole pixel of a grid of the same pixels."""
    a, b, left, d, e, top = tile.grid.transform
    left = grid.transform[2] + round((left - grid.transform[2]) / 10) * 10
    top = grid.transform[5] + round((top - grid.transform[5]) / 10) * 10
    return replace(tile, grid=replace(tile.grid, transform=(a, b, left, d, e, top)))


def test_pixels_of_the_same_grid_are_copied(world: SampleWorld, gt: GeoTessera) -> None:
    # Upstream copies such tiles too, but by up to a whole pixel beside their place.
    found = gt.fetch_mosaic_for_region(BOX, 2024, "EPSG:32635")
    grid = grid_of(found)
    tiles = made_tiles(world, (24.05, 83.65), (24.15, 83.65))
    offsets = [(tile.grid.transform[2] - grid.transform[2]) / 10 % 1 for tile in tiles]
    assert all(0.05 < offset < 0.95 for offset in offsets)  # none is on the grid
    expected, _ = oracle(grid, [on_grid(tile, grid) for tile in tiles], "nearest")
    assert np.array_equal(found[0], expected, equal_nan=True)


def test_pixels_of_another_size_are_not_copied(gt: GeoTessera) -> None:
    options: dict[str, Any] = {"year": 2024, "target_crs": "EPSG:32635", "resolution": 5}
    bilinear = gt.fetch_mosaic_for_region(SMALL, **options)[0]
    nearest = gt.fetch_mosaic_for_region(SMALL, resampling="nearest", **options)[0]
    assert not np.array_equal(bilinear, nearest, equal_nan=True)


def test_zone_seam(world: SampleWorld, gt: GeoTessera) -> None:
    box = (23.97, 83.64, 24.03, 83.66)
    found = gt.fetch_mosaic_for_region(box, 2024, "EPSG:32635", resampling="nearest")
    tiles = made_tiles(world, (23.95, 83.65), (24.05, 83.65))
    expected, certain = oracle(grid_of(found), tiles, "nearest")
    np.testing.assert_array_equal(found[0][certain], expected[certain])
    assert np.isfinite(found[0]).mean() > 0.8


def test_antimeridian(small_world: SampleWorld, tmp_path: Path) -> None:
    gt = GeoTessera(base_url=small_world.root(), embeddings_dir=small_world.checkout(tmp_path))
    box = (179.97, 83.64, -179.97, 83.66)
    found = gt.fetch_mosaic_for_region(box, 2024, "EPSG:4326", resampling="nearest")
    values, transform, _ = found
    assert transform.c == 179.97
    assert values.shape[1] * transform.a == pytest.approx(0.06, abs=transform.a)
    tiles = made_tiles(small_world, (-179.95, 83.65), (179.95, 83.65))
    # PROJ gives longitudes beyond 180 the same place, and GDAL's warp does not.
    across, down = centres(grid_of(found))
    checked = 0
    for tile in tiles:
        move = Transformer.from_crs(4326, tile.grid.epsg, always_xy=True)
        x, y = move.transform(across, down)
        a, _, left, _, e, top = tile.grid.transform
        col, row = np.floor((x - left) / a).astype(int), np.floor((y - top) / e).astype(int)
        own = (across > 180) if tile.lon < 0 else (across < 180)
        own &= (row >= 0) & (row < tile.grid.height) & (col >= 0) & (col < tile.grid.width)
        expected = tile.pixels[row[own], col[own]]
        valid = ~np.isnan(expected).all(axis=1)
        same = (values[own][valid] == expected[valid]).all(axis=1)
        assert same.mean() > 0.9999  # all but ties
        checked += valid.sum()
    assert checked > 0.8 * values.shape[0] * values.shape[1]


def test_bands(gt: GeoTessera) -> None:
    whole = gt.fetch_mosaic_for_region(SMALL)[0]
    chosen = gt.fetch_mosaic_for_region(SMALL, bands=[3, np.int64(0), 3])[0]
    assert same_bits(chosen, np.ascontiguousarray(whole[..., [3, 0, 3]]))


@pytest.mark.parametrize("crs", ["EPSG:32635", "EPSG:4326"])
def test_quantized(world: SampleWorld, gt: GeoTessera, crs: str) -> None:
    found = gt.fetch_mosaic_for_region(SMALL, 2024, crs, quantized=True)
    assert isinstance(found, QuantizedRaster)
    assert found.scales is not None
    assert (found.values.dtype, found.scales.dtype) == (np.int8, np.float32)
    assert found.scales.shape == found.values.shape[:2]
    assert (found.grid.crs_name, found.provenance.year) == (crs, 2024)
    tiles = []
    for tile in made_tiles(world, (24.05, 83.65), (24.15, 83.65)):
        # The 10 m grid that pixels were made on, as the published stores place them.
        a, b, left, d, e, top = tile.grid.transform
        snapped = (a, b, math.floor(left / 10) * 10.0, d, e, math.ceil(top / 10) * 10.0)
        tiles.append(replace(tile, grid=replace(tile.grid, transform=snapped)))
    expected, certain = oracle(found.grid, tiles, "nearest")
    assert np.array_equal(found.dequantize()[certain], expected[certain], equal_nan=True)
    empty = np.isinf(found.scales)
    assert (found.values[empty] == 0).all()


def test_year(world: SampleWorld, gt: GeoTessera) -> None:
    box = (24.04, 83.645, 24.06, 83.655)
    found = gt.fetch_mosaic_for_region(box, 2023, "EPSG:32635")
    tile = on_grid(made_tile(world.tile(24.05, 83.65, 2023)), grid_of(found))
    expected, _ = oracle(grid_of(found), [tile], "nearest")
    assert np.array_equal(found[0], expected, equal_nan=True)
    assert not np.array_equal(found[0], gt.fetch_mosaic_for_region(box, 2024, "EPSG:32635")[0])


# --- The region ----------------------------------------------------------------------------


def test_regions_of_many_kinds(gt: GeoTessera) -> None:
    import geopandas

    whole = gt.fetch_mosaic_for_region(SMALL)[0]
    outline = shapely.box(*SMALL)
    frame = geopandas.GeoDataFrame(geometry=[outline], crs=4326)
    for region in (",".join(map(str, SMALL)), np.array(SMALL), outline, frame):
        assert same_bits(gt.fetch_mosaic_for_region(region)[0], whole)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32635"])
def test_clip(gt: GeoTessera, crs: str) -> None:
    outline = shapely.Point(24.1, 83.66).buffer(0.009)
    whole, transform, _ = gt.fetch_mosaic_for_region(outline, 2024, crs)
    clipped = gt.fetch_mosaic_for_region(outline, 2024, crs, clip=True)
    x, y = centres(grid_of(clipped))
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    inside = shapely.contains_xy(outline, lon, lat)
    certain = shapely.distance(outline.boundary, shapely.points(lon, lat)) > 1e-6
    assert clipped[1] == transform
    assert 0.5 < inside.mean() < 0.9
    assert np.isnan(clipped[0][certain & ~inside]).all()
    kept = certain & inside
    np.testing.assert_array_equal(clipped[0][kept], whole[kept])
    assert np.isfinite(clipped[0][kept]).any()


def test_clip_to_a_box(gt: GeoTessera) -> None:
    whole, _, _ = gt.fetch_mosaic_for_region(BOX, 2024, "EPSG:32635", resolution=100)
    found = gt.fetch_mosaic_for_region(BOX, 2024, "EPSG:32635", resolution=100, clip=True)
    x, y = centres(grid_of(found))
    lon, lat = Transformer.from_crs(32635, 4326, always_xy=True).transform(x, y)
    west, south, east, north = BOX
    inside = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    # The box is no rectangle in UTM: its surroundings are left out.
    assert np.isfinite(whole[~inside]).any()
    assert np.isnan(found[0][~inside]).all()
    np.testing.assert_array_equal(found[0][inside], whole[inside])


@pytest.mark.parametrize(
    ("box", "match"),
    [
        ((24.18, 83.62, 24.02, 83.68), "positive area"),  # not across the antimeridian
        ((24.02, 83.68, 24.18, 83.62), "positive area"),
        ((24.02, 83.62, 24.02, 83.68), "positive area"),
        ((24.02, 83.62, 24.18), "west,south,east,north"),
        ((24.02, 83.62, 240.18, 83.68), "WGS84"),
        (("a", 83.62, 24.18, 83.68), "numbers"),
        (None, "region"),
        ("Atlantis", "Atlantis"),
    ],
)
def test_bad_regions(gt: GeoTessera, box: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        gt.fetch_mosaic_for_region(box, 2024)


def test_nothing_there(gt: GeoTessera) -> None:
    with pytest.raises(EmptySelectionError, match=r"2022.*2023, 2024"):
        gt.fetch_mosaic_for_region(BOX, 2022)
    with pytest.raises(EmptySelectionError, match="land"):
        gt.fetch_mosaic_for_region((0.01, 0.01, 0.02, 0.02), 2024)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"target_crs": "EPSG:99999"}, InputError),
        ({"target_crs": "north"}, InputError),
        ({"resampling": "cubic"}, InputError),
        ({"resolution": 0}, InputError),
        ({"resolution": "10 m"}, InputError),
        ({"bands": [-1]}, BandError),
        ({"bands": []}, BandError),
        ({"errors": "ignore"}, InputError),
        ({"year": "2024"}, InputError),
        ({"like": "no_such.tif"}, InputError),
    ],
)
def test_arguments_are_checked_before_tiles_are_fetched(
    world: SampleWorld, tmp_path: Path, options: dict[str, Any], kind: type[Exception]
) -> None:
    gt = GeoTessera(base_url=world.root(), embeddings_dir=tmp_path)
    with pytest.raises(kind):
        gt.fetch_mosaic_for_region(SMALL, **options)
    assert not list(tmp_path.rglob("*.npy"))


def test_bands_that_tiles_lack(gt: GeoTessera) -> None:
    with pytest.raises(BandError, match="0 to 3"):
        gt.fetch_mosaic_for_region(SMALL, bands=[4])


# --- Tiles that are not local --------------------------------------------------------------


def test_tiles_are_fetched(world: SampleWorld, gt: GeoTessera, tmp_path: Path) -> None:
    far = GeoTessera(base_url=world.root(), embeddings_dir=tmp_path)
    calls: list[tuple[int, int, str]] = []
    with pytest.raises(FileNotFoundError, match="auto_download") as caught:
        far.fetch_mosaic_for_region(SMALL, 2024, auto_download=False)
    assert isinstance(caught.value, TileNotFoundError)
    values = far.fetch_mosaic_for_region(
        SMALL, 2024, progress_callback=lambda *call: calls.append(call)
    )[0]
    assert same_bits(values, gt.fetch_mosaic_for_region(SMALL, 2024)[0])
    assert len(list(tmp_path.rglob("*_scales.npy"))) == 2
    assert calls[0][:2] == (0, 2)  # tiles
    assert calls[-1] == (len(values), len(values), "Complete")
    assert same_bits(far.fetch_mosaic_for_region(SMALL, 2024, auto_download=False)[0], values)


def test_progress_changes_no_bit(gt: GeoTessera) -> None:
    calls: list[tuple[int, int, str]] = []
    watched = gt.fetch_mosaic_for_region(
        BOX, 2024, "EPSG:3857", progress_callback=lambda *call: calls.append(call)
    )
    assert same_bits(watched[0], gt.fetch_mosaic_for_region(BOX, 2024, "EPSG:3857")[0])
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert {call[1] for call in calls} == {670} == {done[-1]}
    quantized = gt.fetch_mosaic_for_region(BOX, quantized=True, progress_callback=lambda *_: None)
    plain = gt.fetch_mosaic_for_region(BOX, quantized=True)
    assert same_bits(quantized.values, plain.values)
    assert same_bits(quantized.scales, plain.scales)
    assert quantized.provenance == plain.provenance


@pytest.fixture
def holed_world(tmp_path: Path) -> SampleWorld:
    """Two tiles, the first of which is in the registry and not on the server."""
    return SampleWorld.build(
        tmp_path / "holed", size="tiny", tiles=TILES[1:3], faults={(24.05, 83.65): "missing-file"}
    )


def test_missing_tile(
    holed_world: SampleWorld,
    gt: GeoTessera,
    tmp_path: Path,
    quick_retries: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    far = GeoTessera(base_url=holed_world.root(), embeddings_dir=tmp_path / "tiles")
    with pytest.raises(RuntimeError, match=r"grid_24\.05_83\.65") as caught:
        far.fetch_mosaic_for_region(BOX, 2024)
    assert isinstance(caught.value, TileError)
    caplog.clear()
    failures: dict[TileId, Exception] = {}
    found = far.fetch_mosaic_for_region(
        BOX, 2024, resampling="nearest", errors="coerce", failures=failures
    )
    assert list(failures) == [TileId(2024, 24.05, 83.65)]
    assert "grid_24.05_83.65" in caplog.text
    # The grid is that of the whole mosaic, though the tile that decides it is missing.
    whole = gt.fetch_mosaic_for_region(BOX, 2024, resampling="nearest")
    assert found[1:] == whole[1:]
    expected, certain = oracle(
        grid_of(found), made_tiles(holed_world, (24.15, 83.65)), "nearest", cells=False
    )
    np.testing.assert_array_equal(found[0][certain], expected[certain])
    assert np.isnan(found[0]).any(axis=2).mean() > 0.3
    assert np.isfinite(found[0]).mean() > 0.4


def test_no_tile_at_all(holed_world: SampleWorld, tmp_path: Path, quick_retries: None) -> None:
    far = GeoTessera(base_url=holed_world.root(), embeddings_dir=tmp_path / "tiles")
    with pytest.raises(TileError, match="none of the 1 tiles"):
        far.fetch_mosaic_for_region((24.01, 83.64, 24.02, 83.66), 2024, errors="coerce")


def test_damaged_tile(world: SampleWorld, tmp_path: Path) -> None:
    gt = GeoTessera(base_url=world.root(), embeddings_dir=world.checkout(tmp_path))
    scales = next(tmp_path.rglob("2024/*24.15*/*_scales.npy"))
    content = scales.read_bytes()
    scales.unlink()
    scales.write_bytes(content[:-4])
    with pytest.raises(RuntimeError, match=r"24\.15"):
        gt.fetch_mosaic_for_region(SMALL, 2024)
    failures: dict[TileId, Exception] = {}
    values = gt.fetch_mosaic_for_region(SMALL, 2024, errors="coerce", failures=failures)[0]
    assert list(failures) == [TileId(2024, 24.15, 83.65)]
    assert np.isfinite(values).any()


def test_exported_tiles(world: SampleWorld, gt: GeoTessera, tmp_path: Path) -> None:
    gt.export_embedding_geotiffs(TILES[1:3], tmp_path)
    other = GeoTessera(base_url=world.root(), embeddings_dir=tmp_path)
    found = other.fetch_mosaic_for_region(SMALL, 2024, auto_download=False)
    assert same_bits(found[0], gt.fetch_mosaic_for_region(SMALL, 2024)[0])
    with pytest.raises(InputError, match="float32"):
        other.fetch_mosaic_for_region(SMALL, 2024, auto_download=False, quantized=True)


def test_replaced_lookup(gt: GeoTessera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = {
        (lon, lat): Tile.from_geotiff(
            gt.export_embedding_geotiff(lon, lat, tmp_path / f"grid_{lon}_{lat}_{year}.tiff", year)
        )
        for year, lon, lat in TILES[1:3]
    }
    asked: list[Any] = []

    def lookup(self: GeoTessera, coords: Any, *args: Any, **options: Any) -> Any:
        asked.append(list(coords))
        return exported

    expected = gt.fetch_mosaic_for_region(SMALL, 2024)[0]
    monkeypatch.setattr(GeoTessera, "_ensure_tiles_available", lookup)
    assert same_bits(gt.fetch_mosaic_for_region(SMALL, 2024)[0], expected)
    assert asked == [[(24.05, 83.65), (24.15, 83.65)]]


@pytest.mark.parametrize(
    ("how", "pixel_bytes"),
    [({}, 16), ({"quantized": True}, 8), ({"bands": [0]}, 4), ({"resolution": 20}, 5)],
)
def test_larger_than_memory_is_refused_before_a_tile_is_fetched(
    world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any, pixel_bytes: int
) -> None:
    remote = GeoTessera(base_url=world.root(), embeddings_dir=tmp_path)
    pixels = 679 * 231  # of BOX at 10 m, 4 bands of 4 bytes each
    monkeypatch.setattr(region_mosaic, "_memory_of_the_machine", lambda: pixels * pixel_bytes)
    with pytest.raises(InputError, match="of memory"):
        remote.fetch_mosaic_for_region(BOX, 2024, "EPSG:32635", resolution=5)
    assert not list(tmp_path.rglob("*.npy"))
    remote.fetch_mosaic_for_region(BOX, 2024, "EPSG:32635", **how)


def test_larger_than_memory(gt: GeoTessera) -> None:
    # Millimetres: refused before any of it is touched.
    with pytest.raises(InputError, match=r"of memory: ask for less .*resolution="):
        gt.fetch_mosaic_for_region(SMALL, 2024, "EPSG:32635", resolution=1e-3)
