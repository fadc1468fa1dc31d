"""Points and regions as earlier releases parsed them: the names and return types of before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geotessera.regions import choose_region, parse_bbox, read_region_file

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geopandas import GeoDataFrame

    from geotessera.types import BBox

__all__ = ["parse_bbox", "parse_points", "read_region_file", "resolve_region"]


def parse_points(points: Any) -> list[tuple[float, float]]:
    """Return points as a list of (longitude, latitude); see `geotessera.points.parse_points`."""
    from geotessera.points import parse_points as parse

    return [(lon, lat) for lon, lat in parse(points).tolist()]


def resolve_region(
    *,
    bbox: str | Sequence[float] | None = None,
    tile: str | Sequence[float] | None = None,
    region_file: str | os.PathLike[str] | GeoDataFrame | None = None,
    country: str | None = None,
) -> tuple[BBox, GeoDataFrame | None]:
    """Return the box of the one selector that is given, and its outlines if it has any.

    See `geotessera.regions.choose_region`; west > east in the box crosses the antimeridian.
    """
    region = choose_region(bbox=bbox, tile=tile, region_file=region_file, country=country)
    if region.geometry is None:
        return region.bbox, None
    import geopandas

    frame = geopandas.GeoDataFrame(geometry=[region.geometry], crs="EPSG:4326")
    return region.bbox, frame
