"""Pictures of three bands, re-read by rasterio; numbers are what upstream 0.11.0 wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from geotessera import raster
from geotessera.errors import BandError, DatasetMismatchError, FormatError, InputError
from geotessera.visualization import create_rgb_mosaic
from test_raster import KNOWN, LEFT, TOP, UTM, damage, noise, read, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def picture(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The three bands, and the mask: 255 where there is something."""
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask()


def stretched(bands: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Least to greatest finite value of each band as 0 to 255, truncated, by plain NumPy."""
    shown = np.isfinite(bands).all(axis=0)
    out = np.zeros(bands.shape, np.uint8)
    for band, plane in enumerate(bands.astype(np.float64)):
        finite = plane[np.isfinite(plane)]
        if finite.size and finite.max() > finite.min():
            span = finite.max() - finite.min()
            out[band][shown] = ((plane[shown] - finite.min()) / span * 255).astype(np.uint8)
    return out, shown


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Five bands: a pixel without any, one without band 1, and a constant band."""
    data = noise(5, 30, 40, seed=1)
    data[:, 0, 0] = np.nan
    data[1, 1, 1] = np.nan
    data[0, 1, 1] = 90
    data[3] = 7
    names = [f"Tessera_Band_{band}" for band in range(5)]
    return write(tmp_path / "a.tif", data, nodata=np.nan, tags=KNOWN, names=names)


def test_range_of_each_band(holed: Path, tmp_path: Path) -> None:
    pixels, mask = picture(create_rgb_mosaic([holed], tmp_path / "o.tif", (0, 1, 4), UTM))
    expected, shown = stretched(read(holed)[[0, 1, 4]])
    np.testing.assert_array_equal(mask, np.where(shown, 255, 0))
    np.testing.assert_array_equal(pixels, expected)
    # As upstream: a pixel that is not shown, for want of another band, stretches its band.
    assert pixels[0].max() < 20
    assert (pixels[:, 0, 0] == 0).all()
    assert (pixels[1:].max(axis=(1, 2)) == 255).all()


def test_profile_and_tags(holed: Path, tmp_path: Path) -> None:
    with rasterio.open(create_rgb_mosaic([holed], tmp_path / "o.tif")) as dataset:
        profile, tags = dataset.profile, dataset.tags()
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert dataset.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        # What upstream wrote for the same raster: pixel size, left, top.
        a, _, left, _, e, top = tuple(dataset.transform)[:6]
        np.testing.assert_allclose(
            (a, -e, left, top),
            (90.1364544267971, 90.1364544267971, 2671910.5608483576, 18445238.8618546),
            rtol=1e-12,
        )
        assert str(dataset.crs) == "EPSG:3857"
    assert {key: profile[key] for key in profile if key not in ("crs", "transform")} == {
        "driver": "GTiff", "dtype": "uint8", "nodata": None, "width": 41, "height": 32, "count": 3,
        "blockxsize": 512, "blockysize": 512, "tiled": True, "compress": "lzw",
        "interleave": "pixel",
    }  # fmt: skip
    assert tags["TIFFTAG_IMAGEDESCRIPTION"] == "RGB visualization using bands (0, 1, 2)"
    assert tags.items() >= KNOWN.items()
    assert (tags["TESSERA_TARGET_CRS"], tags["TESSERA_TILE_COUNT"]) == ("EPSG:3857", "1")
    assert [path.name for path in tmp_path.iterdir() if path.name != holed.name] == ["o.tif"]


def test_constant_band_is_zero(holed: Path, tmp_path: Path) -> None:
    pixels, mask = picture(create_rgb_mosaic([holed], tmp_path / "o.tif", [3, 0, 3], UTM))
    assert (pixels[[0, 2]] == 0).all()
    assert pixels[1].max() == 255
    assert (mask > 0).sum() == 30 * 40 - 1


def test_infinite_values_are_masked(tmp_path: Path) -> None:
    data = noise(3, 10, 10)
    data[0, 4, 4], data[1, 5, 5] = np.inf, -np.inf
    path = write(tmp_path / "a.tif", data)
    pixels, mask = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    expected, shown = stretched(data)
    assert (~shown).sum() == 2
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(mask > 0, shown)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_truncates_as_upstream(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(3).integers(0, 200, (3, 40, 50)).astype(dtype)
    path = write(tmp_path / "a.tif", data)
    pixels, _ = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    expected, _ = stretched(data.astype(np.float32))
    np.testing.assert_array_equal(pixels, expected)


def test_nothing_to_see(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((3, 10, 10), np.nan, np.float32), nodata=np.nan)
    pixels, mask = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    assert not pixels.any()
    assert not mask.any()


@pytest.mark.parametrize("in_memory", [True, False])
def test_many_blocks_have_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(raster, "_IN_MEMORY", 0)
    first = noise(3, 700, 600)
    first[:, 100:300, 500:] = np.nan
    second = noise(3, 700, 600, seed=1) * 5
    paths = [
        write(tmp_path / "a.tif", first, nodata=np.nan),
        write(tmp_path / "b.tif", second, LEFT + 5000, TOP, nodata=np.nan),
    ]
    calls: list[tuple[int, int, str]] = []
    found = create_rgb_mosaic(
        paths, tmp_path / "o.tif", (2, 1, 0), UTM, lambda *call: calls.append(call)
    )
    pixels, mask = picture(found)
    expected, shown = stretched(read(raster.merge_geotiffs(paths, tmp_path / "m.tif", UTM))[::-1])
    assert pixels.shape == (3, 700, 1100)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(mask > 0, shown)
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (12, 12, "Complete")  # six blocks, twice


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 2, 3), (), None])
def test_three_bands_are_needed(holed: Path, tmp_path: Path, bands: Any) -> None:
    with pytest.raises(InputError):
        create_rgb_mosaic([holed], tmp_path / "o.tif", bands)


def test_refusals(holed: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "o.tif"
    for bands in ((0, 1, 5), (0, 1, -1)):
        with pytest.raises(BandError):
            create_rgb_mosaic([holed], target, bands)
    with pytest.raises(InputError, match="at least one"):
        create_rgb_mosaic([], target)
    with pytest.raises(FormatError, match="CRS"):
        create_rgb_mosaic([write(tmp_path / "n.tif", noise(3, 5, 5), crs=None)], target)
    other = write(
        tmp_path / "b.tif", noise(5, 5, 5), tags=KNOWN | {"TESSERA_DATASET_VARIANT": "vultr"}
    )
    with pytest.raises(DatasetMismatchError, match="different datasets"):
        create_rgb_mosaic([holed, other], target)
    assert not target.parent.exists()


def test_file(holed: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "o.tif"
    before = os.umask(0o027)
    try:
        found = create_rgb_mosaic([str(holed)], str(target), np.array([4, 2, 0]), UTM)
    finally:
        os.umask(before)
    assert found == str(target)
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]
    # A failure leaves the picture as it is.
    content = target.read_bytes()
    damaged = damage(write(tmp_path / "c.tif", noise(5, 300, 300), compress="deflate"))
    with pytest.raises(RuntimeError, match=r"c\.tif"):
        create_rgb_mosaic([damaged], target, target_crs=UTM)
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]
