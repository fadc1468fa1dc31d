"""A landscape that is the same from wherever it is looked at, and its embeddings.

Fractal noise on the sphere gives elevation, rivers, moisture, land use and clouds;
rules on them give land cover; land cover and terrain give embeddings. Everything is a
function of place (and year), so tiles agree where they overlap and across UTM zones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geotessera.types import GridSpec

    type Floats = NDArray[np.float32]

__all__ = ["COVER", "Embedder", "Landscape", "landscape"]

COVER = ("sea", "river", "beach", "grass", "shrub", "forest", "crop", "built", "rock")
"""Land-cover classes; the first two are water."""

_SEA, _RIVER, _BEACH, _GRASS, _SHRUB, _FOREST, _CROP, _BUILT, _ROCK = range(len(COVER))
_EARTH_RADIUS = 6_371_000.0
_PIXEL = 10
_NODE = 40
"""Metres between the points at which noise is evaluated; pixels interpolate."""


def _hash(*keys: NDArray[np.int64] | int) -> NDArray[np.uint32]:
    """Mix integers into uniform 32-bit words (Wang's and Jenkins' finalizers)."""
    primes = (0x8DA6B343, 0xD8163841, 0xCB1AB31F, 0x165667B1)
    word = np.asarray(0, np.uint32)
    for key, prime in zip(keys, primes, strict=False):
        word = word ^ ((np.asarray(key, np.int64) * prime) & 0xFFFFFFFF).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = (word ^ (word >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray(word ^ (word >> np.uint32(16)), np.uint32)


def _noise(xyz: NDArray[np.float64], wavelength: float, octaves: int, seed: int) -> Floats:
    """Return fractal value noise of about unit variance at unit vectors, shape (3, N)."""
    total = np.zeros(xyz.shape[1])
    power = 0.0
    for octave in range(octaves):
        position = xyz * (_EARTH_RADIUS / wavelength * 2**octave)
        cell = np.floor(position)
        part = position - cell
        part = part * part * (3 - 2 * part)
        corner = cell.astype(np.int64)
        for bits in range(8):
            offset = [bits >> axis & 1 for axis in range(3)]
            word = _hash(*(corner[i] + offset[i] for i in range(3)), seed * 64 + octave)
            weight = np.ones(1)
            for axis in range(3):
                weight = weight * (part[axis] if offset[axis] else 1 - part[axis])
            total += weight * (word / 2.0**31 - 1) * 0.5**octave
        power += 0.25**octave
    # A cell's eight corners average to about a third of their standard deviation.
    return np.asarray(total / (0.30 * power**0.5), np.float32)


@dataclass(frozen=True, slots=True)
class Landscape:
    """What the pixels of a tile show, each of shape (height, width).

    Parameters
    ----------
    cover : ndarray of uint8
        Index into `COVER`.
    features : ndarray of float32, shape (feature, height, width)
        Terrain and land use as integers of about ±16, so that sums are exact.
    missing : ndarray of bool
        Where clouds left no embedding.
    row, col : ndarray of int64
        Pixel indices in the UTM zone, for noise that overlapping tiles share.
    """

    cover: NDArray[np.uint8]
    features: Floats
    missing: NDArray[np.bool_]
    row: NDArray[np.int64]
    col: NDArray[np.int64]

    @property
    def water(self) -> NDArray[np.bool_]:
        """Where there is sea or a river."""
        return self.cover <= _RIVER


def landscape(grid: GridSpec, year: int, seed: int) -> Landscape:
    """Return what a tile's pixels show in a year.

    Parameters
    ----------
    grid : GridSpec
        A tile's raster, UTM at 10 m. Its pixels are made on multiples of 10 m: west and
        north of the corner it carries, as published tiles are.
    year : int
        Clouds and seasons differ by year; land and water do not.
    seed : int
        Which world.
    """
    assert grid.epsg is not None  # tiles are in UTM
    left = int(np.floor(grid.transform[2] / _PIXEL))
    top = int(np.ceil(grid.transform[5] / _PIXEL))
    col = left + np.arange(grid.width)
    row = top - 1 - np.arange(grid.height)
    # Nodes are multiples of 40 m in the zone: two tiles interpolate between the same ones.
    per_node = _NODE // _PIXEL
    node_x = np.arange(col[0] // per_node - 1, col[-1] // per_node + 4)
    node_y = np.arange(row[-1] // per_node - 1, row[0] // per_node + 4)
    x, y = np.meshgrid(node_x * float(_NODE), node_y * float(_NODE))
    lon, lat = _native.unproject(x.ravel(), y.ravel(), grid.epsg)
    lon, lat = np.radians(lon), np.radians(lat)
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    def field(wavelength: float, octaves: int, key: int) -> Floats:
        return _noise(xyz, wavelength, octaves, seed * 1024 + key).reshape(x.shape)

    height = field(9000, 6, 1)
    north, east = np.gradient(height)
    nodes = np.stack(
        [
            height,
            east * 12,
            north * 12,
            field(7000, 5, 2),  # rivers run where this is zero
            field(4000, 4, 3),  # moisture
            field(2500, 3, 4),  # people
            field(700, 2, 5),  # parcels, two of them
            field(700, 2, 6),
            field(3000, 3, 1000 + year),  # season
            field(1500, 4, 5000 + year),  # clouds
        ]
    )
    fields = _upsample(
        nodes, (row + 0.5) / per_node - node_y[0], (col + 0.5) / per_node - node_x[0]
    )
    cover, parcel = _cover(fields)
    features = np.rint(np.concatenate([fields[[0, 1, 2, 4, 5, 8]], parcel[None]]) * 12)
    np.clip(features, -48, 48, out=features)
    speck = _hash(row[:, None], col[None, :], seed, year) < 2**32 // 20_000
    return Landscape(cover, features, (fields[9] > 2.2) | speck, row, col)


def _upsample(nodes: Floats, at_y: NDArray[np.float64], at_x: NDArray[np.float64]) -> Floats:
    """Interpolate (field, y, x) linearly; weights are eighths, so every tile's are exact."""
    y, x = np.floor(at_y).astype(int), np.floor(at_x).astype(int)
    part_y = (at_y - y).astype(np.float32)[:, None]
    part_x = (at_x - x).astype(np.float32)
    lines = nodes[:, :, x] * (1 - part_x) + nodes[:, :, x + 1] * part_x
    return np.asarray(lines[:, y] * (1 - part_y) + lines[:, y + 1] * part_y, np.float32)


