"""Zones as Datasets, the accessor, and lazy regions, against `SampleStore` and plain xarray."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import dask
import numpy as np
import pytest
import xarray as xr

from geotessera.errors import FormatError, NoOverlapError, YearError, ZoneError
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.types import GridSpec, Window
from geotessera.xr.dataset import zone_of_dataset
from geotessera.xr.store import open_dataarray, open_zone, zone_number
from geotessera.xr.zone import block_side


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return SampleStore.build(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def zone(sample):
    return open_zone(sample.path, zone=30)


@pytest.fixture(scope="module")
def oracle(sample):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xr.open_zarr(sample.path, group="utm30").load()


# --- open_zone ---------------------------------------------------------------------------


def test_a_zone_is_what_xarray_reads_of_its_group(zone, oracle):
    xr.testing.assert_identical(zone.drop_attrs(deep=False), oracle.drop_attrs(deep=False))
    assert zone.attrs == oracle.attrs
    assert {name: zone[name].dtype for name in zone} == {name: oracle[name].dtype for name in zone}
    assert {name: zone[name].dtype for name in zone.coords} == {
        name: oracle[name].dtype for name in oracle.coords
    }
    for name in zone:
        assert zone[name].dims == oracle[name].dims
        assert dask.is_dask_collection(zone[name])


def test_no_coordinate_is_read(sample):
    store = open_embedding_store(sample.path)
    asked = []
    whole = store.reader.get

    def watched(key):
        asked.append(key)
        return whole(key)

    store.reader.get = watched
    opened = open_zone(store, zone=30)
    assert opened.sizes["x"] == 128
    assert [key for key in asked if key.endswith(".json")] == []
    assert not {key.split("/")[1] for key in asked} & {"x", "y", "embeddings", "scales", "band"}


def test_selecting(zone, oracle):
    x, y = float(oracle.x[40]), float(oracle.y[30])
    near = zone.embeddings.sel(x=x + 4, y=y - 4, time=2024, method="nearest")
    np.testing.assert_array_equal(near.values, oracle.embeddings.values[1, :, 30, 40])
    part = zone.scales.sel(x=slice(x, x + 100), y=slice(y, y - 50))
    wanted = oracle.scales.sel(x=slice(x, x + 100), y=slice(y, y - 50))
    assert part.shape == (2, 6, 11)
    xr.testing.assert_equal(part, wanted)
    np.testing.assert_array_equal(zone.x.values, oracle.x.values)
    np.testing.assert_array_equal(zone.y.values, oracle.y.values)


@pytest.mark.parametrize("name", ["embeddings", "embeddings_d4", "scales", "stretch_sample"])
def test_lazy_indexing(sample, oracle, name):
    lazy = open_zone(sample.path, zone=30, chunks=None)[name]
    assert not dask.is_dask_collection(lazy)
    wanted = oracle[name]
    rng = np.random.default_rng(1)
    for _ in range(40):
        key = {}
        for dim, size in wanted.sizes.items():
            kind = rng.integers(5)
            if kind == 0:
                key[dim] = int(rng.integers(-size, size))
            elif kind == 1:
                start, stop = np.sort(rng.integers(0, size + 1, 2))
                key[dim] = slice(int(start), int(stop), int(rng.integers(1, 4)))
            elif kind == 2:
                key[dim] = rng.integers(0, size, rng.integers(1, 4))
            elif kind == 3:
                key[dim] = slice(None, None, -3)
        np.testing.assert_array_equal(lazy.isel(key).values, wanted.isel(key).values, str(key))


@pytest.mark.parametrize("name", ["embeddings", "scales"])
@pytest.mark.parametrize("chunks", [None, "auto"])
def test_places_picked_one_by_one(sample, oracle, name, chunks):
    lazy = open_zone(sample.path, zone=30, chunks=chunks)[name]
    rng = np.random.default_rng(2)
    at = {
        "x": xr.DataArray(rng.integers(0, 128, 30), dims="point"),
        "y": xr.DataArray(rng.integers(0, 96, 30), dims="point"),
    }
    for more in ({}, {"time": 1}, {"time": xr.DataArray(rng.integers(0, 2, 30), dims="point")}):
        key = at | more
        np.testing.assert_array_equal(lazy.isel(key).values, oracle[name].isel(key).values)


def test_graphs_go_to_other_processes(zone, oracle):
    part = zone.embeddings.isel(time=1, x=slice(20, 40))
    moved = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(moved.values, oracle.embeddings.values[1, ..., 20:40])


def test_options_of_the_opener(sample):
    opened = open_zone(sample.path, lon=-1, drop_variables=["scales"], chunks={"x": 128, "y": 96})
    assert "scales" not in opened
    assert opened.embeddings.chunks == ((1, 1), (8,), (96,), (128,))


def test_selectors(sample):
    assert zone_number(zone=np.int64(30)) == 30
    assert zone_number(lon=0) == 31
    assert zone_number(lon=-0.001) == 30
    assert zone_number(bbox=(179, -17, -178, -16)) == 1
    with pytest.raises(TypeError, match="exactly one of zone=, lon=, or bbox="):
        open_zone(sample.path)
    with pytest.raises(TypeError, match="got zone, lon"):
        open_zone(sample.path, zone=30, lon=0)
    with pytest.raises(KeyError, match="zones 30, 31"):
        open_zone(sample.path, zone=5)
    for lon in (np.nan, np.inf, 180.5, -500):
        with pytest.raises(ValueError, match=f"lon={lon}"):
            open_zone(sample.path, lon=lon)
    assert zone_number(lon=180) == zone_number(lon=-180) == 1


def test_a_repository_is_a_dataset_too(tmp_path):
    pytest.importorskip("icechunk")
    from geotessera.testing.repositories import SampleRepository

    repository = SampleRepository.build(tmp_path / "r.icechunk")
    opened = open_zone(repository.path, zone=31)
    assert opened.embeddings.dims == ("time", "band", "y", "x")
    assert opened.s2_month_covered.dims == ("time", "y", "x", "month")
    np.testing.assert_array_equal(opened.month, np.arange(1, 13))
    np.testing.assert_array_equal(opened.y[[0, -1]], [155, -235])
    for step, year in enumerate(repository.years):
        values, scales = repository.read(31, year)
        np.testing.assert_array_equal(opened.scales[step].values, scales)
        valid = np.isfinite(scales)
        np.testing.assert_array_equal(opened.embeddings[step].values[:, valid], values[:, valid])
    vector, status = opened.tessera.probe(500_105, 95, 2024)
    assert status == "valid"
    np.testing.assert_array_equal(vector, repository.embedding(31, 2024)[6, 10])
    array = open_dataarray((3.0, -0.001, 3.002, 0.001), 2024, store=repository.path)
    row, col = round((160 - array.y.values[0]) / 10 - 0.5), 0
    height, width = array.shape[1:]
    wanted = repository.embedding(31, 2024)[row : row + height, col : col + width]
    np.testing.assert_array_equal(array.values.transpose(1, 2, 0), wanted)


def test_snapshots_are_not_taken_for_each_other(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    import zarr

    from geotessera.testing.repositories import SampleRepository

    repository = SampleRepository.build(tmp_path / "r.icechunk", years=[2024])
    box = 3.0, 0.0002, 3.002, 0.001
    old = open_dataarray(box, 2024, store=open_embedding_store(repository.path))
    storage = icechunk.local_filesystem_storage(str(repository.path))
    session = icechunk.Repository.open(storage).writable_session("main")
    scales = zarr.open_group(session.store)["31N/scales"]
    scales[...] = 2 * scales[...]
    session.commit("Double")
    new = open_dataarray(box, 2024, store=open_embedding_store(repository.path))
    both = dask.compute(old.data, new.data)
    assert np.isfinite(both[0]).any()
    np.testing.assert_array_equal(2 * both[0], both[1])


# --- The accessor ------------------------------------------------------------------------


@pytest.fixture(params=["opened", "part", "open_zarr", "loaded"])
def dataset(request, sample):
    """Return a Dataset, and which pixels of the zone it holds."""
    everything = Window(0, 0, 96, 128)
    if request.param in ("open_zarr", "loaded"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = xr.open_zarr(sample.path, group="utm30")
        return (opened.load() if request.param == "loaded" else opened), everything
    opened = open_zone(sample.path, zone=30)
    if request.param == "opened":
        return opened, everything
    return opened.isel(y=slice(20, 80), x=slice(10, 100)), Window(20, 10, 60, 90)


def test_what_it_says(dataset):
    tessera = dataset[0].tessera
    assert (tessera.crs, tessera.pixel_size, tessera.years, tessera.n_bands) == (
        "EPSG:32630", 10.0, [2023, 2024], 8,
    )  # fmt: skip


def test_an_opened_zone_is_read_by_the_engine_itself(sample, zone):
    store = open_embedding_store(sample.path)
    opened = open_zone(store, zone=30)
    assert zone_of_dataset(opened) is store.zone(30)
    assert zone_of_dataset(opened.copy(deep=True)) is store.zone(30)
    changed = opened.assign(scales=opened.scales * 2)
    assert zone_of_dataset(changed) is not store.zone(30)
    x, y = float(zone.x[40]), float(zone.y[30])
    np.testing.assert_array_equal(
        changed.tessera.sample_at(x, y, 2024), 2 * opened.tessera.sample_at(x, y, 2024)
    )


def test_points(sample, dataset):
    opened, held = dataset
    rng = np.random.default_rng(3)
    rows, cols = rng.integers(0, 96, 60), rng.integers(0, 128, 60)
    grid = sample.grids[30]
    x, y = grid.transform[2] + 10 * cols + 5, grid.transform[5] - 10 * rows - 5
    wanted = sample.embedding(30, 2024)
    for row, col, e, n in zip(rows, cols, x, y, strict=True):
        vector, status = opened.tessera.probe(e, n, 2024, search_px=0)
        inside = (
            held.row <= row < held.row + held.height and held.col <= col < held.col + held.width
        )
        assert status == (sample.status(30, 2024, row, col) if inside else "outside")
        if status == "valid":
            np.testing.assert_array_equal(vector, wanted[row, col])
        else:
            assert vector is None
            assert np.isnan(opened.tessera.sample_at(e, n, 2024, search_px=0)).all()
    some = opened.tessera.sample_points(np.column_stack([x, y]), 2023)
    one = [opened.tessera.sample_at(e, n, 2023) for e, n in zip(x, y, strict=True)]
    np.testing.assert_array_equal(some, np.array(one))
    assert opened.tessera.sample_points([], 2023).shape == (0, 8)
    with pytest.raises(YearError):
        opened.tessera.probe(x[0], y[0], 1999)


def test_regions(sample, dataset):
    opened, _ = dataset
    grid = sample.grids[30]
    part = Window(30, 20, 40, 50)
    left, bottom, right, top = grid.window(part).bounds
    wanted = sample.embedding(30, 2024, part)
    values, transform = opened.tessera.read_region((right, bottom, left, top), 2024)
    np.testing.assert_array_equal(values, wanted)
    assert tuple(transform)[:6] == grid.window(part).transform
    lower, _ = opened.tessera.read_region((left, bottom, right, top), 2024, array="embeddings_d4")
    np.testing.assert_array_equal(lower, wanted[..., :4])
    raw, scales, again = opened.tessera.read_region_quantized((left, bottom, right, top), 2024)
    held, factors = sample.read(30, 2024, part)
    np.testing.assert_array_equal(raw, held.transpose(1, 2, 0))
    np.testing.assert_array_equal(scales, factors)
    assert again == transform
    strips = list(opened.tessera.iter_region((left, bottom, right, top), 2024, strip_rows=17))
    assert [len(strip) for strip, _ in strips] == [17, 17, 6]
    np.testing.assert_array_equal(np.concatenate([strip for strip, _ in strips]), wanted)
    assert strips[1][1].f == transform.f - 170
    made = opened.tessera.dequantise(held, factors)
    np.testing.assert_array_equal(made, wanted)


def test_regions_that_cannot_be(zone):
    x, y = float(zone.x[40]), float(zone.y[30])
    box = x, y - 50, x + 50, y
    with pytest.raises(IndexError):
        zone.tessera.read_region((0, 0, 1, 1), 2024)
    with pytest.raises(NoOverlapError):
        zone.isel(x=slice(0, 10)).tessera.read_region(box, 2024)
    with pytest.raises(ValueError, match="1999"):
        zone.tessera.read_region(box, 1999)
    with pytest.raises(ValueError, match="four finite"):
        zone.tessera.read_region(box[:2], 2024)
    with pytest.raises(ValueError, match="four finite"):
        zone.tessera.read_region((x, y, x, np.nan), 2024)
    with pytest.raises(KeyError, match="embeddings_d4"):
        zone.tessera.read_region(box, 2024, array="nothing")
    with pytest.raises(ValueError, match="strip_rows"):
        next(zone.tessera.iter_region(box, 2024, strip_rows=0))
    with pytest.raises(ZoneError, match="scales"):
        zone.drop_vars("scales").tessera.years  # noqa: B018
    with pytest.raises(ValueError, match="evenly spaced"):
        zone.isel(x=[1, 2, 9]).tessera.read_region(box, 2024)


def test_one_year_of_a_zone(sample, zone):
    x, y = float(zone.x[40]), float(zone.y[30])
    for one in (zone.sel(time=2024), zone.sel(time=[2024])):
        assert one.tessera.years == [2024]
        np.testing.assert_array_equal(
            one.tessera.sample_at(x, y, 2024, search_px=0), sample.embedding(30, 2024)[30, 40]
        )


# --- open_dataarray ----------------------------------------------------------------------


def window_of(sample, array, zone):
    """Return which pixels of a zone an array on its grid holds."""
    grid = sample.grids[zone]
    row = round((grid.transform[5] - array.y.values[0]) / 10 - 0.5)
    col = round((array.x.values[0] - grid.transform[2]) / 10 - 0.5)
    return Window(row, col, array.sizes["y"], array.sizes["x"])


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """One zone, larger than a few blocks."""
    grid = zone_grid(-3.0, 52.0, 300, 400)
    return SampleStore.build(
        tmp_path_factory.mktemp("wide") / "store", grids=[grid], pixels=Pattern(8), shard=128
    )


def box_in(sample, zone, window):
    """Return a box in degrees that lies within a window."""
    corners = [
        sample.lonlat(zone, row, col)
        for row in (window.row, window.row + window.height - 1)
        for col in (window.col, window.col + window.width - 1)
    ]
    lon, lat = np.array(corners).T
    lon.sort(), lat.sort()
    return lon[1], lat[1], lon[2], lat[2]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_region_on_the_zones_own_pixels(wide, scheduler):
    box = box_in(wide, 30, Window(37, 51, 200, 300))
    array = open_dataarray(box, 2024, store=wide.path, chunks=64)
    assert array.dims == ("band", "y", "x")
    assert array.dtype == np.float32
    assert dask.is_dask_collection(array)
    window = window_of(wide, array, 30)
    assert window.height > 150
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(
            array.values.transpose(1, 2, 0), wide.embedding(30, 2024, window)
        )


def test_blocks_end_where_chunks_end(wide, monkeypatch):
    monkeypatch.setattr("geotessera.xr.zone._LARGEST_SIDE", 64)
    array = open_dataarray(box_in(wide, 30, Window(37, 51, 200, 300)), 2024, store=wide.path)
    window = window_of(wide, array, 30)
    for first, sizes in ((window.row, array.chunks[1]), (window.col, array.chunks[2])):
        assert len(sizes) > 3
        ends = first + np.cumsum(sizes)
        assert (ends[:-1] % 64 == 0).all()
    assert array.chunks[0] == (8,)
    values = array.values.transpose(1, 2, 0)
    np.testing.assert_array_equal(values, wide.embedding(30, 2024, window))


def test_sizes_of_blocks():
    assert block_side(32, 4 * 128) == 512
    assert block_side(32, 128) == 1024
    assert block_side(256, 4 * 128) == 512
    assert block_side(32, 4) == 1024
    assert block_side(2048, 4 * 128) == 2048


def test_chunks_as_they_are_asked_for(wide):
    box = box_in(wide, 30, Window(37, 51, 200, 300))
    array = open_dataarray(box, 2024, store=wide.path, chunks={"y": 50, "x": -1})
    assert array.chunks[1][0] == 50
    assert len(array.chunks[2]) == 1
    for wrong in ({"z": 1}, 0, "many", {"y": 2.5}, True):
        with pytest.raises(ValueError, match="chunks="):
            open_dataarray(box, 2024, store=wide.path, chunks=wrong)


def test_quantised_with_bands_and_depth(wide):
    box = box_in(wide, 30, Window(37, 51, 100, 100))
    array = open_dataarray(box, 2023, store=wide.path, quantized=True, chunks=64)
    values, scales = wide.read(30, 2023, window_of(wide, array, 30))
    assert array.dtype == np.int8
    assert dask.is_dask_collection(array.scales.data)
    found = array.compute()
    valid = np.isfinite(scales)
    np.testing.assert_array_equal(found.scales.values[valid], scales[valid])
    assert not np.isfinite(found.scales.values[~valid]).any()
    np.testing.assert_array_equal(found.values[:, valid], values[:, valid])
    some = open_dataarray(box, 2023, store=wide.path, bands=[3, 0], depth=4)
    wanted = wide.embedding(30, 2023, window_of(wide, some, 30))
    np.testing.assert_array_equal(some.values.transpose(1, 2, 0), wanted[..., [3, 0]])
    np.testing.assert_array_equal(some.band, [3, 0])


def test_both_sides_of_a_seam(sample):
    west, east = 30, 31
    array = open_dataarray((-0.004, 51.998, 0.004, 52.002), 2024, store=sample.path, chunks=32)
    from pyproj import Transformer

    assert array.attrs["proj:code"] == "EPSG:32631"
    x, y = np.meshgrid(array.x, array.y)
    lon, _ = Transformer.from_crs(32631, 4326, always_xy=True).transform(x, y)
    own = lon > 0.0005
    window = window_of(sample, array, east)
    rows, cols = np.nonzero(own)
    grid = sample.grids[east]
    wanted = sample.embedding(east, 2024)
    held = (rows + window.row < grid.height) & (cols + window.col < grid.width)
    held &= (rows + window.row >= 0) & (cols + window.col >= 0)
    rows, cols = rows[held], cols[held]
    np.testing.assert_array_equal(
        array.values[:, rows, cols].T, wanted[rows + window.row, cols + window.col]
    )
    # The western zone's pixels are moved here, each to its nearest place.
    other = sample.grids[west]
    rows, cols = np.nonzero(lon < -0.0005)
    e, n = Transformer.from_crs(32631, 32630, always_xy=True).transform(
        x[rows, cols], y[rows, cols]
    )
    u, v = (e - other.transform[2]) / 10, (other.transform[5] - n) / 10
    apart = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) > 1e-6
    inside = (u > 0) & (u < other.width) & (v > 0) & (v < other.height) & apart
    assert inside.sum() > 300
    there = sample.embedding(west, 2024)[v[inside].astype(int), u[inside].astype(int)]
    np.testing.assert_array_equal(array.values[:, rows[inside], cols[inside]].T, there)


def test_grids_of_others(wide):
    native = open_dataarray(box_in(wide, 30, Window(37, 51, 100, 100)), 2024, store=wide.path)
    again = open_dataarray(like=native, year=2024, store=wide.path, chunks=32)
    xr.testing.assert_identical(again, native)
    grid = GridSpec(32630, native.odc.geobox.affine[:6] if hasattr(native, "odc") else
                    tuple(native.attrs["spatial:transform"]), *native.shape[1:])  # fmt: skip
    xr.testing.assert_equal(open_dataarray(geobox=grid, year=2024, store=wide.path), native)
    degrees = open_dataarray(
        box_in(wide, 30, Window(37, 51, 100, 100)), 2024, store=wide.path, crs=4326
    )
    assert degrees.attrs["proj:code"] == "EPSG:4326"
    assert degrees.x.attrs["standard_name"] == "longitude"
    smooth = open_dataarray(like=degrees, year=2024, store=wide.path, resampling="bilinear")
    both = np.isfinite(smooth.values) & np.isfinite(degrees.values)
    assert both.any()
    assert (smooth.values[both] != degrees.values[both]).any()


def test_other_processes_compute_it(wide):
    array = open_dataarray(
        box_in(wide, 30, Window(37, 51, 100, 100)), 2024, store=wide.path, chunks=64,
        progress=lambda *report: pytest.fail("of another process"),
    )  # fmt: skip
    moved = pickle.loads(pickle.dumps(array))
    wanted = wide.embedding(30, 2024, window_of(wide, array, 30))
    np.testing.assert_array_equal(moved.values.transpose(1, 2, 0), wanted)


def test_progress(wide):
    told = []
    array = open_dataarray(
        box_in(wide, 30, Window(37, 51, 100, 100)), 2024, store=wide.path, chunks=64,
        progress=lambda *report: told.append(report),
    )  # fmt: skip
    array.compute(scheduler="synchronous")
    blocks = array.data.npartitions
    assert [report[:2] for report in told] == [(n, blocks) for n in range(1, blocks + 1)]


def test_where_it_is(wide):
    array = open_dataarray(box_in(wide, 30, Window(37, 51, 100, 120)), 2024, store=wide.path)
    left, bottom, right, top = array.attrs["spatial:bbox"]
    assert array.attrs["grid_mapping"] == "spatial_ref"
    assert array.attrs["proj:code"] == "EPSG:32630"
    assert array.attrs["spatial:transform"] == [10.0, 0.0, left, 0.0, -10.0, top]
    assert array.attrs["spatial:shape"] == list(array.shape[1:])
    assert array.attrs["year"] == 2024
    np.testing.assert_array_equal(array.x.values[[0, -1]], [left + 5, right - 5])
    np.testing.assert_array_equal(array.y.values[[0, -1]], [top - 5, bottom + 5])
    from pyproj import CRS

    mapping = array.spatial_ref.attrs
    assert CRS.from_cf(mapping).to_epsg() == 32630
    assert CRS.from_wkt(mapping["spatial_ref"]).to_epsg() == 32630
    numbers = [float(word) for word in mapping["GeoTransform"].split()]
    assert numbers == [left, 10, 0, top, 0, -10]


@pytest.mark.filterwarnings("default")  # theirs
def test_rioxarray_and_odc_understand_it(wide):
    array = open_dataarray(box_in(wide, 30, Window(37, 51, 100, 120)), 2024, store=wide.path)
    transform = tuple(array.attrs["spatial:transform"])
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        pytest.skip("rioxarray is not installed")
    assert array.rio.crs.to_epsg() == 32630
    assert tuple(array.rio.transform())[:6] == transform
    assert np.isnan(array.rio.encoded_nodata)
    assert tuple(array.rio.bounds()) == tuple(array.attrs["spatial:bbox"])
    try:
        import odc.geo.xr  # noqa: F401
    except ImportError:
        pytest.skip("odc-geo is not installed")
    assert array.odc.crs.epsg == 32630
    assert tuple(array.odc.affine)[:6] == transform
    again = open_dataarray(geobox=array.odc.geobox, year=2024, store=wide.path)
    xr.testing.assert_equal(again, array)


def test_damage(wide, tmp_path, caplog):
    import shutil

    shutil.copytree(wide.path, tmp_path / "store")
    box = box_in(wide, 30, Window(10, 10, 200, 200))
    whole = open_dataarray(box, 2024, store=wide.path, chunks=64).values
    broken = tmp_path / "store/utm30/embeddings/c/1/0/0/0"
    broken.write_bytes(b"x" * 100)
    with pytest.raises((FormatError, OSError)):
        open_dataarray(box, 2024, store=tmp_path / "store", chunks=64).compute()
    array = open_dataarray(box, 2024, store=tmp_path / "store", chunks=64, fail_on_error=False)
    found = array.values
    window = window_of(wide, array, 30)
    assert np.isnan(found[:, : 64 - window.row, : 64 - window.col]).all()
    assert "is left empty" in caplog.text
    np.testing.assert_array_equal(found[:, 160:, 160:], whole[:, 160:, 160:])


def test_arguments_that_cannot_be(sample):
    box = -0.004, 51.998, 0.004, 52.002
    for arguments, message in (
        ({"bbox": box}, "year="),
        ({"year": 2024}, "exactly one of"),
        ({"bbox": box, "like": 1, "year": 2024}, "exactly one of"),
        ({"like": sample.grids[30], "crs": 4326, "year": 2024}, "leave out crs="),
        ({"bbox": box, "year": 2024, "depth": 5}, "depth"),
        ({"bbox": box, "year": 2024, "resampling": "cubic"}, "method"),
        ({"bbox": box, "year": 2024, "resampling": "bilinear", "quantized": True}, "quantised"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataarray(**arguments, store=sample.path)
    with pytest.raises(YearError):
        open_dataarray(box, 1999, store=sample.path)
    with pytest.raises(NoOverlapError):
        open_dataarray((100, 10, 100.1, 10.1), 2024, store=sample.path)


def test_a_program_that_has_xarray_gets_the_accessor_with_the_module() -> None:
    def names(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    shows = (
        "print('tessera' in dir(sys.modules['xarray'].Dataset) if 'xarray' in sys.modules else 0)"
    )
    assert names(f"import sys, xarray, geotessera.store; {shows}") == "True"
    assert names(f"import sys, geotessera.store; {shows}") == "0"
