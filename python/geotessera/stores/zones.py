"""The zones of a store: which of them a place belongs to, and which pixel of a zone it is."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError, NoOverlapError, ZoneError
from geotessera.types import BBox, GridSpec, TileId, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.zarr import ZarrZone
    from geotessera.sources.zarr_store import EmbeddingStore

    type Pixels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]

__all__ = [
    "SEAM_DEGREES",
    "StoreZones",
    "centre_of",
    "checked_year",
    "natural_zones",
    "nearest_pixels",
    "pixels_of_bounds",
    "pixels_round_bounds",
    "seam_neighbours",
    "zone_bounds",
    "zones_of_box",
]

SEAM_DEGREES = 0.1
"""How near to the border of its zone a place may have its pixel in the neighbouring one."""

_EDGE_PARTS = 22
"""Pieces into which an edge of a box is cut to find its envelope in a zone, as upstream does."""

_FAR = 60.0
"""Degrees from its meridian within which a zone's projection serves; its pixels lie within 4."""


class StoreZones:
    """The zones of a store, each opened when it is first needed; for any number of threads.

    Parameters
    ----------
    store : EmbeddingStore
        The store.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store

    @functools.cached_property
    def numbers(self) -> frozenset[int]:
        """The zones that the store holds."""
        return frozenset(self.store.zone_numbers)

    def find(self, number: int) -> ZarrZone | None:
        """Return a zone, or None for one that the store does not hold."""
        return self.store.zone(number) if number in self.numbers else None

    def get(self, number: int) -> ZarrZone:
        """Return a zone.

        Raises
        ------
        ZoneError
            (a `KeyError` and a `ValueError`) for one that the store does not hold.
        """
        found = self.find(number)
        if found is None:
            held = ", ".join(map(str, sorted(self.numbers))) or "none"
            known = f"it holds zones {held}" if 1 <= number <= 60 else "zones are 1 to 60"
            raise ZoneError(f"zone {number} is not in {self.store.location}; {known}")
        return found

    def check_depth(self, depth: int | None) -> int:
        """Return how many bands a depth has; None is all of them.

        Raises
        ------
        InputError
            (a `ValueError`) for a depth that the store does not have; the message lists them.
        """
        if depth is None:
            return self.store.n_bands
        if isinstance(depth, bool) or depth not in self.store.depths:
            raise InputError(
                f"depth {depth!r} not in this store ({self.store.location}); available: "
                f"{list(self.store.depths)}"
            )
        return int(depth)


def checked_year(year: Any) -> int:
    """Return a year as an int, or raise `InputError` (a `ValueError`)."""
    return TileId.of(year, 0, 0).year


# --- Places ------------------------------------------------------------------------------


def natural_zones(lon: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the UTM zones (1 to 60) that own longitudes in -180..180; 180 is -180."""
    import numpy as np

    turned = np.where(lon >= 180, lon - 360, lon)
    # A place that a projection lost has no longitude; any zone will do.
    number = np.floor((np.where(np.isfinite(turned), turned, 0.0) + 180) / 6).astype(np.int64)
    return np.clip(number + 1, 1, 60)


