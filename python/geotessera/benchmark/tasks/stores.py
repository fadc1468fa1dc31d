"""A Zarr store of published size: on disk, over HTTP, and cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared import YEAR, Place

if TYPE_CHECKING:
    from collections.abc import Callable

ZONE = 30


def _client(place: Place, cached: bool = False) -> Any:
    """Return a client of the store, on the server if there is one; imports come before."""
    import dask.array  # noqa: F401 - imports are not what is timed
    import xarray  # noqa: F401
    import zarr  # noqa: F401

    import geotessera.store
    from geotessera import GeoTesseraZarr

    where: Any = place.url or str(place.world("store") / "store")
    if place.url and not hasattr(geotessera.store, "open_dataarray"):
        # Upstream takes no http:// locations, but objects that zarr can read from.
        from obstore.store import HTTPStore
        from zarr.storage import ObjectStore

        where = ObjectStore(HTTPStore(where, client_options={"allow_http": True}), read_only=True)
    options: dict[str, Any] = {"cache_dir": str(place.cache)} if cached else {}
    return lambda: GeoTesseraZarr(where, **options)


def _points(place: Place, name: str) -> Any:
    import numpy as np

    return np.load(place.world("store") / f"points-{name}.npy")


def open_store(place: Place) -> Callable[[], object]:
    """Open the store, and a zone as an xarray Dataset."""
    make = _client(place)
    return lambda: make().open_zone(zone=ZONE) is None


def probe(place: Place) -> Callable[[], object]:
    """Ask for one place again and again."""
    gt = _client(place)()
    lon, lat = _points(place, "1k")[0]
    gt.probe(lon, lat, YEAR)
    return lambda: gt.probe(lon, lat, YEAR)[0]


def points(place: Place, name: str, cached: bool = False) -> Callable[[], object]:
    """Sample points; the client is open, and over HTTP nothing has been read yet."""
    gt = _client(place, cached)()
    gt.open_zone(zone=ZONE)
    chosen = _points(place, name)
    return lambda: gt.sample_points(chosen, YEAR)


def region(place: Place) -> Callable[[], object]:
    """Read 2000 × 2000 × 128 pixels."""
    import json

    zone = _client(place)().open_zone(zone=ZONE)
    box = json.loads((place.world("store") / "boxes.json").read_text())["utm"]
    return lambda: zone.tessera.read_region(box, YEAR)[0]
