"""Which pixels of a mosaic a raster may give, and which of its own it needs for that.

Both answers are rectangles that may be too large, never too small.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from geotessera.mosaic.grids import period_of
from geotessera.mosaic.transforms import transform
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["holds_pole", "mesh", "reach_of", "shares_axes", "source_window"]

_MARGIN = 2.0
"""Pixels added on each side: half for bilinear neighbours, the rest for curved edges."""

_PART = 32
"""Pixels between the points along an edge: curved by far less than the margin between them."""

_MOST_PARTS = 2048


def shares_axes(grid: GridSpec, raster: GridSpec) -> bool:
    """Return whether coordinates on the grid are the raster's, without going round the globe."""
    if grid.epsg_or_wkt != raster.epsg_or_wkt:
        return False
    period = period_of(grid.epsg_or_wkt)
    if period is None:
        return True
    left, _, right, _ = grid.bounds
    low, _, high, _ = raster.bounds
    middle = (low + high) / 2
    return max(right - middle, middle - left) < period / 2


def _unwrap(x: NDArray[np.float64], grid: GridSpec) -> NDArray[np.float64]:
    """Return x shifted by whole turns of the globe to within half a turn of a grid's middle."""
    period = period_of(grid.epsg_or_wkt)
    if period is None:
        return x
    left, _, right, _ = grid.bounds
    shifted: NDArray[np.float64] = x - np.floor((x - (left + right) / 2) / period + 0.5) * period
    return shifted


def reach_of(grid: GridSpec, raster: GridSpec) -> Window | None:
    """Return the pixels of a grid that a raster may give, or None.

    Parameters
    ----------
    grid, raster : GridSpec
        The mosaic's grid and the raster's.
    """
    x, y = mesh(raster, Window(0, 0, raster.height, raster.width), 0.0)
    return _box(grid, raster, x, y)


def source_window(grid: GridSpec, window: Window, raster: GridSpec) -> Window | None:
    """Return the pixels of a raster that a window of the mosaic may need, or None.

    Parameters
    ----------
    grid, raster : GridSpec
        The mosaic's grid and the raster's.
    window : Window
        Pixels of the grid, preferably no more than `reach_of` the raster.
    """
    x, y = mesh(grid, window, 0.5)
    return _box(raster, grid, x, y)


def _box(
    to: GridSpec, of: GridSpec, x: NDArray[np.float64], y: NDArray[np.float64]
) -> Window | None:
    """Return the pixels of one grid round points of another, or None where it has none."""
    across, down = transform(x, y, of.epsg_or_wkt, to.epsg_or_wkt)
    everything = Window(0, 0, to.height, to.width)
    if not (np.isfinite(across).all() and np.isfinite(down).all()):
        return everything
    if period_of(to.epsg_or_wkt) is not None and holds_pole(of):
        return everything  # where x goes round the globe, the pole is an edge
    unwrapped = across if shares_axes(to, of) else _unwrap(across, to)
    a, _, left, _, e, top = to.transform
    u, v = (unwrapped - left) / a, (down - top) / e
    if unwrapped is not across and _goes_round(unwrapped, to):
        u = np.array([0.0, to.width])
    return _outward(u, v).overlap(everything)


def _goes_round(x: NDArray[np.float64], grid: GridSpec) -> bool:
    """Return whether unwrapped points, and what is between them, may be at both ends of a grid.

    What lies across the meridian opposite to a grid's middle comes out at its other end.
    """
    period = period_of(grid.epsg_or_wkt)
    assert period is not None  # only then are they unwrapped
    left, _, right, _ = grid.bounds
    spread = float(np.ptp(x))
    if spread > period / 2 or right - left > period:
        return True
    opposite = period / 2 - _MARGIN * grid.transform[0] - spread / 8
    return min(float(np.abs(x - (left + right) / 2).max()), (right - left) / 2) > opposite


def _outward(u: NDArray[np.float64], v: NDArray[np.float64]) -> Window:
    far = 2.0**40  # beyond every raster; keeps sums exact
    low_u, high_u, low_v, high_v = (
        min(max(float(value), -far), far) for value in (u.min(), u.max(), v.min(), v.max())
    )
    col, row = math.floor(low_u - _MARGIN), math.floor(low_v - _MARGIN)
    return Window(row, col, math.ceil(high_v + _MARGIN) - row, math.ceil(high_u + _MARGIN) - col)


def mesh(
    grid: GridSpec, window: Window, inset: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points all along a window's edges, `inset` pixels within, and some inside."""
    rows = _steps(window.row + inset, window.row + window.height - inset)
    cols = _steps(window.col + inset, window.col + window.width - inset)
    some_rows, some_cols = rows[:: max(len(rows) // 8, 1)], cols[:: max(len(cols) // 8, 1)]
    pieces: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]] = (
        np.meshgrid(rows, cols[[0, -1]]),
        np.meshgrid(rows[[0, -1]], cols),
        np.meshgrid(some_rows, some_cols),
    )
    at = np.concatenate([np.stack([row.ravel(), col.ravel()]) for row, col in pieces], axis=1)
    a, _, left, _, e, top = grid.transform
    return left + a * at[1], top + e * at[0]


def _steps(low: float, high: float) -> NDArray[np.float64]:
    count = min(math.ceil((high - low) / _PART), _MOST_PARTS)
    return np.linspace(low, high, max(count, 1) + 1)


def holds_pole(grid: GridSpec) -> bool:
    """Return whether a pole lies within a grid, so that its edges do not enclose its places."""
    if grid.epsg in (4326, 3857):
        return False  # there it is an edge
    pole = transform(np.zeros(2), np.array([90.0, -90.0]), 4326, grid.epsg_or_wkt)
    left, bottom, right, top = grid.bounds
    return any(left <= x <= right and bottom <= y <= top for x, y in zip(*pole, strict=True))
