"""Synthetic stores hold what they say: read back with zarr-python, xarray and icechunk."""

import itertools
import json
import math

import numpy as np
import obstore
import pyarrow.parquet as pq
import pytest
import xarray
import zarr
from obstore.store import HTTPStore
from pyproj import Transformer
from zarr.storage import ObjectStore

from geotessera.testing import (
    Pattern,
    SampleRepository,
    SampleStore,
    SampleWorld,
    write_tile_registry,
    zone_grid,
)
from geotessera.testing.server import LoopbackServer
from geotessera.testing.terrain import _hash
from geotessera.types import GridSpec, Window


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return SampleStore.build(tmp_path_factory.mktemp("stores") / "small", size="small")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return SampleStore.build(tmp_path_factory.mktemp("stores") / "real", size="real", years=[2024])


def all_finite(bands=8):
    return Pattern(bands, water=0, gaps=0, specks=0)


def zone_of_lon(lon):
    return math.floor((lon + 180) / 6) + 1


def test_every_pixel_of_a_small_store_is_what_the_recipe_says(small):
    root = zarr.open_group(small.path, mode="r")
    assert sorted(root.group_keys()) == [f"utm{z:02d}" for z in (1, 22, 30, 31, 37, 60)]
    for zone, (step, year) in itertools.product(small.grids, enumerate(small.years[30])):
        values, scales = small.read(zone, year)
        group = root[f"utm{zone:02d}"]
        np.testing.assert_array_equal(group["embeddings"][step], values)
        np.testing.assert_array_equal(group["scales"][step], scales)
        for depth in (4, 16):
            np.testing.assert_array_equal(group[f"embeddings_d{depth}"][step], values[:depth])
        assert np.isfinite(scales).any()
        assert np.isnan(scales).any()
        assert np.isinf(scales).any()
        assert not values[:, np.isinf(scales)].any()


def test_a_pixel_follows_the_published_formula():
    grid = zone_grid(-51.0, -10.0, 40, 50)
    values, scales = all_finite(128).read(grid, 2024)
    row, col = 7, 33
    i = round(grid.transform[2] / 10) + col
    j = round(-grid.transform[5] / 10) + row
    word = int(_hash(np.array([i]), np.array([j]), 22 * 10_000 + 2024, 0)[0])
    tops = [((word + band * 0x9E3779B9) % 2**32) >> 24 for band in range(128)]
    expected = [max(top - 256 if top > 127 else top, -127) for top in tops]
    assert values[:, row, col].tolist() == expected
    assert scales[row, col] == (2048 + word % 4096) / 65536


def test_a_window_of_a_pattern_is_the_pattern_of_the_window():
    grid = zone_grid(39.0, 0.0)
    whole, scales = Pattern(5).read(grid, 2023)
    part, some = Pattern(5).read(grid.window(Window(11, 17, 30, 40)), 2023)
    np.testing.assert_array_equal(part, whole[:, 11:41, 17:57])
    np.testing.assert_array_equal(some, scales[11:41, 17:57])
    assert not np.array_equal(Pattern(5).read(grid, 2024)[0], whole)


def test_axes_and_attributes_place_the_pixels(small):
    for zone, grid in small.grids.items():
        dataset = xarray.open_zarr(small.path, group=f"utm{zone:02d}", consolidated=False)
        assert dataset.attrs["proj:code"] == f"EPSG:326{zone:02d}"
        px, _, left, _, _, top = dataset.attrs["spatial:transform"]
        assert (px, left, top) == (10, *grid.transform[2::3])
        np.testing.assert_array_equal(dataset.x, left + 5 + 10 * np.arange(grid.width))
        np.testing.assert_array_equal(dataset.y, top - 5 - 10 * np.arange(grid.height))
        assert dataset.time.values.tolist() == [2023, 2024]
        assert dataset.embeddings.dims == ("time", "band", "y", "x")
        assert dataset.embeddings_d4.dims == ("time", "band_d4", "y", "x")
        assert dataset.scales.dims == ("time", "y", "x")
        x, y = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(
            *small.lonlat(zone, 40, 50)
        )
        assert float(dataset.x[50]) == pytest.approx(x, abs=1e-3)
        assert float(dataset.y[40]) == pytest.approx(y, abs=1e-3)


