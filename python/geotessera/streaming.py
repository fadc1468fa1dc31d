"""Which pixels of a store's zones a box holds, and their export: upstream's names for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import NoOverlapError, YearError
from geotessera.stores.regions import box_of
from geotessera.stores.zones import (
    StoreZones,
    checked_year,
    pixels_of_bounds,
    zone_bounds,
    zones_of_box,
)
from geotessera.types import Window

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import xarray as xr
    from affine import Affine

    from geotessera.store import GeoTesseraZarr
    from geotessera.types import ProgressCallback

__all__ = ["RegionWindow", "export_region", "region_windows"]


class RegionWindow(NamedTuple):
    """Some pixels of a zone: half-open ranges of its columns and rows."""

    x0: int
    x1: int
    y0: int
    y1: int
    transform: Affine
    """Of the window's upper-left corner."""


def region_windows(
    client: GeoTesseraZarr, bbox: str | Sequence[float], year: int
) -> Iterator[tuple[int, xr.Dataset, RegionWindow]]:
    """Yield the zones that hold pixels of a box, from west to east.

    Parameters
    ----------
    client : GeoTesseraZarr
        The store.
    bbox : sequence of 4 float
        (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
    year : int
        Calendar year.

    Yields
    ------
    zone : int
        Number of the UTM zone; those that the store lacks are left out.
    dataset : xarray.Dataset
        The zone, lazy, as `GeoTesseraZarr.open_zone` gives it.
    window : RegionWindow
        Its pixels whose centres lie in the envelope of the box's part.

    Raises
    ------
    YearError
        (a `KeyError` and a `ValueError`) if a zone lacks the year.
    BoxError
        (a `ValueError`) for a box that is none.
    """
    zones, wanted = StoreZones(client.store), checked_year(year)
    for number, part in zones_of_box(box_of(bbox)):
        zone = zones.find(number)
        if zone is None:
            continue
        try:
            row, col, height, width = pixels_of_bounds(zone.grid, zone_bounds(part, number))
        except NoOverlapError:
            continue
        if wanted not in zone.years:
            raise YearError(f"year {wanted} is unavailable; available: {sorted(zone.years)}")
        part_grid = zone.grid.window(Window(row, col, height, width))
        window = RegionWindow(col, col + width, row, row + height, part_grid.affine)
        yield number, client.open_zone(zone=number), window


def export_region(
    client: GeoTesseraZarr,
    bbox: str | Sequence[float],
    year: int,
    output_dir: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    depth: int | None = None,
    strip_rows: int = 128,
    compress: str | None = "lzw",
    progress_callback: ProgressCallback | None = None,
    dry_run: bool = False,
) -> list[Any]:
    """Write a box as one GeoTIFF for each zone; see `GeoTesseraZarr.export_geotiffs`."""
    return client.export_geotiffs(
        bbox,
        year,
        output_dir,
        bands=bands,
        depth=depth,
        strip_rows=strip_rows,
        compress=compress,
        progress_callback=progress_callback,
        dry_run=dry_run,
    )
