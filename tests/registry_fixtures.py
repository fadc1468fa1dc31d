"""Registry files as the published ones are, small: written here with pyarrow and geopandas."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = [
    (round(-0.95 + i * 0.1, 2), round(50.05 + j * 0.1, 2)) for i in range(8) for j in range(8)
]


def sha256_of(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def rows(tiles) -> pd.DataFrame:
    frame = pd.DataFrame(tiles, columns=["year", "lon", "lat"]).astype(
        {"year": "int64", "lon": "float64", "lat": "float64"}
    )
    numbers = np.arange(len(frame))
    return frame.assign(grid_size=1000 + numbers, scales_size=100 + numbers)


def manifest_b(path: Path, tiles, version="1.1", variant="cambridge", **columns) -> Path:
    """Generation B: plain Parquet."""
    frame = rows(tiles).assign(version=version, variant=variant)
    frame["grid_path"] = "s3://bucket/tile.npy"
    frame["lon_i"] = np.rint(frame["lon"].fillna(0) * 100).astype("int32")
    frame["lat_i"] = np.rint(frame["lat"].fillna(0) * 100).astype("int32")
    frame = frame.assign(**columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return path


def registry_a(path: Path, tiles, *, integers=True, **columns) -> Path:
    """Generation A: GeoParquet with SHA-256 sums, sorted by year, lat, lon."""
    frame = rows(tiles).rename(columns={"grid_size": "file_size"})
    frame["hash"] = [sha256_of("grid", *tile) for tile in tiles]
    frame["scales_hash"] = [sha256_of("scales", *tile) for tile in tiles]
    if integers:
        frame["lon_i"] = np.rint(frame["lon"].fillna(0) * 100).astype("int32")
        frame["lat_i"] = np.rint(frame["lat"].fillna(0) * 100).astype("int32")
    return _geo(path, frame.assign(**columns).sort_values(["year", "lat", "lon"]))


def landmasks_a(path: Path, places) -> Path:
    frame = _places(places).assign(hash=[sha256_of("land", *place) for place in places])
    return _geo(path, frame.sort_values(["lat", "lon"]))


def landmasks_b(path: Path, places) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _places(places).assign(key="s3://bucket/mask.tiff").to_parquet(path, index=False)
    return path


def _places(places) -> pd.DataFrame:
    frame = pd.DataFrame(places, columns=["lon", "lat"])
    return frame.assign(file_size=50 + np.arange(len(frame)))


def _geo(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = gpd.points_from_xy(frame["lon"], frame["lat"], crs="EPSG:4326")
    gpd.GeoDataFrame(frame, geometry=points).to_parquet(path, index=False, compression="zstd")
    return path


def overlapping(tiles, box) -> list[tuple[int, float, float]]:
    """Brute force: tiles whose cell shares an area with a box, by year and unrolled longitude.

    Cells and box are compared in thousandths of a degree, so boxes must have three decimals.
    """
    west, south, east, north = (round(value * 1000) for value in box)
    if west > east:
        east += 360_000
    found = []
    for year, lon, lat in tiles:
        x, y = round(lon * 1000), round(lat * 1000)
        for turn in (-360_000, 0, 360_000):
            left = x - 50 + turn
            wide = min(east, left + 100) > max(west, left)
            high = min(north, y + 50) > max(south, y - 50)
            if west == east:
                wide = left <= west < left + 100
            if south == north:
                high = y - 50 <= south < y + 50
            if wide and high:
                found.append((year, left, y, (year, lon, lat)))
                break
    return [tile for *_, tile in sorted(found)]
