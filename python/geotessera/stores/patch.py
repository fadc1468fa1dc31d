"""Square patches round a place: in its zone's pixels, or merged from the zones it spans."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import EmptySelectionError, InputError, ResamplingError
from geotessera.mosaic import crs_code, render
from geotessera.mosaic.reach import source_window
from geotessera.mosaic.transforms import transform
from geotessera.stores.mosaic import plan_zones
from geotessera.stores.zones import StoreZones, checked_year, natural_zones
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.sources.zarr import ZarrSource, ZarrZone
    from geotessera.types import Method

    type Patch = tuple[NDArray[np.float32], GridSpec]

__all__ = ["read_patch"]

logger = logging.getLogger("geotessera.store")

_WARP_MARGIN = 8
"""Pixels round what a patch needs: as far as GDAL's widest kernel reaches."""


def read_patch(
    zones: StoreZones,
    lon: float,
    lat: float,
    year: int,
    size: int,
    *,
    depth: int | None = None,
    bands: Sequence[int] | None = None,
    crs: Any = None,
    resolution: float | None = None,
    resampling: str = "nearest",
) -> Patch:
    """Return a square of pixels of which [size // 2, size // 2] holds a place.

    Parameters
    ----------
    zones : StoreZones
        The store's zones.
    lon, lat : float
        The place, WGS84 degrees.
    year, depth, bands
        As for points.
    size : int
        Pixels on a side.
    crs : int, str or CRS, optional
        Projected, in metres. By default the pixels are the zone's where the patch lies in one,
        else those of a transverse Mercator projection round the place.
    resolution : float, optional
        Side of a pixel in metres of a CRS that is not the zone's; by default the store's.
    resampling : str
        For pixels that are not the zone's: a name that rasterio knows.

    Returns
    -------
    values : ndarray of float32, shape (size, size, bands)
        NaN where there is no embedding.
    grid : GridSpec

    Raises
    ------
    InputError
        (a `ValueError`) for a place, a size, a CRS or a depth that cannot be used.
    ZoneError, YearError
        (a `KeyError` and a `ValueError`) if the store does not hold the place's zone or year.
    ResamplingError
        (a `KeyError` and a `ValueError`) for an unknown name.
    """
    lon, lat, size = _checked(lon, lat, size)
    code = None if crs is None else _metric(crs)
    zones.check_depth(depth)
    zone = zones.get(int(natural_zones(np.array([lon]))[0]))
    source = zone.source(checked_year(year), depth)
    if code is None and _lies_within(zone, lon, lat, size):
        window = _window_round(zone, lon, lat, size)
        return _warned(_copied(source, window, bands), zone.grid.window(window), size)
    grid = _grid_round(zone, lon, lat, size, code, resolution)
    how = _resampling(resampling)
    method: Method = "bilinear" if resampling == "bilinear" else "nearest"
    try:
        plan = plan_zones(zones, grid, checked_year(year), depth=depth, bands=bands, method=method)
    except EmptySelectionError:
        count = source.band_count if bands is None else len(bands)
        return _warned(np.full((size, size, count), np.nan, np.float32), grid, size)
    values: Any = render(plan).values if resampling == method else _warped(plan, how)
    return _warned(values, grid, size)


def _checked(lon: Any, lat: Any, size: Any) -> tuple[float, float, int]:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise InputError(f"size_px must be positive and a whole number, got {size!r}")
    try:
        lon, lat = float(lon), float(lat)
    except (TypeError, ValueError):
        raise InputError(f"({lon!r}, {lat!r}) is no place: expected degrees") from None
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise InputError(
            f"({lon}, {lat}) is not on the globe: expected a longitude in -180..180 and a "
            "latitude in -90..90 degrees"
        )
    return lon, lat, int(size)


def _metric(crs: Any) -> int | str:
    code = crs_code(crs)
    found = GridSpec(code, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 1, 1).crs
    if not found.is_projected or found.linear_units_factor[1] != 1.0:
        raise InputError(f"dst_crs must be a projected CRS with metre units, found {crs!r}")
    return code


def _resampling(name: str) -> Any:
    from rasterio.enums import Resampling

    if name not in Resampling.__members__:
        raise ResamplingError(
            f"unknown resampling {name!r}: expected one of {', '.join(Resampling.__members__)}"
        )
    return Resampling[name]


def _warned(values: NDArray[np.float32], grid: GridSpec, size: int) -> Patch:
    missing = float(np.isnan(values[..., 0]).mean())
    if missing:
        logger.warning(
            "read_patch: %.1f%% of the %dx%d patch has no coverage (NaN)", missing * 100, size, size
        )
    return values, grid


# --- In one zone -------------------------------------------------------------------------


