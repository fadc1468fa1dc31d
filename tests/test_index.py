"""The index against brute force over the rows, and against damage."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotessera.cells import CellRange, cell_of_centre, cells_around_box, cells_of_box
from geotessera.errors import (
    EmptySelectionError,
    InputError,
    RegistryError,
    RegistrySchemaError,
)
from geotessera.index.build import open_index
from registry_fixtures import SQUARE, landmasks_a, manifest_b, overlapping, registry_a, sha256_of
from waiting import PATIENCE

LOGGER = logging.getLogger("test")
TILES = [(year, lon, lat) for year in (2023, 2024) for lon, lat in SQUARE]
EDGES = [(year, lon, lat) for year in (2020, 2024) for lon in (-179.95, -179.85, 179.85, 179.95)
         for lat in (-89.95, -0.05, 0.05, 89.95)]  # fmt: skip


def opened(path, cache, kind="embeddings", version="1.1", variant="cambridge"):
    return open_index(path, kind, version, variant, cache, LOGGER)


def found(index, cells, year):
    pairs = [zip(*part, strict=True) for part in index.tiles(cells, year)]
    return [(year, *pair) for part in pairs for pair in part]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    root = tmp_path_factory.mktemp("index")
    return opened(manifest_b(root / "m.parquet", TILES + EDGES), root / "cache")


thousandths = st.integers(0, 4000).map(lambda n: n / 1000)


@settings(max_examples=300, deadline=None)
@given(
    west=st.one_of(
        thousandths.map(lambda d: round(d - 2, 3)),
        st.integers(-180_000, 180_000).map(lambda n: n / 1000),
        st.integers(-1800, 1800).map(lambda n: n / 10),
    ),
    width=st.one_of(st.just(0.0), thousandths, st.integers(0, 20).map(lambda n: n / 10)),
    south=thousandths.map(lambda d: round(49.5 + d, 3)) | st.sampled_from([-90, -0.1, 0, 89.9]),
    height=st.one_of(st.just(0.0), st.integers(0, 100).map(lambda n: n / 1000)),
    year=st.sampled_from([2020, 2023, 2024, 1999]),
)  # fmt: skip
def test_boxes_equal_brute_force(both, west, width, south, height, year):
    west, south = round(west, 3), round(south, 3)
    east, north = round(west + width, 3), round(min(south + height, 90), 3)
    if east > 180:
        east = round(east - 360, 3)
    if west == 180 or (width == 0 and west == east == 180) or south == north == 90:
        return  # the edges of the globe have tests of their own
    expected = overlapping([t for t in TILES + EDGES if t[0] == year], (west, south, east, north))
    assert found(both, cells_of_box((west, south, east, north)), year) == expected


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 51.0, 0.2, 51.2), (1800, 1410, 2, 2)),  # on edges: the neighbours only touch
        ((3 * 0.1, 0.0, 0.7, 0.1), (1803, 900, 4, 1)),  # 0.30000000000000004
        ((0.1 + 0.2, 0.0, 0.1 + 0.2, 0.0), (1803, 900, 1, 1)),
        ((0.15, 52.05, 0.15, 52.05), (1801, 1420, 1, 1)),
        ((180, 90, 180, 90), (0, 1799, 1, 1)),
        ((-180, -90, 180, 90), (0, 0, 3600, 1800)),
        ((-180.5, -95, 180.5, 95), (0, 0, 3600, 1800)),
        ((179.9, 0, -179.9, 0.1), (3599, 900, 2, 1)),
        ((179.9, 0, 180.1, 0.1), (3599, 900, 2, 1)),
        ((0, 90.5, 1, 91), (1800, 1805, 10, 0)),
    ],
)
def test_cells_of_boxes(box, expected):
    assert tuple(cells_of_box(box)) == expected


@pytest.mark.parametrize(
    "box",
    [(0, 1, 2), (0, 2, 1, 1), (float("nan"), 0, 1, 1), (500000, 0, 600000, 1), "abcd", None],
)
def test_bad_boxes_say_so(box):
    with pytest.raises(InputError):
        cells_of_box(box)


@given(st.integers(0, 3599), st.integers(0, 1799))
def test_centres_round_trip(column, row):
    lon, lat = -179.95 + column * 0.1, -89.95 + row * 0.1
    assert cell_of_centre(lon, lat) == (column, row)
    assert cell_of_centre(lon + 0.05, lat) is None
    assert cell_of_centre(float("inf"), lat) is None


def test_ranges_cover_each_other_across_the_antimeridian():
    wide = CellRange(3500, 0, 200, 1800)
    assert wide.covers(CellRange(3590, 5, 20, 1))
    assert wide.covers(CellRange(50, 5, 50, 1))
    assert not wide.covers(CellRange(90, 5, 20, 1))
    assert not CellRange(0, 10, 3600, 5).covers(CellRange(0, 9, 1, 1))


def test_a_margin_adds_whole_centres():
    assert cells_around_box((0, 51, 0.5, 51.5), 0.15) == CellRange(1798, 1408, 9, 9)
    assert cells_around_box((0.02, 51.02, 0.08, 51.08), 0) == CellRange(1800, 1410, 1, 1)


def test_rows_keep_their_sizes_and_digests_in_any_order(tmp_path):
    shuffled = [TILES[i] for i in np.random.default_rng(1).permutation(len(TILES))]
    plain = opened(manifest_b(tmp_path / "m.parquet", shuffled), tmp_path)
    hashed = opened(registry_a(tmp_path / "r.parquet", shuffled), tmp_path)
    assert (plain.generation, hashed.generation) == ("B", "A")
    for number, (year, lon, lat) in enumerate(shuffled):
        cell = cell_of_centre(lon, lat)
        for index in (plain, hashed):
            assert index.contains(year, *cell)
            assert index.size("grid", year, *cell) == 1000 + number
            assert index.size("scales", year, *cell) == 100 + number
        assert hashed.digest("grid", year, *cell) == sha256_of("grid", year, lon, lat)
        assert hashed.digest("scales", year, *cell) == sha256_of("scales", year, lon, lat)
        assert plain.digest("grid", year, *cell) is None
    assert plain.size("grid", 2024, 5, 5) is None
    assert plain.size("grid", 1999, *cell) is None


def test_landmasks_have_an_index_too(tmp_path):
    index = opened(landmasks_a(tmp_path / "l.parquet", SQUARE), tmp_path, kind="landmasks")
    assert index.count == len(SQUARE)
    for number, place in enumerate(SQUARE):
        assert index.size("grid", 1, *cell_of_centre(*place)) == 50 + number
        assert index.digest("grid", 1, *cell_of_centre(*place)) == sha256_of("land", *place)


def test_counts_and_years(both):
    assert both.counts() == {2020: 16, 2023: 64, 2024: 80}
    assert both.counts(cells_of_box((-1, 50, -0.8, 50.3))) == {2023: 6, 2024: 6}
    assert both.years_of(*cell_of_centre(*SQUARE[0])) == [2023, 2024]
    columns, rows = np.array([cell_of_centre(lon, lat) for _, lon, lat in EDGES]).T
    assert both.contains_many(2020, columns, rows).all()
    assert not both.contains_many(2023, columns, rows).any()


@pytest.mark.parametrize("count", [1, 8, 9, 17, 33, 64])
def test_years_of_any_number(tmp_path, count):
    tiles = [(2000 + n, 0.05, 0.05) for n in range(count)]
    index = opened(manifest_b(tmp_path / "m.parquet", tiles), tmp_path)
    assert index.counts() == {2000 + n: 1 for n in range(count)}


def test_only_the_dataset_s_rows(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES, variant=["cambridge", "other"] * 64)
    index = opened(path, tmp_path)
    assert sum(index.counts().values()) == 64
    assert not index.contains(*TILES[1][:1], *cell_of_centre(*TILES[1][1:]))
    with pytest.raises(EmptySelectionError, match=r"version 2\.0, variant cambridge"):
        opened(path, tmp_path, version="2.0")


def test_duplicates_keep_the_first(tmp_path, caplog):
    index = opened(manifest_b(tmp_path / "m.parquet", [*TILES, TILES[3]]), tmp_path)
    assert index.size("grid", 2023, *cell_of_centre(*TILES[3][1:])) == 1003
    assert sum(index.counts().values()) == len(TILES)
    assert "1 duplicate" in caplog.text


def test_rows_off_the_grid_are_left_out(tmp_path, caplog):
    stray = [(2024, 0.1, 0.05), (2024, 180.05, 0.05), (2024, float("nan"), 0.05), (0, 0.05, 0.05)]
    index = opened(manifest_b(tmp_path / "m.parquet", [*TILES, *stray]), tmp_path)
    assert sum(index.counts().values()) == len(TILES)
    assert "3 rows are no tiles" in caplog.text
    with pytest.raises(RegistrySchemaError, match="'lon' and 'lat'"):
        opened(manifest_b(tmp_path / "n.parquet", stray), tmp_path)


def test_integer_keys_need_not_be_there_or_right(tmp_path):
    tiles = opened(registry_a(tmp_path / "r.parquet", TILES, integers=False), tmp_path)
    wrong = manifest_b(tmp_path / "m.parquet", TILES, lon_i=0, lat_i=0)
    assert tiles.counts() == opened(wrong, tmp_path).counts()


# --- Hostile files -----------------------------------------------------------------------


@pytest.mark.parametrize("column", ["lon", "lat", "year", "grid_size"])
def test_a_missing_column_is_named(tmp_path, column):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(RegistrySchemaError, match=rf"m\.parquet has no column '{column}'"):
        opened(path, tmp_path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("lon", "text"),
        ("lat", 5),
        ("year", 2024.5),
        ("year", "2024"),
        ("grid_size", "big"),
        ("scales_size", "big"),
        ("version", 1.1),
        ("variant", 7),
    ],
)
def test_a_mistyped_column_is_named(tmp_path, column, values):
    path = manifest_b(tmp_path / "m.parquet", TILES, **{column: values})
    with pytest.raises(RegistrySchemaError, match=f"column '{column}' holds"):
        opened(path, tmp_path)


@pytest.mark.parametrize("text", ["abc", "z" * 64, "é" * 64, "é" * 32, "é" * 16 + "a" * 32])
def test_a_bad_digest_is_named(tmp_path, text):
    path = registry_a(tmp_path / "r.parquet", TILES, hash=["0" * 64] * 127 + [text])
    with pytest.raises(RegistrySchemaError, match="'hash' holds"):
        opened(path, tmp_path)


@pytest.mark.parametrize("column", ["lon", "year", "grid_size", "scales_size", "variant"])
def test_a_doubled_column_is_named(tmp_path, column):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    table = pq.read_table(path)
    twice = pa.table([*table.columns, table[column]], names=[*table.schema.names, column])
    pq.write_table(twice, path)
    with pytest.raises(RegistrySchemaError, match=f"more than one column '{column}'"):
        opened(path, tmp_path)


def with_bad_utf8(path, text):
    """Change a byte of a text wherever a file has it uncompressed."""
    pq.write_table(pq.read_table(path), path, compression="none", write_statistics=False)
    content = path.read_bytes()
    assert text in content
    path.write_bytes(content.replace(text, b"\xf6" + text[1:]))


@pytest.mark.parametrize("text", [b"1.1", b"cambridge", b"lon_i"])
def test_bad_utf8_is_an_error_of_the_registry(tmp_path, text):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    with_bad_utf8(path, text)
    with pytest.raises(RegistryError, match=r"m\.parquet cannot be read"):
        opened(path, tmp_path)


def test_unsigned_sizes_are_read(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES, grid_size=np.uint64(7))
    assert opened(path, tmp_path).size("grid", 2023, *cell_of_centre(*SQUARE[0])) == 7
    manifest_b(path, TILES, grid_size=np.uint64(2**64 - 1))
    with pytest.raises(RegistrySchemaError, match="'grid_size' holds 184467440737"):
        opened(path, tmp_path)


def of_one_tile(path, rows):
    part = pa.table({"lon": np.full(1 << 20, 0.05), "lat": np.full(1 << 20, 0.05),
                     "file_size": np.ones(1 << 20, np.int64)})  # fmt: skip
    with pq.ParquetWriter(path, part.schema) as writer:
        for start in range(0, rows, 1 << 20):
            writer.write_table(part[: rows - start])
    return path


def test_more_rows_than_tiles_are_refused(tmp_path):
    path = of_one_tile(tmp_path / "l.parquet", 6_480_001)
    with pytest.raises(RegistryError, match="claims 6480001 rows"):
        opened(path, tmp_path, kind="landmasks")


def test_memory_grows_with_the_tiles_and_not_with_the_rows(tmp_path):
    path = of_one_tile(tmp_path / "l.parquet", 6_480_000)
    tracemalloc.start()
    assert opened(path, tmp_path, kind="landmasks").count == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_480_000 * 5  # the grid, and batches; the rows' keys alone would be 8 each


def test_a_missing_digest_is_a_warning(tmp_path, caplog):
    path = registry_a(tmp_path / "r.parquet", TILES, hash=["A" * 64, None] * 64)
    index = opened(path, tmp_path)
    assert index.digest("grid", 2023, *cell_of_centre(*SQUARE[0])) == "a" * 64
    assert index.digest("grid", 2023, *cell_of_centre(*SQUARE[1])) is None
    assert "64 rows have no SHA-256" in caplog.text


def test_an_impossible_size_is_named(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES, grid_size=2**40)
    with pytest.raises(RegistrySchemaError, match="'grid_size' holds 1099511627776"):
        opened(path, tmp_path)


def test_missing_sizes_are_unknown(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES, scales_size=[None, 7.0] * 64)
    index = opened(path, tmp_path)
    assert index.size("scales", 2023, *cell_of_centre(*SQUARE[0])) is None
    assert index.size("scales", 2023, *cell_of_centre(*SQUARE[1])) == 7


def test_files_that_are_no_registries(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not parquet at all", whole[:-8]):
        path.write_bytes(content)
        with pytest.raises(RegistryError, match=r"m\.parquet cannot be read"):
            opened(path, tmp_path)
    with pytest.raises(RegistryError, match="cannot be read"):
        opened(tmp_path / "absent.parquet", tmp_path)
    with pytest.raises(EmptySelectionError, match="has no rows"):
        opened(manifest_b(path, []), tmp_path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(RegistrySchemaError, match=r"found: x"):
        opened(path, tmp_path)


def test_damaged_pages_are_an_error(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    content = bytearray(path.read_bytes())
    content[4:600] = bytes(596)
    path.write_bytes(content)
    with pytest.raises(RegistryError):
        opened(path, tmp_path)


# --- The index file ----------------------------------------------------------------------


def index_files(cache):
    return sorted(cache.rglob("*.index"))


def test_beside_our_own_copy_else_in_the_cache(tmp_path):
    cache = tmp_path / "cache"
    opened(manifest_b(cache / "v1.1-cam" / "manifest.parquet", TILES), cache)
    assert [p.parent.name for p in index_files(tmp_path)] == ["v1.1-cam"]
    opened(manifest_b(tmp_path / "mine" / "manifest.parquet", TILES), cache)
    assert sorted(p.parent.name for p in index_files(tmp_path)) == ["indexes", "v1.1-cam"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:20],
        lambda raw: raw[:-4096],
        lambda raw: raw + b"more",
        lambda raw: b"GTINDEX\x00" + raw[8:],
        lambda raw: raw[:40] + bytes(40) + raw[80:],
        lambda raw: raw[:8] + b"\xff\xff\xff\xff" + raw[12:],
        lambda raw: raw[:-4] + b"\0\0\0\0",
        lambda raw: raw[:-40] + bytes(36) + raw[-4:],
        lambda raw: os.urandom(5000),
    ],
)
def test_a_damaged_index_is_rebuilt(tmp_path, damage):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    opened(path, tmp_path)
    (file,) = index_files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert opened(path, tmp_path).counts() == {2023: 64, 2024: 64}
    assert file.read_bytes() == whole


def everything(index, tiles):
    """Ask an index all that it can be asked."""
    world = CellRange(0, 0, 3600, 1800)
    cells = [(year, *cell_of_centre(lon, lat)) for year, lon, lat in tiles]
    _, columns, rows = np.array(cells).T
    return [
        index.counts(), index.counts(CellRange(1790, 1400, 5, 5)),
        [found(index, world, year) for year in (2023, 2024)],
        [index.contains(*cell) for cell in cells], [index.years_of(*cell[1:]) for cell in cells],
        index.contains_many(2024, columns, rows).tolist(),
        [index.size(payload, *cell) for cell in cells for payload in ("grid", "scales")],
        [index.digest(payload, *cell) for cell in cells for payload in ("grid", "scales")],
    ]  # fmt: skip


def damaged(raw, section, flip):
    """Change what a section holds of the first tiles."""
    length = int.from_bytes(raw[8:12], "little")
    offset, _, shape = json.loads(raw[16 : 16 + length])["sections"][section]
    first = -(-(16 + length) // 4096) * 4096 + offset
    if section == "grid":  # by columns of 1800 bytes
        first += 1790 * 1800 + 1400
        return flip(raw, first, first + 8 * 1800)
    return flip(raw, first, first + 4 * shape[0])


@pytest.mark.parametrize("section", ["grid", "cells", "grid_size", "scales_size", "grid_hash"])
@pytest.mark.parametrize(
    "flip",
    [
        lambda raw, first, last: raw[:first] + bytes(last - first) + raw[last:],
        lambda raw, first, last: raw[:first] + b"\xff" * (last - first) + raw[last:],
        lambda raw, first, last: raw[:first] + bytes([raw[first] ^ 16]) + raw[first + 1 :],
    ],
)
def test_a_damaged_body_is_rebuilt_when_it_is_used(tmp_path, caplog, section, flip):
    caplog.set_level("INFO")
    path = registry_a(tmp_path / "r.parquet", TILES)
    expected = everything(opened(path, tmp_path), TILES)
    (file,) = index_files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damaged(whole, section, flip))
    index = opened(path, tmp_path)
    assert everything(index, TILES) == expected
    assert file.read_bytes() == whole
    assert "was damaged" in caplog.text


def test_a_damaged_index_of_a_changed_registry_is_an_error(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    opened(path, tmp_path)
    (file,) = index_files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[8192:-4096] = bytes(len(raw) - 12288)
    file.write_bytes(raw)
    index = opened(path, tmp_path)
    manifest_b(path, TILES[:10])
    with pytest.raises(RegistryError, match="has changed"):
        index.contains(*TILES[0][:1], *cell_of_centre(*TILES[0][1:]))


def test_a_damaged_index_that_cannot_be_replaced_is_not_used(tmp_path, monkeypatch):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    expected = everything(opened(path, tmp_path), TILES)
    (file,) = index_files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[8192:-4096] = bytes(len(raw) - 12288)
    file.write_bytes(raw)

    def refused(*_, **__):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    assert everything(opened(path, tmp_path), TILES) == expected
    assert file.read_bytes() == raw


def test_an_index_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda number: synced.append(os.fstat(number)) or fsync(number))
    opened(manifest_b(tmp_path / "m.parquet", TILES), tmp_path)
    state = index_files(tmp_path)[0].stat()
    assert [(one.st_ino, one.st_size) for one in synced] == [(state.st_ino, state.st_size)]


def test_a_new_registry_gets_a_new_index(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    old = opened(path, tmp_path)
    manifest_b(path, TILES[:10])
    assert sum(opened(path, tmp_path).counts().values()) == 10
    assert len(index_files(tmp_path)) == 1  # the old one is gone from disk,
    assert sum(old.counts(cells_of_box((-180, -90, 180, 90))).values()) == 128  # not from use


def test_an_index_is_used_again(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    opened(path, tmp_path)
    (file,) = index_files(tmp_path)
    before = file.stat().st_ino
    opened(path, tmp_path)
    assert file.stat().st_ino == before


def test_an_unwritable_cache_costs_the_index_only(tmp_path, caplog):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    (tmp_path / "cache").write_text("a file where the directory should be")
    index = opened(path, tmp_path / "cache")
    assert index.counts() == {2023: 64, 2024: 64}
    assert "cannot be kept" in caplog.text


def test_threads_may_build_at_once(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    results, barrier = [], threading.Barrier(4)

    def build():
        barrier.wait()
        results.append(opened(path, tmp_path).counts())

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{2023: 64, 2024: 64}] * 4
    assert [p.name for p in tmp_path.iterdir() if "_tmp_" in p.name] == []


def test_processes_may_build_at_once(tmp_path):
    path = manifest_b(tmp_path / "m.parquet", TILES)
    code = (
        "import logging, pathlib, sys; from geotessera.index.build import open_index;"
        "print(open_index(pathlib.Path(sys.argv[1]), 'embeddings', '1.1', 'cambridge',"
        "pathlib.Path(sys.argv[2]), logging.getLogger()).counts())"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0].strip() for process in running]
    assert outputs == ["{2023: 64, 2024: 64}"] * 2
    assert len(index_files(tmp_path)) == 1