def test_hemispheres_share_one_axis(small):
    assert small.grids[22].transform[5] == pytest.approx(-1_105_000, abs=2000)
    _, bottom, _, top = small.grids[37].bounds
    assert bottom < 0 < top


@pytest.mark.parametrize(("west", "east", "border"), [(30, 31, 0), (60, 1, 180)])
def test_zones_meet_without_sharing_data(small, west, east, border):
    for zone, other in ((west, east), (east, west)):
        valid = np.argwhere(np.isfinite(small.read(zone, 2024)[1]))
        lon = np.array([small.lonlat(zone, *place)[0] for place in valid[::7]])
        offset = (lon - border + 180) % 360 - 180
        inward = -offset if zone == west else offset
        assert inward.min() > -0.0006
        assert inward.min() < 0.001
        assert inward.max() > 0.003
        assert zone_of_lon(lon[inward.argmax()]) == zone != other


def test_paint_replaces_scales_and_status_names_them(tmp_path):
    paint = [
        (30, Window(0, 0, 1, 128), np.nan),
        (30, Window(1, 0, 1, 128), np.inf),
        (30, Window(2, 3, 1, 1), -0.5),
    ]
    kinds = {}
    for kind in ("native", "dclimate"):
        store = SampleStore.build(
            tmp_path / kind, kind=kind, paint=paint, pixels=all_finite(), clip=False
        )
        kinds[kind] = [store.status(30, 2024, row, 3) for row in range(4)]
        scales = zarr.open_array(store.path, path="utm30/scales", mode="r")[1]
        np.testing.assert_array_equal(scales, store.read(30, 2024)[1])
        assert store.pixel(30, 2024, 2, 3)[1] == -0.5
    assert kinds["native"] == ["water", "nodata", "valid", "valid"]
    assert kinds["dclimate"] == ["nodata", "nodata", "valid", "valid"]


def test_embedding_is_dequantised_in_float32(small):
    window = Window(20, 30, 25, 35)
    values, scales = small.read(31, 2023, window)
    got = small.embedding(31, 2023, window, depth=4)
    assert got.shape == (25, 35, 4)
    assert got.dtype == np.float32
    for row, col in np.argwhere(np.isfinite(scales))[::50]:
        expected = values[:4, row, col].astype(np.float32) * scales[row, col]
        np.testing.assert_array_equal(got[row, col], expected)
    assert np.isnan(got[~np.isfinite(scales)]).all()


def test_metadata_is_serialised_as_published(real):
    arrays = {
        name: json.loads((real.path / "utm30" / name / "zarr.json").read_text())
        for name in ("embeddings", "embeddings_d16", "embeddings_d4", "scales")
    }
    inner = {}
    for name, array in arrays.items():
        (sharding,) = array["codecs"]
        assert sharding["name"] == "sharding_indexed"
        assert array["chunk_grid"]["configuration"]["chunk_shape"][-2:] == [4096, 4096]
        inner[name] = sharding["configuration"]["chunk_shape"]
        assert sharding["configuration"]["index_location"] == "end"
        assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == [
            "bytes",
            "crc32c",
        ]
        blosc = sharding["configuration"]["codecs"][-1]
        assert blosc["name"] == "blosc"
        scale = name == "scales"
        assert blosc["configuration"] == {
            "cname": "zstd",
            "clevel": 3,
            "shuffle": "shuffle" if scale else "bitshuffle",
            "typesize": 4 if scale else 1,
            "blocksize": 0,
        }
    assert inner == {
        "embeddings": [1, 128, 32, 32],
        "embeddings_d16": [1, 16, 64, 64],
        "embeddings_d4": [1, 4, 128, 128],
        "scales": [1, 32, 32],
    }
    assert arrays["scales"]["fill_value"] == "Infinity"
    consolidated = json.loads((real.path / "zarr.json").read_text())["consolidated_metadata"]
    assert "utm30/embeddings" in consolidated["metadata"]


