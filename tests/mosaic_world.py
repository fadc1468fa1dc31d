"""Tiles for the tests of mosaics, and GDAL's warp of them as the oracle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from geotessera.grid import tile_footprint
from geotessera.layout import local_tile_files
from geotessera.mosaic import MosaicRaster
from geotessera.sampling import has_exact_projection
from geotessera.sources import NpyTile
from geotessera.types import GridSpec, Provenance, TileId

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TIE = {True: 1e-6, False: 2e-3}
"""Pixels (of 10 m) from an edge within which a position may fall on either side of it, for CRSs
that the kernels know, and for others."""


@dataclass(frozen=True)
class MadeTile:
    """A tile on disk and its pixels as plain NumPy makes them."""

    lon: float
    lat: float
    grid: GridSpec
    descriptor: NpyTile
    values: NDArray[np.int8]
    scales: NDArray[np.float32]

    @property
    def pixels(self) -> NDArray[np.float32]:
        """float32 (rows, columns, bands), NaN where a scale is not finite."""
        factors = self.scales if self.scales.ndim == 3 else self.scales[..., None]
        factors = np.where(np.isfinite(factors), factors, np.float32(np.nan))
        return self.values.astype(np.float32) * factors

    @property
    def raster(self) -> MosaicRaster:
        return MosaicRaster.of(self.descriptor)


def make_tile(
    base: Path,
    lon: float,
    lat: float,
    *,
    bands: int = 3,
    year: int = 2024,
    per_band: bool = False,
    holes: float = 0.02,
    smooth: bool = False,
    grid: GridSpec | None = None,
    dataset: tuple[str, str] = ("1.1", "cambridge"),
) -> MadeTile:
    """Write the three files of a tile: random or smooth pixels, some without a scale."""
    grid = grid or tile_footprint(lon, lat)
    rng = np.random.default_rng([round(lon * 100) % 2**16, round(lat * 100) % 2**16, year])
    shape = (grid.height, grid.width)
    values = rng.integers(-127, 128, (*shape, bands), dtype=np.int8)
    factors = (*shape, bands) if per_band else shape
    scales = rng.uniform(0.01, 0.1, factors).astype(np.float32)
    if smooth:
        row, col = np.indices(shape)
        waves = [np.sin(row / 90 + band) + np.cos(col / 70 - band) for band in range(bands)]
        values = np.round(60 * np.stack(waves, axis=-1)).astype(np.int8)
        scales[...] = np.float32(0.05)
    holed = rng.random(shape) < holes
    holed[40:90, 30:120] = True
    scales[holed] = np.where(rng.random(scales[holed].shape) < 0.5, np.nan, np.inf)
    if per_band:
        scales[rng.random(factors) < holes] = np.nan
    files = local_tile_files(base, TileId(year, lon, lat))
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    np.save(files.embedding, values)
    np.save(files.scales, scales)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": grid.crs}
    profile |= {"height": shape[0], "width": shape[1], "transform": grid.affine}
    with rasterio.open(files.landmask, "w", **profile) as dataset_file:
        dataset_file.write(np.ones((1, *shape), np.uint8))
    known = Provenance(*dataset, year)
    return MadeTile(lon, lat, grid, NpyTile(*files, provenance=known), values, scales)


def centres(grid: GridSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of every pixel centre of a grid."""
    a, _, left, _, e, top = grid.transform
    x = left + a * (np.arange(grid.width) + 0.5)
    y = top + e * (np.arange(grid.height) + 0.5)
    across, down = np.meshgrid(x, y)
    return across, down


