"""Stores that are damaged, hostile, or changed while they are read."""

from __future__ import annotations

import gc
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from geotessera import _native
from geotessera.errors import ChangedError, FormatError, TransferError, YearError
from geotessera.remote.http import RetryPolicy
from geotessera.remote.objects import crew, open_reader
from geotessera.sources.zarr_array import ZarrArray
from geotessera.sources.zarr_index import _forget
from geotessera.sources.zarr_spec import parse_array
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.testing import SampleStore
from geotessera.testing.server import Fault, LoopbackServer
from geotessera.testing.stores import zone_grid
from geotessera.types import Window
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

resource = pytest.importorskip("resource")


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore.build(tmp_path / "store")


def rewrite(store: SampleStore, change: Callable[[Any, Any], object]) -> None:
    path = store.path / "zarr.json"
    root = json.loads(path.read_text())
    change(root, root["consolidated_metadata"]["metadata"])
    path.write_text(json.dumps(root))


# --- Metadata ---------------------------------------------------------------------------------


def test_arrays_that_nobody_needs_may_be_of_any_kind(store: SampleStore) -> None:
    def change(root: Any, nodes: Any) -> None:
        nodes["utm30/band"]["chunk_grid"] = {"name": "rectilinear", "configuration": {}}
        nodes["utm30/stretch_sample"] = {"zarr_format": 3, "node_type": "array", "shape": "?"}
        nodes["utm30/notes"] = 7

    rewrite(store, change)
    found = open_embedding_store(store.path).zone(30).source(2024).read_float()
    np.testing.assert_array_equal(found, store.embedding(30, 2024))


def test_years_that_are_being_appended_are_none_yet(store: SampleStore) -> None:
    def change(root: Any, nodes: Any) -> None:
        nodes["utm30/scales"]["shape"][0] = 1

    rewrite(store, change)
    zone = open_embedding_store(store.path).zone(30)
    assert zone.years == (2023,)
    with pytest.raises(YearError):
        zone.source(2024)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("geoemb:dimensions", "many"),
        ("geoemb:dimensions", [8]),
        ("geoemb:depths", [{"dimensions": 4}]),
        ("geoemb:depths", 4),
    ],
)
def test_depths_that_say_nothing_are_explained(
    store: SampleStore, name: str, value: object
) -> None:
    rewrite(store, lambda root, _: root["attributes"].__setitem__(name, value))
    with pytest.raises(FormatError, match="say nothing"):
        open_embedding_store(store.path)


@pytest.mark.parametrize("place", ["attributes", "consolidated_metadata"])
def test_roots_that_are_no_mappings_are_explained(store: SampleStore, place: str) -> None:
    rewrite(store, lambda root, _: root.__setitem__(place, [1]))
    with pytest.raises(FormatError, match=r"store/zarr\.json: expected a JSON object"):
        open_embedding_store(store.path)


@pytest.mark.parametrize("key", ["spatial:shape", "spatial:bbox"])
def test_attributes_that_are_no_lists_are_not_believed(store: SampleStore, key: str) -> None:
    rewrite(store, lambda _, nodes: nodes["utm30"]["attributes"].__setitem__(key, 10**12))
    assert open_embedding_store(store.path).zone(30).grid == store.grids[30]


# --- Files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [None, 32])
def test_more_files_than_may_be_open(tmp_path: Path, shard: int | None) -> None:
    grid = zone_grid(-3.0, 52.0, 640, 640, zone=30)
    store = SampleStore.build(
        tmp_path / "store",
        grids=[grid],
        years=(2024,),
        depths=(),
        shard=shard,
        attributes="required",
        paint=[(30, Window(32, 32, 64, 64), np.nan)],
    )
    expected = store.embedding(30, 2024)
    for gone in ("0/0/0/0", "0/0/7/7", "0/0/19/19"):
        (store.path / "utm30/embeddings/c" / gone).unlink()
        row, col = (32 * int(part) for part in gone.split("/")[2:])
        cell = expected[row : row + 32, col : col + 32]
        cell[np.isfinite(cell)] = 0
    source = open_embedding_store(store.path).zone(30).source(2024)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    rows, cols = np.divmod(np.random.default_rng(1).permutation(640 * 640)[:20_000], 640)
    # The limit is of the numbers; other tests may have left some in use.
    highest = max(int(number) for number in os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 280, limits[1]))
    try:
        found = source.read_float()
        points, _ = source.pixels_at(rows, cols)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(points, expected[rows, cols])


