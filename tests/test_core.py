"""`GeoTessera` over a mirror on disk and over a server, against plain NumPy and PROJ."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import affine
import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import rasterio.crs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import oracles

from geotessera import GeoTessera, Status
from geotessera.errors import BandError, DatasetMismatchError, TileError, TileNotFoundError
from geotessera.testing import SampleWorld
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from geotessera.testing.world import WorldTile

SEAM = [(23.95, 83.65), (24.05, 83.65)]
SOUTH = (20.95, -79.95)
BANDS = 8


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty cache."""
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return here


@pytest.fixture
def tiles_dir(small_world: SampleWorld, tmp_path: Path) -> Path:
    return small_world.checkout(tmp_path / "tiles")


@pytest.fixture
def gt(small_world: SampleWorld, tiles_dir: Path) -> GeoTessera:
    return GeoTessera(base_url=small_world.root("B"), embeddings_dir=tiles_dir)


def inside(one: WorldTile, count: int, seed: int = 0) -> np.ndarray:
    """Points of a tile's cell, (lon, lat)."""
    rng = np.random.default_rng(seed)
    _, lon, lat = one.tile
    return np.c_[
        rng.uniform(lon - 0.05, lon + 0.05, count), rng.uniform(lat - 0.05, lat + 0.05, count)
    ]


def expected(one: WorldTile, points: np.ndarray, **options: object):
    """The oracle's values, status and pixels: PROJ for the map, NumPy for the rest."""
    to_utm = pyproj.Transformer.from_crs(4326, one.grid.epsg, always_xy=True)
    xy = np.c_[to_utm.transform(points[:, 0], points[:, 1])]
    return oracles.sample(one.values(), one.scales(), one.grid.transform, xy, **options)


# --- Construction --------------------------------------------------------------------------


def test_the_client_says_what_it_is(gt: GeoTessera, tiles_dir: Path) -> None:
    assert gt.dataset_version == "v1.1"
    assert gt.dataset_variant == "cambridge"
    assert gt.embeddings_dir == tiles_dir
    assert gt.registry.get_available_years() == [2023, 2024]
    assert gt.version == "1.0.0"
    assert "cambridge" in repr(gt)


