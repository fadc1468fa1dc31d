"""Sampling over tiles: each tile's points together.

The kernel reads int8 pixels where they lie (memory-mapped) and writes float32 rows into
one result, so a million points cost their own pixels and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import GeoTesseraError, InputError
from geotessera.sampling.source import check_method, sample_source
from geotessera.types import Status, TileId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from geotessera.sampling.grouping import PointGroups
    from geotessera.sources import RasterSource
    from geotessera.types import Method

__all__ = ["DEFAULT_BAND_COUNT", "Sampled", "sample_tiles"]

DEFAULT_BAND_COUNT = 128
"""Bands of every published dataset: the width of a result that no tile contributes to."""


@dataclass(slots=True, eq=False)
class Sampled:
    """What sampling found.

    Parameters
    ----------
    values : ndarray of float32, shape (N, bands)
        Embeddings in the order of the points; NaN where `status` is not ``VALID``.
    status : ndarray of uint8, shape (N,)
        `geotessera.types.Status` of each point.
    pixels : ndarray of int32, shape (N, 2), or None
        (row, column) of the pixel that contains each point, -1 where there is none.
    groups : PointGroups
        Which tile owns which points.
    crs : list of (str or None)
        CRS of each group's raster, such as ``"EPSG:32631"``.
    failures : dict of TileId to Exception
        Tiles that exist but could not be read.
    """

    values: NDArray[np.float32]
    status: NDArray[np.uint8]
    pixels: NDArray[np.int32] | None
    groups: PointGroups
    crs: list[str | None]
    failures: dict[TileId, Exception]

    def metadata(self) -> list[dict[str, Any] | None]:
        """Return one dict per point, or None where no tile was found.

        Keys: ``tile_lon``, ``tile_lat``, ``pixel_row``, ``pixel_col``, ``crs``, and
        ``error`` where there is no pixel: the tile could not be read, or its raster does not
        reach as far as its cell (``"pixel_out_of_bounds"``).
        """
        assert self.pixels is not None  # asked for together with the values
        found: list[dict[str, Any] | None] = [None] * len(self.status)
        failures = {tile[1:]: str(error) for tile, error in self.failures.items()}
        for tile, rows, crs in zip(self.groups.tiles(), self.groups.rows(), self.crs, strict=True):
            failure = failures.get(tile)
            if crs is None and failure is None:
                continue
            for row, (y, x) in zip(rows.tolist(), self.pixels[rows].tolist(), strict=True):
                known = failure is None and y >= 0
                entry: dict[str, Any] = {
                    "tile_lon": tile[0],
                    "tile_lat": tile[1],
                    "pixel_row": y if known else None,
                    "pixel_col": x if known else None,
                    "crs": crs,
                }
                if not known:
                    entry["error"] = failure or "pixel_out_of_bounds"
                found[row] = entry
        return found


class _Result:
    """The arrays of a result, made when the first tile says how many bands there are."""

    def __init__(self, groups: PointGroups, bands: Sequence[int] | None, pixels: bool) -> None:
        count = len(groups.points)
        self.bands = bands
        self.values: NDArray[np.float32] | None = None
        self.status = np.full(count, Status.NO_TILE, np.uint8)
        self.pixels = np.full((count, 2), -1, np.int32) if pixels else None
        self.unfilled: list[NDArray[np.int64]] = []

    def rows_for(self, band_count: int) -> NDArray[np.float32]:
        wanted = band_count if self.bands is None else len(self.bands)
        if self.values is None:
            # Uninitialised: every row is written once, by the kernel or as NaN at the end.
            self.values = np.empty((len(self.status), wanted), np.float32)
        elif self.values.shape[1] != wanted:
            raise InputError(
                f"the tiles differ in their number of bands: {self.values.shape[1]} and {wanted}; "
                "they cannot come from one dataset"
            )
        return self.values

    def finish(self) -> NDArray[np.float32]:
        values = self.rows_for(DEFAULT_BAND_COUNT) if self.values is None else self.values
        for rows in self.unfilled:
            values[rows] = np.nan
        return values


def sample_tiles(
    groups: PointGroups,
    year: int,
    open_tile: Callable[[TileId], RasterSource | None],
    *,
    method: Method = "nearest",
    bands: Sequence[int] | None = None,
    mask_water: bool = False,
    with_pixels: bool = False,
    progress: Callable[[int, int, str], object] | None = None,
) -> Sampled:
    """Sample every group of points from its tile.

    Parameters
    ----------
    groups : PointGroups
        The points, by tile.
    year : int
        Which year's tiles.
    open_tile : callable
        Returns a tile's source, or None where the dataset has no such tile; what it
        raises is kept in ``failures`` and the tile's points are ``FAILED``.
    method : {"nearest", "bilinear"}
        The pixel that contains a point, or the mean of the four nearest, weighted by
        distance.
    bands : sequence of int, optional
        Zero-based bands, order and duplicates kept; all by default.
    mask_water : bool
        Give points on water, by the tile's landmask, the status ``WATER`` and no values.
    with_pixels : bool
        Also return the pixel of each point.
    progress : callable, optional
        Called with (tiles done, tiles in all, status text).

    Returns
    -------
    Sampled
        Values, statuses and where they come from.

    Raises
    ------
    InputError
        (a `ValueError`) for an unknown `method`.
    BandError
        (a `ValueError` and an `IndexError`) for a band that the tiles do not have.
    """
    check_method(method)
    result = _Result(groups, bands, with_pixels)
    crs: list[str | None] = []
    failures: dict[TileId, Exception] = {}
    for done, ((lon, lat), rows) in enumerate(zip(groups.tiles(), groups.rows(), strict=True)):
        tile = TileId(year, lon, lat)
        if progress is not None:
            progress(done, len(groups), f"sampling tile {done + 1} of {len(groups)}")
        try:
            source = open_tile(tile)
            crs.append(None if source is None else source.grid.crs_name)
            if source is None:
                result.unfilled.append(rows)
                continue
            values = result.rows_for(source.band_count)
            sample_source(
                source,
                groups.points,
                rows=rows,
                values=values,
                status=result.status,
                pixels=result.pixels,
                method=method,
                bands=bands,
                mask_water=mask_water,
            )
        except InputError:
            raise
        except (GeoTesseraError, OSError, RuntimeError) as error:
            if len(crs) == done:
                crs.append(None)
            failures[tile] = error
            result.status[rows] = Status.FAILED
            result.unfilled.append(rows)
    if progress is not None and len(groups):
        progress(len(groups), len(groups), "sampled")
    return Sampled(result.finish(), result.status, result.pixels, groups, crs, failures)
