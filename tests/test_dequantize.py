"""The dequantise kernel against plain NumPy, bit for bit, and against bad input."""

import ctypes
import inspect
import mmap
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from geotessera import _native
from geotessera.errors import BandError

dequantize = _native.dequantize
CANONICAL_NAN = 0x7FC00000


def reference(values, scales, *, bands=None, layout="hwc", out_layout=None):
    """NumPy's own arithmetic on copies, in (row, column, band) order."""
    if layout == "chw":
        values = values.transpose(1, 2, 0)
        scales = scales.transpose(1, 2, 0) if scales.ndim == 3 else scales
    scales = np.broadcast_to(scales if scales.ndim == 3 else scales[..., None], values.shape)
    with np.errstate(all="ignore"):
        result = values.astype(np.float32) * scales.astype(np.float32)
    result.view(np.uint32)[~np.isfinite(scales)] = CANONICAL_NAN
    if bands is not None:
        result = result[..., list(bands)]
    return result.transpose(2, 0, 1) if (out_layout or layout) == "chw" else result


def assert_same_bits(found, expected):
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    found, expected = np.ascontiguousarray(found), np.ascontiguousarray(expected)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def make(shape, *, per_band=False, layout="hwc", seed=0):
    """Random values and scales with every kind of float32 among them."""
    rng = np.random.default_rng(seed)
    rows, cols, bands = shape
    full = shape if layout == "hwc" else (bands, rows, cols)
    values = rng.integers(-128, 128, full, dtype=np.int8)
    scales = rng.random(full if per_band else (rows, cols), dtype=np.float32)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -3e-39, 3.4e38, -1e38]
    flat = scales.reshape(-1)
    where = rng.random(flat.size) < 0.2
    flat[where] = rng.choice(np.array(special, np.float32), int(where.sum()))
    noise = rng.random(flat.size) < 0.05
    flat.view(np.uint32)[noise] = rng.integers(0, 2**32, int(noise.sum()), dtype=np.uint32)
    return values, scales


layouts = st.sampled_from(["hwc", "chw"])


@given(
    shape=st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 140)),
    layout=layouts,
    out_layout=st.none() | layouts,
    per_band=st.booleans(),
    picks=st.none() | st.lists(st.integers(0, 200), max_size=150),
    given_out=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_equals_numpy(shape, layout, out_layout, per_band, picks, given_out, seed):
    values, scales = make(shape, per_band=per_band, layout=layout, seed=seed)
    bands = None if picks is None or not shape[2] else [pick % shape[2] for pick in picks]
    options = {"bands": bands, "layout": layout, "out_layout": out_layout}
    expected = reference(values, scales, **options)
    out = np.full(expected.shape, 7, np.float32) if given_out else None
    found = dequantize(values, scales, out=out, **options)
    assert out is None or found is out
    assert_same_bits(found, expected)


def test_large_tile_uses_every_path():
    values, scales = make((300, 331, 128))
    for out_layout in ("hwc", "chw"):
        expected = reference(values, scales, out_layout=out_layout)
        assert_same_bits(dequantize(values, scales, out_layout=out_layout), expected)
        out = np.empty(expected.shape, np.float32)
        dequantize(values, scales, out_layout=out_layout, out=out)
        assert_same_bits(out, expected)


def test_non_finite_scales_give_the_canonical_nan_and_overflow_stays_infinite():
    payload = np.array([0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000], np.uint32)
    scales = np.concatenate([payload.view(np.float32), np.float32([3e38, -3e38])])[None]
    values = np.full((1, 6, 20), 100, np.int8)
    found = dequantize(values, scales)
    assert (found[0, :4].view(np.uint32) == CANONICAL_NAN).all()
    assert (found[0, 4] == np.inf).all()
    assert (found[0, 5] == -np.inf).all()


def views(array):
    """The same numbers in other places: strided, reversed, Fortran order, offset, broadcast."""
    wide = np.zeros([2 * n + 1 for n in array.shape], array.dtype)
    inner = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    inner[...] = array
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    mirrored = np.ascontiguousarray(array[backwards])[backwards]
    return {
        "strided": inner,
        "reversed": mirrored,
        "fortran": np.asfortranarray(array),
        "matrix order": np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1),
    }


