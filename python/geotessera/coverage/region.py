"""Which cells a region meets, and how its outline is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.cells import COLUMNS, ROWS, cells_of_box, centre_of_column, centre_of_row
from geotessera.globe import parts_of_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from geotessera.regions import Region

__all__ = ["region_cells", "region_lines", "region_name", "visible_parts"]

_GLOBE = (0.1, 0.0, -180.0, 0.0, -0.1, 90.0)


def region_name(region: Region) -> str:
    """Return what a region is called in a sentence: of a file its name without the directory."""
    return region.name.rstrip("/").rpartition("/")[2] or "the region"


def region_cells(region: Region, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells that share an area with a region, as `Region.select` chooses tiles.

    Parameters
    ----------
    region : Region
        A box or an outline.
    among : ndarray of bool, shape (3600, 1800)
        Cells that are asked about.

    Returns
    -------
    ndarray of bool, shape (3600, 1800)
    """
    if region.geometry is None:
        cells = cells_of_box(region.bbox)
        found = np.zeros((COLUMNS, ROWS), np.bool_)
        for start, stop in cells.spans():
            found[start:stop, cells.row : cells.row + cells.rows] = True
        return found & among
    inside, near = _drawn(region.geometry)
    found = inside & among
    # Only cells that an edge passes need geometry: it takes a second for a million of them.
    columns, rows = np.nonzero(near & among)
    if len(columns):
        centres = [
            (centre_of_column(column), centre_of_row(row))
            for column, row in zip(columns.tolist(), rows.tolist(), strict=True)
        ]
        found[columns, rows] = region.overlaps(centres)
    return found


def _drawn(geometry: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the cells whose centre is inside an outline, and those near its edges."""
    import shapely
    from affine import Affine
    from rasterio.features import rasterize

    parts = parts_of_geometry(geometry)
    flat = shapely.get_dimensions(parts) < 2
    edges = [*parts[flat], *(shapely.boundary(part) for part in parts[~flat])]
    shape, transform = (ROWS, COLUMNS), Affine(*_GLOBE)

    def drawn(shapes: Iterable[Any], touched: bool) -> NDArray[np.bool_]:
        found = [one for one in shapes if not one.is_empty]
        if not found:
            return np.zeros((COLUMNS, ROWS), np.bool_)
        burnt = rasterize(
            found, out_shape=shape, transform=transform, all_touched=touched, dtype=np.uint8
        )
        cells: NDArray[np.bool_] = np.ascontiguousarray(burnt[::-1].T) != 0
        return cells

    near = drawn(edges, touched=True)
    # One cell more on all sides: how exactly lines are drawn does not matter.
    for axis in (0, 1):
        before, after = np.roll(near, -1, axis), np.roll(near, 1, axis)
        near |= before | after
    return drawn(parts[~flat], touched=False), near


# --- Lines -------------------------------------------------------------------------------


def region_lines(region: Region) -> list[NDArray[np.float64]]:
    """Return a region's outline as lines of (longitude, latitude), shape (N, 2) each."""
    import shapely

    if region.geometry is None:
        west, south, east, north = region.bbox
        east += 360 if west > east else 0
        ring = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        return [np.array(ring)]
    parts = parts_of_geometry(region.geometry)
    areas = shapely.get_dimensions(parts) == 2
    lines = parts_of_geometry(shapely.GeometryCollection([*shapely.boundary(parts[areas])]))
    others = parts[~areas]
    return [
        piece
        for line in (*lines, *others)
        for piece in without_seams(shapely.get_coordinates(line))
    ]


def without_seams(line: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the pieces of a line that are not the cut at ±180°."""
    seam = np.abs(line[:, 0]) >= 180 - 1e-9
    cuts = np.flatnonzero(seam[1:] & seam[:-1]) + 1
    for piece in np.split(line, cuts):
        if len(piece) > 1 or not len(cuts):
            yield piece


def visible_parts(
    lines: Iterable[NDArray[np.float64]], west: float, south: float, east: float, north: float
) -> list[NDArray[np.float64]]:
    """Return the lines that may be seen in an extent, turned round the globe where it goes on."""
    found = []
    for line in lines:
        (left, low), (right, high) = line.min(axis=0), line.max(axis=0)
        if low > north or high < south:
            continue
        for turn in (-360, 0, 360):
            if left + turn <= east and right + turn >= west:
                found.append(line + np.array((turn, 0)) if turn else line)
    return found
