"""Tiles on disk: discovery, look-up and pixels, against NumPy, rasterio and PROJ."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.coords import BoundingBox
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from geotessera import tiles
from geotessera.errors import FormatError
from geotessera.export import export_tile
from geotessera.layout import geotiff_identity, local_tile_files, npy_identity
from geotessera.tiles import (
    Tile,
    discover_formats,
    discover_geotiff_tiles,
    discover_npy_tiles,
    discover_tiles,
    tile_for_coord,
    tiles_for_coords,
)
from geotessera.types import TileId

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

WEST, EAST = TileId(2024, 23.95, 83.65), TileId(2024, 24.05, 83.65)
REPRESENTATION = "global_0.1_degree_representation"


@pytest.fixture
def base(tiny_world: SampleWorld, tmp_path: Path) -> Path:
    """Two NPY tiles in the local layout; files are links, so replace them, never write."""
    return tiny_world.checkout(tmp_path / "base")


def export(tile: Tile, path: Path, **options: Any) -> Path:
    where = TileId(tile.year, tile.lon, tile.lat)
    return export_tile(tile.source(), path, tile=where, **options)


def get(base: Path, tile: TileId = WEST) -> Tile:
    found = tile_for_coord(base, tile.lon, tile.lat, tile.year)
    assert found is not None
    return found


def test_attributes(base: Path, tiny_world: SampleWorld) -> None:
    tile, truth = get(base), tiny_world.tiles[0]
    assert (tile.year, tile.lon, tile.lat) == truth.tile
    with rasterio.open(truth.files.landmask) as mask:
        assert isinstance(tile.crs, CRS)
        assert tile.crs == mask.crs
        assert isinstance(tile.transform, Affine)
        assert tile.transform == mask.transform
        assert isinstance(tile.bounds, BoundingBox)
        assert tile.bounds == mask.bounds
        assert (tile.height, tile.width) == mask.shape
    assert tile.band_count == 4
    assert tile.grid_name == "grid_23.95_83.65"
    assert repr(tile) == "Tile(lon=23.95, lat=83.65, year=2024, format=npy)"
    tile.crs = "mine"  # plain attributes may be replaced
    assert tile.crs == "mine"


def test_signatures() -> None:
    parameters = {
        tiles.discover_tiles: ["directory"],
        tiles.discover_npy_tiles: ["base_dir"],
        tiles.discover_geotiff_tiles: ["directory"],
        tiles.discover_formats: ["directory"],
        tiles.tile_for_coord: ["base_dir", "lon", "lat", "year"],
        tiles.tiles_for_coords: ["base_dir", "coords", "year"],
        Tile: ["lon", "lat", "year"],
        Tile.from_npy: ["embedding_path", "base_dir"],
        Tile.from_geotiff: ["geotiff_path"],
        Tile.iter_blocks: ["self", "rows"],
        Tile.is_available: ["self", "require_landmask"],
    }
    for function, names in parameters.items():
        assert list(inspect.signature(function).parameters) == names


def test_equality() -> None:
    tile = Tile(0.15, 52.25, 2024)
    assert tile == Tile(0.15, 52.25, 2024)
    assert hash(tile) == hash(Tile(0.15, 52.25, 2024))
    assert tile != Tile(0.15, 52.25, 2023)
    assert tile.__eq__("grid_0.15_52.25") is NotImplemented
    assert (tile == 3) is False
    assert tile != (2024, 0.15, 52.25)


def test_plain_tile() -> None:
    tile = Tile(0.15, 52.25, 2024)
    names = ("crs", "transform", "bounds", "height", "width", "band_count")
    assert [getattr(tile, name) for name in names] == [None] * 6
    assert not tile.is_available()
    with pytest.raises(ValueError, match="no files"):
        tile.load_embedding()


def test_load_npy(base: Path, tiny_world: SampleWorld) -> None:
    loaded = get(base).load_embedding()
    assert loaded.dtype == np.float32
    expected = tiny_world.tiles[0].embedding()
    np.testing.assert_array_equal(loaded.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("rows", [1000, 128, 77])
@pytest.mark.parametrize("kind", ["npy", "geotiff"])
def test_iter_blocks(base: Path, tmp_path: Path, rows: int, kind: str) -> None:
    tile = get(base)
    if kind == "geotiff":
        tile = Tile.from_geotiff(export(tile, tmp_path / "grid_23.95_83.65_2024.tiff"))
    blocks = list(tile.iter_blocks(rows))
    assert [top for top, _ in blocks] == list(range(0, 1121, rows))
    assert {block.dtype for _, block in blocks} == {np.dtype(np.float32)}
    joined = np.concatenate([block for _, block in blocks])
    np.testing.assert_array_equal(joined, get(base).load_embedding())


def test_iter_blocks_are_bounded(base: Path) -> None:
    for path in (base / REPRESENTATION).rglob("*.npy"):
        values = np.load(path, mmap_mode="r")
        if values.ndim == 3:
            path.unlink()
            np.save(path, np.zeros((*values.shape[:2], 512), np.int8))
    _, block = next(get(base).iter_blocks(1000))
    assert block.nbytes <= 64 * 2**20
    assert len(block) == 64 * 2**20 // (180 * 512 * 4)


@pytest.mark.parametrize("rows", [0, -1])
def test_iter_blocks_refuses(base: Path, rows: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        list(get(base).iter_blocks(rows))


def test_geotiff_nodata_is_masked_everywhere(tmp_path: Path) -> None:
    data = np.ones((3, 60, 50), np.float32)
    data[:, 5, 6] = -1
    path = tmp_path / "grid_0.15_52.25_2024.tif"
    profile = {"driver": "GTiff", "height": 60, "width": 50, "count": 3, "dtype": "float32"}
    transform = Affine(10, 0, 305000, 0, -10, 5790000)
    with rasterio.open(
        path, "w", **profile, crs=CRS.from_epsg(32631), transform=transform, nodata=-1
    ) as dataset:
        dataset.write(data)
    tile = Tile.from_geotiff(path)
    assert np.isnan(tile.load_embedding()[5, 6]).all()
    assert np.isnan(next(tile.iter_blocks())[1][5, 6]).all()
    point = Transformer.from_crs(32631, 4326, always_xy=True).transform(305065, 5789945)
    assert np.isnan(tile.sample_at_point(*point)).all()
    assert np.isnan(tile.load_embedding()).sum() == 3


def points_of(tile: Tile, count: int = 500) -> np.ndarray[Any, Any]:
    west, south, east, north = transform_bounds(tile.crs, "EPSG:4326", *tile.bounds)
    rng = np.random.default_rng(7)
    margin = 0.01
    return np.column_stack(
        [
            rng.uniform(west - margin, east + margin, count),
            rng.uniform(south - margin / 8, north + margin / 8, count),
        ]
    )


def nearest(tile: Tile, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sample by PROJ and NumPy."""
    data = tile.load_embedding()
    x, y = Transformer.from_crs(4326, tile.crs.to_wkt(), always_xy=True).transform(*points.T)
    col, row = ~tile.transform @ (x, y)
    row, col = np.floor(row).astype(int), np.floor(col).astype(int)
    inside = (row >= 0) & (col >= 0) & (row < data.shape[0]) & (col < data.shape[1])
    assert 0.2 < inside.mean() < 1
    values = np.full((len(points), data.shape[2]), np.nan, np.float32)
    values[inside] = data[row[inside], col[inside]]
    return values


