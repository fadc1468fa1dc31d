"""Tiles of an Icechunk repository, as the rows of its tile registry tell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from geotessera.cells import COLUMNS, ROWS
from geotessera.coverage.grid import Coverage, bits_dtype
from geotessera.coverage.raster import View, paint_boxes
from geotessera.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from geotessera.regions import Region

__all__ = ["TileRows"]

_MOSTLY = 0.5
"""Share of refused pixels above which a tile is not usable."""

_BOX = ("bbox_west", "bbox_south", "bbox_east", "bbox_north")

# A degree of the globe as 10 × 10 cells, rows from north to south.
_CELLS = View(-180.0, -90.0, 180.0, 90.0, COLUMNS, ROWS)


@dataclass(frozen=True, eq=False)
class TileRows:
    """What became of tiles.

    Parameters
    ----------
    places : ndarray of int, shape (N,)
        The tile of each row, whatever its year: numbers from 0.
    year : ndarray of int, shape (N,)
        Calendar years.
    boxes : ndarray of float64, shape (N, 4)
        West, south, east, north in WGS84 degrees; west > east crosses the antimeridian.
    embedded, refused : ndarray of bool, shape (N,)
        Whether there are embeddings; whether more than half of the eligible pixels were refused.
    """

    places: NDArray[np.int64]
    year: NDArray[np.int64]
    boxes: NDArray[np.float64]
    embedded: NDArray[np.bool_]
    refused: NDArray[np.bool_]

    @classmethod
    def of_table(cls, tiles: pd.DataFrame) -> Self:
        """Return the rows of a table of `geotessera.icechunk.TileRegistry.tiles`.

        Raises
        ------
        InputError
            (a `ValueError`) if it lacks a column.
        """
        if not len(tiles):
            empty = np.empty(0, np.int64)
            flags = np.empty(0, np.bool_)
            return cls(empty, empty, np.empty((0, 4)), flags, flags)
        needed = {"tile", "embedded", "refused_px", "eligible_px", *_BOX}
        if missing := needed - set(tiles.columns):
            raise InputError(f"the rows of tiles have no column {', '.join(sorted(missing))}")
        boxes = np.stack([tiles[name].to_numpy(np.float64) for name in _BOX], axis=1)
        sound = np.isfinite(boxes).all(axis=1)
        eligible, refused = (
            tiles[name].to_numpy(np.float64, na_value=np.nan)
            for name in ("eligible_px", "refused_px")
        )
        with np.errstate(invalid="ignore"):
            mostly = (refused > _MOSTLY * eligible) & (eligible > 0)  # an unknown share is none
        columns = [name for name in ("zone", "tile") if name in tiles.columns]
        places: Any = tiles.groupby(columns, sort=False, observed=True).ngroup()
        years = (
            tiles["year"].to_numpy(np.int64)
            if "year" in tiles.columns
            else np.zeros(len(tiles), np.int64)
        )
        embedded = tiles["embedded"].to_numpy(np.object_) == True  # noqa: E712 - it may be null
        rows: list[NDArray[Any]] = [places.to_numpy(np.int64), years, boxes, embedded, mostly]
        return cls(*(column[sound] for column in rows))

    def __len__(self) -> int:
        return len(self.year)

    @property
    def years(self) -> tuple[int, ...]:
        """Years that there are rows of, ascending."""
        return tuple(np.unique(self.year).tolist())

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rows that are embedded, and not mostly refused."""
        return self.embedded & ~self.refused

    def of(self, chosen: NDArray[np.bool_]) -> Self:
        """Return some of the rows."""
        columns = (self.places, self.year, self.boxes, self.embedded, self.refused)
        return type(self)(*(column[chosen] for column in columns))  # type: ignore[arg-type]

    def states(
        self, year: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[str, str, str]]:
        """Return the boxes of tiles, a state 0, 1 or 2 of each, and words for the states.

        Of a year the states are embedded, mostly refused and not embedded; of all years usable
        in all of them, in some and in none.
        """
        if year is not None:
            at = self.year == year
            state = np.where(self.embedded[at], self.refused[at].astype(np.int64), 2)
            return self.boxes[at], state, ("Embedded", "Embedded, mostly refused", "Not embedded")
        count = len(self.years)
        _, first, inverse = np.unique(self.places, return_index=True, return_inverse=True)
        times = np.bincount(inverse, self.usable, minlength=len(first))
        state = np.where(times == 0, 2, np.where(times >= count, 0, 1)).astype(np.int64)
        every = f"Usable in all {count} years" if count != 1 else "Usable in the one year"
        return self.boxes[first], state, (every, "Usable in some years", "Usable in no year")

    def inside(self, region: Region, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which boxes share a place with a region."""
        import shapely

        if region.geometry is None or not len(boxes):
            return np.ones(len(boxes), np.bool_)  # the registry was asked for the box
        west, south, east, north = boxes.T
        crosses = west > east
        shapely.prepare(region.geometry)
        found: NDArray[np.bool_] = shapely.intersects(
            region.geometry, shapely.box(west, south, np.where(crosses, 180, east), north)
        )
        found |= crosses & shapely.intersects(
            region.geometry, shapely.box(np.where(crosses, -180, west), south, east, north)
        )
        return found

    def coverage(self, version: str, variant: str) -> Coverage:
        """Return the tiles on the 0.1° grid: cells whose centre is in the box of a usable tile.

        Land is where there is a tile at all, embedded or not.
        """
        years = self.years
        bits = np.zeros((COLUMNS, ROWS), bits_dtype(len(years)))
        land = _cells(self.boxes)
        for number, year in enumerate(years):
            here = _cells(self.boxes[(self.year == year) & self.usable])
            bits |= here.astype(bits.dtype) << bits.dtype.type(number)
        return Coverage(years, bits, land, version, variant)


def _cells(boxes: NDArray[np.float64]) -> NDArray[Any]:
    return paint_boxes(_CELLS, boxes)[::-1].T > 0
