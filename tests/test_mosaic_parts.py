"""Regions whose tiles lie far apart."""

from __future__ import annotations

import itertools
import random

import pytest
import shapely
from pyproj import Geod

from geotessera.grid import tile_to_bounds
from geotessera.mosaic.parts import APART_KM, parts_of
from geotessera.regions import Region
from geotessera.types import TileId

GLOBE = Geod(ellps="WGS84")
WORLD = Region.from_bbox((-180, -90, 180, 90))


def tiles_at(*places: tuple[float, float]) -> list[TileId]:
    return [TileId(2024, *place) for place in places]


def kilometres(one: TileId, other: TileId) -> float:
    return float(GLOBE.inv(one.lon, one.lat, other.lon, other.lat)[2]) / 1000


def test_parts_are_far_apart_and_what_is_near_is_together() -> None:
    """Brute force: distances on the ellipsoid between all pairs, from -80° to 80°."""
    numbers = random.Random(4)
    for _ in range(20):
        centres = {
            (round(numbers.randrange(-1800, 1800) / 10 + 0.05, 2), lat)
            for lat in [round(numbers.randrange(-800, 800) / 10 + 0.05, 2) for _ in range(3)]
            for _ in range(15)
        }
        tiles = tiles_at(*sorted(centres))
        parts = parts_of(WORLD, tiles)
        assert sorted(tile for part in parts for tile in part.tiles) == tiles
        for one, other in itertools.combinations(parts, 2):
            apart = min(kilometres(a, b) for a in one.tiles for b in other.tiles)
            assert apart > APART_KM - 250  # two squares of a degree, each as wide as 111 km
        for part in parts:
            joined, left = [part.tiles[0]], part.tiles[1:]
            for tile in joined:  # grows
                near = [one for one in left if kilometres(tile, one) < APART_KM + 250]
                left = [one for one in left if one not in near]
                joined += near
            assert not left
        assert [len(part.tiles) for part in parts] == sorted(
            (len(part.tiles) for part in parts), reverse=True
        )


def test_one_part_is_as_large_as_its_tiles() -> None:
    tiles = tiles_at((0.05, 51.05), (5.05, 53.05), (10.05, 52.05))
    box = Region.from_bbox((-1, 50, 11, 54))
    [part] = parts_of(box, tiles)
    assert part.region.bbox == pytest.approx((0, 51, 10.1, 53.1))
    assert part.region.geometry is None
    assert part.tiles == tiles
    assert parts_of(box, []) == []


def test_parts_of_a_box_are_boxes_across_the_antimeridian_too() -> None:
    tiles = tiles_at((179.95, -16.55), (-179.95, -16.45), (-171.95, -13.85), (-160.05, -1.05))
    box = Region.from_bbox((170, -20, -155, -1.02))
    near, alone = parts_of(box, tiles)[1:], parts_of(box, tiles)[0]
    assert alone.tiles == tiles[:2]
    assert alone.region.geometry is None
    assert alone.region.bbox == pytest.approx((179.9, -16.6, -179.9, -16.4))
    assert [part.tiles for part in near] == [tiles[2:3], tiles[3:]]
    # No more than was asked for.
    assert near[1].region.bbox == pytest.approx((-160.1, -1.1, -160.0, -1.02))


@pytest.mark.parametrize(
    ("country", "sizes"),
    [
        ("France", [(-5, 41, 10, 52), (-55, 2, -51, 6), (-62, 14, -60, 17), (55, -22, 56, -20)]),
        ("Fiji", [(174, -22, -178, -12)]),
        ("Spain", [(-10, 35, 5, 44), (-19, 27, -13, 30)]),
        ("Chile", [(-76, -56, -66, -17)]),  # Easter Island falls between the tiles below
    ],
)
def test_countries_overseas(country: str, sizes: list[tuple[float, ...]]) -> None:
    region = Region.from_country(country)
    west, south, east, north = region.bbox
    columns = range(int(west * 10), int((east + 360 * (west > east)) * 10))
    every = [
        (round(((column / 10 + 180) % 360) - 180 + 0.05, 2), round(row / 10 + 0.05, 2))
        for column in columns[::3]
        for row in range(int(south * 10), int(north * 10), 3)
    ]
    tiles = region.select([(2024, *place) for place in every if abs(place[1]) < 90])
    parts = parts_of(region, tiles)
    assert sum(len(part.tiles) for part in parts) == len(tiles)
    for part, box in zip(parts, sizes, strict=False):
        low, bottom, high, top = part.region.bbox
        assert (box[0] <= low, box[1] <= bottom) == (True, True), part.region.bbox
        assert (high <= box[2], top <= box[3]) == (True, True), part.region.bbox
        assert part.region.geometry is not None
        assert part.region.select(tiles) == part.tiles
        assert region.geometry.covers(part.region.geometry.buffer(-1e-6))
    own = [shapely.box(*tile_to_bounds(tile.lon, tile.lat)) for tile in parts[0].tiles]
    missing = shapely.union_all(own).intersection(region.geometry)
    assert missing.difference(parts[0].region.geometry).area < 1e-9
