"""Outlines in a mosaic: which pixels have their centre in them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from geotessera.errors import InputError
from geotessera.mosaic.grids import period_of
from geotessera.mosaic.reach import holds_pole, mesh
from geotessera.mosaic.transforms import transform
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

__all__ = ["covers_nothing", "inside", "outline_in"]

_EDGE_DEGREES = 0.01
"""Longest piece of an outline that is drawn straight in another CRS: about a kilometre, which
curves by centimetres."""

_SMALL = 64
"""Side of a square whose pixels are looked at one by one."""

# GEOS builds the indexes of a prepared geometry when they are first needed: threads that ask
# one at once crash.
_prepared = threading.Lock()


def outline_in(geometry: BaseGeometry, grid: GridSpec) -> BaseGeometry:
    """Return an outline in a grid's CRS.

    Parameters
    ----------
    geometry : shapely geometry
        In WGS84 degrees, cut at the antimeridian as `Region` cuts it.
    grid : GridSpec
        The mosaic's; in geographic CRSs its longitudes may go on beyond ±180.

    Raises
    ------
    InputError
        (a `ValueError`) if the outline, or a part of it, has no place in the CRS.
    """
    import shapely

    fine = shapely.segmentize(_near(geometry, grid), _EDGE_DEGREES)
    moved = [_moved(part, grid) for part in shapely.get_parts(fine)]
    whole = shapely.union_all([shapely.make_valid(part) for part in moved])
    shapely.prepare(whole)
    return whole


def _near(geometry: BaseGeometry, grid: GridSpec) -> BaseGeometry:
    """Return what of an outline is near a grid: far away its CRS may have no place for it."""
    import shapely

    x, y = mesh(grid, Window(0, 0, grid.height, grid.width), 0.0)
    lon, lat = transform(x, y, grid.epsg_or_wkt, 4326)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()) or holds_pole(grid):
        return geometry
    lon = lon - np.round((lon - lon[0]) / 360) * 360
    margin = 0.1 + 0.1 * float(max(np.ptp(lon), np.ptp(lat)))
    west, east = float(lon.min()) - margin, float(lon.max()) + margin
    south, north = float(lat.min()) - margin, float(lat.max()) + margin
    if east - west >= 180:
        return geometry
    first = round((west + east) / 720) * 360
    boxes = [shapely.box(west + turn, south, east + turn, north)
             for turn in (-first - 360, -first, -first + 360)]  # fmt: skip
    return shapely.intersection(geometry, shapely.union_all(boxes))


def _moved(part: BaseGeometry, grid: GridSpec) -> BaseGeometry:
    import shapely
    from shapely.affinity import translate

    period = period_of(grid.epsg_or_wkt)

    def move(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = lonlat.T.copy()
        x, y = transform(lon, lat, 4326, grid.epsg_or_wkt)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            name = grid.crs_name[:80]
            raise InputError(f"the outline has no place in {name}: choose another CRS")
        if period is not None:  # vertices on the antimeridian may come out on its other side
            x = x + np.round((lon / 360 * period - x) / period) * period
        return np.column_stack([x, y])

    moved = shapely.transform(part, move)
    if period is None:
        return moved
    around = [translate(moved, turn * period) for turn in (-1, 0, 1)]
    near = shapely.box(*grid.bounds)
    return shapely.union_all([copy for copy in around if copy.intersects(near)])


def covers_nothing(outline: BaseGeometry, grid: GridSpec, window: Window) -> bool:
    """Return whether an outline surely covers no pixel of a window."""
    import shapely

    box = shapely.box(*grid.window(window).bounds)
    with _prepared:
        shapely.prepare(outline)  # a plan that was pickled comes back unprepared
        return not shapely.intersects(outline, box)


def inside(outline: BaseGeometry, grid: GridSpec, window: Window) -> NDArray[np.bool_] | None:
    """Return which pixels of a window have their centre in an outline; None for all of them.

    Squares are tried first as a whole: only those on an edge are looked at pixel by pixel.
    """
    with _prepared:
        return _inside(outline, grid, window)


def _inside(outline: BaseGeometry, grid: GridSpec, window: Window) -> NDArray[np.bool_] | None:
    import shapely

    shapely.prepare(outline)
    if shapely.contains(outline, shapely.box(*grid.window(window).bounds)):
        return None
    mask = np.zeros((window.height, window.width), np.bool_)
    a, _, left, _, e, top = grid.transform
    for row in range(window.row, window.row + window.height, _SMALL):
        for col in range(window.col, window.col + window.width, _SMALL):
            height = min(_SMALL, window.row + window.height - row)
            width = min(_SMALL, window.col + window.width - col)
            box = shapely.box(*grid.window(Window(row, col, height, width)).bounds)
            if not shapely.intersects(outline, box):
                continue
            part = mask[row - window.row :, col - window.col :][:height, :width]
            if shapely.contains(outline, box):
                part[...] = True
                continue
            x = left + a * (np.arange(col, col + width) + 0.5)
            y = top + e * (np.arange(row, row + height) + 0.5)
            part[...] = shapely.intersects_xy(outline, *np.meshgrid(x, y))
    return mask
