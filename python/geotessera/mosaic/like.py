"""The grid of something that has one: a file, an xarray object, a GeoBox."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from geotessera.errors import FormatError, InputError
from geotessera.mosaic.grids import crs_code
from geotessera.types import GridSpec

__all__ = ["grid_like"]

type _Transform = tuple[float, float, float, float, float, float]

_GEOGRAPHIC_NAMES = {"lon", "lat", "longitude", "latitude"}
_AXES = (("x", "y"), ("lon", "lat"), ("longitude", "latitude"), ("easting", "northing"))

_EVEN = 1e-3
"""How far from even the steps of coordinates may be, in pixels."""


def grid_like(like: Any) -> GridSpec:
    """Return the grid of something that has one.

    Parameters
    ----------
    like : GridSpec, path, xarray object, GeoBox or raster
        The path of a raster file; an xarray DataArray or Dataset with a CRS (the ``rio`` or
        ``odc`` accessor, a ``spatial_ref`` coordinate, or a ``crs`` or ``proj:…`` attribute)
        and evenly spaced coordinates x and y or lon and lat; anything with ``crs``, ``affine``
        or ``transform``, and ``shape``, such as odc-geo's GeoBox or a rasterio dataset.

    Raises
    ------
    InputError
        (a `ValueError`) for anything else, and for grids that are not north-up.
    """
    if isinstance(like, GridSpec):
        grid = like
    elif isinstance(like, str | os.PathLike):
        grid = _grid_of_file(like)
    elif hasattr(like, "coords") and hasattr(like, "attrs"):
        grid = _grid_of_xarray(like)
    else:
        grid = _grid_of_box(like)
    a, b, _, d, e, _ = grid.transform
    if b or d or a <= 0 or e >= 0 or not all(map(math.isfinite, grid.transform)):
        raise InputError(
            f"like={_short_repr(like)} is not north-up (transform {grid.transform}): rotated "
            "grids and rows from south to north are not supported; sort y from north to south"
        )
    if grid.height < 1 or grid.width < 1:
        raise InputError(f"like={_short_repr(like)} has no pixels: {grid.height} × {grid.width}")
    return grid


def _short_repr(value: object) -> str:
    return f"{type(value).__name__}" if hasattr(value, "coords") else f"{value!r:.80}"


def _grid_of_file(path: str | os.PathLike[str]) -> GridSpec:
    import rasterio
    from rasterio.errors import RasterioError

    from geotessera.sources.tiff import grid_of

    name = os.fspath(path)
    if "://" not in name and not name.startswith("/vsi") and not Path(name).exists():
        raise InputError(f"like={name!r}: there is no such file")
    try:
        with rasterio.open(name) as dataset:
            return grid_of(Path(name), dataset)
    except (RasterioError, FormatError) as error:
        raise InputError(f"like={name!r} is no raster with a grid: {error}") from error


def _grid_of_box(box: Any) -> GridSpec:
    affine = getattr(box, "affine", None) or getattr(box, "transform", None)
    shape, crs = getattr(box, "shape", None), getattr(box, "crs", None)
    if affine is None or shape is None or not crs:
        raise InputError(
            f"like={box!r:.80} has no grid: expected a GridSpec, the path of a raster, an xarray "
            "object with a CRS, or an object with crs, affine and shape such as odc-geo's GeoBox"
        )
    height, width = (int(size) for size in tuple(shape)[-2:])
    return GridSpec(crs_code(crs), _six(affine), height, width)


def _six(affine: Any) -> _Transform:
    a, b, c, d, e, f = (float(value) for value in tuple(affine)[:6])
    return a, b, c, d, e, f


def _grid_of_xarray(data: Any) -> GridSpec:
    if (geobox := getattr(getattr(data, "odc", None), "geobox", None)) is not None:
        return _grid_of_box(geobox)
    for names in _AXES:
        if all(name in data.coords and data.coords[name].ndim == 1 for name in names):
            across, down = (data.coords[name] for name in names)
            break
    else:
        raise InputError(
            "like= has no one-dimensional coordinates x and y, or lon and lat: found "
            f"{sorted(map(str, data.coords))}"
        )
    crs = _crs_of_xarray(data)
    if crs is None and names[0] in _GEOGRAPHIC_NAMES:
        crs = 4326
    if crs is None:
        raise InputError(
            "like= declares no CRS: write one with .rio.write_crs(), or set attrs['crs']"
        )
    a, c, width = _even_steps(across, names[0])
    e, f, height = _even_steps(down, names[1])
    return GridSpec(crs_code(crs), _tidied((a, 0.0, c, 0.0, e, f), data), height, width)


def _mapping(data: Any) -> dict[str, Any]:
    """Return the attributes of the coordinate that describes the CRS, by CF's conventions."""
    named = getattr(data, "encoding", {}).get("grid_mapping") or data.attrs.get("grid_mapping")
    for name in (named, "spatial_ref", "crs"):
        if name is not None and name in data.coords:
            return dict(data.coords[name].attrs)
    return {}


def _crs_of_xarray(data: Any) -> Any:
    """Return what says the CRS: a coordinate without axes, an attribute, or None."""
    attrs = _mapping(data)
    for key in ("crs_wkt", "spatial_ref", "epsg_code"):
        if attrs.get(key):
            return attrs[key]
    rio = getattr(data, "rio", None)
    if rio is not None and getattr(rio, "crs", None):
        return rio.crs
    for key in ("crs", "crs_wkt", "proj:code", "proj:wkt2", "proj:epsg", "spatial_ref"):
        if data.attrs.get(key):
            return data.attrs[key]
    return None


def _tidied(found: _Transform, data: Any) -> _Transform:
    """Return the transform that a file's metadata give, if the coordinates agree with it.

    Steps of coordinates are differences: what was 10 m may have become 10.0000000001 m.
    """
    mapping = _mapping(data)
    try:
        c, a, b, f, d, e = (float(word) for word in mapping.get("GeoTransform", "").split())
    except ValueError:
        return found
    pixel = abs(a) + abs(e)
    near = all(
        abs(one - other) <= _EVEN * pixel
        for one, other in zip((a, b, c, d, e, f), found, strict=True)
    )
    return (a, b, c, d, e, f) if near else found


def _even_steps(axis: Any, name: str) -> tuple[float, float, int]:
    """Return step, outer edge of the first pixel, and count of evenly spaced pixel centres."""
    import numpy as np

    try:
        values = np.asarray(axis.values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the coordinates {name} of like= are no numbers: {error}") from error
    if len(values) < 2:
        raise InputError(f"like= has {len(values)} coordinate(s) {name}: at least 2 are needed")
    step = float(values[-1] - values[0]) / (len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if not step or not bool((np.abs(values - even) <= _EVEN * abs(step)).all()):
        raise InputError(f"the coordinates {name} of like= are not evenly spaced")
    return step, float(values[0]) - step / 2, len(values)