def _window_round(zone: ZarrZone, lon: float, lat: float, size: int) -> Window:
    """Return the patch's pixels, also those beyond the zone's grid."""
    a, _, left, _, e, top = zone.grid.transform
    x, y = _native.project(np.array([lon]), np.array([lat]), 32600 + zone.number)
    # The rule of nearest pixels, on a grid that never ends.
    col = int(np.ceil((x[0] - left) / a - 1))
    row = int(np.ceil((y[0] - top) / e - 1))
    return Window(row - size // 2, col - size // 2, size, size)


def _lies_within(zone: ZarrZone, lon: float, lat: float, size: int) -> bool:
    """Return whether a square of the patch's size round the place has its corners in the zone.

    Those of the patch itself may be up to a pixel further off: the rule is upstream's, so that
    the same requests give the same grids.
    """
    epsg = 32600 + zone.number
    x, y = (one[0] for one in _native.project(np.array([lon]), np.array([lat]), epsg))
    half = size / 2 * zone.pixel_size
    across, up = np.array([-half, half, -half, half]), np.array([-half, -half, half, half])
    turned, _ = _native.unproject(x + across, y + up, epsg)
    return bool((natural_zones(turned) == zone.number).all())


def _copied(source: ZarrSource, window: Window, bands: Sequence[int] | None) -> NDArray[np.float32]:
    part = window.overlap(Window(0, 0, source.grid.height, source.grid.width))
    if part == window:
        return source.read_float(window, bands)
    count = source.band_count if bands is None else len(bands)
    values = np.full((window.height, window.width, count), np.nan, np.float32)
    if part is not None:
        row, col = part.row - window.row, part.col - window.col
        values[row : row + part.height, col : col + part.width] = source.read_float(part, bands)
    return values


# --- In several --------------------------------------------------------------------------


def _grid_round(
    zone: ZarrZone,
    lon: float,
    lat: float,
    size: int,
    code: int | str | None,
    resolution: float | None,
) -> GridSpec:
    if code is None:
        code = _local_wkt(lon, lat)
    side = zone.pixel_size if resolution is None else resolution
    if not 0 < side < np.inf:
        raise InputError(f"resolution={resolution!r} must be positive")
    x, y = transform(np.array([lon]), np.array([lat]), 4326, code)
    if not np.isfinite([x[0], y[0]]).all():
        raise InputError(f"({lon}, {lat}) has no place in dst_crs {code!r:.80}")
    half = (size // 2 + 0.5) * side
    return GridSpec(
        code, (side, 0.0, float(x[0]) - half, 0.0, -side, float(y[0]) + half), size, size
    )


def _local_wkt(lon: float, lat: float) -> str:
    """Return the transverse Mercator projection round a place, as upstream names it."""
    from pyproj import CRS

    found = CRS.from_dict(
        {
            "proj": "tmerc",
            "lat_0": 0,
            "lon_0": lon,
            "k": 0.9996,
            "x_0": 500_000,
            "y_0": 10_000_000 if lat < 0 else 0,
            "datum": "WGS84",
            "units": "m",
        }
    ).to_wkt()
    name = f"Tessera patch Transverse Mercator lon_0={lon:.4f}"
    return found.replace('PROJCRS["unknown"', f'PROJCRS["{name}"', 1)


def _warped(plan: MosaicPlan, resampling: Any) -> NDArray[np.float32]:
    """Return a small mosaic by one of GDAL's other ways to resample."""
    from rasterio.warp import reproject

    grid = plan.grid
    values = np.full(plan.shape, np.nan, np.float32)
    owner = _owners(grid)
    layers = []
    for raster in plan.rasters:
        window = source_window(grid, Window(0, 0, grid.height, grid.width), raster.grid)
        if raster.cell is not None or window is None:
            continue
        source = raster.descriptor.open()
        wide = Window(
            window.row - _WARP_MARGIN,
            window.col - _WARP_MARGIN,
            window.height + 2 * _WARP_MARGIN,
            window.width + 2 * _WARP_MARGIN,
        )
        part = wide.overlap(Window(0, 0, raster.grid.height, raster.grid.width))
        block: Any = source.read(part, plan.bands)
        pixels = np.ascontiguousarray(block.dequantize().transpose(2, 0, 1))
        warped = np.full((plan.band_count, grid.height, grid.width), np.nan, np.float32)
        reproject(
            pixels,
            warped,
            src_transform=block.grid.affine,
            src_crs=block.grid.crs,
            src_nodata=np.nan,
            dst_transform=grid.affine,
            dst_crs=grid.crs,
            dst_nodata=np.nan,
            resampling=resampling,
        )
        layers.append(((raster.grid.epsg or 0) - 32600, warped.transpose(1, 2, 0)))
    for own in (True, False):
        for number, layer in layers:
            take = np.isnan(values).all(axis=2) & ~np.isnan(layer).all(axis=2)
            if own:
                take &= owner == number
            values[take] = layer[take]
    return values


def _owners(grid: GridSpec) -> NDArray[np.int64]:
    """Return the zone that owns each pixel's centre."""
    a, _, left, _, e, top = grid.transform
    x, y = np.meshgrid(
        left + a * (np.arange(grid.width) + 0.5), top + e * (np.arange(grid.height) + 0.5)
    )
    lon, _ = transform(x.ravel(), y.ravel(), grid.epsg_or_wkt, 4326)
    return natural_zones(lon).reshape(x.shape)