@pytest.mark.parametrize("kind", ["npy", "geotiff", "other CRS"])
def test_sample_points(base: Path, tmp_path: Path, kind: str) -> None:
    tile = get(base)
    path = tmp_path / "grid_23.95_83.65_2024.tiff"
    if kind == "geotiff":
        tile = Tile.from_geotiff(export(tile, path))
    if kind == "other CRS":
        crs = CRS.from_proj4("+proj=laea +lat_0=83 +lon_0=20 +datum=WGS84 +units=m")
        data = np.random.default_rng(0).normal(size=(2, 300, 200)).astype(np.float32)
        profile = {"driver": "GTiff", "height": 300, "width": 200, "count": 2, "dtype": "float32"}
        transform = Affine(20, 0, 50000, 0, -20, 90000)
        with rasterio.open(path, "w", **profile, crs=crs, transform=transform) as dataset:
            dataset.write(data)
        tile = Tile.from_geotiff(path)
    points = points_of(tile)
    expected = nearest(tile, points)
    found = tile.sample_points(points)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tile.sample_points([tuple(p) for p in points[:5]]), expected[:5])
    np.testing.assert_array_equal(tile.sample_at_point(*points[3]), expected[3])


def test_sample_no_points(base: Path) -> None:
    assert get(base).sample_points([]).shape == (0, 4)
    assert np.isnan(get(base).sample_at_point(9, 9)).all()
    with pytest.raises(ValueError, match="pairs"):
        get(base).sample_points([(1, 2, 3)])  # type: ignore[list-item]


