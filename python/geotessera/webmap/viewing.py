"""What pages are told: where tiles lie, and outlines."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geotessera.datasets import dataset_from_tags, version_path
from geotessera.errors import InputError
from geotessera.regions import Region

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.webmap.zooms import Tile

__all__ = [
    "command_of_picture",
    "download_command",
    "found_zooms",
    "listing_of",
    "outline_of",
    "relative_url",
    "write_summary",
]

_MOST_NUMBERS = 200_000
"""In a page's list of tiles: some 1 MB."""

_SHOWN_METRES = 30.0
"""How far a drawn outline may be from the real one."""

_METRES = 111_320.0
"""Of a degree along a meridian."""


def relative_url(target: str | os.PathLike[str], page: str | os.PathLike[str]) -> str:
    """Return the URL of a file or directory, relative to a page."""
    there, here = Path(target).absolute(), Path(page).absolute().parent
    if there.drive != here.drive:  # no relative way from one drive to another
        return there.as_uri()
    return quote(Path(os.path.relpath(there, here)).as_posix())


def found_zooms(directory: Path) -> tuple[int, int] | None:
    """Return the smallest and the largest zoom of a directory of tiles, by its names."""
    if not directory.is_dir():
        return None
    zooms = [int(one.name) for one in directory.iterdir() if one.name.isdecimal() and one.is_dir()]
    return (min(zooms), max(zooms)) if zooms else None


def listing_of(tiles: Iterable[Tile]) -> list[list[int]] | None:
    """Return which tiles there are, for `write_viewer`, so that a page asks for no others.

    Returns
    -------
    list of list of int, or None
        ``[zoom, row, first column, column after the last, first, …]``; None where that would
        make a page too large.
    """
    import numpy as np

    numbers = np.fromiter((number for tile in tiles for number in tile), np.int32).reshape(-1, 3)
    if not len(numbers):
        return []
    z, x, y = numbers[np.lexsort((numbers[:, 1], numbers[:, 2], numbers[:, 0]))].T
    row = (z[1:] != z[:-1]) | (y[1:] != y[:-1])
    gap = row | (x[1:] != x[:-1] + 1)
    first = np.flatnonzero(np.concatenate([[True], gap]))
    last = np.flatnonzero(np.concatenate([gap, [True]]))
    if len(first) * 2 > _MOST_NUMBERS:
        return None
    listing: list[list[int]] = []
    for at, end in zip(first.tolist(), last.tolist(), strict=True):
        place = [int(z[at]), int(y[at])]
        if not listing or listing[-1][:2] != place:
            listing.append(place)
        listing[-1] += [int(x[at]), int(x[end]) + 1]
    return listing


def outline_of(region: object) -> dict[str, Any]:
    """Return a region as GeoJSON, in WGS84 degrees and no finer than a map can show.

    Parameters
    ----------
    region : Region, path, geometry, …
        As `Region.of` takes it; a box is drawn as a box.
    """
    import shapely
    import shapely.geometry

    chosen = Region.of(Path(region) if isinstance(region, str) else region)
    geometry = chosen.geometry
    if geometry is None:
        west, south, east, north = chosen.bbox
        if east < west:
            east += 360
        geometry = shapely.box(west, south, east, north)
    middle = math.radians((chosen.bbox.south + chosen.bbox.north) / 2)
    tolerance = _SHOWN_METRES / _METRES * max(math.cos(middle), 0.1)
    shown = shapely.simplify(geometry, tolerance)
    return {
        "type": "Feature",
        "properties": {"name": chosen.name},
        "geometry": shapely.geometry.mapping(geometry if shown.is_empty else shown),
    }


def write_summary(
    paths: Iterable[str | os.PathLike[str]], page: str | os.PathLike[str], title: str
) -> Path:
    """Write a page with the footprints of GeoTIFFs; see `geotessera.web`."""
    from geotessera.coverage.inputs import survey_geotiffs
    from geotessera.pages import write_viewer

    found = survey_geotiffs(paths)
    if not found.get("tiles"):
        raise InputError("none of the GeoTIFFs could be read: there is nothing to show")
    features = [
        {
            "type": "Feature",
            "properties": {"path": str(tile["path"])},
            "geometry": {"type": "Polygon", "coordinates": [_ring(*tile["bounds"])]},
        }
        for tile in found["tiles"]
    ]
    box = found["bounds"]
    return write_viewer(
        page,
        tiles="",
        bounds=(box["min_lon"], box["min_lat"], box["max_lon"], box["max_lat"]),
        zooms=(0, 18),
        title=title,
        region={"type": "FeatureCollection", "features": features},
        meta={
            "Files": found["total_files"],
            "Years": ", ".join(found["years"]) or "not said",
            "Bands": ", ".join(map(str, sorted(found["band_counts"]))),
        },
    )


def download_command(
    year: object = None,
    dataset: tuple[str, str] | None = None,
    store_url: str | None = None,
) -> str:
    """Return the command that downloads a place, with ``{lon}``, ``{lat}`` and ``{name}``.

    Parameters
    ----------
    year : optional
        Of what the map shows.
    dataset : (str, str), optional
        Its version and variant.
    store_url : str, optional
        The Zarr store that it was read from, where that was named.
    """
    words = ["geotessera download --tile={lon},{lat}"]
    if year is not None:
        words.append(f"--year {year}")
    if store_url is not None:
        words.append(f"--store-url {shlex.quote(store_url)}")
    elif dataset is not None:
        version, variant = dataset
        words.append(f"--dataset-version {version_path(version)} --dataset-variant {variant}")
    return " ".join([*words, "-o {name}"])


def command_of_picture(path: Path) -> str:
    """Return `download_command` for a picture, by what its tags say of year and dataset."""
    import rasterio

    with rasterio.open(path) as dataset:
        tags = dataset.tags()
    year = tags.get("TESSERA_YEAR", "")
    return download_command(year if year.isdecimal() else None, dataset_from_tags(tags))


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    if east < west:
        east += 360
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
