"""Outlines on the globe: from any CRS to longitudes and latitudes, across ±180° and round poles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

__all__ = ["in_degrees", "on_globe", "parts_of_geometry"]

_EDGE_METRES = 10_000
"""Longest edge that is drawn straight between its ends: it is metres off in any CRS."""

_MOST_EDGES = 1000
"""Pieces of an edge as long as everything."""


def in_degrees(frame: GeoDataFrame) -> GeoDataFrame:
    """Return a frame in WGS84 (EPSG:4326), its outlines where they are in its own CRS.

    Edges that are straight in a projected CRS are followed, and outlines that cross ±180° or
    go round a pole there are cut, not taken round the globe the other way.
    """
    import numpy as np
    import shapely

    if frame.crs.is_geographic:
        return frame.to_crs("EPSG:4326")
    west, south, east, north = frame.total_bounds
    longest = max(east - west, north - south)
    factor = frame.crs.axis_info[0].unit_conversion_factor if frame.crs.axis_info else 1.0
    if math.isfinite(longest):
        edge = max(_EDGE_METRES / (factor or 1.0), longest / _MOST_EDGES)
        frame = frame.set_geometry(shapely.segmentize(frame.geometry.to_numpy(), edge))
    moved: GeoDataFrame = frame.to_crs("EPSG:4326")
    outlines = moved.geometry.to_numpy().copy()
    left, _, right, _ = shapely.bounds(outlines).T
    # Who crosses ±180° or goes round a pole has longitudes that are far apart.
    for at in np.flatnonzero(right - left > 180):
        outlines[at] = _unrolled(outlines[at])
    return moved.set_geometry(outlines, crs="EPSG:4326")


def _unrolled(geometry: BaseGeometry) -> BaseGeometry:
    """Return an outline whose edges are short, with each edge the short way round the globe."""
    import shapely

    return shapely.union_all([_unrolled_part(part) for part in parts_of_geometry(geometry)])


def _unrolled_part(part: Any) -> BaseGeometry:
    import shapely
    from shapely.geometry import LineString

    if part.geom_type == "Polygon":
        shell, *holes = (_area(ring) for ring in (part.exterior, *part.interiors))
        return shapely.difference(shell, shapely.union_all(holes))
    if part.geom_type in ("LineString", "LinearRing"):
        return on_globe(LineString(_continuous(shapely.get_coordinates(part))))
    whole: BaseGeometry = part
    return whole


def _area(ring: BaseGeometry) -> BaseGeometry:
    """Return what is inside a ring: if it goes round a pole, what is on the pole's side."""
    import numpy as np
    import shapely
    from shapely.geometry import Polygon

    places = _continuous(shapely.get_coordinates(ring))
    if abs(places[-1, 0] - places[0, 0]) > 180:
        pole = math.copysign(90, places[:, 1].mean())
        places = np.concatenate([places, [(places[-1, 0], pole), (places[0, 0], pole)]])
    return on_globe(shapely.make_valid(Polygon(places)))


def _continuous(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes and latitudes without jumps at ±180°, about the first turn."""
    import numpy as np

    lon = np.unwrap(places[:, 0], period=360)
    lon -= np.round((lon.min() + lon.max()) / 720) * 360
    return np.column_stack([lon, places[:, 1]])


def on_globe(geometry: BaseGeometry) -> BaseGeometry:
    """Return an outline with its parts beyond ±180° taken round the globe."""
    import shapely
    from shapely.affinity import translate

    west, _, east, _ = geometry.bounds
    if west >= -180 and east <= 180:
        return geometry
    pieces = [
        translate(
            shapely.intersection(geometry, shapely.box(turn - 180, -90, turn + 180, 90)), -turn
        )
        for turn in (-360, 0, 360)
    ]
    return shapely.union_all([piece for piece in pieces if not piece.is_empty])


def parts_of_geometry(geometry: BaseGeometry) -> NDArray[Any]:
    """Return the points, lines and polygons that a geometry is made of."""
    import numpy as np
    import shapely

    parts = np.array([geometry], dtype=object)
    while True:  # collections may be nested
        inner = shapely.get_parts(parts)
        if len(inner) == len(parts):
            return inner
        parts = inner