def test_sampling_from_many_threads(base: Path, tmp_path: Path) -> None:
    for tile in (
        get(base),
        Tile.from_geotiff(export(get(base), tmp_path / "grid_23.95_83.65_2024.tif")),
    ):
        points = points_of(tile)
        expected = nearest(tile, points)
        fresh = pickle.loads(pickle.dumps(tile))
        with ThreadPoolExecutor(6) as pool:
            for found in pool.map(fresh.sample_points, [points] * 12):
                np.testing.assert_array_equal(found, expected)


def test_to_dict(base: Path) -> None:
    tile = get(base)
    found = tile.to_dict()
    data = found.pop("data")
    np.testing.assert_array_equal(data, tile.load_embedding())
    assert found == {
        "path": "grid_23.95_83.65",
        "crs": tile.crs,
        "transform": tile.transform,
        "bounds": tile.bounds,
        "height": 1121,
        "width": 180,
    }


@given(lon=st.floats(0, 0.3), lat=st.floats(52.1, 52.4))
def test_every_point_lies_in_one_cell(lon: float, lat: float) -> None:
    centres = (0.05, 0.15, 0.25, 0.35), (52.05, 52.15, 52.25, 52.35, 52.45)
    cells = [Tile(x, y, 2024) for x in centres[0] for y in centres[1]]
    assert sum(cell.contains_point(lon, lat) for cell in cells) == 1


def test_contains_point_edges() -> None:
    tile = Tile(0.15, 52.25, 2024)
    assert tile.contains_point(0.1, 52.2)
    assert not tile.contains_point(0.2, 52.25)
    assert not tile.contains_point(0.15, 52.3)
    assert not tile.contains_point(200, 0)
    assert not tile.contains_point(float("nan"), 0)
    assert Tile(0.151, 52.25, 2024).contains_point(0.2, 52.25)  # a raster that is no cell


# --- Files -------------------------------------------------------------------------------


def test_is_available(base: Path) -> None:
    tile = get(base)
    assert tile.is_available()
    local_tile_files(base, WEST).landmask.unlink()
    assert not tile.is_available()
    assert tile.is_available(require_landmask=False)
    local_tile_files(base, WEST).scales.unlink()
    assert not tile.is_available(require_landmask=False)


def test_from_npy(base: Path) -> None:
    files = local_tile_files(base, WEST)
    files.scales.unlink()
    tile = Tile.from_npy(files.embedding, base)  # missing scales are noticed on load
    assert tile.height == 1121
    with pytest.raises(FileNotFoundError):
        tile.load_embedding()
    files.landmask.unlink()
    with pytest.raises(FileNotFoundError, match="no landmask"):
        Tile.from_npy(files.embedding, base)


