"""`GeoTessera(source="zarr")`: a store's cells answer as the tiles that it was made of."""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from geotessera import GeoTessera, GeoTesseraZarr, Status
from geotessera.access.cell_store import identity_of_store, store_location
from geotessera.datasets import zarr_store_url
from geotessera.errors import (
    DatasetMismatchError,
    InputError,
    NotPublishedError,
    TileError,
    TileNotFoundError,
)
from geotessera.grid import tile_from_world
from geotessera.sources.cell import CellTile
from geotessera.testing import SampleWorld
from geotessera.testing.server import LoopbackServer
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.types import TileId, Window

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing.world import WorldTile

NORTH, DATELINE, SOUTH = (23, 83, 25, 84), (179, 83, -179, 84), (20, -81, 22, -79)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Tiles in both hemispheres, on a zone seam and on the antimeridian, and their stores."""
    made = SampleWorld.build(tmp_path_factory.mktemp("cells"), size="small")
    SampleStore.from_world(made, shard=512)
    SampleStore.from_world(made, kind="dclimate", shard=512)
    return made


@pytest.fixture(scope="module")
def cells(world: SampleWorld) -> GeoTessera:
    return GeoTessera("v1.1", "cambridge", base_url=world.root("B"), source="zarr")


@pytest.fixture(scope="module")
def tiles(world: SampleWorld, tmp_path_factory: pytest.TempPathFactory) -> GeoTessera:
    cache = tmp_path_factory.mktemp("cache")
    return GeoTessera("v1.1", "cambridge", base_url=world.root("B"), cache_dir=cache)


def expected(one: WorldTile) -> np.ndarray:
    """What the store says of a tile, by plain NumPy: water has no embedding."""
    scales = np.where((one.mask() == 0) | ~np.isfinite(one.scales()), np.nan, one.scales())
    return one.values().astype(np.float32) * scales.astype(np.float32)[..., None]


# --- Which cells there are --------------------------------------------------------------


@pytest.mark.parametrize("year", [2022, 2023, 2024])
@pytest.mark.parametrize("box", [NORTH, DATELINE, SOUTH, (0, 0, 5, 5)])
def test_the_cells_are_the_tiles(
    cells: GeoTessera, world: SampleWorld, year: int, box: tuple[float, ...]
) -> None:
    west, south, east, north = box
    inside = {
        one.tile
        for one in world.tiles
        if one.tile.year == year
        and south < one.tile.lat < north
        and (west < one.tile.lon < east if west < east else not east < one.tile.lon < west)
    }
    found = cells.registry.load_blocks_for_region(box, year)
    assert set(found) == inside
    assert len(found) == len(inside) == cells.embeddings_count(box, year)  # type: ignore[arg-type]


def test_order_years_and_single_cells(cells: GeoTessera, tiles: GeoTessera) -> None:
    assert cells.registry.load_blocks_for_region(
        NORTH, 2024
    ) == tiles.registry.load_blocks_for_region(NORTH, 2024)
    assert cells.registry.get_available_years() == [2023, 2024]
    assert cells.registry.has_tile(2024, 20.95, -79.95)
    assert not cells.registry.has_tile(2023, 20.95, -79.95)
    assert cells.registry.nearest_year(20.95, -79.95, 2023) == 2024
    assert cells.registry.nearest_year(3.05, 3.05, 2023) is None


def test_a_scope_counts_its_cells(world: SampleWorld) -> None:
    scoped = GeoTessera(
        "v1.1", "cambridge", base_url=world.root("B"), source="zarr", bbox=(23.8, 83.5, 24.2, 83.9)
    )
    assert scoped.registry.get_tile_counts_by_year() == {2023: 2, 2024: 4}
    assert len(scoped.registry.get_available_embeddings()) == 6
    with pytest.raises(InputError, match="outside the registry bbox"):
        scoped.registry.load_blocks_for_region(SOUTH, 2024)


def test_the_whole_world_is_too_much_to_ask(cells: GeoTessera) -> None:
    with pytest.raises(InputError, match="too many to look at"):
        cells.registry.load_blocks_for_region((-180, -90, 180, 90), 2024)


def test_a_cell_with_any_pixel_is_there_where_gaps_and_water_are_one(tmp_path: Path) -> None:
    grid = zone_grid(-3.05, 52.05, 4096, 2048)
    corner = Window(40, 40, 30, 30)
    SampleStore.build(
        tmp_path / "store",
        kind="dclimate",
        grids=[grid],
        pixels=Pattern(4, water=0, gaps=0, specks=0),
        coverage={30: [corner]},
        depths=(),
        shard=256,
    )
    client = GeoTessera("v1.1", "mine", source="zarr", store_url=tmp_path / "store")
    x, y = grid.transform[2] + 10 * 55, grid.transform[5] - 10 * 55
    owner = tile_from_world(*Transformer.from_crs(32630, 4326, always_xy=True).transform(x, y))
    found = client.registry.load_blocks_for_region((-3.5, 51.7, -2.5, 52.4), 2024)
    assert (2024, *owner) in found
    assert len(found) < 5


# --- Pixels -----------------------------------------------------------------------------


def test_every_cell_has_the_pixels_of_its_tile(
    cells: GeoTessera, tiles: GeoTessera, world: SampleWorld
) -> None:
    for one in world.tiles:
        year, lon, lat = one.tile
        values, crs, transform = cells.fetch_embedding(lon, lat, year)
        np.testing.assert_array_equal(values, expected(one))
        assert values.dtype == np.float32
        assert crs.to_epsg() == one.grid.epsg
        left, top = one.grid.transform[2], one.grid.transform[5]
        assert transform.c == math.floor(left / 10) * 10
        assert transform.f == math.ceil(top / 10) * 10
        assert cells._get_utm_projection_from_landmask(lon, lat) == (crs, transform)


def test_southern_cells_have_the_false_northing(cells: GeoTessera) -> None:
    _, crs, transform = cells.fetch_embedding(20.95, -79.95, 2024)
    assert crs.to_epsg() == 32734
    x, y = Transformer.from_crs(4326, 32734, always_xy=True).transform(20.95, -79.95)
    col, row = (x - transform.c) / 10, (transform.f - y) / 10
    assert 0 < col < 250
    assert 400 < row < 700


def test_fetch_embeddings_goes_through_a_region(cells: GeoTessera, world: SampleWorld) -> None:
    wanted = cells.registry.load_blocks_for_region(NORTH, 2024)
    found = {(y, lon, lat): values for y, lon, lat, values, _, _ in cells.fetch_embeddings(wanted)}
    by_tile = {one.tile: one for one in world.tiles}
    assert set(found) == set(wanted)
    for tile, values in found.items():
        np.testing.assert_array_equal(values, expected(by_tile[tile]))  # type: ignore[index]


def test_a_cell_of_nowhere_says_what_there_is(cells: GeoTessera) -> None:
    with pytest.raises(TileNotFoundError, match="nearest year is 2024"):
        cells.fetch_embedding(20.95, -79.95, 2023)
    with pytest.raises(TileNotFoundError, match="on land"):
        cells.fetch_embedding(3.05, 3.05, 2024)
    with pytest.raises(TileError, match="Failed to fetch tile"):
        list(cells.fetch_embeddings([(2024, 3.05, 3.05)]))


def test_a_cell_is_opened_again_elsewhere(cells: GeoTessera) -> None:
    descriptor: Any = cells._store.get(TileId(2024, 20.95, -79.95))
    assert isinstance(descriptor, CellTile)
    again = pickle.loads(pickle.dumps(descriptor)).open()
    window = Window(300, 50, 20, 30)
    found, there = descriptor.open().read(window), again.read(window)
    np.testing.assert_array_equal(found.values, there.values)
    np.testing.assert_array_equal(found.scales, there.scales)
    assert again.provenance.variant == "cambridge"
    assert found.grid == there.grid


# --- Points -----------------------------------------------------------------------------


def points_of(world: SampleWorld, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(7)
    centres = np.array([one.tile[1:] for one in world.tiles])
    around = centres[:, None] + rng.uniform(-0.05, 0.05, (len(centres), count, 2))
    return np.concatenate([around.reshape(-1, 2), [[3.05, 3.05]]])


def test_points_have_the_pixel_that_holds_them(cells: GeoTessera, world: SampleWorld) -> None:
    points = points_of(world)
    values, where, status = cells.sample_embeddings_at_points(
        points, 2024, return_status=True, include_metadata=True
    )
    by_place = {one.tile[1:]: one for one in world.tiles if one.tile.year == 2024}
    for point, row, place, code in zip(points, values, where, status, strict=True):
        one = by_place.get(tile_from_world(*point))
        if one is None:
            assert code == Status.NO_TILE
            assert np.isnan(row).all()
            continue
        x, y = Transformer.from_crs(4326, one.grid.epsg, always_xy=True).transform(*point)
        left = math.floor(one.grid.transform[2] / 10) * 10
        top = math.ceil(one.grid.transform[5] / 10) * 10
        at = math.floor((top - y) / 10), math.floor((x - left) / 10)
        assert (place["pixel_row"], place["pixel_col"]) == at
        assert place["crs"] == f"EPSG:{one.grid.epsg}"
        np.testing.assert_array_equal(row, expected(one)[at])
        assert code == (Status.VALID if np.isfinite(row).all() else Status.NODATA)
    assert {Status.VALID, Status.NODATA, Status.NO_TILE} <= set(status.tolist())


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_bands_and_water(cells: GeoTessera, world: SampleWorld, method: Any) -> None:
    points = points_of(world)
    whole, status = cells.sample_embeddings_at_points(
        points, 2024, method=method, return_status=True, mask_water=True
    )
    some = cells.sample_embeddings_at_points(points, 2024, method=method, bands=[5, 0, 5])
    np.testing.assert_array_equal(some, whole[:, [5, 0, 5]])
    assert Status.WATER in status
    plain, other = cells.sample_embeddings_at_points(
        points, 2024, method=method, return_status=True
    )
    assert set(other[status == Status.WATER].tolist()) == {Status.NODATA}
    np.testing.assert_array_equal(plain, whole)


def test_a_store_that_does_not_know_water_refuses_to_mask_it(world: SampleWorld) -> None:
    client = GeoTessera(base_url=world.root("B"), source="zarr")
    assert client.dataset_variant == "dclimate"
    with pytest.raises(TileError, match="does not say which pixels are water"):
        client.sample_embeddings_at_points([(23.95, 83.65)], 2024, mask_water=True)
    row = client.sample_embeddings_at_points([(23.95, 83.65)], 2024)
    assert row.shape == (1, 8)


def test_a_damaged_zone_is_the_fault_of_its_points_alone(
    cells: GeoTessera, world: SampleWorld, tmp_path: Path
) -> None:
    store = SampleStore.from_world(world, tmp_path / "store", shard=512)
    for shard in (store.path / "utm34" / "embeddings").rglob("*"):
        if shard.is_file() and shard.name != "zarr.json":
            shard.write_bytes(shard.read_bytes()[:-1])
    client = GeoTessera("v1.1", "cambridge", source="zarr", store_url=store.path)
    points = [one.tile[1:] for one in world.tiles if one.tile.year == 2024]
    with pytest.raises(TileError, match="utm34"):
        client.sample_embeddings_at_points(points, 2024)
    _, where, status = client.sample_embeddings_at_points(
        points, 2024, errors="coerce", return_status=True, include_metadata=True
    )
    _, sound = cells.sample_embeddings_at_points(points, 2024, return_status=True)
    for (lon, _), code, usual, place in zip(points, status, sound, where, strict=True):
        damaged = 18 <= lon < 24 and usual == Status.VALID  # of water no embedding is read
        assert code == (Status.FAILED if damaged else usual)
        assert ("error" in (place or {})) == damaged
    assert Status.FAILED in status
    assert Status.VALID in status


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_points_are_those_of_the_store_itself(tmp_path: Path, method: Any) -> None:
    store = SampleStore.build(tmp_path / "store")  # a part of a cell on each side of a seam
    client = GeoTessera("v1.1", "mine", source="zarr", store_url=store.path)
    rng = np.random.default_rng(3)
    inside = [
        store.lonlat(zone, row, col, rng.uniform(0.02, 0.98))
        for zone in store.grids
        for row, col in rng.integers(2, 90, (200, 2))
    ]
    points = np.array([point for point in inside if abs(point[0]) > 1e-4])
    values, status = client.sample_embeddings_at_points(
        points, 2024, method=method, return_status=True
    )
    expected = GeoTesseraZarr(store.path).sample_points(
        points, 2024, method=method, search_px=0, cross_zone=False
    )
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(status == Status.VALID, np.isfinite(expected[:, 0]))
    assert 0.5 < (status == Status.VALID).mean() < 1


# --- Mosaics and files -------------------------------------------------------------------


def test_a_quantised_mosaic_is_that_of_the_tiles(
    cells: GeoTessera, tiles: GeoTessera, world: SampleWorld
) -> None:
    box, how = (23.9, 83.6, 24.0, 83.7), {"target_crs": "EPSG:32634", "resolution": 10}
    ours: Any = cells.fetch_mosaic_for_region(box, 2024, quantized=True, **how)
    theirs: Any = tiles.fetch_mosaic_for_region(box, 2024, quantized=True, **how)
    assert ours.grid == theirs.grid
    there = np.isfinite(ours.scales)
    np.testing.assert_array_equal(ours.values[there], theirs.values[there])
    np.testing.assert_array_equal(ours.scales[there], theirs.scales[there])
    assert 0.2 < there.mean() < np.isfinite(theirs.scales).mean()  # without water
    assert (ours.provenance.version, ours.provenance.variant) == ("1.1", "cambridge")


def test_a_mosaic_goes_over_the_seam(cells: GeoTessera) -> None:
    values, transform, crs = cells.fetch_mosaic_for_region((23.95, 83.62, 24.05, 83.68), 2024)
    assert crs == "EPSG:4326"
    column = int((24.0 - transform.c) / transform.a)
    halves = values[:, :column], values[:, column:]
    assert all(np.isfinite(half).mean() > 0.1 for half in halves)


def test_exports_say_where_they_come_from(
    cells: GeoTessera, world: SampleWorld, tmp_path: Path
) -> None:
    wanted = cells.registry.load_blocks_for_region(SOUTH, 2024)
    (path,) = cells.export_embedding_geotiffs(wanted, tmp_path, bands=[2, 0])
    one = next(one for one in world.tiles if one.tile == wanted[0])
    with rasterio.open(path) as raster:
        tags = raster.tags()
        np.testing.assert_array_equal(raster.read().transpose(1, 2, 0), expected(one)[..., [2, 0]])
        assert raster.crs.to_epsg() == 32734
        assert raster.descriptions == ("Tessera_Band_2", "Tessera_Band_0")
    assert tags["TESSERA_DATASET_VERSION"] == "1.1"
    assert tags["TESSERA_DATASET_VARIANT"] == "cambridge"
    assert tags["TESSERA_YEAR"] == "2024"
    assert tags["TESSERA_SOURCE"] == str(world.root("B") / "zarr" / "v1.1")


def test_what_downloads_tiles_says_that_there_are_none(
    cells: GeoTessera, caplog: pytest.LogCaptureFixture
) -> None:
    assert cells.download_tile(23.95, 83.65, 2024) is False
    assert "no files of tiles" in caplog.text
    with pytest.raises(NotPublishedError, match="Zarr store"):
        cells.registry.get_tile_file_size(2024, 23.95, 83.65)
    with pytest.raises(NotPublishedError):
        cells.registry.fetch(year=2024, lon=23.95, lat=83.65)
    assert cells.check_tiles_present([(23.95, 83.65)], 2024) == {"grid_23.95_83.65": False}


# --- Opening ----------------------------------------------------------------------------


def test_where_a_dataset_has_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOTESSERA_BASE_URL", raising=False)
    assert store_location("1.1", "dclimate", None) == zarr_store_url("v1.1", "dclimate")
    assert store_location("1.1", "cambridge", "/mirror/") == "/mirror/zarr/v1.1"
    monkeypatch.setenv("GEOTESSERA_BASE_URL", "https://example.org/t")
    assert store_location("2.0", "2B-L~beta1", None) == "https://example.org/t/zarr/v2-2B-L~beta1"


def test_nothing_is_labelled_with_a_guess() -> None:
    published = zarr_store_url("v1.1", "cambridge")
    assert identity_of_store(published, "v1.1", None) == ("1.1", "cambridge")
    assert identity_of_store("/copy", "v2", "mine") == ("2.0", "mine")
    with pytest.raises(InputError, match="which dataset"):
        identity_of_store("/copy", "v1.1", None)
    with pytest.raises(DatasetMismatchError):
        identity_of_store(published, "v1.1", "dclimate")


def test_options_that_do_not_go_together(world: SampleWorld) -> None:
    root = world.root("B")
    for wrong in (
        {"source": "npy"},
        {"store_url": root},
        {"source": "zarr", "registry_dir": root},
        {"source": "zarr", "registry_path": root},
    ):
        with pytest.raises(InputError):
            GeoTessera("v1.1", "cambridge", base_url=root, **wrong)
    assert GeoTessera("v1.1", "cambridge", base_url=root).source == "tiles"


def test_a_second_run_asks_the_server_for_no_pixels(world: SampleWorld, tmp_path: Path) -> None:
    points = [one.tile[1:] for one in world.tiles if one.tile.year == 2024]
    how: dict[str, Any] = {"source": "zarr", "cache_dir": tmp_path / "cache"}
    with LoopbackServer(world.root("B")) as server:
        first = GeoTessera("v1.1", "cambridge", base_url=server.url, **how)
        values = first.sample_embeddings_at_points(points, 2024)
        base = server.url
    again = GeoTessera("v1.1", "cambridge", base_url=base, offline=True, **how)
    np.testing.assert_array_equal(again.sample_embeddings_at_points(points, 2024), values)
    assert np.isfinite(values).any()


def test_without_auto_download_no_server_is_asked(world: SampleWorld) -> None:
    with LoopbackServer(world.root("B")) as server:
        client = GeoTessera("v1.1", "cambridge", base_url=server.url, source="zarr")
        before = len(server.requests)
        with pytest.raises(TileNotFoundError, match="auto_download is off"):
            client.sample_embeddings_at_points([(23.95, 83.65)], 2024, auto_download=False)
        assert len(server.requests) == before
