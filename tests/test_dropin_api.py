"""What programs written for upstream 0.11.0 rely on, and nothing here would remind us of."""

from __future__ import annotations

import contextlib
import csv
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio

from geotessera import GeoTessera, GeoTesseraZarr
from geotessera.country import CountryLookup
from geotessera.registry import Registry, find_dataset, tile_to_bounds
from geotessera.testing import SampleStore
from geotessera.testing.server import LoopbackServer
from geotessera.tiles import tile_for_coord

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

BOX = (23.9, 83.6, 24.1, 83.7)


@pytest.fixture
def registry(small_world: SampleWorld, tmp_path: Path) -> Registry:
    return Registry("v1.1", "cambridge", base_url=small_world.root("B"), cache_dir=tmp_path)


@pytest.fixture
def client(small_world: SampleWorld, tmp_path: Path) -> GeoTessera:
    tiles = small_world.checkout(tmp_path / "tiles")
    return GeoTessera(
        base_url=small_world.root("B"), cache_dir=tmp_path / "cache", embeddings_dir=tiles
    )


# --- Tiles are tuples ------------------------------------------------------------------------


def test_tiles_are_plain_tuples(registry: Registry) -> None:
    """Named ones print otherwise, and pandas takes their fields for names of columns."""
    expected = [(2024, 23.95, 83.65), (2024, 24.05, 83.65)]
    for found in (
        registry.load_blocks_for_region(BOX, 2024),
        list(registry.iter_tiles_in_region(BOX, 2024)),
        registry.get_available_embeddings(),
        registry.available_embeddings,
    ):
        assert type(found) is list
        assert {type(tile) for tile in found} == {tuple}
        assert {tuple(map(type, tile)) for tile in found} == {(int, float, float)}
        assert list(pd.DataFrame(found)[1]) == [tile[1] for tile in found]
        assert set(expected) <= set(found)
    assert str(registry.load_blocks_for_region(BOX, 2024)) == str(expected)


def test_tiles_of_a_region_come_from_a_generator(registry: Registry) -> None:
    tiles = registry.iter_tiles_in_region(BOX, 2024)
    assert inspect.isgenerator(tiles)
    with contextlib.closing(tiles):
        assert next(tiles) == (2024, 23.95, 83.65)
    assert list(tiles) == []


def test_bounds_are_a_plain_tuple() -> None:
    bounds = tile_to_bounds(0.15, 52.05)
    assert type(bounds) is tuple
    assert bounds == (0.15 - 0.05, 52.05 - 0.05, 0.15 + 0.05, 52.05 + 0.05)


# --- What arguments may be -------------------------------------------------------------------

POINTS = [(23.95, 83.65), (24.05, 83.66)]
ROWS = [[str(lon), f" {lat}"] for lon, lat in POINTS]


@pytest.mark.parametrize("kind", [list, np.array, lambda rows: csv.reader(map(",".join, rows))])
def test_points_may_be_the_rows_of_a_csv_file(client: GeoTessera, kind: Any) -> None:
    expected = client.sample_embeddings_at_points(POINTS)
    np.testing.assert_array_equal(client.sample_embeddings_at_points(kind(ROWS)), expected)
    assert np.isfinite(expected).all()


def test_points_of_stores_may_be_text_too(tmp_path: Path) -> None:
    store = SampleStore.build(tmp_path / "store", size="tiny")
    point = store.lonlat(30, row=40, col=50)
    client = GeoTesseraZarr(store.path)
    found = client.sample_points([(*map(str, point), "further columns")], 2024)
    np.testing.assert_array_equal(found, client.sample_points([point], 2024))
    assert np.isfinite(found).all()


def test_what_is_no_pair_is_an_index_error_of_stores(tmp_path: Path) -> None:
    client = GeoTesseraZarr(SampleStore.build(tmp_path / "store", size="tiny").path)
    for error in (IndexError, ValueError):
        with pytest.raises(error, match="point 0 must be a pair"):
            client.sample_points([(0.0,)], 2024)


@pytest.mark.parametrize("points", [[("east", "north")], [("1", "")], [("1", "2", "3")], ["12"]])
def test_text_that_is_no_number_is_refused(client: GeoTessera, points: Any) -> None:
    with pytest.raises(ValueError, match="point 0 must be a pair of numbers"):
        client.sample_embeddings_at_points(points)