def test_an_implicit_variant_is_announced(
    small_world: SampleWorld, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        GeoTessera(base_url=small_world.root("B"))
    assert "interoperate" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        GeoTessera(dataset_variant="cambridge", base_url=small_world.root("B"))
    assert "interoperate" not in caplog.text


def test_the_environment_selects_a_mirror(
    small_world: SampleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOTESSERA_BASE_URL", str(small_world.root("A")))
    assert GeoTessera().registry.generation == "A"


def test_the_retired_environment_variable_still_works(
    small_world: SampleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_BASE_URL", str(small_world.root("B")))
    with pytest.warns(DeprecationWarning, match="GEOTESSERA_BASE_URL"):
        GeoTessera()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dataset_version": "foo"}, ValueError),
        ({"dataset_version": "v1.1", "dataset_variant": "dclimate"}, ValueError),
        ({"bbox": (10, 10, 0, 20)}, ValueError),
        ({"bbox": (0, 0, 1, 1), "bbox_margin_deg": -1}, ValueError),
        ({"bbox": (0, 0, 1, 1)}, ValueError),
        ({"registry_path": "nowhere.parquet"}, RuntimeError),
        ({"base_url": "ftp://example.org/"}, ValueError),
    ],
)
def test_a_client_that_cannot_be_is_refused(
    small_world: SampleWorld, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        GeoTessera(**{"base_url": small_world.root("B"), **options})


def test_importing_the_package_imports_no_numpy() -> None:
    code = (
        "import sys, geotessera; geotessera.__version__, dir(geotessera)\n"
        "heavy = {'numpy', 'pandas', 'rasterio', 'pyarrow', 'requests'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_methods_can_be_inspected_and_replaced(
    gt: GeoTessera, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(inspect.signature(GeoTessera.__init__).parameters)
    assert names[1:10] == [
        "dataset_version", "dataset_variant", "cache_dir", "embeddings_dir", "registry_url",
        "registry_path", "registry_dir", "bbox", "bbox_margin_deg",
    ]  # fmt: skip
    assert inspect.isgeneratorfunction(GeoTessera.fetch_embeddings)
    monkeypatch.setattr(GeoTessera, "fetch_embedding", lambda *_: ("e", "c", "t"))
    assert list(gt.fetch_embeddings([(2024, *SEAM[0])])) == [(2024, *SEAM[0], "e", "c", "t")]


# --- Whole tiles ---------------------------------------------------------------------------


def test_a_tile_is_what_numpy_makes_of_its_files(gt: GeoTessera, small_world: SampleWorld) -> None:
    for one in small_world.tiles:
        year, lon, lat = one.tile
        values, crs, transform = gt.fetch_embedding(lon, lat, year)
        np.testing.assert_array_equal(values, oracles.dequantized(one.values(), one.scales()))
        assert values.dtype == np.float32
        assert isinstance(crs, rasterio.crs.CRS)
        assert isinstance(transform, affine.Affine)
        with rasterio.open(one.files.landmask) as mask:
            assert crs == mask.crs
            assert transform == mask.transform


def test_any_point_of_a_cell_fetches_its_tile(gt: GeoTessera) -> None:
    exact = gt.fetch_embedding(*SEAM[0], 2024)[0]
    np.testing.assert_array_equal(gt.fetch_embedding(23.901, 83.699, 2024)[0], exact)


def test_a_tile_that_does_not_exist_names_the_nearest_year(gt: GeoTessera) -> None:
    with pytest.raises(TileNotFoundError, match="nearest year it has is 2024"):
        gt.fetch_embedding(*SOUTH, 2019)
    with pytest.raises(TileNotFoundError, match=r"no tile grid_10\.05_10\.05 in any year"):
        gt.fetch_embedding(10, 10, 2024)
    with pytest.raises(ValueError, match="out of bounds"):
        gt.fetch_embedding(200, 10, 2024)


def test_fetching_many_is_lazy_and_in_order(small_world: SampleWorld) -> None:
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        wanted = gt.registry.load_blocks_for_region((23.91, 83.61, 24.09, 83.79), 2024)
        assert isinstance(wanted, list)
        assert all(type(tile[1]) is float for tile in wanted)
        before = server.count("*.npy")
        stream = gt.fetch_embeddings(iter(wanted))
        assert server.count("*.npy") == before
        first = next(stream)
        # This one and, while it is worked on, the next two; never the fourth.
        last = "*grid_{:.2f}_{:.2f}*".format(*wanted[3][1:])
        assert before + 2 <= server.count("*.npy") <= before + 6
        assert server.count(last) == 0
        assert [first[:3], *(one[:3] for one in stream)] == wanted
        assert len(wanted) == 4


def test_fetching_many_stops_at_the_first_failure(gt: GeoTessera) -> None:
    stream = gt.fetch_embeddings([(2024, *SEAM[0]), (2024, 10.05, 10.05), (2024, *SEAM[1])])
    next(stream)
    with pytest.raises(RuntimeError, match="Failed to fetch tile") as caught:
        next(stream)
    assert isinstance(caught.value.__cause__, TileNotFoundError)
    assert next(stream, None) is None


def test_the_retired_call_forms_warn(gt: GeoTessera, tmp_path: Path) -> None:
    box = (23.91, 83.61, 23.99, 83.69)
    with pytest.warns(DeprecationWarning, match="load_blocks_for_region"):
        assert [one[:3] for one in gt.fetch_embeddings(box, 2024)] == [(2024, *SEAM[0])]
    with pytest.warns(DeprecationWarning, match="load_blocks_for_region"):
        paths = gt.export_embedding_geotiffs(output_dir=tmp_path, bbox=box, year=2024, bands=[0])
    assert len(paths) == 1
    with pytest.warns(DeprecationWarning, match="verify_hashes"):
        GeoTessera(base_url=gt.registry.mirror.base, verify_hashes=True)


def test_counting_a_region(gt: GeoTessera) -> None:
    assert gt.embeddings_count((23.9, 83.6, 24.1, 83.8), 2024) == 4
    assert gt.embeddings_count((23.9, 83.6, 24.1, 83.7), 2023) == 2
    assert gt.embeddings_count((179, 83, -179, 84), 2024) == 2


# --- Points --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_sampling_equals_the_oracle_in_every_tile(
    gt: GeoTessera, small_world: SampleWorld, method: str
) -> None:
    for one in small_world.tiles:
        points = inside(one, 200)
        values, status = gt.sample_embeddings_at_points(
            points, one.tile.year, method=method, return_status=True
        )
        wanted, wanted_status, _ = expected(one, points, method=method)
        np.testing.assert_array_equal(status, wanted_status)
        if method == "nearest":
            np.testing.assert_array_equal(values, wanted)
        else:
            np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-9)


def test_rows_come_in_the_order_of_the_points(gt: GeoTessera, small_world: SampleWorld) -> None:
    worlds = [one for one in small_world.tiles if one.tile.year == 2024]
    points = np.concatenate([inside(one, 50) for one in worlds])
    wanted = np.concatenate([expected(one, inside(one, 50))[0] for one in worlds])
    shuffled = np.random.default_rng(1).permutation(len(points))
    values = gt.sample_embeddings_at_points(points[shuffled], 2024)
    np.testing.assert_array_equal(values, wanted[shuffled])
    assert values.dtype == np.float32


def test_metadata_names_tile_and_pixel(gt: GeoTessera, small_world: SampleWorld) -> None:
    one = small_world.tile(*SOUTH)
    points = np.vstack([inside(one, 20), [[10.0, 10.0]]])
    values, metadata, status = gt.sample_embeddings_at_points(
        points, 2024, include_metadata=True, return_status=True
    )
    _, _, pixels = expected(one, points[:-1])
    assert metadata[-1] is None
    assert status[-1] == Status.NO_TILE
    assert np.isnan(values[-1]).all()
    for entry, (row, col) in zip(metadata[:-1], pixels.tolist(), strict=True):
        assert entry == {
            "tile_lon": 20.95, "tile_lat": -79.95, "pixel_row": row, "pixel_col": col,
            "crs": one.grid.crs_name,
        }  # fmt: skip


def test_points_come_in_many_forms(gt: GeoTessera, small_world: SampleWorld) -> None:
    points = inside(small_world.tile(*SEAM[0]), 12)
    wanted = gt.sample_embeddings_at_points(points, 2024)
    tuples = [tuple(row) for row in points.tolist()]
    frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*points.T), crs=4326)
    collection = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": p}}
            for p in points.tolist()
        ],
    }
    table = pd.DataFrame({"name": "x", "lon": points[:, 0], "lat": points[:, 1]})
    for form in (tuples, iter(tuples), collection, frame, frame.geometry, table):
        np.testing.assert_array_equal(gt.sample_embeddings_at_points(form, 2024), wanted)
    moved = gt.sample_embeddings_at_points(frame.to_crs(3995), 2024)
    assert np.mean((moved == wanted).all(axis=1)) > 0.9  # reprojection may cross a pixel edge


