"""Mosaics of a region: the tiles of a dataset on one grid, as an array.

Which tiles, on which grid, and what happens to those that cannot be had is decided here;
`geotessera.mosaic` plans and makes the pixels.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from geotessera.errors import EmptySelectionError, FormatError, InputError, TileError
from geotessera.grid import tile_footprint, tile_to_grid_name
from geotessera.mosaic.build import plan_region
from geotessera.mosaic.execute import render
from geotessera.mosaic.grids import (
    crs_code,
    default_resolution,
    grid_of_bounds,
    project_bbox,
)
from geotessera.mosaic.like import grid_like
from geotessera.mosaic.placement import on_whole_pixels
from geotessera.mosaic.rasters import MosaicRaster
from geotessera.regions import Region
from geotessera.sampling import check_method
from geotessera.sizes import format_bytes
from geotessera.sources.base import check_bands
from geotessera.sources.npy import NpyTile
from geotessera.types import BBox, Block, QuantizedRaster, TileId, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.registry import Registry
    from geotessera.tiles import Tile
    from geotessera.types import GridSpec, Method, ProgressCallback

__all__ = ["Ensure", "bbox_of", "make_mosaic", "plan_region_mosaic"]

logger = logging.getLogger("geotessera.core")

DEFAULT_CRS = "EPSG:4326"

_STRIP = 512
"""Rows that are made between two reports of progress."""


class Ensure(Protocol):
    """What makes tiles local."""

    def __call__(
        self, tiles: Sequence[TileId], failures: dict[TileId, Exception] | None, /
    ) -> Mapping[tuple[float, float], Tile]:
        """Return those tiles that exist, by centre.

        With `failures`, tiles that cannot be had are put there instead of raised.
        """
        ...


def plan_region_mosaic(
    registry: Registry,
    ensure: Ensure,
    region: Any,
    year: int,
    crs: Any = DEFAULT_CRS,
    *,
    resolution: float | tuple[float, float] | None = None,
    method: Method = "bilinear",
    bands: Sequence[int] | None = None,
    like: Any = None,
    quantized: bool = False,
    clip: bool = False,
    errors: str = "raise",
    failures: dict[TileId, Exception] | None = None,
) -> MosaicPlan:
    """Make the tiles of a region local and plan their mosaic.

    Parameters
    ----------
    registry : Registry
        What the dataset has.
    ensure : callable
        What makes tiles local.
    region : as `Region.of` takes it, or None
        Which tiles, and the bounds of the grid; None for those of `like`.
    year : int
        Calendar year.
    crs : CRS, int or str
        Of the mosaic; not used with `like`.
    resolution : float or (float, float), optional
        Pixel size in units of the CRS; by default what GDAL gives the region's first tile,
        by longitude and latitude, whether it could be had or not.
    method : {"nearest", "bilinear"}
        Tiles in the grid's CRS whose pixels have its size are copied pixel by pixel in any
        case, moved by up to half a pixel; and so are quantised mosaics.
    bands : sequence of int, optional
        Zero-based bands, in this order; all by default.
    like : GridSpec, path, xarray object, GeoBox or raster, optional
        What has the grid that the mosaic is to have.
    quantized : bool
        Whether the mosaic holds int8 values with scales, from tiles on their snapped grid.
    clip : bool
        Leave pixels empty whose centre is not in the region.
    errors : {"raise", "coerce"}
        What a tile that cannot be had or read does: raise, or leave a hole.
    failures : dict, optional
        Where ``errors="coerce"`` puts such tiles; they are logged in any case.

    Raises
    ------
    InputError
        (a `ValueError`) for arguments that cannot be used; no tile is fetched then.
    EmptySelectionError
        (a `ValueError`) if the dataset has no tile of the region and year.
    TileNotFoundError
        (a `RuntimeError` and `FileNotFoundError`) if tiles are not local and may not be fetched.
    TileError
        (a `RuntimeError`) if a tile cannot be had or read, or with ``"coerce"`` none of them.
    """
    check_method(method)
    check_bands(bands)
    year = TileId.of(year, 0, 0).year
    if errors not in ("raise", "coerce"):
        raise InputError(f"errors={errors!r}: expected 'raise' or 'coerce'")
    if region is None and like is None:
        raise InputError("a region is needed: a box, a country, an outline, or like=")
    grid = None if like is None else grid_like(like)
    chosen = Region.of(bbox_of(grid) if region is None and grid is not None else region)
    code = crs_code(crs) if grid is None else grid.epsg_or_wkt
    expected = grid
    if grid is None:
        bounds = project_bbox(chosen.bbox, code)
        if resolution is not None:
            expected = grid_of_bounds(code, bounds, resolution)
    tiles = chosen.select(registry.iter_tiles_in_region(chosen.bbox, year))
    if not tiles:
        raise EmptySelectionError(_no_tiles(registry, chosen, year))
    if expected is None:
        # Where its cell is, is near enough to where the tile's landmask says.
        usual = default_resolution(tile_footprint(tiles[0].lon, tiles[0].lat), code)
        expected = grid_of_bounds(code, bounds, usual)
    depth = _least_depth(registry, tiles[0]) if bands is None else len(bands)
    _refuse_oversize(expected, depth, 1 if quantized else 4)
    if errors == "coerce":
        failures = {} if failures is None else failures
    rasters = _rasters(ensure, tiles, quantized, None if errors == "raise" else failures)
    if resolution is None and grid is None and tiles[0] not in rasters:
        resolution = default_resolution(tile_footprint(tiles[0].lon, tiles[0].lat), code)
    plan = plan_region(
        rasters.values(),
        chosen,
        None if grid is not None else crs,
        resolution=resolution,
        like=grid,
        clip=clip,
        method="nearest" if quantized else method,
        bands=bands,
        quantized=quantized,
    )
    return on_whole_pixels(plan) if plan.method == "bilinear" else plan


def make_mosaic(plan: MosaicPlan, progress: ProgressCallback | None = None) -> Block:
    """Make all of a mosaic in memory.

    Parameters
    ----------
    plan : MosaicPlan
        What to make.
    progress : callable, optional
        Called with (rows done, rows in all, status text).

    Returns
    -------
    Block
        Float32 values (row, column, band), or a `QuantizedRaster`.

    Raises
    ------
    InputError
        (a `ValueError`) if it is larger than the machine's memory.
    """
    _refuse_oversize(plan.grid, plan.band_count, plan.pixel_bytes / plan.band_count)
    if progress is None:
        return render(plan)
    import numpy as np

    height, width = plan.shape[:2]
    values = np.empty(plan.shape, np.int8 if plan.quantized else np.float32)
    factors = None
    if plan.quantized:
        factors = np.empty(plan.shape if plan.scales_per_band else plan.shape[:2], np.float32)
    for row in range(0, height, _STRIP):
        progress(row, height, "Making the mosaic")
        part = slice(row, min(row + _STRIP, height))
        render(
            plan,
            Window(row, 0, part.stop - row, width),
            out=values[part],
            scales=None if factors is None else factors[part],
        )
    progress(height, height, "Complete")
    if factors is None:
        return Block(values, None, plan.grid, provenance=plan.provenance)
    return QuantizedRaster(values, factors, plan.grid, provenance=plan.provenance)


def _least_depth(registry: Registry, tile: TileId) -> int:
    """Return how many bands a tile has at least, by the published size of its array."""
    grid = tile_footprint(tile.lon, tile.lat)
    try:
        size = registry.get_tile_file_size(*tile)
    except InputError:  # not every registry says
        return 1
    return max(size // (grid.height * grid.width), 1)


def _refuse_oversize(grid: GridSpec, bands: int, value_bytes: float) -> None:
    """Refuse at once what the system would grant, and kill the process for when it is filled."""
    memory = _memory_of_the_machine()
    needed = grid.height * grid.width * bands * value_bytes
    if memory is not None and needed > memory:
        raise InputError(
            f"the mosaic would have {grid.height} × {grid.width} pixels of {bands} bands, "
            f"{format_bytes(needed)}, and the machine has {format_bytes(memory)} of memory: "
            "ask for less (resolution=, bands=, quantized=True, a smaller region), or write it to "
            "disk piece by piece with geotessera.mosaic.write.write_mosaic or `geotessera mosaic`"
        )


def _memory_of_the_machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return None


def bbox_of(grid: GridSpec) -> BBox:
    """Return the box in WGS84 degrees that encloses a grid; west > east across ±180°."""
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    try:
        found = transform_bounds(grid.crs, 4326, *grid.bounds)
    except RasterioError as error:
        raise InputError(
            f"the grid {grid.bounds} in {grid.crs_name} has no place on the globe: {error}"
        ) from error
    west, south, east, north = found
    if grid.crs.is_geographic and east - west >= 360:
        west, east = -180.0, 180.0
    west, east = ((x + 180) % 360 - 180 if abs(x) > 180 else x for x in (west, east))
    return BBox(west, max(south, -90.0), east, min(north, 90.0))


def _rasters(
    ensure: Ensure,
    tiles: Sequence[TileId],
    quantized: bool,
    failures: dict[TileId, Exception] | None,
) -> dict[TileId, MosaicRaster]:
    """Return the tiles' rasters in the tiles' order, but for those that fail."""
    found = ensure(tiles, failures)
    rasters: dict[TileId, MosaicRaster] = {}
    for tile in tiles:
        local = found.get((tile.lon, tile.lat))
        if local is None:
            continue
        try:
            rasters[tile] = _raster(local, tile, quantized)
        except (FormatError, OSError) as error:
            if failures is None:
                raise TileError(f"{_name(tile)} cannot be read: {error}") from error
            failures[tile] = error
    for tile, reason in (failures or {}).items():
        logger.warning("%s is missing from the mosaic: %s", _name(tile), reason)
    if not rasters:
        first = next(iter((failures or {}).values()), None)
        raise TileError(
            f"none of the {len(tiles)} tiles of the region could be had; the first: {first}"
        ) from first
    return rasters


def _raster(local: Tile, tile: TileId, quantized: bool) -> MosaicRaster:
    descriptor = local.source().descriptor
    if quantized and isinstance(descriptor, NpyTile):
        # Copies of pixels stay on the grid that the pixels were made on.
        descriptor = replace(descriptor, georeference="snapped")
    return MosaicRaster.of(descriptor, tile=(tile.lon, tile.lat))


def _name(tile: TileId) -> str:
    return f"tile {tile_to_grid_name(tile.lon, tile.lat)} of {tile.year}"


def _no_tiles(registry: Registry, region: Region, year: int) -> str:
    years = registry.get_available_years()
    known = "is the place on land?" if year in years else f"it has {', '.join(map(str, years))}"
    place = region.name or str(tuple(region.bbox))
    return (
        f"dataset {registry.version} {registry.variant} has no tile of {place} for {year}: {known}"
    )
