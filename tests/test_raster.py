"""Merged GeoTIFFs, re-read by rasterio; grids and numbers are what upstream 0.11.0 wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject

from geotessera import GeoTessera
from geotessera.errors import (
    BandError,
    DatasetMismatchError,
    FormatError,
    InputError,
    UnwritableDestination,
)
from geotessera.raster import merge_geotiffs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geotessera.testing import SampleWorld

LEFT, TOP = 463000.0, 9290000.0
UTM = "EPSG:32635"
KNOWN = {
    "TESSERA_DATASET_VERSION": "1.1",
    "TESSERA_DATASET_VARIANT": "cambridge",
    "TESSERA_YEAR": "2024",
}


def write(
    path: Path,
    data: NDArray[Any],
    x: float = LEFT,
    y: float = TOP,
    *,
    size: float = 10,
    tags: dict[str, str] | None = None,
    names: list[str] | None = None,
    mask: NDArray[np.uint8] | None = None,
    **options: Any,
) -> Path:
    profile = {
        "driver": "GTiff", "dtype": data.dtype, "count": data.shape[0], "height": data.shape[1],
        "width": data.shape[2], "crs": UTM, "transform": from_origin(x, y, size, size),
    }  # fmt: skip
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile | options) as dataset,
    ):
        dataset.write(data)
        dataset.update_tags(**tags or {})
        if names:
            dataset.descriptions = names
        if mask is not None:
            dataset.write_mask(mask)
    return path


def read(path: str | Path) -> NDArray[np.float32]:
    with rasterio.open(path) as dataset:
        pixels: NDArray[np.float32] = dataset.read()
    return pixels


def damage(path: Path) -> Path:
    """Spoil the middle of a compressed file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(rasterio.errors.RasterioIOError):
        read(path)
    return path