def test_bands_are_a_choice_in_order(gt: GeoTessera, small_world: SampleWorld) -> None:
    points = inside(small_world.tile(*SEAM[0]), 30)
    everything = gt.sample_embeddings_at_points(points, 2024)
    some = gt.sample_embeddings_at_points(points, 2024, bands=np.array([5, 0, 5]))
    np.testing.assert_array_equal(some, everything[:, [5, 0, 5]])
    for bad in ([BANDS], [-1]):
        with pytest.raises(BandError):
            gt.sample_embeddings_at_points(points, 2024, bands=bad)
    chosen = gt.sample_embeddings_at_points(points, 2024, bands=(band for band in (5, 0)))
    np.testing.assert_array_equal(chosen, everything[:, [5, 0]])


@pytest.mark.parametrize("bands", [0, "01", [0.0], slice(0, 2), [], [None], np.array(1), [-1]])
def test_what_is_no_list_of_bands_is_refused_before_a_download(
    small_world: SampleWorld, elsewhere: Path, bands: Any
) -> None:
    gt = GeoTessera(base_url=small_world.root("B"), embeddings_dir=elsewhere)
    with pytest.raises(BandError, match="band"):
        gt.sample_embeddings_at_points(SEAM, 2024, bands=bands)
    assert list(elsewhere.rglob("*.npy")) == []


def test_water_is_masked_when_asked_for(gt: GeoTessera, small_world: SampleWorld) -> None:
    one = small_world.tile(*SEAM[0])
    points = inside(one, 2000)
    _, plain = gt.sample_embeddings_at_points(points, 2024, return_status=True)
    values, status = gt.sample_embeddings_at_points(
        points, 2024, return_status=True, mask_water=True
    )
    wanted, wanted_status, _ = expected(one, points, land=one.mask())
    np.testing.assert_array_equal(status, wanted_status)
    np.testing.assert_array_equal(values, wanted)
    assert Status.WATER in status
    assert Status.WATER not in plain


