from __future__ import annotations

import copy
import itertools
import logging
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

import geotessera
import store_oracle
from geotessera import Status
from geotessera.errors import GeoTesseraError, InputError, YearError, ZoneError
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.store import DEFAULT_STORE, GeoTesseraZarr
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.types import Window
from zarr_readers import CountingReader

if TYPE_CHECKING:
    from pathlib import Path

BANDS = 8
PLACES = ((0.0, 52.0, 30), (0.0, 52.0, 31), (-51.0, -10.0, 22), (39.0, 0.0, 37))
SEAM_180 = ((180.0, -17.0, 60), (180.0, -17.0, 1))


def build(path: Path, **options: Any) -> SampleStore:
    options.setdefault("pixels", Pattern(BANDS))
    options.setdefault(
        "grids", [zone_grid(lon, lat, zone=zone) for lon, lat, zone in (*PLACES, *SEAM_180)]
    )
    return SampleStore.build(path, depths=(4,), **options)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Six zones of 96 × 128 pixels: two seams, the south, the equator."""
    return build(tmp_path_factory.mktemp("native") / "store")


@pytest.fixture(scope="module")
def dclimate(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return build(tmp_path_factory.mktemp("dclimate") / "store", kind="dclimate")


@pytest.fixture(scope="module")
def client(native: SampleStore) -> GeoTesseraZarr:
    return GeoTesseraZarr(native.path)


def places(rng: np.random.Generator, count: int) -> np.ndarray:
    """Places in and round all grids, those on the seams in both zones."""
    centres = np.array([(lon, lat) for lon, lat, _ in (*PLACES, *SEAM_180)])
    found = centres[rng.integers(0, len(centres), count)]
    found = found + rng.uniform(-1, 1, (count, 2)) * (0.008, 0.0055)
    found[:, 0] = (found[:, 0] + 180) % 360 - 180
    return found


# --- What a store says of itself ---------------------------------------------------------


def test_what_a_client_knows(native: SampleStore, client: GeoTesseraZarr) -> None:
    assert client.url == str(native.path)
    assert client.years == [2023, 2024]
    assert client.n_bands == BANDS
    assert client.depths == {4: "embeddings_d4", BANDS: "embeddings"}
    assert client.dataset is None
    root = zarr.open_group(native.path, mode="r")
    assert client.model_version == root.attrs["geoemb:model"] != ""
    assert client.build_version == root.attrs["geoemb:build_version"] != ""
    assert repr(client) == f"GeoTesseraZarr('{native.path}', years=[2023, 2024])"
    assert GeoTesseraZarr(f"{native.path}/").url == str(native.path)


def test_a_store_that_says_only_what_it_must(tmp_path: Path) -> None:
    store = build(tmp_path / "store", attributes="required")
    client = GeoTesseraZarr(store.path)
    assert (client.model_version, client.n_bands, client.years) == ("", BANDS, [2023, 2024])


def test_a_store_without_zones_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "store"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    root.attrs["geoemb:dimensions"] = 3
    client = GeoTesseraZarr(path)
    assert client.years == []
    assert client.probe(0.1, 52, 2024) == (None, "outside")
    values, status = client.sample_points([(0.1, 52)], 2024, return_status=True)
    assert values.shape == (1, 3)
    assert np.isnan(values).all()
    assert status.tolist() == [Status.OUTSIDE]


def test_constants_serve_clients_of_object_stores() -> None:
    from obstore.store import HTTPStore

    import geotessera.store as names

    HTTPStore(
        "https://example.org", retry_config=names.RETRY_CONFIG, client_options=names.CLIENT_OPTIONS
    )
    assert names.RETRY_CONFIG["retry_timeout"].total_seconds() == 300
    assert names.CLIENT_OPTIONS["timeout"].total_seconds() == 120
    assert (names.SHARD_CHUNKS, names.POINT_CONCURRENCY) == (
        {"band": 128, "y": 4096, "x": 4096},
        32,
    )
    assert (names.SEAM_SEARCH_PX, names.SEAM_DEGREES) == (1, 0.1)
    found = (names.VALID, names.WATER, names.NODATA, names.OUTSIDE, names.GATEWAY_ENV)
    assert found == ("valid", "water", "nodata", "outside", "GEOTESSERA_VIA_GATEWAY")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        GeoTesseraZarr(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="DATASETS"):
        GeoTesseraZarr(tmp_path)


def test_the_client_is_there_when_it_is_asked_for() -> None:
    assert geotessera.GeoTesseraZarr is GeoTesseraZarr
    assert "GeoTesseraZarr" in geotessera.__all__
    assert DEFAULT_STORE.endswith("/zarr/v1.1-dclimate")


def test_sampling_imports_no_library_of_arrays_but_numpy(native: SampleStore) -> None:
    code = f"""