def pixel_positions(
    grid: GridSpec, raster: GridSpec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(u, v) in a raster of every pixel centre of a grid, by PROJ."""
    x, y = centres(grid)
    if grid.crs_name != raster.crs_name:
        move = Transformer.from_crs(grid.crs_name, raster.crs_name, always_xy=True)
        x, y = move.transform(x, y)
    a, _, left, _, e, top = raster.transform
    return (x - left) / a, (y - top) / e


def owners(grid: GridSpec) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The cell of the tile grid that owns each pixel centre, and where that is beyond doubt."""
    x, y = centres(grid)
    lon, lat = x, y
    if grid.epsg != 4326:
        move = Transformer.from_crs(grid.crs_name, "EPSG:4326", always_xy=True)
        lon, lat = move.transform(x, y)
    lon = (lon + 180) % 360 - 180
    close = 1e-7 if has_exact_projection(grid.epsg) else 1e-5
    sure = np.abs(lon * 10 - np.round(lon * 10)) > close
    sure &= np.abs(lat * 10 - np.round(lat * 10)) > close
    return np.floor(lon * 10).astype(int), np.floor(lat * 10).astype(int), sure


def warped(grid: GridSpec, tile: MadeTile, method: str) -> NDArray[np.float32]:
    """A tile on a grid by GDAL, every coordinate exact, no anti-aliasing."""
    pixels = tile.pixels
    out = np.full((grid.height, grid.width, pixels.shape[2]), np.nan, np.float32)
    for band in range(pixels.shape[2]):
        plane = np.full(out.shape[:2], np.nan, np.float32)
        options: dict[str, Any] = {} if method == "nearest" else {"XSCALE": 1, "YSCALE": 1}
        reproject(
            np.ascontiguousarray(pixels[..., band]),
            plane,
            src_transform=tile.grid.affine,
            src_crs=tile.grid.crs,
            dst_transform=grid.affine,
            dst_crs=grid.crs,
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling[method],
            tolerance=0,
            **options,
        )
        out[..., band] = plane
    return out


def oracle(
    grid: GridSpec, tiles: list[MadeTile], method: str, *, cells: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The mosaic of tiles by GDAL, and the pixels where it is beyond doubt.

    The tile whose cell owns a pixel comes first, then the others in the order given; a pixel
    of a tile counts if any of its bands is valid.
    """
    bands = tiles[0].values.shape[2]
    out = np.full((grid.height, grid.width, bands), np.nan, np.float32)
    taken = np.zeros(out.shape[:2], bool)
    certain = np.ones(out.shape[:2], bool)
    column, row, sure = owners(grid)
    made = []
    close = TIE[has_exact_projection(grid.epsg)]
    for tile in tiles:
        u, v = pixel_positions(grid, tile.grid)
        with np.errstate(invalid="ignore"):
            inside = (u >= 0) & (u < tile.grid.width) & (v >= 0) & (v < tile.grid.height)
            near = (u > -1) & (u < tile.grid.width + 1) & (v > -1) & (v < tile.grid.height + 1)
            tie = (np.abs(u - np.round(u)) < close) | (np.abs(v - np.round(v)) < close)
        certain &= ~(near & tie)
        valid = ~np.isnan(tile.pixels).all(axis=2)
        at = tuple(np.where(inside, axis, 0).astype(int) for axis in (v, u))
        holds = inside & valid[at]
        picture = warped(grid, tile, method)
        if method == "bilinear":
            certain &= ~(inside & ~_far_from_holes(valid)[at])
        made.append((tile, holds, picture))
    if cells:
        certain &= sure
        for tile, holds, picture in made:
            cell = round(tile.lon * 10 - 0.5), round(tile.lat * 10 - 0.5)
            first = holds & (column == cell[0]) & (row == cell[1])
            out[first], taken[first] = picture[first], True
    for _, holds, picture in made:
        first = holds & ~taken
        out[first], taken[first] = picture[first], True
    return out, certain


def _far_from_holes(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose eight neighbours are inside the raster and valid."""
    padded = np.pad(valid, 1)
    far = np.ones(valid.shape, bool)
    for down, right in itertools.product(range(3), range(3)):
        far &= padded[down : down + valid.shape[0], right : right + valid.shape[1]]
    return far


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays hold the same bits; NaN too."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()
