"""A real list of one dataset's tiles as a registry of generation B."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import realdata
from geotessera.registry import Registry
from registry_fixtures import manifest_b, overlapping

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_a_real_coverage_list_becomes_a_manifest(tmp_path: Path) -> None:
    listed = json.loads(realdata.path("coverage/coverage_v2_2B-L~beta2_2025.json").read_text())
    tiles = [(2025, *map(float, place.split(","))) for place in listed]
    manifest_b(tmp_path / "manifest.parquet", tiles, version="2.0", variant="2B-L~beta2")
    registry = Registry("v2", "2B-L~beta2", registry_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert registry.generation == "B"
    assert len(tiles) == 444
    assert registry.get_available_years() == [2025]
    assert registry.get_available_embeddings() == sorted(tiles)
    # Two zones each: French Guiana and Suriname, and the Trentino.
    zones = Counter(int((lon + 180) // 6 + 1) for _, lon, _ in tiles)
    assert set(zones) == {21, 22, 32, 33}
    trentino = registry.load_blocks_for_region((10, 45, 13, 48), 2025)
    assert len(trentino) == zones[32] + zones[33] > 0
    assert trentino == overlapping(tiles, (10, 45, 13, 48))
