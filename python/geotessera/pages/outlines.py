"""The offline base map: the bundled outlines, simplified and packed for a page."""

from __future__ import annotations

import functools
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

from geotessera.country import country_features
from geotessera.pages.assemble import deflated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

__all__ = ["packed_countries"]


def _ring(points: list[tuple[int, int]]) -> list[int]:
    """Return a ring as its first point and the steps from point to point."""
    deltas = [*points[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if (x0, y0) != (x1, y1):
            deltas += (x1 - x0, y1 - y0)
    return deltas


def _rings(outline: BaseGeometry, step: float) -> list[list[list[int]]]:
    import shapely

    return [
        [
            _ring([(round(x / step), round(y / step)) for x, y in ring.coords])
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        for polygon in shapely.get_parts(outline)
        if not polygon.is_empty
    ]


def _box(outline: BaseGeometry) -> list[float]:
    """Return west, south, east, north; east is beyond 180 where that box is narrower."""
    import shapely

    west, south, east, north = outline.bounds
    bounds = sorted((part.bounds[0], part.bounds[2]) for part in shapely.get_parts(outline))
    reach, widest, after = bounds[0][1], 360.0 - (east - west), west
    for left, right in bounds[1:]:
        if left - reach > widest:
            widest, after = left - reach, left
        reach = max(reach, right)
    if after != west:
        west, east = after, after + 360 - widest
    return [round(degrees, 2) for degrees in (west, south, east, north)]


def _once(features: Sequence[dict[str, Any]]) -> list[BaseGeometry]:
    """Return the outlines of countries without those of their parts that are there themselves."""
    import shapely
    import shapely.geometry

    whole = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    owners = [feature["properties"].get("part_of") for feature in features]
    parts: dict[str, list[BaseGeometry]] = {}
    for owner, outline in zip(owners, whole, strict=True):
        if owner is not None:
            parts.setdefault(owner, []).append(outline)
    names = [feature["properties"]["name"] for feature in features]
    return [
        shapely.difference(outline, shapely.union_all(parts[name])) if name in parts else outline
        for name, outline in zip(names, whole, strict=True)
    ]


@functools.cache
def packed_countries(tolerance: float, step: float) -> str:
    """Return all countries for a page.

    Each place is there once: the rings of a country leave out those of its parts that have a
    code of their own, which name it as ``partOf``. Its box is that of all.

    Parameters
    ----------
    tolerance : float
        How far outlines are simplified, in degrees; neighbours stay neighbours.
    step : float
        What coordinates are rounded to, in degrees.
    """
    import shapely
    import shapely.geometry

    features = country_features()
    countries: list[dict[str, Any]] = []
    simple = shapely.coverage_simplify(_once(features), tolerance)
    for feature, drawn in zip(features, simple, strict=True):
        outline = shapely.geometry.shape(feature["geometry"])
        properties = feature["properties"]
        largest = max(shapely.get_parts(outline), key=shapely.area)
        spot = (
            largest.centroid if largest.contains(largest.centroid) else largest.point_on_surface()
        )
        countries.append(
            {
                "name": properties["name"],
                "names": properties["names"],
                "codes": [c for c in (properties["iso_a2"], properties["iso_a3"]) if c],
                "label": [round(spot.x, 2), round(spot.y, 2)],
                # The zoom at which the name has room: an area of four is half the zoom.
                "rank": round(min(max(4.6 - math.log2(largest.area + 0.01) / 2, 0), 7), 1),
                "box": _box(outline),
                "rings": _rings(drawn, step),
                **({"partOf": properties["part_of"]} if "part_of" in properties else {}),
            }
        )
    text = json.dumps({"step": step, "countries": countries}, separators=(",", ":"))
    return deflated(text.encode())
