"""What a store holds at a place, by PROJ and the store's recipe: one point at a time."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from pyproj import Transformer

if TYPE_CHECKING:
    from geotessera.testing.stores import SampleStore
    from geotessera.types import GridSpec

ORDER = ("valid", "water", "nodata", "outside")


@functools.cache
def to_utm(zone: int) -> Transformer:
    return Transformer.from_crs(4326, 32600 + zone, always_xy=True)


def nearest(grid: GridSpec, x: float, y: float) -> tuple[int, int] | None:
    """Row and column of the nearest centre, ties west and north; None beyond 10 m of all."""
    xs = grid.transform[2] + 10 * (np.arange(grid.width) + 0.5)
    ys = grid.transform[5] - 10 * (np.arange(grid.height) + 0.5)
    col, row = int(np.argmin(np.abs(xs - x))), int(np.argmin(np.abs(ys - y)))
    if abs(xs[col] - x) > 10 or abs(ys[row] - y) > 10:
        return None
    return row, col


def near_edge(grid: GridSpec, x: float, y: float) -> bool:
    """Whether a place is within a micrometre of where rules of rounding matter."""
    return any(
        abs(part * 2 - round(part * 2)) < 2e-7
        for part in ((x - grid.transform[2]) / 10, (y - grid.transform[5]) / 10)
    )


def in_zone(store: SampleStore, zone: int, x: float, y: float, year: int, radius: int):
    """(vector or None, status) of a place in a zone's coordinates."""
    grid = store.grids[zone]
    place = nearest(grid, x, y)
    if place is None:
        return None, "outside"
    status = store.status(zone, year, *place)
    if status == "water":
        return None, "water"
    best = (math.inf, 0, 0)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            row, col = place[0] + down, place[1] + right
            inside = 0 <= row < grid.height and 0 <= col < grid.width
            if inside and store.status(zone, year, row, col) == "valid":
                best = min(best, (down**2 + right**2, row, col))
    if best[0] == math.inf:
        return None, "nodata"
    values, scale = store.pixel(zone, year, *best[1:])
    return values.astype(np.float32) * np.float32(scale), "valid"


def probe(
    store: SampleStore, lon: float, lat: float, year: int, radius: int = 1, *, cross: bool = True
):
    """(vector or None, status) of a place; None where a rounding rule decides."""
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 180 and abs(lat) <= 90):
        return None, "outside"
    if lon == 180:
        lon = -180.0
    own = min(math.floor((lon + 180) / 6) + 1, 60)
    into = (lon + 180) - 6 * (own - 1)
    zones = [own]
    if cross and into <= 0.1:
        zones.append((own - 2) % 60 + 1)
    elif cross and into >= 5.9:
        zones.append(own % 60 + 1)
    found = []
    for zone in zones:
        if zone not in store.grids:
            continue
        x, y = to_utm(zone).transform(lon, lat)
        if near_edge(store.grids[zone], x, y):
            return None
        vector, status = in_zone(store, zone, x, y, year, radius)
        if status == "valid":
            return vector, status
        found.append(status)
    return None, min(found, key=ORDER.index, default="outside")
