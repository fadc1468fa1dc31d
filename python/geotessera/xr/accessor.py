"""The accessor ``Dataset.tessera``: places in the zone's own eastings and northings."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geotessera.dequantize import dequantize_embedding
from geotessera.errors import InputError, ZoneError
from geotessera.stores.points import PointQuery, sample_zone
from geotessera.stores.regions import check_rows, read_strips
from geotessera.stores.zones import pixels_of_bounds
from geotessera.types import Status
from geotessera.xr.dataset import zone_of_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from affine import Affine
    from numpy.typing import NDArray

    from geotessera.sources.zarr import ZarrSource, ZarrZone
    from geotessera.types import Window

__all__ = ["TesseraAccessor"]

logger = logging.getLogger("geotessera.store")

_NAMES = {
    Status.VALID: "valid",
    Status.WATER: "water",
    Status.NODATA: "nodata",
    Status.OUTSIDE: "outside",
}


@xr.register_dataset_accessor("tessera")  # type: ignore[no-untyped-call]
class TesseraAccessor:
    """Reads a zone, or a part of one, at eastings and northings in metres.

    `geotessera.store.GeoTesseraZarr` takes longitudes and latitudes, and finds the zone itself.

    Parameters
    ----------
    dataset : xarray.Dataset
        A zone as `open_zone` or `xarray.open_zarr` opened it, or a rectangle of one.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset
        self._known: ZarrZone | None = None

    @property
    def _zone(self) -> ZarrZone:
        if self._known is None:
            self._known = zone_of_dataset(self._dataset)
        return self._known

    @property
    def crs(self) -> str:
        """``"EPSG:326zz"``, in both hemispheres."""
        return self._zone.grid.crs_name

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in metres."""
        return self._zone.pixel_size

    @property
    def years(self) -> list[int]:
        """Calendar years."""
        return list(self._zone.years)

    @property
    def n_bands(self) -> int:
        """Bands of the full embeddings."""
        return self._zone.n_bands

    @staticmethod
    def dequantise(emb_int8: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings: int8 (B, H, W) and scales (H, W) make float32 (H, W, B).

        Pixels without a finite scale are NaN.
        """
        return dequantize_embedding(np.moveaxis(np.asarray(emb_int8), 0, -1), scales)

    # --- Points --------------------------------------------------------------------------

    def probe(
        self, e: float, n: float, year: int, *, search_px: int = 1
    ) -> tuple[NDArray[np.float32] | None, str]:
        """Return the embedding of a place, and why there is none where there is none.

        Parameters
        ----------
        e, n : float
            Easting and northing in metres; northings south of the equator are negative.
        year : int
            Calendar year.
        search_px : int
            How far round a pixel that was never written a valid one is looked for.

        Returns
        -------
        vector : ndarray of float32, shape (n_bands,), or None
        status : {"valid", "water", "nodata", "outside"}

        Raises
        ------
        YearError
            (a `KeyError` and a `ValueError`) for a year that is not there.
        """
        values, status = self._sample(np.array([[e, n]], np.float64), year, search_px)
        found = Status(int(status[0]))
        return (values[0] if found is Status.VALID else None), _NAMES[found]

    def sample_at(
        self, e: float, n: float, year: int, *, search_px: int = 1
    ) -> NDArray[np.float32]:
        """Return the embedding of a place: float32 (n_bands,), NaN where there is none."""
        row: NDArray[np.float32] = self._sample(np.array([[e, n]], np.float64), year, search_px)[0][
            0
        ]
        return row

    def sample_points(
        self, coords: Any, year: int, *, progress: bool = True
    ) -> NDArray[np.float32]:
        """Return the embeddings of many places.

        Parameters
        ----------
        coords : sequence of (e, n), or ndarray, shape (N, 2)
            Eastings and northings in metres.
        year : int
            Calendar year.
        progress : bool
            Not used.

        Returns
        -------
        ndarray of float32, shape (N, n_bands)
            NaN where there is none.
        """
        given = coords if hasattr(coords, "__len__") else list(coords)
        points = np.asarray(given, np.float64)
        if not points.size:
            return np.empty((0, self.n_bands), np.float32)
        if points.ndim != 2 or points.shape[1] < 2:
            raise InputError(
                f"coords must be pairs of easting and northing, found shape {points.shape}"
            )
        return self._sample(points[:, :2], year, 1)[0]

    def _sample(
        self, points: NDArray[np.float64], year: int, search_px: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        x, y = np.ascontiguousarray(points.T)
        _warn_of_degrees(x, y)
        return sample_zone(self._zone, x, y, PointQuery.of(year, search_px=search_px))

    # --- Regions -------------------------------------------------------------------------

    def read_region(
        self,
        bbox: Sequence[float],
        year: int,
        *,
        array: str = "embeddings",
        progress: bool = False,
    ) -> tuple[NDArray[np.float32], Affine]:
        """Return the embeddings of a box.

        Parameters
        ----------
        bbox : sequence of 4 float
            Two corners, in either order: (west, south, east, north) in metres.
        year : int
            Calendar year.
        array : str
            ``"embeddings"``, or the name of a lower depth's array.
        progress : bool
            Not used.

        Returns
        -------
        values : ndarray of float32, shape (H, W, B)
            NaN where there is none.
        transform : Affine
            Of the upper-left pixel's corner.

        Raises
        ------
        YearError, ZoneError, InputError
            (a `ValueError`) for a year, an array or a box that cannot be used.
        NoOverlapError
            (an `IndexError` and a `ValueError`) if no pixel's centre lies in the box.
        """
        source, window = self._window(bbox, year, array)
        return source.read_float(window), source.grid.window(window).affine

    def read_region_quantized(
        self,
        bbox: Sequence[float],
        year: int,
        *,
        array: str = "embeddings",
        progress: bool = False,
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], Affine]:
        """Return a box as it is stored: int8 (H, W, B), scales (H, W) and the transform."""
        source, window = self._window(bbox, year, array)
        block: Any = source.read(window)
        return block.values, block.scales, block.grid.affine

    def iter_region(
        self,
        bbox: Sequence[float],
        year: int,
        *,
        array: str = "embeddings",
        strip_rows: int = 512,
        progress: bool = False,
    ) -> Iterator[tuple[NDArray[np.float32], Affine]]:
        """Yield the embeddings of a box in strips of whole rows, from north to south.

        Yields
        ------
        values : ndarray of float32, shape (rows, W, B)
        transform : Affine
            Of the strip.
        """
        rows = check_rows(strip_rows)
        source, window = self._window(bbox, year, array)
        for values, grid in read_strips(source, window, rows):
            yield values, grid.affine

    def _window(self, bbox: Sequence[float], year: int, array: str) -> tuple[ZarrSource, Window]:
        zone = self._zone
        depth = next((bands for bands, name in zone.depths.items() if name == array), None)
        if depth is None:
            raise ZoneError(
                f"{array!r} is no array of embeddings here: found {', '.join(zone.depths.values())}"
            )
        try:
            bounds = [float(one) for one in bbox]
        except (TypeError, ValueError):
            bounds = []
        if len(bounds) != 4 or not all(map(math.isfinite, bounds)):
            raise InputError(f"bbox {bbox!r} must contain four finite coordinates in metres")
        (west, east), (south, north) = sorted(bounds[::2]), sorted(bounds[1::2])
        _warn_of_degrees(np.array([west, east]), np.array([south, north]))
        source = zone.source(year, depth)
        return source, pixels_of_bounds(zone.grid, (west, south, east, north))


def _warn_of_degrees(x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Log that places are no eastings and northings: the accessor once took degrees."""
    with np.errstate(invalid="ignore"):
        small = (np.abs(x) <= 180) & (np.abs(y) <= 90)
    if small.any() and (small | np.isnan(x) | np.isnan(y)).all():
        at = int(np.argmax(small))
        logger.warning(
            "(%g, %g) looks like degrees: .tessera takes eastings and northings in metres, "
            "GeoTesseraZarr takes longitudes and latitudes",
            x[at],
            y[at],
        )
