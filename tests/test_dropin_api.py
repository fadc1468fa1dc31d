"""What programs written for upstream 0.11.0 rely on, and nothing here would remind us of."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from geotessera.registry import Registry, tile_to_bounds

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

BOX = (23.9, 83.6, 24.1, 83.7)


@pytest.fixture
def registry(small_world: SampleWorld, tmp_path: Path) -> Registry:
    return Registry("v1.1", "cambridge", base_url=small_world.root("B"), cache_dir=tmp_path)


# --- Tiles are tuples ------------------------------------------------------------------------


def test_tiles_are_plain_tuples(registry: Registry) -> None:
    """Named ones print otherwise, and pandas takes their fields for names of columns."""
    expected = [(2024, 23.95, 83.65), (2024, 24.05, 83.65)]
    for found in (
        registry.load_blocks_for_region(BOX, 2024),
        list(registry.iter_tiles_in_region(BOX, 2024)),
        registry.get_available_embeddings(),
        registry.available_embeddings,
    ):
        assert type(found) is list
        assert {type(tile) for tile in found} == {tuple}
        assert {tuple(map(type, tile)) for tile in found} == {(int, float, float)}
        assert list(pd.DataFrame(found)[1]) == [tile[1] for tile in found]
        assert set(expected) <= set(found)
    assert str(registry.load_blocks_for_region(BOX, 2024)) == str(expected)


def test_tiles_of_a_region_come_from_a_generator(registry: Registry) -> None:
    tiles = registry.iter_tiles_in_region(BOX, 2024)
    assert inspect.isgenerator(tiles)
    with contextlib.closing(tiles):
        assert next(tiles) == (2024, 23.95, 83.65)
    assert list(tiles) == []


def test_bounds_are_a_plain_tuple() -> None:
    bounds = tile_to_bounds(0.15, 52.05)
    assert type(bounds) is tuple
    assert bounds == (0.15 - 0.05, 52.05 - 0.05, 0.15 + 0.05, 52.05 + 0.05)
