"""Plans from what people have: a region and tiles, something to be like, or files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

from geotessera.cells import COLUMNS, ROWS, cells_of_box
from geotessera.errors import InputError
from geotessera.mosaic.clip import outline_in
from geotessera.mosaic.grids import (
    crs_code,
    default_resolution,
    grid_around,
    grid_of_bounds,
    project_bbox,
)
from geotessera.mosaic.like import grid_like
from geotessera.mosaic.plan import MosaicPlan
from geotessera.mosaic.rasters import MosaicRaster
from geotessera.regions import Region
from geotessera.sources import GeoTiff

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shapely.geometry.base import BaseGeometry

    from geotessera.sources import SourceDescriptor
    from geotessera.types import BBox, GridSpec, Method

    type Resolution = float | tuple[float, float]

__all__ = ["How", "plan_files", "plan_like", "plan_region", "region_grid"]


class How(TypedDict):
    """How a mosaic is made, beside where: keyword arguments of `MosaicPlan.of`."""

    method: NotRequired[Method]
    bands: NotRequired[Sequence[int] | None]
    quantized: NotRequired[bool]
    block: NotRequired[int]


def plan_region(
    rasters: Iterable[MosaicRaster | SourceDescriptor],
    region: object,
    crs: Any = None,
    *,
    resolution: Resolution | None = None,
    like: Any = None,
    align: bool = False,
    clip: bool = False,
    **how: Unpack[How],
) -> MosaicPlan:
    """Plan a mosaic of a region from tiles.

    Parameters
    ----------
    rasters : iterable of MosaicRaster or SourceDescriptor
        The tiles, in any order: the result does not depend on it. At each pixel the tile comes
        first whose cell owns the pixel's centre, then the others by longitude and latitude.
    region : box, country, geometry, GeoDataFrame, path or Region
        What `Region.of` takes, in WGS84 degrees unless it says otherwise. West > east crosses
        the antimeridian: longitudes of the grid then go on beyond 180.
    crs : int, str or CRS, optional
        Of the mosaic; by default that of the first tile that overlaps the region's box.
    resolution : float or (float, float), optional
        Size of a pixel in units of the CRS. By default what GDAL gives the first tile, by
        (longitude, latitude), that shares an area with the region's box.
    like : GridSpec, path, xarray object or GeoBox, optional
        Take the whole grid from this instead; see `grid_like`.
    align : bool
        Put pixel edges on multiples of the resolution.
    clip : bool
        Leave pixels empty whose centre is outside the region.
    **how
        ``method`` ("nearest" or "bilinear"), ``bands``, ``quantized``, ``block``: see
        `MosaicPlan`.

    Returns
    -------
    MosaicPlan

    Raises
    ------
    InputError
        (a `ValueError`) if the region, the CRS or the resolution cannot be used; see also
        `MosaicPlan.of`.
    """
    place = Region.of(region)
    made = _in_order(rasters)
    if like is not None:
        _refuse_with_like(crs=crs, resolution=resolution, align=align or None)
        grid = grid_like(like)
    else:
        grid = region_grid(made, place, crs, resolution, align=align)
    return MosaicPlan.of(grid, made, clip=_outline(place, grid) if clip else None, **how)


def region_grid(
    rasters: Sequence[MosaicRaster],
    region: Region,
    crs: Any = None,
    resolution: Resolution | None = None,
    *,
    align: bool = False,
) -> GridSpec:
    """Return the grid that `plan_region` makes of a region's box; arguments as there."""
    if not rasters and (crs is None or resolution is None):
        raise InputError("without a tile, a grid needs both a CRS and a resolution")
    first = _first_in(rasters, region.bbox) if rasters else None
    code = crs_code(crs) if crs is not None or first is None else first.grid.epsg_or_wkt
    if resolution is None:
        assert first is not None  # checked above
        resolution = default_resolution(first.grid, code)
    return grid_of_bounds(code, project_bbox(region.bbox, code), resolution, align=align)


