"""Stores of embeddings in xarray: zones as Datasets, regions as georeferenced DataArrays."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import InputError
from geotessera.stores.regions import box_of
from geotessera.stores.zones import StoreZones, centre_of, natural_zones
from geotessera.xr.accessor import TesseraAccessor
from geotessera.xr.region import open_dataarray, store_at
from geotessera.xr.zone import zone_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TesseraAccessor", "open_dataarray", "open_zone", "zone_dataset", "zone_number"]

_STORE_OPTIONS = ("cache_dir", "cache_max_size", "via_gateway", "offline")


def zone_number(*, zone: int | None = None, lon: float | None = None, bbox: Any = None) -> int:
    """Return the UTM zone that exactly one of three selectors means.

    Parameters
    ----------
    zone : int, optional
        The zone itself.
    lon : float, optional
        A longitude in it, WGS84 degrees.
    bbox : sequence of 4 float, optional
        A box whose middle lies in it; west > east crosses the antimeridian.

    Raises
    ------
    TypeError
        Unless exactly one is given.
    InputError
        (a `ValueError`) for a longitude or a box that cannot be used.
    """
    given = {"zone": zone, "lon": lon, "bbox": bbox}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise TypeError(
            "Provide exactly one of zone=, lon=, or bbox="
            + (f" (got {', '.join(named)})" * bool(named))
        )
    if zone is not None:
        return operator.index(zone)
    middle = float(lon) if lon is not None else centre_of(box_of(bbox))[0]
    if not abs(middle) <= 180:  # NaN is not, either
        raise InputError(f"lon={lon!r} is no longitude: expected -180 to 180 degrees")
    return int(natural_zones(np.array([middle]))[0])


def open_zone(
    store_url: Any = None,
    *,
    zone: int | None = None,
    lon: float | None = None,
    bbox: Any = None,
    **kwargs: Any,
) -> xr.Dataset:
    """Open a UTM zone of a store as a lazy Dataset, with the accessor ``.tessera``.

    Parameters
    ----------
    store_url : str, path, zarr Store or EmbeddingStore, optional
        Where the store is; by default that of the default dataset.
    zone, lon, bbox
        Which zone: exactly one of them, see `zone_number`.
    **kwargs
        Of the store (cache_dir, cache_max_size, via_gateway, offline) and of
        `xarray.open_dataset`, such as ``chunks``.

    Returns
    -------
    xarray.Dataset
        As `zone_dataset` makes it.

    Raises
    ------
    TypeError
        Unless exactly one selector is given.
    ZoneError
        (a `KeyError` and a `ValueError`) if the store does not hold the zone.

    Examples
    --------
    >>> zone = open_zone("path/to/store", lon=0.17)  # doctest: +SKIP
    >>> zone.tessera.crs  # doctest: +SKIP
    'EPSG:32631'
    """
    number = zone_number(zone=zone, lon=lon, bbox=bbox)
    options = {name: kwargs.pop(name) for name in _STORE_OPTIONS if name in kwargs}
    return zone_dataset(StoreZones(store_at(store_url, **options)).get(number), **kwargs)
