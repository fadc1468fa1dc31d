"""What the Python layer costs on top of the kernels: calls so small that little else is left.

Usage: ``pytest -p benchmark benches`` (`make bench-layer`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from geotessera import GeoTessera, GeoTesseraZarr, dequantize_embedding
from geotessera.testing import SampleStore, SampleWorld

if TYPE_CHECKING:
    from pathlib import Path

BANDS = 8


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> GeoTessera:
    home = tmp_path_factory.mktemp("layer")
    world = SampleWorld.build(home / "world", size="small", bands=BANDS)
    tiles = world.checkout(home / "tiles")
    return GeoTessera(
        base_url=str(world.root()), embeddings_dir=str(tiles or home / "tiles"), cache_dir=home
    )


@pytest.fixture(scope="module")
def tile(client: GeoTessera) -> tuple[int, float, float]:
    return client.registry.get_available_embeddings()[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleStore, GeoTesseraZarr]:
    made = SampleStore.build(tmp_path_factory.mktemp("layer") / "store", size="tiny")
    return made, GeoTesseraZarr(str(made.path))


def points(tile: tuple[int, float, float], count: int) -> np.ndarray[Any, Any]:
    """Places in a tile, away from its edges."""
    rng = np.random.default_rng(0)
    return np.array(tile[1:]) + rng.uniform(-0.03, 0.03, (count, 2))


@pytest.mark.parametrize("bands", [4, 128])
def test_dequantize(benchmark: Any, bands: int) -> None:
    values = np.ones((16, 16, bands), np.int8)
    scales = np.full((16, 16), 0.5, np.float32)
    made = benchmark(dequantize_embedding, values, scales)
    assert made.shape == values.shape


@pytest.mark.parametrize("count", [1, 1000])
def test_sample(
    benchmark: Any, client: GeoTessera, tile: tuple[int, float, float], count: int
) -> None:
    wanted = points(tile, count)
    made = benchmark(client.sample_embeddings_at_points, wanted, tile[0])
    assert made.shape == (count, BANDS)


def test_sample_tuples(benchmark: Any, client: GeoTessera, tile: tuple[int, float, float]) -> None:
    wanted = [(float(lon), float(lat)) for lon, lat in points(tile, 1000)]
    made = benchmark(client.sample_embeddings_at_points, wanted, tile[0])
    assert made.shape == (1000, BANDS)


def test_fetch(benchmark: Any, client: GeoTessera, tile: tuple[int, float, float]) -> None:
    year, lon, lat = tile
    values, _, _ = benchmark(client.fetch_embedding, lon, lat, year)
    assert values.shape[2] == BANDS


def test_query(benchmark: Any, client: GeoTessera, tile: tuple[int, float, float]) -> None:
    year, lon, lat = tile
    box = (lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)
    assert benchmark(client.registry.load_blocks_for_region, box, year)


def test_mosaic(benchmark: Any, client: GeoTessera, tile: tuple[int, float, float]) -> None:
    year, lon, lat = tile
    box = (lon - 0.001, lat - 0.001, lon + 0.001, lat + 0.001)
    values, _, _ = benchmark(client.fetch_mosaic_for_region, box, year, "EPSG:3857")
    assert values.shape[2] == BANDS


@pytest.mark.parametrize("count", [1, 100])
def test_store_points(
    benchmark: Any, store: tuple[SampleStore, GeoTesseraZarr], count: int
) -> None:
    made, client = store
    zone = min(made.grids)
    rng = np.random.default_rng(0)
    places = [made.lonlat(zone, *rng.uniform(8, 88, 2)) for _ in range(count)]
    assert benchmark(client.sample_points, places, 2024).shape[0] == count


def test_open_store(benchmark: Any, store: tuple[SampleStore, GeoTesseraZarr]) -> None:
    made, _ = store
    assert benchmark(lambda path: GeoTesseraZarr(str(path)).years, made.path)


def test_open_client(benchmark: Any, client: GeoTessera, tmp_path: Path) -> None:
    def opened() -> Any:
        made = GeoTessera(
            registry_dir=str(client.registry.manifest_path.parent), cache_dir=tmp_path
        )
        return made.registry.get_available_years()

    assert benchmark(opened)