def _cover(fields: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Return the land cover, and a number for each parcel of farmland."""
    height, east, north, river, wet, people, one, two, _, _ = fields
    steep = east * east + north * north
    farmed = (people > 0.1) & (height < 0.9) & (steep < 1.5)
    cover = np.select(
        [
            height < -0.55,
            (np.abs(river) < 0.035) & (height < 1.2),
            height < -0.5,
            height > 1.6,
            (people > 1.3) & (height < 0.6),
            farmed & (np.floor(two * 2) % 3 != 0),
            wet > 0.45,
            wet > -0.35,
        ],
        [_SEA, _RIVER, _BEACH, _ROCK, _BUILT, _CROP, _FOREST, _SHRUB],
        _GRASS,
    ).astype(np.uint8)
    plot = _hash(np.floor(one * 3).astype(np.int64), np.floor(two * 3).astype(np.int64), 7)
    number = np.where((cover == _CROP) | (cover == _BUILT), plot / 2.0**31 - 1, 0)
    return cover, (number * 1.7).astype(np.float32)


class Embedder:
    """Turns landscapes into int8 embeddings and float32 scales.

    Statistics are near the published ones (rms 2.5, means of bands from -4.3 to 4.5,
    scales with a median of 0.064 and 0.137 at the 99.99th percentile).

    Parameters
    ----------
    bands : int
        Number of bands.
    seed : int
        Which world.
    """

    # Everything up to the rounding is an integer below 2**24, and so exact in float32
    # whatever order a matrix product adds in: the same bytes on every machine.
    _UNIT = 512
    _PERIOD = 128

    def __init__(self, bands: int = 128, seed: int = 0) -> None:
        self.bands = bands
        spread = [1.45, *[1.35] * len(COVER), 0.75, 0.3, 0.3, 0.6, 0.6, 0.5, 0.5]
        band, term = np.meshgrid(np.arange(bands), np.arange(len(spread)))
        per_feature = np.where(term > len(COVER), 12, 1)
        strength = np.array(spread)[:, None] * self._UNIT / per_feature
        self._spectra = np.rint(_normal(band, term, seed * 8 + 1) * strength).astype(np.float32)
        line, column, band = np.ogrid[: self._PERIOD, : self._PERIOD, :bands]
        grain = _normal(line * self._PERIOD + column, band, seed * 8 + 2)
        self._grain = np.rint(grain * (0.3 * self._UNIT)).astype(np.float32)
        steps = (np.arange(256) + 0.5) / 128 - 1
        self._brightness = np.round(np.exp(0.42 * steps**3), 4).astype(np.float32)

    def strips(self, view: Landscape, rows: int = 32) -> Iterator[tuple[NDArray[np.int8], Floats]]:
        """Yield int8 (h, W, B) and float32 (h, W) for each strip of rows, from the top."""
        height, width = view.cover.shape
        column = view.col % self._PERIOD
        for start in range(0, height, rows):
            part = slice(start, min(start + rows, height))
            count = part.stop - start
            terms = np.zeros((count * width, len(self._spectra)), np.float32)
            terms[:, 0] = 1
            terms[np.arange(len(terms)), 1 + view.cover[part].ravel()] = 1
            terms[:, 1 + len(COVER) :] = view.features[:, part].reshape(-1, len(terms)).T
            values = (terms @ self._spectra).reshape(count, width, self.bands)
            for line, north in zip(values, view.row[part], strict=True):
                line += self._grain[north % self._PERIOD].take(column, axis=0)
            largest = np.maximum(values.max(axis=2), -values.min(axis=2))
            np.maximum(largest, 1, out=largest)
            values *= (127 / largest)[..., None]
            quantised = np.rint(values, out=values).astype(np.int8)
            pick = _hash(view.row[part, None], view.col[None, :], 3) & 255
            scales = largest * self._brightness[pick] / np.float32(127 * 470)
            scales[view.missing[part]] = np.nan
            quantised[view.missing[part]] = 0
            yield quantised, scales


def _normal(a: NDArray[np.int64], b: NDArray[np.int64], key: int) -> NDArray[np.float64]:
    """Return nearly normal numbers (sums of four uniform ones) that depend on two keys."""
    words = sum(_hash(a, b, key, draw) / 2.0**31 - 1 for draw in range(4))
    return np.asarray(words * 0.75**0.5)
