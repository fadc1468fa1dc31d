"""The chunk decoder against numcodecs and NumPy, and against bytes that nobody wrote."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc
from numcodecs.zstd import Zstd

from geotessera import _native

SHUFFLES = {"no": blosc.NOSHUFFLE, "bytes": blosc.SHUFFLE, "bits": blosc.BITSHUFFLE}


def smooth(size: int, seed: int = 0) -> bytes:
    """Bytes that compress somewhat, as embeddings do."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.integers(-3, 4, size)) & 0xFF).astype(np.uint8).tobytes()


def compressed(data: bytes, cname: str, shuffle: str, typesize: int, blocksize: int = 0) -> bytes:
    array = np.frombuffer(data, np.uint8)[: len(data) // typesize * typesize]
    return bytes(
        blosc.compress(
            array.view(f"V{typesize}") if typesize > 1 else array,
            cname.encode(),
            3,
            SHUFFLES[shuffle],
            blocksize,
        )
    )


@settings(max_examples=120, deadline=None)
@given(
    size=st.integers(17, 70_000),
    seed=st.integers(0, 9),
    cname=st.sampled_from(["zstd", "lz4", "lz4hc"]),
    shuffle=st.sampled_from(sorted(SHUFFLES)),
    typesize=st.sampled_from([1, 2, 3, 4, 8, 17]),
    blocksize=st.sampled_from([0, 256, 1000, 4096]),
)
def test_blosc_comes_out_as_numcodecs_decodes_it(
    size: int, seed: int, cname: str, shuffle: str, typesize: int, blocksize: int
) -> None:
    data = smooth(size, seed)
    data = data[: len(data) // typesize * typesize]
    chunk = compressed(data, cname, shuffle, typesize, blocksize)
    assert bytes(blosc.decompress(chunk)) == data  # the oracle reads it as well
    assert _native.decode_chunk(chunk, "blosc", len(data)) == data


@pytest.mark.parametrize("shuffle", sorted(SHUFFLES))
def test_published_sizes_and_bytes_that_do_not_compress(shuffle: str) -> None:
    for data in (smooth(131_072), np.random.default_rng(1).bytes(131_072), bytes(131_072)):
        chunk = compressed(data, "zstd", shuffle, 1)
        assert _native.decode_chunk(chunk, "blosc", len(data)) == data


def test_zstd_and_bare_bytes() -> None:
    data = smooth(50_000)
    assert _native.decode_chunk(Zstd(3).encode(data), "zstd", len(data)) == data
    assert _native.decode_chunk(data, "none", len(data)) == data
    for chunk, kind in ((Zstd(3).encode(data), "zstd"), (data, "none")):
        for size in (0, len(data) - 1, len(data) + 1):
            with pytest.raises(ValueError, match=r"expected|zstd"):
                _native.decode_chunk(chunk, kind, size)


@pytest.mark.parametrize("cname", ["blosclz", "zlib"])
def test_other_compressors_are_named(cname: str) -> None:
    data = smooth(10_000)
    with pytest.raises(ValueError, match=f"unsupported: blosc's {cname}"):
        _native.decode_chunk(compressed(data, cname, "bits", 1), "blosc", len(data))


def attempt(chunk: bytes, size: int) -> bytes | None:
    try:
        return _native.decode_chunk(chunk, "blosc", size)
    except ValueError:
        return None


@settings(max_examples=300, deadline=None)
@given(
    shuffle=st.sampled_from(sorted(SHUFFLES)),
    cname=st.sampled_from(["zstd", "lz4"]),
    typesize=st.sampled_from([1, 4]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    head=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 10**6),
)
def test_damaged_chunks_are_errors_or_bytes_of_the_right_number(
    shuffle: str,
    cname: str,
    typesize: int,
    edits: list[tuple[int, int]],
    head: list[tuple[int, int]],
    cut: int,
) -> None:
    data = smooth(8192)
    chunk = bytearray(compressed(data, cname, shuffle, typesize, 2048))
    for place, value in [*((place % len(chunk), value) for place, value in edits), *head]:
        chunk[place] = value
    found = attempt(bytes(chunk), len(data))
    assert found is None or len(found) == len(data)
    if len(chunk) - cut % len(chunk) < len(chunk):
        assert attempt(bytes(chunk[: len(chunk) - cut % len(chunk)]), len(data)) is None


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), size=st.integers(0, 5000))
def test_any_bytes_are_survived(data: bytes, size: int) -> None:
    if len(data) > 16:
        # A header that announces what is wanted, so that blocks are looked at.
        data = b"\x02\x01" + data[2:4] + struct.pack("<I", size) + data[8:12]
        data += struct.pack("<I", len(data) + 4)
    found = attempt(data, size)
    assert found is None or len(found) == size


