"""Clients that are copied, or sent to other processes, as joblib, dask and multiprocessing do."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from geotessera import GeoTessera
from geotessera.registry import Registry
from geotessera.testing import SampleStore, SampleWorld, zone_grid
from geotessera.testing.tile_registry import write_tile_registry
from geotessera.tile_registry import TileRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

WEST = (23.95, 83.65)
BOX = (23.9, 83.6, 24.1, 83.7)
POINTS = [(23.95, 83.65), (24.05, 83.66), (0.0, 0.0)]


def through_pickle(value: object) -> object:
    return pickle.loads(pickle.dumps(value))


COPIES = (through_pickle, copy.deepcopy, copy.copy)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty cache."""
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return here


@pytest.mark.parametrize("made", COPIES)
@pytest.mark.parametrize("kept", [True, False])
def test_a_copy_of_a_client_answers_as_the_client(
    small_world: SampleWorld, tmp_path: Path, made: Callable, kept: bool
) -> None:
    directory = small_world.checkout(tmp_path / "tiles") if kept else None
    client = GeoTessera(base_url=small_world.root("B"), embeddings_dir=directory)
    other = made(client)
    assert type(other) is GeoTessera
    assert repr(other) == repr(client)
    assert other.embeddings_count(BOX) == 2
    embedding, crs, transform = other.fetch_embedding(*WEST, 2024)
    truth = small_world.tile(*WEST)
    np.testing.assert_array_equal(embedding, truth.embedding())
    assert (crs.to_epsg(), tuple(transform)[:6]) == (truth.grid.epsg, truth.grid.transform)
    # What a copy fetches is kept, or not, as with the client itself.
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("made", COPIES)
def test_a_copy_keeps_the_bbox_the_landmasks_and_what_was_set(
    small_world: SampleWorld, made: Callable
) -> None:
    registry = Registry("v1.1", "cambridge", base_url=small_world.root("B"), bbox=BOX)
    assert registry.get_landmask_count() == 7
    registry.mine = "kept"
    other = made(registry)
    assert other.mine == "kept"
    assert other.get_available_embeddings() == registry.get_available_embeddings()
    assert other.get_landmask_file_size(*WEST) == small_world.tile(*WEST).sizes[2]
    with pytest.raises(ValueError, match="outside the registry bbox"):
        other.load_blocks_for_region((0, 0, 1, 1), 2024)


def test_a_subclass_stays_one(small_world: SampleWorld) -> None:
    other = copy.deepcopy(_Mine(base_url=small_world.root("B")))
    assert (type(other), other.calls) == (_Mine, 0)
    other.fetch_embedding(*WEST, 2024)
    assert other.calls == 1


class _Mine(GeoTessera):
    calls = 0

    def fetch_embedding(self, *args: object, **options: object) -> object:
        self.calls += 1
        return super().fetch_embedding(*args, **options)


def test_another_process_needs_neither_the_directory_nor_the_network(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    """Paths that were relative where the client was made are found from anywhere."""
    tiles = small_world.checkout(tmp_path / "tiles")
    manifest = small_world.mirror("B").registry_url
    Path("registry").mkdir()
    Path("registry/manifest.parquet").write_bytes(Path(manifest).read_bytes())
    client = GeoTessera(registry_dir="registry", embeddings_dir=tiles, offline=True)
    client.registry.get_available_years()
    (tmp_path / "client.pickle").write_bytes(pickle.dumps((client, POINTS)))
    code = (
        "import pickle, sys, numpy as np\n"
        "client, points = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[2], client.sample_embeddings_at_points(points))\n"
    )
    line = [sys.executable, "-c", code, tmp_path / "client.pickle", tmp_path / "found.npy"]
    subprocess.run(line, cwd=tmp_path, check=True, timeout=600)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_array_equal(found, client.sample_embeddings_at_points(POINTS))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2]).all()


def test_a_registry_that_is_not_there_is_had_again(
    small_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine the cached copy of a server's registry does not exist."""
    client = GeoTessera(base_url=f"file://{small_world.root('B')}")
    sent = pickle.dumps(client)
    state = client.registry.manifest_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    registry = pickle.loads(sent).registry
    assert registry.get_available_years() == [2023, 2024]
    registry.__setstate__(registry.__getstate__() | {"manifest_path": tmp_path / "gone.parquet"})
    assert registry.manifest_path == state
    assert registry.get_available_years() == [2023, 2024]


def test_a_pool_of_processes_takes_methods_of_a_client(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    tiles = small_world.checkout(tmp_path / "tiles")
    client = GeoTessera(base_url=small_world.root("B"), embeddings_dir=tiles)
    expected = client.sample_embeddings_at_points(POINTS)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(client.sample_embeddings_at_points, [POINTS[:1], POINTS[1:]])
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("made", COPIES)
def test_a_client_of_a_store_is_copied_too(tmp_path: Path, made: Callable) -> None:
    store = SampleStore.build(tmp_path / "store", size="tiny")
    client = GeoTessera(dataset_variant="cambridge", source="zarr", store_url=store.path)
    points = [store.lonlat(30, row=40, col=50)]
    expected = client.sample_embeddings_at_points(points)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(made(client).sample_embeddings_at_points(points), expected)


@pytest.mark.parametrize("made", COPIES)
def test_a_registry_of_a_repository_is_copied_too(tmp_path: Path, made: Callable) -> None:
    grids = {"31N": zone_grid(3, 52, 4096, 4096)}
    rows = write_tile_registry(tmp_path / "parts", grids, (2024,))
    registry = TileRegistry(tmp_path / "parts")
    assert len(registry.tiles()) == len(rows) > 0
    assert made(registry).tiles().equals(registry.tiles())
