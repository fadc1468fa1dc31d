"""Values at points of a store: each chunk that covers one is read once, whatever the number.

Points are grouped by zone and projected together. A pixel that was never written is looked
for round about, and near the border of a zone in the neighbouring one, for all points at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import InputError, PointsError
from geotessera.points import read_points
from geotessera.sampling import check_method
from geotessera.sources.base import check_bands
from geotessera.stores.zones import (
    StoreZones,
    checked_year,
    natural_zones,
    nearest_pixels,
    seam_neighbours,
)
from geotessera.types import Method, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.sources.zarr import ZarrSource, ZarrZone

    type Sampled = tuple[NDArray[np.float32], NDArray[np.uint8]]

__all__ = ["PointQuery", "point_array", "sample_store", "sample_zone"]

logger = logging.getLogger("geotessera.store")

_CANDIDATES = 2**20
"""Pixels round about points that are looked at together: 40 MB."""


@dataclass(frozen=True, slots=True)
class PointQuery:
    """What is asked of each point.

    Parameters
    ----------
    year : int
        Which year.
    depth : int, optional
        How many bands; all by default.
    bands : sequence of int, optional
        Which of them, in the wanted order; all by default.
    method : {"nearest", "bilinear"}
        How a value between pixel centres is made. Bilinear leaves out neighbours that are
        invalid; the pixel that holds the point must be valid itself.
    search_px : int
        How far round a pixel that was never written a valid one is looked for; the nearest
        gives its value as it is.
    """

    year: int
    depth: int | None = None
    bands: tuple[int, ...] | None = None
    method: Method = "nearest"
    search_px: int = 1

    @classmethod
    def of(
        cls,
        year: Any,
        *,
        depth: int | None = None,
        bands: Sequence[int] | None = None,
        method: Method = "nearest",
        search_px: int = 1,
    ) -> PointQuery:
        """Check what can be checked without a store.

        Raises
        ------
        InputError
            (a `ValueError`) for a year, a method or a radius that cannot be used.
        BandError
            (an `IndexError` and a `ValueError`) for bands that no store has.
        """
        check_method(method)
        if isinstance(search_px, bool) or not isinstance(search_px, int | np.integer):
            raise InputError(f"search_px must be a whole number of pixels, found {search_px!r}")
        if search_px < 0:
            raise InputError(f"search_px must not be negative, found {search_px}")
        picked = check_bands(bands)
        return cls(
            checked_year(year),
            depth,
            None if picked is None else tuple(picked),
            method,
            int(search_px),
        )


def point_array(coords: Any) -> NDArray[np.float64]:
    """Return points as an array (N, 2) of longitudes and latitudes, wherever they are.

    Parameters
    ----------
    coords : iterable, array, GeoJSON dict, GeoDataFrame or DataFrame
        As `parse_points` takes them; further columns of pairs and arrays are ignored.

    Raises
    ------
    PointsError
        (a `ValueError` and an `IndexError`) if it holds anything but numbers.
    """
    if isinstance(coords, np.ndarray) and coords.ndim == 2 and coords.shape[1] > 2:
        coords = coords[:, :2]
    elif not hasattr(coords, "__len__"):
        coords = list(coords)
    if isinstance(coords, list | tuple) and len(coords):
        first = coords[0]
        if isinstance(first, list | tuple | np.ndarray) and len(first) > 2:
            coords = [pair[:2] for pair in coords]
    try:
        return read_points(coords)
    except InputError as error:
        raise PointsError(str(error)) from error


def sample_store(
    zones: StoreZones,
    points: NDArray[np.float64],
    query: PointQuery,
    *,
    cross_zone: bool = True,
    quiet: bool = False,
) -> Sampled:
    """Sample a store.

    Parameters
    ----------
    zones : StoreZones
        Its zones.
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees. Points that are not finite or not on the globe
        are outside.
    query : PointQuery
        What is asked.
    cross_zone : bool
        Whether the neighbouring zone is asked for a point within 0.1° of the border that has
        no value in its own, be it water there.
    quiet : bool
        Whether points that are not on the globe are no reason for a warning in the log.

    Returns
    -------
    values : ndarray of float32, shape (N, bands)
        NaN where there is no valid pixel.
    status : ndarray of uint8, shape (N,)
        Codes of `Status`: VALID, WATER, NODATA or OUTSIDE.

    Raises
    ------
    YearError
        (a `KeyError` and a `ValueError`) if a zone that owns a point does not have the year.
    InputError
        (a `ValueError`) if the store does not have the depth.
    """
    count = zones.check_depth(query.depth)
    check_bands(query.bands, count)
    lon, lat = points[:, 0], points[:, 1]
    with np.errstate(invalid="ignore"):
        placed = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    if not quiet:
        _warn_off_earth(points, placed)
    safe = np.where(placed, lon, 0.0)
    owner = np.where(placed, natural_zones(safe), 0)
    result = _Result(len(points), count if query.bands is None else len(query.bands))
    for number in np.unique(owner[placed]).tolist():
        zone = zones.find(number)
        if zone is not None:
            result.take(points, np.flatnonzero(owner == number), zone, query)
    if cross_zone:
        unknown = placed & (result.status != Status.VALID)
        across = np.where(unknown, seam_neighbours(safe), 0)
        for number in np.unique(across[unknown]).tolist():
            zone = zones.find(number) if number else None
            # What a neighbour lacks, the point's own zone may have: a year is no error here.
            if zone is not None and query.year in zone.years:
                result.take(points, np.flatnonzero(across == number), zone, query)
    return result.values, result.status


def _warn_off_earth(points: NDArray[np.float64], placed: NDArray[np.bool_]) -> None:
    off = ~placed
    if off.any():
        off &= np.isfinite(points).all(axis=1)
    if off.any():
        lon, lat = points[int(np.argmax(off))]
        logger.warning(
            "%d of %d points are not on the globe and get no value, the first at (%s, %s): "
            "expected longitude -180..180 and latitude -90..90 in WGS84 degrees",
            int(off.sum()), len(points), lon, lat,
        )  # fmt: skip


class _Result:
    """What is known of all points so far; memory is taken when the first zone has spoken."""

    def __init__(self, count: int, bands: int) -> None:
        self._shape = count, bands
        self._values: NDArray[np.float32] | None = None
        self.status = np.full(count, Status.OUTSIDE, np.uint8)

    @property
    def values(self) -> NDArray[np.float32]:
        """The rows, NaN where nothing is known."""
        if self._values is None:
            self._values = np.full(self._shape, np.nan, np.float32)
        return self._values

    def take(
        self,
        points: NDArray[np.float64],
        rows: NDArray[np.int64],
        zone: ZarrZone,
        query: PointQuery,
    ) -> None:
        """Ask a zone for some points, and keep what says more than what was known."""
        everything = len(rows) == len(points)
        lon, lat = np.ascontiguousarray((points if everything else points[rows]).T)
        x, y = _native.project(lon, lat, 32600 + zone.number)
        values, status = sample_zone(zone, x, y, query)
        if everything and self._values is None:
            self._values, self.status = values, status
            return
        better = status < self.status[rows]
        if better.all():
            self.values[rows], self.status[rows] = values, status
        else:
            self.values[rows[better]] = values[better]
            self.status[rows[better]] = status[better]


# --- One zone ----------------------------------------------------------------------------


def sample_zone(
    zone: ZarrZone, x: NDArray[np.float64], y: NDArray[np.float64], query: PointQuery
) -> Sampled:
    """Sample one zone at its own coordinates.

    Parameters
    ----------
    zone : ZarrZone
        The zone.
    x, y : ndarray of float64, shape (n,)
        Eastings and northings in metres, northings south of the equator negative.
    query : PointQuery
        What is asked.

    Returns
    -------
    values : ndarray of float32, shape (n, bands)
    status : ndarray of uint8, shape (n,)

    Raises
    ------
    YearError
        (a `KeyError` and a `ValueError`) if the zone does not have the year.
    InputError
        (a `ValueError`) if it does not have the depth.
    """
    source = zone.source(query.year, query.depth)
    if query.method == "bilinear":
        return _bilinear(source, x, y, query)
    return _nearest(source, x, y, query)


def _nearest(
    source: ZarrSource, x: NDArray[np.float64], y: NDArray[np.float64], query: PointQuery
) -> Sampled:
    """Find each point's pixel by its scale alone, then read the values of all of them."""
    rows, cols, inside = nearest_pixels(source.grid, x, y)
    everything = bool(inside.all())
    if not everything:
        rows, cols = rows[inside], cols[inside]
    scales = source.scales_at(rows, cols)
    found = _status(scales, source.zone)
    unknown = np.flatnonzero(found == Status.NODATA)
    if query.search_px and len(unknown):
        moved, at_rows, at_cols, factors = _look_round(
            source, rows[unknown], cols[unknown], query.search_px
        )
        at = unknown[moved]
        rows[at], cols[at], scales[at], found[at] = at_rows, at_cols, factors, Status.VALID
    values, _ = source.pixels_at(rows, cols, query.bands, scales=scales)
    if everything:
        return values, found
    whole = np.full((len(x), values.shape[1]), np.nan, np.float32)
    status = np.full(len(x), Status.OUTSIDE, np.uint8)
    whole[inside], status[inside] = values, found
    return whole, status