def noise(bands: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two overlapping rasters of 4 bands on one grid; the first has a hole in the overlap."""
    first, second = noise(4, 30, 40), noise(4, 30, 40, seed=1)
    first[:, 15:18, 33:39] = np.nan
    first[:, 20, 35] = 0
    names = [f"Tessera_Band_{band}" for band in range(4)]
    return [
        write(tmp_path / "a.tif", first, nodata=np.nan, tags=KNOWN, names=names),
        write(tmp_path / "b.tif", second, LEFT + 300, TOP - 100, nodata=np.nan, names=names),
    ]


# --- Grids, profile, tags ------------------------------------------------------------------

# CRS, pixel size, left, top, columns, rows that upstream wrote for two rasters like `pair`.
OBSERVED = {
    UTM: (10.0, 463000.0, 9290000.0, 70, 40),
    "EPSG:3857": (90.1364544267971, 2671910.5608483576, 18445238.8618546, 71, 40),
    "+proj=laea +lat_0=52 +lon_0=10": (
        10.340656457495301, 178208.92939746697, 3502810.431350007, 80, 39,
    ),
}  # fmt: skip


@pytest.mark.parametrize("crs", OBSERVED)
def test_grid_is_upstreams(pair: list[Path], tmp_path: Path, crs: str) -> None:
    pixel, left, top, width, height = OBSERVED[crs]
    with rasterio.open(merge_geotiffs(pair, tmp_path / "o.tif", crs)) as dataset:
        assert dataset.crs == rasterio.CRS.from_user_input(crs)
        assert dataset.shape == (height, width)
        np.testing.assert_allclose(
            tuple(dataset.transform)[:6], (pixel, 0, left, 0, -pixel, top), rtol=1e-12
        )


def test_profile_and_tags(pair: list[Path], tmp_path: Path) -> None:
    with rasterio.open(merge_geotiffs(pair, tmp_path / "o.tif")) as dataset:
        profile, tags = dataset.profile, dataset.tags()
        assert dataset.descriptions == tuple(f"Tessera_Band_{band}" for band in range(4))
        assert dataset.colorinterp == (1, 0, 0, 0)
        assert dataset.mask_flag_enums == ([rasterio.enums.MaskFlags.nodata],) * 4
        assert not dataset.overviews(1)
    assert np.isnan(profile.pop("nodata"))
    assert {key: profile[key] for key in profile if key not in ("crs", "transform")} == {
        "driver": "GTiff", "dtype": "float32", "width": 71, "height": 40, "count": 4,
        "blockxsize": 256, "blockysize": 256, "tiled": True, "compress": "lzw",
        "interleave": "pixel",
    }  # fmt: skip
    assert tags.items() >= (KNOWN | {"TESSERA_DATASET_VERSION_PATH": "v1.1"}).items()
    assert (tags["TESSERA_TARGET_CRS"], tags["TESSERA_TILE_COUNT"]) == ("EPSG:3857", "2")
    assert tags["GEOTESSERA_VERSION"]


def test_tags_of_the_place_of_one_tile_are_left_out(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    gt = GeoTessera(base_url=tiny_world.root(), embeddings_dir=tiny_world.checkout(tmp_path))
    paths = gt.export_embedding_geotiffs([one.tile for one in tiny_world.tiles], tmp_path / "tiff")
    path = gt.merge_geotiffs_to_mosaic(paths, tmp_path / "o.tif")
    with rasterio.open(path) as dataset:
        assert str(dataset.crs) == "EPSG:3857"
        assert dataset.tags()["TESSERA_YEAR"] == "2024"
        assert dataset.tags()["TESSERA_DATASET_VARIANT"] == "cambridge"
        assert not {"TESSERA_TILE_LAT", "TESSERA_TILE_LON"} & set(dataset.tags())
        assert np.isfinite(dataset.read()).mean() > 0.5


@pytest.mark.parametrize("compress", ["LZW", "deflate", "zstd", "none", None])
def test_compression(pair: list[Path], tmp_path: Path, compress: str | None) -> None:
    path = merge_geotiffs(pair, tmp_path / "o.tif", UTM, compress)
    plain = merge_geotiffs(pair, tmp_path / "p.tif", UTM)
    with rasterio.open(path) as dataset:
        found = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
        assert found == (compress or "none").upper()
    np.testing.assert_array_equal(read(path), read(plain))


def test_bands_and_names(pair: list[Path], tmp_path: Path) -> None:
    whole = read(merge_geotiffs(pair, tmp_path / "o.tif", UTM))
    with rasterio.open(merge_geotiffs(pair, tmp_path / "p.tif", UTM, bands=[3, 1, 1])) as dataset:
        assert dataset.descriptions == ("Tessera_Band_3", "Tessera_Band_1", "Tessera_Band_1")
        np.testing.assert_array_equal(dataset.read(), whole[[3, 1, 1]])


def test_foreign_bands_get_no_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(2, 5, 5))
    with rasterio.open(merge_geotiffs([path], tmp_path / "o.tif", UTM)) as dataset:
        assert dataset.descriptions == (None, None)


# --- Pixels --------------------------------------------------------------------------------


def test_first_valid_wins(pair: list[Path], tmp_path: Path) -> None:
    first, second = (read(path) for path in pair)
    expected = np.full((4, 40, 70), np.nan, np.float32)
    expected[:, 10:, 30:] = second
    valid = ~np.isnan(first).any(axis=0)
    expected[:, :30, :40][:, valid] = first[:, valid]
    assert (expected[:, 20, 35] == 0).all()
    assert np.isfinite(expected[:, 15:18, 33:39]).all()  # the hole is filled by the second
    np.testing.assert_array_equal(read(merge_geotiffs(pair, tmp_path / "o.tif", UTM)), expected)
    turned = np.full((4, 40, 70), np.nan, np.float32)
    turned[:, :30, :40] = first
    turned[:, 10:, 30:] = second
    path = merge_geotiffs(reversed(pair), tmp_path / "p.tif", UTM)
    np.testing.assert_array_equal(read(path), turned)


def test_order_of_the_list_decides_also_for_tiles(tiny_world: SampleWorld, tmp_path: Path) -> None:
    # Exported tiles overlap by a sliver beyond their cells.
    gt = GeoTessera(base_url=tiny_world.root(), embeddings_dir=tiny_world.checkout(tmp_path))
    paths = gt.export_embedding_geotiffs([one.tile for one in tiny_world.tiles], tmp_path / "tiff")
    one = read(merge_geotiffs(paths, tmp_path / "a.tif", UTM))
    other = read(merge_geotiffs(paths[::-1], tmp_path / "b.tif", UTM))
    assert one.shape[0] == other.shape[0] == 4
    first = read(merge_geotiffs(paths[:1], tmp_path / "c.tif", UTM))
    rows, cols = first.shape[1:]
    valid = np.isfinite(first)
    assert not np.array_equal(one, other[:, : one.shape[1], : one.shape[2]], equal_nan=True)
    np.testing.assert_array_equal(one[:, :rows, :cols][valid], first[valid])


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0), ("int8", -5), ("int16", -99), ("uint16", 7), ("int32", -9999),
        ("uint32", 3), ("float32", -1e30), ("float64", -1e300), ("float32", np.nan),
    ],
)  # fmt: skip
def test_dtypes_and_nodata(tmp_path: Path, dtype: str, nodata: float) -> None:
    data = np.random.default_rng(4).integers(8, 100, (3, 20, 30)).astype(dtype)
    data[:, 3:5, 3:6] = nodata
    filler = np.full((3, 20, 30), 2, np.float32)
    paths = [
        write(tmp_path / "a.tif", data, nodata=nodata),
        write(tmp_path / "b.tif", filler, LEFT, TOP, nodata=np.nan),
    ]
    found = read(merge_geotiffs(paths, tmp_path / "o.tif", UTM))
    expected = data.astype(np.float64)
    expected[:, 3:5, 3:6] = 2
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    alone = read(merge_geotiffs(paths[:1], tmp_path / "p.tif", UTM))
    assert np.isnan(alone[:, 3:5, 3:6]).all()
    assert np.isnan(alone).sum() == 18


def test_zero_is_data_without_nodata(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.tif", np.zeros((1, 5, 5), np.uint8)),
        write(tmp_path / "b.tif", np.ones((1, 5, 5), np.uint8)),
    ]
    assert (read(merge_geotiffs(paths, tmp_path / "o.tif", UTM)) == 0).all()


def test_masks_and_alpha(tmp_path: Path) -> None:
    mask = np.full((10, 10), 255, np.uint8)
    mask[2, 3] = 0
    ones, twos = np.ones((4, 10, 10), np.uint8), np.full((4, 10, 10), 2, np.uint8)
    below = write(tmp_path / "b.tif", twos)
    masked = write(tmp_path / "m.tif", ones, mask=mask)
    found = read(merge_geotiffs([masked, below], tmp_path / "o.tif", UTM))
    assert (found[:, 2, 3] == 2).all()
    assert (found == 1).sum() == 396
    ones[3] = mask
    alpha = write(tmp_path / "a.tif", ones, photometric="RGB", alpha="yes")
    # As upstream: alpha is a band like the others, and hides nothing.
    found = read(merge_geotiffs([alpha, below], tmp_path / "o.tif", UTM))
    np.testing.assert_array_equal(found, ones)


def test_a_pixel_comes_from_one_raster(tmp_path: Path) -> None:
    # Upstream fills single bands from the next raster: a vector that neither raster holds.
    first = np.ones((3, 5, 5), np.float32)
    first[1, 2, 2] = np.nan
    paths = [
        write(tmp_path / "a.tif", first, nodata=np.nan),
        write(tmp_path / "b.tif", np.full((3, 5, 5), 2, np.float32), nodata=np.nan),
    ]
    found = read(merge_geotiffs(paths, tmp_path / "o.tif", UTM))
    np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("shift", [-3, 3, 4.9, 5.1, 7, 12])
def test_same_pixels_are_copied_to_the_nearest_place(tmp_path: Path, shift: float) -> None:
    # Upstream put the first two, and 7, up to a whole pixel off.
    first, second = noise(2, 10, 10), noise(2, 10, 10, seed=1)
    paths = [
        write(tmp_path / "a.tif", first),
        write(tmp_path / "b.tif", second, LEFT + 200 + shift, TOP - shift),
    ]
    with rasterio.open(merge_geotiffs(paths, tmp_path / "o.tif", UTM)) as dataset:
        assert dataset.transform == from_origin(LEFT, max(TOP, TOP - shift), 10, 10)
        found = dataset.read()
    step = round(shift / 10) if shift > 0 else 0
    down = 0 if shift < 0 else step
    np.testing.assert_array_equal(
        found[:, down : down + 10, 20 + step : 30 + step][:, :9], second[:, :9]
    )
    above = round(-shift / 10) if shift < 0 else 0
    np.testing.assert_array_equal(found[:, above : above + 9, :10], first[:, :9])


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326", "EPSG:3995"])
def test_warped_pixels_are_gdals(tmp_path: Path, crs: str) -> None:
    row, col = np.indices((700, 600))
    smooth = np.stack([np.sin(row / 40) + col / 300, np.cos(col / 50)]).astype(np.float32)
    path = write(tmp_path / "a.tif", smooth)
    with rasterio.open(merge_geotiffs([path], tmp_path / "o.tif", crs)) as dataset:
        found = dataset.read()
        expected = np.full_like(found, np.nan)
        reproject(
            smooth, expected, src_transform=from_origin(LEFT, TOP, 10, 10), src_crs=UTM,
            dst_transform=dataset.transform, dst_crs=crs, dst_nodata=np.nan, tolerance=0,
            resampling=Resampling.bilinear, XSCALE=1, YSCALE=1,
        )  # fmt: skip
        assert max(dataset.shape) > 512  # several blocks
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.3
    assert (np.isfinite(found) != np.isfinite(expected)).mean() < 1e-3
    np.testing.assert_allclose(found[both], expected[both], rtol=0, atol=2e-4)


def test_first_file_gives_the_resolution(tmp_path: Path) -> None:
    data = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    fine = write(tmp_path / "a.tif", data)
    coarse = write(tmp_path / "b.tif", data, LEFT + 100, size=20)
    found = read(merge_geotiffs([fine, coarse], tmp_path / "o.tif", UTM))
    assert found.shape == (1, 20, 30)
    np.testing.assert_array_equal(found[:, :10, :10], data)
    # The last columns of the first rows, as upstream wrote them.
    np.testing.assert_allclose(
        found[0, :2, -4:], [[7.75, 8.25, 8.75, 9.0], [10.25, 10.75, 11.25, 11.5]], rtol=1e-6
    )
    assert read(merge_geotiffs([coarse, fine], tmp_path / "p.tif", UTM)).shape == (1, 10, 15)


def test_bounds(pair: list[Path], tmp_path: Path) -> None:
    bounds = (LEFT + 53, TOP - 207, LEFT + 498, TOP - 41)
    path = merge_geotiffs(pair, tmp_path / "o.tif", UTM, bounds=bounds)
    with rasterio.open(path) as dataset:
        # As upstream: pixels begin at the upper-left corner, and the size is rounded.
        assert (dataset.shape, dataset.transform) == (
            (17, 44), from_origin(LEFT + 53, TOP - 41, 10, 10),
        )  # fmt: skip
        found = dataset.read()
    whole = read(merge_geotiffs(pair, tmp_path / "p.tif", UTM))
    np.testing.assert_array_equal(found, whole[:, 4:21, 5:49])


# --- Refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("TESSERA_DATASET_VARIANT", "vultr", "different datasets"),
        ("TESSERA_DATASET_VERSION", "1", "different datasets"),
        ("TESSERA_YEAR", "2023", "years"),
    ],
)
def test_what_does_not_compare_is_not_mixed(
    tmp_path: Path, key: str, value: str, match: str
) -> None:
    data = noise(2, 5, 5)
    one = write(tmp_path / "a.tif", data, tags=KNOWN)
    other = write(tmp_path / "b.tif", data, tags=KNOWN | {key: value})
    unknown = write(tmp_path / "c.tif", data)
    with pytest.raises(DatasetMismatchError, match=match):
        merge_geotiffs([one, unknown, other], tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()
    merge_geotiffs([unknown, one, unknown], tmp_path / "o.tif")


def test_other_bands_are_not_mixed(tmp_path: Path) -> None:
    data = noise(2, 5, 5)
    one = write(tmp_path / "a.tif", data, names=["Tessera_Band_0", "Tessera_Band_1"])
    other = write(tmp_path / "b.tif", data, names=["Tessera_Band_0", "Tessera_Band_7"])
    with pytest.raises(DatasetMismatchError, match="Tessera_Band_7"):
        merge_geotiffs([one, other], tmp_path / "o.tif")
    with pytest.raises(BandError, match="2 bands"):
        merge_geotiffs([one, write(tmp_path / "c.tif", noise(3, 5, 5))], tmp_path / "o.tif")


@pytest.mark.parametrize("bands", [[-1], [4], [], [1.5]])
def test_bad_bands(pair: list[Path], tmp_path: Path, bands: Any) -> None:
    with pytest.raises(BandError):
        merge_geotiffs(pair, tmp_path / "o.tif", bands=bands)


def test_bad_inputs(pair: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "out" / "o.tif"
    with pytest.raises(InputError, match="at least one"):
        merge_geotiffs([], target)
    with pytest.raises(InputError, match="list"):
        merge_geotiffs(str(pair[0]), target)
    with pytest.raises(FileNotFoundError):
        merge_geotiffs([tmp_path / "none.tif"], target)
    with pytest.raises(InputError, match="99999"):
        merge_geotiffs(pair, target, "EPSG:99999")
    with pytest.raises(InputError, match=r"deflate.*lzw"):
        merge_geotiffs(pair, target, compress="zip")
    for bounds in ((10, 0, 5, 100), (0, 0, 0, 100)):
        with pytest.raises(InputError, match="bounds"):
            merge_geotiffs(pair, target, UTM, bounds=bounds)
    with pytest.raises(ValueError, match="CRS"):
        merge_geotiffs([write(tmp_path / "n.tif", noise(1, 5, 5), crs=None)], target)
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    with pytest.raises(FormatError, match=r"text\.tif"):
        merge_geotiffs([text], target)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    "transform",
    [rasterio.Affine(10, 1, LEFT, 1, -10, TOP), rasterio.Affine(10, 0, LEFT, 0, 10, TOP)],
)
def test_turned_rasters(tmp_path: Path, transform: rasterio.Affine) -> None:
    path = write(tmp_path / "turned.tif", noise(1, 5, 5), transform=transform)
    with pytest.raises(FormatError, match=r"turned\.tif.*north-up"):
        merge_geotiffs([path], tmp_path / "o.tif", UTM)


# --- Files ---------------------------------------------------------------------------------


def test_path_is_returned_and_made(pair: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "new" / "directory" / "o.tif"
    assert merge_geotiffs(map(str, pair), target, UTM) == str(target)
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]


def test_umask(pair: list[Path], tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = merge_geotiffs(pair, tmp_path / "o.tif", UTM)
    finally:
        os.umask(before)
    assert Path(path).stat().st_mode & 0o777 == 0o640


def test_onto_an_input(pair: list[Path], tmp_path: Path) -> None:
    expected = read(merge_geotiffs(pair, tmp_path / "o.tif", UTM))
    np.testing.assert_array_equal(read(merge_geotiffs(pair, pair[0], UTM)), expected)


def test_failure_keeps_what_was_there(pair: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "out" / "o.tif"
    target.parent.mkdir()
    target.write_bytes(b"precious")
    damaged = damage(write(tmp_path / "c.tif", noise(4, 300, 300), compress="deflate"))
    with pytest.raises(FormatError, match=r"c\.tif cannot be read") as caught:
        merge_geotiffs([*pair, damaged], target, UTM)
    for untrue in ("continue", "previous exception"):
        assert untrue not in str(caught.value)
    assert target.read_bytes() == b"precious"
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]


@pytest.mark.parametrize("name", ["grid_0.00_0.05_2024.tif", "grid_999.95_0.05_2024.tif"])
def test_names_that_are_no_tiles_are_names(name: str, tmp_path: Path) -> None:
    data = noise(2, 5, 6)
    merge_geotiffs([write(tmp_path / name, data)], tmp_path / "o.tif", UTM)
    np.testing.assert_array_equal(read(tmp_path / "o.tif"), data)


def test_onto_a_directory(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises((InputError, UnwritableDestination), match="directory"):
        merge_geotiffs(pair, tmp_path, UTM)


def test_progress(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 600, 1100))
    calls: list[tuple[int, int]] = []
    merge_geotiffs(
        [path], tmp_path / "o.tif", UTM, progress_callback=lambda *call: calls.append(call[:2])
    )
    assert calls == sorted(calls)
    assert calls[-1] == (15, 15)  # blocks of 256 × 256
    assert {total for _, total in calls} == {15}
