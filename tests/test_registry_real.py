"""The real lists of published tiles, as a generation A registry, against brute force."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from geotessera.registry import Registry
from registry_fixtures import overlapping, registry_a

LISTS = Path(__file__).parents[2] / "shared" / "data" / "real" / "registry"
LINE = re.compile(
    r"(\d{4})/grid_(-?[\d.]+)_(-?[\d.]+)/grid_[\d._-]+?(_scales)?\.npy ([0-9a-f]{64})"
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not LISTS.is_dir(), reason="the real registry lists are not here"),
]


@pytest.fixture(scope="module")
def published():
    digests: dict[tuple[int, float, float], list[str]] = {}
    for path in sorted(LISTS.glob("registry_*.txt")):
        for line in path.read_text().splitlines():
            year, lon, lat, scales, digest = LINE.fullmatch(line).groups()
            pair = digests.setdefault((int(year), float(lon), float(lat)), ["", ""])
            pair[bool(scales)] = digest
    return digests


@pytest.fixture(scope="module")
def registry(published, tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    grid, scales = zip(*published.values(), strict=True)
    path = registry_a(root / "registry.parquet", list(published), hash=grid, scales_hash=scales)
    return Registry("v1", registry_path=path, cache_dir=root / "cache")


def test_all_tiles_in_order(registry, published):
    assert len(published) == 28_477
    assert registry.get_available_embeddings() == sorted(published)
    counts = [3994, 4050, 4055, 4057, 4055, 4220, 4046]
    assert registry.get_tile_counts_by_year() == dict(zip(range(2017, 2024), counts, strict=True))


def test_every_digest(registry, published):
    for tile, pair in published.items():
        assert registry.expected_sha256(*tile) == tuple(pair)


def test_boxes_equal_brute_force(registry, published):
    numbers = random.Random(0)
    tiles = sorted(published)
    for _ in range(40):
        year, lon, lat = numbers.choice(tiles)
        west = round(lon + numbers.choice([-0.05, 0, numbers.uniform(-1, 1)]), 3)
        south = round(lat + numbers.choice([-0.05, 0, numbers.uniform(-1, 1)]), 3)
        east = round(west + numbers.choice([0, 0.1, 0.3, numbers.uniform(0, 2)]), 3)
        north = round(south + numbers.choice([0, 0.1, 0.3, numbers.uniform(0, 2)]), 3)
        box = (west, south, east, north)
        expected = overlapping([tile for tile in tiles if tile[0] == year], box)
        assert registry.load_blocks_for_region(box, year) == expected, box


def test_membership_of_every_cell_around(registry, published):
    keys = {(round(lon * 100), round(lat * 100)) for year, lon, lat in published if year == 2020}
    lon, lat = np.meshgrid(np.arange(-1095, 305, 10), np.arange(4905, 6105, 10))
    expected = [(x, y) in keys for x, y in zip(lon.ravel().tolist(), lat.ravel().tolist())]  # noqa: B905
    assert registry.has_tiles(lon.ravel(), lat.ravel(), 2020).tolist() == expected
    assert sum(expected) > 3000
