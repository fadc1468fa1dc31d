"""The pyramid of tiles: zoom levels, tiles, and the units that are cut at once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from geotessera.errors import InputError
from geotessera.mosaic.grids import MERCATOR_PERIOD
from geotessera.types import GridSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    type Coordinates = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = [
    "LEVELS",
    "MAX_LATITUDE",
    "MAX_ZOOM",
    "SIDE",
    "Tile",
    "Unit",
    "apply",
    "check_zooms",
    "zoom_grid",
]

SIDE = 256
"""Side of a tile in pixels."""

LEVELS = 3
"""Zoom levels between the finest and the coarsest of a unit: 8 × 8 tiles make one. A unit's
pixels take 16 MB and its tiles are a pack."""

MAX_ZOOM = 24

MAX_LATITUDE = 85.0511287798066
"""Where the square of Web Mercator ends, north and south."""


def check_zooms(zooms: Sequence[int]) -> tuple[int, int]:
    """Return the smallest and the largest zoom.

    Raises
    ------
    InputError
        (a `ValueError`) unless 0 <= smallest <= largest <= 24.
    """
    try:
        low, high = (int(zoom) for zoom in zooms)
    except (TypeError, ValueError) as error:
        raise InputError(f"zooms {zooms!r}: expected the smallest and the largest") from error
    if not 0 <= low <= high <= MAX_ZOOM:
        raise InputError(f"zooms {low} to {high}: expected 0 <= smallest <= largest <= {MAX_ZOOM}")
    return low, high


@cache
def zoom_grid(zoom: int) -> GridSpec:
    """Return the pixels of a zoom level, all round the globe, in EPSG:3857."""
    count = SIDE << zoom
    size, edge = MERCATOR_PERIOD / count, MERCATOR_PERIOD / 2
    return GridSpec(3857, (size, 0.0, -edge, 0.0, -size, edge), count, count)


def apply(
    transform: Sequence[float], x: NDArray[np.float64], y: NDArray[np.float64]
) -> Coordinates:
    """Return what an affine transform makes of places."""
    a, b, c, d, e, f = transform
    return a * x + b * y + c, d * x + e * y + f


class Tile(NamedTuple):
    """A tile in XYZ numbering: row 0 is the northernmost."""

    z: int
    x: int
    y: int

    @property
    def path(self) -> str:
        """Its file below the directory of tiles."""
        return f"{self.z}/{self.x}/{self.y}.png"


class Unit(NamedTuple):
    """A square of the pyramid that is cut at once: up to 8 × 8 tiles, and those above them.

    A leaf is cut from the picture and holds tiles from its top zoom up. The others are made
    of the tiles at their top zoom, which belong to leaves.
    """

    top: int
    """Zoom of its pixels."""
    x: int
    """Column of its coarsest tile."""
    y: int
    """Row of its coarsest tile."""

    @property
    def levels(self) -> int:
        """Zoom levels from its coarsest tile to its pixels."""
        return min(LEVELS, self.top)

    @property
    def root(self) -> Tile:
        """Its coarsest tile."""
        return Tile(self.top - self.levels, self.x, self.y)

    @property
    def above(self) -> Unit:
        """The unit that is made of its coarsest tile and its neighbours."""
        top = self.top - self.levels
        levels = min(LEVELS, top)
        return Unit(top, self.x >> levels, self.y >> levels)

    def level(self, zoom: int) -> Iterator[Tile]:
        """Yield its tiles of one zoom, row by row."""
        shift = zoom - (self.top - self.levels)
        for y in range(self.y << shift, (self.y + 1) << shift):
            for x in range(self.x << shift, (self.x + 1) << shift):
                yield Tile(zoom, x, y)

    def tiles(self, lowest: int, *, leaf: bool) -> Iterator[Tile]:
        """Yield the tiles that are cut with the unit, the finest first."""
        for zoom in self.zooms(lowest, leaf=leaf):
            yield from self.level(zoom)

    def zooms(self, lowest: int, *, leaf: bool) -> range:
        """Return the zooms of its tiles, the finest first."""
        first = self.top if leaf else self.top - 1
        return range(first, max(self.top - self.levels, lowest) - 1, -1)