def plan_like(
    rasters: Iterable[MosaicRaster | SourceDescriptor],
    like: Any,
    *,
    clip: object = None,
    **how: Unpack[How],
) -> MosaicPlan:
    """Plan a mosaic of tiles on a grid that is there already.

    Parameters
    ----------
    rasters : iterable of MosaicRaster or SourceDescriptor
        As for `plan_region`.
    like : GridSpec, path, xarray object or GeoBox
        What has the grid; see `grid_like`.
    clip : box, country, geometry, GeoDataFrame, path or Region, optional
        Leave pixels empty whose centre is outside this region.
    **how
        As for `plan_region`.
    """
    grid = grid_like(like)
    outline = None if clip is None else _outline(Region.of(clip), grid)
    return MosaicPlan.of(grid, _in_order(rasters), clip=outline, **how)


def plan_files(
    files: Iterable[str | os.PathLike[str] | SourceDescriptor],
    crs: Any = None,
    *,
    resolution: Resolution | None = None,
    bounds: Sequence[float] | None = None,
    like: Any = None,
    align: bool = False,
    **how: Unpack[How],
) -> MosaicPlan:
    """Plan a mosaic of files: the first one that holds a pixel gives it.

    Parameters
    ----------
    files : iterable of path or SourceDescriptor
        GeoTIFFs, in order of precedence.
    crs : int, str or CRS, optional
        Of the mosaic; the first file's by default.
    resolution : float or (float, float), optional
        Size of a pixel in units of the CRS; by default what GDAL gives the first file.
    bounds : sequence of 4 float, optional
        (left, bottom, right, top) in the CRS; by default all that the files cover.
    like, align, **how
        As for `plan_region`.
    """
    rasters = [_of_file(file) for file in files]
    if not rasters:
        raise InputError("a mosaic needs at least one file")
    if like is not None:
        _refuse_with_like(crs=crs, resolution=resolution, bounds=bounds, align=align or None)
        return MosaicPlan.of(grid_like(like), rasters, **how)
    box = None if bounds is None else _box_of(bounds)
    grids = [raster.grid for raster in rasters]
    code = grids[0].epsg_or_wkt if crs is None else crs_code(crs)
    grid = grid_around(grids, code, resolution, bounds=box, align=align)
    return MosaicPlan.of(grid, rasters, **how)


def _box_of(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = (float(value) for value in bounds)
    except (TypeError, ValueError) as error:
        raise InputError(f"bounds {bounds!r}: expected left, bottom, right, top") from error
    if not (left < right and bottom < top):
        raise InputError(f"bounds {tuple(bounds)}: expected left < right and bottom < top")
    return left, bottom, right, top


def _of_file(file: Any) -> MosaicRaster:
    """Return a raster in a list, whose place in the list decides, not its cell."""
    from dataclasses import replace

    raster = MosaicRaster.of(GeoTiff(Path(file)) if isinstance(file, str | os.PathLike) else file)
    return replace(raster, cell=None)


def _in_order(rasters: Iterable[MosaicRaster | SourceDescriptor]) -> list[MosaicRaster]:
    """Return rasters by the longitude and latitude of their tile; others follow as given."""
    made = [one if isinstance(one, MosaicRaster) else MosaicRaster.of(one) for one in rasters]
    tiles = [one for one in made if one.cell is not None]
    tiles.sort(key=lambda one: (one.cell, not one.quantized, one.name))
    return tiles + [one for one in made if one.cell is None]


def _first_in(rasters: Sequence[MosaicRaster], bbox: BBox) -> MosaicRaster:
    cells = cells_of_box(bbox)
    for raster in rasters:
        if raster.cell is None:
            continue
        column, row = raster.cell[0] + COLUMNS // 2, raster.cell[1] + ROWS // 2
        across = (column - cells.column) % COLUMNS < cells.columns
        if across and cells.row <= row < cells.row + cells.rows:
            return raster
    return rasters[0]


def _outline(region: Region, grid: GridSpec) -> BaseGeometry:
    import shapely

    geometry = region.geometry
    if geometry is None:
        west, south, east, north = region.bbox
        boxes = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        geometry = shapely.union_all([shapely.box(low, south, high, north) for low, high in boxes])
    return outline_in(geometry, grid)


def _refuse_with_like(**others: Any) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(f"like= gives the whole grid: leave out {', '.join(given)}")