def test_no_points_need_no_tiles(small_world: SampleWorld) -> None:
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        asked = len(server.requests)
        assert gt.sample_embeddings_at_points([], 2024).shape == (0, 128)
        values, metadata = gt.sample_embeddings_at_points(
            {"type": "FeatureCollection", "features": []}, 2024, include_metadata=True
        )
        assert (values.shape, metadata) == ((0, 128), [])
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    "points",
    [[(np.nan, 1)], [(1, np.inf)], [(181, 0)], [(0, 91)], [(1, 2, 3)], [(1,)], ["ab"], [None]],
)
def test_points_that_are_none_are_refused(gt: GeoTessera, points: list[object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        gt.sample_embeddings_at_points(points, 2024)


def test_wrong_options_are_refused(gt: GeoTessera) -> None:
    with pytest.raises(ValueError, match="errors="):
        gt.sample_embeddings_at_points([SEAM[0]], 2024, errors="ignore")
    with pytest.raises(ValueError, match="cubic"):
        gt.sample_embeddings_at_points([SEAM[0]], 2024, method="cubic")


def test_points_outside_the_dataset_are_nan_with_one_warning(
    gt: GeoTessera, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        values = gt.sample_embeddings_at_points([SEAM[0], (10, 10), (11, 11)], 2024)
    assert np.isnan(values[1:]).all()
    assert sum("2 of 3 points" in record.message for record in caplog.records) == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.floats(23.8, 24.2), st.floats(83.55, 83.85)), min_size=1, max_size=40
    )
)
def test_a_batch_equals_its_points_one_by_one(gt: GeoTessera, rows: list[tuple]) -> None:
    batch, status = gt.sample_embeddings_at_points(rows, 2024, return_status=True)
    for row, point in enumerate(rows):
        one, its_status = gt.sample_embeddings_at_points([point], 2024, return_status=True)
        if its_status[0] == Status.NO_TILE:  # one width for all rows, 128 where no tile says
            one = one[:, : batch.shape[1]]
        np.testing.assert_array_equal(one[0], batch[row])
        assert its_status[0] == status[row]


# --- What is fetched, and where it goes ----------------------------------------------------


def test_answers_leave_no_litter(small_world: SampleWorld, elsewhere: Path) -> None:
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        gt.fetch_embedding(*SEAM[0], 2024)
        fetched = server.count("*.npy")
        gt.sample_embeddings_at_points([SEAM[0]], 2024)
        assert server.count("*.npy") == fetched  # reused within the session
    assert gt.embeddings_dir == elsewhere
    assert list(elsewhere.iterdir()) == []


def test_the_session_ends_with_the_process(small_world: SampleWorld, tmp_path: Path) -> None:
    code = (
        "import os, sys, tempfile; from geotessera import GeoTessera\n"
        f"gt = GeoTessera(base_url={str(small_world.root('B'))!r})\n"
        f"gt.fetch_embedding(*{SEAM[0]}, 2024)\n"
        "assert any(n.startswith('geotessera-') for n in os.listdir(tempfile.gettempdir()))\n"
        "pid = os.fork()\n"
        "if pid == 0: sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "gt.fetch_embedding(*(%r), 2024)\n"
        "assert any(n.startswith('geotessera-') for n in os.listdir(tempfile.gettempdir()))\n"
    ) % (SEAM[0],)
    place = tmp_path / "tmp"
    place.mkdir()
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert list(place.iterdir()) == []


