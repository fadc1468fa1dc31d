"""`needed_pixels`, `sample(present=…)` and `read_records` against plain NumPy."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import oracles

from geotessera._native import needed_pixels, read_records, sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

X0, Y0 = 500_000.0, 5_800_000.0
TRANSFORM = (10.0, 0.0, X0, 0.0, -10.0, Y0)


def scattered(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.float64]:
    """Points on and round a raster, many of them on pixel edges and centres."""
    uv = rng.uniform(-1.5, 1.5, (count, 2)) + rng.random((count, 2)) * [width, height]
    exact = rng.random(count) < 0.4
    uv[exact] = np.round(uv[exact] * 2) / 2
    points = np.column_stack([X0 + 10 * uv[:, 0], Y0 - 10 * uv[:, 1]])
    points[rng.random(count) < 0.02, 0] = np.nan
    return points


def expected_pixels(
    points: NDArray[np.float64], height: int, width: int, method: str, rule: str
) -> list[int]:
    """The pixels that the reference reads, written down point by point."""
    found = set()
    for x, y in points.tolist():
        u, v = (x - X0) / 10, (Y0 - y) / 10
        if not (math.isfinite(u) and math.isfinite(v)):
            continue
        col, row = oracles.pixel_of(u, width, rule), oracles.pixel_of(v, height, rule)
        if row is None or col is None:
            continue
        found.add(row * width + col)
        if method == "bilinear":
            if rule == "nearest":
                u, v = min(max(u, 0.0), width), min(max(v, 0.0), height)
            left, top = math.floor(u - 0.5), math.floor(v - 0.5)
            rights = [left] if u - 0.5 == left else [left, left + 1]
            downs = [top] if v - 0.5 == top else [top, top + 1]
            found |= {
                r * width + q for r in downs for q in rights if 0 <= r < height and 0 <= q < width
            }
    return sorted(found)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["i8", "i8-bands", "f4"]),
    shape=st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 40)),
    method=st.sampled_from(["nearest", "bilinear"]),
    rule=st.sampled_from(["floor", "nearest"]),
    mask=st.sampled_from(["none", "whole", "listed"]),
    subset=st.booleans(),
)
def test_a_list_gives_what_the_reference_gives(
    seed: int,
    kind: str,
    shape: tuple[int, int, int],
    method: Any,
    rule: Any,
    mask: str,
    subset: bool,
) -> None:
    rng = np.random.default_rng(seed)
    height, width, _ = shape
    nodata = None
    scales: Any = None
    values: Any = rng.integers(-128, 128, shape, dtype=np.int8)
    if kind == "i8":
        scales = rng.uniform(-0.1, 0.2, shape[:2]).astype(np.float32)
        scales[rng.random(shape[:2]) < 0.3] = np.nan
    elif kind == "i8-bands":
        scales = rng.uniform(-0.1, 0.2, shape).astype(np.float32)
        scales[rng.random(shape) < 0.3] = -np.inf
    else:
        values, nodata = rng.normal(size=shape).astype(np.float32), -9999.0
        values[rng.random(shape) < 0.2] = -9999
    land = None if mask == "none" else rng.integers(0, 3, shape[:2], dtype=np.uint8)
    points = scattered(rng, 60, height, width)
    bands = rng.integers(0, shape[2], 3).tolist() if subset else None
    where: dict[str, Any] = {"method": method, "rule": rule}

    numbers = needed_pixels((height, width), TRANSFORM, points, **where)
    assert numbers.dtype == np.int64
    assert numbers.tolist() == expected_pixels(points, height, width, method, rule)
    spare = rng.integers(0, max(height * width, 1), 5 if height * width else 0)
    numbers = np.union1d(numbers, spare)
    rows, cols = np.divmod(numbers, max(width, 1))
    expected = oracles.sample(
        values, scales, TRANSFORM, points, bands=bands, nodata=nodata, land=land, **where
    )
    pixels = np.full((60, 2), 7, np.int32)
    found, status = sample(
        values[rows, cols],
        None if scales is None else scales[rows, cols],
        TRANSFORM,
        points,
        bands=bands,
        nodata=nodata,
        land=land[rows, cols] if mask == "listed" and land is not None else land,
        pixels=pixels,
        shape=(height, width),
        present=numbers,
        **where,
    )
    np.testing.assert_array_equal(found.view(np.uint32), expected[0].view(np.uint32))
    np.testing.assert_array_equal(status, expected[1])
    np.testing.assert_array_equal(pixels, expected[2])


def test_longitude_latitude_and_an_index() -> None:
    rng = np.random.default_rng(4)
    points = scattered(rng, 4000, 300, 200)
    # Off the edges and the centres, where a micrometre decides.
    clear = (np.abs(points % 5 - 2.5) < 2.49).all(axis=1)
    points = points[clear]
    lonlat = np.column_stack(
        pyproj.Transformer.from_crs(32631, 4326, always_xy=True).transform(*points.T)
    )
    index = np.flatnonzero(rng.random(len(points)) < 0.3)
    found = needed_pixels((300, 200), TRANSFORM, lonlat, epsg=32631, index=index, method="bilinear")
    assert found.tolist() == expected_pixels(points[index], 300, 200, "bilinear", "floor")


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_any_number_of_points(count: int) -> None:
    points = scattered(np.random.default_rng(1), count, 50, 60)
    found = needed_pixels((50, 60), TRANSFORM, points)
    assert found.tolist() == expected_pixels(points, 50, 60, "nearest", "floor")


VALUES = np.ones((2, 6), np.int8)
SCALES = np.ones(2, np.float32)
POINTS = np.array([[X0 + 5, Y0 - 5], [X0 + 15, Y0 - 15]])  # pixels 0 and 6 of 4 × 5


def call(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "values": VALUES,
        "scales": SCALES,
        "transform": TRANSFORM,
        "points": POINTS,
        "shape": (4, 5),
        "present": np.array([0, 6]),
        **changes,
    }
    return sample(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"present": np.array([0, 7])}, ValueError, r"pixel \(1, 1\), number 6"),
        ({"present": np.array([1, 6])}, ValueError, r"pixel \(0, 0\), number 0"),
        ({"present": np.array([6, 0])}, ValueError, "strictly increasing"),
        ({"present": np.array([6, 6])}, ValueError, "strictly increasing"),
        ({"present": np.array([-1, 6])}, ValueError, "strictly increasing"),
        ({"present": np.array([0, 20])}, ValueError, "below 20"),
        ({"present": np.array([0, 3, 6])}, ValueError, "present"),
        ({"present": np.array([0, 6], "i4")}, TypeError, "int64"),
        ({"present": None}, ValueError, "shape|present"),
        ({"shape": None}, ValueError, "go together"),
        ({"shape": (2**40, 2**40)}, ValueError, "too large"),
        ({"shape": (-1, 5)}, OverflowError, "negative"),
        ({"layout": "chw"}, ValueError, "chw"),
        ({"values": np.ones((2, 3, 6), "i1")}, ValueError, "dimensions"),
        ({"scales": np.ones(3, "f4")}, ValueError, "scales"),
        ({"scales": np.ones((2, 5), "f4")}, ValueError, "scales"),
        ({"land": np.ones(3, "u1")}, ValueError, "land"),
        ({"land": np.ones((5, 4), "u1")}, ValueError, "land"),
        ({"method": "bilinear", "points": POINTS + 1}, ValueError, "lacks pixel"),
    ],
)
def test_wrong_lists(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    out = np.full((2, 6), 5, np.float32)
    with pytest.raises(error, match=message):
        call(out=out, **changes)
    assert (out == 5).all()  # an error writes nothing


def test_points_outside_and_no_points_need_nothing() -> None:
    empty = {
        "values": VALUES[:0],
        "scales": SCALES[:0],
        "present": np.empty(0, np.int64),
    }
    _, status = call(points=POINTS - 1e6, **empty)
    assert status.tolist() == [oracles.OUTSIDE] * 2
    assert call(points=POINTS[:0], **empty)[0].shape == (0, 6)


# --- read_records ------------------------------------------------------------------------


@pytest.mark.parametrize("record", [1, 4, 128])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_records(tmp_path: Path, record: int, share: float) -> None:
    rng = np.random.default_rng(8)
    table = rng.integers(0, 256, (5000, record), dtype=np.uint8)
    path = tmp_path / "r.bin"
    path.write_bytes(b"x" * 77 + table.tobytes())
    numbers = np.flatnonzero(rng.random(5000) < share)
    found = read_records(path, 77, record, numbers, size=77 + table.size)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, table[numbers])
    np.testing.assert_array_equal(read_records(str(path), 77, record, numbers), table[numbers])


def test_records_from_many_threads(tmp_path: Path) -> None:
    table = np.random.default_rng(8).integers(0, 256, (5000, 16), dtype=np.uint8)
    path = tmp_path / "r.bin"
    path.write_bytes(table.tobytes())
    numbers = np.arange(0, 5000, 2)
    good: list[bool] = []

    def work() -> None:
        for _ in range(5):
            good.append(bool((read_records(path, 0, 16, numbers) == table[::2]).all()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 40


@pytest.mark.parametrize(
    ("numbers", "options", "error", "message"),
    [
        ([10], {}, OSError, "r.bin.*ends"),
        ([0, 9], {"offset": 1}, OSError, "r.bin.*ends"),
        ([2**62], {}, ValueError, "past any file"),
        ([0], {"size": 99}, OSError, "100 bytes, not 99"),
        ([-1], {}, ValueError, "negative"),
        ([1, 1], {}, ValueError, "strictly increasing"),
        ([0], {"path": "no/such/file"}, FileNotFoundError, "no/such/file"),
        ([0], {"offset": -1}, OverflowError, "negative"),
        ([0], {"record_bytes": -1}, OverflowError, "negative"),
    ],
)
def test_bad_reads(
    tmp_path: Path, numbers: list[int], options: dict[str, Any], error: Any, message: str
) -> None:
    path = tmp_path / "r.bin"
    path.write_bytes(bytes(100))
    arguments = {"path": path, "offset": 0, "record_bytes": 10} | options
    with pytest.raises(error, match=message):
        read_records(numbers=np.array(numbers), **arguments)
