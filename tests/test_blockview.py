"""Blocks as colours and on axes, against plain NumPy and what matplotlib then holds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest

from geotessera.errors import BandError, InputError
from geotessera.types import Block, GridSpec, QuantizedRaster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

GRID = GridSpec(32631, (10.0, 0.0, 300000.0, 0.0, -10.0, 5800000.0), 40, 30)


def quantised(layout: Any = "hwc", per_band: bool = False) -> QuantizedRaster:
    rng = np.random.default_rng(4)
    values = rng.integers(-127, 128, (40, 30, 6), dtype=np.int8)
    scales = rng.uniform(0.01, 0.1, (40, 30, 6) if per_band else (40, 30)).astype(np.float32)
    scales[3:5, 7] = [[np.nan] * 6, [np.inf] * 6] if per_band else [np.nan, np.inf]
    if layout == "chw":
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
        scales = np.ascontiguousarray(scales.transpose(2, 0, 1)) if per_band else scales
    return QuantizedRaster(values, scales, GRID, layout)


def plain(block: Block) -> NDArray[np.float32]:
    """float32 (row, column, band), NaN where there is nothing."""
    values = block.values if block.layout == "hwc" else block.values.transpose(1, 2, 0)
    pixels = values.astype(np.float32)
    if block.scales is not None:
        scales = block.scales
        if scales.ndim == 3 and block.layout == "chw":
            scales = scales.transpose(1, 2, 0)
        scales = scales if scales.ndim == 3 else scales[..., None]
        pixels = pixels * np.where(np.isfinite(scales), scales, np.float32(np.nan))
    if block.nodata is not None:
        pixels = np.where(pixels == np.float32(block.nodata), np.float32(np.nan), pixels)
    return pixels


def stretched(pixels: NDArray[np.float32], limits: Any = None, percentiles: Any = (2, 98)) -> Any:
    shown = np.isfinite(pixels).all(axis=2)
    out = np.zeros(pixels.shape, np.float64)
    for band in range(3):
        plane = pixels[..., band].astype(np.float64)
        low, high = limits[band] if limits else np.percentile(plane[shown], percentiles)
        out[..., band] = np.clip((plane - low) / (high - low), 0, 1) * 255
    return np.where(shown[..., None], out, 0), shown


@pytest.mark.parametrize(
    "block",
    [
        quantised(),
        quantised("chw"),
        quantised(per_band=True),
        quantised("chw", per_band=True),
        Block(plain(quantised()), None, GRID),
        Block(plain(quantised()).transpose(2, 0, 1), None, GRID, "chw"),
        Block(np.nan_to_num(plain(quantised()), nan=-9.0), None, GRID, nodata=-9.0),
    ],
    ids=["hwc", "chw", "per-band", "chw-per-band", "float", "float-chw", "nodata"],
)
def test_three_bands_become_colours(block: Block) -> None:
    picked = plain(block)[..., [4, 0, 4]]
    expected, shown = stretched(picked)
    colours = block.rgb((4, 0, 4))
    assert colours.dtype == np.uint8
    assert colours.shape == (40, 30, 3)
    assert np.abs(colours - expected).max() <= 0.501
    with_alpha = block.rgb((4, 0, 4), alpha=True)
    np.testing.assert_array_equal(with_alpha[..., :3], colours)
    np.testing.assert_array_equal(with_alpha[..., 3], np.where(shown, 255, 0))
    assert not shown.all()


def test_limits_and_percentiles() -> None:
    block = quantised()
    limits = [(-1.0, 1.0), (-5.0, 5.0), (0.0, 0.5)]
    expected, _ = stretched(plain(block)[..., :3], limits)
    assert np.abs(block.rgb(limits=limits) - expected).max() <= 0.501
    expected, _ = stretched(plain(block)[..., :3], percentiles=(10, 60))
    assert np.abs(block.rgb(percentiles=(10, 60)) - expected).max() <= 0.501


def test_nothing_and_one_value() -> None:
    nothing = Block(np.full((40, 30, 3), np.nan, np.float32), None, GRID)
    assert not nothing.rgb(alpha=True).any()
    same = Block(np.full((40, 30, 3), 7, np.float32), None, GRID)
    np.testing.assert_array_equal(same.rgb(alpha=True)[0, 0], [0, 0, 0, 255])


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"bands": (0, 1)}, InputError),
        ({"bands": (0, 1, 6)}, BandError),
        ({"bands": (0, 1, -1)}, BandError),
        ({"bands": "012"}, BandError),
        ({"percentiles": (98, 2)}, InputError),
        ({"limits": [(0, 1), (1, 0), (0, 1)]}, InputError),
        ({"limits": [(0, 1)]}, InputError),
    ],
)
def test_what_makes_no_colours(how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        quantised().rgb(**how)


def test_a_model_gives_its_own_colours() -> None:
    from geotessera.pca import fit, fit_stretch

    block = quantised()
    model = fit([block])
    with pytest.raises(InputError, match="stretch"):
        block.rgb(model=model)
    from dataclasses import replace

    model = replace(model, stretch=fit_stretch(model, [block]))
    colours = block.rgb(model=model, alpha=True)
    shown = np.isfinite(plain(block)).all(axis=2)
    np.testing.assert_array_equal(colours[..., 3], np.where(shown, 255, 0))
    # Balanced by histogram over this very block: each level for as many pixels.
    counts = np.bincount(colours[shown][:, 0], minlength=256)
    assert counts.max() <= np.ceil(shown.sum() / 256) + 1
    # Of a model with more components, the first three are shown.
    five = fit([block], n_components=5)
    five = replace(five, stretch=fit_stretch(five, [block]))
    np.testing.assert_array_equal(block.rgb(model=five), colours[..., :3])
    two = fit([block], n_components=2)
    two = replace(two, stretch=fit_stretch(two, [block]))
    with pytest.raises(InputError, match="three components"):
        block.rgb(model=two)


# --- Axes -----------------------------------------------------------------------------------


@pytest.fixture
def plt() -> Iterator[Any]:
    backend = mpl.get_backend()
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")
    mpl.use(backend)


def test_axes_are_in_the_rasters_coordinates(plt: Any) -> None:
    block = quantised()
    ax = block.plot()
    (image,) = ax.get_images()
    assert tuple(image.get_extent()) == (300000, 300300, 5799600, 5800000)
    np.testing.assert_array_equal(image.get_array(), block.rgb(alpha=True))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Easting (m)", "Northing (m)")
    assert ax.get_title() == "EPSG:32631"
    assert ax.get_aspect() == 1
    _, mine = plt.subplots()
    assert block.plot(mine, bands=2, cmap="viridis") is mine
    (image,) = mine.get_images()
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), plain(block)[..., 2])
    assert image.get_cmap().name == "viridis"
    mine.figure.canvas.draw()


def test_degrees(plt: Any) -> None:
    grid = GridSpec(4326, (0.001, 0.0, 5.0, 0.0, -0.001, 60.02), 40, 30)
    ax = Block(plain(quantised()), None, grid).plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Longitude (°)", "Latitude (°)")
    assert ax.get_aspect() == pytest.approx(2, rel=1e-3)  # a degree of longitude is half as long


def test_large_blocks_are_thinned(plt: Any) -> None:
    height, width = 4100, 3
    data = np.zeros((height, width, 3), np.float32)
    data[...] = np.arange(height)[:, None, None]
    grid = GridSpec(32631, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), height, width)
    (image,) = Block(data, None, grid).plot(bands=0).get_images()
    shown = image.get_array()
    assert shown.shape == (1367, 1)
    np.testing.assert_array_equal(shown[:, 0], np.arange(1, height, 3))
    left, right, bottom, top = image.get_extent()
    assert (left, right, top) == (0, 30, 0)
    assert bottom == pytest.approx(-height * 10, abs=30)


def test_rotated_rasters_are_refused(plt: Any) -> None:
    grid = GridSpec(32631, (10.0, 1.0, 0.0, 1.0, -10.0, 0.0), 40, 30)
    with pytest.raises(InputError, match="rotated"):
        Block(plain(quantised()), None, grid).plot()


def test_types_load_neither_numpy_nor_matplotlib() -> None:
    code = (
        "import sys, geotessera.types; "
        "sys.exit(int('numpy' in sys.modules or 'matplotlib' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