def test_a_directory_of_ones_own_keeps_what_is_fetched(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    gt = GeoTessera(base_url=small_world.root("B"), embeddings_dir=kept)
    gt.sample_embeddings_at_points([SEAM[0]], 2024)
    assert gt.check_tiles_present([*SEAM, (10, 10)], 2024) == {
        "grid_23.95_83.65": True,
        "grid_24.05_83.65": False,
    }
    assert (kept / "tessera_metadata.json").is_file()


def test_tiles_of_the_current_directory_are_read(small_world: SampleWorld, elsewhere: Path) -> None:
    small_world.checkout(elsewhere)
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        gt.sample_embeddings_at_points([SEAM[0]], 2024, auto_download=False)
        assert server.count("*.npy") == 0


def test_offline_and_missing_is_an_error(small_world: SampleWorld, tmp_path: Path) -> None:
    gt = GeoTessera(base_url=small_world.root("B"), embeddings_dir=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="auto_download"):
        gt.sample_embeddings_at_points([SEAM[0]], 2024, auto_download=False)
    values, metadata, status = gt.sample_embeddings_at_points(
        [SEAM[0]], 2024, auto_download=False, errors="coerce",
        include_metadata=True, return_status=True,
    )  # fmt: skip
    assert status.tolist() == [Status.FAILED]
    assert np.isnan(values).all()
    assert "auto_download" in metadata[0]["error"]


def test_an_offline_client_asks_no_server(small_world: SampleWorld, tmp_path: Path) -> None:
    here = tmp_path / "here"
    with LoopbackServer(small_world.root("B")) as server:
        GeoTessera(base_url=server.url, embeddings_dir=here).download_tile(*SEAM[0], 2024)
        asked = len(server.requests)
        gt = GeoTessera(base_url=server.url, embeddings_dir=here, offline=True)
        assert np.isfinite(gt.fetch_embedding(*SEAM[0], 2024)[0]).any()
        with pytest.raises(FileNotFoundError, match="offline"):
            gt.fetch_embedding(*SEAM[1], 2024)
        with pytest.raises(FileNotFoundError, match="offline"):
            gt.registry.fetch_landmask(lon=SEAM[1][0], lat=SEAM[1][1])
        assert gt.download_tile(*SEAM[0], 2024, refresh=True) is False
        assert len(server.requests) == asked
    assert len(list(here.rglob("*.npy"))) == 2


def test_another_dataset_is_never_read(small_world: SampleWorld, tmp_path: Path) -> None:
    from geotessera.registry import write_tessera_metadata

    other = small_world.checkout(tmp_path / "other")
    write_tessera_metadata(other, "v1", "vultr")
    gt = GeoTessera(base_url=small_world.root("B"), embeddings_dir=other)
    with pytest.raises(DatasetMismatchError, match="cannot be interchanged"):
        gt.sample_embeddings_at_points([SEAM[0]], 2024)
    assert gt.download_tile(*SEAM[0], 2024) is False


@pytest.mark.parametrize("generation", ["B", "A", "A-simple"])
def test_every_layout_serves_the_same_tiles(
    small_world: SampleWorld, tmp_path: Path, generation: str
) -> None:
    with LoopbackServer(small_world.root(generation)) as server:
        gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path / generation)
        assert gt.registry.mirror.layout == generation
        outcome = gt.download_tiles_for_points([*SEAM, SOUTH, (10, 10)], 2024)
    assert outcome == dict.fromkeys(
        ["grid_20.95_-79.95", "grid_23.95_83.65", "grid_24.05_83.65"], True
    )
    for place in (*SEAM, SOUTH):
        wanted = oracles.dequantized(
            small_world.tile(*place).values(), small_world.tile(*place).scales()
        )
        np.testing.assert_array_equal(gt.fetch_embedding(*place, 2024)[0], wanted)


@pytest.mark.parametrize("what", ["*[0-9].npy", "*_scales.npy", "*.tiff"])
@pytest.mark.usefixtures("quick_retries")
def test_corrupt_bytes_never_get_a_final_name(
    small_world: SampleWorld, tmp_path: Path, what: str
) -> None:
    target = tmp_path / "target"
    with LoopbackServer(small_world.root("A")) as server:
        gt = GeoTessera(base_url=server.url, embeddings_dir=target)
        server.add(Fault("corrupt", what))
        assert gt.download_tile(*SEAM[0], 2024) is False
        assert not [path for path in target.rglob("*") if path.is_file() and path.match(what)]
        with pytest.raises(TileError):
            gt.sample_embeddings_at_points([SEAM[0]], 2024)
        server.clear()
        assert gt.download_tile(*SEAM[0], 2024) is True


@pytest.mark.usefixtures("quick_retries")
def test_switching_verification_off_takes_the_bytes_as_they_are(
    small_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackServer(small_world.root("A")) as server:
        # Without an ETag that is an MD5 nothing else could notice.
        server.add(Fault("header", headers={"ETag": '"x"'}), Fault("corrupt", "*[0-9].npy"))
        gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path / "a")
        assert gt.download_tile(*SEAM[0], 2024) is False
        monkeypatch.setenv("GEOTESSERA_SKIP_HASH", "1")
        assert gt.download_tile(*SEAM[0], 2024) is True


