"""`group_by_tile` and `points_array` against the published rule and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import tile_centre

from geotessera._native import group_by_tile, points_array


def centre_of(lon: float, lat: float) -> tuple[float, float]:
    """The tile of one point, as the kernel says."""
    tiles, _, _ = group_by_tile(np.array([[lon, lat]], np.float64))
    return tuple((tiles[0] / 100).tolist())


@pytest.mark.parametrize(
    ("point", "centre"),
    [
        ((0.17, 52.23), (0.15, 52.25)),
        ((-0.12, -0.03), (-0.15, -0.05)),
        ((0, 0), (0.05, 0.05)),
        ((-0.0, -0.0), (0.05, 0.05)),
        ((0.1, 0.1), (0.15, 0.15)),
        ((-0.1, -0.1), (-0.05, -0.05)),
        ((-180, -90), (-179.95, -89.95)),
        ((179.999999, 89.99), (179.95, 89.95)),
        ((180, 90), (-179.95, 89.95)),
    ],
)
def test_reference_values(point: tuple[float, float], centre: tuple[float, float]) -> None:
    assert centre_of(*point) == centre


def test_every_edge_as_written_and_as_computed() -> None:
    """417 of the 3601 products ``k * 0.1`` fall one cell low; so must they here."""
    written = [k / 10 for k in range(-1800, 1800)]
    computed = [k * 0.1 for k in range(-1800, 1800)]
    near = [math.nextafter(v, to) for v in written for to in (-math.inf, math.inf)][1:]
    low = 0
    for lon in written + computed + near:
        tiles, _, _ = group_by_tile(np.array([[lon, 0.0], [0.0, lon / 2]]))
        found = {tuple(t) for t in tiles.tolist()}
        expected = {(lon, 0.0), (0.0, lon / 2)}
        keys = {tuple(round(tile_centre(v) * 100) for v in p) for p in expected}
        assert found == keys, lon
    for k, lon in zip(range(-1800, 1800), computed, strict=True):
        low += round(centre_of(lon, 0.0)[0] * 100) != 10 * k + 5
    assert low == 417


def test_groups_are_numpy_s() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.3, 20.0, 180.0):
        points = np.column_stack([rng.uniform(-1, 1, 70_000), rng.uniform(-0.5, 0.5, 70_000)])
        points *= scale
        tiles, order, offsets = group_by_tile(points)
        keys = np.round((np.floor(points * 10) / 10 + 0.05) * 100).astype(np.int32)
        expected, inverse = np.unique(keys, axis=0, return_inverse=True)
        np.testing.assert_array_equal(tiles, expected)
        np.testing.assert_array_equal(order, np.argsort(inverse.ravel(), kind="stable"))
        counts = np.bincount(inverse.ravel())
        np.testing.assert_array_equal(offsets, np.concatenate([[0], np.cumsum(counts)]))
        assert (tiles.dtype, order.dtype, offsets.dtype) == (np.int32, np.int64, np.int64)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 179.99), st.floats(-90, 89.99)), max_size=40))
def test_any_points(pairs: list[tuple[float, float]]) -> None:
    tiles, order, offsets = group_by_tile(points_array(pairs))
    assert sorted(order.tolist()) == list(range(len(pairs)))
    assert offsets[0] == 0
    assert offsets[-1] == len(pairs)
    for tile, start, end in zip(tiles.tolist(), offsets, offsets[1:], strict=False):
        rows = order[start:end].tolist()
        assert rows == sorted(rows)
        assert rows
        for row in rows:
            assert [round(tile_centre(v) * 100) for v in pairs[row]] == tile


def test_strided_and_empty() -> None:
    table = np.random.default_rng(0).uniform(-5, 5, (1000, 5))
    expected = group_by_tile(table[::-2, 3:0:-2].copy())
    for found, wanted in zip(group_by_tile(table[::-2, 3:0:-2]), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    tiles, order, offsets = group_by_tile(np.empty((0, 2)))
    assert (tiles.shape, order.shape, offsets.tolist()) == ((0, 2), (0,), [0])


@pytest.mark.parametrize(
    "bad", [(180.0001, 0), (0, -90.01), (np.nan, 0), (0, np.nan), (np.inf, 0), (0, -np.inf)]
)
def test_the_first_bad_point_is_named(bad: tuple[float, float]) -> None:
    points = np.zeros((100_000, 2))
    points[[77_777, 88_888]] = bad
    with pytest.raises(ValueError, match=r"point 77777 \(longitude .* out of bounds"):
        group_by_tile(points)


def test_wrong_arrays() -> None:
    with pytest.raises(ValueError, match="shape"):
        group_by_tile(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="dimensions"):
        group_by_tile(np.zeros(3))
    with pytest.raises(TypeError, match="float64"):
        group_by_tile(np.zeros((3, 2), np.int64))  # type: ignore[arg-type]


PAIRS: list[Any] = [(0.5, 51), [1, 2.25], np.array([3.0, 4.0]), (np.float32(0.5), np.int16(7))]


@pytest.mark.parametrize("make", [list, tuple, iter, lambda p: (x for x in p)])
def test_pairs_of_any_kind(make: Any) -> None:
    found = points_array(make(PAIRS))
    np.testing.assert_array_equal(found, [[0.5, 51], [1, 2.25], [3, 4], [0.5, 7]])
    assert found.dtype == np.float64


def test_arrays() -> None:
    floats = np.arange(12.0).reshape(6, 2)
    assert points_array(floats) is floats
    strided = np.arange(24.0).reshape(6, 4)[:, ::2]
    assert np.shares_memory(points_array(strided), strided)
    for dtype in ("f4", "i8", "u2", ">f8", object, "U"):
        found = points_array(floats.astype(dtype))
        np.testing.assert_array_equal(found, floats)
        assert found.dtype == np.dtype("=f8")
        group_by_tile(found)
    masked = np.ma.masked_array(floats, mask=floats == 3)
    assert np.isnan(points_array(masked)[1, 1])
    assert points_array(np.empty(0)).shape == points_array([]).shape == (0, 2)


@pytest.mark.parametrize(
    "bad",
    [
        (1,),
        (1, 2, 3),
        [1],
        [1, 2, 3],
        "ab",
        b"ab",
        5,
        None,
        {1.0, 2.0},
        {1: 2, 3: 4},
        ("1", "x"),
        (b"1", b"2"),
        (1, None),
        (1, 2j),
        (True, 2),
        np.zeros(3),
        np.array(1.0),
    ],
)
def test_the_row_that_is_no_pair_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match="point 2 must be a pair of numbers"):
        points_array([(0, 0), (1, 1), bad])


@pytest.mark.parametrize(
    "bad",
    [
        "abcd",
        b"abcd",
        5,
        None,
        np.zeros((3, 3)),
        np.zeros(4),
        np.zeros((2, 2), bool),
        np.zeros((2, 2), complex),
        np.array([[b"1", b"2"]]),
        np.zeros((2, 2, 2)),
    ],
)
def test_what_is_no_list_of_points(bad: Any) -> None:
    with pytest.raises(ValueError, match="points must be"):
        points_array(bad)


def test_hostile_objects_do_no_harm() -> None:
    victims: list[Any] = []

    class Clearing(float):
        def __float__(self) -> float:
            victims.clear()
            return 1.0

    class Clears:
        def __float__(self) -> float:
            victims.clear()
            return 2.0

    victims.extend([[Clears(), Clearing(3)] for _ in range(100)])
    assert len(points_array(victims)) == 1

    class Raises:
        def __float__(self) -> float:
            raise RuntimeError("no")

    with pytest.raises(ValueError, match="point 0") as caught:
        points_array([(Raises(), 0)])
    assert isinstance(caught.value.__cause__, RuntimeError)

    class Lies:
        def __len__(self) -> int:
            return 2**62

        def __getitem__(self, i: int) -> tuple[float, float]:
            if i > 2:
                raise IndexError
            return (i, i)

    assert points_array(Lies()).shape == (3, 2)  # type: ignore[arg-type]

    def broken() -> Any:
        yield (1, 2)
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        points_array(broken())
    endless = [(1.0, 2.0)]
    endless.append(endless)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="point 1"):
        points_array(endless)
