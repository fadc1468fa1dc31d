"""A small picture of embeddings: three principal components as colours, water in blue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geotessera.layout import TileFiles
    from geotessera.types import GridSpec

__all__ = ["Picture", "write_quicklook"]

SAMPLE_PIXELS = 20_000
"""Pixels of a tile that the components are fitted to; more changes nothing visible."""

WATER_RGB = (38, 84, 140)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was written.

    Parameters
    ----------
    path : Path
        The PNG.
    width, height : int
        Its size in pixels.
    explained : float
        Share of the variance that the three components hold.
    """

    path: Path
    width: int
    height: int
    explained: float


@dataclass(frozen=True, slots=True, eq=False)
class _Thin:
    """Every n-th pixel of a tile, dequantised, and where they are."""

    values: NDArray[np.float32]  # (row, column, band)
    water: NDArray[np.bool_]
    grid: GridSpec


def _thin(tile: TileFiles, step: int) -> _Thin:
    import rasterio

    from geotessera.types import GridSpec

    # Memory-mapped, so that skipped rows are never read.
    values = np.load(tile.embedding, mmap_mode="r")[step // 2 :: step, step // 2 :: step]
    scales = np.load(tile.scales, mmap_mode="r")[step // 2 :: step, step // 2 :: step]
    with rasterio.open(tile.landmask) as raster:
        a, b, c, d, e, f = tuple(raster.transform)[:6]
        land = raster.read(1)[step // 2 :: step, step // 2 :: step]
        epsg = raster.crs.to_epsg()
    height, width = values.shape[:2]
    grid = GridSpec(epsg, (a * step, b, c, d, e * step, f), height, width)
    pixels = _native.dequantize(np.ascontiguousarray(values), np.ascontiguousarray(scales))
    return _Thin(pixels, land == 0, grid)


def _components(tiles: Sequence[_Thin]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fit three principal components to a sample of every tile's land."""
    rng = np.random.default_rng(0)
    samples = []
    for tile in tiles:
        pixels = tile.values[~tile.water & np.isfinite(tile.values[..., 0])]
        count = min(len(pixels), SAMPLE_PIXELS)
        samples.append(pixels[rng.choice(len(pixels), count, replace=False)])
    data = np.concatenate(samples).astype(np.float64)
    if len(data) < 2:
        raise ValueError("there are no land pixels to make a picture of")
    mean = data.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov((data - mean).T))
    chosen = vectors[:, ::-1][:, :3]
    # An eigenvector's sign is arbitrary: fix it, so that a picture is reproducible.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), range(chosen.shape[1])])
    total = float(variances.sum()) or 1.0
    return mean, chosen, float(variances[::-1][:3].sum()) / total


def write_quicklook(tiles: Sequence[TileFiles], path: Path, *, step: int = 5) -> Picture:
    """Write a PNG of tiles side by side, north up, in the CRS of the first.

    Parameters
    ----------
    tiles : sequence of TileFiles
        Neighbouring tiles; the first valid one wins where they overlap.
    path : Path
        The PNG.
    step : int
        Every n-th pixel of the tiles becomes a pixel of the picture.
    """
    from rasterio.transform import from_origin
    from rasterio.warp import Resampling, reproject, transform_bounds

    thin = [_thin(tile, step) for tile in tiles]
    mean, vectors, explained = _components(thin)
    crs, side = thin[0].grid.crs, thin[0].grid.transform[0]
    boxes = np.array([transform_bounds(t.grid.crs, crs, *t.grid.bounds) for t in thin])
    west, south = boxes[:, :2].min(axis=0)
    east, north = boxes[:, 2:].max(axis=0)
    shape = (int(np.ceil((north - south) / side)), int(np.ceil((east - west) / side)))
    canvas = np.full((4, *shape), np.nan, np.float32)  # three components, then water
    for tile in thin:
        layers = np.empty((4, *tile.water.shape), np.float32)
        layers[:3] = np.moveaxis((tile.values - mean) @ vectors, 2, 0)
        layers[3] = tile.water
        warped = np.full_like(canvas, np.nan)
        reproject(
            layers,
            warped,
            src_transform=tile.grid.affine,
            src_crs=tile.grid.crs,
            src_nodata=np.nan,
            dst_transform=from_origin(west, north, side, side),
            dst_crs=crs,
            dst_nodata=np.nan,
            resampling=Resampling.nearest,
        )
        empty = np.isnan(canvas[3])
        canvas[:, empty] = warped[:, empty]
    _write_png(_colours(canvas), path)
    return Picture(path, shape[1], shape[0], explained)


def _colours(canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn the components into brightness and two colour differences, as maps are drawn.

    Water is painted over them; gaps are transparent.
    """
    water = canvas[3] == 1
    valid = np.isfinite(canvas[0])
    first, second, third = (_stretch(canvas[i], valid, valid & ~water) for i in range(3))
    # The inverse of YCbCr (ITU-R BT.601), with a moderate chroma.
    luma, blue, red = 0.25 + 0.6 * first, 0.26 * (0.5 - second), 0.26 * (third - 0.5)
    shades = (luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue)
    rgba = np.zeros((4, *canvas.shape[1:]), np.uint8)
    for index, shade in enumerate(shades):
        rgba[index][valid] = (255 * np.clip(shade, 0, 1)).astype(np.uint8)
        rgba[index][water] = WATER_RGB[index]
    rgba[3] = np.where(valid | water, 255, 0)
    return rgba


def _stretch(
    band: NDArray[np.float32], valid: NDArray[np.bool_], land: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the valid values, stretched from 0 to 1 between the percentiles of the land."""
    low, high = np.percentile(band[land], (2, 98))
    stretched: NDArray[np.float32] = np.clip((band[valid] - low) / max(high - low, 1e-12), 0, 1)
    return stretched


def _write_png(rgba: NDArray[np.uint8], path: Path) -> None:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    temporary = path.with_name(f".{path.stem}_tmp.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture has no CRS
        with rasterio.open(
            temporary,
            "w",
            driver="PNG",
            width=rgba.shape[2],
            height=rgba.shape[1],
            count=4,
            dtype="uint8",
        ) as raster:
            raster.write(rgba)
    temporary.with_name(temporary.name + ".aux.xml").unlink(missing_ok=True)
    temporary.replace(path)
