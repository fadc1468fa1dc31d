"""`sample` against a plain NumPy reference."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import oracles

from geotessera._native import sample
from geotessera.errors import BandError
from geotessera.types import Status
from waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

TRANSFORM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_800_000.0)
X0, Y0 = 500_000.0, 5_800_000.0


def same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Equal to the last bit, NaN and the sign of zero included."""
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def world(
    rng: np.random.Generator, kind: str, shape: tuple[int, int, int]
) -> tuple[Any, Any, float | None]:
    """Pixels of a kind with gaps in them: values, scales and nodata, HWC."""
    height, width, _ = shape
    q = rng.integers(-128, 128, shape, dtype=np.int8)
    if kind == "i8":
        scales = rng.uniform(-0.1, 0.2, (height, width)).astype(np.float32)
        scales[rng.random(scales.shape) < 0.2] = np.nan
        scales[rng.random(scales.shape) < 0.1] = np.inf
        return q, scales, None
    if kind == "i8-bands":
        scales = rng.uniform(-0.1, 0.2, shape).astype(np.float32)
        scales[rng.random(shape) < 0.2] = -np.inf
        scales[rng.random((height, width)) < 0.2] = np.nan
        return q, scales, None
    values = rng.normal(size=shape).astype(np.float32)
    values[rng.random(shape) < 0.1] = np.nan
    values[rng.random(shape) < 0.1] = -9999
    values[rng.random((height, width)) < 0.2] = -9999
    return values, None, -9999.0