def test_real_shards_are_sparse_and_end_with_an_index(real):
    shards = sorted(real.path.glob("utm30/embeddings/c/*/*/*/*"))
    assert [str(one.relative_to(real.path)) for one in shards] == [
        f"utm30/embeddings/c/0/0/{row}/{col}" for row in (0, 1) for col in (0, 1)
    ]
    with shards[0].open("rb") as file:
        file.seek(-262_148, 2)
        index = np.frombuffer(file.read(262_144), "<u8").reshape(128, 128, 2)
    present = index[..., 0] != 2**64 - 1
    assert np.argwhere(present).min(axis=0).tolist() == [125, 124]
    assert present.sum() == 3 * 4
    group = zarr.open_group(real.path, path="utm30", mode="r")
    window = np.s_[4000:4200, 3970:4170]
    values, scales = real.read(30, 2024, Window(4000, 3970, 200, 200))
    np.testing.assert_array_equal(group["embeddings"][0, :, *window], values)
    np.testing.assert_array_equal(group["scales"][0, *window], scales)
    assert np.isinf(scales[0]).all()
    assert np.isfinite(scales).any()


@pytest.mark.parametrize("compressor", ["blosc", "zstd", None])
@pytest.mark.parametrize("shard", [None, 64])
def test_other_encodings_hold_the_same(tmp_path, compressor, shard):
    store = SampleStore.build(
        tmp_path / "store", compressor=compressor, shard=shard, chunk=16, grids=[zone_grid(9, 45)]
    )
    array = zarr.open_array(store.path, path="utm32/embeddings", mode="r")
    np.testing.assert_array_equal(array[1], store.read(32, 2024)[0])
    assert array.chunks == (1, 8, 16, 16)
    assert array.shards == (None if shard is None else (1, 8, 64, 64))


def test_what_is_optional_can_be_left_out(tmp_path):
    store = SampleStore.build(
        tmp_path / "store",
        attributes="required",
        consolidated=False,
        depths=(),
        years={30: [2020], 31: [2021, 2022]},
        root_attributes={"geoemb:landmask": False},
    )
    root = json.loads((store.path / "zarr.json").read_text())
    assert root["attributes"] == {"geoemb:dimensions": 8, "geoemb:landmask": False}
    assert root.get("consolidated_metadata") is None
    group = zarr.open_group(store.path, path="utm31", mode="r")
    assert set(group.attrs) == {"proj:code", "spatial:transform"}
    assert set(group.array_keys()) == {"embeddings", "scales", "time", "x", "y"}
    assert group["time"][:].tolist() == [2021, 2022]
    with pytest.raises(KeyError, match="2020"):
        store.read(31, 2020)


def test_a_dclimate_store_fills_with_nan(tmp_path):
    store = SampleStore.build(tmp_path / "store", kind="dclimate")
    root = zarr.open_group(store.path, mode="r")
    assert root.attrs["geotessera:mask_source"] == "source_nodata"
    assert root["utm30"].attrs["geotessera:mask_source"] == "source_nodata"
    scales = root["utm30/scales"]
    assert math.isnan(scales.fill_value)
    assert not np.isinf(scales[:]).any()
    assert np.isnan(scales[:]).any()
    assert root["utm30/s2_obs_count"].shape == (2, 96, 128)