@pytest.mark.parametrize("per_band", [False, True])
def test_any_strides_in_and_out(per_band):
    values, scales = make((7, 33, 40), per_band=per_band)
    expected = reference(values, scales)
    for values_in in views(values).values():
        for scales_in in views(scales).values():
            assert_same_bits(dequantize(values_in, scales_in), expected)
    for out in views(np.zeros(values.shape, np.float32)).values():
        assert dequantize(values, scales, out=out) is out
        assert_same_bits(out, expected)


def test_out_leaves_its_surroundings_alone():
    values, scales = make((5, 6, 20))
    whole = np.full((9, 10, 24), 5, np.float32)
    part = whole[2:7, 2:8, 2:22]
    dequantize(values, scales, out=part)
    assert_same_bits(part, reference(values, scales))
    whole[2:7, 2:8, 2:22] = 5
    assert (whole == 5).all()


def test_repeated_input_is_read_not_copied():
    values = np.broadcast_to(np.int8(3), (5, 40, 30))
    scales = np.broadcast_to(np.float32(0.5), (5, 40))
    assert (dequantize(values, scales) == 1.5).all()
    # Both repeat one element of the same memory, which the borrow checker cannot tell apart.
    buffer = np.array([0.5], np.float32)
    values = as_strided(buffer.view(np.int8), (2, 3, 4), (0, 0, 0))
    scales = as_strided(buffer, (2, 3), (0, 0))
    assert (dequantize(values, scales) == values[0, 0, 0] * 0.5).all()


@pytest.mark.parametrize("shape", [(0, 4, 5), (4, 0, 5), (4, 5, 0), (0, 0, 0), (2**20, 0, 2**20)])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_empty_arrays(shape, layout):
    values = np.empty(shape if layout == "hwc" else (shape[2], *shape[:2]), np.int8)
    scales = np.empty(shape[:2], np.float32)
    found = dequantize(values, scales, layout=layout)
    assert found.shape == values.shape
    assert dequantize(values, scales, layout=layout, out=found) is found


@pytest.mark.parametrize(
    ("bands", "kept"),
    [
        ([], []),
        ((2, 0, 2), [2, 0, 2]),
        (range(4, -1, -2), [4, 2, 0]),
        (np.array([1, 3], np.uint8), [1, 3]),
        ([np.int64(4), 0, np.int16(1)], [4, 0, 1]),
        ([3] * 300, [3] * 300),
    ],
)
def test_bands_keep_order_and_duplicates(bands, kept):
    values, scales = make((3, 4, 5))
    assert_same_bits(dequantize(values, scales, bands=bands), reference(values, scales, bands=kept))


@pytest.mark.parametrize("band", [5, -1, 2**70, -(2**70), np.uint64(2**64 - 1)])
def test_bands_out_of_range(band):
    values, scales = make((3, 4, 5))
    with pytest.raises(BandError, match=f"band {band} .* has 5 bands") as caught:
        dequantize(values, scales, bands=[0, band])
    assert isinstance(caught.value, IndexError)
    assert isinstance(caught.value, ValueError)


def test_a_band_of_no_bands():
    with pytest.raises(BandError):
        dequantize(np.empty((2, 2, 0), np.int8), np.ones((2, 2), np.float32), bands=[0])


@pytest.mark.parametrize(
    "bands", [3, "012", [1.0], ["1"], [None], [True, False], np.array([True] * 5), [[0]], [0, True]]
)
def test_bands_must_be_integers(bands):
    values, scales = make((3, 4, 5))
    with pytest.raises(TypeError, match="bands must be a sequence of integers"):
        dequantize(values, scales, bands=bands)


