"""Landmasks: the georeference of NPY tiles, and which of their pixels are land."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from geotessera import _native
from geotessera.errors import FormatError, InputError
from geotessera.grid import PIXEL_METRES, epsg_of_tile, parse_grid_name
from geotessera.sources.tiff import read_header
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Georeference", "read_georeference", "read_mask", "snap"]

_REACH_METRES = 8000
"""How far from its cell's centre a tile's raster may end; half a cell is 5.6 km."""

type Georeference = Literal["landmask", "snapped"]
"""Whose affine transform a tile gets: the landmask's as it is, or moved to the 10 m grid."""


def snap(grid: GridSpec) -> GridSpec:
    """Move a tile's origin to the 10 m grid on which its pixels were made.

    A landmask carries the tile's corner as it was projected; the pixels lie on multiples
    of 10 m. The published stores place a tile of corner (x, y) at column
    ``floor((x - x0) / 10)`` and row ``floor((y0 - y) / 10)`` of a zone whose origin
    (x0, y0) is a multiple of 10 m. So its corner there is ``floor(x / 10) * 10``,
    ``ceil(y / 10) * 10``: up to a pixel west and north of the landmask's, never the
    nearest multiple.

    Raises
    ------
    InputError
        (a `ValueError`) if the raster is not north-up with 10 m pixels.
    """
    a, b, x, d, e, y = grid.transform
    if (a, b, d, e) != (PIXEL_METRES, 0.0, 0.0, -PIXEL_METRES):
        raise InputError(
            f"only a north-up raster of 10 m pixels can be snapped, found {grid.transform}"
        )
    left = math.floor(x / PIXEL_METRES) * PIXEL_METRES
    top = math.ceil(y / PIXEL_METRES) * PIXEL_METRES
    return GridSpec(grid.epsg_or_wkt, (a, b, left, d, e, top), grid.height, grid.width)


def read_georeference(path: str | Path, georeference: Georeference = "landmask") -> GridSpec:
    """Return where the pixels of a landmask's tile are.

    Parameters
    ----------
    path : path
        Landmask GeoTIFF.
    georeference : {"landmask", "snapped"}
        The affine transform as it is, or moved to the 10 m grid (see `snap`).

    Raises
    ------
    FileNotFoundError
        If there is no landmask.
    FormatError
        (a `RuntimeError`) if it is not a GeoTIFF, has no CRS or transform, or is not the
        landmask of the tile that it is named after.
    """
    if georeference not in ("landmask", "snapped"):
        raise InputError(f"georeference {georeference!r}: expected 'landmask' or 'snapped'")
    grid = read_header(path).grid
    _check_place(Path(path), grid)
    return snap(grid) if georeference == "snapped" else grid


def _check_place(path: Path, grid: GridSpec) -> None:
    """Raise `FormatError` unless a landmask lies where its tile is; it alone says so."""
    a, b, left, d, e, top = grid.transform
    if (a, b, d, e) != (PIXEL_METRES, 0.0, 0.0, -PIXEL_METRES):
        raise FormatError(
            f"{path} is not the landmask of a tile: expected a north-up raster of 10 m pixels, "
            f"found the transform {grid.transform}. Delete it and fetch it again."
        )
    lon, lat = parse_grid_name(path.name)
    if lon is None or lat is None:
        return
    epsg = epsg_of_tile(lon, lat)
    x, y = (float(axis[0]) for axis in _native.project(np.array([lon]), np.array([lat]), epsg))
    right, bottom = left + a * grid.width, top + e * grid.height
    near = left - _REACH_METRES < x < right + _REACH_METRES
    near &= bottom - _REACH_METRES < y < top + _REACH_METRES
    if grid.epsg != epsg or not near:
        raise FormatError(
            f"{path} is not the landmask of its tile, whose centre is ({x:.0f}, {y:.0f}) in "
            f"EPSG:{epsg}: it covers {grid.bounds} in {grid.crs_name}. "
            "Delete it and fetch it again."
        )


def read_mask(path: str | Path, window: Window | None = None) -> NDArray[np.uint8]:
    """Return a landmask: uint8 (height, width), 0 for water, else land."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as RasterioWindow

    part = None
    if window is not None:
        part = RasterioWindow(window.col, window.row, window.width, window.height)
    try:
        with rasterio.open(path) as dataset:
            if dataset.count != 1 or dataset.dtypes[0] != "uint8":
                raise FormatError(
                    f"{path} is not a landmask: expected one uint8 band, found "
                    f"{dataset.count} of {dataset.dtypes[0]}"
                )
            mask: NDArray[np.uint8] = dataset.read(1, window=part)
    except RasterioError as error:
        if not Path(path).exists():
            raise FileNotFoundError(f"no landmask at {path}") from error
        raise FormatError(f"{path} cannot be read as a landmask: {error}") from error
    return mask
