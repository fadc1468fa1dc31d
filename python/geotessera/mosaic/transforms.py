"""Coordinates from one CRS to another: our own formulas where there are any, else PROJ."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.sampling import has_exact_projection
from geotessera.types import GridSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Coordinates = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = ["transform"]

# PROJ's transformers serve one thread at a time.
_mine = threading.local()


def transform(
    x: NDArray[np.float64], y: NDArray[np.float64], source: int | str, target: int | str
) -> Coordinates:
    """Return coordinates of one CRS in another.

    Parameters
    ----------
    x, y : ndarray of float64
        Of one shape; longitude first in geographic CRSs.
    source, target : int or str
        EPSG codes or WKT.

    Returns
    -------
    tuple of ndarray of float64
        NaN where a place has no coordinates.
    """
    if source == target:
        return x, y
    if (
        isinstance(source, int)
        and isinstance(target, int)
        and has_exact_projection(source)
        and has_exact_projection(target)
    ):
        lon, lat = _native.unproject(x.ravel(), y.ravel(), source)
        across, down = _native.project(lon, lat, target)
        return across.reshape(x.shape), down.reshape(x.shape)
    across, down = _transformer(source, target).transform(x, y)
    lost = ~(np.isfinite(across) & np.isfinite(down))
    if lost.any():
        across[lost] = down[lost] = np.nan
    return across, down


def _transformer(source: int | str, target: int | str) -> Any:
    from pyproj import Transformer

    made = getattr(_mine, "transformers", None)
    if made is None:
        made = _mine.transformers = {}
    if (source, target) not in made:
        made[source, target] = Transformer.from_crs(
            _pyproj_name(source), _pyproj_name(target), always_xy=True
        )
    return made[source, target]


def _pyproj_name(code: int | str) -> str:
    return GridSpec(code, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 1, 1).crs_name
