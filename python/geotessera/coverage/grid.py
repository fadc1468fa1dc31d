"""The years of every 0.1° cell of the globe, as one array of bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from geotessera.cells import COLUMNS, ROWS
from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geotessera.registry import Registry

__all__ = ["MOST_YEARS", "Coverage", "bits_dtype"]

MOST_YEARS = 64
"""Years that the widest bits have room for."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Where a dataset has tiles.

    Parameters
    ----------
    years : tuple of int
        Ascending.
    bits : ndarray of unsigned int, shape (3600, 1800)
        Bit *k* of ``bits[column, row]`` is set if the 0.1° cell has a tile in ``years[k]``.
        Columns go east from -180°, rows north from -90°.
    land : ndarray of bool, shape (3600, 1800), optional
        Cells that have land; None where that is not known.
    version, variant : str
        The dataset; the version as paths spell it, such as ``"v1.1"``.
    """

    years: tuple[int, ...]
    bits: NDArray[np.unsignedinteger[Any]]
    land: NDArray[np.bool_] | None = None
    version: str = ""
    variant: str = ""

    @classmethod
    def of_registry(cls, registry: Registry) -> Self:
        """Return what a registry has; of one with a `bbox`, what is within it."""
        own, bits = registry.year_bits()
        years = registry.get_available_years()
        places = [own.index(year) for year in years]
        if places != list(range(len(own))):
            # Years without a tile in the registry's scope are none of its years.
            bits = _chosen(bits, places)
        land = registry.landmask_cells()
        return cls(tuple(years), bits, land, registry.version, registry.variant)

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what a document of `document` says.

        Raises
        ------
        InputError
            (a `ValueError`) if ``tiles`` or ``no_coverage`` hold anything but tiles' centres.
        """
        listed: Mapping[str, Sequence[int]] = document.get("tiles") or {}
        patterns = _Numbers()
        numbers = map(patterns.__getitem__, map(tuple, listed.values()))
        which = np.fromiter(numbers, np.int64, len(listed))
        held = {year for has in patterns for year in has}
        years = tuple(sorted(held | set(document.get("years") or ())))
        place = {year: number for number, year in enumerate(years)}
        bits = np.zeros((COLUMNS, ROWS), bits_dtype(len(years)))
        masks = [sum(1 << place[year] for year in set(has)) for has in patterns]
        bits[_cells_of(listed)] = np.array(masks, bits.dtype)[which]
        land = np.zeros((COLUMNS, ROWS), np.bool_)
        land[_cells_of(document.get("no_coverage") or ())] = True
        metadata: Mapping[str, Any] = document.get("metadata") or {}
        return cls(years, bits, land | (bits != 0), str(metadata.get("version", "")))

    @property
    def id(self) -> str:
        """The name that files of the dataset carry, such as ``"v1.1_cambridge"``."""
        return f"{self.version}_{self.variant}"

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Cells that have a tile in any year, shape (3600, 1800)."""
        covered: NDArray[np.bool_] = self.bits != 0
        return covered

    def of_year(self, year: int) -> NDArray[np.bool_]:
        """Return the cells that have a tile in a year, shape (3600, 1800); none for other years."""
        if year not in self.years:
            return np.zeros(self.bits.shape, np.bool_)
        cells: NDArray[np.bool_] = (self.bits & self._bit(year)) != 0
        return cells

    def counts(self, within: NDArray[np.bool_] | None = None) -> dict[int, int]:
        """Return the number of tiles of each year, of some cells if they are given."""
        chosen = self.bits if within is None else self.bits[within]
        return {year: int(np.count_nonzero(chosen & self._bit(year))) for year in self.years}

    def metadata(self) -> dict[str, Any]:
        """Return the totals that published summaries carry.

        Without a list of land, the land is where there are tiles.
        """
        tiles = self.covered
        land = tiles if self.land is None else self.land
        return {
            "total_tiles": int(np.count_nonzero(tiles)),
            "total_landmasks": int(np.count_nonzero(land)),
            "total_no_coverage": int(np.count_nonzero(land & ~tiles)),
            "version": self.version,
        }

    def _bit(self, year: int) -> np.unsignedinteger[Any]:
        return self.bits.dtype.type(1 << self.years.index(year))


class _Numbers(dict[tuple[int, ...], int]):
    """Numbers of lists of years, in the order in which they are met; there are few different."""

    def __missing__(self, has: tuple[int, ...]) -> int:
        self[has] = number = len(self)
        return number


def bits_dtype(years: int) -> Any:
    """Return the narrowest dtype that has a bit for each of so many years."""
    if years > MOST_YEARS:
        raise InputError(f"{years} years are too many: there is room for {MOST_YEARS}")
    return np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if years <= size * 8))


def _chosen(
    bits: NDArray[np.unsignedinteger[Any]], places: list[int]
) -> NDArray[np.unsignedinteger[Any]]:
    """Return bits moved together: those at `places` become the first ones."""
    one = bits.dtype.type(1)
    out = np.zeros_like(bits)
    for number, place in enumerate(places):
        out |= ((bits >> bits.dtype.type(place)) & one) << bits.dtype.type(number)
    return out


def _cells_of(centres: Mapping[str, Any] | Sequence[str]) -> tuple[Any, Any]:
    """Return columns and rows of centres such as ``"0.15,52.05"``."""
    if not centres:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    try:
        numbers = _numbers_of(",".join(centres))
        lon, lat = numbers.reshape(-1, 2).T
        columns, rows = (lon + 179.95) * 10, (lat + 89.95) * 10
    except (TypeError, ValueError):
        numbers, columns, rows = np.empty(0), np.full(1, -1.0), np.empty(0)
    found = np.rint(columns), np.rint(rows)
    sound = len(numbers) == 2 * len(centres) and all(
        bool((np.abs(at - near) < 0.01).all() and (near >= 0).all() and (near < most).all())
        for at, near, most in zip((columns, rows), found, (COLUMNS, ROWS), strict=True)
    )
    if not sound:
        raise InputError(
            'a list of tiles holds centres of 0.1° cells as "lon,lat", such as "0.15,52.05"; found '
            f"something else among {list(centres)[:3]} …"
        )
    return found[0].astype(np.int64), found[1].astype(np.int64)


# Bytes of numbers that have two decimals.
_PLAIN = np.isin(np.arange(256), list(b"0123456789-.,"))


def _numbers_of(text: str) -> NDArray[np.float64]:
    """Return the numbers of a comma-separated text; those with two decimals four times faster."""
    written = np.frombuffer(text.encode(), np.uint8)
    ends = np.append(np.flatnonzero(written == ord(",")), len(written))
    points = np.flatnonzero(written == ord("."))
    if len(points) == len(ends) and (points + 3 == ends).all() and _PLAIN[written].all():
        hundredths = np.fromstring(text.replace(".", ""), np.int64, sep=",")
        return hundredths / 100
    return np.fromiter(map(float, text.split(",")), np.float64)
