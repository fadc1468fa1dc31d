"""The sample world: its layout, its registries, and that it hangs together."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from pyproj import Transformer

from geotessera.errors import InputError
from geotessera.testing import SampleWorld, WorldTile

if TYPE_CHECKING:
    from pathlib import Path

NAME = "grid_24.05_83.65"


def test_layouts(small_world: SampleWorld) -> None:
    tile = f"2024/{NAME}/{NAME}"
    paths = {
        "B": (f"npy/v1.1-cam/{tile}", f"landmasks/v1.1/{NAME}.tiff"),
        "A": (
            f"v1.1/global_0.1_degree_representation/{tile}",
            f"v1.1/global_0.1_degree_tiff_all/{NAME}.tiff",
        ),
        "A-simple": (f"v1.1/{tile}", f"v1.1/landmasks/{NAME}.tiff"),
    }
    inodes = set()
    for generation, (embedding, landmask) in paths.items():
        root = small_world.directory / generation
        assert small_world.root(generation) == root  # type: ignore[arg-type]
        values = np.load(root / f"{embedding}.npy", mmap_mode="r")
        scales = np.load(root / f"{embedding}_scales.npy", mmap_mode="r")
        assert values.dtype == np.int8
        assert scales.dtype == np.float32
        assert values.shape == (*scales.shape, 8)
        with rasterio.open(root / landmask) as dataset:
            assert dataset.shape == scales.shape
            assert dataset.dtypes == ("uint8",)
        inodes.add((root / f"{embedding}.npy").stat().st_ino)
    assert len(inodes) == 1  # one copy of the pixels


def test_footprints(small_world: SampleWorld) -> None:
    """Size and corner follow from the projected cell, by PROJ."""
    for one in small_world.tiles:
        _, lon, lat = one.tile
        zone = int((lon + 180) // 6) + 1
        epsg = (32600 if lat >= 0 else 32700) + zone
        project = Transformer.from_crs(4326, epsg, always_xy=True).transform
        west, east = (
            project([lon - 0.05] * 2, [lat - 0.05, lat + 0.05]),
            project([lon + 0.05] * 2, [lat - 0.05, lat + 0.05]),
        )
        left, right = min(west[0]), max(east[0])
        top, bottom = max(west[1][1], east[1][1]), min(west[1][0], east[1][0])
        with rasterio.open(one.files.landmask) as dataset:
            assert dataset.crs.to_epsg() == epsg
            assert dataset.transform.c == pytest.approx(left, abs=1e-5)
            assert dataset.transform.f == pytest.approx(top, abs=1e-5)
            assert dataset.transform.a == -dataset.transform.e == 10
            assert dataset.shape == (round((top - bottom) / 10), round((right - left) / 10))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("generation", ["A", "A-simple"])
def test_registry_a(small_world: SampleWorld, generation: Any) -> None:
    root = small_world.root(generation) / "v1.1"
    tiles = gpd.read_parquet(root / "registry.parquet")
    assert tiles.crs == "EPSG:4326"
    assert {name: str(kind) for name, kind in tiles.dtypes.items()} == {
        "lat": "float64",
        "lon": "float64",
        "year": "int64",
        "hash": "str",
        "scales_hash": "str",
        "mtime": "datetime64[ns]",
        "file_size": "int64",
        "scales_size": "int64",
        "lon_i": "int32",
        "lat_i": "int32",
        "geometry": "geometry",
    }
    order = list(zip(tiles.year, tiles.lat, tiles.lon, strict=True))
    assert order == sorted(order)
    assert len(order) == 9
    base = root / "global_0.1_degree_representation" if generation == "A" else root
    for row in tiles.itertuples():
        name = f"grid_{row.lon:.2f}_{row.lat:.2f}"
        path = base / str(row.year) / name / f"{name}.npy"
        assert (row.hash, row.file_size) == (sha256(path), path.stat().st_size)
        assert row.mtime == pd.Timestamp(path.stat().st_mtime, unit="s")
        scales = path.with_name(f"{name}_scales.npy")
        assert (row.scales_hash, row.scales_size) == (sha256(scales), scales.stat().st_size)
        assert (row.lon_i, row.lat_i) == (round(row.lon * 100), round(row.lat * 100))
        assert (row.geometry.x, row.geometry.y) == (row.lon, row.lat)
    masks = gpd.read_parquet(root / "landmasks.parquet")
    assert list(masks) == ["lat", "lon", "hash", "file_size", "lon_i", "lat_i", "geometry"]
    where = root / ("global_0.1_degree_tiff_all" if generation == "A" else "landmasks")
    for row in masks.itertuples():
        path = where / f"grid_{row.lon:.2f}_{row.lat:.2f}.tiff"
        assert (row.hash, row.file_size) == (sha256(path), path.stat().st_size)


def test_registry_b(small_world: SampleWorld) -> None:
    root = small_world.root("B")
    table = pq.read_table(root / "npy/v1.1-cam/manifest.parquet")
    assert b"geo" not in (table.schema.metadata or {})
    assert {field.name: str(field.type) for field in table.schema} == {
        "version": "string",
        "variant": "string",
        "year": "int64",
        "lon": "double",
        "lat": "double",
        "directory": "string",
        "grid_path": "string",
        "scales_path": "string",
        "grid_mtime": "timestamp[ms, tz=UTC]",
        "scales_mtime": "timestamp[ms, tz=UTC]",
        "grid_size": "int64",
        "scales_size": "int64",
        "lon_i": "int32",
        "lat_i": "int32",
    }
    rows = table.to_pylist()
    assert [(r["year"], r["lon"], r["lat"]) for r in rows] == sorted(
        tuple(one.tile) for one in small_world.tiles
    )
    for row in rows:
        path = root / row["grid_path"].split("/tessera/tessera/")[1]
        assert row["grid_size"] == path.stat().st_size
        assert row["scales_path"] == row["grid_path"].replace(".npy", "_scales.npy")
    masks = pq.read_table(root / "landmasks/v1.1/landmasks.parquet").to_pylist()
    assert list(masks[0]) == ["lon", "lat", "file_size", "mtime", "key", "lon_i", "lat_i"]
    assert len(masks) == 7


def test_same_seed_same_bytes(tiny_world: SampleWorld, tmp_path: Path) -> None:
    again = SampleWorld.build(tmp_path / "again", size="tiny")
    assert [one.hashes for one in again.tiles] == [one.hashes for one in tiny_world.tiles]
    other = SampleWorld.build(tmp_path / "other", size="tiny", seed=1)
    assert all(
        a.hashes[0] != b.hashes[0] for a, b in zip(other.tiles, tiny_world.tiles, strict=True)
    )


def test_years_share_the_land(small_world: SampleWorld) -> None:
    old, new = small_world.tile(24.05, 83.65, 2023), small_world.tile(24.05, 83.65, 2024)
    assert old.files.landmask == new.files.landmask
    assert (old.values() != new.values()).mean() > 0.3


def snapped_origin(one: WorldTile) -> tuple[int, int]:
    transform = one.grid.transform
    return round(transform[2] // 10), round(-(-transform[5] // 10))


def test_neighbours_agree_where_they_overlap(small_world: SampleWorld) -> None:
    """In one zone the pixels of a sliver are the same ground, so the same numbers."""
    upper, lower = small_world.tile(24.05, 83.75), small_world.tile(24.05, 83.65)
    (x0, y0), (x1, y1) = snapped_origin(upper), snapped_origin(lower)
    assert upper.grid.epsg == lower.grid.epsg
    shared = y0 - upper.grid.height, y1  # bottom of the upper one, top of the lower one
    left, right = max(x0, x1), min(x0 + upper.grid.width, x1 + lower.grid.width)
    assert shared[1] > shared[0]
    rows = shared[1] - shared[0]
    for name in ("values", "scales", "mask"):
        above, below = getattr(upper, name)(), getattr(lower, name)()
        np.testing.assert_array_equal(
            above[upper.grid.height - rows :, left - x0 : right - x0],
            below[:rows, left - x1 : right - x1],
        )


def test_zones_meet(small_world: SampleWorld) -> None:
    """Across the seam pixels differ, land and embeddings do not (much)."""
    west, east = small_world.tile(23.95, 83.65), small_world.tile(24.05, 83.65)
    assert (west.grid.epsg, east.grid.epsg) == (32634, 32635)
    lon, lat = np.full(400, 24.0), np.linspace(83.605, 83.695, 400)
    sampled = []
    for one in (west, east):
        x, y = Transformer.from_crs(4326, one.grid.epsg, always_xy=True).transform(lon, lat)
        left, top = snapped_origin(one)
        row, col = np.floor(top - y / 10).astype(int), np.floor(x / 10 - left).astype(int)
        sampled.append((one.embedding()[row, col], one.mask()[row, col]))
    (a, land_a), (b, land_b) = sampled
    assert (land_a == land_b).mean() > 0.95
    both = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    assert both.mean() > 0.5
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine[both]) > 0.95


def test_looks_like_embeddings(small_world: SampleWorld) -> None:
    one = small_world.tile(23.95, 83.75)
    values, scales, mask = one.values(), one.scales(), one.mask()
    finite = np.isfinite(scales)
    assert 0.9 < finite.mean() < 1
    assert 0.02 < np.median(scales[finite]) < 0.09
    assert (np.abs(values[finite].astype(int)).max(axis=1) == 127).all()
    assert set(np.unique(mask)) <= {0, 1}
    right = np.corrcoef(values[:, 1:, 0].ravel(), values[:, :-1, 0].ravel())[0, 1]
    assert right > 0.7  # terrain, not white noise
    water = [(other.mask() == 0).mean() for other in small_world.tiles]
    assert 0.02 < np.mean(water) < 0.8


def test_truth_is_plain_numpy(tiny_world: SampleWorld) -> None:
    one = tiny_world.tile(24.0, 83.61)
    assert one.tile == (2024, 24.05, 83.65)
    embedding = one.embedding()
    row, col = np.argwhere(np.isfinite(one.scales()))[5]
    assert embedding[row, col, 2] == np.float32(one.values()[row, col, 2]) * one.scales()[row, col]
    with pytest.raises(KeyError, match="no tile"):
        tiny_world.tile(0, 0)


def test_checkout(small_world: SampleWorld, tmp_path: Path) -> None:
    small_world.checkout(tmp_path, [(2024, 24.05, 83.65)])
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert found == [
        f"global_0.1_degree_representation/2024/{NAME}/{NAME}.npy",
        f"global_0.1_degree_representation/2024/{NAME}/{NAME}_scales.npy",
        f"global_0.1_degree_tiff_all/{NAME}.tiff",
    ]


def test_faults(tmp_path: Path) -> None:
    places = [(2024, lon, 83.65) for lon in (20.85, 20.95, 21.05, 21.15)]
    faults = dict(
        zip(
            [(lon, lat) for _, lon, lat in places],
            ("missing-file", "truncated", "corrupt-scales", "all-water"),
            strict=True,
        )
    )
    world = SampleWorld.build(
        tmp_path, size="tiny", bands=2, tiles=places, faults=faults, generation=["B", "A"]
    )
    gone, short, corrupt, wet = world.tiles
    registry = gpd.read_parquet(tmp_path / "A/v1.1/registry.parquet")
    assert len(registry) == 4
    for generation in ("npy/v1.1-cam", "v1.1/global_0.1_degree_representation"):
        side = "B" if generation.startswith("npy") else "A"
        assert not list((tmp_path / side / generation).rglob("grid_20.85_83.65.npy"))
        (cut,) = (tmp_path / side / generation).rglob("grid_20.95_83.65.npy")
        assert cut.stat().st_size == short.sizes[0] // 2
    assert not gone.files.embedding.exists()
    assert corrupt.scales()[0, :3].tolist() == pytest.approx([1e30, -0.05, 0])
    assert np.isinf(corrupt.scales()[0, 3])
    assert not wet.mask().any()
    masks = gpd.read_parquet(tmp_path / "A/v1.1/landmasks.parquet")
    assert 21.15 not in masks.lon.to_list()
    with pytest.raises(InputError, match="without a tile"):
        SampleWorld.build(tmp_path / "x", size="tiny", faults={(0.05, 0.05): "truncated"})


def test_geoparquet_metadata(small_world: SampleWorld) -> None:
    path = small_world.root("A") / "v1.1/landmasks.parquet"
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == ["Point"]
