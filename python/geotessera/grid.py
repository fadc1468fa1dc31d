"""The tile grid: 0.1° cells in WGS84 (EPSG:4326), their names, bounds and UTM rasters.

Rules and reference values: the tile grid of the published data. A cell is known by
its centre, an odd multiple of 0.05°, or by the integer key ``round(centre * 100)``.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.types import GridSpec

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BLOCK_SIZE",
    "CELL_DEGREES",
    "PIXEL_METRES",
    "block_from_world",
    "coord_to_grid_int",
    "epsg_of_tile",
    "parse_grid_name",
    "tile_centre",
    "tile_footprint",
    "tile_from_world",
    "tile_key",
    "tile_to_bounds",
    "tile_to_grid_name",
    "utm_zone",
]

CELL_DEGREES = 0.1
"""Side of a cell in degrees."""

PIXEL_METRES = 10.0
"""Side of a pixel in metres."""

BLOCK_SIZE = 5
"""Side of a block of the legacy text registries, in degrees."""

_GRID_NAME = re.compile(r"grid_([+-]?\d*\.\d+)_([+-]?\d*\.\d+)")


def _check_world(lon: float, lat: float) -> None:
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise InputError(
            f"coordinates ({lon}, {lat}) are out of bounds: longitude must lie in -180..180 "
            "and latitude in -90..90 degrees (is the order longitude, latitude?)"
        )


def tile_centre(value: float) -> float:
    """Return the centre of the cell that owns a longitude or latitude.

    The formula is evaluated in IEEE doubles as published, so that values such as
    ``3 * 0.1`` fall into the same cell as everywhere else.
    """
    return round(math.floor(value * 10) / 10 + 0.05, 2)


def tile_from_world(lon: float, lat: float) -> tuple[float, float]:
    """Return the centre of the tile that owns a point.

    Parameters
    ----------
    lon, lat : float
        WGS84 degrees. West and south edges belong to a cell; longitude 180 is
        longitude -180, and latitude 90 belongs to the northernmost row.

    Returns
    -------
    tuple of float
        (longitude, latitude) of the tile's centre.

    Raises
    ------
    InputError
        (a `ValueError`) if the point is not on the globe or not finite.

    Examples
    --------
    >>> tile_from_world(0.17, 52.23)
    (0.15, 52.25)
    """
    _check_world(lon, lat)
    if lon == 180:
        lon = -180.0
    return tile_centre(lon), min(tile_centre(lat), 89.95)


def tile_key(centre: float) -> int:
    """Return the integer key of a cell centre: hundredths of a degree."""
    return round(centre * 100)


def coord_to_grid_int(coord: float) -> np.int32:
    """Return the integer key of a cell centre as the registries store it (int32)."""
    import numpy as np

    return np.int32(np.round(coord * 100))


def tile_to_grid_name(lon: float, lat: float) -> str:
    """Return the name of the tile with the given centre, such as ``grid_0.15_52.25``."""
    return f"grid_{lon:.2f}_{lat:.2f}"


def parse_grid_name(filename: str) -> tuple[float, float] | tuple[None, None]:
    """Return the (longitude, latitude) that a file name starts with, or (None, None)."""
    match = _GRID_NAME.match(filename)
    return (float(match[1]), float(match[2])) if match else (None, None)


def tile_to_bounds(lon: float, lat: float) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) of a cell in WGS84 degrees, from its centre."""
    return lon - 0.05, lat - 0.05, lon + 0.05, lat + 0.05


def block_from_world(lon: float, lat: float) -> tuple[int, int]:
    """Return the lower-left corner of the 5° block that owns a point, in whole degrees."""
    _check_world(lon, lat)
    return (
        math.floor(lon / BLOCK_SIZE) * BLOCK_SIZE,
        math.floor(lat / BLOCK_SIZE) * BLOCK_SIZE,
    )


def utm_zone(lon: float) -> int:
    """Return the UTM zone (1 to 60) of a longitude, without the Norway exceptions."""
    return min(max(math.floor((lon + 180) / 6) + 1, 1), 60)


def epsg_of_tile(lon: float, lat: float) -> int:
    """Return the EPSG code of a tile's UTM CRS, from the tile's centre.

    326zz for centres on or north of the equator, else 327zz.
    """
    return (32600 if lat >= 0 else 32700) + utm_zone(lon)


def tile_footprint(lon: float, lat: float) -> GridSpec:
    """Return the raster of a tile: the UTM bounding box of its cell at 10 m.

    The origin is the unsnapped north-west corner, as landmasks carry it.

    Parameters
    ----------
    lon, lat : float
        Centre of the tile in WGS84 degrees.
    """
    import numpy as np

    from geotessera import _native

    west, south, east, north = tile_to_bounds(lon, lat)
    epsg = epsg_of_tile(lon, lat)
    corner_lon = np.array([west, west, east, east])
    corner_lat = np.array([south, north, south, north])
    x, y = _native.project(corner_lon, corner_lat, epsg)
    left, right = float(x[:2].min()), float(x[2:].max())
    top, bottom = float(max(y[1], y[3])), float(min(y[0], y[2]))
    return GridSpec(
        epsg,
        (PIXEL_METRES, 0.0, left, 0.0, -PIXEL_METRES, top),
        round((top - bottom) / PIXEL_METRES),
        round((right - left) / PIXEL_METRES),
    )