def test_no_compression_may_be_none(client: GeoTessera, tmp_path: Path) -> None:
    tiles = [(2024, 23.95, 83.65)]
    paths = [
        client.export_embedding_geotiff(23.95, 83.65, tmp_path / "one.tif", compress=None),
        *client.export_embedding_geotiffs(tiles, tmp_path / "tiles", compress=None),
        *client.export_pca_geotiffs(tiles, tmp_path / "pca", compress=None),
    ]
    for path in paths:
        with rasterio.open(path) as dataset:
            assert dataset.compression is None


@pytest.mark.parametrize("year", [2024, np.int64(2024), 2024.0])
def test_tiles_have_years_of_python(small_world: SampleWorld, tmp_path: Path, year: Any) -> None:
    tile = tile_for_coord(small_world.checkout(tmp_path), 23.95, 83.65, year)
    assert tile is not None
    assert type(tile.year) is int


def test_metadata_tells_a_tile_that_ends_early_from_no_tile(client: GeoTessera) -> None:
    """A cell is curved in its UTM zone, and its raster may leave out a corner."""
    corner, nowhere = (23.9, 83.6), (0.0, 0.0)
    values, metadata = client.sample_embeddings_at_points(
        [corner, nowhere, POINTS[0]], include_metadata=True
    )
    assert np.isnan(values[:2]).all()
    assert metadata[0] == {
        "tile_lon": 23.95, "tile_lat": 83.65, "pixel_row": None, "pixel_col": None,
        "crs": "EPSG:32634", "error": "pixel_out_of_bounds",
    }  # fmt: skip
    assert metadata[1] is None
    assert "error" not in metadata[2]


def test_degrees_are_told_from_metres(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The accessor took degrees in 0.8, and takes metres since (oddity O-26)."""
    store = SampleStore.build(tmp_path / "store", size="tiny")
    zone = GeoTesseraZarr(store.path).open_zone(zone=30)
    lon, lat = store.lonlat(30, row=40, col=50)
    for ask in (
        lambda: zone.tessera.sample_at(lon, lat, 2024),
        lambda: zone.tessera.sample_points([(np.nan, np.nan), (lon, lat)], 2024),
    ):
        caplog.clear()
        assert np.isnan(ask()).all()
        assert "looks like degrees" in caplog.text
    caplog.clear()
    with pytest.raises(IndexError):
        zone.tessera.read_region((lon, lat, lon + 0.01, lat + 0.01), 2024)
    assert "looks like degrees" in caplog.text
    caplog.clear()
    east, north = float(zone.x[50]), float(zone.y[40])
    zone.tessera.sample_points([(east, north), (0, 0)], 2024)
    zone.tessera.read_region((east, north, east + 20, north + 20), 2024)
    assert caplog.text == ""


# --- Progress --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fetch_embedding", "download_tile"])
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_progress_goes_from_none_to_all(
    small_world: SampleWorld, tmp_path: Path, method: str, scheme: str
) -> None:
    """What divides by the total must not fail, and a bar must get to its end."""
    one = small_world.tile(*POINTS[0])
    with LoopbackServer(small_world.root("B")) as server:
        base = server.url if scheme == "http" else small_world.root("B").as_uri()
        client = GeoTessera(base_url=base, cache_dir=tmp_path, embeddings_dir=tmp_path / "here")
        seen: list[tuple[int, int, str]] = []
        for _ in range(2):  # the second time there is nothing to do
            getattr(client, method)(*POINTS[0], 2024, lambda *report: seen.append(report))
        refreshed: list[float] = []
        getattr(client, method)(
            *POINTS[0], 2024, lambda done, total, _: refreshed.append(done / total), refresh=True
        )
    assert seen[0][0] == 0
    assert seen[0][1] >= one.sizes[0] + one.sizes[1]  # a landmask's is not always published
    assert seen[-1][:2] == (sum(one.sizes), sum(one.sizes))
    assert [report[0] for report in seen] == sorted(report[0] for report in seen)
    assert {type(report[2]) for report in seen} == {str}
    assert (refreshed[0], refreshed[-1]) == (0, 1)


# --- Names -----------------------------------------------------------------------------------


def test_countries_are_asked_for_by_upstreams_name() -> None:
    lookup = CountryLookup()
    assert lookup.get_bbox(country_name="Malta") == lookup.get_bbox("MT")
    assert len(lookup.get_geometry(country_name="Malta")) == 1


def test_formats_are_a_list() -> None:
    dataset = find_dataset("1.1", "dclimate")
    assert dataset is not None
    assert dataset.formats() == ["zarr", "icechunk"]