@pytest.mark.parametrize("sound", [True, False])
def test_a_shard_replaced_between_its_index_and_its_chunks_is_read_again(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, sound: bool
) -> None:
    """Chunks of one length, as those without a compressor, decode at the old places, too."""
    source = open_embedding_store(store.path).zone(30).source(2024)
    place = store.path / "utm30/embeddings/c/1/0/0/0"
    other = store.path / "utm30/embeddings/c/0/0/0/0"
    decode, times = _native.decode_window, []

    def replaced(*args: Any, **options: Any) -> Any:
        if options["layout"] == "chw" and options["shape"][2] == 8 and not times:
            times.append(1)
            data = other.read_bytes()
            (place.parent / "new").write_bytes(data)
            (place.parent / "new").replace(place)
            found = decode(*args, **options)
            return None if sound else found or (0, "nonsense")
        return decode(*args, **options)

    monkeypatch.setattr(_native, "decode_window", replaced)
    found = source.read(Window(0, 0, 64, 64)).values
    assert times
    np.testing.assert_array_equal(
        found, store.read(30, 2023, Window(0, 0, 64, 64))[0].transpose(1, 2, 0)
    )


def test_a_shard_that_changes_all_the_time_is_an_error(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_embedding_store(store.path).zone(30).source(2024)
    place = store.path / "utm30/embeddings/c/1/0/0/0"
    decode = _native.decode_window

    def touched(*args: Any, **options: Any) -> Any:
        os.utime(place, ns=(1, place.stat().st_mtime_ns + 10**6))
        return decode(*args, **options)

    monkeypatch.setattr(_native, "decode_window", touched)
    with pytest.raises(ChangedError, match="c/1/0/0/0 changed"):
        source.read(Window(0, 0, 64, 64))


# --- Other places -----------------------------------------------------------------------------


def in_memory(store: SampleStore) -> zarr.storage.MemoryStore:
    made, prototype = zarr.storage.MemoryStore(), default_buffer_prototype()
    for path in store.path.rglob("*"):
        if path.is_file():
            data = prototype.buffer.from_bytes(path.read_bytes())
            sync(made.set(str(path.relative_to(store.path)), data))
    return made


def test_stores_that_come_to_lie_where_others_lay(tmp_path: Path, store: SampleStore) -> None:
    """Stores in memory are named by their addresses."""
    other = SampleStore.build(
        tmp_path / "other", years=(2024,), coverage={30: [Window(0, 0, 40, 128)]}
    )
    for number in range(12):
        world = (store, other)[number % 2]
        memory = in_memory(world)
        source = open_embedding_store(memory).zone(30).source(2024)
        np.testing.assert_array_equal(source.read_float(), world.embedding(30, 2024))
        del memory, source
        gc.collect()


def test_arrays_for_zarr_python_that_change_on_a_server_are_read_anew(tmp_path: Path) -> None:
    with LoopbackServer(tmp_path) as server:
        group = zarr.create_group(str(tmp_path / "store"))
        array = group.create_array(
            "e",
            shape=(1, 4, 64, 64),
            shards=(1, 4, 64, 64),
            chunks=(1, 4, 32, 32),
            dtype="int8",
            compressors=zarr.codecs.GzipCodec(),
        )
        array[...] = 1
        node = json.loads((tmp_path / "store/e/zarr.json").read_text())
        mine = ZarrArray(open_reader(server.url_of("store")), parse_array("e", node))
        assert not mine.spec.native
        window = Window(10, 10, 40, 40)
        assert (mine.read(0, window) == 1).all()
        array[...] = np.random.default_rng(0).integers(2, 9, array.shape, np.int8)
        expected = np.asarray(array[0])[:, 10:50, 10:50].transpose(1, 2, 0)
        np.testing.assert_array_equal(mine.read(0, window), expected)


def test_indexes_that_were_learnt_without_a_cache_come_to_lie_in_it(
    store: SampleStore, tmp_path: Path
) -> None:
    expected = store.embedding(30, 2024)
    with LoopbackServer(store.path) as server:
        for options in ({}, {"cache_dir": tmp_path}, {"cache_dir": tmp_path, "offline": True}):
            if "offline" in options:
                _forget()  # as another process
                server.clear()
            opened = open_embedding_store(server.url, **options)
            found = opened.zone(30).source(2024).read_float()
            np.testing.assert_array_equal(found, expected)
        assert not server.requests


def test_an_answer_of_absurd_length_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{}")
    with LoopbackServer(tmp_path) as server:
        server.add(Fault("header", headers={"Content-Length": "9" * 5000}))
        with pytest.raises(TransferError):
            open_embedding_store(
                server.url, policy=RetryPolicy(retries=0, body_pauses=(), read_timeout=1)
            )


def test_giving_up_leaves_the_connections_of_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idents of threads that have ended are given to new threads."""
    cut: list[int] = []
    monkeypatch.setattr(crew, "abort", cut.append)
    ended, going, ends = threading.Event(), threading.Event(), threading.Event()

    def work(part: str, policy: RetryPolicy) -> None:
        if part == "short":
            going.wait(PATIENCE)
            ended.set()
        else:
            going.set()
            ends.wait(PATIENCE)

    made = crew.Crew(work, ["long", "short"], 2, RetryPolicy())
    assert ended.wait(PATIENCE)
    until(lambda: not all(thread.is_alive() for thread in made._threads))
    long = [thread.ident for thread in made._threads if thread.is_alive()]
    made.cancel()
    ends.set()
    assert len(long) == 1
    assert cut == long
