"""A real Sentinel-2 image of the southern hemisphere as an exported tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import Affine

import oracles
import realdata
from geotessera import GeoTessera, Status
from geotessera.grid import epsg_of_tile, tile_footprint, tile_from_world
from geotessera.sampling import sample_source
from geotessera.testing import SampleWorld
from geotessera.tiles import Tile, discover_formats, discover_tiles, tile_for_coord

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

EPSG = 32719
YEAR = 2020
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
TRANSFORM = Affine(10, 0, 600_000, 0, -10, 4_700_020)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """The bands as SciPy reads them, all at 10 m: float32 (200, 300, 6)."""
    from scipy.io import netcdf_file

    bands = []
    for name in BANDS:
        path = realdata.path(f"imagery/s2_patagonia/{name}_band.nc")
        with netcdf_file(path, mmap=False) as file:
            pixels = file.variables["__xarray_dataarray_variable__"].data.astype(np.float32)
            x, y = file.variables["x"].data, file.variables["y"].data
        # The short-wave infrared has pixels of 20 m from the same corner.
        times = {10: 1, 20: 2}[x[1] - x[0]]
        assert (x[0], y[0]) == (TRANSFORM.c + 5 * times, TRANSFORM.f - 5 * times)
        bands.append(pixels.repeat(times, axis=0).repeat(times, axis=1)[:200, :300])
    return np.stack(bands, axis=-1)


@pytest.fixture(scope="module")
def place() -> tuple[float, float]:
    """Centre of the tile that owns the image's middle."""
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    return tile_from_world(*to_degrees.transform(*(TRANSFORM @ (150, 100))))


@pytest.fixture(scope="module")
def exported(
    image: np.ndarray, place: tuple[float, float], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A GeoTIFF as exports are: float32, NaN for nothing, tiled; a corner holds nothing."""
    path = tmp_path_factory.mktemp("patagonia") / f"grid_{place[0]:.2f}_{place[1]:.2f}_{YEAR}.tiff"
    pixels = np.moveaxis(image, -1, 0).copy()
    pixels[:, :20, :30] = np.nan
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=len(BANDS), height=200, width=300,
        crs=f"EPSG:{EPSG}", transform=TRANSFORM, nodata=np.nan, tiled=True, blockxsize=256,
        blockysize=256, compress="lzw",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.update_tags(TESSERA_YEAR=str(YEAR))
    return path


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """A thousand (lon, lat) about the image; some lie beside it."""
    rng = np.random.default_rng(0)
    xs = rng.uniform(TRANSFORM.c - 100, TRANSFORM.c + 3100, 1000)
    ys = rng.uniform(TRANSFORM.f - 2100, TRANSFORM.f + 100, 1000)
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    return np.stack(to_degrees.transform(xs, ys), axis=-1)


@pytest.fixture(scope="module")
def by_rasterio(exported: Path, points: np.ndarray) -> np.ndarray:
    """What rasterio's own sampling gives; NaN beside the image."""
    to_utm = pyproj.Transformer.from_crs(4326, EPSG, always_xy=True)
    with rasterio.open(exported) as dataset:
        positions = zip(*to_utm.transform(*points.T), strict=True)
        return np.array(list(dataset.sample(positions)))


def test_the_image_is_found_as_a_southern_tile(exported: Path, place: tuple[float, float]) -> None:
    assert place == (-67.65, -47.85)
    assert epsg_of_tile(*place) == EPSG
    (tile,) = discover_tiles(exported.parent)
    assert (tile.year, tile.lon, tile.lat) == (YEAR, *place)
    assert discover_formats(exported.parent) == {"geotiff": [tile]}
    assert tile_for_coord(exported.parent, *place, YEAR) == tile
    assert tile.crs.to_epsg() == EPSG
    assert tile.transform == TRANSFORM
    assert (tile.height, tile.width, tile.band_count) == (200, 300, 6)


def test_without_its_name_the_tile_is_where_its_middle_is(exported: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "patagonia.tif"
    renamed.write_bytes(exported.read_bytes())
    tile = Tile.from_geotiff(renamed)
    assert tile.year == YEAR
    to_degrees = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    middle = to_degrees.transform(*(TRANSFORM @ (150.5, 100.5)))
    np.testing.assert_allclose((tile.lon, tile.lat), middle, rtol=0, atol=1e-9)


def test_pixels_are_those_of_the_image(exported: Path, image: np.ndarray) -> None:
    (tile,) = discover_tiles(exported.parent)
    wanted = image.copy()
    wanted[:20, :30] = np.nan
    np.testing.assert_array_equal(tile.load_embedding(), wanted)


def test_nearest_samples_equal_rasterios(
    exported: Path, points: np.ndarray, by_rasterio: np.ndarray
) -> None:
    (tile,) = discover_tiles(exported.parent)
    np.testing.assert_array_equal(tile.sample_points(points), by_rasterio)
    assert 800 < np.isfinite(by_rasterio[:, 0]).sum() < 1000
    np.testing.assert_array_equal(tile.sample_at_point(*points[7]), by_rasterio[7])


def test_bilinear_samples_equal_the_oracle(
    exported: Path, points: np.ndarray, image: np.ndarray
) -> None:
    (tile,) = discover_tiles(exported.parent)
    pixels = image.copy()
    pixels[:20, :30] = np.nan
    to_utm = pyproj.Transformer.from_crs(4326, EPSG, always_xy=True)
    xy = np.c_[to_utm.transform(*points.T)]
    wanted, wanted_status, _ = oracles.sample(
        pixels, None, tuple(TRANSFORM)[:6], xy, method="bilinear"
    )
    values, status, *_ = sample_source(tile.source(), points, method="bilinear")
    np.testing.assert_allclose(values, wanted, rtol=1e-6)
    np.testing.assert_array_equal(status, wanted_status)


def test_a_client_samples_the_image_offline(
    exported: Path, place: tuple[float, float], points: np.ndarray, by_rasterio: np.ndarray,
    tmp_path: Path,
) -> None:  # fmt: skip
    whole = tile_footprint(*place)  # a piece of a tile would not pass for it
    north = round((whole.transform[5] - TRANSFORM.f) / 10)
    west = round((TRANSFORM.c - whole.transform[2]) / 10)
    pixels = np.full((len(BANDS), whole.height, whole.width), np.nan, np.float32)
    with rasterio.open(exported) as dataset:
        pixels[:, north : north + 200, west : west + 300] = dataset.read()
        profile = dataset.profile | {"height": whole.height, "width": whole.width}
    profile["transform"] = TRANSFORM @ Affine.translation(-west, -north)
    with rasterio.open(tmp_path / exported.name, "w", **profile) as dataset:
        dataset.write(pixels)
        dataset.update_tags(TESSERA_YEAR=str(YEAR))

    world = SampleWorld.build(tmp_path / "world", tiles=[(YEAR, *place)], bands=len(BANDS))
    client = GeoTessera(
        base_url=world.root(), cache_dir=tmp_path / "cache", embeddings_dir=tmp_path
    )
    owned = np.array([tile_from_world(*point) == place for point in points.tolist()])
    values, status = client.sample_embeddings_at_points(
        points[owned], YEAR, auto_download=False, return_status=True
    )
    np.testing.assert_array_equal(values, by_rasterio[owned])
    assert set(status) == {Status.VALID, Status.NODATA}
