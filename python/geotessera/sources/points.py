"""Which pixels a set of points needs: windows of a raster, each with its points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import Method

__all__ = ["lonlat_to_crs", "windows_of_points"]


def lonlat_to_crs(points: NDArray[np.float64], grid: GridSpec) -> NDArray[np.float64]:
    """Project points to any CRS with PROJ; those it cannot project become inf.

    Parameters
    ----------
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees.
    grid : GridSpec
        Whose CRS.

    Returns
    -------
    ndarray of float64, shape (N, 2)
        (x, y) in CRS units.
    """
    import numpy as np
    from pyproj import Transformer

    # Transformers must not be shared between threads; making one costs some milliseconds.
    transformer = Transformer.from_crs(4326, grid.epsg_or_wkt, always_xy=True)
    x, y = transformer.transform(points[:, 0], points[:, 1])
    return np.stack([x, y], axis=1)


def windows_of_points(
    xy: NDArray[np.float64],
    grid: GridSpec,
    block_shape: tuple[int, int],
    method: Method,
) -> Iterator[tuple[Window, NDArray[np.int64]]]:
    """Yield the windows that hold the pixels of points, one for each block with points.

    Parameters
    ----------
    xy : ndarray of float64, shape (N, 2)
        Points in the raster's CRS.
    grid : GridSpec
        The raster.
    block_shape : tuple of int
        Height and width of the blocks it is stored in.
    method : {"nearest", "bilinear"}
        A bilinear value needs up to four pixels.

    Yields
    ------
    window : Window
        The smallest that holds what these points need.
    rows : ndarray of int64
        Their rows in `xy`, ascending. Points outside the raster come with a window
        that does not cover them either.
    """
    import numpy as np

    if not len(xy):
        return
    affine = grid.affine
    if affine.determinant == 0:
        raise InputError(f"the transform {grid.transform} cannot be inverted")
    col, row = ~affine @ (xy[:, 0], xy[:, 1])
    half = 0.5 if method == "bilinear" else 0.0
    low = _pixel(row - half, grid.height), _pixel(col - half, grid.width)
    high = _pixel(row + half, grid.height), _pixel(col + half, grid.width)
    blocks = low[0] // block_shape[0] * (grid.width // block_shape[1] + 1)
    blocks += low[1] // block_shape[1]
    order = np.argsort(blocks, kind="stable")
    edges = np.flatnonzero(np.diff(blocks[order])) + 1
    for rows in np.split(order, edges):
        top, left = int(low[0][rows].min()), int(low[1][rows].min())
        bottom, right = int(high[0][rows].max()), int(high[1][rows].max())
        yield Window(top, left, bottom - top + 1, right - left + 1), rows


def _pixel(position: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return the pixel of each position, the nearest one where it is outside."""
    import numpy as np

    inside = np.nan_to_num(np.floor(position), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(inside, 0, size - 1).astype(np.int64)