def scattered(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Points on and round the raster, many of them on pixel edges and centres."""
    uv = rng.uniform(-1.5, 1.5, (count, 2)) + rng.random((count, 2)) * [shape[1], shape[0]]
    exact = rng.random(count) < 0.4
    uv[exact] = np.round(uv[exact] * 2) / 2
    points = np.column_stack([X0 + 10 * uv[:, 0], Y0 - 10 * uv[:, 1]])
    points[rng.random(count) < 0.02, 0] = np.nan
    points[rng.random(count) < 0.02, 1] = -np.inf
    return points


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["i8", "i8-bands", "f4"]),
    shape=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 40)),
    method=st.sampled_from(["nearest", "bilinear"]),
    rule=st.sampled_from(["floor", "nearest"]),
    layout=st.sampled_from(["hwc", "chw"]),
    subset=st.booleans(),
    masked=st.booleans(),
)
def test_bit_for_bit_the_reference(
    seed: int,
    kind: str,
    shape: tuple[int, int, int],
    method: Any,
    rule: Any,
    layout: Any,
    subset: bool,
    masked: bool,
) -> None:
    rng = np.random.default_rng(seed)
    values, scales, nodata = world(rng, kind, shape)
    if layout == "chw":
        values = np.moveaxis(values, -1, 0)
        if scales is not None and scales.ndim == 3:
            scales = np.moveaxis(scales, -1, 0)
        if seed % 2:
            values = np.ascontiguousarray(values)
    bands = rng.integers(0, shape[2], rng.integers(0, 6)).tolist() if subset else None
    land = rng.integers(0, 3, shape[:2], dtype=np.uint8) if masked else None
    points = scattered(rng, 60, shape)
    options: dict[str, Any] = {
        "method": method,
        "rule": rule,
        "layout": layout,
        "bands": bands,
        "nodata": nodata,
        "land": land,
    }
    expected, status, pixels = oracles.sample(values, scales, TRANSFORM, points, **options)
    found_pixels = np.full((60, 2), 7, np.int32)
    found, found_status = sample(values, scales, TRANSFORM, points, pixels=found_pixels, **options)
    np.testing.assert_array_equal(found_status, status)
    np.testing.assert_array_equal(found_pixels, pixels)
    same_bits(found, expected)


def test_bilinear_is_a_linear_ramp() -> None:
    """Independent of any reference: a plane is interpolated to itself."""
    rows, cols = np.mgrid[0:30, 0:40]
    values = (2 * cols + 3 * rows).astype(np.float32)[..., None]
    uv = np.random.default_rng(0).uniform(0.5, 29.5, (500, 2))
    points = np.column_stack([X0 + 10 * uv[:, 0], Y0 - 10 * uv[:, 1]])
    found, _ = sample(values, None, TRANSFORM, points, method="bilinear")
    np.testing.assert_allclose(found[:, 0], 2 * (uv[:, 0] - 0.5) + 3 * (uv[:, 1] - 0.5), rtol=1e-6)


def test_status_codes_are_the_package_s() -> None:
    values = np.ones((1, 3, 2), np.int8)
    scales = np.array([[1, 1, np.nan]], np.float32)
    land = np.array([[1, 0, 1]], np.uint8)
    points = np.array([[X0 + 5 + 10 * i, Y0 - 5] for i in range(4)])
    out, status = sample(values, scales, TRANSFORM, points, land=land)
    assert status.tolist() == [Status.VALID, Status.WATER, Status.NODATA, Status.OUTSIDE]
    assert np.isfinite(out).all(axis=1).tolist() == [True, False, False, False]


def test_products_that_overflow_stay_infinite_and_nan_is_canonical() -> None:
    values = np.array([[[100, -100], [100, 100]]], np.int8)
    scales = np.full((1, 2), 3e38, np.float32)
    points = np.array([[X0 + 5, Y0 - 5], [X0 + 10, Y0 - 5]])
    near, status = sample(values, scales, TRANSFORM, points)
    assert near[0].tolist() == [np.inf, -np.inf]
    mixed, _ = sample(values, scales, TRANSFORM, points, method="bilinear")
    assert mixed[1, 0] == np.inf
    assert mixed[1, 1].view(np.uint32) == 0x7FC00000  # inf - inf
    assert status.tolist() == [0, 0]


def test_longitude_and_latitude_are_projected_as_proj_does() -> None:
    rng = np.random.default_rng(5)
    values, scales, _ = world(rng, "i8", (300, 200, 9))
    points = np.column_stack([rng.uniform(0, 200, 5000), -rng.uniform(0, 300, 5000)])
    points = points[(np.abs(points % 1 - 0.5) < 0.499).all(axis=1)] * 10 + [X0, Y0]
    lonlat = np.column_stack(
        pyproj.Transformer.from_crs(32631, 4326, always_xy=True).transform(*points.T)
    )
    for shift in (0, 360, -720):
        moved = lonlat + np.array([shift, 0.0])
        found = sample(values, scales, TRANSFORM, moved, epsg=32631)
        expected = sample(values, scales, TRANSFORM, points)
        same_bits(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_geographic_rasters_wrap_round_the_globe() -> None:
    """A raster from 179° to 181° holds points on both sides of the antimeridian."""
    values = np.arange(20, dtype=np.float32).reshape(1, 20, 1)
    transform = (0.1, 0.0, 179.0, 0.0, -0.1, 0.1)
    lon = [179.05, 179.95, -179.95, -179.05, 180.05, 0.0]
    points = np.array([[v, 0.05] for v in lon])
    out, _ = sample(values, None, transform, points, epsg=4326)
    np.testing.assert_array_equal(out[:, 0], [0, 9, 10, 19, 10, np.nan])
    whole = np.arange(36, dtype=np.float32).reshape(1, 36, 1)
    points = np.array([[-180, 0.05], [180, 0.05], [179.99, 0.05]])
    out, _ = sample(whole, None, (10, 0, -180, 0, -1, 1), points, epsg=4326)
    assert out[:, 0].tolist() == [0, 0, 35]


def test_index_fills_a_table_tile_by_tile() -> None:
    rng = np.random.default_rng(9)
    count = 20_000
    tiles = [world(rng, "i8", (20, 30, 16))[:2] for _ in range(3)]
    owner = rng.integers(0, 4, count)
    points = scattered(rng, count, (20, 30, 16))
    expected = np.full((count, 16), -5, np.float32)
    codes = np.full(count, 99, np.uint8)
    out, status = expected.copy(), codes.copy()
    pixels = np.full((count, 2), 42, np.int32)
    for tile, (values, scales) in enumerate(tiles):
        rows = np.flatnonzero(owner == tile)
        expected[rows], codes[rows] = sample(values, scales, TRANSFORM, points[rows])
        returned = sample(
            values, scales, TRANSFORM, points, index=rows, out=out, status=status, pixels=pixels
        )
        assert returned[0] is out
        assert returned[1] is status
    same_bits(out, expected)
    np.testing.assert_array_equal(status, codes)
    assert (pixels[owner == 3] == 42).all()
    assert (pixels[owner < 3] != 42).all(axis=1).any()


def test_new_arrays_are_nan_and_outside_where_the_index_is_silent() -> None:
    rng = np.random.default_rng(2)
    values, scales, _ = world(rng, "i8", (5, 5, 3))
    points = scattered(rng, 9000, (5, 5, 3))
    whole, codes = sample(values, scales, TRANSFORM, points)
    for rows in (np.arange(0), np.array([8999]), np.flatnonzero(rng.random(9000) < 0.4)):
        out, status = sample(values, scales, TRANSFORM, points, index=rows)
        silent = np.ones(9000, bool)
        silent[rows] = False
        assert np.isnan(out[silent]).all()
        assert (status[silent] == Status.OUTSIDE).all()
        same_bits(out[rows], whole[rows])
        np.testing.assert_array_equal(status[rows], codes[rows])


def test_strided_arguments_and_memory_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    values, scales, _ = world(rng, "i8", (12, 14, 8))
    points = scattered(rng, 500, (12, 14, 8))
    expected = sample(values, scales, TRANSFORM, points)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    wide = np.full((500, 20), np.nan, np.float32)
    table = np.zeros((1000, 5))
    table[::2, 3:0:-2] = points
    reversed_values = np.ascontiguousarray(values[::-1, :, ::-1])[::-1, :, ::-1]
    for given_values in (mapped, np.asfortranarray(values), reversed_values):
        out, status = sample(
            given_values,
            np.asfortranarray(scales),
            TRANSFORM,
            table[::2, 3:0:-2],
            out=wide[:, 5:13],
        )
        same_bits(np.ascontiguousarray(out), expected[0])
        np.testing.assert_array_equal(status, expected[1])
    assert np.isnan(wide[:, :5]).all()


def test_many_threads_at_once() -> None:
    rng = np.random.default_rng(6)
    values, scales, _ = world(rng, "i8", (40, 50, 32))
    points = scattered(rng, 5000, (40, 50, 32))
    expected, _ = sample(values, scales, TRANSFORM, points, method="bilinear")
    results: list[np.ndarray] = []

    def work() -> None:
        for _ in range(5):
            results.append(sample(values, scales, TRANSFORM, points, method="bilinear")[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    for found in results:
        same_bits(found, expected)


VALUES = np.ones((4, 5, 6), np.int8)
SCALES = np.ones((4, 5), np.float32)
POINTS = np.array([[X0 + 5, Y0 - 5], [X0 + 15, Y0 - 15]])


def call(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "values": VALUES,
        "scales": SCALES,
        "transform": TRANSFORM,
        "points": POINTS,
    }
    return sample(**(arguments | changes))


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": VALUES.astype("i2")}, TypeError, "int8 or float32"),
        ({"values": VALUES.tolist()}, TypeError, "NumPy array"),
        ({"values": VALUES[0]}, ValueError, "dimensions"),
        ({"scales": None}, ValueError, "need their scales"),
        ({"values": VALUES.astype("f4")}, ValueError, "scales must be None"),
        ({"scales": SCALES.astype("f8")}, TypeError, "float32"),
        ({"scales": SCALES[:3]}, ValueError, "scales"),
        ({"scales": np.ones((4, 5, 5), "f4")}, ValueError, "scales"),
        ({"layout": "chw"}, ValueError, "scales"),
        ({"layout": "bhw"}, ValueError, "layout"),
        ({"method": "cubic"}, ValueError, "method"),
        ({"rule": "round"}, ValueError, "rule"),
        ({"nodata": 0.0}, ValueError, "nodata"),
        ({"points": POINTS[0]}, ValueError, "dimensions"),
        ({"points": np.zeros((2, 3))}, ValueError, "points"),
        ({"points": POINTS.astype("f4")}, TypeError, "float64"),
        ({"transform": (10, 1, 0, 0, -10, 0)}, ValueError, "rotated or flipped"),
        ({"transform": (10, 0, 0, 0, 10, 0)}, ValueError, "rotated or flipped"),
        ({"transform": (0, 0, 0, 0, -10, 0)}, ValueError, "rotated or flipped"),
        ({"transform": (10, 0, np.nan, 0, -10, 0)}, ValueError, "finite"),
        ({"transform": (1, 2, 3)}, ValueError, "length"),
        ({"epsg": 27700}, ValueError, "EPSG:27700"),
        ({"bands": [6]}, BandError, "band 6"),
        ({"bands": [-1]}, BandError, "band -1"),
        ({"bands": [1.5]}, TypeError, "integers"),
        ({"bands": 3}, TypeError, "integers"),
        ({"index": np.array([1, 0])}, ValueError, "strictly increasing"),
        ({"index": np.array([0, 0])}, ValueError, "strictly increasing"),
        ({"index": np.array([0, 2])}, ValueError, "out of range"),
        ({"index": np.array([-1, 0])}, ValueError, "negative"),
        ({"index": np.array([2**62])}, ValueError, "out of range"),
        ({"index": np.array([[0]])}, ValueError, "dimensions"),
        ({"index": np.array([0], "i4")}, TypeError, "int64"),
        ({"land": np.ones((5, 4), "u1")}, ValueError, "land"),
        ({"land": np.ones((4, 5), bool)}, TypeError, "uint8"),
        ({"out": np.zeros((2, 5), "f4")}, ValueError, "out"),
        ({"out": np.zeros((2, 6), "f8")}, TypeError, "out"),
        ({"out": np.zeros((2, 12), "f4")[:, ::2]}, ValueError, "neighbours in memory"),
        ({"out": np.zeros((6, 2), "f4").T}, ValueError, "neighbours in memory"),
        ({"out": read_only(np.zeros((2, 6), "f4"))}, ValueError, "read-only"),
        ({"out": np.broadcast_to(np.zeros(6, "f4"), (2, 6))}, ValueError, "out"),
        ({"status": np.zeros(3, "u1")}, ValueError, "status"),
        ({"status": np.zeros(2, "i1")}, TypeError, "status"),
        ({"status": read_only(np.zeros(2, "u1"))}, ValueError, "read-only"),
        ({"pixels": np.zeros((2, 2), "i8")}, TypeError, "pixels"),
        ({"pixels": np.zeros((2, 3), "i4")}, ValueError, "pixels"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(**changes)


def test_outputs_that_overlap_inputs_are_refused() -> None:
    memory = np.zeros(4 * 5 * 6, np.float32)
    values = memory.reshape(4, 5, 6)
    with pytest.raises(ValueError, match="overlaps"):
        call(values=values, scales=None, out=memory[:12].reshape(2, 6))
    land = np.ones((4, 5), np.uint8)
    with pytest.raises(ValueError, match="overlaps"):
        call(land=land, status=land.ravel()[:2])


@pytest.mark.parametrize("shape", [(0, 5, 6), (4, 0, 6), (0, 0, 0), (4, 5, 0)])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_empty_rasters(shape: tuple[int, int, int], method: Any) -> None:
    for scales in (np.ones(shape[:2], "f4"), np.ones(shape, "f4")):
        out, status = call(values=np.ones(shape, "i1"), scales=scales, method=method)
        assert out.shape == (2, shape[2])
        assert np.isnan(out).all()
        wanted = Status.NODATA if shape[0] and shape[1] else Status.OUTSIDE
        assert status.tolist() == [wanted, wanted]
    out, status = call(values=np.ones(shape, "f4"), scales=None, method=method)
    assert np.isnan(out).all()


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_no_points_and_no_bands(method: Any) -> None:
    out, status = call(points=np.empty((0, 2)), method=method)
    assert (out.shape, status.shape) == ((0, 6), (0,))
    out, status = call(bands=[], method=method)
    assert (out.shape, status.tolist()) == ((2, 0), [0, 0])


def test_huge_strides_do_not_reach_memory() -> None:
    """A raster of one repeated pixel is as large as it says, without memory for it."""
    values = np.broadcast_to(np.ones((1, 1, 6), "i1"), (2**30, 2**20, 6))
    scales = np.broadcast_to(np.ones((1, 1), "f4"), (2**30, 2**20))
    out, status = call(values=values, scales=scales, points=np.array([[X0 + 2**22, Y0 - 2**33]]))
    assert out.tolist() == [[1.0] * 6]
    assert status.tolist() == [0]


def test_a_wrong_index_fails_before_its_length_is_paid_for() -> None:
    huge = np.broadcast_to(np.int64(0), (10**10,))
    values, scales = np.zeros((2, 2, 4), np.int8), np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="strictly increasing"):
        sample(values, scales, (10, 0, 0, 0, -10, 0), np.zeros((1, 2)), index=huge)


def test_memory_that_is_not_given_is_an_error() -> None:
    code = (
        "import resource, numpy as np; from geotessera import _native\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "try: _native.group_by_tile(np.broadcast_to(np.zeros(2), (10**9, 2)))\n"
        "except MemoryError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "not enough memory for 8000000000 bytes" in done.stdout
