"""Real-size data for the benchmarks: nine tiles near 52° N and a planet's registry.

Written with the peer-neutral libraries only, so that both packages read the same bytes.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from rasterio.transform import Affine

from geotessera.grid import tile_footprint, tile_key, tile_to_grid_name

CENTRES = [(lon, lat) for lon in (0.05, 0.15, 0.25) for lat in (52.15, 52.25, 52.35)]
PLANET_ROWS = 4_600_000


def build(world: Path) -> None:
    """Write the benchmark world, or reuse it where it is complete."""
    marker = world / "complete"
    if marker.exists():
        return
    shutil.rmtree(world, ignore_errors=True)
    _tiles(world / "tiles")
    _planet(world / "planet")
    marker.touch()


def _tiles(root: Path) -> None:
    rng = np.random.default_rng(0)
    masks = root / "global_0.1_degree_tiff_all"
    masks.mkdir(parents=True)
    sizes = []
    for lon, lat in CENTRES:
        grid = tile_footprint(lon, lat)
        shape = (grid.height, grid.width)
        name = tile_to_grid_name(lon, lat)
        directory = root / "global_0.1_degree_representation" / "2024" / name
        directory.mkdir(parents=True)
        # A random walk along rows: neighbouring pixels resemble each other, as real ones do.
        steps = rng.integers(-2, 3, (*shape, 128), dtype=np.int8)
        walk = np.cumsum(steps, axis=1, dtype=np.int16) // 4
        np.save(directory / f"{name}.npy", np.clip(walk, -127, 127).astype(np.int8))
        scales = (0.04 + 0.03 * rng.random(shape)).astype(np.float32)
        np.save(directory / f"{name}_scales.npy", scales)
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "lzw"}
        profile |= {"height": shape[0], "width": shape[1], "crs": f"EPSG:{grid.epsg}"}
        path = masks / f"{name}.tiff"
        with rasterio.open(path, "w", transform=Affine(*grid.transform), **profile) as mask:
            mask.write(np.ones((1, *shape), np.uint8))
        sizes.append((128 + shape[0] * shape[1] * 128, 128 + shape[0] * shape[1] * 4))
    lon, lat = (np.array(axis) for axis in zip(*CENTRES, strict=True))
    _registries(root, np.full(len(lon), 2024), lon, lat, np.array(sizes))


def _planet(root: Path) -> None:
    """A registry of published proportions: 1.6 M tiles of 2024, 0.38 M of the other years."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(3)
    columns, rows = np.meshgrid(np.arange(3600), np.arange(1800), indexing="ij")
    continents = rng.random((36, 18))
    continents[18, 14] = 0  # the queried city, 0° to 10° E and 50° to 60° N, is on land
    land = continents.repeat(100, 0).repeat(100, 1)
    order = np.argsort(land.ravel(), kind="stable")[: 3600 * 1800 // 4]
    lon = np.round(columns.ravel()[order] / 10 - 179.95, 2)
    lat = np.round(rows.ravel()[order] / 10 - 89.95, 2)
    city = (np.abs(lon - 0.15) < 0.2) & (np.abs(lat - 52.25) < 0.2)
    counts = {2024: 1_590_000} | dict.fromkeys((2017, 2018, 2019, 2020, 2021), 376250)
    counts |= dict.fromkeys((2022, 2023, 2025), 376250)
    chosen = []
    for year in sorted(counts):
        some = np.sort(rng.choice(len(lon), counts[year], replace=False))
        some = np.union1d(some, np.flatnonzero(city)) if year == 2024 else some
        some = some[np.lexsort((lat[some], lon[some]))]
        chosen.append((np.full(len(some), year), some))
    years = np.concatenate([year for year, _ in chosen])
    index = np.concatenate([some for _, some in chosen])
    sizes = np.full((len(index), 2), (106_000_000, 3_300_000))
    _registries(root, years, lon[index], lat[index], sizes)


def _registries(root: Path, years, lon, lat, sizes) -> None:  # type: ignore[no-untyped-def]
    count = len(years)
    stamp = pa.array(np.full(count, np.datetime64("2025-06-01", "us")), pa.timestamp("us", "UTC"))
    keys_lon = np.array([tile_key(x) for x in lon], np.int32)
    keys_lat = np.array([tile_key(y) for y in lat], np.int32)
    names = [
        f"s3://bucket/npy/{y}/{tile_to_grid_name(a, b)}"
        for y, a, b in zip(years, lon, lat, strict=True)
    ]
    table = pa.table(
        {
            "version": pa.array(["1.1"] * count),
            "variant": pa.array(["cambridge"] * count),
            "year": years.astype(np.int64),
            "lon": lon,
            "lat": lat,
            "directory": pa.array(names),
            "grid_path": pa.array([f"{name}/x.npy" for name in names]),
            "scales_path": pa.array([f"{name}/x_scales.npy" for name in names]),
            "grid_mtime": stamp,
            "scales_mtime": stamp,
            "grid_size": sizes[:, 0],
            "scales_size": sizes[:, 1],
            "lon_i": keys_lon,
            "lat_i": keys_lat,
        }
    )
    pq.write_table(table, root / "manifest.parquet", compression="zstd")
    _, first = np.unique(np.c_[keys_lon, keys_lat], axis=0, return_index=True)
    table = pa.table(
        {
            "lon": lon[first],
            "lat": lat[first],
            "file_size": np.full(len(first), 9000),
            "mtime": stamp.take(pa.array(first)),
            "key": pa.array([f"s3://bucket/{i}" for i in first]),
            "lon_i": keys_lon[first],
            "lat_i": keys_lat[first],
        }
    )
    pq.write_table(table, root / "landmasks.parquet", compression="zstd")