@pytest.mark.usefixtures("quick_retries")
def test_refresh_repairs_and_a_failed_refresh_keeps(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    one = small_world.tile(*SEAM[0])
    with LoopbackServer(small_world.root("A")) as server:
        gt = GeoTessera(base_url=server.url, embeddings_dir=kept)
        assert gt.download_tile(*SEAM[0], 2024)
        path = next(kept.rglob("grid_23.95_83.65.npy"))
        damaged = bytearray(path.read_bytes())
        damaged[5000] ^= 255
        path.write_bytes(damaged)
        server.add(Fault("status", "*_scales.npy", status=404))
        assert gt.download_tile(*SEAM[0], 2024, refresh=True) is False
        assert path.read_bytes() == damaged
        server.clear()
        assert gt.download_tile(*SEAM[0], 2024, refresh=True) is True
        assert path.read_bytes() == one.files.embedding.read_bytes()
    assert not list(kept.rglob("*incoming*"))


def test_a_failing_tile_is_an_error_or_a_status(small_world: SampleWorld, tmp_path: Path) -> None:
    world = SampleWorld.build(tmp_path / "world", size="tiny", faults={SEAM[0]: "missing-file"})
    gt = GeoTessera(base_url=world.root("B"), embeddings_dir=tmp_path / "tiles")
    with pytest.raises(RuntimeError, match=r"grid_23\.95_83\.65"):
        gt.sample_embeddings_at_points(SEAM, 2024)
    values, metadata, status = gt.sample_embeddings_at_points(
        SEAM, 2024, errors="coerce", include_metadata=True, return_status=True
    )
    assert status[0] == Status.FAILED
    assert np.isnan(values[0]).all()
    assert "grid_23.95_83.65" in metadata[0]["error"]
    assert status[1] in (Status.VALID, Status.NODATA)
    assert "error" not in metadata[1]


def test_a_damaged_local_tile_is_no_nan(gt: GeoTessera, tiles_dir: Path) -> None:
    path = next(tiles_dir.rglob("2024/*/grid_23.95_83.65_scales.npy"))
    content = path.read_bytes()
    path.unlink()  # a hard link: the world's own file stays whole
    path.write_bytes(content[:-100])
    with pytest.raises(RuntimeError, match="truncated"):
        gt.sample_embeddings_at_points([SEAM[0]], 2024)
    with pytest.raises(RuntimeError, match="truncated"):
        gt.fetch_embedding(*SEAM[0], 2024)


@pytest.mark.parametrize(
    "change",
    [
        {"transform": rasterio.Affine(20, 0, 500_000, 0, -20, 9_290_000)},
        {"transform": rasterio.Affine(10, 0, 500_000, 0, 10, 9_290_000)},
        {"transform": rasterio.Affine(10, 1, 500_000, 0, -10, 9_290_000)},
        {"transform": rasterio.Affine(10, 0, 400_000, 0, -10, 9_290_000)},
        {"crs": "EPSG:32733"},
        {"crs": "EPSG:4326"},
    ],
)
def test_a_landmask_of_another_place_is_an_error(
    gt: GeoTessera, tiles_dir: Path, change: dict[str, object]
) -> None:
    path = next(tiles_dir.rglob("grid_24.05_83.65.tiff"))
    with rasterio.open(path) as dataset:
        profile, mask = {**dataset.profile, **change}, dataset.read()
    path.unlink()  # a hard link: the world's own file stays whole
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(mask)
    with pytest.raises(RuntimeError, match="landmask"):
        gt.fetch_embedding(*SEAM[1], 2024)
    _, status = gt.sample_embeddings_at_points(SEAM, 2024, errors="coerce", return_status=True)
    assert status[1] == Status.FAILED
    assert status[0] in (Status.VALID, Status.NODATA)


def test_threads_may_be_the_first_to_need_a_crs(small_world: SampleWorld, tiles_dir: Path) -> None:
    code = (
        "import threading; from geotessera import GeoTessera\n"
        f"gt = GeoTessera(base_url={str(small_world.root('B'))!r}, "
        f"embeddings_dir={str(tiles_dir)!r})\n"
        "start, failed = threading.Barrier(16), []\n"
        "def work():\n"
        "    start.wait()\n"
        f"    try: gt.fetch_embedding(*{SEAM[0]}, 2024)\n"
        "    except BaseException as error: failed.append(error)\n"
        "threads = [threading.Thread(target=work) for _ in range(16)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "assert not failed, failed\n"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_sixteen_threads_share_a_client(small_world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path / "shared")
        places = [one.tile for one in small_world.tiles]
        barrier = threading.Barrier(16)

        def work(number: int) -> bool:
            barrier.wait()
            one = small_world.tiles[number % len(places)]
            year, lon, lat = one.tile
            values = gt.fetch_embedding(lon, lat, year)[0]
            return np.array_equal(
                values, oracles.dequantized(one.values(), one.scales()), equal_nan=True
            )

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(work, range(16)))
    assert not list((tmp_path / "shared").rglob("*_tmp_*"))


def test_an_export_of_some_bands_is_no_tile(
    gt: GeoTessera, small_world: SampleWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, bands in (("selection", [5, 6, 7]), ("prefix", [0, 1, 2])):
        out = tmp_path / name
        gt.export_embedding_geotiffs([(2024, *SEAM[0])], out, bands=bands)
        other = GeoTessera(base_url=small_world.root("B"), embeddings_dir=out)
        with pytest.raises(FileNotFoundError, match="auto_download"):
            other.sample_embeddings_at_points([SEAM[0]], 2024, auto_download=False)
        assert other.sample_embeddings_at_points(SEAM, 2024).shape == (2, BANDS)
        assert other.fetch_embedding(*SEAM[0], 2024)[0].shape[2] == BANDS
    assert "does not serve as a tile" in caplog.text


def test_an_export_of_another_dataset_is_no_tile(
    gt: GeoTessera, small_world: SampleWorld, tmp_path: Path
) -> None:
    path = tmp_path / "only" / "grid_23.95_83.65_2024.tiff"
    gt.export_embedding_geotiff(*SEAM[0], path)
    other = GeoTessera(base_url=small_world.root("B"), embeddings_dir=path.parent)
    assert other.check_tiles_present([SEAM[0]], 2024) == {"grid_23.95_83.65": True}
    for tags in ({"TESSERA_DATASET_VARIANT": "vultr"}, {"TESSERA_YEAR": "2023"}):
        gt.export_embedding_geotiff(*SEAM[0], path)
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**tags)
        other = GeoTessera(base_url=small_world.root("B"), embeddings_dir=path.parent)
        assert other.check_tiles_present([SEAM[0]], 2024) == {"grid_23.95_83.65": False}


def test_water_of_an_export_needs_its_landmask(
    gt: GeoTessera, small_world: SampleWorld, tmp_path: Path
) -> None:
    one = small_world.tile(*SEAM[0])
    only = tmp_path / "only"
    gt.export_embedding_geotiffs([one.tile], only)
    other = GeoTessera(base_url=small_world.root("B"), embeddings_dir=only)
    points = inside(one, 500)
    with pytest.raises(RuntimeError, match="landmask"):
        other.sample_embeddings_at_points(points, 2024, mask_water=True)
    masks = only / "global_0.1_degree_tiff_all"
    masks.mkdir()
    (masks / one.files.landmask.name).write_bytes(one.files.landmask.read_bytes())
    _, status = other.sample_embeddings_at_points(points, 2024, mask_water=True, return_status=True)
    np.testing.assert_array_equal(status, expected(one, points, land=one.mask())[1])


def test_exports_never_enter_a_directory_of_another_dataset(gt: GeoTessera, tmp_path: Path) -> None:
    from geotessera.registry import write_tessera_metadata

    write_tessera_metadata(tmp_path / "v2", "v2", "2B-L~beta1")
    with pytest.raises(ValueError, match="cannot be interchanged"):
        gt.export_embedding_geotiffs([(2024, *SEAM[0])], tmp_path / "v2")
    assert not list((tmp_path / "v2").rglob("*.tiff"))


def test_a_year_may_come_from_a_table_of_floats(small_world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url, embeddings_dir=tmp_path)
        rows = np.array([(2024, *SEAM[0])])
        assert [one[0] for one in gt.fetch_embeddings(rows)] == [2024]
        assert gt.download_tile(*SEAM[1], np.float64(2024)) is True
        assert gt.check_tiles_present([SEAM[1]], 2024.0) == {"grid_24.05_83.65": True}
        assert all("2024.0" not in request.path for request in server.requests)
    for bad in (2024.5, "2024", None, float("nan"), True):
        with pytest.raises(ValueError, match="year"):
            gt.fetch_embedding(*SEAM[0], bad)


def test_the_directory_can_be_changed(
    gt: GeoTessera, small_world: SampleWorld, tmp_path: Path
) -> None:
    gt.embeddings_dir = tmp_path / "new"
    assert gt.check_tiles_present([SEAM[0]], 2024) == {"grid_23.95_83.65": False}
    gt.fetch_embedding(*SEAM[0], 2024)
    assert gt.check_tiles_present([SEAM[0]], 2024) == {"grid_23.95_83.65": True}
    assert gt.registry.fetch_landmask(lon=23.95, lat=83.65).startswith(str(tmp_path / "new"))


def test_a_cache_directory_in_second_place_is_understood(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    with pytest.warns(DeprecationWarning, match="cache_dir"):
        gt = GeoTessera("v1.1", str(tmp_path / "cache"), base_url=small_world.root("B"))
    assert gt.dataset_variant == "cambridge"


def test_the_retired_progress_bar_is_understood(gt: GeoTessera) -> None:
    with pytest.warns(DeprecationWarning, match="progress_callback"):
        gt.registry.fetch(year=2024, lon=23.95, lat=83.65, progressbar=True)
    with pytest.warns(DeprecationWarning, match="progress_callback"):
        gt.registry.fetch_landmask("grid_23.95_83.65.tiff", True)


def test_a_damaged_copy_of_the_registry_heals(small_world: SampleWorld, tmp_path: Path) -> None:
    cache = tmp_path / "healing"
    with LoopbackServer(small_world.root("B")) as server:
        count = GeoTessera(base_url=server.url, cache_dir=cache).embeddings_count(
            (23.9, 83.6, 24.1, 83.8), 2024
        )
        (copy,) = cache.rglob("manifest.parquet")
        content = copy.read_bytes()
        stat = copy.stat()
        copy.write_bytes(content[: len(content) // 2])
        os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        healed = GeoTessera(base_url=server.url, cache_dir=cache)
        assert healed.embeddings_count((23.9, 83.6, 24.1, 83.8), 2024) == count
        assert copy.read_bytes() == content


def test_the_landmask_beside_a_tile_is_used(small_world: SampleWorld, elsewhere: Path) -> None:
    small_world.checkout(elsewhere)
    with LoopbackServer(small_world.root("B")) as server:
        gt = GeoTessera(base_url=server.url)
        gt._get_utm_projection_from_landmask(*SEAM[0])
        assert server.count("*.tiff") == 0


# --- GeoTIFFs ------------------------------------------------------------------------------


def test_exports_are_read_back_identical(
    gt: GeoTessera, small_world: SampleWorld, tmp_path: Path
) -> None:
    tiles = [(2024, *SEAM[0]), (2024, *SOUTH)]
    seen: list[tuple[int, int, str]] = []
    paths = gt.export_embedding_geotiffs(
        tiles, tmp_path / "out", bands=[3, 0], progress_callback=lambda *a: seen.append(a)
    )
    assert seen[-1][:2] == (2, 2)
    for path, (year, lon, lat) in zip(paths, tiles, strict=True):
        one = small_world.tile(lon, lat, year)
        assert Path(path).parent.parent.name == "2024"
        wanted = oracles.dequantized(one.values(), one.scales())[..., [3, 0]]
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, -1), wanted)
            assert dataset.crs.to_epsg() == one.grid.epsg
            assert tuple(dataset.transform)[:6] == one.grid.transform
            assert dataset.descriptions == ("Tessera_Band_3", "Tessera_Band_0")
            tags = dataset.tags()
        assert tags["TESSERA_DATASET_VARIANT"] == "cambridge"
        assert tags["TESSERA_YEAR"] == "2024"


def test_exports_serve_as_tiles(gt: GeoTessera, small_world: SampleWorld, tmp_path: Path) -> None:
    gt.export_embedding_geotiff(*SEAM[0], tmp_path / "only" / "grid_23.95_83.65_2024.tiff")
    other = GeoTessera(base_url=small_world.root("B"), embeddings_dir=tmp_path / "only")
    points = inside(small_world.tile(*SEAM[0]), 300)
    for method in ("nearest", "bilinear"):
        np.testing.assert_allclose(
            other.sample_embeddings_at_points(points, 2024, auto_download=False, method=method),
            gt.sample_embeddings_at_points(points, 2024, method=method),
            rtol=1e-6,
        )


def test_wrong_exports_leave_nothing(gt: GeoTessera, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="compression"):
        gt.export_embedding_geotiff(*SEAM[0], out / "x.tiff", compress="zip9")
    with pytest.raises(IndexError):
        gt.export_embedding_geotiff(*SEAM[0], out / "x.tiff", bands=[BANDS])
    with pytest.raises(TileNotFoundError):
        gt.export_embedding_geotiffs([(2024, 10.05, 10.05)], out)
    assert gt.export_embedding_geotiffs([], out) == []
    assert not list(out.rglob("*.tif*"))


def test_the_landmask_gives_the_projection(gt: GeoTessera, small_world: SampleWorld) -> None:
    crs, transform = gt._get_utm_projection_from_landmask(*SOUTH)
    assert crs.to_epsg() == 32700 + 34
    assert tuple(transform)[:6] == small_world.tile(*SOUTH).grid.transform
