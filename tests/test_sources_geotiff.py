"""GeoTIFF rasters, against rasterio."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geotessera.errors import BandError, FormatError, InputError
from geotessera.sources import GeoTiff
from geotessera.types import Provenance, Window

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, data: np.ndarray[Any, Any], **options: Any) -> Path:
    count, height, width = data.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": data.dtype,
        "crs": "EPSG:32631",
        "transform": from_origin(300000.5, 5800000.25, 10, 10),
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 32,
    }
    tags = options.pop("tags", {})
    with rasterio.open(path, "w", **profile | options) as dataset:
        dataset.write(data)
        dataset.update_tags(**tags)
    return path


@pytest.fixture
def data() -> np.ndarray[Any, Any]:
    data = np.random.default_rng(3).normal(size=(5, 90, 150)).astype(np.float32)
    data[:, 10:20, 10:20] = np.nan
    return data


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_read_equals_rasterio(tmp_path: Path, data: np.ndarray[Any, Any], interleave: str) -> None:
    path = write(tmp_path / "a.tif", data, interleave=interleave, nodata=np.nan)
    hwc = np.moveaxis(data, 0, 2)
    with GeoTiff(path).open() as source:
        assert (source.band_count, source.block_shape) == (5, (32, 64))
        assert source.grid.epsg == 32631
        block = source.read()
        assert not block.quantized
        assert block.layout == "hwc"
        np.testing.assert_array_equal(block.values, hwc)
        part = source.read(Window(5, 60, 40, 33), bands=[4, 1, 4])
        np.testing.assert_array_equal(part.values, hwc[5:45, 60:93][..., [4, 1, 4]])
        assert part.grid.transform == (10, 0, 300600.5, 0, -10, 5799950.25)
        out = np.empty((40, 33, 1), np.float32)
        assert source.read(Window(5, 60, 40, 33), bands=[2], out=out).values is out
        np.testing.assert_array_equal(out[..., 0], data[2, 5:45, 60:93])
        assert source.pixels() is None


@pytest.mark.parametrize("dtype", ["float32", "int16", "float64"])
def test_nodata_is_nan(tmp_path: Path, dtype: str) -> None:
    data = np.arange(2 * 40 * 50, dtype=dtype).reshape(2, 40, 50)
    data[:, 3, 4] = -9999
    path = write(tmp_path / "a.tif", data, nodata=-9999)
    values = GeoTiff(path).open().read().values
    assert values.dtype == np.float32
    assert np.isnan(values[3, 4]).all()
    assert np.isnan(values).sum() == 2
    np.testing.assert_array_equal(values[0], np.moveaxis(data, 0, 2)[0])


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_only_what_is_nodata_exactly_is_nodata(dtype: str, tmp_path: Path) -> None:
    """Its neighbour is the same float32, and data."""
    data = np.full((2, 40, 70), 2**24, dtype)
    data[:, :10] = 2**24 + 1
    data[1, 10:20] = 2**24 + 1
    with GeoTiff(write(tmp_path / "a.tif", data, nodata=2**24 + 1)).open() as source:
        found = source.read(bands=[1, 0]).values
    np.testing.assert_array_equal(np.isnan(found), (data[::-1] == 2**24 + 1).transpose(1, 2, 0))
    assert np.nanmax(found) == np.nanmin(found) == 2**24


def test_nodata_beyond_float32(tmp_path: Path) -> None:
    data = np.ones((1, 20, 20))
    data[0, 3, 4] = lowest = np.finfo(np.float64).min
    with GeoTiff(write(tmp_path / "a.tif", data, nodata=lowest)).open() as source:
        values = source.read().values[..., 0]
    assert np.argwhere(np.isnan(values)).tolist() == [[3, 4]]


@pytest.mark.parametrize("internal", [True, False])
def test_masked_pixels_are_nan(tmp_path: Path, internal: bool) -> None:
    data = np.arange(1200, dtype=np.uint8).reshape(3, 20, 20)
    path = write(tmp_path / "a.tif", data)
    mask = np.full((20, 20), 255, np.uint8)
    mask[2:5, 7:9] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() is not internal
    expected = np.where(mask == 0, np.nan, data).transpose(1, 2, 0).astype(np.float32)
    with GeoTiff(path).open() as source:
        np.testing.assert_array_equal(source.read().values, expected)
        part = source.read(Window(3, 5, 10, 12), bands=[2, 0])
        np.testing.assert_array_equal(part.values, expected[3:13, 5:17][..., [2, 0]])


def test_alpha_is_a_band(tmp_path: Path) -> None:
    data = np.full((4, 20, 20), 9, np.uint8)
    data[3] = 0
    path = write(tmp_path / "a.tif", data, photometric="RGB", alpha="yes")
    with rasterio.open(path) as dataset:
        assert (dataset.dataset_mask() == 0).all()
    with GeoTiff(path).open() as source:
        np.testing.assert_array_equal(source.read().values, data.transpose(1, 2, 0))


def test_identity_from_tags(tmp_path: Path, data: np.ndarray[Any, Any]) -> None:
    tags = {
        "TESSERA_DATASET_VERSION": "1.1",
        "TESSERA_DATASET_VARIANT": "cambridge",
        "TESSERA_YEAR": "2023",
    }
    path = write(tmp_path / "a.tif", data, tags=tags)
    found = GeoTiff(path).open().provenance
    assert found == Provenance("1.1", "cambridge", 2023, str(path))
    bare = write(tmp_path / "b.tif", data, tags={"TESSERA_YEAR": "soon"})
    assert GeoTiff(bare).open().provenance == Provenance(source=str(bare))


def test_threads(tmp_path: Path, data: np.ndarray[Any, Any]) -> None:
    path = write(tmp_path / "a.tif", data, compress="deflate")
    source = pickle.loads(pickle.dumps(GeoTiff(path).open().descriptor)).open()
    hwc = np.moveaxis(data, 0, 2)

    def read(at: int) -> bool:
        row, col = at % 60, at * 7 % 100
        block = source.read(Window(row, col, 30, 50))
        return np.array_equal(block.values, hwc[row : row + 30, col : col + 50], equal_nan=True)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(300)))
    source.close()
    assert source.read(Window(0, 0, 1, 1)).values.shape == (1, 1, 5)


def test_errors(tmp_path: Path, data: np.ndarray[Any, Any]) -> None:
    with pytest.raises(FileNotFoundError):
        GeoTiff(tmp_path / "none.tif").open()
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(FormatError, match=r"text\.tif"):
        GeoTiff(tmp_path / "text.tif").open()
    with pytest.raises(FormatError, match="has no CRS"):
        GeoTiff(write(tmp_path / "bare.tif", data, crs=None)).open()
    source = GeoTiff(write(tmp_path / "a.tif", data)).open()
    with pytest.raises(BandError):
        source.read(bands=[5])
    with pytest.raises(InputError):
        source.read(Window(80, 0, 11, 1))
    with pytest.raises(InputError, match="float32 of shape"):
        source.read(out=np.empty((90, 150, 5)))


def test_damaged_pixels(tmp_path: Path, data: np.ndarray[Any, Any]) -> None:
    path = write(tmp_path / "a.tif", data, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : -2000] = bytes(len(content) - 2000 - len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.tif"):
        GeoTiff(path).open().read()
