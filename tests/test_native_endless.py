"""Arrays that take no memory may look endless: that is an error, and not the process's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from geotessera import _native

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 10**14
"""More numbers than any address space has room for, but not more than one array may have."""


def one(dtype: str, *shape: int) -> Any:
    """One number that is repeated; an array without a number is as large."""
    return np.broadcast_to(np.zeros((), dtype), shape)


CASES: dict[str, Callable[[], object]] = {
    "moments": lambda: _native.moments(one("f4", 1, 1, MANY)),
    "moments of nothing": lambda: _native.moments(np.empty((0, 0, MANY), "f4")),
    "weights": lambda: _native.project_bands(
        np.empty((0, 5, MANY), "f4"), None, one("f8", 3, MANY), np.zeros(3)
    ),
    "weights without a band": lambda: _native.project_bands(
        np.empty((0, 5, 0), "f4"), None, np.empty((MANY, 0)), one("f8", MANY)
    ),
    "offsets": lambda: _native.project_bands(
        np.empty((0, 5, 4), "f4"), None, one("f8", MANY, 4), one("f8", MANY)
    ),
    "thresholds": lambda: _native.stretch_scores(
        np.empty((0, 0, MANY), "f4"), one("f4", MANY, 255)
    ),
    "counts": lambda: _native.tally_scores(np.empty((0, 0, MANY), "f4"), np.empty((MANY, 0), "i8")),
    "rows of counts": lambda: _native.tally_scores(
        one("f4", 1, 1, MANY >> 16), np.empty((MANY >> 16, 0), "i8"), one("i4", MANY >> 16, 65536)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_room_is_refused(case: str) -> None:
    with pytest.raises((ValueError, MemoryError)):
        CASES[case]()


def test_pictures_without_a_column_may_have_any_number_of_rows() -> None:
    source, nodes = np.zeros((4, 4, 4), np.uint8), np.zeros((2, 1, 2))
    _native.resample_picture(source, nodes, 1 << 62, np.empty((MANY, 0, 4), np.uint8))
