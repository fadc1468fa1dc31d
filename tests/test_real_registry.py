"""Real lists of tiles and SHA-256 sums as registries: what they answer equals brute force."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

import realdata
from geotessera.registry import Registry
from registry_fixtures import manifest_b, overlapping, registry_a

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

type Tiles = dict[tuple[int, float, float], tuple[str, str]]


@pytest.fixture(scope="module")
def published() -> Tiles:
    """Tiles of 2017 to 2023 and the sums of their two files, parsed from the lists' text."""
    sums: dict[str, str] = {}
    for file in sorted(realdata.path("registry").glob("registry_2*.txt")):
        sums.update(line.split() for line in file.read_text().splitlines())
    tiles: Tiles = {}
    for path, digest in sums.items():
        if not path.endswith("_scales.npy"):
            year, name, _ = path.split("/")
            _, lon, lat = name.split("_")
            scales = sums[f"{path.removesuffix('.npy')}_scales.npy"]
            tiles[int(year), float(lon), float(lat)] = digest, scales
    assert len(sums) == 56_954 == 2 * len(tiles)
    return tiles


@pytest.fixture(scope="module")
def registry(published: Tiles, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    directory = tmp_path_factory.mktemp("registry")
    digests, scales = zip(*published.values(), strict=True)
    registry_a(
        directory / "registry.parquet",
        list(published),
        hash=list(digests),
        scales_hash=list(scales),
    )
    return Registry("v1", "vultr", registry_dir=directory, cache_dir=directory / "cache")


def test_the_real_lists_are_all_there(registry: Registry, published: Tiles) -> None:
    assert registry.generation == "A"
    assert registry.get_tile_counts_by_year() == {
        2017: 3994, 2018: 4050, 2019: 4055, 2020: 4057, 2021: 4055, 2022: 4220, 2023: 4046,
    }  # fmt: skip
    assert registry.get_available_embeddings() == sorted(published)


def test_every_real_sum_is_the_one_of_its_tile(registry: Registry, published: Tiles) -> None:
    for tile, sums in published.items():
        assert registry.expected_sha256(*tile) == sums


def test_real_tiles_of_boxes_equal_brute_force(registry: Registry, published: Tiles) -> None:
    rng = np.random.default_rng(0)
    tiles = list(published)
    for year, lon, lat in rng.permutation(tiles)[:12]:
        half = rng.uniform(0.001, 1.5, 2)
        west, east = round(lon - half[0], 3), round(lon + half[0], 3)
        south, north = round(lat - half[1], 3), round(lat + half[1], 3)
        same_year = [tile for tile in tiles if tile[0] == int(year)]
        found = registry.load_blocks_for_region((west, south, east, north), int(year))
        assert found == overlapping(same_year, (west, south, east, north))
        assert (int(year), float(lon), float(lat)) in found


def test_tiles_that_are_not_in_the_real_lists_are_not_there(
    registry: Registry, published: Tiles
) -> None:
    places = sorted({tile[1:] for tile in published})
    missing = [
        (year, *place)
        for place in places
        for year in range(2017, 2024)
        if (year, *place) not in published
    ]
    assert len(missing) == 7 * 4226 - 28_477
    assert not any(registry.has_tile(*tile) for tile in missing)
    for year, lon, lat in missing[::10]:
        years = [other for other in range(2017, 2024) if (other, lon, lat) in published]
        nearest = min(years, key=lambda other: (abs(other - year), -other))
        assert registry.nearest_year(lon, lat, year) == nearest


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