@pytest.mark.parametrize(
    "path",
    [
        "2024/tile/tile.npy",
        "20245/grid_0.15_52.25/grid_0.15_52.25.npy",
        "data/grid_0.15_52.25/grid_0.15_52.25.npy",
        "2024/grid_0.15_52.25/grid_0.15_52.25_scales.npy",
        "grid_0.15_52.25.npy",
        "2024/grid_15_52/grid_15_52.npy",
    ],
)
def test_from_npy_refuses(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"grid_<lon>_<lat>"):
        Tile.from_npy(tmp_path / path, tmp_path)
    assert npy_identity(path) is None


def test_from_geotiff_names(base: Path, tmp_path: Path) -> None:
    path = export(get(base), tmp_path / "grid_23.95_83.65_2024.tiff", bands=[1, 0])
    tile = Tile.from_geotiff(path)
    assert (tile.year, tile.lon, tile.lat) == WEST
    assert (tile.band_count, tile.height, tile.width) == (2, 1121, 180)
    assert tile.crs == get(base).crs
    assert repr(tile).endswith("format=geotiff)")
    assert geotiff_identity("grid_-0.15_52.25_2024.tif") == (2024, -0.15, 52.25)
    assert geotiff_identity("grid_-0.15_52.25.tif") is None
    assert geotiff_identity("grid_-0.15_52.25_2024_pca.tiff") is None


