"""Landmasks: the georeference of NPY tiles, and which of their pixels are land."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geotessera.errors import FormatError, InputError
from geotessera.grid import PIXEL_METRES
from geotessera.sources.tiff import read_header
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Georeference", "read_georeference", "read_mask", "snap"]

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
        (a `RuntimeError`) if it is not a GeoTIFF, or has no CRS or transform.
    """
    if georeference not in ("landmask", "snapped"):
        raise InputError(f"georeference {georeference!r}: expected 'landmask' or 'snapped'")
    grid = read_header(path).grid
    return snap(grid) if georeference == "snapped" else grid


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
