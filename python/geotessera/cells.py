"""The 3600 × 1800 cells of the tile grid, counted: boxes as ranges of cells.

Columns run east from -180°, rows north from -90°. Positions on the grid are integers
here, so that no query depends on how a centre such as 0.15 is rounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COLUMNS",
    "ROWS",
    "CellRange",
    "cell_of_centre",
    "cells_around_box",
    "cells_of_box",
    "centre_of_column",
    "centre_of_row",
    "check_box",
]

COLUMNS = 3600
ROWS = 1800

# Edges closer than this (in cells; 1e-9°, a tenth of a millimetre) coincide, so that a box
# computed in floating point, such as 3 * 0.1, does not touch one cell too many.
_TOUCH = 1e-8


class CellRange(NamedTuple):
    """A rectangle of cells; `column` + `columns` beyond 3600 goes on at column 0."""

    column: int
    row: int
    columns: int
    rows: int

    def spans(self) -> list[tuple[int, int]]:
        """Return the half-open column ranges, from west to east in continuous longitude."""
        end = self.column + self.columns
        if end <= COLUMNS:
            return [(self.column, end)]
        return [(self.column, COLUMNS), (0, end - COLUMNS)]

    def covers(self, other: CellRange) -> bool:
        """Whether all cells of another range are in this one."""
        if not other.columns or not other.rows:
            return True
        if other.row < self.row or other.row + other.rows > self.row + self.rows:
            return False
        ahead = (other.column - self.column) % COLUMNS
        return self.columns >= COLUMNS or ahead + other.columns <= self.columns


def centre_of_column(column: int) -> float:
    """Return the longitude of a column's centre in degrees."""
    return (column * 10 - 17995) / 100


def centre_of_row(row: int) -> float:
    """Return the latitude of a row's centre in degrees."""
    return (row * 10 - 8995) / 100


def cell_of_centre(lon: float, lat: float) -> tuple[int, int] | None:
    """Return (column, row) of the cell with a centre, or None where no cell has it."""
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return None
    column, off_lon = divmod(round(lon * 100) + 17995, 10)
    row, off_lat = divmod(round(lat * 100) + 8995, 10)
    if off_lon or off_lat or not (0 <= column < COLUMNS and 0 <= row < ROWS):
        return None
    return column, row


def check_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) as floats; east lies east of west, beyond 180 if need be.

    Raises
    ------
    InputError
        (a `ValueError`) for anything but four finite degrees with south ≤ north.
    """
    try:
        west, south, east, north = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a box is (west, south, east, north) in degrees; found {box!r}"
        ) from error
    if not all(math.isfinite(value) and abs(value) <= 360 for value in (west, south, east, north)):
        raise InputError(
            f"box ({west}, {south}, {east}, {north}) is not in degrees: expected finite "
            "(west, south, east, north) in WGS84 (EPSG:4326)"
        )
    if south > north:
        raise InputError(
            f"box ({west}, {south}, {east}, {north}) is reversed: south must not exceed north "
            "(the order is west, south, east, north)"
        )
    return west, south, east + 360 if west > east else east, north


def cells_of_box(box: Sequence[float]) -> CellRange:
    """Return the cells that share an area with a box.

    A box without width or height counts as lying in the cell that owns it, so that a point
    gives one cell; merely touching an edge is no overlap.

    Parameters
    ----------
    box : sequence of 4 float
        (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
    """
    west, south, east, north = check_box(box)
    first, last = _overlapped(west, east)
    if last - first >= COLUMNS:
        first, last = -COLUMNS // 2, COLUMNS // 2 - 1
    bottom, top = _overlapped(south, north)
    if south == north == 90:
        bottom = top = ROWS // 2 - 1  # the pole belongs to the northernmost row
    bottom, top = max(bottom + ROWS // 2, 0), min(top + ROWS // 2, ROWS - 1)
    return CellRange(
        (first + COLUMNS // 2) % COLUMNS, bottom, last - first + 1, max(top - bottom + 1, 0)
    )


def _overlapped(low: float, high: float) -> tuple[int, int]:
    """Return the first and last cell (edges at tenths of a degree) that an interval overlaps."""
    first, last = math.floor(low * 10 + _TOUCH), math.ceil(high * 10 - _TOUCH) - 1
    if last < first:
        first = last = math.floor(low * 10)
    return first, last


def cells_around_box(box: Sequence[float], margin: float) -> CellRange:
    """Return the cells of a box and those whose centre lies within a margin (degrees) of it.

    The box does not cross the antimeridian; the range is cut at the edges of the globe.
    """
    west, south, east, north = box
    inner = cells_of_box(box)
    column, columns = _widened(west, east, margin, inner.column, inner.columns, COLUMNS)
    row, rows = _widened(south, north, margin, inner.row, inner.rows, ROWS)
    return CellRange(column, row, columns, rows)


def _widened(
    low: float, high: float, margin: float, first: int, count: int, cells: int
) -> tuple[int, int]:
    centred = math.ceil((low - margin) * 10 - 0.5 - _TOUCH) + cells // 2
    end = math.floor((high + margin) * 10 - 0.5 + _TOUCH) + cells // 2 + 1
    if count:
        centred, end = min(centred, first), max(end, first + count)
    centred, end = max(centred, 0), min(end, cells)
    return centred, max(end - centred, 0)