def test_an_empty_chunk_of_blosc() -> None:
    assert _native.decode_chunk(compressed(b"", "zstd", "no", 1), "blosc", 0) == b""


# --- Windows and points ----------------------------------------------------------------------


class Grid:
    """A small array in chunks, as bytes one after another in one object."""

    def __init__(self, layout: str, kind: str = "blosc", dtype: str = "int8") -> None:
        rng = np.random.default_rng(3)
        self.chunk = (8, 24)
        self.bands = 33 if dtype == "int8" else 1
        rows, cols = 3, 3
        shape = rows * self.chunk[0], cols * self.chunk[1], self.bands
        self.values = rng.integers(-128, 128, shape).astype(dtype)
        self.scales = rng.uniform(0.01, 0.2, shape[:2]).astype(np.float32)
        self.scales[rng.random(shape[:2]) < 0.1] = np.nan
        self.scales[rng.random(shape[:2]) < 0.1] = np.inf
        self.absent = (1, 2)
        data, spans = b"", []
        high, wide = self.chunk
        for row in range(rows):
            for col in range(cols):
                part = self.values[row * high : row * high + high, col * wide : col * wide + wide]
                if (row, col) == self.absent:
                    part[...] = 0
                    spans.append((-1, 0, 0))
                    continue
                raw = np.ascontiguousarray(
                    part if layout == "hwc" else part.transpose(2, 0, 1)
                ).tobytes()
                code = {
                    "blosc": lambda raw: compressed(raw, "zstd", "bits", 1),
                    "zstd": Zstd(3).encode,
                    "none": bytes,
                }[kind](raw)
                spans.append((0, len(data), len(code)))
                data += code
        self.data = data
        self.spans = np.array(spans, np.int64).reshape(rows, cols, 3)
        self.form = {
            "shape": (*self.chunk, self.bands),
            "layout": layout,
            "compressor": kind,
            "fill": 0.0,
        }

    def cells(self, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, tuple]:
        high, wide = self.chunk
        part = self.spans[
            row // high : (row + height - 1) // high + 1,
            col // wide : (col + width - 1) // wide + 1,
        ].reshape(-1, 3)
        return np.column_stack([np.arange(len(part)), part]), (row % high, col % wide)


GRIDS = {
    (layout, kind): Grid(layout, kind)
    for layout in ("chw", "hwc")
    for kind in ("blosc", "zstd", "none")
}


