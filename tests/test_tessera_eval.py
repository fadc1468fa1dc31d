"""The published package tessera-eval, as it is, reads a store through this one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tessera_eval", reason="tessera-eval is not installed")

import geopandas as gpd
import shapely
from tessera_eval import dataset

from geotessera.registry import find_dataset
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.testing.tile_registry import write_tile_registry

# Its own dependencies may warn of what they like.
pytestmark = pytest.mark.filterwarnings("default")

LON, LAT, ZONE, YEARS = 0.15, 52.05, 31, (2023, 2024)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("eval")
    store = SampleStore.build(
        path / "zarr", kind="dclimate", grids=[zone_grid(LON, LAT)], years=YEARS, pixels=Pattern()
    )
    rows = write_tile_registry(
        path / "registry" / "parts", {"31N": store.grids[ZONE]}, YEARS, tile_px=64
    )
    return path, store, rows


@pytest.fixture
def client(world, tmp_path, monkeypatch):
    path, store, _ = world
    known = find_dataset("1.1", "dclimate")
    here = replace(known, tile_registry=str(path / "registry" / "parts"))
    monkeypatch.setattr("geotessera.registry.zarr_store_url", lambda *args: str(store.path))
    monkeypatch.setattr("geotessera.registry.find_dataset", lambda *args: here)
    monkeypatch.setattr(dataset, "_READ_ATTEMPTS", 1)  # a failure fails at once
    return dataset.make_client(cache_dir=tmp_path)


def test_points(world, client):
    _, store, _ = world
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 96, 50), rng.integers(0, 128, 50)
    points = [store.lonlat(ZONE, row, col) for row, col in zip(rows, cols, strict=True)]
    found = client.sample_embeddings_at_points(points, 2024)
    np.testing.assert_array_equal(found, store.embedding(ZONE, 2024)[rows, cols])
    again = client.sample_embeddings_at_points(points, 2024)  # from its own cache of tiles
    np.testing.assert_array_equal(again, found)


def test_tiles(world, client):
    _, store, rows = world
    box = LON - 0.01, LAT - 0.01, LON + 0.01, LAT + 0.01
    for year in YEARS:
        embedded = [row for row in rows if row["year"] == year and row["embedded"]]
        assert len(client.embedded_blocks(box, year)) == len(embedded) > 0
    assert dataset.year_coverage(client, box, [2022, *YEARS]) == {"2022": 0, "2023": 1, "2024": 1}
    tiles = client.registry.load_blocks_for_region(box, 2024)
    assert tiles == [(2024, LON, LAT)]
    assert client.registry.load_blocks_for_region(box, 1999) == []
    [(year, lon, lat, values, crs, transform)] = client.fetch_embeddings(tiles)
    assert (year, lon, lat, crs) == (2024, LON, LAT, "EPSG:32631")
    np.testing.assert_array_equal(values, store.embedding(ZONE, 2024))
    assert tuple(transform)[:6] == store.grids[ZONE].transform
    clipped = client.read_clipped(2023, LON, LAT, (LON - 0.004, LAT - 0.002, LON, LAT))
    assert clipped[0].shape[2] == 128
    assert np.isfinite(clipped[0]).any()


def test_labelled_pixels(world, client):
    from tessera_eval.data import load_embeddings_for_shapefile

    _, store, _ = world
    left, bottom, right, top = store.grids[ZONE].bounds
    middle = (left + right) / 2
    frame = gpd.GeoDataFrame(
        {"habitat": ["bog", "fen"]},
        geometry=[shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)],
        crs=32631,
    ).to_crs(4326)
    vectors, labels, names, stats = load_embeddings_for_shapefile(frame, "habitat", 2024, client)
    assert names == ["bog", "fen"]
    assert stats["tiles_with_data"] == 1
    wanted = store.embedding(ZONE, 2024)
    # Polygons that were turned to degrees and back may lose pixels at their edges.
    assert 0.95 * wanted[..., 0].size < len(labels) <= wanted[..., 0].size
    everything = {row.tobytes() for row in wanted.reshape(-1, 128)}
    assert {row.tobytes() for row in vectors} <= everything
    halves = [wanted[:, :60].reshape(-1, 128), wanted[:, 68:].reshape(-1, 128)]
    for label, half in enumerate(halves):
        own = {row.tobytes() for row in vectors[labels == label]}
        shared = own & {row.tobytes() for row in half}
        assert len(shared) > 0.9 * len({row.tobytes() for row in half})