import sys, geotessera
assert "numpy" not in sys.modules
client = geotessera.GeoTesseraZarr({str(native.path)!r})
client.sample_points([(0.001, 52.0)], 2024)
client.probe(0.001, 52.0, 2024)
heavy = {{"zarr", "xarray", "dask", "rasterio", "pyproj", "shapely", "pandas", "requests"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Points ------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("kind", ["native", "dclimate"])
def test_many_points_are_what_the_recipe_says(
    native: SampleStore, dclimate: SampleStore, kind: str, radius: int, cross: bool
) -> None:
    store = native if kind == "native" else dclimate
    client = GeoTesseraZarr(store.path)
    points = places(np.random.default_rng(radius), 80)
    values, status = client.sample_points(
        points, 2024, search_px=radius, cross_zone=cross, return_status=True
    )
    assert values.dtype == np.float32
    assert status.dtype == np.uint8
    seen = set()
    for row, (lon, lat) in enumerate(points):
        vector, name = store_oracle.probe(store, lon, lat, 2024, radius, cross=cross)
        assert Status(status[row]).name.lower() == name
        expected = np.full(BANDS, np.nan, np.float32) if vector is None else vector
        np.testing.assert_array_equal(values[row], expected)
        seen.add(name)
    assert {"valid", "outside"} < seen


offsets = st.one_of(
    st.floats(-0.009, 0.009),
    st.sampled_from([0.0, 1e-12, -1e-12, 0.0005, -0.0005, 0.00045]),
)


@settings(max_examples=60, deadline=None)
@given(
    place=st.sampled_from([*PLACES, *SEAM_180]),
    across=offsets,
    up=st.floats(-0.006, 0.006),
    radius=st.integers(0, 3),
    cross=st.booleans(),
)
@example(place=SEAM_180[0], across=0.0, up=0.0, radius=1, cross=True)
@example(place=PLACES[3], across=0.001, up=0.0, radius=1, cross=True)
def test_one_point_is_what_the_recipe_says(
    native: SampleStore,
    client: GeoTesseraZarr,
    place: tuple[float, float, int],
    across: float,
    up: float,
    radius: int,
    cross: bool,
) -> None:
    lon, lat = place[0] + across, place[1] + up
    lon = lon - 360 if lon > 180 else lon
    expected = store_oracle.probe(native, lon, lat, 2023, radius, cross=cross)
    if expected is None:
        return
    vector, status = client.probe(lon, lat, 2023, search_px=radius, cross_zone=cross)
    assert status == expected[1]
    row = client.sample_at(lon, lat, 2023, search_px=radius, cross_zone=cross)
    if expected[0] is None:
        assert vector is None
        assert np.isnan(row).all()
    else:
        assert vector is not None
        np.testing.assert_array_equal(vector, expected[0])
        np.testing.assert_array_equal(row, expected[0])


def test_both_spellings_of_the_antimeridian_are_one_place(client: GeoTesseraZarr) -> None:
    for lat in np.linspace(-17.003, -16.997, 25):
        east, west = client.probe(180.0, lat, 2024), client.probe(-180.0, lat, 2024)
        assert east[1] == west[1] != "outside"
        if east[0] is not None:
            np.testing.assert_array_equal(east[0], west[0])


def test_ties_go_west_and_north(tmp_path: Path) -> None:
    store = build(tmp_path / "s", grids=[zone_grid(3.0, 0.001, 8, 8)], pixels=Pattern(4, gaps=0))
    client = GeoTesseraZarr(store.path)
    grid = store.grids[31]
    from geotessera.stores.points import PointQuery, sample_zone

    zone = client.store.zone(31)
    left, top = grid.transform[2], grid.transform[5]
    query = PointQuery.of(2024, search_px=0)
    corners = [(0, 0), (10, 10), (20, 30), (80, 80), (-5, -5), (85, 85), (-5.01, 0), (0, 85.01)]
    x = np.array([left + dx for dx, _ in corners])
    y = np.array([top - dy for _, dy in corners])
    values, status = sample_zone(zone, x, y, query)
    pixels = [(0, 0), (0, 0), (2, 1), (7, 7), (0, 0), (7, 7)]
    for row, (at_row, at_col) in enumerate(pixels):
        expected = store.embedding(31, 2024, Window(at_row, at_col, 1, 1))[0, 0]
        np.testing.assert_array_equal(values[row], expected)
    assert status[6:].tolist() == [Status.OUTSIDE] * 2


def test_water_is_an_answer_and_what_was_never_written_is_not(tmp_path: Path) -> None:
    plain = Pattern(4, water=0, gaps=0, specks=0)
    rows = [(30, Window(0, 0, 1, 128), np.nan), (30, Window(1, 0, 1, 128), np.inf)]
    store = build(tmp_path / "a", grids=[zone_grid(-3, 52)], pixels=plain, paint=rows)
    client = GeoTesseraZarr(store.path)
    water, gap = store.lonlat(30, 0, 64), store.lonlat(30, 1, 64)
    for radius in (0, 1, 3):
        assert client.probe(*water, 2024, search_px=radius) == (None, "water")
    assert client.probe(*gap, 2024, search_px=0) == (None, "nodata")
    vector, status = client.probe(*gap, 2024)
    assert status == "valid"
    np.testing.assert_array_equal(vector, store.embedding(30, 2024, Window(2, 64, 1, 1))[0, 0])


def test_nan_is_nodata_where_the_store_says_so(tmp_path: Path) -> None:
    plain = Pattern(4, water=0, gaps=0, specks=0)
    hole = [(30, Window(40, 40, 3, 3), np.nan), (30, Window(10, 10, 1, 1), np.nan)]
    store = build(
        tmp_path / "a", grids=[zone_grid(-3, 52)], pixels=plain, paint=hole, kind="dclimate"
    )
    client = GeoTesseraZarr(store.path)
    assert client.probe(*store.lonlat(30, 10, 10), 2024, search_px=0) == (None, "nodata")
    vector, status = client.probe(*store.lonlat(30, 10, 10), 2024)
    assert status == "valid"
    np.testing.assert_array_equal(vector, store.embedding(30, 2024, Window(9, 10, 1, 1))[0, 0])
    assert client.probe(*store.lonlat(30, 41, 41), 2024) == (None, "nodata")
    assert client.probe(*store.lonlat(30, 41, 41), 2024, search_px=2)[1] == "valid"


def test_a_neighbours_pixel_is_taken_for_water_and_gaps_near_a_seam(tmp_path: Path) -> None:
    plain = Pattern(4, water=0, gaps=0, specks=0)
    grids = [zone_grid(0, 52, zone=zone) for zone in (30, 31)]
    everywhere = Window(0, 0, 96, 128)
    point = (0.0002, 52.0)
    wet = build(
        tmp_path / "wet", grids=grids, pixels=plain, clip=False, paint=[(31, everywhere, np.nan)]
    )
    gap = build(
        tmp_path / "gap", grids=grids, pixels=plain, clip=False, paint=[(31, everywhere, np.inf)]
    )
    x, y = store_oracle.to_utm(30).transform(*point)
    for store, name in ((wet, "water"), (gap, "nodata")):
        client = GeoTesseraZarr(store.path)
        assert client.probe(*point, 2024, cross_zone=False) == (None, name)
        expected = store_oracle.in_zone(store, 30, x, y, 2024, 0)[0]
        vector, status = client.probe(*point, 2024)
        assert status == "valid"
        np.testing.assert_array_equal(vector, expected)
        row, code = client.sample_points([point], 2024, return_status=True)
        assert code.tolist() == [Status.VALID]
        np.testing.assert_array_equal(row, [expected])
    # Further off the border nobody else is asked.
    assert GeoTesseraZarr(wet.path).probe(0.101, 52.0, 2024)[1] != "valid"


def test_water_is_more_than_a_gap_next_door(tmp_path: Path) -> None:
    grids = [zone_grid(0, 52, zone=zone) for zone in (30, 31)]
    everywhere = Window(0, 0, 96, 128)
    for wet, dry in ((30, 31), (31, 30)):
        paint = [(wet, everywhere, np.nan), (dry, everywhere, np.inf)]
        store = build(tmp_path / str(wet), grids=grids, clip=False, paint=paint)
        client = GeoTesseraZarr(store.path)
        assert client.probe(0.0002, 52.0, 2024) == (None, "water")
        _, status = client.sample_points([(0.0002, 52.0)], 2024, return_status=True)
        assert status.tolist() == [Status.WATER]


@pytest.mark.parametrize("depth", [4, BANDS, None])
def test_a_depth_is_a_prefix(client: GeoTesseraZarr, depth: int | None) -> None:
    points = places(np.random.default_rng(3), 200)
    whole = client.sample_points(points, 2023)
    part = client.sample_points(points, 2023, depth=depth)
    np.testing.assert_array_equal(part, whole[:, :depth])
    picked = client.sample_points(points, 2023, depth=depth, bands=np.array([3, 0, 3]))
    np.testing.assert_array_equal(picked, whole[:, [3, 0, 3]])


def test_bilinear_blends_valid_neighbours(tmp_path: Path) -> None:
    hole = [(30, Window(20, 20, 1, 1), np.inf), (30, Window(30, 30, 1, 1), np.nan)]
    plain = Pattern(4, water=0, gaps=0, specks=0)
    store = build(tmp_path / "a", grids=[zone_grid(-3, 52)], pixels=plain, paint=hole)
    client = GeoTesseraZarr(store.path)
    pixels = store.embedding(30, 2024).astype(np.float64)
    rng = np.random.default_rng(0)
    at = np.vstack([rng.uniform(2, 90, (100, 2)), [(20.5, 19.8), (20.5, 20.5), (30.5, 30.6)]])
    points = np.array([store.lonlat(30, v, u, 0.0) for v, u in at])
    values, status = client.sample_points(
        points, 2024, method="bilinear", search_px=0, return_status=True
    )
    for row, (v, u) in enumerate(at):
        if np.isnan(pixels[int(v), int(u), 0]):
            assert np.isnan(values[row]).all()
            continue
        top, left = int(np.floor(v - 0.5)), int(np.floor(u - 0.5))
        total, weights = np.zeros(4), 0.0
        for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            weight = (1 - abs(v - 0.5 - r)) * (1 - abs(u - 0.5 - c))
            if not np.isnan(pixels[r, c, 0]):
                total, weights = total + weight * pixels[r, c], weights + weight
        np.testing.assert_allclose(values[row], total / weights, rtol=1e-5, atol=1e-5)
    assert status[-2:].tolist() == [Status.NODATA, Status.WATER]
    # With a search, what was never written takes the nearest valid pixel as it is.
    found = client.sample_points(points[-2:], 2024, method="bilinear")
    np.testing.assert_array_equal(found[0], pixels[19, 20].astype(np.float32))
    assert np.isnan(found[1]).all()


def test_what_people_write_as_points(client: GeoTesseraZarr, native: SampleStore) -> None:
    import geopandas
    import pandas as pd

    lon, lat = native.lonlat(22, 40, 50)
    expected = client.sample_at(lon, lat, 2024)
    assert np.isfinite(expected).all()
    frame = pd.DataFrame({"name": ["a"], "lon": [lon], "lat": [lat]})
    geometry = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([lon], [lat]), crs=4326)
    for coords in (
        [(lon, lat)],
        ((lon, lat),),
        iter([(lon, lat)]),
        [(lon, lat, 12.5)],
        np.array([[lon, lat]]),
        np.array([[lon, lat, 7.0]]),
        frame,
        geometry,
        geometry.to_crs(32722),
    ):
        np.testing.assert_array_equal(client.sample_points(coords, 2024), [expected])


@pytest.mark.parametrize("empty", [[], (), iter([]), np.empty((0, 2))])
def test_no_points(client: GeoTesseraZarr, empty: Any) -> None:
    values, status = client.sample_points(empty, 2024, depth=4, return_status=True)
    assert values.shape == (0, 4)
    assert status.shape == (0,)
    with pytest.raises(ValueError, match="depth 5 not in this store"):
        client.sample_points([], 2024, depth=5)


def test_points_off_the_globe(
    client: GeoTesseraZarr, native: SampleStore, caplog: pytest.LogCaptureFixture
) -> None:
    good = native.lonlat(22, 40, 50)
    points = [(np.nan, 1), (0, np.inf), good, (100, 52), (500_000, 10), (0, 91)]
    with caplog.at_level(logging.WARNING, "geotessera.store"):
        values, status = client.sample_points(points, 2024, return_status=True)
    assert "2 of 6 points" in caplog.text
    assert "500000" in caplog.text
    assert np.flatnonzero(np.isfinite(values[:, 0])).tolist() == [2]
    assert status.tolist() == [3, 3, 0, 3, 3, 3]
    for lon, lat in points:
        if (lon, lat) != good:
            assert client.probe(lon, lat, 2024) == (None, "outside")


# --- Errors ------------------------------------------------------------------------------


def test_a_year_that_is_not_there(client: GeoTesseraZarr, native: SampleStore) -> None:
    lon, lat = native.lonlat(22, 40, 50)
    for ask in (client.probe, client.sample_at):
        with pytest.raises(YearError, match="2023, 2024"):
            ask(lon, lat, 1999)
    with pytest.raises(YearError) as caught:
        client.sample_points([(lon, lat)], 1999)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, GeoTesseraError)
    with pytest.raises(TypeError):
        client.probe(None, 52.0, 2024)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="year"):
        client.probe(lon, lat, "then")  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        client.sample_at(lon, lat, np.int64(2024)), client.sample_at(lon, lat, 2024)
    )