def test_from_geotiff_tags(base: Path, tmp_path: Path) -> None:
    """Without a telling name: the year's tag, and the position of the centre pixel."""
    tile = Tile.from_geotiff(export(get(base), tmp_path / "mine.tif", bands=[0]))
    assert tile.year == 2024
    with rasterio.open(tmp_path / "mine.tif") as dataset:
        x, y = dataset.xy(dataset.height // 2, dataset.width // 2)
        lon, lat = Transformer.from_crs(dataset.crs, 4326, always_xy=True).transform(x, y)
    assert (tile.lon, tile.lat) == pytest.approx((lon, lat), abs=1e-9)
    shutil.copy(local_tile_files(base, WEST).landmask, tmp_path / "plain.tif")
    with pytest.raises(ValueError, match="TESSERA_YEAR"):
        Tile.from_geotiff(tmp_path / "plain.tif")
    with pytest.raises(FileNotFoundError):
        Tile.from_geotiff(tmp_path / "grid_0.15_52.25_2024.tif")


def test_look_up_order(base: Path) -> None:
    npy = get(base)
    name = "grid_23.95_83.65_2024"
    usual = base / REPRESENTATION / "2024/grid_23.95_83.65"
    places = [
        usual / f"{name}.tiff",
        usual / f"{name}.tif",
        base / f"{name}.tiff",
        base / f"{name}.tif",
    ]
    for band, path in enumerate(places):
        export(npy, path, bands=[band])
    assert repr(get(base)).endswith("format=npy)")
    local_tile_files(base, WEST).scales.unlink()
    for band, path in enumerate(places):
        tile = get(base)
        np.testing.assert_array_equal(
            tile.load_embedding()[..., 0], npy.load_embedding()[..., band]
        )
        path.unlink()
    assert tile_for_coord(base, 23.95, 83.65, 2024) is None


def test_look_up_scans_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scandir", "listdir", "walk"):
        monkeypatch.setattr(os, name, None)
    found = tiles_for_coords(base, [(23.95, 83.65), (24.05, 83.65), (9.05, 9.05)], 2024)
    assert set(found) == {(23.95, 83.65), (24.05, 83.65)}
    assert tile_for_coord(str(base), 23.95, 83.65, 2023) is None


def test_discovery(base: Path) -> None:
    west, east = get(base, WEST), get(base, EAST)
    export(west, base / "grid_23.95_83.65_2024.tif", bands=[0])  # NPY wins
    export(east, base / "deep" / "er" / "grid_24.05_83.65_2023.tiff", bands=[0])
    export(east, base / "grid_-0.05_60.05_2023.tiff", bands=[0])
    found = discover_tiles(base)
    assert [(t.year, t.lat, t.lon, repr(t).split("=")[-1]) for t in found] == [
        (2023, 60.05, -0.05, "geotiff)"),
        (2023, 83.65, 24.05, "geotiff)"),
        (2024, 83.65, 23.95, "npy)"),
        (2024, 83.65, 24.05, "npy)"),
    ]
    formats = discover_formats(base)
    assert {name: len(tiles) for name, tiles in formats.items()} == {"npy": 2, "geotiff": 3}
    assert list(discover_formats(base / "deep")) == ["geotiff"]


def test_discovery_ignores(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = local_tile_files(base, WEST)
    year = files.embedding.parent.parent
    shutil.copytree(files.embedding.parent, year / ".grid_23.95_83.65_tmp_ab12")
    shutil.copy(files.embedding, files.embedding.with_name(".grid_9.05_9.05.npy_tmp_ab12.npy"))
    shutil.copytree(year, year.parent / "notes")
    export(get(base), base / ".grid_1.05_1.05_2024.tiff_tmp_ab12.tif", bands=[0])
    export(get(base), base / "global_0.1_degree_tiff_all" / "grid_1.05_1.05_2024.tiff", bands=[0])
    with caplog.at_level(logging.WARNING):
        assert discover_tiles(base) == [get(base, WEST), get(base, EAST)]
    assert caplog.records == []
    assert discover_geotiff_tiles(base / "global_0.1_degree_tiff_all") == []
    assert discover_tiles(base / "missing") == []
    assert discover_tiles(files.embedding) == []


@pytest.mark.parametrize("part", ["scales", "landmask"])
def test_incomplete_tiles_are_absent(
    base: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(local_tile_files(base, WEST), part).unlink()
    with caplog.at_level(logging.WARNING):
        assert discover_npy_tiles(base) == [get(base, EAST)]
        assert tile_for_coord(base, 23.95, 83.65, 2024) is None
    assert sum("incomplete" in record.message for record in caplog.records) == 2


def test_unreadable_files_are_skipped(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    landmask = local_tile_files(base, WEST).landmask
    landmask.unlink()
    landmask.write_text("not a raster")
    (base / "grid_1.05_1.05_2024.tiff").write_text("not a raster")
    (base / "other.tif").write_text("not a raster")
    with caplog.at_level(logging.WARNING):
        assert discover_tiles(base) == [get(base, EAST)]
    assert sum("skipping" in record.message for record in caplog.records) == 3
    with pytest.raises(FormatError):
        get(base).load_embedding()


def test_landmask_without_crs(base: Path) -> None:
    landmask = local_tile_files(base, WEST).landmask
    with rasterio.open(landmask) as dataset:
        profile, data = dataset.profile, dataset.read()
    landmask.unlink()
    with rasterio.open(landmask, "w", **profile | {"crs": None}) as dataset:
        dataset.write(data)
    with pytest.raises(RuntimeError, match="has no CRS"):
        get(base).load_embedding()
    assert discover_npy_tiles(base) == [get(base, EAST)]


def test_hemispheres_and_antimeridian(small_world: SampleWorld, tmp_path: Path) -> None:
    base = small_world.checkout(tmp_path)
    assert len(discover_tiles(base)) == 9
    assert [t.year for t in discover_tiles(base)][:2] == [2023, 2023]
    for lon, lat, epsg in ((20.95, -79.95, 32734), (179.95, 83.65, 32660), (-179.95, 83.65, 32601)):
        tile = get(base, TileId(2024, lon, lat))
        assert tile.crs.to_epsg() == epsg
        points = np.column_stack(
            [np.linspace(lon - 0.049, lon + 0.049, 40), np.linspace(lat - 0.049, lat + 0.049, 40)]
        )
        points = np.vstack([points, [[0.05, 0.05]] * 3])
        np.testing.assert_array_equal(tile.sample_points(points), nearest(tile, points))
