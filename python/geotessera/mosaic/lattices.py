"""Control grids: where the pixels of a mosaic lie in a CRS that the kernels do not know.

PROJ is asked at few places and the kernel interpolates between them. A lattice covers a
square of pixels that is anchored at the mosaic's first pixel, so what a pixel holds does not
depend on the window that is made.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from geotessera.mosaic.grids import period_of
from geotessera.mosaic.transforms import transform
from geotessera.types import GridSpec, Lattice

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SQUARE", "lattice_of"]

SQUARE = 512
"""Side of the square of a lattice in pixels."""

FIRST_STEP = 64
"""Pixels between two nodes, before any refinement."""

TOLERANCE = 1e-3
"""How far from the truth an interpolated position may be, in pixels of the raster: a centimetre.

The first step keeps to it in every usual CRS, and a tenth of a pixel, which would do for the
nearest pixel, is too much for bilinear values. Ten times less would take 17 times the nodes.
"""


@functools.lru_cache(maxsize=512)  # 1.3 kB each at the first step, 4 MB if fully refined
def lattice_of(
    grid: GridSpec, row: int, col: int, code: int | str, pixel: tuple[float, float] | None = None
) -> Lattice:
    """Return the coordinates of a square of a grid in another CRS.

    The step is halved from `FIRST_STEP` until the middles of all cells and of all their
    edges are right to `TOLERANCE`; with a step of one pixel, whatever they are. (Middles of
    cells alone would not tell: in conformal projections their error vanishes.)

    Parameters
    ----------
    grid : GridSpec
        The mosaic's grid.
    row, col : int
        The square's first pixel: multiples of `SQUARE`.
    code : int or str
        CRS of the coordinates, as EPSG code or WKT.
    pixel : tuple of float, optional
        Width and height of the raster's pixels in that CRS; by default what the grid's own
        pixels measure there.

    Returns
    -------
    Lattice
        Longitudes are continuous within it; NaN where a place has no coordinates.
    """
    height = _padded(min(SQUARE, grid.height - row))
    width = _padded(min(SQUARE, grid.width - col))
    period = period_of(code)
    step, nodes = FIRST_STEP, _nodes(grid, row, col, (height, width), FIRST_STEP, code)
    while True:
        if period is not None:
            nodes = _continuous(nodes, period)
        if step == 1:
            break
        finer = _nodes(grid, row, col, (height, width), step // 2, code)
        if _error(nodes, finer, period, pixel or _own_pixel(nodes, step)) <= TOLERANCE:
            break
        step, nodes = step // 2, finer
    nodes.flags.writeable = False
    return Lattice(row, col, step, nodes)


def _padded(size: int) -> int:
    return math.ceil(size / FIRST_STEP) * FIRST_STEP


def _nodes(
    grid: GridSpec, row: int, col: int, size: tuple[int, int], step: int, code: int | str
) -> NDArray[np.float64]:
    """Return x and y at the pixel corners `step` apart: (rows, columns, 2)."""
    a, _, left, _, e, top = grid.transform
    x = left + a * np.arange(col, col + size[1] + 1, step, dtype=np.float64)
    y = top + e * np.arange(row, row + size[0] + 1, step, dtype=np.float64)
    return np.stack(transform(*np.meshgrid(x, y), grid.epsg_or_wkt, code), axis=-1)


def _continuous(nodes: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Take x by whole turns of the globe to within half a turn of the first node."""
    x = nodes[..., 0]
    known = x[np.isfinite(x)]
    if len(known):
        nodes[..., 0] -= _turns(x - known[0], period)
    return nodes


def _turns(x: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    turns: NDArray[np.float64] = np.floor(x / period + 0.5) * period
    return turns


def _own_pixel(nodes: NDArray[np.float64], step: int) -> tuple[float, float]:
    """Return what a pixel of the grid measures in the nodes' CRS, the same in x and y."""
    sides = [np.abs(np.diff(nodes, axis=axis)).max(axis=-1) / step for axis in (0, 1)]
    known = np.concatenate([side[np.isfinite(side)] for side in sides])
    size = float(np.median(known)) if len(known) else math.inf
    return size, size


def _error(
    nodes: NDArray[np.float64],
    finer: NDArray[np.float64],
    period: float | None,
    pixel: tuple[float, float],
) -> float:
    """Return the largest error of interpolation at nodes twice as dense, in pixels."""
    guess = np.empty_like(finer)
    guess[::2, ::2] = nodes
    guess[1::2, ::2] = (nodes[:-1] + nodes[1:]) / 2
    guess[:, 1::2] = (guess[:, :-2:2] + guess[:, 2::2]) / 2
    off = guess - finer
    if period is not None:
        off[..., 0] -= _turns(off[..., 0], period)
    unlike = np.isnan(guess) != np.isnan(finer)
    pixels = np.nan_to_num(np.abs(off) / np.array(pixel), nan=0.0, posinf=math.inf)
    return math.inf if unlike.any() else float(pixels.max())