def test_a_world_of_tiles_makes_the_store_of_a_mirror(tmp_path):
    world = SampleWorld.build(tmp_path, size="tiny")
    native = SampleStore.from_world(world, shard=512)
    other = SampleStore.from_world(world, kind="dclimate", shard=512)
    assert native.path == world.root("B") / "zarr" / "v1.1"
    assert other.path == world.root("B") / "zarr" / "v1.1-dclimate"
    for one in world.tiles:
        zone = one.grid.epsg - 32600
        grid = native.grids[zone]
        row = math.floor((grid.transform[5] - one.grid.transform[5]) / 10)
        col = math.floor((one.grid.transform[2] - grid.transform[2]) / 10)
        assert grid.height % 512 == grid.width % 512 == 0
        here = np.s_[row : row + one.grid.height, col : col + one.grid.width]
        good = np.isfinite(one.scales())
        for store, valid in ((native, good & (one.mask() > 0)), (other, good)):
            group = zarr.open_group(store.path, path=f"utm{zone}", mode="r")
            scales = group["scales"][0]
            np.testing.assert_array_equal(np.isfinite(scales[here]), valid)
            np.testing.assert_array_equal(scales[here][valid], one.scales()[valid])
            got = group["embeddings"][0][:, *here].transpose(1, 2, 0)
            np.testing.assert_array_equal(got[valid], one.values()[valid])
            assert np.isfinite(scales).sum() == valid.sum()


def test_a_store_is_read_over_http_by_ranges(real):
    with LoopbackServer(real.path) as server:
        remote = HTTPStore(server.url, client_options={"allow_http": True})
        array = zarr.open_array(ObjectStore(remote, read_only=True), path="utm30/scales", mode="r")
        server.requests.clear()
        got = array[0, 4090:4100, 4090:4095]
        np.testing.assert_array_equal(got, real.read(30, 2024, Window(4090, 4090, 10, 5))[1])
        suffixes = [one for one in server.requests if one.range == "bytes=-262148"]
        assert {one.path for one in suffixes} == {f"/utm30/scales/c/0/{row}/0" for row in (0, 1)}
        assert all(one.status == 206 and one.sent == 262_148 for one in suffixes)
        with pytest.raises(FileNotFoundError):
            obstore.get(remote, "utm30/scales/c/0/9/9")


def open_repository(repository):
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.local_filesystem_storage(str(repository.path))
    session = icechunk.Repository.open(storage).readonly_session(snapshot_id=repository.snapshot)
    return zarr.open_group(session.store, mode="r")


@pytest.mark.parametrize("pcodec", [False, True])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr:UserWarning")
def test_a_repository_merges_hemispheres(tmp_path, pcodec):
    pytest.importorskip("icechunk")
    repository = SampleRepository.build(tmp_path / "a.icechunk", pcodec=pcodec)
    merged = repository.merged(31)
    assert (merged.height, merged.width) == (40, 32)
    assert (merged.transform[2], merged.transform[5]) == (500_000, 160)
    root = open_repository(repository)
    north, south = root["31N"], root["31S"]
    assert south.attrs["years_complete"] == [2024]
    assert south.attrs["proj:code"] == "EPSG:32731"
    assert north["embeddings"].metadata.dimension_names == ("time", "northing", "easting", "band")
    times = north["time"][:].view("datetime64[ns]").astype("datetime64[Y]").astype(int) + 1970
    assert times.tolist() == [2023, 2024]
    # By hand: 16 rows of the north, then those of the south whose centres are below zero.
    below = south["northing"][:] - 10_000_000 < 0
    assert below.sum() == 24
    for step, year in enumerate((2023, 2024)):
        values, scales = repository.read(31, year)
        np.testing.assert_array_equal(values[:, :16], north["embeddings"][step].transpose(2, 0, 1))
        np.testing.assert_array_equal(scales[:16], north["scales"][step])
        expected = south["embeddings"][step][below].transpose(2, 0, 1)
        if year == 2023:
            assert np.isnan(scales[16:]).all()
            assert not values[:, 16:].any()
        else:
            np.testing.assert_array_equal(values[:, 16:, 8:24], expected)
            np.testing.assert_array_equal(scales[16:, 8:24], south["scales"][step][below])
            assert np.isfinite(scales[16:, 8:24]).any()
        assert np.isnan(np.delete(scales[16:], np.s_[8:24], axis=1)).all()
        assert (south["embeddings"][step][~below] == 99).all()
        np.testing.assert_array_equal(
            repository.embedding(31, year, Window(10, 5, 9, 20)),
            (values[:, 10:19, 5:25] * scales[10:19, 5:25]).transpose(1, 2, 0).astype(np.float32),
        )


