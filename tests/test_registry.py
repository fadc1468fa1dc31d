"""`Registry`: its sources, its queries, its files, its scope."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geotessera import registry as module
from geotessera.errors import (
    ChecksumMismatchError,
    DatasetMismatchError,
    EmptySelectionError,
    InputError,
    NotPublishedError,
    RegistryError,
)
from geotessera.registry import Registry
from geotessera.remote.http import RetryPolicy
from geotessera.testing.server import Fault, LoopbackServer
from registry_fixtures import (
    SQUARE,
    landmasks_a,
    landmasks_b,
    manifest_b,
    overlapping,
    registry_a,
    sha256_of,
)

TILES = [(year, lon, lat) for year in (2023, 2024) for lon, lat in SQUARE]
TILES += [(2021, *SQUARE[0])]
TILES.sort()
TILE = (2024, -0.95, 50.05)
HOSTILE_VARIANTS = ["../../x", "x/../y", ".", "..", "a\0b", "\ud800", "x" * 5000, "a b", "a?b#c",
                    "a\\b", "C:x", "é", "a\n", "%2e%2e"]  # fmt: skip
WHICH = {"year": TILE[0], "lon": TILE[1], "lat": TILE[2]}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "default-cache"))
    for name in ("GEOTESSERA_BASE_URL", "TESSERA_BASE_URL", "GEOTESSERA_SKIP_HASH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def directory(tmp_path):
    manifest_b(tmp_path / "reg" / "manifest.parquet", TILES)
    landmasks_b(tmp_path / "reg" / "landmasks.parquet", SQUARE)
    return tmp_path / "reg"


@pytest.fixture
def make(tmp_path):
    def make(version="v1.1", variant="cambridge", **options):
        options.setdefault("cache_dir", tmp_path / "cache")
        options.setdefault("embeddings_dir", tmp_path / "tiles")
        return Registry(version, variant, **options)

    return make


@pytest.fixture
def local(make, directory):
    return make(registry_dir=directory)


# --- Queries -----------------------------------------------------------------------------


def test_tiles_of_a_region_are_plain_tuples_in_a_list(local):
    tiles = local.load_blocks_for_region((-1, 50, -0.8, 50.2), 2024)
    assert tiles == [(2024, lon, lat) for lon in (-0.95, -0.85) for lat in (50.05, 50.15)]
    assert type(tiles) is list
    assert {tuple(map(type, tile)) for tile in tiles} == {(int, float, float)}
    assert isinstance(tiles[0], tuple)
    year, lon, lat = tiles[0]
    assert (year, lon, lat) == TILE
    assert list(local.iter_tiles_in_region((-1, 50, -0.8, 50.2), 2024)) == tiles


@pytest.mark.parametrize("year", [2024, np.int64(2024), 2024.0])
def test_years_of_any_number_type(local, year):
    (tile,) = local.load_blocks_for_region((-0.93, 50.02, -0.93, 50.02), year)
    assert tile == TILE
    assert type(tile[0]) is int


def test_unknown_years_and_empty_places_have_no_tiles(local):
    assert local.load_blocks_for_region((-1, 50, -0.8, 50.2), 1999) == []
    assert local.load_blocks_for_region((100, 0, 101, 1), 2024) == []


def test_all_tiles_and_counts(local):
    assert local.get_available_embeddings() == TILES
    assert local.available_embeddings == TILES
    assert local.get_available_years() == [2021, 2023, 2024]
    assert local.get_tile_counts_by_year() == {2021: 1, 2023: 64, 2024: 64}
    assert local.get_manifest_info() == (None, None)
    assert local.get_landmask_count() == 64
    assert local.available_landmasks == sorted(SQUARE)


def test_has_tile(local):
    assert local.has_tile(*TILE)
    assert not local.has_tile(2020, *TILE[1:])
    assert not local.has_tile(2024, 0.1, 50.05)
    keys = np.array([[-95, 5005], [-95, 5015], [5, 5], [-94, 5005], [99995, 5], [-95, -99995]])
    expected = [True, True, False, False, False, False]
    assert local.has_tiles(*keys.T, 2024).tolist() == expected
    assert not local.has_tiles(*keys.T, 1999).any()
    assert local.has_tiles([], [], 2024).shape == (0,)


def test_nearest_year(local):
    assert local.nearest_year(*TILE[1:], 2030) == 2024
    assert local.nearest_year(*TILE[1:], 2022) == 2023  # the later of two
    assert local.nearest_year(50.05, 50.05, 2024) is None


def test_sizes(local):
    position = TILES.index(TILE)
    assert local.get_tile_file_size(*TILE) == 1000 + position
    assert local.get_scales_file_size(*TILE) == 100 + position
    assert local.get_landmask_file_size(*SQUARE[3]) == 53
    with pytest.raises(InputError, match=r"this place has 2021, 2023, 2024"):
        local.get_tile_file_size(2030, *TILE[1:])
    with pytest.raises(ValueError, match="not found"):
        local.get_landmask_file_size(50.05, 50.05)


def test_download_requirements(local, tmp_path):
    tiles = [TILE, (2023, *TILE[1:])]
    total, files, sizes = local.calculate_download_requirements(tiles, tmp_path / "out", "npy")
    assert sizes == {
        "embedding_2024_-0.95_50.05": local.get_tile_file_size(*tiles[0]),
        "scales_2024_-0.95_50.05": local.get_scales_file_size(*tiles[0]),
        "landmask_-0.95_50.05": 50,
        "embedding_2023_-0.95_50.05": local.get_tile_file_size(*tiles[1]),
        "scales_2023_-0.95_50.05": local.get_scales_file_size(*tiles[1]),
    }
    assert (total, files) == (sum(sizes.values()), 5)
    there = tmp_path / "out" / module.EMBEDDINGS_DIR_NAME / module.tile_to_embedding_paths(
        -0.95, 50.05, 2024)[0]  # fmt: skip
    there.parent.mkdir(parents=True)
    there.touch()
    assert local.calculate_download_requirements(tiles, tmp_path / "out", "npy")[1] == 4
    assert local.calculate_download_requirements(tiles, tmp_path / "out", "npy", False)[1] == 5
    expected = sum(4 * local.get_tile_file_size(*tile) + 50 for tile in tiles)
    assert local.calculate_download_requirements(tiles, tmp_path, "tiff") == (expected, 2, {})


def test_the_table_of_earlier_releases(local):
    table = local._registry_gdf
    assert list(table.index) == [(y, round(x * 100), round(z * 100)) for y, x, z in TILES]
    assert table.crs == "EPSG:4326"
    assert local._registry_gdf is table


def test_without_landmasks(make, directory, caplog):
    (directory / "landmasks.parquet").unlink()
    registry = make(registry_dir=directory)
    assert registry.get_landmask_count() == len(TILES)
    assert registry.available_landmasks == sorted(SQUARE)
    assert len(caplog.records) == 1
    with pytest.raises(ValueError, match="no registry of landmasks"):
        registry.get_landmask_file_size(*SQUARE[0])


@pytest.mark.usefixtures("quick_retries")
def test_landmasks_that_cannot_be_had_now_are_asked_for_again(make, tmp_path, monkeypatch):
    with LoopbackServer(mirror_tree(tmp_path / "mirror", "B")) as server:
        registry = make(base_url=server.url)
        server.add(Fault("status", "*/landmasks.parquet", status=503))
        for _ in range(2):  # what failed is what is said, also when it is not tried again
            with pytest.raises(ValueError, match="503"):
                registry.get_landmask_file_size(*TILE[1:])
        asked = server.count("*/landmasks.parquet")
        assert asked == 6
        server.clear()
        assert registry.get_landmask_count() == 1
        assert server.count("*/landmasks.parquet") == 0
        monkeypatch.setattr(
            "geotessera.registry.time.monotonic", lambda at=time.monotonic: at() + 31
        )
        assert registry.get_landmask_file_size(*TILE[1:]) == 50
        assert registry.get_landmask_file_size(*TILE[1:]) == 50
        assert server.count("*/landmasks.parquet") == 1


def test_a_server_that_is_gone_costs_little_time(make, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(
        "geotessera.remote.transfer.refresh.DEFAULT_POLICY",
        RetryPolicy(jitter=0, sleep=waits.append),
    )
    with LoopbackServer(mirror_tree(tmp_path / "mirror", "B")) as server:
        make(base_url=server.url)
    registry = make(base_url=server.url)  # from the cache; the landmasks are not in it
    assert waits == [1]
    for _ in range(3):
        with pytest.raises(ValueError, match="refused"):
            registry.get_landmask_file_size(*TILE[1:])
    assert waits == [1]


def test_bad_landmasks_are_only_a_warning(make, directory, caplog):
    (directory / "landmasks.parquet").write_bytes(b"rubbish")
    assert make(registry_dir=directory).get_landmask_count() == len(TILES)
    assert "landmasks is not used" in caplog.text


# --- The registry's own bbox -------------------------------------------------------------


def test_a_scope_is_a_view(make, directory):
    registry = make(registry_dir=directory, bbox=(-0.5, 50.3, -0.4, 50.4), bbox_margin_deg=0.15)
    inside = [t for t in TILES if -0.65 <= t[1] <= -0.25 and 50.15 <= t[2] <= 50.55]
    assert registry.get_available_embeddings() == inside
    assert registry.get_tile_counts_by_year() == {2023: 25, 2024: 25}
    assert registry.get_available_years() == [2023, 2024]
    box = (-0.5, 50.3, -0.4, 50.4)
    assert registry.load_blocks_for_region(box, 2024) == overlapping(inside[25:], box)
    outside = "outside the registry bbox"
    for call in (
        lambda: registry.load_blocks_for_region((-0.75, 50.3, -0.4, 50.4), 2024),
        lambda: registry.iter_tiles_in_region((5, 5, 6, 6), 2024),
        lambda: registry.get_tile_file_size(*TILE),
        lambda: registry.get_landmask_file_size(*TILE[1:]),
        lambda: registry.has_tile(*TILE),
        lambda: registry.has_tiles([-45, -95], [5035, 5005], 2024),
    ):
        with pytest.raises(ValueError, match=outside):
            call()
    assert registry.has_tiles([-45], [5035], 2024).all()


@pytest.mark.parametrize(
    ("bbox", "margin", "fragment"),
    [
        ((50, 1, 51, 2), 0.15, "no tiles within bbox"),
        ((1, 1, 0, 2), 0.15, "min <= max"),
        ((0, 2, 1, 1), 0.15, "min <= max"),
        ((0, 1, float("nan"), 2), 0.15, "min <= max"),
        ((0, 1, 1, 2), -1, "non-negative"),
        ((0, 1, 1), 0.15, "west, south, east, north"),
    ],
)
def test_scopes_that_cannot_be(make, directory, bbox, margin, fragment):
    with pytest.raises(ValueError, match=fragment):
        make(registry_dir=directory, bbox=bbox, bbox_margin_deg=margin)


def test_its_own_bbox_may_always_be_asked_for(make, directory):
    registry = make(registry_dir=directory, bbox=(-0.93, 50.02, -0.92, 50.03), bbox_margin_deg=0)
    assert registry.load_blocks_for_region((-0.93, 50.02, -0.92, 50.03), 2024) == [TILE]


# --- Sources -----------------------------------------------------------------------------


def test_path_wins_over_directory_over_url(make, directory, tmp_path):
    mine = manifest_b(tmp_path / "mine.parquet", TILES[:1])
    options = {"registry_dir": directory, "registry_url": "http://127.0.0.1:1/x.parquet"}
    assert len(make(registry_path=mine, **options).available_embeddings) == 1
    assert len(make(**options).available_embeddings) == len(TILES)
    assert make(registry_path=mine.as_uri()).manifest_path == mine
    assert make(registry_dir=directory.as_uri()).manifest_path.name == "manifest.parquet"
    assert make(registry_url=mine.as_uri()).manifest_path == mine


def test_a_missing_path_never_falls_back(make, tmp_path):
    for options in (
        {"registry_path": tmp_path / "absent.parquet"},
        {"registry_path": tmp_path},
        {"registry_dir": tmp_path},
        {"registry_dir": tmp_path / "absent"},
        {"registry_url": (tmp_path / "absent.parquet").as_uri()},
        {"base_url": tmp_path},
    ):
        with pytest.raises(RegistryError):
            make(**options)
    with pytest.raises(InputError, match="registry_url"):
        make(registry_path="https://example.org/manifest.parquet")


def test_registry_parquet_in_a_directory(make, tmp_path):
    registry_a(tmp_path / "a" / "registry.parquet", TILES)
    landmasks_a(tmp_path / "a" / "landmasks.parquet", SQUARE)
    registry = make(registry_dir=tmp_path / "a")
    assert registry.generation == "A"
    assert registry.get_available_embeddings() == TILES
    assert registry.expected_sha256(*TILE) == (sha256_of("grid", *TILE), sha256_of("scales", *TILE))
    assert registry.landmask_sha256(*TILE[1:]) == sha256_of("land", *TILE[1:])
    assert registry.expected_sha256(1999, *TILE[1:]) is None


def test_digests_can_be_switched_off(make, tmp_path, monkeypatch):
    path = registry_a(tmp_path / "registry.parquet", TILES)
    assert make(registry_path=path, verify_hashes=False).expected_sha256(*TILE) is None
    registry = make(registry_path=path)
    for value, off in (("1", True), ("TRUE", True), ("yes", True), ("0", False), ("", False)):
        monkeypatch.setenv("GEOTESSERA_SKIP_HASH", value)
        assert (registry.expected_sha256(*TILE) is None) is off


def test_generation_b_has_no_digests(local):
    assert local.expected_sha256(*TILE) is None
    assert local.landmask_sha256(*TILE[1:]) is None


def test_datasets_without_tiles(make, directory):
    with pytest.raises(NotPublishedError, match="not published as NPY"):
        make(variant="dclimate", registry_dir=directory)
    with pytest.raises(EmptySelectionError):
        make(version="v2", variant="2B-L~beta1", registry_dir=directory)


def test_the_default_variant_comes_with_a_warning(directory, tmp_path, caplog):
    registry = Registry("1.1", registry_dir=directory, cache_dir=tmp_path)
    assert (registry.version, registry.variant) == ("v1.1", "cambridge")
    assert "do not interoperate" in caplog.text


# --- Mirrors -----------------------------------------------------------------------------


def mirror_tree(root, layout):
    """A mirror with registries and the three files of one tile."""
    embedding, scales = module.tile_to_embedding_paths(TILE[1], TILE[2], TILE[0])
    landmask = module.tile_to_landmask_filename(*TILE[1:])
    contents = {embedding: b"embedding", scales: b"scales", landmask: b"landmask"}
    if layout == "B":
        manifest_b(root / "npy/v1.1-cam/manifest.parquet", [TILE], grid_size=9, scales_size=6)
        landmasks_b(root / "landmasks/v1.1/landmasks.parquet", [TILE[1:]])
        tiles, masks = root / "npy/v1.1-cam", root / "landmasks/v1.1"
    else:
        digests = {
            "hash": hashlib.sha256(b"embedding").hexdigest(),
            "scales_hash": hashlib.sha256(b"scales").hexdigest(),
        }
        registry_a(root / "v1.1/registry.parquet", [TILE], file_size=9, scales_size=6, **digests)
        landmasks_a(root / "v1.1/landmasks.parquet", [TILE[1:]])
        tiles = root / "v1.1"
        masks = root / "v1.1/landmasks"
        if layout == "A":
            tiles, masks = tiles / module.EMBEDDINGS_DIR_NAME, tiles / module.LANDMASKS_DIR_NAME
    for path, content in contents.items():
        file = (masks if path == landmask else tiles) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


@pytest.mark.parametrize("layout", ["B", "A", "A-simple"])
@pytest.mark.parametrize("kind", ["path", "file", "http"])
def test_every_layout_of_a_mirror(make, tmp_path, monkeypatch, layout, kind):
    monkeypatch.setenv("GEOTESSERA_SKIP_HASH", "1" if layout != "B" else "")
    root = mirror_tree(tmp_path / "mirror", layout)
    with LoopbackServer(root) as server:
        base = {"path": root, "file": root.as_uri(), "http": server.url}[kind]
        registry = make(base_url=base)
        assert registry.mirror.layout == layout
        assert Path(registry.fetch(**WHICH)).read_bytes() == b"embedding"
        path = module.tile_to_embedding_paths(TILE[1], TILE[2], TILE[0])[1]
        assert Path(registry.fetch(path)).read_bytes() == b"scales"
        assert Path(registry.fetch_landmask(lon=TILE[1], lat=TILE[2])).read_bytes() == b"landmask"
        monkeypatch.setenv("GEOTESSERA_BASE_URL", str(base))
        assert make().mirror == registry.mirror


def test_a_layout_is_remembered(make, tmp_path):
    root = mirror_tree(tmp_path / "mirror", "A-simple")
    with LoopbackServer(root) as server:
        make(base_url=server.url).mirror  # noqa: B018 - finds out
        server.clear()
        registry = make(base_url=server.url)
        assert registry.mirror.layout == "A-simple"
        assert [request.path for request in server.requests] == ["/v1.1/registry.parquet"]
        url = registry.tile_urls(*TILE)[0]
    assert url == f"{server.url}/v1.1/2024/grid_-0.95_50.05/grid_-0.95_50.05.npy"
    offline = make(base_url=server.url, offline=True)
    assert offline.mirror == registry.mirror
    assert offline.get_available_embeddings() == [TILE]


@pytest.mark.parametrize("offline", [True, False])
def test_the_cache_works_without_a_network(make, tmp_path, offline, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with LoopbackServer(mirror_tree(tmp_path / "mirror", "B")) as server:
        assert make(base_url=server.url).get_landmask_file_size(*TILE[1:]) == 50
    registry = make(base_url=server.url, offline=offline)
    assert registry.get_available_embeddings() == [TILE]
    assert registry.get_landmask_file_size(*TILE[1:]) == 50
    with pytest.raises(RegistryError):
        make(base_url=server.url, offline=offline, cache_dir=tmp_path / "empty")


def test_a_newer_registry_replaces_the_copy(make, tmp_path):
    root = mirror_tree(tmp_path / "mirror", "B")
    path = root / "npy/v1.1-cam/manifest.parquet"
    with LoopbackServer(root) as server:
        assert len(make(base_url=server.url).available_embeddings) == 1
        manifest_b(path, TILES)
        os.utime(path, (time.time(), time.time() + 5))  # HTTP dates have whole seconds
        assert len(make(base_url=server.url).available_embeddings) == len(TILES)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def not_utf8(path):
    content = path.read_bytes()
    at = content.index(b"lon_i" if b"lon_i" in content else b"file_size")
    path.write_bytes(content[:at] + b"\xf6" + content[at + 1 :])


@pytest.mark.parametrize("damage", [truncated, not_utf8])
@pytest.mark.parametrize("name", ["manifest", "landmasks"])
def test_a_damaged_copy_is_fetched_anew(make, tmp_path, caplog, name, damage):
    with LoopbackServer(mirror_tree(tmp_path / "mirror", "B")) as server:
        assert make(base_url=server.url).get_landmask_file_size(*TILE[1:]) == 50
        (copy,) = (tmp_path / "cache").rglob(f"{name}.parquet")
        whole, state = copy.read_bytes(), copy.stat()
        damage(copy)
        os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns))  # the server says 304
        for index in copy.parent.glob(f"{name}*.index"):
            index.unlink()
        registry = make(base_url=server.url)
        assert registry.get_landmask_file_size(*TILE[1:]) == 50
        assert registry.get_landmask_count() == 1
    assert copy.read_bytes() == whole
    assert "was damaged" in caplog.text


def test_two_mirrors_have_two_copies(make, tmp_path):
    one, two = mirror_tree(tmp_path / "one", "B"), mirror_tree(tmp_path / "two", "B")
    manifest_b(two / "npy/v1.1-cam/manifest.parquet", TILES)
    with LoopbackServer(one) as first, LoopbackServer(two) as second:
        counts = [len(make(base_url=s.url).available_embeddings) for s in (first, second, first)]
    assert counts == [1, len(TILES), 1]


def test_a_mirror_without_the_dataset_names_what_was_looked_for(make, tmp_path):
    with (
        LoopbackServer(tmp_path) as server,
        pytest.raises(RegistryError, match=r"npy/v1\.1-cam/manifest\.parquet and .*v1\.1/registry"),
    ):
        make(base_url=server.url)


# --- Fetching ----------------------------------------------------------------------------


@pytest.fixture
def served(make, tmp_path):
    with LoopbackServer(mirror_tree(tmp_path / "mirror", "A")) as server:
        yield make(base_url=server.url), server, tmp_path / "mirror", tmp_path / "tiles"


def test_what_does_not_verify_is_not_kept(make, tmp_path, monkeypatch):
    root = mirror_tree(tmp_path / "mirror", "A")
    registry = make(base_url=root)
    path = next((root / "v1.1" / module.EMBEDDINGS_DIR_NAME).rglob("*50.05.npy"))
    path.write_bytes(b"embeddinG")
    with pytest.raises(ChecksumMismatchError):
        registry.fetch(**WHICH)
    assert not list((tmp_path / "tiles").rglob("*.npy"))
    monkeypatch.setenv("GEOTESSERA_SKIP_HASH", "1")
    assert Path(registry.fetch(**WHICH)).read_bytes() == b"embeddinG"


def test_fetched_files_are_recorded_and_the_directory_labelled(served):
    registry, server, _, tiles = served
    path = registry.fetch(**WHICH)
    label = json.loads((tiles / "tessera_metadata.json").read_text())
    assert (label["dataset_version"], label["dataset_variant"]) == ("1.1", "cambridge")
    (line,) = (tiles / ".geotessera" / "files.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["sha256"] == hashlib.sha256(b"embedding").hexdigest()
    assert str(tiles / record["path"]) == path
    server.clear()
    assert registry.fetch(**WHICH) == path
    assert server.requests == []


def test_refresh_repairs_a_damaged_file(served):
    registry, *_ = served
    path = registry.fetch(**WHICH)
    Path(path).write_bytes(b"emb3dding")
    assert registry.fetch(**WHICH) == path
    assert Path(path).read_bytes() == b"emb3dding"
    registry.fetch(**WHICH, refresh=True)
    assert Path(path).read_bytes() == b"embedding"


def test_another_dataset_s_directory_is_refused_first(served):
    registry, server, _, tiles = served
    path = registry.fetch(**WHICH)
    module.write_tessera_metadata(tiles, "v1", "vultr")
    server.clear()
    fresh = Registry("v1.1", "cambridge", base_url=server.url, embeddings_dir=tiles,
                     cache_dir=tiles.parent / "cache")  # fmt: skip
    with pytest.raises(DatasetMismatchError, match="cannot be interchanged"):
        fresh.fetch(year=TILE[0], lon=TILE[1], lat=TILE[2])  # although the file is there
    with pytest.raises(DatasetMismatchError):
        fresh.validate_embeddings_dir()
    assert path


def test_unlabelled_tiles_stay_unlabelled(served):
    registry, _, _, tiles = served
    (tiles / module.EMBEDDINGS_DIR_NAME / "2020").mkdir(parents=True)
    registry.fetch(**WHICH)
    assert not (tiles / "tessera_metadata.json").exists()


def test_offline_reads_what_is_there_and_fetches_nothing(served, make):
    registry, server, root, _ = served
    path = registry.fetch(**WHICH)
    server.clear()
    offline = make(base_url=server.url, offline=True)
    assert offline.fetch(**WHICH) == path
    with pytest.raises(FileNotFoundError, match="offline"):
        offline.fetch(**WHICH, is_scales=True)
    with pytest.raises(FileNotFoundError, match="offline"):
        offline.fetch(**WHICH, refresh=True)
    assert server.requests == []
    scales = module.tile_to_embedding_paths(*TILE[1:], TILE[0])[1]
    (root / "v1.1" / module.EMBEDDINGS_DIR_NAME / scales).write_bytes(b"5cales")
    disk = make(base_url=root, offline=True, verify_hashes=False)  # a disk needs no network
    assert Path(disk.fetch(scales)).read_bytes() == b"5cales"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"year": 2024, "lon": 0.05}, {"path": "../../etc/passwd"}, {"path": "2024/x/y.npy"}],
)
def test_fetch_needs_a_tile(local, arguments):
    with pytest.raises(InputError):
        local.fetch(**arguments)


def test_fetch_landmask_needs_a_name(local):
    for arguments in ({}, {"lon": 1.05}, {"filename": "nonsense.tiff"}):
        with pytest.raises(InputError):
            local.fetch_landmask(**arguments)


# --- The module's other names ------------------------------------------------------------


def test_labels_round_trip(tmp_path):
    path = module.write_tessera_metadata(tmp_path / "new", "1.1", "cambridge", {"year": 2024})
    text = path.read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["source_url_prefix"].endswith("/npy/v1.1-cam/")
    assert module.recorded_dataset(path.parent) == ("1.1", "cambridge")
    module.check_dataset_dir(path.parent, "v1.1", "cambridge")
    module.check_dataset_dir(tmp_path / "absent", "v1.1", "cambridge")
    with pytest.raises(ValueError, match="cannot be interchanged"):
        module.check_dataset_dir(path.parent, "v1.1", "other")
    dclimate = module.write_tessera_metadata(tmp_path / "z", "1.1", "dclimate")
    assert "dataset_path" not in json.loads(dclimate.read_text())
    for damage in ("{", "[]", '{"dataset_version": 1}', '{"dataset_variant": "x"}', "null"):
        path.write_text(damage)
        assert module.recorded_dataset(path.parent) is None


@pytest.mark.parametrize(
    "record",
    [
        {"dataset_version": "1.1", "dataset_variant": variant}
        for variant in (*HOSTILE_VARIANTS, "", ["cambridge"], {"a": 1}, True)
    ]
    + [
        {"dataset_version": version, "dataset_variant": "cambridge"}
        for version in ("9" * 5000, "1." + "9" * 5000, "", "../1", "1/2", 1.1, ["1.1"], None)
    ]
    + [{"dataset_version_path": [1], "dataset_version": "1.1", "dataset_variant": "cambridge"}],
)
def test_a_record_that_names_no_dataset_is_none(tmp_path, record):
    (tmp_path / "tessera_metadata.json").write_text(json.dumps(record))
    assert module.recorded_dataset(tmp_path) is None
    module.check_dataset_dir(tmp_path, "v1.1", "cambridge")


@pytest.mark.parametrize("variant", ["cambridge", "2B-L~beta1", "a.b_c", "x" * 100])
def test_a_record_may_name_unpublished_datasets(tmp_path, variant):
    module.write_tessera_metadata(tmp_path, "v3.7", variant)
    assert module.recorded_dataset(tmp_path) == ("3.7", variant)


@pytest.mark.parametrize("variant", [*HOSTILE_VARIANTS, ""])
def test_a_variant_that_leads_elsewhere_is_refused(make, directory, variant):
    for options in ({"registry_dir": directory}, {"base_url": directory}):
        with pytest.raises(InputError, match="is no variant"):
            make(variant=variant, **options)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 B"), (1023, "1023.0 B"), (1536, "1.5 KB"), (5e12, "4.5 TB"), (5e16, "45474.7 TB")],
)
def test_format_bytes(size, text):
    assert module.format_bytes(size) == text


def test_names_of_earlier_releases():
    assert module.block_to_embeddings_registry_filename(2024, -5, 50) == (
        "embeddings_2024_lon-5_lat50.txt"
    )
    assert module.block_to_landmasks_registry_filename(-5, 0) == "landmasks_lon-5_lat0.txt"
    assert module.TESSERA_BASE_URL.startswith("https://")
    for name in module.__all__:
        assert hasattr(module, name), name


def test_a_warm_open_imports_nothing_heavy(local, directory, tmp_path):
    code = (
        "import sys; from geotessera.registry import Registry;"
        "r = Registry('v1.1', 'cambridge', registry_dir=sys.argv[1], cache_dir=sys.argv[2]);"
        "assert len(r.load_blocks_for_region((-1, 50, -0.8, 50.2), 2024)) == 4;"
        "assert r.get_landmask_file_size(-0.95, 50.05) == 50;"
        "print({'pyarrow', 'pandas', 'geopandas', 'shapely', 'pyproj'} & set(sys.modules))"
    )
    local.get_landmask_count()  # both indexes exist now
    command = [sys.executable, "-c", code, str(directory), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_messages_go_to_the_given_logger(make, directory, caplog):
    (directory / "landmasks.parquet").unlink()
    make(registry_dir=directory, logger=logging.getLogger("mine")).get_landmask_count()
    assert [record.name for record in caplog.records] == ["mine"]
