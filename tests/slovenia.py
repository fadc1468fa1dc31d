"""A tile made from a real Sentinel-2 cube: 128 features a pixel, quantised as published tiles are.

The cube is a patch of 101 × 100 pixels in tile grid_14.55_45.85, seen at 68 dates. Its pixels
are put where they are on the ground, on the raster that a published tile has there; the rest of
that raster holds no embedding (scale NaN).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
import shapely

import realdata
from geotessera.datasets import Mirror, tile_to_embedding_paths, tile_to_landmask_filename
from geotessera.grid import tile_footprint
from geotessera.layout import TileFiles
from geotessera.testing.registries import write_registries
from geotessera.testing.world import WorldTile
from geotessera.types import TileId

if TYPE_CHECKING:
    from geotessera.types import GridSpec

TILE = TileId(2017, 14.55, 45.85)
FOLDER = "imagery/s2_slovenia"

CLASSES = (2, 3, 4, 8)
"""Forest, grassland, schrubland, artificial surface: those with more than a hundred pixels."""


@dataclass(frozen=True)
class Patch:
    """The cube as an embedding.

    Parameters
    ----------
    features : ndarray of float32, shape (101, 100, 128)
        What was quantised.
    values, scales : ndarray
        int8 (101, 100, 128) and float32 (101, 100): ``features ≈ values · scales``.
    row, col : int
        Its first pixel in the tile's raster.
    offset : tuple of float
        By how many pixels (row, column) its centre lies off the place it is put at. Its
        pixels are 9.998 × 9.995 m, so that off the centre up to 0.26 pixels are added.
    labels : ndarray of int
        Land-cover class of the polygon that holds the pixel's centre, 0 for none.
    raster_labels : ndarray of int
        The data set's own rasterised classes.
    """

    features: np.ndarray
    values: np.ndarray
    scales: np.ndarray
    row: int
    col: int
    offset: tuple[float, float]
    labels: np.ndarray
    raster_labels: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.scales.shape
        return slice(self.row, self.row + height), slice(self.col, self.col + width)

    def embedding(self) -> np.ndarray:
        """What the quantised patch means, by NumPy."""
        return self.values.astype(np.float32) * self.scales[..., None]

    def centres(self, grid: GridSpec) -> tuple[np.ndarray, np.ndarray]:
        """Easting and northing of the pixels' centres, in metres."""
        rows, cols = np.mgrid[self.window]
        a, _, c, _, e, f = grid.transform
        return c + a * (cols + 0.5), f + e * (rows + 0.5)


def features() -> np.ndarray:
    """Thirteen bands at five dates, and NDVI at the other 63: float64 (row, column, 128)."""
    folder = realdata.path(FOLDER)
    scenes = np.load(folder / "REFERENCE_SCENES.npy").astype(np.float64)
    ndvi = np.load(folder / "NDVI.npy")[..., 0].astype(np.float64)
    # NDVI at the scenes' dates is a function of two of their bands: it adds nothing.
    red, nir = scenes[..., 3], scenes[..., 7]
    of_scenes = (nir - red) / (nir + red)
    repeated = {
        date
        for one in of_scenes
        for date in range(len(ndvi))
        if np.allclose(ndvi[date], one, atol=1e-3)
    }
    others = [date for date in range(len(ndvi)) if date not in repeated]
    height, width = ndvi.shape[1:]
    bands = scenes.transpose(1, 2, 0, 3).reshape(height, width, -1)
    return np.concatenate([bands, ndvi[others].transpose(1, 2, 0)], axis=2)


def make_patch() -> Patch:
    """Standardise, quantise and place the cube."""
    folder = realdata.path(FOLDER)
    cube = features()
    # The mean and spread of real embeddings' bands, so that scales are as published ones are.
    real = json.loads(realdata.path("embedding_stats/solar_unet_stats.json").read_text())
    unit = (cube - cube.mean((0, 1))) / cube.std((0, 1))
    scaled = (unit * np.array(real["std"]) + np.array(real["mean"])).astype(np.float32)
    scales = np.abs(scaled).max(axis=2) / np.float32(127)
    values = np.rint(scaled / scales[..., None]).astype(np.int8)

    grid = tile_footprint(TILE.lon, TILE.lat)
    corners = json.loads((folder / "bbox.geojson").read_text())["coordinates"][0]
    east, north = np.mean([np.min(corners, axis=0), np.max(corners, axis=0)], axis=0)
    a, _, c, _, e, f = grid.transform
    height, width = scales.shape
    exact = (north - f) / e - height / 2, (east - c) / a - width / 2
    row, col = round(exact[0]), round(exact[1])
    unlabelled = Patch(
        scaled, values, scales, row, col, (exact[0] - row, exact[1] - col),
        np.zeros((height, width), int), np.load(folder / "LULC.npy")[..., 0].astype(int),
    )  # fmt: skip
    polygons = gpd.read_file(folder / "LULC.gpkg")
    polygons = polygons[polygons["LULC_ID"].isin(CLASSES)]
    points = shapely.points(*(axis.ravel() for axis in unlabelled.centres(grid)))
    point, polygon = shapely.STRtree(polygons.geometry.to_numpy()).query(points, "within")
    unlabelled.labels.ravel()[point] = polygons["LULC_ID"].to_numpy()[polygon]
    return unlabelled


def write_mirrors(directory: Path, patch: Patch) -> dict[str, Path]:
    """Write the tile in the layouts of both generations; return their roots."""
    grid = tile_footprint(TILE.lon, TILE.lat)
    mirrors = {
        one: Mirror(str(directory / one), "1.1", "cambridge", layout=one) for one in ("B", "A")
    }
    files = {name: _files(mirror) for name, mirror in mirrors.items()}
    for path in (*files["A"], *files["B"]):
        path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((grid.height, grid.width, 128), np.int8)
    values[patch.window] = patch.values
    np.save(files["B"].embedding, values)
    scales = np.full((grid.height, grid.width), np.nan, np.float32)
    scales[patch.window] = patch.scales
    np.save(files["B"].scales, scales)
    with rasterio.open(
        files["B"].landmask, "w", driver="GTiff", count=1, dtype="uint8", compress="lzw",
        height=grid.height, width=grid.width, crs=grid.crs, transform=grid.affine,
    ) as mask:  # fmt: skip
        mask.write(np.ones((1, grid.height, grid.width), np.uint8))
    for target, source in zip(files["A"], files["B"], strict=True):
        target.hardlink_to(source)
    whole = WorldTile(
        TILE,
        grid,
        files["B"],
        tuple(path.stat().st_size for path in files["B"]),
        tuple(_sha256(path) for path in files["B"]),
        1_500_000_000,
    )
    for mirror in mirrors.values():
        write_registries(mirror, [whole])
    return {name: directory / name for name in mirrors}


def _files(mirror: Mirror) -> TileFiles:
    embedding, scales = tile_to_embedding_paths(TILE.lon, TILE.lat, TILE.year)
    landmask = mirror.landmask_url(tile_to_landmask_filename(TILE.lon, TILE.lat))
    return TileFiles(
        Path(mirror.tile_url(embedding)), Path(mirror.tile_url(scales)), Path(landmask)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lon_lat(patch: Patch) -> np.ndarray:
    """The pixels' centres in WGS84 degrees by PROJ, shape (101, 100, 2)."""
    grid = tile_footprint(TILE.lon, TILE.lat)
    to_degrees = pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    return np.stack(to_degrees.transform(*patch.centres(grid)), axis=-1)