def test_zones_have_their_own_years(tmp_path: Path) -> None:
    grids = [zone_grid(0, 52, zone=zone) for zone in (30, 31)]
    years = {30: (2023, 2024), 31: (2024,)}
    store = build(tmp_path / "a", grids=grids, years=years)
    client = GeoTesseraZarr(store.path)
    assert client.years == [2023, 2024]
    west, east = (-0.003, 52.0), (0.003, 52.0)
    assert store_oracle.probe(store, *east, 2024)[1] == client.probe(*east, 2024)[1]
    with pytest.raises(YearError, match="utm31"):
        client.probe(*east, 2023)
    # A neighbour that lacks the year is not asked.
    assert client.probe(*west, 2023)[1] == client.probe(*west, 2023, cross_zone=False)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search_px": -1}, "search_px"),
        ({"search_px": 1.5}, "search_px"),
        ({"search_px": True}, "search_px"),
        ({"method": "cubic"}, "cubic"),
        ({"depth": 7}, r"depth 7 not in this store.*\[4, 8\]"),
        ({"depth": True}, "depth True"),
        ({"bands": [8]}, "out of range"),
        ({"bands": [-1]}, "negative"),
        ({"bands": [4], "depth": 4}, "out of range"),
    ],
)
def test_options_that_cannot_be_used(
    client: GeoTesseraZarr, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        client.sample_points([(0.001, 52.0)], 2024, **options)


def test_zones_that_are_none(client: GeoTesseraZarr) -> None:
    with pytest.raises(ZoneError, match="1 to 60"):
        client._zones.get(61)
    with pytest.raises(KeyError, match="holds zones 1, 22, 30, 31, 37, 60"):
        client._zones.get(2)


# --- Requests and threads ----------------------------------------------------------------


def counted(store: SampleStore) -> tuple[GeoTesseraZarr, CountingReader]:
    reader = CountingReader(store.path)
    client = GeoTesseraZarr(open_embedding_store(reader))
    return client, reader


def test_each_covering_chunk_is_read_once(tmp_path: Path) -> None:
    plain = Pattern(BANDS, water=0, gaps=0, specks=0)
    store = build(tmp_path / "a", grids=[zone_grid(-3, 52)], pixels=plain)
    client, reader = counted(store)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, (96, 128), (1000, 2))
    points = np.array([store.lonlat(30, row, col) for row, col in pixels[:50]])
    points = points[rng.integers(0, 50, 1000)]
    client.store.zone(30)
    reader.ranges.clear()
    client.sample_points(points, 2024)
    asked = [one for one in reader.ranges if one[2] > 0]
    assert len(asked) == len(set(asked))
    spans = sorted(asked)
    for (key, start, length), (other, first, _) in itertools.pairwise(spans):
        assert key != other or start + length <= first, "bytes asked for twice"
    chunks = {(int(row) // 32, int(col) // 32) for row, col in pixels[:50]}
    for name in ("scales", "embeddings"):
        parts = [one for one in asked if one[0].startswith(f"utm30/{name}/")]
        assert 0 < len(parts) <= len(chunks)
    assert max(reader.suffixes.values()) == 1
    # Nothing is asked of shards whose index is known, but the chunks.
    before = dict(reader.suffixes)
    client.sample_points(points[:10], 2024)
    assert reader.suffixes == before


def test_gaps_do_not_read_embeddings_twice(tmp_path: Path) -> None:
    pixels = Pattern(BANDS, water=0, gaps=1 / 4, specks=1 / 8)
    store = build(tmp_path / "a", grids=[zone_grid(-3, 52)], pixels=pixels)
    client, reader = counted(store)
    rng = np.random.default_rng(4)
    points = np.array([store.lonlat(30, *rng.integers(0, (96, 128))) for _ in range(200)])
    _, status = client.sample_points(points, 2024, return_status=True)
    assert set(status.tolist()) == {Status.VALID, Status.NODATA}
    _, alone = client.sample_points(points, 2024, search_px=0, return_status=True)
    assert (alone == Status.NODATA).sum() > (status == Status.NODATA).sum() > 0
    reader.ranges.clear()
    client.sample_points(points, 2024)
    for name, times in (("embeddings", 1), ("scales", 2)):
        asked = [one for one in reader.ranges if one[0].startswith(f"utm30/{name}/")]
        assert 0 < len(asked) <= 12 * times
        assert max(asked.count(one) for one in asked) <= times


def test_what_was_never_written_costs_an_index_a_shard(tmp_path: Path) -> None:
    store = build(
        tmp_path / "a",
        grids=[zone_grid(-3, 52)],
        pixels=Pattern(4),
        coverage={30: [Window(0, 0, 32, 32)]},
    )
    client, reader = counted(store)
    client.store.zone(30)
    reader.ranges.clear()
    points = np.array([store.lonlat(30, 70 + i % 20, 70 + i // 20) for i in range(200)])
    _, status = client.sample_points(points, 2024, return_status=True)
    assert set(status.tolist()) == {Status.NODATA}
    assert not reader.ranges
    assert sum(reader.suffixes.values()) <= 4


def test_sixteen_threads_get_the_same(native: SampleStore) -> None:
    client = GeoTesseraZarr(native.path)  # nothing is open yet
    points = places(np.random.default_rng(8), 300)
    expected = GeoTesseraZarr(native.path).sample_points(points, 2024)

    def ask(thread: int) -> None:
        if thread % 2:
            np.testing.assert_array_equal(client.sample_points(points, 2024), expected)
        for row in range(thread, 60, 16):
            np.testing.assert_array_equal(client.sample_at(*points[row], 2024), expected[row])
            box = (-51.002, -10.002, -51.0, -10.0)
            assert client.read_region(box, 2024)[0].shape[2] == BANDS

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))


def test_points_of_a_zarr_store_object(native: SampleStore) -> None:
    from zarr.storage import LocalStore

    points = places(np.random.default_rng(9), 100)
    expected = GeoTesseraZarr(native.path).sample_points(points, 2024)
    client = GeoTesseraZarr(LocalStore(native.path))
    np.testing.assert_array_equal(client.sample_points(points, 2024), expected)


def test_clients_travel_to_other_processes(native: SampleStore) -> None:
    client = GeoTesseraZarr(native.path)
    client.open_zone(zone=22)
    points = places(np.random.default_rng(10), 60)
    for moved in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
        assert (moved.url, moved.years, moved.depths) == (client.url, client.years, client.depths)
        np.testing.assert_array_equal(
            moved.sample_points(points, 2024), client.sample_points(points, 2024)
        )
        assert moved.open_zone(zone=22).sizes == client.open_zone(zone=22).sizes


def test_zones_travel_to_other_processes(client: GeoTesseraZarr, native: SampleStore) -> None:
    from geotessera.stores.points import PointQuery, sample_zone

    zone = pickle.loads(pickle.dumps(client.store.zone(22)))
    x, y = store_oracle.to_utm(22).transform(*native.lonlat(22, 40, 50))
    values, _ = sample_zone(zone, np.array([x]), np.array([y]), PointQuery.of(2024))
    np.testing.assert_array_equal(values[0], client.sample_at(*native.lonlat(22, 40, 50), 2024))
