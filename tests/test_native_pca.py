"""`moments`, `project_bands`, `tally_scores` and `stretch_scores` against plain NumPy."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import dequantized

from geotessera import _native
from waiting import PATIENCE

KINDS = ("i8", "i8-bands", "f32", "f32-nodata")
VIEWS = ("plain", "reversed", "stepped", "transposed")
NODATA = -9999.0


def raster(
    rng: np.random.Generator, kind: str, layout: str, view: str, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray | None, float | None, np.ndarray]:
    """Values, scales, nodata, and the float32 pixels (row, column, band) that they mean."""
    height, width, bands = shape
    axes = (2, 0, 1) if layout == "chw" else (0, 1, 2)

    def laid(array: np.ndarray) -> np.ndarray:
        """The same numbers in another layout and with other strides."""
        order = axes if array.ndim == 3 else (0, 1)
        array = array.transpose(order)
        if view == "plain":
            return np.ascontiguousarray(array)
        if view == "reversed":
            return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
        if view == "stepped":
            wide = np.repeat(np.repeat(array, 2, axis=0), 3, axis=-1)
            return wide[::2, ..., ::3]
        return np.asfortranarray(array)

    if kind.startswith("i8"):
        q = rng.integers(-128, 128, shape, dtype=np.int8)
        size = shape if kind == "i8-bands" else (height, width)
        scales = rng.uniform(-0.1, 0.2, size).astype(np.float32)
        share = 0.1 / (bands if kind == "i8-bands" else 1)
        scales[rng.random(size) < share] = np.nan
        scales[rng.random(size) < share] = np.inf
        return laid(q), laid(scales), None, dequantized(q, scales)
    values = rng.normal(3, 2, shape).astype(np.float32)
    values[rng.random((height, width)) < 0.1, rng.integers(bands)] = -np.inf
    if kind == "f32":
        values[rng.random((height, width)) < 0.1] = np.nan
        return laid(values), None, None, values
    values[rng.random((height, width)) < 0.1, 0] = NODATA
    meant = np.where(values == NODATA, np.float32(np.nan), values)
    return laid(values), None, NODATA, meant


@st.composite
def rasters(draw: st.DrawFn) -> tuple[Any, ...]:
    kind, layout = draw(st.sampled_from(KINDS)), draw(st.sampled_from(("hwc", "chw")))
    view = draw(st.sampled_from(VIEWS))
    bands = draw(st.integers(1, 130))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 90)), bands)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng, layout, *raster(rng, kind, layout, view, shape)


@settings(max_examples=60, deadline=None)
@given(rasters(), st.booleans())
def test_moments_are_those_of_float64(made: tuple[Any, ...], centred: bool) -> None:
    rng, layout, values, scales, nodata, meant = made
    valid = meant[np.isfinite(meant).all(axis=2)]
    origin = rng.normal(size=meant.shape[2]).astype(np.float32) if centred else None
    count, sums, products = _native.moments(values, scales, nodata, layout, origin)
    off = valid.astype(np.float64) - (0 if origin is None else origin.astype(np.float64))
    assert count == len(valid)
    assert sums.dtype == products.dtype == np.float64
    size = np.sqrt((off**2).sum(axis=0))
    slack = 2.0**-18
    bound = slack * size * np.sqrt(max(count, 1))
    assert (np.abs(sums - off.sum(axis=0)) <= bound + 1e-30).all()
    wanted = off.T @ off
    assert (np.abs(products - wanted) <= slack * np.outer(size, size) + 1e-30).all()
    np.testing.assert_array_equal(products, products.T)


@settings(max_examples=60, deadline=None)
@given(rasters(), st.integers(1, 12))
def test_scores_are_float64_sums_rounded_once(made: tuple[Any, ...], components: int) -> None:
    rng, layout, values, scales, nodata, meant = made
    weights = rng.normal(size=(components, meant.shape[2]))
    offsets = rng.normal(0, 10, components)
    scores = _native.project_bands(values, scales, weights, offsets, nodata, layout)
    valid = np.isfinite(meant).all(axis=2)
    assert scores.shape == (*valid.shape, components)
    assert scores.dtype == np.float32
    assert np.isnan(scores[~valid]).all()
    pixels = meant[valid].astype(np.float64)
    wanted = pixels @ weights.T + offsets
    size = np.abs(pixels) @ np.abs(weights).T
    slack = size * 2.0**-29 + np.abs(wanted) * 2.0**-24
    assert (np.abs(scores[valid] - wanted) <= slack).all()
    # Into memory of the caller, whatever its strides.
    room = np.full((components, *valid.shape), 7, np.float32)
    out = room.transpose(1, 2, 0)
    same = _native.project_bands(values, scales, weights, offsets, nodata, layout, out)
    assert same is out
    np.testing.assert_array_equal(out, scores)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_threads_change_no_bit(layout: str) -> None:
    rng = np.random.default_rng(1)
    values, scales, _, _ = raster(rng, "i8", layout, "plain", (211, 307, 33))
    weights, offsets = rng.normal(size=(3, 33)), rng.normal(size=3)
    before = _native.num_threads()
    seen = []
    try:
        for threads in (1, 2, 5):
            _native.set_num_threads(threads)
            count, sums, products = _native.moments(values, scales, layout=layout)
            scores = _native.project_bands(values, scales, weights, offsets, layout=layout)
            levels = _native.stretch_scores(scores, np.sort(rng.random((3, 255)), 1).astype("f4"))
            seen.append((count, sums.tobytes(), products.tobytes(), scores.tobytes()))
            assert levels.shape == scores.shape
    finally:
        _native.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]
    assert 0 < seen[0][0] < 211 * 307


def test_layouts_and_strides_change_no_bit() -> None:
    rng = np.random.default_rng(2)
    values, scales, _, _ = raster(rng, "i8", "hwc", "plain", (50, 70, 20))
    wanted = _native.moments(values, scales)
    chw = np.ascontiguousarray(values.transpose(2, 0, 1))
    stretched = np.broadcast_to(scales[..., None], values.shape)
    for found in (
        _native.moments(chw, scales, layout="chw"),
        _native.moments(values, stretched),
        _native.moments(dequantized(values, scales)),
    ):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_numbers_whose_squares_are_no_float32(size: float) -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(30, 20, 5)) * size).astype(np.float32)
    _, sums, products = _native.moments(values)
    flat = values.reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(products, flat.T @ flat, rtol=1e-9, atol=1e-9 * size**2)
    np.testing.assert_allclose(sums, flat.sum(axis=0), rtol=1e-9)


def test_one_absurd_pixel_spoils_no_other_block() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(64, 64, 4)).astype(np.float32)
    values[5, 5] = 3e38
    flat = values.reshape(-1, 4).astype(np.float64)
    _, sums, products = _native.moments(values)
    np.testing.assert_allclose(products, flat.T @ flat, rtol=1e-12)
    np.testing.assert_allclose(sums, flat.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 5, 4), (5, 0, 4)])
def test_nothing_has_no_moments(shape: tuple[int, int, int]) -> None:
    count, sums, products = _native.moments(np.zeros(shape, np.float32))
    assert count == 0
    assert not sums.any()
    assert products.shape == (4, 4)
    scores = _native.project_bands(np.zeros(shape, np.float32), None, np.ones((2, 4)), np.zeros(2))
    assert scores.shape == (*shape[:2], 2)


def test_pixels_without_a_band() -> None:
    bare = np.zeros((3, 4, 0), np.float32)
    assert _native.moments(bare)[0] == 0
    with pytest.raises(ValueError, match="without a band"):
        _native.project_bands(bare, None, np.ones((2, 0)), np.zeros(2))
    values = np.zeros((3, 4, 5), np.float32)
    assert _native.project_bands(values, None, np.ones((0, 5)), np.zeros(0)).shape == (3, 4, 0)


def test_many_bands_take_little_memory() -> None:
    values = np.random.default_rng(8).normal(size=(100, 300, 300)).astype(np.float32)
    count, _, products = _native.moments(values)
    flat = values.reshape(-1, 300).astype(np.float64)
    assert count == 30_000
    np.testing.assert_allclose(products, flat.T @ flat, atol=1e-6 * count)


def test_moments_refuse_what_does_not_fit() -> None:
    q, scales = np.zeros((3, 4, 5), np.int8), np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="need their scales"):
        _native.moments(q)
    with pytest.raises(ValueError, match="origin"):
        _native.moments(q, scales, origin=np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="finite"):
        _native.moments(q, scales, origin=np.full(5, np.inf, np.float32))
    with pytest.raises(TypeError, match="origin"):
        _native.moments(q, scales, origin=np.zeros(5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scales"):
        _native.moments(q, np.ones((4, 3), np.float32))
    with pytest.raises(TypeError, match="int8 or float32"):
        _native.moments(np.zeros((3, 4, 5)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layout"):
        _native.moments(q, scales, layout="bhw")  # type: ignore[arg-type]


def test_projection_refuses_what_does_not_fit() -> None:
    values = np.zeros((3, 4, 5), np.float32)
    weights, offsets = np.ones((2, 5)), np.zeros(2)
    with pytest.raises(ValueError, match="weights"):
        _native.project_bands(values, None, np.ones((2, 4)), offsets)
    with pytest.raises(ValueError, match="weights"):
        _native.project_bands(values, None, weights, np.zeros(3))
    with pytest.raises(TypeError, match="float64"):
        _native.project_bands(values, None, weights.astype("f4"), offsets)
    with pytest.raises(ValueError, match="finite"):
        _native.project_bands(values, None, weights * np.nan, offsets)
    with pytest.raises(ValueError, match="out"):
        _native.project_bands(values, None, weights, offsets, out=np.zeros((3, 4, 3), "f4"))
    with pytest.raises(ValueError, match="overlaps"):
        _native.project_bands(values, None, weights, offsets, out=values[..., :2])


SCORES = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(SCORES, min_size=2, max_size=300), st.integers(0, 2**32))
def test_levels_are_those_of_searchsorted(numbers: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.array(numbers[: len(numbers) // 2 * 2], np.float32).reshape(-1, 1, 2)
    known = scores[~np.isnan(scores)]
    pool = np.concatenate([known, rng.normal(size=9).astype(np.float32)])
    thresholds = np.sort(rng.choice(pool, (2, 255)), axis=1)
    levels = _native.stretch_scores(scores, thresholds)
    assert levels.dtype == np.uint8
    for k in range(2):
        plane = scores[..., k]
        wanted = np.searchsorted(thresholds[k], plane, side="right")
        np.testing.assert_array_equal(levels[..., k], np.where(np.isnan(plane), 0, wanted))


@settings(max_examples=50, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=200))
def test_tallies_sort_as_numpy(numbers: list[float]) -> None:
    scores = np.array(numbers, np.float32).reshape(1, -1, 1)
    upper = np.zeros((1, 65536), np.int64)
    _native.tally_scores(scores, upper)
    _native.tally_scores(scores, upper)  # adds
    bits = scores[~np.isnan(scores)].view(np.uint32)
    ranks = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.int64)
    np.testing.assert_array_equal(upper[0], 2 * np.bincount(ranks >> 16, minlength=65536))
    if not len(ranks):
        return
    wanted = ranks[0] >> 16
    rows = np.full((1, 65536), -1, np.int32)
    rows[0, wanted] = 1
    lower = np.zeros((1, 2, 256), np.int64)
    _native.tally_scores(scores, lower, rows, 8)
    inside = ranks[ranks >> 16 == wanted]
    np.testing.assert_array_equal(lower[0, 1], np.bincount((inside & 65535) >> 8, minlength=256))
    assert not lower[0, 0].any()


def test_levels_and_tallies_refuse_what_does_not_fit() -> None:
    scores = np.zeros((2, 2, 1), np.float32)
    falling = np.arange(255, 0, -1, dtype=np.float32)[None]
    for thresholds in (falling, np.full((1, 255), np.nan, np.float32)):
        with pytest.raises(ValueError, match="ascend"):
            _native.stretch_scores(scores, thresholds)
    with pytest.raises(ValueError, match="thresholds"):
        _native.stretch_scores(scores, np.zeros((2, 255), np.float32))
    with pytest.raises(ValueError, match="65536"):
        _native.tally_scores(scores, np.zeros((1, 5), np.int64))
    with pytest.raises(ValueError, match="components"):
        _native.tally_scores(scores, np.zeros((2, 65536), np.int64))
    with pytest.raises(ValueError, match="C order"):
        _native.tally_scores(scores, np.zeros((1, 131072), np.int64)[:, ::2])
    with pytest.raises(ValueError, match="dropped"):
        _native.tally_scores(
            scores, np.zeros((1, 1, 1), np.int64), np.zeros((1, 65536), np.int32), 17
        )
    frozen = np.zeros((1, 65536), np.int64)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _native.tally_scores(scores, frozen)


def test_rows_beyond_the_counts_are_left_out() -> None:
    rows = np.full((1, 65536), 9, np.int32)
    counts = np.zeros((1, 2, 65536), np.int64)
    _native.tally_scores(np.ones((4, 4, 1), np.float32), counts, rows)
    assert not counts.any()


def test_the_gil_is_released() -> None:
    """Another thread counts while this one, which nobody interrupts, is inside a call."""
    values = np.ones((400, 400, 128), np.float32)
    stop, steps = threading.Event(), [0]

    def count() -> None:
        while not stop.is_set():
            steps[0] += 1
            time.sleep(0)  # gives the GIL away

    thread = threading.Thread(target=count)
    interval, end = sys.getswitchinterval(), time.monotonic() + PATIENCE
    # So long that the interpreter never takes the GIL from this thread: only a call gives it.
    sys.setswitchinterval(1000)
    try:
        thread.start()
        counted = 0
        while not counted and time.monotonic() < end:
            before = steps[0]
            _native.moments(values)
            counted = steps[0] - before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert counted