def test_an_error_in_index_is_not_hidden():
    class Broken:
        def __iter__(self):
            raise RuntimeError("broken")

    values, scales = make((3, 4, 5))
    with pytest.raises((RuntimeError, TypeError)):
        dequantize(values, scales, bands=Broken())


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("values", np.zeros((3, 4, 5), np.uint8), TypeError, r"values .*int8.*uint8.*\[3, 4, 5\]"),
        ("values", np.zeros((3, 4, 5), bool), TypeError, "values .*bool"),
        ("values", [[[1]]], TypeError, "values must be a NumPy array, found list"),
        ("values", None, TypeError, "values must be a NumPy array, found NoneType"),
        ("values", np.zeros((3, 4), np.int8), ValueError, r"values must have 3 .*\[3, 4\]"),
        ("scales", np.zeros((3, 4)), TypeError, r"scales .*float32.*float64.*\[3, 4\]"),
        ("scales", np.zeros((3, 4), ">f4"), TypeError, "scales .*>f4"),
        ("scales", np.zeros((3, 4), object), TypeError, "scales .*object"),
        ("scales", np.zeros(5, np.float32), ValueError, "scales must have 2 or 3 dimensions"),
        ("scales", np.zeros((4, 3), np.float32), ValueError, r"scales.*\[3, 4\].*\[4, 3\]"),
        (
            "scales",
            np.zeros((3, 4, 1), np.float32),
            ValueError,
            r"scales.*\[3, 4, 5\].*\[3, 4, 1\]",
        ),
        ("out", np.zeros((3, 4, 4), np.float32), ValueError, r"out.*\[3, 4, 5\].*\[3, 4, 4\]"),
        ("out", np.zeros((5, 3, 4), np.float32), ValueError, "out.*expected"),
        ("out", np.zeros((3, 4, 5)), TypeError, "out .*float64"),
        ("out", np.zeros((3, 4, 5), ">f4"), TypeError, "out .*>f4"),
        ("out", np.zeros(60, np.float32), ValueError, "out must have 3"),
        ("layout", "bhw", ValueError, "layout must be 'hwc' or 'chw', found \"bhw\""),
        ("out_layout", "HWC", ValueError, "out_layout must be"),
        ("layout", None, TypeError, "layout"),
    ],
)
def test_wrong_arguments_are_named(argument, value, error, message):
    values, scales = make((3, 4, 5))
    arguments = {"values": values, "scales": scales, argument: value}
    with pytest.raises(error, match=message):
        dequantize(**arguments)


