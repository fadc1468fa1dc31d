"""Plain NumPy references that the kernels are compared with; slow and obvious on purpose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALID, WATER, NODATA, OUTSIDE = range(4)


def dequantized(
    values: NDArray[Any],
    scales: NDArray[np.float32] | None,
    *,
    layout: str = "hwc",
    nodata: float | None = None,
) -> NDArray[np.float32]:
    """Pixels as float32 (row, column, band); NaN is the one sign of "invalid"."""
    if layout == "chw":
        values = np.moveaxis(values, 0, -1)
        if scales is not None and scales.ndim == 3:
            scales = np.moveaxis(scales, 0, -1)
    if scales is None:
        made = values.astype(np.float32, copy=True)
        if nodata is not None:
            made[made == np.float32(nodata)] = np.nan
        return made
    factors = scales if scales.ndim == 3 else scales[..., None]
    factors = np.where(np.isfinite(factors), factors, np.float32(np.nan))
    with np.errstate(over="ignore"):
        return values.astype(np.float32) * factors


def pixel_of(u: float, size: int, rule: str) -> int | None:
    """The pixel that owns pixel coordinate `u`; None outside."""
    if rule == "floor":
        return math.floor(u) if 0 <= u < size else None
    if size and -0.5 <= u <= size + 0.5:
        return min(max(math.ceil(u - 1), 0), size - 1)
    return None


def sample(
    values: NDArray[Any],
    scales: NDArray[np.float32] | None,
    transform: tuple[float, ...],
    points: NDArray[np.float64],
    *,
    method: str = "nearest",
    rule: str = "floor",
    layout: str = "hwc",
    bands: list[int] | None = None,
    nodata: float | None = None,
    land: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int32]]:
    """Values, status and pixel of each point, one after the other."""
    raster = dequantized(values, scales, layout=layout, nodata=nodata)
    height, width, count = raster.shape
    any_valid = ~np.isnan(raster).all(axis=2)
    chosen = list(range(count)) if bands is None else bands
    a, _, c, _, e, f = transform
    out = np.full((len(points), len(chosen)), np.nan, np.float32)
    status = np.full(len(points), OUTSIDE, np.uint8)
    pixels = np.full((len(points), 2), -1, np.int32)
    for i, (x, y) in enumerate(points.tolist()):
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        u, v = (x - c) / a, (f - y) / -e
        col, row = pixel_of(u, width, rule), pixel_of(v, height, rule)
        if row is None or col is None:
            continue
        pixels[i] = row, col
        if land is not None and land[row, col] == 0:
            status[i] = WATER
        elif not any_valid[row, col]:
            status[i] = NODATA
        else:
            status[i] = VALID
            for k, band in enumerate(chosen):
                if method == "nearest":
                    out[i, k] = raster[row, col, band]
                else:
                    out[i, k] = _bilinear(raster[..., band], u, v, row, col, rule)
    return out, status, pixels


def _bilinear(
    plane: NDArray[np.float32], u: float, v: float, row: int, col: int, rule: str
) -> np.float32:
    """One band in float64, in the documented order of operations."""
    height, width = plane.shape
    if np.isnan(plane[row, col]):
        return np.float32(np.nan)
    if rule == "nearest":
        u, v = min(max(u, 0.0), width), min(max(v, 0.0), height)
    left, top = math.floor(u - 0.5), math.floor(v - 0.5)
    fx, fy = (u - 0.5) - left, (v - 0.5) - top
    terms = []
    for r, wy in ((top, 1.0 - fy), (top + 1, fy)):
        for q, wx in ((left, 1.0 - fx), (left + 1, fx)):
            inside = 0 <= r < height and 0 <= q < width
            if inside and wy * wx > 0 and not np.isnan(plane[r, q]):
                terms.append((wy * wx, float(plane[r, q])))
    total = terms[0][0]
    for weight, _ in terms[1:]:
        total += weight
    mean = terms[0][0] / total * terms[0][1]
    for weight, value in terms[1:]:
        mean += weight / total * value
    with np.errstate(over="ignore"):
        return np.float32(mean)


def tile_centre(value: float) -> float:
    """The published rule, per axis, in IEEE doubles."""
    return round(math.floor(value * 10) / 10 + 0.05, 2)