def product(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(np.float32) * scales[..., None]
    found[~np.isfinite(scales)] = np.nan
    return found


windows = st.tuples(
    st.integers(0, 23), st.integers(0, 71), st.integers(1, 24), st.integers(1, 72)
).map(lambda w: (w[0], w[1], min(w[2], 24 - w[0]), min(w[3], 72 - w[1])))
band_lists = st.none() | st.lists(st.integers(0, 32), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    grid=st.sampled_from(sorted(GRIDS)),
    window=windows,
    bands=band_lists,
    out_layout=st.sampled_from(["hwc", "chw", "every second"]),
)
def test_windows_equal_numpy(
    grid: tuple[str, str],
    window: tuple[int, int, int, int],
    bands: list[int] | None,
    out_layout: str,
) -> None:
    world = GRIDS[grid]
    row, col, height, width = window
    spans, origin = world.cells(*window)
    values = world.values[row : row + height, col : col + width]
    values = values if bands is None else values[..., bands]
    scales = np.ascontiguousarray(world.scales[row : row + height, col : col + width])

    def fresh(dtype: type) -> np.ndarray:
        if out_layout == "chw":
            return np.zeros((values.shape[2], height, width), dtype).transpose(1, 2, 0)
        step = 2 if out_layout == "every second" else 1
        return np.zeros((height, width, values.shape[2] * step), dtype)[..., ::step]

    common = {**world.form, "origin": origin, "bands": bands}
    out = fresh(np.int8)
    assert _native.decode_window([world.data], spans, **common, out=out) is None
    np.testing.assert_array_equal(out, values)
    floats = fresh(np.float32)
    assert _native.decode_window([world.data], spans, **common, out=floats, scales=scales) is None
    np.testing.assert_array_equal(floats, product(values, scales))


@settings(max_examples=100, deadline=None)
@given(
    grid=st.sampled_from(sorted(GRIDS)),
    bands=band_lists,
    places=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 71)), min_size=1, max_size=50),
    seed=st.integers(0, 99),
)
def test_points_equal_numpy(
    grid: tuple[str, str], bands: list[int] | None, places: list[tuple[int, int]], seed: int
) -> None:
    world = GRIDS[grid]
    high, wide = world.chunk
    rows, cols = np.array(places).T
    chunk = rows // high * 3 + cols // wide
    order = np.argsort(chunk, kind="stable")
    target = np.random.default_rng(seed).permutation(len(places))
    used, starts = np.unique(chunk[order], return_index=True)
    pixels = ((rows % high) * wide + cols % wide)[order]
    arguments = (
        [world.data],
        world.spans.reshape(-1, 3)[used],
        np.append(starts, len(places)),
        pixels,
        target[order],
    )
    values = np.empty((len(places), world.bands), np.int8)
    values[target] = world.values[rows, cols]
    scales = np.empty(len(places), np.float32)
    scales[target] = world.scales[rows, cols]
    values = values if bands is None else values[..., bands]
    out = np.empty(values.shape, np.int8)
    assert _native.decode_points(*arguments, **world.form, out=out, bands=bands) is None
    np.testing.assert_array_equal(out, values)
    floats = np.empty(values.shape, np.float32)
    assert (
        _native.decode_points(*arguments, **world.form, out=floats, bands=bands, scales=scales)
        is None
    )
    np.testing.assert_array_equal(floats, product(values, scales))


def test_floats_without_bands_are_scales() -> None:
    world = Grid("chw", "zstd", "float32")
    spans, origin = world.cells(3, 5, 20, 60)
    out = np.zeros((20, 60, 1), np.float32)
    assert _native.decode_window([world.data], spans, **world.form, origin=origin, out=out) is None
    np.testing.assert_array_equal(out, world.values[3:23, 5:65])


def test_files_and_cells_that_are_left_out(tmp_path: object) -> None:
    world = GRIDS["chw", "blosc"]
    path = tmp_path / "shard"  # type: ignore[operator]
    path.write_bytes(world.data)
    spans, origin = world.cells(0, 0, 24, 72)
    out = np.full((24, 72, world.bands), 7, np.int8)
    found = _native.decode_window([path], spans[4:5], **world.form, origin=origin, out=out)
    assert found is None
    expected = np.full_like(out, 7)
    expected[8:16, 24:48] = world.values[8:16, 24:48]
    np.testing.assert_array_equal(out, expected)


