"""The grid of a mosaic: from a box and a CRS, or from rasters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geotessera import _native
from geotessera.errors import InputError
from geotessera.sampling import has_exact_projection
from geotessera.types import BBox, GridSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rasterio.crs import CRS

    type Bounds = tuple[float, float, float, float]

__all__ = [
    "crs_code",
    "default_resolution",
    "grid_around",
    "grid_of_bounds",
    "project_bbox",
]

_INSIDE = 19
"""Points across a box by which its bounds are checked, edges included."""

_SLACK = 0.05
"""Share of bounds by which GDAL may miss what curves between its points."""

MERCATOR_PERIOD = 2 * math.pi * 6378137.0
"""Once round the globe in EPSG:3857, metres."""


def crs_code(crs: Any) -> int | str:
    """Return the EPSG code of a CRS, or the WKT of one that has none.

    Parameters
    ----------
    crs : int, str or CRS
        EPSG code, ``"EPSG:…"``, WKT, PROJ text, or the object of rasterio, pyproj or odc-geo.

    Raises
    ------
    InputError
        (a `ValueError`) for what is no CRS, or none of a map: geocentric, vertical, local.
    """
    from rasterio import Env
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    wanted = crs
    if isinstance(crs, str) and crs.strip().isdecimal():
        wanted = int(crs)
    elif not isinstance(crs, int | str | CRS) and hasattr(crs, "to_wkt"):
        wanted = crs.to_wkt()
    try:
        with Env():  # what PROJ says is in the error, and not on stderr besides
            found = CRS.from_user_input(wanted)
        epsg = found.to_epsg()
        if not (found.is_geographic or found.is_projected):
            raise InputError(
                f"{crs!r} is no coordinate reference system of a map: expected a geographic or a "
                "projected one, like 'EPSG:4326'"
            )
        # to_epsg() guesses; the code stands for the CRS only if it gives the same one back.
        exact = epsg is not None and CRS.from_epsg(epsg) == found
    except InputError:
        raise
    except (CRSError, ValueError) as error:  # "EPSG:x" is a ValueError
        raise InputError(
            f"{crs!r} is no coordinate reference system: expected one like 'EPSG:4326' ({error})"
        ) from error
    return int(epsg) if exact else str(found.to_wkt())


def _rasterio_crs(code: int | str) -> CRS:
    return GridSpec(code, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 1, 1).crs


def period_of(code: int | str) -> float | None:
    """Return what x repeats after, once round the globe; None where it does not."""
    if code == 3857:
        return MERCATOR_PERIOD
    return 360.0 if _rasterio_crs(code).is_geographic else None


# --- From a box ------------------------------------------------------------------------


def project_bbox(bbox: Sequence[float], code: int | str) -> Bounds:
    """Return (left, bottom, right, top) of a box in a CRS.

    Parameters
    ----------
    bbox : sequence of 4 float
        (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
    code : int or str
        As `crs_code` returns it.

    Returns
    -------
    tuple of float
        In geographic CRSs and EPSG:3857, x of a crossing box goes on beyond the antimeridian.

    Raises
    ------
    InputError
        (a `ValueError`) if the box has no place in the CRS, or if the CRS itself is cut
        where the box crosses the antimeridian.
    """
    west, south, east, north = bbox
    if west <= east:
        return _project_box(BBox(west, south, east, north), code)
    left = _project_box(BBox(west, south, 180.0, north), code)
    right = _project_box(BBox(-180.0, south, east, north), code)
    if period := period_of(code):
        right = (right[0] + period, right[1], right[2] + period, right[3])
    whole = (
        min(left[0], right[0]), min(left[1], right[1]),
        max(left[2], right[2]), max(left[3], right[3]),
    )  # fmt: skip
    widths = (left[2] - left[0]) + (right[2] - right[0])
    heights = (left[3] - left[1]) + (right[3] - right[1])
    # The two halves are neighbours on the ground; where they are not, the CRS is cut there.
    if whole[2] - whole[0] > widths * 1.01 or whole[3] - whole[1] > heights * 1.01:
        raise InputError(
            f"box {tuple(bbox)} crosses the antimeridian, where {_short(code)} is cut: choose "
            "EPSG:4326, EPSG:3857, or a CRS that is made for the place"
        )
    return whole


def _project_box(box: BBox, code: int | str) -> Bounds:
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    if code == 4326:
        return box
    try:
        found = transform_bounds(_rasterio_crs(4326), _rasterio_crs(code), *box)
    except RasterioError as error:
        raise InputError(f"box {tuple(box)} has no place in {_short(code)}: {error}") from error
    left, bottom, right, top = (float(value) for value in found)
    if not all(map(math.isfinite, found)) or left >= right or bottom >= top:
        raise InputError(f"box {tuple(box)} has no place in {_short(code)}")
    if not _holds_its_middle(box, code, (left, bottom, right, top)):
        raise InputError(
            f"box {tuple(box)} goes too far round the globe for {_short(code)}: choose EPSG:4326, "
            "EPSG:3857, or a CRS that is made for the place"
        )
    return left, bottom, right, top


def _holds_its_middle(box: BBox, code: int | str, bounds: Bounds) -> bool:
    """Return whether the bounds of a box's edges are those of what is within, too.

    Not where a CRS is cut, or folded: all of the globe's edges are one line in UTM.
    """
    import numpy as np
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    shares = np.linspace(0, 1, _INSIDE)[1:-1]
    lon, lat = np.meshgrid(
        box.west + shares * (box.east - box.west), box.south + shares * (box.north - box.south)
    )
    try:
        found = transform(_rasterio_crs(4326), _rasterio_crs(code), lon.ravel(), lat.ravel())
    except CPLE_BaseError:  # a place that the CRS does not have
        return False
    left, bottom, right, top = bounds
    for values, low, high in zip(found, (left, bottom), (right, top), strict=True):
        slack, finite = _SLACK * (high - low), np.array(values)[np.isfinite(values)]
        if ((finite < low - slack) | (finite > high + slack)).any():
            return False
    return True


def _short(code: int | str) -> str:
    return f"EPSG:{code}" if isinstance(code, int) else _rasterio_crs(code).to_string()[:80]


def grid_of_bounds(
    code: int | str,
    bounds: Bounds,
    resolution: float | tuple[float, float],
    *,
    align: bool = False,
) -> GridSpec:
    """Return the north-up grid of bounds at a resolution.

    Parameters
    ----------
    code : int or str
        EPSG code or WKT.
    bounds : tuple of float
        (left, bottom, right, top) in the CRS.
    resolution : float or (float, float)
        Width and height of a pixel in units of the CRS.
    align : bool
        Put pixel edges on multiples of the resolution, growing the grid by up to a pixel on
        each side. Otherwise the grid begins at the upper-left corner and its size is rounded.

    Raises
    ------
    InputError
        (a `ValueError`) for a resolution that is not positive, and for a grid too large.
    """
    across, down = _resolution(resolution)
    left, bottom, right, top = bounds
    if align:
        first_col, last_col = _outward(left, right, across)
        first_row, last_row = _outward(-top, -bottom, down)
        left, top = first_col * across, -first_row * down
        width, height = last_col - first_col, last_row - first_row
    else:
        width = max(round((right - left) / across), 1)
        height = max(round((top - bottom) / down), 1)
    if max(width, height) > 2**31 - 1:
        raise InputError(
            f"a resolution of {across:g} × {down:g} makes {height} × {width} pixels of bounds "
            f"{bounds} in {_short(code)}: the resolution is in units of the CRS"
        )
    return GridSpec(code, (across, 0.0, left, 0.0, -down, top), height, width)


def _resolution(resolution: float | tuple[float, float]) -> tuple[float, float]:
    try:
        pair = resolution if isinstance(resolution, tuple | list) else (resolution, resolution)
        across, down = (float(value) for value in pair)
    except (TypeError, ValueError) as error:
        raise InputError(f"resolution {resolution!r}: expected a number or two") from error
    if not (0 < across < math.inf and 0 < down < math.inf):
        raise InputError(f"resolution {resolution!r} must be positive")
    return across, down


def _outward(low: float, high: float, step: float) -> tuple[int, int]:
    """Return the whole steps that enclose an interval; an edge on a step stays where it is."""
    tiny = 1e-6
    first, last = math.floor(low / step + tiny), math.ceil(high / step - tiny)
    return first, max(last, first + 1)


def default_resolution(raster: GridSpec, code: int | str) -> tuple[float, float]:
    """Return the pixel size that GDAL gives a raster in another CRS; in its own, its own."""
    if raster.epsg_or_wkt == code:
        return raster.transform[0], -raster.transform[4]
    affine, _, _ = _default_transform(raster, code)
    return affine.a, -affine.e


def _default_transform(
    raster: GridSpec, code: int | str, resolution: tuple[float, float] | None = None
) -> tuple[Any, int, int]:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import calculate_default_transform

    turned = _away_from_antimeridian(raster)[0] if period_of(code) else raster
    try:
        found: tuple[Any, int, int] = calculate_default_transform(
            turned.crs,
            _rasterio_crs(code),
            turned.width,
            turned.height,
            *turned.bounds,
            resolution=resolution,
        )
    except (RasterioError, CRSError, CPLE_BaseError) as error:  # the last are no RasterioError
        raise InputError(
            f"a raster in {raster.crs_name} with bounds {raster.bounds} has no place in "
            f"{_short(code)}: {error}"
        ) from error
    return found


def _away_from_antimeridian(raster: GridSpec) -> tuple[GridSpec, float]:
    """Return the raster, or its likeness elsewhere where it may cross the antimeridian.

    In a CRS in which all longitudes are alike both have the same pixel size, and GDAL takes
    a raster on both sides of ±180° for one that spans the globe. With it comes how far west
    the likeness is, in turns of the globe.
    """
    import numpy as np

    left, bottom, right, top = raster.bounds
    if period := period_of(raster.epsg_or_wkt):
        if -period / 2 <= left and right <= period / 2:
            return raster, 0.0
        a, b, west, d, e, north = raster.transform
        middle = (left + right) / 2
        moved = a, b, west - middle, d, e, north
        return replace(raster, transform=moved), middle / period
    epsg = raster.epsg
    if epsg is None or epsg % 100 not in (1, 60) or not has_exact_projection(epsg):
        return raster, 0.0
    x, y = np.array([left, right, left, right]), np.array([bottom, bottom, top, top])
    lon, _ = _native.unproject(x, y, epsg)
    if lon.max() - lon.min() < 180:
        return raster, 0.0
    zone = 31
    return replace(raster, epsg_or_wkt=epsg // 100 * 100 + zone), (epsg % 100 - zone) / 60


# --- From rasters ----------------------------------------------------------------------


def grid_around(
    rasters: Sequence[GridSpec],
    code: int | str,
    resolution: float | tuple[float, float] | None = None,
    *,
    bounds: Bounds | None = None,
    align: bool = False,
) -> GridSpec:
    """Return the grid that encloses rasters.

    Parameters
    ----------
    rasters : sequence of GridSpec
        At least one; the first gives the default resolution.
    code : int or str
        Of the grid's CRS.
    resolution, align
        As for `grid_of_bounds`.
    bounds : tuple of float, optional
        (left, bottom, right, top) in the CRS, instead of the rasters'.
    """
    pair = default_resolution(rasters[0], code) if resolution is None else _resolution(resolution)
    if bounds is None:
        boxes = [_bounds_in(raster, code, pair) for raster in rasters]
        if period := period_of(code):
            boxes = [_turned(box, boxes[0], period) for box in boxes]
        left, bottom = (min(box[at] for box in boxes) for at in (0, 1))
        right, top = (max(box[at] for box in boxes) for at in (2, 3))
        bounds = left, bottom, right, top
    return grid_of_bounds(code, bounds, pair, align=align)


def _bounds_in(raster: GridSpec, code: int | str, resolution: tuple[float, float]) -> Bounds:
    """Return the bounds that GDAL gives a raster in another CRS; in its own, its own."""
    if raster.epsg_or_wkt == code:
        return raster.bounds
    affine, width, height = _default_transform(raster, code, resolution)
    left, top = affine.c, affine.f
    if period := period_of(code):
        left += _away_from_antimeridian(raster)[1] * period
    return left, top + affine.e * height, left + affine.a * width, top


def _turned(box: Bounds, first: Bounds, period: float) -> Bounds:
    turns = math.floor((first[0] - box[0]) / period + 0.5) * period
    return box[0] + turns, box[1], box[2] + turns, box[3]