def _bilinear(
    source: ZarrSource, x: NDArray[np.float64], y: NDArray[np.float64], query: PointQuery
) -> Sampled:
    grid, points = source.grid, np.column_stack([x, y])
    shape = grid.height, grid.width
    numbers = _native.needed_pixels(
        shape, grid.transform, points, method="bilinear", rule="nearest"
    )
    some = source.gather(numbers)
    values, status = _native.sample(
        some.values,
        some.scales,
        grid.transform,
        points,
        method="bilinear",
        rule="nearest",
        bands=query.bands,
        shape=shape,
        present=some.numbers,
    )
    lost = np.flatnonzero(status == Status.NODATA)
    if not len(lost) or some.scales is None:
        return values, status
    rows, cols, _ = nearest_pixels(grid, x[lost], y[lost])
    at = np.searchsorted(some.numbers, rows * grid.width + cols)
    status[lost] = _status(some.scales[at], source.zone)
    dry = status[lost] == Status.NODATA
    if query.search_px and dry.any():
        lost, rows, cols = lost[dry], rows[dry], cols[dry]
        moved, rows, cols, scales = _look_round(source, rows, cols, query.search_px)
        values[lost[moved]], _ = source.pixels_at(rows, cols, query.bands, scales=scales)
        status[lost[moved]] = Status.VALID
    return values, status


