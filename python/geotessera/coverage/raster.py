"""Cells and boxes as pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotessera.cells import COLUMNS, ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["View", "common_class", "paint_boxes", "paint_cells"]


@dataclass(frozen=True, slots=True)
class View:
    """An extent, and the pixels that show it: rows from north to south.

    Parameters
    ----------
    west, south, east, north : float
        Degrees; `west` is in -360..180, `east` greater, so that a view across the antimeridian
        goes on beyond ±180.
    width, height : int
        Pixels.
    """

    west: float
    south: float
    east: float
    north: float
    width: int
    height: int

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(west, south, east, north)."""
        return self.west, self.south, self.east, self.north


def paint_cells(view: View, cells: NDArray[np.bool_], size: float = 1.0) -> NDArray[np.int32]:
    """Return how many of some cells each pixel of a view shows.

    A cell is drawn as a square of `size` times its side round its centre, or as the one pixel
    that its centre is in: none is too small to be seen.

    Parameters
    ----------
    view : View
        The pixels.
    cells : ndarray of bool, shape (3600, 1800)
        Columns from -180° eastwards, rows from -90° northwards.
    size : float
        Side of a square in cells.

    Returns
    -------
    ndarray of int32, shape (height, width)
    """
    left, right = _shown(view.west + 180, view.east + 180, view.width, size)
    low, high = _shown(view.south + 90, view.north + 90, view.height, size)
    low, high = np.clip(low, 0, ROWS), np.clip(high, 0, ROWS)
    first, bottom = int(left.min()), int(low.min())
    columns = np.arange(first, max(int(right.max()), first)) % COLUMNS
    part = cells[columns, bottom : max(int(high.max()), bottom)]
    across = _sums(part, left - first, right - first)
    counts = _sums(across.T, low - bottom, high - bottom)
    return counts[::-1]


def _shown(
    low: float, high: float, pixels: int, size: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and one past the last cell that each pixel of an axis shows."""
    edges = (low + np.arange(pixels + 1) * ((high - low) / pixels)) * 10
    middle = (edges[:-1] + edges[1:]) / 2
    # Cells whose centre is in the pixel, so that each is in one, and those wide enough for it.
    first = np.floor(np.minimum(edges[:-1], middle - size / 2) - 0.5) + 1
    end = np.floor(np.maximum(edges[1:], middle + size / 2) - 0.5) + 1
    return first.astype(np.int64), end.astype(np.int64)


def _sums(
    values: NDArray[np.bool_] | NDArray[np.int32], first: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the sums of values[first:end] along axis 0 for each pair."""
    if values.shape[0] and ((end - first) == 1).all():
        return values[first].astype(np.int32, copy=False)
    total = np.zeros((values.shape[0] + 1, values.shape[1]), np.int32)
    np.cumsum(values, axis=0, dtype=np.int32, out=total[1:])
    return total[end] - total[first]


def paint_boxes(view: View, boxes: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return how many boxes each pixel of a view shows: those that its centre is in.

    A box without a pixel's centre is shown by the pixel of its own centre.

    Parameters
    ----------
    view : View
        The pixels.
    boxes : ndarray, shape (N, 4)
        West, south, east, north in degrees; west > east crosses the antimeridian.

    Returns
    -------
    ndarray of int32, shape (height, width)
    """
    height, width = view.height, view.width
    out = np.zeros((height + 1, width + 1), np.int32)
    west, south, east, north = np.asarray(boxes, np.float64).reshape(-1, 4).T
    east = np.where(west > east, east + 360, east)
    along = (view.north - view.south) / height
    low, high = _covered((view.north - north) / along, (view.north - south) / along)
    for turn in (-360, 0, 360):
        across = (view.east - view.west) / width
        first, end = _covered(
            (west + turn - view.west) / across, (east + turn - view.west) / across
        )
        seen = (first < width) & (end > 0) & (low < height) & (high > 0)
        left, right = (np.clip(side[seen], 0, width) for side in (first, end))
        top, bottom = (np.clip(side[seen], 0, height) for side in (low, high))
        # Corners of differences, summed up twice below: no box is drawn by itself.
        for rows, columns, sign in (
            (top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1),
        ):  # fmt: skip
            places = np.bincount(rows * (width + 1) + columns, minlength=out.size)
            out += sign * places.reshape(out.shape).astype(np.int32)
    np.cumsum(out, axis=0, out=out)
    np.cumsum(out, axis=1, out=out)
    return out[:height, :width]


def _covered(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and one past the last pixel whose centre lies in each interval."""
    first, end = np.ceil(low - 0.5), np.ceil(high - 0.5)
    own = np.floor((low + high) / 2)
    thin = end <= first
    first, end = np.where(thin, own, first), np.where(thin, own + 1, end)
    return first.astype(np.int64), end.astype(np.int64)


def common_class(counts: Sequence[NDArray[np.int32]]) -> NDArray[np.uint8]:
    """Return the class that most of a pixel's cells have, the earlier of equals, from 1; or 0."""
    best = np.zeros(counts[0].shape, np.int32)
    found = np.zeros(counts[0].shape, np.uint8)
    for number, count in enumerate(counts, start=1):
        more = count > best
        found[more] = number
        best[more] = count[more]
    return found
