"""Icechunk repositories, against what `SampleRepository` says its pixels are."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("icechunk")

from geotessera.datasets import is_icechunk_location
from geotessera.errors import FormatError, MissingExtraError, ZoneError
from geotessera.icechunk import IcechunkStore
from geotessera.remote.objects.chunk_cache import chunk_cache
from geotessera.sources.icechunk import RepositoryStore, open_repository_store
from geotessera.sources.icechunk_session import (
    RepositoryReader,
    canonical_repository,
    open_repository,
    open_session,
)
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.store import GeoTesseraZarr
from geotessera.testing.repositories import SampleRepository
from geotessera.types import GridSpec, Window


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return SampleRepository.build(tmp_path_factory.mktemp("repo") / "r.icechunk")


@pytest.fixture(scope="module")
def store(sample):
    return open_embedding_store(str(sample.path) + "/")


def expected(sample, zone, year, window=None):
    values, scales = sample.read(zone, year, window)
    return values.transpose(1, 2, 0), scales


def test_store_says_what_it_holds(sample, store):
    assert isinstance(store, RepositoryStore)
    assert store.location == str(sample.path)
    assert store.groups == ["31N", "31S"]
    assert store.zone_numbers == [31]
    assert store.years == [2023, 2024]
    assert store.n_bands == 8
    assert store.depths == {8: "embeddings"}
    assert store.model_version == "https://geotessera.org/model/1.1"
    assert store.incomplete_years() == {"31S": [2023]}


def test_zone_is_merged_over_the_equator(sample, store):
    zone = store.zone(31)
    assert zone.grid == sample.merged(31)
    assert (zone.grid.height, zone.grid.width) == (40, 32)
    assert zone.mask_source == "source_nodata"
    assert not zone.nan_is_water
    assert zone.attrs == {
        "proj:code": "EPSG:32631",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [10.0, 0.0, 500000.0, 0.0, -10.0, 160.0],
        "spatial:shape": [40, 32],
        "spatial:registration": "pixel",
        "geoemb:dimensions": 8,
        "geotessera:mask_source": "source_nodata",
        "geotessera:source_groups": ["31N", "31S"],
        "geotessera:years_incomplete": {"31S": [2023]},
    }


WINDOWS = [
    None,
    Window(0, 0, 16, 8),  # north only, and west of the southern group
    Window(10, 5, 12, 20),  # over the equator
    Window(30, 0, 10, 8),  # nothing there in the west
    Window(20, 24, 20, 8),
]


@pytest.mark.parametrize("year", [2023, 2024])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_what_was_written(sample, store, year, window):
    source = store.zone(31).source(year)
    block = source.read(window)
    values, scales = expected(sample, 31, year, window)
    np.testing.assert_array_equal(block.scales, scales)
    np.testing.assert_array_equal(source.scales(window), scales)
    valid = np.isfinite(scales)
    np.testing.assert_array_equal(block.values[valid], values[valid])
    np.testing.assert_array_equal(source.read_float(window), sample.embedding(31, year, window))
    chw = source.read_float(window, [5, 0], layout="chw")
    wanted = sample.embedding(31, year, window)[..., [5, 0]].transpose(2, 0, 1)
    np.testing.assert_array_equal(chw, wanted)


def test_single_pixels(sample, store):
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 40, 200), rng.integers(0, 32, 200)
    for year in sample.years:
        source = store.zone(31).source(year)
        values, scales = source.pixels_at(rows, cols)
        np.testing.assert_array_equal(values, sample.embedding(31, year)[rows, cols])
        np.testing.assert_array_equal(scales, sample.read(31, year)[1][rows, cols])
    numbers = np.unique(rows * 32 + cols)
    sparse = source.gather(numbers)
    factors = np.where(np.isfinite(sparse.scales), sparse.scales, np.float32(np.nan))
    np.testing.assert_array_equal(
        sparse.values.astype(np.float32) * factors[:, None],
        sample.embedding(31, 2024).reshape(-1, 8)[numbers],
    )


def test_groups_without_the_attribute_are_complete(tmp_path):
    sample = SampleRepository.build(
        tmp_path / "r.icechunk", years_complete=False, time="years", pcodec=False, shard=None
    )
    store = open_repository_store(sample.path)
    assert store.years == [2023, 2024]
    assert store.incomplete_years() == {}
    found = store.zone(31).source(2023).read_float()
    np.testing.assert_array_equal(found, sample.embedding(31, 2023))
    assert np.isfinite(found[20:]).any()


def test_a_zone_of_one_hemisphere(tmp_path):
    grid = GridSpec(32722, (10.0, 0.0, 500_000.0, 0.0, -10.0, 8_900_000.0), 16, 16)
    sample = SampleRepository.build(tmp_path / "r.icechunk", groups={"22S": grid}, years=[2024])
    zone = open_repository_store(sample.path).zone(22)
    assert zone.grid == sample.merged(22)
    assert zone.grid.transform[5] == -1_100_000
    np.testing.assert_array_equal(zone.source(2024).read_float(), sample.embedding(22, 2024))


def test_what_is_missing(store):
    with pytest.raises(ZoneError, match="zones 31"):
        store.zone(5)
    with pytest.raises(KeyError):
        store.zone(31).source(1999)


def test_groups_out_of_phase_are_refused(tmp_path):
    north = GridSpec(32631, (10.0, 0.0, 500_000.0, 0.0, -10.0, 160.0), 16, 32)
    south = GridSpec(32731, (10.0, 0.0, 500_004.0, 0.0, -10.0, 10_000_000.0), 16, 32)
    sample = SampleRepository.build(
        tmp_path / "r.icechunk", groups={"31N": north, "31S": south}, years=[2024]
    )
    with pytest.raises(FormatError, match="31N and 31S do not lie on one grid"):
        open_repository_store(sample.path).zone(31)


def test_another_process_reads_the_same_snapshot(sample, store):
    zone = pickle.loads(pickle.dumps(store.zone(31)))
    again = pickle.loads(pickle.dumps(store.zone(31)))
    assert zone.reader is again.reader  # one session a process
    assert zone.reader.session.snapshot_id == sample.snapshot
    np.testing.assert_array_equal(
        zone.source(2024).read_float(WINDOWS[2]), sample.embedding(31, 2024, WINDOWS[2])
    )


def test_a_snapshot_is_read_though_the_branch_went_on(tmp_path):
    import icechunk
    import zarr

    sample = SampleRepository.build(tmp_path / "r.icechunk", years=[2024])
    old = open_repository_store(sample.path)
    before = old.zone(31).source(2024).read()
    session = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(sample.path))
    ).writable_session("main")
    zarr.open_group(session.store)["31N/embeddings"][...] = 7
    session.commit("Write another")
    new = open_repository_store(sample.path)
    assert new.reader.location != old.reader.location
    assert (new.zone(31).source(2024).read(Window(0, 0, 8, 8)).values == 7).all()
    kept = open_repository_store(sample.path, snapshot_id=sample.snapshot)
    for one in (old, kept):
        np.testing.assert_array_equal(one.zone(31).source(2024).read().values, before.values)


def test_what_was_read_is_kept_on_disk(sample, tmp_path):
    def opened():
        session = open_session(sample.path)
        reader = RepositoryReader(str(sample.path), session, chunk_cache(tmp_path))
        return RepositoryStore(reader), reader

    first, reader = opened()
    before = first.zone(31).source(2023).read_float()
    assert reader.traffic.requests > 0
    again, reader = opened()
    np.testing.assert_array_equal(again.zone(31).source(2023).read_float(), before)
    assert (reader.traffic.requests, reader.traffic.hits > 0) == (0, True)
    moved = pickle.loads(pickle.dumps(reader))
    assert moved.files.directory == reader.files.directory
    assert moved.get("31N/zarr.json") == reader.get("31N/zarr.json")
    assert moved.get("31N/nothing/zarr.json") is None
    assert (moved.traffic.requests, moved.traffic.hits) == (0, 1)


# --- Locations ---------------------------------------------------------------------------


def test_locations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_icechunk_location("s3://b/x.icechunk/")
    assert is_icechunk_location(tmp_path / "x.icechunk")
    assert not is_icechunk_location("https://h/x.zarr")
    assert not is_icechunk_location(None)
    assert canonical_repository("s3://b/x.icechunk/") == "s3://b/x.icechunk"
    assert canonical_repository("x.icechunk") == str(tmp_path / "x.icechunk")
    assert canonical_repository("file:///a/x.icechunk") == "/a/x.icechunk"
    for wrong in ("https://h/x.icechunk", "gs://b/x.icechunk", "s3://x.icechunk"):
        with pytest.raises(ValueError, match="s3://bucket/prefix"):
            open_session(wrong)


def test_no_repository_there(tmp_path, sample):
    with pytest.raises(ValueError, match="no Icechunk repository could be opened"):
        open_session(tmp_path / "nothing.icechunk")
    assert not (tmp_path / "nothing.icechunk").exists()
    with pytest.raises(FormatError, match="ref not found"):
        open_session(sample.path, branch="nothing")
    with pytest.raises(FormatError, match="snapshot"):
        open_session(sample.path, snapshot_id="nothing")


def test_opening_says_nothing(sample, capfd):
    open_repository(sample.path)
    found = capfd.readouterr()
    assert (found.out, found.err) == ("", "")


def test_without_the_extra(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "icechunk", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geotessera\[icechunk\]'"):
        open_session(sample.path)
    with pytest.raises(ImportError):
        open_repository_store(sample.path)


# --- The repository itself ---------------------------------------------------------------


def test_the_stores_own_face(sample):
    store = IcechunkStore(sample.path)
    assert store.url == str(sample.path)
    assert (store.groups, store.years, store.zones()) == (["31N", "31S"], [2023, 2024], [31])
    assert store.incomplete_years() == {"31S": [2023]}
    assert store.session.snapshot_id == sample.snapshot
    assert store.root.attrs["checkpoint_id"] == "synthetic"
    assert repr(store) == f"IcechunkStore('{sample.path}', years=[2023, 2024])"
    with pytest.raises(KeyError):
        store.open_zone(5)


def test_open_zone(sample):
    opened = IcechunkStore(sample.path).open_zone(31)
    assert opened.embeddings.chunks is None
    assert dict(opened.sizes) == {"time": 2, "band": 8, "y": 40, "x": 32, "month": 12}
    assert opened.attrs["geotessera:source_groups"] == ["31N", "31S"]
    values, scales = sample.read(31, 2024)
    np.testing.assert_array_equal(opened.scales.sel(time=2024).values, scales)
    valid = np.isfinite(scales)
    found = opened.embeddings.sel(time=2024).values
    np.testing.assert_array_equal(found[:, valid], values[:, valid])


def test_zone_arrays(sample):
    arrays = IcechunkStore(sample.path).zone_arrays(31)
    embeddings, scales = arrays["embeddings"], arrays["scales"]
    assert (embeddings.shape, embeddings.dims, embeddings.ndim) == (
        (2, 8, 40, 32), ("time", "band", "y", "x"), 4,
    )  # fmt: skip
    assert embeddings.dtype == np.int8
    assert embeddings.fill_value == 0
    assert np.isnan(scales.fill_value)
    assert arrays["s2_month_covered"].shape == (2, 40, 32, 12)
    assert repr(scales) == "<ZoneArray scales (time: 2, y: 40, x: 32) float32>"
    whole = embeddings[...]
    values, factors = sample.read(31, 2024)
    valid = np.isfinite(factors)
    np.testing.assert_array_equal(whole[1][:, valid], values[:, valid])
    np.testing.assert_array_equal(scales[1], factors)
    np.testing.assert_array_equal(embeddings[1, 2:5, ::3, 7], whole[1, 2:5, ::3, 7])
    rows, cols = np.array([3, 20, 39]), np.array([0, 31, 9])
    np.testing.assert_array_equal(
        embeddings.oindex[1, :, rows, cols], whole[1][:, rows][:, :, cols]
    )
    np.testing.assert_array_equal(embeddings.vindex[1, 4, rows, cols], whole[1, 4, rows, cols])
    np.testing.assert_array_equal(embeddings.vindex[1, :, rows, cols], whole[1][:, rows, cols].T)
    np.testing.assert_array_equal(
        scales.vindex[[0, 1, 1], rows, cols], scales[...][[0, 1, 1], rows, cols]
    )
    with pytest.raises(IndexError):
        scales[0, 0, 0, 0]


def test_the_client_reads_it_like_any_store(sample):
    client = GeoTesseraZarr(sample.path)
    grid = sample.merged(31)
    from pyproj import Transformer

    to = Transformer.from_crs(32631, 4326, always_xy=True)
    for row, col in ((3, 5), (25, 20), (18, 12)):
        lon, lat = to.transform(grid.transform[2] + 10 * col + 5, grid.transform[5] - 10 * row - 5)
        wanted = sample.embedding(31, 2024)[row, col]
        vector = client.sample_at(lon, lat, 2024, search_px=0)
        np.testing.assert_array_equal(vector, wanted)
    values, transform, crs = client.read_region((3.0, -0.002, 3.003, 0.002), 2024)
    assert crs == "EPSG:32631"
    row = round((grid.transform[5] - transform.f) / 10)
    col = round((transform.c - grid.transform[2]) / 10)
    height, width, _ = values.shape
    np.testing.assert_array_equal(
        values, sample.embedding(31, 2024)[row : row + height, col : col + width]
    )
