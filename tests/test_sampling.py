"""`sample_source`: gathered pixels, mapped pixels and windows give the same rows."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
import rasterio
from tests import oracles

from geotessera.errors import BandError, FormatError
from geotessera.sampling import sample_source
from geotessera.sources import GeoTiff, NpySource, NpyTile
from geotessera.types import SparsePixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geotessera.testing import SampleWorld


@pytest.fixture
def tile(tiny_world: SampleWorld, tmp_path: Path) -> NpyTile:
    """A copy of a tile whose files a test may damage; some scales are NaN."""
    files = [shutil.copy(path, tmp_path / path.name) for path in tiny_world.tiles[0].files]
    made = NpyTile(*map(Path, files))
    scales = np.load(made.scales)
    scales[np.random.default_rng(3).random(scales.shape) < 0.2] = np.nan
    np.save(made.scales, scales)
    return made


def mapped(tile: NpyTile) -> NpySource:
    """A source that has mapped its files already, and so gathers no more."""
    source = tile.open()
    source.pixels()
    assert not source.prefers_gather(1)
    return source


def some_points(source: NpySource, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points on and beside a raster, in its CRS and in degrees."""
    rng = np.random.default_rng(5)
    west, south, east, north = source.grid.bounds
    xy = np.column_stack(
        [rng.uniform(west - 50, east + 50, count), rng.uniform(south - 50, north + 50, count)]
    )
    back = pyproj.Transformer.from_crs(source.grid.epsg, 4326, always_xy=True)
    return xy, np.column_stack(back.transform(*xy.T))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("mask_water", [False, True])
@pytest.mark.parametrize("bands", [None, [2, 0, 2]])
@pytest.mark.parametrize("per_band", [False, True])
def test_gathered_is_mapped_is_the_reference(
    tile: NpyTile, method: Any, mask_water: bool, bands: list[int] | None, per_band: bool
) -> None:
    values = np.load(tile.embedding)
    if per_band:
        scales = np.random.default_rng(1).normal(size=values.shape).astype(np.float32)
        scales[scales > 1] = np.inf
        np.save(tile.scales, scales)
    scales = np.load(tile.scales)
    source = tile.open()
    xy, points = some_points(source, 20)
    assert source.prefers_gather(len(points))
    places = [np.full((len(points), 2), 9, np.int32) for _ in range(2)]
    options: dict[str, Any] = {"method": method, "bands": bands, "mask_water": mask_water}
    found = sample_source(source, points, pixels=places[0], **options)
    assert source._mapped is None  # nothing but the pixels was read
    whole = sample_source(mapped(tile), points, pixels=places[1], **options)
    np.testing.assert_array_equal(found[0].view(np.uint32), whole[0].view(np.uint32))
    np.testing.assert_array_equal(found[1], whole[1])
    np.testing.assert_array_equal(*places)
    land = None
    if mask_water:
        with rasterio.open(tile.landmask) as dataset:
            land = dataset.read(1)
    expected = oracles.sample(
        values, scales, source.grid.transform, xy, method=method, bands=bands, land=land
    )
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(places[0], expected[2])
    # PROJ and the kernel agree within a micrometre: the weights differ in the tenth digit.
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


def test_only_the_rows_that_are_meant(tile: NpyTile) -> None:
    _, points = some_points(tile.open(), 60)
    rows = np.arange(1, 60, 4)
    results = []
    for source in (tile.open(), mapped(tile)):
        values = np.full((60, 4), -5, np.float32)
        status = np.full(60, 77, np.uint8)
        sample_source(source, points, rows=rows, values=values, status=status)
        results.append((values, status))
    others = np.delete(np.arange(60), rows)
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[0][0][others] == -5).all()
    assert (results[0][1][others] == 77).all()
    assert (results[0][1][rows] != 77).all()


def test_geotiffs_do_not_gather(tile: NpyTile, tmp_path: Path) -> None:
    with tile.open() as source:
        assert source.grid.epsg is not None
        _, points = some_points(source, 20)
        expected, status = sample_source(source, points, method="bilinear")
        floats = source.read().dequantize()  # type: ignore[attr-defined]
        grid = source.grid
    path = tmp_path / "t.tif"
    height, width, count = floats.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="float32",
        crs=grid.crs,
        transform=grid.affine,
        height=height,
        width=width,
        count=count,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    ) as dataset:
        dataset.write(np.moveaxis(floats, -1, 0))
    with GeoTiff(path).open() as tiff:
        assert not tiff.prefers_gather(1)
        assert tiff.gather(np.array([0])) is None
        found, found_status = sample_source(tiff, points, method="bilinear")
    np.testing.assert_array_equal(found_status, status)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gather_equals_numpy(tile: NpyTile) -> None:
    values, scales = np.load(tile.embedding), np.load(tile.scales)
    numbers = np.array([0, 1, 2, 500, values[..., 0].size - 1])
    some = tile.open().gather(numbers)
    assert isinstance(some, SparsePixels)
    assert some.values.dtype == np.int8
    np.testing.assert_array_equal(some.values, values.reshape(-1, values.shape[2])[numbers])
    np.testing.assert_array_equal(some.scales, scales.ravel()[numbers])


def test_many_points_map_and_few_do_until_they_are_many(tile: NpyTile) -> None:
    source = tile.open()
    _, points = some_points(source, 4000)
    sample_source(source, points)
    assert source._mapped is not None
    source = tile.open()
    expected = sample_source(mapped(tile), points[:100])[0]
    for at in range(100):
        found = sample_source(source, points[at : at + 1])[0]
        np.testing.assert_array_equal(found[0], expected[at])
    assert source._mapped is not None


def test_many_threads(tile: NpyTile) -> None:
    _, points = some_points(tile.open(), 400)
    expected = sample_source(mapped(tile), points, method="bilinear")[0]
    source = tile.open()  # shared: some threads gather, one maps, the others see that

    def work(first: int) -> bool:
        part = points[first : first + 5]
        found = sample_source(source, part, method="bilinear")[0]
        return bool(np.array_equal(found, expected[first : first + 5], equal_nan=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(0, 400, 5)))


@pytest.mark.parametrize("which", ["embedding", "scales"])
@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("count", [10, 5000])
def test_a_file_that_changes_while_it_is_open(
    tile: NpyTile, which: str, change: int, count: int
) -> None:
    source = tile.open()
    _, points = some_points(source, count)
    path = Path(getattr(tile, which))
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(FormatError, match="changed while it was open") as caught:
        sample_source(source, points)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("count", [10, 5000])
def test_a_file_that_goes_away_while_the_tile_is_open(tile: NpyTile, count: int) -> None:
    source = tile.open()
    _, points = some_points(source, count)
    Path(tile.embedding).unlink()
    with pytest.raises(FileNotFoundError):
        sample_source(source, points)


@pytest.mark.parametrize("gathers", [True, False])
def test_bad_bands_whichever_way(tile: NpyTile, gathers: bool) -> None:
    source = tile.open() if gathers else mapped(tile)
    _, points = some_points(source, 3)
    with pytest.raises(BandError):
        sample_source(source, points, bands=[4])