def test_a_repository_can_say_less(tmp_path):
    pytest.importorskip("icechunk")
    repository = SampleRepository.build(
        tmp_path / "a.icechunk", time="years", years_complete=False, shard=None, pcodec=False
    )
    group = open_repository(repository)["31S"]
    assert "years_complete" not in group.attrs
    assert group["time"][:].tolist() == [2023, 2024]
    assert group["embeddings"].shards is None
    assert np.isfinite(repository.read(31, 2023)[1][16:]).any()


def test_a_world_makes_a_repository(tmp_path):
    pytest.importorskip("icechunk")
    place = (2024, 20.95, -79.95)
    world = SampleWorld.build(tmp_path, bands=4, tiles=[place])
    repository = SampleRepository.from_world(world, shard=512)
    assert repository.path == world.root("B") / "v1.1" / "dclimate.icechunk"
    tile = world.tiles[0]
    grid = repository.merged(34)
    row = math.floor((grid.transform[5] - (tile.grid.transform[5] - 10_000_000)) / 10)
    col = math.floor((tile.grid.transform[2] - grid.transform[2]) / 10)
    values, scales = repository.read(34, 2024, Window(row, col, tile.grid.height, tile.grid.width))
    np.testing.assert_array_equal(scales, tile.scales())
    good = np.isfinite(scales)
    np.testing.assert_array_equal(values.transpose(1, 2, 0)[good], tile.values()[good])


def test_the_tile_registry_tells_which_run_is_the_latest(tmp_path):
    groups = {
        "31N": GridSpec(32631, (10, 0, 500_000, 0, -10, 160), 16, 32),
        "01S": GridSpec(32701, (10, 0, 166_000, 0, -10, 8_000_000), 16, 4000),
    }
    latest = write_tile_registry(tmp_path / "parts", groups, [2023, 2024], tile_px=8)
    paths = sorted(tmp_path.glob("parts/zone=*/year=*/*.parquet"))
    assert [str(one.relative_to(tmp_path)) for one in paths[:2]] == [
        "parts/zone=01S/year=2023/run-a.parquet",
        "parts/zone=01S/year=2023/run-b.parquet",
    ]
    found = {}
    for path in paths:
        zone, year = (part.partition("=")[2] for part in path.parts[-3:-1])
        for row in pq.read_table(path, partitioning=None).to_pylist():
            key = (zone, int(year), row["tile"])
            if key not in found or found[key]["assembled_at"] < row["assembled_at"]:
                found[key] = row
    named = {(row["zone"], row["year"], row["tile"]): row for row in latest}
    assert len(named) == len(latest) == 2 * (2 * 4 + 2 * 500)
    assert {key: {**row, "zone": key[0], "year": key[1]} for key, row in found.items()} == named
    assert {row["run_id"] for row in latest} == {"run-a", "run-b"}
    assert {row["embedded"] for row in latest} == {True, False}
    assert None in {row["refused_px"] for row in latest}
    # The grid of zone 1 begins west of 180°: one tile of each row of tiles crosses it.
    crossing = {row["tile"] for row in latest if row["bbox_west"] > row["bbox_east"]}
    assert len({tile.split("_")[2] for tile in crossing}) <= 2
    assert crossing
    transform = Transformer.from_crs(32631, 4326, always_xy=True).transform
    one = named["31N", 2023, "chunk_1_2"]
    west, south = transform(500_160, 0)
    east, north = transform(500_240, 80)
    assert one["bbox_west"] == pytest.approx(west, abs=1e-5)
    assert one["bbox_south"] == pytest.approx(south, abs=1e-5)
    assert one["bbox_east"] == pytest.approx(east, abs=1e-5)
    assert one["bbox_north"] == pytest.approx(north, abs=1e-5)