def test_a_damaged_chunk_is_named() -> None:
    world = GRIDS["chw", "blosc"]
    spans, origin = world.cells(0, 0, 24, 72)
    out = np.zeros((24, 72, world.bands), np.int8)
    for edit, reason in (
        ((4, 2, len(world.data)), "do not lie in an object"),
        ((4, 3, 2**40), "compressed bytes for a chunk"),
        ((4, 3, 5), "no blosc chunk"),
        ((4, 2, 2**62), "do not lie in an object"),
    ):
        wrong = spans.copy()
        wrong[edit[0], edit[1]] = edit[2]
        found = _native.decode_window([world.data], wrong, **world.form, origin=origin, out=out)
        assert found is not None
        assert found[0] == 4
        assert reason in found[1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"spans": [[0, 1, 0, 9]]}, "object 1 does not exist"),
        ({"spans": [[0, -2, 0, 9]]}, "span 0"),
        ({"spans": [[9, 0, 0, 9]]}, "cell 9"),
        ({"spans": [[0, -1, 0, 9], [0, -1, 0, 9]]}, "named twice"),
        ({"spans": [[-1, -1, 0, 9]]}, "cell -1"),
        ({"origin": (8, 0)}, "origin"),
        ({"shape": (0, 24, 33)}, "hold nothing"),
        ({"shape": (2**40, 2**40, 33)}, "too large"),
        ({"layout": "hcw"}, "layout"),
        ({"compressor": "gzip"}, "compressor"),
        ({"bands": [33]}, "out of range"),
        ({"bands": [1, 2]}, "bands of out"),
        ({"scales": np.zeros((3, 3), np.float32), "dtype": np.float32}, "scales"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict, error: str) -> None:
    world = GRIDS["chw", "blosc"]
    change = dict(change)
    spans = np.array(change.pop("spans", [[0, 0, 0, 9]]), np.int64)
    out = np.zeros((24, 72, world.bands), change.pop("dtype", np.int8))
    arguments = {**world.form, "origin": (0, 0), **change}
    with pytest.raises((ValueError, IndexError), match=error):
        _native.decode_window([world.data], spans, **arguments, out=out)


@pytest.mark.parametrize(
    ("starts", "pixels", "rows"),
    [
        ([0, 2], [0, 1], [0, 0]),  # a row twice
        ([0, 2], [0, 192], [0, 1]),  # past the chunk
        ([0, 2], [0, -1], [0, 1]),
        ([0, 2], [0, 1], [0, 2]),  # past the result
        ([0, 3], [0, 1], [0, 1]),  # past the points
        ([2, 0], [0, 1], [0, 1]),
        ([0], [0, 1], [0, 1]),
    ],
)
def test_points_that_do_not_fit_are_refused(
    starts: list[int], pixels: list[int], rows: list[int]
) -> None:
    world = GRIDS["chw", "blosc"]
    with pytest.raises(ValueError, match=r"point|start"):
        _native.decode_points(
            [world.data],
            world.spans[0, :1],
            np.array(starts),
            np.array(pixels),
            np.array(rows),
            **world.form,
            out=np.zeros((2, world.bands), np.int8),
        )


# --- Indexes of shards -----------------------------------------------------------------------


def index_of(entries: np.ndarray) -> bytes:
    import google_crc32c  # comes with zarr

    raw = entries.astype("<u8").tobytes()
    return raw + google_crc32c.value(raw).to_bytes(4, "little")


ENTRIES = np.array([[0, 10], [2**64 - 1, 2**64 - 1], [10, 7]], np.uint64)


def test_indexes_are_read_from_either_end(tmp_path: object) -> None:
    index, path = index_of(ENTRIES), tmp_path / "shard"  # type: ignore[operator]
    path.write_bytes(b"x" * 17 + index)
    at_end = _native.shard_indexes([path, str(path), index], 3, checked=True, at_end=True)
    (at_start,) = _native.shard_indexes([index + b"x" * 17], 3, checked=True, at_end=False)
    (bare,) = _native.shard_indexes([index[:-4]], 3, checked=False, at_end=True)
    for found in (*at_end, at_start, bare):
        np.testing.assert_array_equal(found, ENTRIES)
    assert _native.shard_indexes([tmp_path / "none"], 3, checked=True, at_end=True) == [None]  # type: ignore[operator]


@given(place=st.integers(0, 51), bit=st.integers(0, 7))
def test_each_flipped_bit_of_an_index_is_seen(place: int, bit: int) -> None:
    index = bytearray(index_of(ENTRIES))
    index[place] ^= 1 << bit
    (found,) = _native.shard_indexes([bytes(index)], 3, checked=True, at_end=True)
    assert isinstance(found, str)
    assert "CRC32C" in found


def test_an_index_that_is_cut_off() -> None:
    (found,) = _native.shard_indexes([index_of(ENTRIES)[1:]], 3, checked=True, at_end=True)
    assert isinstance(found, str)
    assert "does not fit" in found