def seam_neighbours(lon: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the zones across the nearest border, 0 where none is within `SEAM_DEGREES`."""
    import numpy as np

    zone, into = natural_zones(lon), (lon + 180) % 6
    step = np.where(into <= SEAM_DEGREES, -1, np.where(into >= 6 - SEAM_DEGREES, 1, 0))
    return np.where(step == 0, 0, (zone - 1 + step) % 60 + 1)


def centre_of(bbox: BBox) -> tuple[float, float]:
    """Return the middle of a box, by the short way across the antimeridian."""
    west, south, east, north = bbox
    lon = west + (east - west if west <= east else east + 360 - west) / 2
    return (lon + 180) % 360 - 180, (south + north) / 2


def zones_of_box(bbox: BBox) -> Iterator[tuple[int, BBox]]:
    """Yield the zones that a box shares an area with, from west to east, and its part in each."""
    west, south, east, north = bbox
    if east < west:
        east += 360
    first = math.floor((west + 180) / 6)
    for number in range(first, math.ceil((east + 180) / 6)):
        left, right = max(west, number * 6 - 180), min(east, number * 6 - 174)
        turn = 360 if left >= 180 else 0
        yield number % 60 + 1, BBox(left - turn, south, right - turn, north)


def zone_bounds(bbox: BBox, zone: int) -> tuple[float, float, float, float]:
    """Return the envelope (west, south, east, north) of a box in a zone's metres.

    Northings south of the equator are negative.
    """
    import numpy as np

    from geotessera import _native

    west, south, east, north = bbox
    if east < west:
        east += 360
    west, east = _round_meridian(west, east, zone * 6 - 183)
    across = np.linspace(west, east, _EDGE_PARTS + 1)
    up = np.linspace(south, north, _EDGE_PARTS + 1)
    lon = np.concatenate([across, across, np.full_like(up, west), np.full_like(up, east)])
    lat = np.concatenate([np.full_like(across, south), np.full_like(across, north), up, up])
    lon = np.where(lon > 180, lon - 360, lon)
    x, y = _native.project(lon, lat, 32600 + zone)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _round_meridian(west: float, east: float, meridian: float) -> tuple[float, float]:
    """Cut what lies so far from a zone's meridian that the projection folds there.

    The edges of a wider box do not go round it: those of the whole globe are two lines.
    """
    if east - west <= 2 * _FAR:
        return west, east
    middle = (west + east) / 2
    near = meridian + 360 * round((middle - meridian) / 360)
    low, high = max(west, near - _FAR), min(east, near + _FAR)
    return (low, high) if low < high else (west, east)


# --- Pixels ------------------------------------------------------------------------------


def nearest_pixels(grid: GridSpec, x: NDArray[np.float64], y: NDArray[np.float64]) -> Pixels:
    """Return the pixels whose centres are nearest to places; ties go west and north.

    Parameters
    ----------
    grid : GridSpec
        A north-up grid of square pixels.
    x, y : ndarray of float64, shape (n,)
        Coordinates in the grid's CRS, metres.

    Returns
    -------
    rows, cols : ndarray of int64, shape (n,)
        Inside the grid in any case.
    inside : ndarray of bool, shape (n,)
        Whether the centre is within a pixel's side on both axes: a place may lie half a pixel
        beyond the edge.
    """
    import numpy as np

    a, _, left, _, e, top = grid.transform
    u, v = (x - left) / a, (y - top) / e
    inside = (u >= -0.5) & (u <= grid.width + 0.5) & (v >= -0.5) & (v <= grid.height + 0.5)
    cols = np.clip(np.ceil(np.where(inside, u, 0.0) - 1), 0, grid.width - 1).astype(np.int64)
    rows = np.clip(np.ceil(np.where(inside, v, 0.0) - 1), 0, grid.height - 1).astype(np.int64)
    return rows, cols, inside


def pixels_of_bounds(grid: GridSpec, bounds: tuple[float, float, float, float]) -> Window:
    """Return the pixels whose centres lie in bounds, edges included.

    Parameters
    ----------
    grid : GridSpec
        A north-up grid.
    bounds : tuple of float
        (west, south, east, north) in the grid's CRS.

    Raises
    ------
    NoOverlapError
        (an `IndexError` and a `ValueError`) if there are none.
    """
    row, col, height, width = _pixels(grid, bounds)
    first_row, first_col = max(row, 0), max(col, 0)
    last_row, last_col = min(row + height, grid.height), min(col + width, grid.width)
    if first_row >= last_row or first_col >= last_col:
        raise NoOverlapError(
            f"the region does not intersect the zone's grid: it spans {bounds} in "
            f"{grid.crs_name}, and pixel centres lie within {grid.bounds}"
        )
    return Window(first_row, first_col, last_row - first_row, last_col - first_col)


def pixels_round_bounds(grid: GridSpec, bounds: tuple[float, float, float, float]) -> Window:
    """Return the pixels whose centres lie in bounds, also beyond the grid; at least one."""
    row, col, height, width = _pixels(grid, bounds)
    return Window(row, col, max(height, 1), max(width, 1))


def _pixels(grid: GridSpec, bounds: tuple[float, float, float, float]) -> Window:
    a, _, left, _, e, top = grid.transform
    west, south, east, north = bounds
    row, col = math.ceil((north - top) / e - 0.5), math.ceil((west - left) / a - 0.5)
    below, right = math.floor((south - top) / e - 0.5), math.floor((east - left) / a - 0.5)
    return Window(row, col, below - row + 1, right - col + 1)
