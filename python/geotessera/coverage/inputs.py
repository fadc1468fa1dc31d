"""What files and points cover: the boxes round them, and the headers of GeoTIFFs."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.layout import geotiff_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

__all__ = ["box_of_file", "box_of_points", "survey_geotiffs"]

logger = logging.getLogger("geotessera.visualization")


def box_of_file(path: str | os.PathLike[str]) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) in WGS84 degrees of the features of a vector file."""
    from geotessera.regions import read_region_file

    west, south, east, north = read_region_file(path).total_bounds
    return west, south, east, north


def box_of_points(
    points: pd.DataFrame | Sequence[dict[str, float]], buffer_degrees: float
) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) round points, and as many degrees more on all sides."""
    import pandas as pd

    table = points if isinstance(points, pd.DataFrame) else pd.DataFrame(points)
    if not {"lon", "lat"} <= set(table.columns) or not len(table):
        raise InputError(
            "Points must have 'lon' and 'lat' columns, and there must be one at least; found "
            f"{len(table)} with {', '.join(map(str, table.columns)) or 'none'}"
        )
    lon, lat = table["lon"], table["lat"]
    return (
        lon.min() - buffer_degrees,
        lat.min() - buffer_degrees,
        lon.max() + buffer_degrees,
        lat.max() + buffer_degrees,
    )


def survey_geotiffs(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """Return what GeoTIFFs of embeddings say of themselves; only their headers are read."""
    names = [os.fspath(path) for path in paths]
    if not names:
        return {"error": "No files provided"}
    tiles, systems = [], set()
    for name in names:
        try:
            tile, crs = _header(name)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("Failed to read %s: %s", name, " ".join(str(error).split()))
            continue
        tiles.append(tile)
        systems.add(crs)
    sides = list(zip(*(tile["bounds"] for tile in tiles), strict=True)) or [()] * 4
    return {
        "total_files": len(names),
        "tiles": tiles,
        "bounds": {
            "min_lon": min(sides[0], default=math.inf),
            "max_lon": max(sides[2], default=-math.inf),
            "min_lat": min(sides[1], default=math.inf),
            "max_lat": max(sides[3], default=-math.inf),
        },
        "band_counts": dict(Counter(tile["bands"] for tile in tiles)),
        "years": sorted({tile["year"] for tile in tiles}),
        "crs": sorted(systems),
    }


def _header(name: str) -> tuple[dict[str, Any], str]:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import transform, transform_bounds

    try:
        with rasterio.open(name) as dataset:
            tags, crs = dataset.tags(), dataset.crs
            known = geotiff_identity(name)
            year = known.year if known else tags.get("TESSERA_YEAR")
            if year is None:
                raise InputError("it needs a name like grid_LON_LAT_YEAR.tiff or TESSERA_YEAR")
            if crs is None:
                raise InputError("it has no CRS")
            bounds = [float(side) for side in transform_bounds(crs, "EPSG:4326", *dataset.bounds)]
            bands = dataset.count
            if known:
                lon, lat = known.lon, known.lat
            else:
                middle = dataset.xy(dataset.height // 2, dataset.width // 2)
                lon, lat = (one[0] for one in transform(crs, "EPSG:4326", [middle[0]], [middle[1]]))
    except RasterioError as error:
        raise OSError(str(error)) from error
    return {
        "path": name,
        "bounds": bounds,
        "bands": bands,
        "year": str(year),
        "tile_lat": lat,
        "tile_lon": lon,
    }, str(crs)