def _status(scales: NDArray[np.float32], zone: ZarrZone) -> NDArray[np.uint8]:
    """Return what scales say of their pixels."""
    status = np.where(np.isfinite(scales), Status.VALID, Status.NODATA).astype(np.uint8)
    if zone.nan_is_water:
        status[np.isnan(scales)] = Status.WATER
    return status


def _look_round(
    source: ZarrSource, rows: NDArray[np.int64], cols: NDArray[np.int64], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest valid pixels round pixels that were never written.

    Parameters
    ----------
    source : ZarrSource
        The year of the zone.
    rows, cols : ndarray of int64, shape (n,)
        The pixels.
    radius : int
        How far to look.

    Returns
    -------
    which : ndarray of int64, shape (m,)
        Which of the n have one.
    rows, cols : ndarray of int64, shape (m,)
        Where it is.
    scales : ndarray of float32, shape (m,)
        Its scale.
    """
    grid = source.grid
    down, right = _offsets(radius)
    size = max(_CANDIDATES // len(down), 1)
    parts = []
    for start in range(0, len(rows), size):
        near_rows = rows[start : start + size, None] + down
        near_cols = cols[start : start + size, None] + right
        inside = (near_rows >= 0) & (near_rows < grid.height)
        inside &= (near_cols >= 0) & (near_cols < grid.width)
        numbers, which = np.unique(
            (near_rows * grid.width + near_cols)[inside], return_inverse=True
        )
        scales = np.full(inside.shape, np.nan, np.float32)
        scales[inside] = source.scales_at(*np.divmod(numbers, grid.width))[which]
        valid = np.isfinite(scales)
        some = np.flatnonzero(valid.any(axis=1))
        chosen = some, valid.argmax(axis=1)[some]
        parts.append((some + start, near_rows[chosen], near_cols[chosen], scales[chosen]))
    found, at_rows, at_cols, factors = (np.concatenate(one) for one in zip(*parts, strict=True))
    return found, at_rows, at_cols, factors


def _offsets(radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels round a pixel, the nearest first; of equals, row by row."""
    side = np.arange(-radius, radius + 1)
    down, right = (axis.ravel() for axis in np.meshgrid(side, side, indexing="ij"))
    order = np.argsort(down**2 + right**2, kind="stable")[1:]  # all but the pixel itself
    return down[order], right[order]
