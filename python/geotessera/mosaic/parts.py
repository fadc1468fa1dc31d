"""Parts of a region that lie so far apart that one grid round them would be mostly empty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.grid import tile_to_bounds
from geotessera.regions import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from geotessera.types import TileId

    type _Square = tuple[int, int]

__all__ = ["APART_KM", "RegionPart", "parts_of"]

APART_KM = 500
"""Parts are about as far apart, or farther: Corsica belongs to the mainland, and so does
Tasmania; the Canaries, Svalbard and Hawaii do not."""

_KM = 111.2
"""Of a degree of latitude."""


@dataclass(frozen=True, eq=False)
class RegionPart:
    """A part of a region.

    Parameters
    ----------
    region : Region
        What of the region lies where the tiles are; of a box, the box round them.
    tiles : list of TileId
        The tiles, in the order of those that were given.
    """

    region: Region
    tiles: list[TileId]


def parts_of(region: Region, tiles: Sequence[TileId]) -> list[RegionPart]:
    """Split a region where its tiles lie about `APART_KM` apart, or farther.

    Distances are those between squares of a degree, which the tiles are sorted into.

    Parameters
    ----------
    region : Region
        What was asked for.
    tiles : sequence of TileId
        Its tiles.

    Returns
    -------
    list of RegionPart
        The part with the most tiles first.
    """
    squares: dict[_Square, list[TileId]] = {}
    for tile in tiles:
        squares.setdefault((math.floor(tile.lon), math.floor(tile.lat)), []).append(tile)
    groups = list(_together(set(squares)))
    numbers = {square: number for number, group in enumerate(groups) for square in group}
    found: list[list[TileId]] = [[] for _ in groups]
    for tile in tiles:
        found[numbers[math.floor(tile.lon), math.floor(tile.lat)]].append(tile)
    parts = [
        RegionPart(_where(region, [squares[one] for one in group]), own)
        for group, own in zip(groups, found, strict=True)
    ]
    return sorted(parts, key=lambda part: (-len(part.tiles), part.region.bbox))


def _together(squares: set[_Square]) -> Iterator[list[_Square]]:
    """Yield groups of squares that are near each other, from one to the next."""
    left = set(squares)
    while left:
        group = [left.pop()]
        for square in group:  # grows
            near = left.intersection(_around(square))
            left -= near
            group += near
        yield group


def _around(square: _Square) -> Iterator[_Square]:
    """Yield the squares whose centre is within the distance of that of a square."""
    lon, lat = square
    reach = APART_KM / _KM
    for north in range(-math.floor(reach), math.floor(reach) + 1):
        # Of both latitudes the one farther from the equator, where degrees are shorter.
        narrow = math.cos(math.radians(min(max(abs(lat + 0.5), abs(lat + north + 0.5)), 89.5)))
        across = min(math.floor(math.sqrt(reach**2 - north**2) / narrow), 180)
        for east in range(-across, across + 1):
            yield (lon + east + 180) % 360 - 180, lat + north


def _where(region: Region, squares: Iterable[list[TileId]]) -> Region:
    """Return what of a region lies where some tiles are."""
    import shapely

    boxes = []
    for tiles in squares:
        bounds = [tile_to_bounds(tile.lon, tile.lat) for tile in tiles]
        west, south = (min(box[at] for box in bounds) for at in (0, 1))
        east, north = (max(box[at] for box in bounds) for at in (2, 3))
        boxes.append(shapely.box(west, south, east, north))
    place = shapely.union_all(boxes)
    if region.geometry is not None:
        place = shapely.intersection(place, region.geometry)
        return Region.from_geometry(place, region.name)
    west, south, east, north = region.bbox
    halves = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    asked = shapely.union_all([shapely.box(low, south, high, north) for low, high in halves])
    return Region(Region.from_geometry(shapely.intersection(place, asked)).bbox, name=region.name)
