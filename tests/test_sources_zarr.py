"""Zarr stores as sources, against zarr-python's reads of the same files and the recipe's pixels."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from geotessera.errors import (
    BandError,
    FormatError,
    GeoTesseraError,
    InputError,
    YearError,
    ZoneError,
)
from geotessera.sources import zarr_index
from geotessera.sources.zarr_array import ZarrArray
from geotessera.sources.zarr_spec import parse_array
from geotessera.sources.zarr_store import EmbeddingStore, open_embedding_store
from geotessera.testing import SampleStore
from geotessera.types import Window
from zarr_readers import CountingReader

if TYPE_CHECKING:
    from pathlib import Path

PAINT = [
    (30, Window(32, 32, 32, 32), np.nan),  # a whole chunk
    (30, Window(10, 10, 5, 7), np.inf),
    (30, Window(50, 90, 3, 3), 0.0),
    (30, Window(60, 90, 3, 3), -2.5),
    (30, Window(70, 90, 3, 3), 1e38),
]
WORLDS: dict[str, dict[str, Any]] = {
    "published": {},
    "dclimate": {"kind": "dclimate"},
    "zstd": {"compressor": "zstd"},
    "bare": {"compressor": None},
    "no shards": {"shard": None},
    "odd chunks": {"chunk": 24, "shard": 48},
    "sparse": {"coverage": {30: [Window(40, 50, 10, 60)]}},
    "required": {"consolidated": False, "attributes": "required"},
}
SHAPE = (96, 128)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SampleStore]:
    root = tmp_path_factory.mktemp("stores")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: SampleStore.build(root / name.replace(" ", "-"), paint=PAINT, **options)
            for name, options in WORLDS.items()
        }


@pytest.fixture(scope="module")
def truth(worlds: dict[str, SampleStore]) -> dict[str, dict[str, np.ndarray]]:
    """What zarr-python reads of zone 30 in 2024: arrays as (row, column, band)."""
    found = {}
    for name, world in worlds.items():
        arrays = {}
        for array in ("embeddings", "embeddings_d4"):
            whole = zarr.open_array(world.path, path=f"utm30/{array}", mode="r")
            arrays[array] = np.asarray(whole[1]).transpose(1, 2, 0)
        arrays["scales"] = np.asarray(zarr.open_array(world.path, path="utm30/scales", mode="r")[1])
        found[name] = arrays
    return found


def product(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(np.float32) * scales[..., None]
    found[~np.isfinite(scales)] = np.nan
    return found


def store_of(world: SampleStore, kind: str) -> EmbeddingStore:
    return open_embedding_store(world.path if kind == "files" else CountingReader(world.path))


windows = st.tuples(
    st.integers(0, 95), st.integers(0, 127), st.integers(1, 96), st.integers(1, 128)
).map(lambda w: Window(w[0], w[1], min(w[2], 96 - w[0]), min(w[3], 128 - w[1])))


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(WORLDS)),
    kind=st.sampled_from(["files", "server"]),
    depth=st.sampled_from([None, 4, 8]),
    window=windows,
    bands=st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_windows_equal_zarr_python(
    worlds: dict[str, SampleStore],
    truth: dict[str, dict[str, np.ndarray]],
    name: str,
    kind: str,
    depth: int | None,
    window: Window,
    bands: list[int] | None,
) -> None:
    source = store_of(worlds[name], kind).zone(30).source(2024, depth)
    part = (
        slice(window.row, window.row + window.height),
        slice(window.col, window.col + window.width),
    )
    values = truth[name]["embeddings_d4" if depth == 4 else "embeddings"][part]
    values = values if bands is None else values[..., bands]
    scales = truth[name]["scales"][part]
    block = source.read(window, bands)
    np.testing.assert_array_equal(block.values, values)
    np.testing.assert_array_equal(block.scales, scales)
    assert block.grid == worlds[name].grids[30].window(window)
    np.testing.assert_array_equal(source.scales(window), scales)
    expected = product(values, scales)
    np.testing.assert_array_equal(source.read_float(window, bands), expected)
    out = np.empty((values.shape[2], window.height, window.width), np.float32)
    found = source.read_float(window, bands, out=out, layout="chw")
    assert found is out
    np.testing.assert_array_equal(out, expected.transpose(2, 0, 1))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(WORLDS)),
    kind=st.sampled_from(["files", "server"]),
    depth=st.sampled_from([None, 4]),
    places=st.lists(st.tuples(st.integers(0, 95), st.integers(0, 127)), max_size=80),
    bands=st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_single_pixels_equal_zarr_python(
    worlds: dict[str, SampleStore],
    truth: dict[str, dict[str, np.ndarray]],
    name: str,
    kind: str,
    depth: int | None,
    places: list[tuple[int, int]],
    bands: list[int] | None,
) -> None:
    source = store_of(worlds[name], kind).zone(30).source(2024, depth)
    rows, cols = np.array(places, np.int64).reshape(-1, 2).T
    values = truth[name]["embeddings_d4" if depth else "embeddings"][rows, cols]
    scales = truth[name]["scales"][rows, cols]
    picked = values if bands is None else values[:, bands]
    found, factors = source.pixels_at(rows, cols, bands)
    np.testing.assert_array_equal(found, product(picked, scales))
    np.testing.assert_array_equal(factors, scales)
    order = np.unique(rows * SHAPE[1] + cols, return_index=True)[1]
    some = source.gather((rows * SHAPE[1] + cols)[order])
    assert some.scales is not None
    np.testing.assert_array_equal(some.scales, scales[order])
    valid = np.isfinite(scales[order])
    np.testing.assert_array_equal(some.values[valid], values[order][valid])


def test_the_recipe_agrees(worlds: dict[str, SampleStore]) -> None:
    # zarr-python could be wrong in the same way; the recipe never saw the files.
    world = worlds["published"]
    window = Window(3, 40, 60, 70)
    values, scales = world.read(30, 2023, window)
    block = open_embedding_store(world.path).zone(30).source(2023).read(window)
    np.testing.assert_array_equal(block.values, values.transpose(1, 2, 0))
    np.testing.assert_array_equal(block.scales, scales)


def test_published_shards(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world = SampleStore.build(tmp_path / "store", size="real", years=(2024,))
    zone = open_embedding_store(world.path).zone(30)
    window = Window(4096 - 90, 4096 - 60, 130, 120)  # all four shards, and unwritten chunks
    values, scales = world.read(30, 2024, window)
    for depth in (None, 16, 4):
        found = zone.source(2024, depth).read_float(window)
        np.testing.assert_array_equal(found, product(values[:depth].transpose(1, 2, 0), scales))


def test_codecs_that_only_zarr_python_knows(tmp_path: Path) -> None:
    from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec

    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, (2, 6, 40, 50)).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, (2, 40, 50)).astype(np.float32)
    variants: dict[str, dict[str, Any]] = {
        "gzip": {"compressors": GzipCodec()},
        "blosclz": {"compressors": BloscCodec(cname="blosclz", shuffle="bitshuffle", typesize=1)},
        "transposed": {"filters": TransposeCodec(order=(0, 2, 3, 1))},
        "two years a chunk": {"chunks": (2, 6, 16, 16), "shards": (2, 6, 32, 32)},
        "bands in chunks": {"chunks": (1, 3, 16, 16), "shards": (1, 6, 32, 32)},
    }
    for name, options in variants.items():
        root = zarr.create_group(tmp_path / name)
        arguments = {"chunks": (1, 6, 16, 16), "shards": (1, 6, 32, 32), **options}
        one = root.create_array("e", shape=values.shape, dtype="int8", fill_value=0, **arguments)
        one[...] = values
        for reader in (open_reader_of(tmp_path / name), CountingReader(tmp_path / name)):
            node = json.loads((tmp_path / name / "e" / "zarr.json").read_text())
            array = ZarrArray(reader, parse_array("e", node))
            assert not array.spec.native
            window = Window(5, 7, 30, 40)
            part = values[1, :, 5:35, 7:47].transpose(1, 2, 0)
            np.testing.assert_array_equal(array.read(1, window), part)
            factors = scales[1, 5:35, 7:47]
            np.testing.assert_array_equal(
                array.read(1, window, [2, 0], scales=factors), product(part[..., [2, 0]], factors)
            )
            rows, cols = np.array([39, 0, 17]), np.array([1, 49, 17])
            np.testing.assert_array_equal(array.gather(1, rows, cols), values[1][:, rows, cols].T)


def open_reader_of(path: Path) -> Any:
    from geotessera.remote.objects import open_reader

    return open_reader(path)


def test_blosc_chunks_unlike_their_metadata_go_through_zarr_python(tmp_path: Path) -> None:
    from zarr.codecs import BloscCodec

    values = np.arange(40 * 50, dtype=np.int32).view(np.int8)[: 4 * 20 * 25].reshape(1, 4, 20, 25)
    root = zarr.create_group(tmp_path / "store")
    array = root.create_array(
        "e",
        shape=values.shape,
        dtype="int8",
        chunks=values.shape,
        compressors=BloscCodec(cname="zlib", shuffle="bitshuffle", typesize=1),
        fill_value=0,
    )
    array[...] = values
    metadata = tmp_path / "store" / "e" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"zlib"', '"zstd"'))
    found = ZarrArray(
        open_reader_of(tmp_path / "store"), parse_array("e", json.loads(metadata.read_text()))
    )
    assert found.spec.native
    np.testing.assert_array_equal(found.read(0, Window(0, 0, 20, 25)), values[0].transpose(1, 2, 0))


# --- The store --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_what_a_store_says_of_itself(worlds: dict[str, SampleStore], name: str) -> None:
    world = worlds[name]
    store = open_embedding_store(world.path)
    assert store.location == str(world.path)
    assert store.years == [2023, 2024]
    assert store.zone_numbers == [30, 31]
    assert store.n_bands == 8
    assert store.depths == {4: "embeddings_d4", 8: "embeddings"}
    full = WORLDS[name].get("attributes") != "required"
    assert store.model_version == ("https://geotessera.org/model/1.1" if full else "")
    assert store.build_version == ("1.0.0+synthetic" if full else "")
    for number in (30, 31):
        zone = store.zone(number)
        assert zone is store.zone(number)
        assert (zone.number, zone.grid, zone.years) == (number, world.grids[number], (2023, 2024))
        assert zone.nan_is_water is (name != "dclimate")
        assert zone.pixel_size == 10
        assert zone.n_bands == 8


def test_southern_northings_are_negative(tmp_path: Path) -> None:
    from geotessera.testing.store_pixels import zone_grid

    grid = zone_grid(-51.0, -10.0, 64, 64, zone=22)
    world = SampleStore.build(tmp_path / "store", grids=[grid])
    zone = open_embedding_store(world.path).zone(22)
    assert zone.grid == grid
    assert zone.grid.epsg == 32622
    assert zone.grid.transform[5] < -1_000_000


def test_what_is_not_there(worlds: dict[str, SampleStore], tmp_path: Path) -> None:
    store = open_embedding_store(worlds["published"].path)
    with pytest.raises(ZoneError, match="zones 30, 31") as missing:
        store.zone(29)
    assert isinstance(missing.value, KeyError)
    zone = store.zone(30)
    with pytest.raises(YearError, match="2023, 2024") as year:
        zone.source(2019)
    assert isinstance(year.value, KeyError)
    assert isinstance(year.value, ValueError)
    with pytest.raises(InputError, match="4, 8"):
        zone.source(2024, 16)
    with pytest.raises(InputError, match="no array 'time'"):
        zone.array("time")
    source = zone.source(2024)
    with pytest.raises(BandError):
        source.read(bands=[8])
    with pytest.raises(InputError, match="does not lie in a raster"):
        source.read_float(Window(90, 0, 10, 10))
    with pytest.raises(InputError, match=r"pixel \(96, 0\)"):
        source.pixels_at(np.array([0, 96]), np.array([0, 0]))
    with pytest.raises(InputError, match="float32 of shape"):
        source.read_float(Window(0, 0, 2, 2), out=np.empty((2, 2, 8), np.float64))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="int8 of shape"):
        source.read(Window(0, 0, 2, 2), out=np.empty((2, 2, 7), np.int8))
    with pytest.raises(FormatError, match="no Zarr v3 store"):
        open_embedding_store(tmp_path)


def edit(world: SampleStore, change: Any) -> EmbeddingStore:
    """Open a store whose root document was changed on its way."""

    class Edited(CountingReader):
        def get(self, key: str) -> bytes | None:
            data = super().get(key)
            if key != "zarr.json" or data is None:
                return data
            document = json.loads(data)
            change(document, document["consolidated_metadata"]["metadata"])
            return json.dumps(document).encode()

    return EmbeddingStore(Edited(world.path, "edited"))


def test_coordinates_are_read_only_where_attributes_fail(worlds: dict[str, SampleStore]) -> None:
    world = worlds["published"]
    store = edit(world, lambda root, nodes: None)
    store.zone(30)
    reader: Any = store.reader
    assert set(reader.whole) == {"zarr.json", "utm30/time/c/0"}
    assert not reader.ranges

    def without(root: Any, nodes: Any) -> None:
        del nodes["utm30"]["attributes"]["spatial:transform"]

    def shifted(root: Any, nodes: Any) -> None:
        nodes["utm30"]["attributes"]["spatial:transform"][2] += 30

    def resized(root: Any, nodes: Any) -> None:
        nodes["utm30"]["attributes"]["spatial:shape"] = [96, 127]

    for change in (without, shifted, resized):
        store = edit(world, change)
        assert store.zone(30).grid == world.grids[30]
        reader = store.reader
        assert {"utm30/x/c/0", "utm30/y/c/0"} <= set(reader.whole)


@pytest.mark.parametrize(
    ("node", "path", "value", "error"),
    [
        ("utm30", "attributes/proj:code", None, "proj:code"),
        ("utm30", "attributes/proj:code", "EPSG:32730", "proj:code"),
        ("utm30/embeddings", "shape", [2, 8, 96], "do not fit"),
        ("utm30/embeddings", "chunk_grid/name", "rectangular", "chunk grid"),
        (
            "utm30/embeddings",
            "chunk_grid/configuration/chunk_shape",
            [1, 8, 0, 64],
            "chunks of shape",
        ),
        ("utm30/embeddings", "chunk_grid/configuration/chunk_shape", [1, 8, 64, 1e9], "of shape"),
        ("utm30/embeddings", "shape", [2, -8, 96, 128], "of shape"),
        ("utm30/embeddings", "shape", [2, 2**62, 96, 128], "of shape"),
        ("utm30/embeddings", "data_type", ["int8"], "data type"),
        ("utm30/embeddings", "data_type", "uint8", "int8 with 4 axes"),
        ("utm30/embeddings", "dimension_names", ["time", "band"], "2 names of 4"),
        ("utm30/embeddings", "chunk_key_encoding/configuration/separator", None, "separated"),
        ("utm30/embeddings", "chunk_key_encoding/configuration/separator", "/../", "separated"),
        ("utm30/scales", "chunk_grid/configuration/chunk_shape", [2**36, 64, 64], "no memory"),
        (
            "utm30/scales",
            "codecs/0/configuration/chunk_shape",
            [2**20, 2**20, 2**20],
            "no memory",
        ),
        ("utm30/scales", "codecs/0/configuration/index_codecs", [], "metadata"),
        ("utm30/scales", "data_type", "float64", "float32 with 3 axes"),
        ("utm30/time", "shape", [2**40], "no coordinate"),
        ("utm30", "attributes", [], "expected a JSON object"),
        ("utm30/embeddings", "codecs", 3, "metadata"),
        ("utm30/scales", "shape", [2, 96, 64], "pixels"),
        ("utm30/scales", "node_type", "group", "missing"),
        ("utm30/time", "zarr_format", 2, "zarr_format 2"),
    ],
)
def test_damaged_metadata_are_explained(
    worlds: dict[str, SampleStore], node: str, path: str, value: object, error: str
) -> None:
    def change(root: Any, nodes: Any) -> None:
        place = nodes[node]
        *parts, last = path.split("/")
        for part in parts:
            place = place[int(part) if part.isdecimal() else part]
        place[last] = value

    with pytest.raises(GeoTesseraError, match=error):
        edit(worlds["published"], change).zone(30)


def test_zones_and_sources_travel(worlds: dict[str, SampleStore]) -> None:
    world = worlds["published"]
    source = open_embedding_store(world.path).zone(30).source(2024, 4)
    window = Window(20, 30, 40, 50)
    again = pickle.loads(pickle.dumps(source.descriptor)).open()
    np.testing.assert_array_equal(again.read_float(window), source.read_float(window))
    assert again.grid == source.grid
    assert again.provenance == source.provenance


# --- What is asked for ------------------------------------------------------------------------


def written_chunks(truth: dict[str, np.ndarray]) -> tuple[int, int]:
    """How many chunks of scales exist, and of embeddings that have a valid pixel."""

    def chunks(array: np.ndarray) -> np.ndarray:
        return array.reshape(3, 32, 4, 32, -1).swapaxes(1, 2).reshape(12, -1)

    scales, values = chunks(truth["scales"]), chunks(truth["embeddings"])
    needed = np.isfinite(scales).any(1) & (values != 0).any(1)
    return int((~np.isposinf(scales)).any(1).sum()), int(needed.sum())


def test_each_chunk_and_each_index_is_asked_for_once(
    worlds: dict[str, SampleStore], truth: dict[str, dict[str, np.ndarray]]
) -> None:
    of_scales, of_values = written_chunks(truth["published"])
    assert of_scales > of_values > 3
    reader = CountingReader(worlds["published"].path, "once")
    source = EmbeddingStore(reader).zone(30).source(2024)
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(0, 96, 4000), rng.integers(0, 128, 4000)
    source.pixels_at(rows, cols)
    assert len(reader.ranges) == len(set(reader.ranges))
    assert len(reader.ranges) == of_scales + of_values
    assert len(reader.suffixes) == 2 * 4
    assert set(reader.suffixes.values()) == {1}
    reader.ranges.clear()
    source.read_float()
    assert len(reader.ranges) == of_scales + of_values
    assert set(reader.suffixes.values()) == {1}
    reader.ranges.clear()
    source.pixels_at(np.array([40]), np.array([40]))  # in the chunk that is all water
    assert len(reader.ranges) == 1


def test_a_depth_asks_for_its_own_array_only(worlds: dict[str, SampleStore]) -> None:
    reader = CountingReader(worlds["published"].path, "depth")
    EmbeddingStore(reader).zone(30).source(2024, 4).read_float(Window(0, 0, 10, 10))
    assert {key.split("/")[1] for key, _, _ in reader.ranges} == {"scales", "embeddings_d4"}


def test_absent_shards_are_asked_for_once(worlds: dict[str, SampleStore]) -> None:
    reader = CountingReader(worlds["sparse"].path, "absent")
    source = EmbeddingStore(reader).zone(30).source(2024)
    for _ in range(2):
        values, scales = source.pixels_at(np.array([90]), np.array([127]))
        assert np.isnan(values).all()
        assert np.isposinf(scales).all()
    assert not reader.ranges
    assert set(reader.suffixes.values()) == {1}


def test_batches_change_nothing(
    worlds: dict[str, SampleStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_of(worlds["published"], "files").zone(30).source(2024)
    monkeypatch.setattr("geotessera.remote.objects.arrivals._GROUP", 3000)
    parts = store_of(worlds["published"], "server").zone(30).source(2024)
    np.testing.assert_array_equal(parts.read_float(), whole.read_float())
    rows, cols = np.divmod(np.random.default_rng(0).permutation(96 * 128)[:3000], 128)
    np.testing.assert_array_equal(parts.pixels_at(rows, cols)[0], whole.pixels_at(rows, cols)[0])


def test_indexes_are_kept_within_bounds(
    worlds: dict[str, SampleStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_index, "_indexes", zarr_index._Indexes())
    monkeypatch.setattr(zarr_index, "_MOST_BYTES", 3 * 576)
    reader = CountingReader(worlds["published"].path, "bounded")
    source = EmbeddingStore(reader).zone(30).source(2024)
    expected = source.read_float()
    assert len(zarr_index._indexes._kept) <= 3
    np.testing.assert_array_equal(source.read_float(), expected)
    assert max(reader.suffixes.values()) > 1


# --- Damage -----------------------------------------------------------------------------------


@pytest.fixture
def fragile(tmp_path: Path) -> SampleStore:
    return SampleStore.build(tmp_path / "store", years=(2024,))


SHARD = "utm30/embeddings/c/0/0/0/0"


@pytest.mark.parametrize("kind", ["files", "server"])
def test_a_damaged_index_is_named(fragile: SampleStore, kind: str) -> None:
    path = fragile.path / SHARD
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    source = store_of(fragile, kind).zone(30).source(2024)
    for _ in range(2):
        with pytest.raises(FormatError, match=rf"{SHARD}: the CRC32C"):
            source.read_float()
    path.write_bytes(data[:30])
    with pytest.raises(FormatError, match="index"):
        store_of(fragile, kind).zone(30).source(2024).read_float()


@pytest.mark.parametrize("kind", ["files", "server"])
def test_a_damaged_chunk_is_named(fragile: SampleStore, kind: str) -> None:
    path = fragile.path / SHARD
    data = bytearray(path.read_bytes())
    data[:16] = bytes(16)
    path.write_bytes(data)
    source = store_of(fragile, kind).zone(30).source(2024)
    with pytest.raises(FormatError, match=rf"{SHARD}: the chunk at row \d, column \d .* byte 0"):
        source.read(Window(0, 0, 96, 128))
    with pytest.raises(FormatError, match=SHARD):
        source.pixels_at(*map(np.ravel, np.indices((64, 64))))


@pytest.fixture(scope="module")
def sacrifice(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleStore, dict[Path, bytes]]:
    world = SampleStore.build(tmp_path_factory.mktemp("damage") / "store", years=(2024,))
    paths = [world.path / name for name in (SHARD, "utm30/scales/c/0/0/0")]
    return world, {path: path.read_bytes() for path in paths}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_damage_is_fatal(
    sacrifice: tuple[SampleStore, dict[Path, bytes]], data: st.DataObject
) -> None:
    world, files = sacrifice
    for path, content in files.items():
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(0, 4))):
            damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged[: data.draw(st.integers(0, len(content)))])
    source = open_embedding_store(world.path).zone(30).source(2024)
    try:
        assert source.read_float().shape == (96, 128, 8)
    except FormatError as error:
        assert "utm30" in str(error)  # noqa: PT017 - an error is allowed, not required


def test_files_that_change_are_read_anew(fragile: SampleStore) -> None:
    source = open_embedding_store(fragile.path).zone(30).source(2024)
    before = source.read(Window(0, 0, 64, 64)).values
    group = zarr.open_group(fragile.path, mode="r+")
    changed = np.asarray(group["utm30/embeddings"][0])[:, :64, :64]  # type: ignore[index, call-overload]
    changed[:, :40, :40] = 0
    group["utm30/embeddings"][0, :, :64, :64] = changed  # type: ignore[index, call-overload]
    after = source.read(Window(0, 0, 64, 64)).values
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, changed.transpose(1, 2, 0))


def test_shards_that_change_on_a_server_are_read_anew(fragile: SampleStore) -> None:
    reader = CountingReader(fragile.path, "changing")
    source = EmbeddingStore(reader).zone(30).source(2024)
    before = source.read(Window(0, 0, 64, 64)).values
    group = zarr.open_group(fragile.path, mode="r+")
    group["utm30/embeddings"][0, :, :40, :40] = 0  # type: ignore[index, call-overload]
    reader.files.close()  # as if the connection had ended: the next answer is the new version
    after = source.read(Window(0, 0, 64, 64)).values
    before[:40, :40] = 0
    np.testing.assert_array_equal(after, before)
    assert max(reader.suffixes.values()) == 2


def test_uneven_coordinates_are_refused(worlds: dict[str, SampleStore]) -> None:
    def change(root: Any, nodes: Any) -> None:
        del nodes["utm30"]["attributes"]["spatial:transform"]
        nodes["utm30/x"]["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]

    store = edit(worlds["published"], change)
    reader: Any = store.reader
    uneven = np.arange(128.0) * 10
    uneven[60] += 1
    answer = reader.get
    reader.get = lambda key: uneven.tobytes() if key == "utm30/x/c/0" else answer(key)
    with pytest.raises(FormatError, match="x: not 128 even steps"):
        store.zone(30)
