"""What the pixels of synthetic stores hold: a pattern that is known at every pixel, or tiles.

Both are functions of place (zone, easting, northing) and year. Stores keep both hemispheres
in one northern grid, so northings south of the equator are negative.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geotessera.testing.terrain import _hash
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from pyproj import Transformer

    from geotessera.testing.world import WorldTile

    type Quantised = tuple[NDArray[np.int8], NDArray[np.float32]]

__all__ = [
    "FALSE_NORTHING",
    "PIXEL",
    "Pattern",
    "Pixels",
    "TilePixels",
    "grid_of_tiles",
    "intersection",
    "to_lonlat",
    "zone_grid",
    "zone_of",
]

PIXEL = 10.0
FALSE_NORTHING = 10_000_000.0


class Pixels(Protocol):
    """What a store is written from."""

    @property
    def bands(self) -> int:
        """Number of bands."""

    def read(self, grid: GridSpec, year: int) -> Quantised:
        """Return int8 (B, h, w) and float32 (h, w) of a grid in EPSG:326zz, 10 m.

        Scales are NaN on water and infinite where nothing was ever written.
        """


# --- Grids -------------------------------------------------------------------------------


@functools.cache
def _transformer(source: int, target: int) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def zone_of(grid: GridSpec) -> int:
    """Return the UTM zone of a grid in EPSG:326zz or 327zz."""
    assert grid.epsg is not None
    return grid.epsg % 100


def to_lonlat(
    grid: GridSpec, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitudes and latitudes (degrees) of coordinates in a grid's CRS, by PROJ."""
    assert grid.epsg is not None
    lon, lat = _transformer(grid.epsg, 4326).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def zone_grid(
    lon: float, lat: float, height: int = 96, width: int = 128, *, zone: int | None = None
) -> GridSpec:
    """Return a zone's grid with a place in its middle: EPSG:326zz in both hemispheres.

    Parameters
    ----------
    lon, lat : float
        The place, WGS84 degrees.
    height, width : int
        Size in pixels of 10 m; real stores have whole shards of 4096.
    zone : int, optional
        Another zone than the place's own.
    """
    zone = math.floor((lon + 180) / 6) % 60 + 1 if zone is None else zone
    x, y = _transformer(4326, 32600 + zone).transform(lon, lat)
    left = (math.floor(x / PIXEL) - width // 2) * PIXEL
    top = (math.floor(y / PIXEL) + 1 + height // 2) * PIXEL
    return GridSpec(32600 + zone, (PIXEL, 0.0, left, 0.0, -PIXEL, top), height, width)


def intersection(one: Window, other: Window) -> Window | None:
    """Return the pixels that two windows share, or None."""
    top, left = max(one.row, other.row), max(one.col, other.col)
    bottom = min(one.row + one.height, other.row + other.height)
    right = min(one.col + one.width, other.col + other.width)
    return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None


# --- A pattern ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """Pixels that look like noise and are known in closed form, whatever window is read.

    With ``h`` a 32-bit hash of the pixel's column and row in the zone, zone, year and seed,
    band ``b`` holds the top byte of ``h + b * 0x9E3779B9`` as int8 (-128 becomes -127) and
    the scale is ``(2048 + h % 4096) / 65536``.

    Parameters
    ----------
    bands : int
        Number of bands.
    seed : int
        Another seed is another pattern.
    water, gaps : float
        Shares of blocks of 8 × 8 pixels that are water (NaN) or were never written (+inf).
    specks : float
        Share of single pixels that were never written.
    """

    bands: int = 128
    seed: int = 0
    water: float = 1 / 16
    gaps: float = 1 / 32
    specks: float = 1 / 256

    def read(self, grid: GridSpec, year: int) -> Quantised:
        """Return int8 (B, h, w) and float32 (h, w) of a grid in EPSG:326zz, 10 m."""
        zone = zone_of(grid)
        col = round(grid.transform[2] / PIXEL) + np.arange(grid.width)
        row = round(-grid.transform[5] / PIXEL) + np.arange(grid.height)[:, None]
        word = _hash(col, row, zone * 10_000 + year, self.seed)
        steps = np.arange(self.bands, dtype=np.uint32) * np.uint32(0x9E3779B9)
        values = np.empty((self.bands, grid.height, grid.width), np.int8)
        for band, step in enumerate(steps):
            values[band] = ((word + step) >> np.uint32(24)).astype(np.uint8).view(np.int8)
        np.maximum(values, -127, out=values)
        scales = ((2048 + word % np.uint32(4096)) / 65536).astype(np.float32)
        block = _hash(col // 8, row // 8, zone, self.seed + 1) / 2.0**32
        single = _hash(col, row, zone, self.seed + 2) / 2.0**32
        scales[block < self.water] = np.nan
        scales[(block >= 1 - self.gaps) | (single < self.specks)] = np.inf
        values[:, np.isinf(scales)] = 0
        return values, scales


# --- Tiles -------------------------------------------------------------------------------


def grid_of_tiles(tiles: Iterable[WorldTile], shard: int) -> GridSpec:
    """Return the grid of a zone that holds tiles: whole shards, from the north-west corner."""
    boxes = []
    for one in tiles:
        left, bottom, right, top = one.grid.bounds
        shift = FALSE_NORTHING if (one.grid.epsg or 0) > 32700 else 0.0
        boxes.append((left, bottom - shift, right, top - shift))
        zone = zone_of(one.grid)
    left, bottom, right, top = (
        pick(side)
        for pick, side in zip((min, min, max, max), zip(*boxes, strict=True), strict=True)
    )
    left, top = math.floor(left / PIXEL) * PIXEL, math.ceil(top / PIXEL) * PIXEL
    height = math.ceil((top - bottom) / PIXEL / shard) * shard
    width = math.ceil((right - left) / PIXEL / shard) * shard
    return GridSpec(32600 + zone, (PIXEL, 0.0, left, 0.0, -PIXEL, top), height, width)


@dataclass(frozen=True, slots=True)
class TilePixels:
    """Pixels of a sample world's tiles, pasted as the published stores were made.

    Parameters
    ----------
    tiles : sequence of WorldTile
        In the order of pasting: a later tile covers an earlier one, its gaps included.
    bands : int
        Depth of the embeddings.
    masked : bool
        Whether pixels that the landmask calls water lose their scale.
    """

    tiles: Sequence[WorldTile] = field(repr=False)
    bands: int
    masked: bool = True

    def placement(self, tile: WorldTile, grid: GridSpec) -> Window:
        """Return where a tile's pixels are in a grid of its zone."""
        shift = FALSE_NORTHING if (tile.grid.epsg or 0) > 32700 else 0.0
        left, top = tile.grid.transform[2], tile.grid.transform[5] - shift
        row = math.floor((grid.transform[5] - top) / PIXEL)
        col = math.floor((left - grid.transform[2]) / PIXEL)
        return Window(row, col, tile.grid.height, tile.grid.width)

    def windows(self, grid: GridSpec) -> tuple[Window, ...]:
        """Return where a zone's grid has data, in any year."""
        whole = Window(0, 0, grid.height, grid.width)
        places = (
            self.placement(one, grid) for one in self.tiles if zone_of(one.grid) == zone_of(grid)
        )
        return tuple(dict.fromkeys(cut for one in places if (cut := intersection(one, whole))))

    def read(self, grid: GridSpec, year: int) -> Quantised:
        """Return int8 (B, h, w) and float32 (h, w) of a grid in EPSG:326zz, 10 m."""
        values = np.zeros((self.bands, grid.height, grid.width), np.int8)
        scales = np.full((grid.height, grid.width), np.inf, np.float32)
        whole = Window(0, 0, grid.height, grid.width)
        for one in self.tiles:
            if one.tile.year != year or zone_of(one.grid) != zone_of(grid):
                continue
            place = self.placement(one, grid)
            cut = intersection(place, whole)
            if cut is None:
                continue
            here = np.s_[cut.row : cut.row + cut.height, cut.col : cut.col + cut.width]
            top, left = cut.row - place.row, cut.col - place.col
            there = np.s_[top : top + cut.height, left : left + cut.width]
            # Row by row, which stays in the processor's cache: a fifth of the time.
            for line, row in enumerate(one.values()[there], start=cut.row):
                values[:, line, cut.col : cut.col + cut.width] = row.T
            part = one.scales()[there].copy()
            with np.errstate(invalid="ignore"):
                part[~(np.isfinite(part) & (part > 0) & (part < 1))] = np.nan
            if self.masked:
                part[one.mask()[there] == 0] = np.nan
            scales[here] = part
        return values, scales
