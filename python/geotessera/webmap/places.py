"""Where a picture lies among the tiles, and where the pixels of tiles lie in the picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geotessera.mosaic.grids import period_of
from geotessera.mosaic.lattices import SQUARE, lattice_of
from geotessera.mosaic.transforms import transform
from geotessera.types import Window
from geotessera.webmap.zooms import MAX_LATITUDE, SIDE, Unit, apply, zoom_grid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.types import GridSpec

__all__ = ["Places", "Square", "expected_tiles", "touched_units"]

_FEWEST, _MOST = 16, 512
"""Quadrangles that a picture is looked at in, a side."""

_QUAD = 512
"""Pixels of the side of such a quadrangle, where that makes no more of them."""

_MARGIN = 0.1
"""How much larger than the box of its corners a quadrangle may be, as a part of it."""


class Square(NamedTuple):
    """A square of a unit's pixels, and where it lies in the picture."""

    row: int
    """First row of the unit's pixels."""
    col: int
    """First column."""
    size: int
    """Side in pixels."""
    step: int
    """Pixels from one node to the next."""
    nodes: NDArray[np.float64]
    """Columns and rows of the picture, from its corner: (nodes, nodes, 2)."""


class Places:
    """Positions of tiles' pixels in a picture.

    Parameters
    ----------
    grid : GridSpec
        The picture's pixels, any affine transform.
    top : int
        Zoom of the tiles.
    """

    def __init__(self, grid: GridSpec, top: int) -> None:
        self._grid = grid
        self._target = zoom_grid(top)
        self._period = period_of(grid.epsg_or_wkt)
        self._inverse = tuple(~grid.affine)[:6]
        left, _, right, _ = grid.bounds
        self._left, self._right = left, right
        a, b, _, d, e, _ = grid.transform
        self._pixel = math.hypot(a, d), math.hypot(b, e)

    def squares(self, unit: Unit) -> list[Square]:
        """Return the squares of a unit that the picture may touch, some more than once.

        That is where a picture goes round the globe and further: the first one counts.
        """
        side = SIDE << unit.levels
        first_row, first_col = unit.y * side, unit.x * side
        size = min(SQUARE, side)
        return [
            found
            for row in range(0, side, size)
            for col in range(0, side, size)
            for found in self._square(first_row + row, first_col + col, row, col, size)
        ]

    def _square(
        self, grid_row: int, grid_col: int, row: int, col: int, size: int
    ) -> Iterator[Square]:
        lattice = lattice_of(self._target, grid_row, grid_col, self._grid.epsg_or_wkt, self._pixel)
        x, y = lattice.nodes[..., 0], lattice.nodes[..., 1]
        for turned in self._turns(x):
            nodes = np.stack(apply(self._inverse, turned, y), axis=-1)
            if _box(nodes, self._grid) is not None:
                yield Square(row, col, size, lattice.step, nodes)

    def _turns(self, x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yield x on every turn of the globe on which the picture may be."""
        known = x[np.isfinite(x)]
        if self._period is None or not len(known):
            yield x
            return
        first = math.ceil((self._left - float(known.max())) / self._period)
        last = math.floor((self._right - float(known.min())) / self._period)
        for turn in range(first, last + 1):
            yield x + turn * self._period

    def window(self, squares: Sequence[Square]) -> Window | None:
        """Return the pixels of the picture that squares are made of; None for none."""
        boxes = [box for one in squares if (box := _box(one.nodes, self._grid)) is not None]
        if not boxes:
            return None
        left, top, right, bottom = (
            choose(box[at] for box in boxes) for at, choose in enumerate((min, min, max, max))
        )
        return Window(top, left, bottom - top, right - left)


def _box(nodes: NDArray[np.float64], grid: GridSpec) -> tuple[int, int, int, int] | None:
    """Return the pixels that places need: first column and row, and those after the last."""
    found = []
    for axis, count in ((0, grid.width), (1, grid.height)):
        known = nodes[..., axis][np.isfinite(nodes[..., axis])]
        if not len(known):
            return None
        # A pixel more on each side: the neighbours of bilinear values.
        low = max(math.floor(float(known.min())) - 1, 0)
        high = min(math.ceil(float(known.max())) + 1, count)
        if low >= high:
            return None
        found.append((low, high))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def touched_units(grid: GridSpec, top: int) -> list[Unit]:
    """Return the leaves that a picture may touch, row by row; a few may turn out empty.

    Parameters
    ----------
    grid : GridSpec
        The picture's.
    top : int
        Zoom of the leaves' pixels.
    """
    levels = Unit(top, 0, 0).levels
    count = 1 << (top - levels)
    found: set[tuple[int, int]] = set()
    for west, south, east, north in _quadrangles(grid):
        first, last = _column(west, count), _column(east, count)
        columns = range(count) if last - first >= count else range(first, last + 1)
        for y in range(_row(north, count), _row(south, count) + 1):
            found.update((y, x % count) for x in columns)
    return [Unit(top, x, y) for y, x in sorted(found)]


def expected_tiles(grid: GridSpec, zooms: tuple[int, int]) -> int:
    """Return about how many tiles a picture will have, without counting them.

    Parameters
    ----------
    grid : GridSpec
        The picture's.
    zooms : (int, int)
        The smallest and the largest.
    """
    share = 0.0
    for west, south, east, north in _quadrangles(grid):
        share += min((east - west) / 360, 1.0) * (_depth(south) - _depth(north))
    share = min(share / (1 + 2 * _MARGIN) ** 2, 1.0)
    return sum(max(1, round(share * 4**zoom)) for zoom in range(zooms[0], zooms[1] + 1))


def _quadrangles(grid: GridSpec) -> Iterator[tuple[float, float, float, float]]:
    """Yield boxes of degrees that cover a picture; longitudes may go on beyond ±180."""
    rows, cols = (
        np.linspace(0, size, min(max(math.ceil(size / _QUAD), _FEWEST), _MOST) + 1)
        for size in (grid.height, grid.width)
    )
    x, y = apply(grid.transform, *np.meshgrid(cols, rows))
    lon, lat = transform(x, y, grid.epsg_or_wkt, 4326)
    corners = [
        np.stack([one[:-1, :-1], one[:-1, 1:], one[1:, :-1], one[1:, 1:]], -1).reshape(-1, 4)
        for one in (lon, lat)
    ]
    for lons, lats in zip(*corners, strict=True):
        known = np.isfinite(lons) & np.isfinite(lats)
        if not known.any():
            continue
        lons, lats = lons[known], np.clip(lats[known], -90.0, 90.0)
        lons = lons + np.round((lons[0] - lons) / 360) * 360
        # Where a corner has no place on the globe the rest may reach anywhere near.
        share = _MARGIN if known.all() else 1.0
        wide, high = float(np.ptp(lons)) * share, float(np.ptp(lats)) * share
        west, east = float(lons.min()) - wide, float(lons.max()) + wide
        south, north = float(lats.min()) - high, float(lats.max()) + high
        if max(abs(south), abs(north)) > 89.0 and east - west > 90:  # round a pole
            west, east = -180.0, 180.0
        if south < MAX_LATITUDE and north > -MAX_LATITUDE:
            yield west, south, east, north


def _column(lon: float, count: int) -> int:
    return math.floor((lon + 180) / 360 * count)


def _row(lat: float, count: int) -> int:
    return max(0, min(math.floor(_depth(lat) * count), count - 1))


def _depth(lat: float) -> float:
    """Return how far down a latitude is, as a part of the square of Web Mercator."""
    angle = math.radians(max(-MAX_LATITUDE, min(lat, MAX_LATITUDE)))
    return (1 - math.asinh(math.tan(angle)) / math.pi) / 2
