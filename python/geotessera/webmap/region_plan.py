"""What is drawn of a region: three bands, on the pixels of its UTM zone or in Web Mercator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from geotessera.errors import EmptySelectionError, InputError
from geotessera.mosaic.build import plan_region
from geotessera.mosaic.clip import outline_in
from geotessera.stores.mosaic import plan_zones, region_grid
from geotessera.stores.zones import checked_year

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geotessera.datasets import Dataset
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.regions import Region
    from geotessera.stores.zones import StoreZones

__all__ = ["check_rgb", "crs_of_region", "plan_store", "plan_tiles", "resolution_in"]

_ZONE_DEGREES = 12.0
"""Wider regions are made in Web Mercator, narrower ones on the pixels of their UTM zone."""

_METRES = 10.0


def check_rgb(bands: Sequence[int] | None) -> list[int]:
    """Return the three bands of red, green and blue, by default the first ones.

    Raises
    ------
    InputError
        (a `ValueError`) for another number of bands.
    """
    chosen = [0, 1, 2] if bands is None else list(bands)
    if len(chosen) != 3:
        raise InputError(
            f"--bands needs exactly three bands, for red, green and blue; found {len(chosen)}"
        )
    return chosen


def crs_of_region(region: Region) -> int:
    """Return the EPSG code of a region's picture: its UTM zone, or Web Mercator if it is wide."""
    west, south, east, north = region.bbox
    width = east - west if west <= east else east + 360 - west
    if width > _ZONE_DEGREES:
        return 3857
    lon = (west + width / 2 + 180) % 360
    zone = min(int(lon // 6) + 1, 60)
    return (32600 if south + north >= 0 else 32700) + zone


def resolution_in(crs: int) -> float | None:
    """Return the pixels of pictures in metres; None where the plan chooses them."""
    return _METRES if crs != 3857 else None


def plan_store(
    zones: StoreZones,
    region: Region,
    year: int,
    bands: Sequence[int],
    *,
    depth: int | None = None,
    dataset: Dataset | None = None,
) -> MosaicPlan:
    """Plan the bands of a region from a Zarr store, on the store's own pixels where possible."""
    crs = crs_of_region(region)
    grid = region_grid(zones, region.bbox, crs)
    plan = plan_zones(
        zones,
        grid,
        checked_year(year),
        depth=depth,
        bands=bands,
        method="nearest" if crs != 3857 else "bilinear",
        dataset=dataset,
    )
    if region.geometry is None:
        return plan
    return replace(plan, clip=outline_in(region.geometry, grid))


def plan_tiles(rasters: Iterable[MosaicRaster], region: Region, bands: Sequence[int]) -> MosaicPlan:
    """Plan the bands of a region from tiles."""
    made = list(rasters)
    if not made:
        raise EmptySelectionError(f"no tiles in {region.name or tuple(region.bbox)}")
    crs = crs_of_region(region)
    return plan_region(
        made,
        region,
        crs,
        resolution=resolution_in(crs),
        align=True,
        clip=region.geometry is not None,
        method="nearest" if crs != 3857 else "bilinear",
        bands=bands,
    )
