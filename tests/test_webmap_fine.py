"""Pictures finer than the finest zoom: means of areas, against GDAL's and plain NumPy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from geotessera.types import Window
from geotessera.webmap import Picture, build_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    type Pixels = NDArray[np.uint8]

HALF = 20037508.342789244
LAYOUTS: list[dict[str, Any]] = [
    {"tiled": True, "blockxsize": 128, "blockysize": 128},
    {"tiled": False, "blockysize": 7, "compress": "deflate"},
]


def write(
    path: Path,
    colours: Pixels,
    visible: NDArray[np.bool_],
    how: str,
    place: tuple[float, float, float] = (0.0, 0.0, 10.0),
    **layout: Any,
) -> Path:
    """Write a picture of which pixels are hidden by nodata, a mask or alpha."""
    height, width = visible.shape
    more: dict[str, Any] = {}
    if how == "nodata":
        colours, more = colours * visible, {"nodata": 0}
    elif how == "alpha":
        alpha = (visible * 255).astype(np.uint8)
        colours, more = np.concatenate([colours, alpha[None]]), {"alpha": "yes"}
        more |= {"photometric": "RGB"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=len(colours), height=height, width=width,
            dtype="uint8", crs="EPSG:3857", transform=from_origin(*place[:2], place[2], place[2]),
            **more, **layout,
        ) as dataset,
    ):  # fmt: skip
        dataset.write(colours)
        if how == "mask":
            dataset.write_mask(visible)
    return path


def holes(height: int, width: int) -> tuple[Pixels, NDArray[np.bool_]]:
    rng = np.random.default_rng(height * width)
    colours = rng.integers(1, 256, (3, height, width), np.uint8)
    visible = rng.random((height, width)) < 0.6
    visible[: height // 3, : width // 3] = False
    return colours, visible


def means(colours: Pixels, visible: NDArray[np.bool_], times: int) -> NDArray[np.float64]:
    """Return means of visible pixels, and 255 times their share: (rows, columns, 4)."""
    height, width = (-(-size // times) for size in visible.shape)
    whole = np.zeros((4, height * times, width * times))
    whole[3, : visible.shape[0], : visible.shape[1]] = visible
    whole[:3, : visible.shape[0], : visible.shape[1]] = colours * visible
    sums = whole.reshape(4, height, times, width, times).sum(axis=(2, 4))
    found = np.moveaxis(sums[:3] / np.maximum(sums[3], 1), 0, -1)
    return np.dstack([found, sums[3] / times**2 * 255])


def close(found: Pixels, wanted: NDArray[np.float64]) -> bool:
    """Whether both are alike but for rounding; a colour counts where it is seen."""
    seen = found[..., 3] > 0
    off = np.abs(found - wanted)
    return bool(off[..., 3].max() <= 0.5 + 1e-9 and off[seen].max(initial=0) <= 0.5 + 1e-9)


@pytest.mark.parametrize("how", ["nodata", "mask", "alpha"])
def test_what_is_partly_visible_is_partly_opaque_as_in_gdals_means_of_a_mask(
    tmp_path: Path, how: str
) -> None:
    colours, visible = holes(300, 260)
    path = write(tmp_path / "p.tif", colours, visible, how, tiled=True)
    mask = write(tmp_path / "mask.tif", colours, visible, "mask")
    with rasterio.open(mask) as dataset:
        shape, average = (75, 65), Resampling.average
        wanted = np.dstack([
            *dataset.read(out_shape=shape, resampling=average),
            dataset.dataset_mask(out_shape=shape, resampling=average),
        ])  # fmt: skip
    with Picture(path) as picture:
        found = picture.read(Window(0, 0, 75, 65), 4)
    assert 0 < (found[..., 3] == 0).mean() < 0.5
    assert np.abs(found[..., 3].astype(int) - wanted[..., 3]).max() <= 1  # it cuts off
    seen = found[..., 3] > 0
    assert np.abs(found[seen].astype(int) - wanted[seen])[:, :3].max() <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(300, 260), (1, 700), (401, 1), (1, 1)])
def test_no_row_and_no_column_is_lost(
    tmp_path: Path, shape: tuple[int, int], layout: dict[str, Any]
) -> None:
    colours, visible = holes(*shape)
    visible |= True
    path = write(tmp_path / "p.tif", colours, visible, "nodata", **layout)
    with Picture(path) as picture:
        for times in (2, 3, 7, 64, 1000):
            grid = picture.reduced(times)
            wanted = means(colours, visible, times)
            assert (grid.height, grid.width) == wanted.shape[:2]
            window = Window(0, 0, grid.height, grid.width)
            found = picture.read(window, times)
            assert close(found, wanted)
            middles = picture.read(window, times, "nearest")
            rows, cols = (
                np.minimum(np.arange(count) * times + times // 2, size - 1)
                for count, size in zip(window[2:], shape, strict=True)
            )
            assert (middles[..., 3] == 255).all()
            assert (middles[..., :3] == colours.transpose(1, 2, 0)[np.ix_(rows, cols)]).all()


def test_parts_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours, visible = holes(300, 260)
    for number, layout in enumerate(LAYOUTS):
        path = write(tmp_path / f"{number}.tif", colours, visible, "mask", **layout)
        with Picture(path) as picture:
            whole = picture.read(Window(0, 0, 60, 52), 5)
            assert close(whole, means(colours, visible, 5))
            monkeypatch.setattr("geotessera.webmap.picture._GRAIN", 9)
            monkeypatch.setattr("geotessera.webmap.picture._AT_ONCE", 13)
            assert (picture.read(Window(0, 0, 60, 52), 5) == whole).all()
            part = picture.read(Window(7, 11, 31, 40), 5)
            assert (part == whole[7:38, 11:51]).all()
        monkeypatch.undo()


def test_overviews_of_which_nobody_knows_how_they_were_made_are_left_alone(tmp_path: Path) -> None:
    colours, visible = holes(320, 320)
    path = write(tmp_path / "p.tif", colours, visible, "nodata", tiled=True)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4, 8], Resampling.nearest)
    with Picture(path) as picture:
        assert close(picture.read(Window(0, 0, 80, 80), 4), means(colours, visible, 4))


def test_a_map_of_an_odd_picture_ends_where_the_picture_does(tmp_path: Path) -> None:
    size = 2 * HALF / (256 << 10)
    colours = np.full((3, 4 * 40 + 3, 4 * 30 + 1), 90, np.uint8)
    west, north = -HALF + 600 * 256 * size, HALF - 400 * 256 * size
    visible = np.ones(colours.shape[1:], bool)
    path = write(tmp_path / "p.tif", colours, visible, "nodata", (west, north, size / 4))
    build_tiles(path, tmp_path / "tiles", zooms=(9, 10))
    with Image.open(tmp_path / "tiles/10/600/400.png") as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3].astype(int)
    assert (alpha[:40, :30] == 255).all()
    assert np.abs(alpha[40, :30] - 255 * 3 / 4).max() <= 1
    assert np.abs(alpha[:40, 30] - 255 / 4).max() <= 1
    assert not alpha[41:].any()
    assert not alpha[:, 31:].any()