def test_read_only_out():
    values, scales = make((3, 4, 5))
    out = np.full(values.shape, 9, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        dequantize(values, scales, out=out)
    assert (out == 9).all()
    frozen = np.frombuffer(bytes(4), np.float32).reshape(1, 1, 1)
    with pytest.raises(ValueError, match="out is read-only"):
        dequantize(values[:1, :1, :1], scales[:1, :1], out=frozen)


def test_read_only_inputs_are_fine():
    values, scales = make((3, 4, 5))
    expected = reference(values, scales)
    values.flags.writeable = scales.flags.writeable = False
    assert_same_bits(dequantize(values, scales), expected)


def test_misaligned_arrays():
    values, scales = make((3, 4, 5))

    def misaligned(shape):
        count = int(np.prod(shape))
        return np.zeros(4 * count + 1, np.uint8)[1:].view(np.float32).reshape(shape)

    with pytest.raises(ValueError, match="scales is not aligned"):
        dequantize(values, misaligned((3, 4)))
    with pytest.raises(ValueError, match="out is not aligned"):
        dequantize(values, scales, out=misaligned((3, 4, 5)))
    packed = np.zeros((3, 4), np.dtype([("flag", "i1"), ("scale", "<f4")]))
    with pytest.raises(ValueError, match="scales is not aligned"):
        dequantize(values, packed["scale"])


def test_strides_that_are_no_multiple_of_the_item():
    values, _ = make((2, 3, 5))
    odd = as_strided(np.zeros(100, np.float32), (2, 3), (6, 4))
    with pytest.raises(ValueError, match="scales"):
        dequantize(values, odd)


def test_out_that_overlaps_an_input():
    buffer = np.zeros(600, np.float32)
    out = buffer[:60].reshape(3, 4, 5)
    values, scales = make((3, 4, 5))
    with pytest.raises(ValueError, match="out overlaps"):
        dequantize(buffer[50:65].view(np.int8).reshape(3, 4, 5), scales, out=out)
    with pytest.raises(ValueError, match="out overlaps"):
        dequantize(values, buffer[:12].reshape(3, 4), out=out)
    with pytest.raises(ValueError, match="out overlaps"):
        dequantize(values, buffer[71:59:-1].reshape(3, 4), out=buffer[12:72].reshape(3, 4, 5))
    same = out.view(np.int8)[..., ::4]
    with pytest.raises(ValueError, match="out overlaps"):
        dequantize(same, scales, out=out)
    assert dequantize(values, buffer[60:72].reshape(3, 4), out=out) is out


def test_overlap_is_seen_through_foreign_memory():
    memory = mmap.mmap(-1, 4096)
    out = np.frombuffer(memory, np.float32, 60).reshape(3, 4, 5)
    address = out.ctypes.data
    again = (ctypes.c_byte * 60).from_address(address)
    values = np.frombuffer(again, np.int8).reshape(3, 4, 5)
    with pytest.raises(ValueError, match="out overlaps values"):
        dequantize(values, np.ones((3, 4), np.float32), out=out)


@pytest.mark.parametrize("strides", [(0, 20, 4), (20, 20, 4), (80, 16, 4), (0, 0, 0)])
def test_out_that_overlaps_itself(strides):
    values, scales = make((3, 4, 5))
    out = as_strided(np.zeros(100, np.float32), (3, 4, 5), strides)
    with pytest.raises(ValueError, match="share memory"):
        dequantize(values, scales, out=out)


@pytest.mark.parametrize("shape", [(2**30, 2**30, 2), (2**20, 2**20, 2**21), (2**20, 2**40, 2)])
def test_results_larger_than_the_address_space(shape):
    values = np.broadcast_to(np.int8(1), shape)
    scales = np.broadcast_to(np.float32(1), shape[:2])
    with pytest.raises(ValueError, match="too large"):
        dequantize(values, scales)
    with pytest.raises(ValueError, match="too large"):
        dequantize(values.transpose(2, 0, 1), scales, layout="chw")


def test_results_larger_than_memory():
    values = np.broadcast_to(np.int8(1), (2**20, 2**20, 2**14))
    scales = np.broadcast_to(np.float32(1), values.shape[:2])
    with pytest.raises(MemoryError):
        dequantize(values, scales)
    assert dequantize(values, scales, bands=[]).shape == (2**20, 2**20, 0)


def test_bands_larger_than_the_address_space():
    values = np.broadcast_to(np.int8(1), (2**31, 2**28, 1))
    scales = np.broadcast_to(np.float32(1), values.shape[:2])
    with pytest.raises(ValueError, match="too large"):
        dequantize(values, scales, bands=[0] * 32)


def test_many_threads_share_inputs():
    values, scales = make((90, 100, 128))
    expected = reference(values, scales)

    def work(seed):
        out = np.empty(values.shape, np.float32) if seed % 2 else None
        for _ in range(3):
            assert_same_bits(dequantize(values, scales, out=out), expected)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(32)))


def test_many_threads_fill_parts_of_one_out():
    values, scales = make((64, 100, 128))
    out = np.empty(values.shape, np.float32)

    def work(start):
        rows = slice(start, start + 4)
        dequantize(values[rows], scales[rows], out=out[rows])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(0, 64, 4)))
    assert_same_bits(out, reference(values, scales))


def test_the_gil_is_released():
    """Another thread counts while this one, which nobody interrupts, is inside a call."""
    values, scales = make((500, 400, 128))
    out = np.zeros(values.shape, np.float32)
    stop, counter, seen = Event(), [0], []

    def count():
        while not stop.is_set():
            counter[0] += 1
            time.sleep(0)  # gives the GIL away

    thread = Thread(target=count)
    interval = sys.getswitchinterval()
    # So long that the interpreter never takes the GIL from this thread: only a call gives it.
    sys.setswitchinterval(1000)
    try:
        thread.start()
        for _ in range(20):
            before = counter[0]
            dequantize(values, scales, out=out)
            seen.append(counter[0] - before)
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert max(seen) > 0


def test_signature_is_introspectable():
    signature = str(inspect.signature(dequantize))
    assert signature == ("(values, scales, *, bands=None, layout='hwc', out_layout=None, out=None)")
    assert "bit for bit" in (dequantize.__doc__ or "")


def test_simd_level():
    assert _native.simd_level() in {"scalar", "avx2", "avx512", "neon"}
