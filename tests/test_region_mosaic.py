"""Mosaics of a region, against rasterio's warp and what upstream 0.11.0 was seen to return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import Affine

from geotessera import GeoTessera
from geotessera.testing import SampleWorld

TILES = [
    (2024, 23.95, 83.65), (2024, 24.05, 83.65), (2024, 24.15, 83.65), (2024, 24.05, 83.75),
    (2023, 24.05, 83.65),
]  # fmt: skip
BOX = (24.02, 83.62, 24.18, 83.68)
"""Across two tiles of zone 35."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Tiles of 4 bands on both sides of the seam of zones 34 and 35."""
    return SampleWorld.build(tmp_path_factory.mktemp("mosaic"), size="tiny", tiles=TILES)


@pytest.fixture(scope="module")
def gt(world: SampleWorld, tmp_path_factory: pytest.TempPathFactory) -> GeoTessera:
    directory = world.checkout(tmp_path_factory.mktemp("local"))
    return GeoTessera(
        base_url=world.root(), embeddings_dir=directory, cache_dir=tmp_path_factory.mktemp("cache")
    )


def mosaic_of(gt: GeoTessera, *args: Any, **options: Any) -> tuple[Any, Any, str]:
    values, transform, crs = gt.fetch_mosaic_for_region(*args, **options)
    return values, transform, crs


# --- The grid ------------------------------------------------------------------------------

# What upstream 0.11.0 returned for BOX over a world with the same tiles: CRS, pixel size,
# left, top, rows, columns.
OBSERVED = {
    "EPSG:32635": (10.0, 463045.834243989, 9293316.653810399, 679, 231),
    "EPSG:32634": (10.000011089392986, 537099.0149241927, 9293447.924608719, 679, 233),
    "EPSG:4326": (0.00019047783456105482, 24.02, 83.68, 315, 840),
    "EPSG:3857": (90.15868898471393, 2673894.1688544312, 18475168.596286863, 670, 198),
    "EPSG:3995": (9.761368245026592, 279790.57033906353, -627046.2470070209, 692, 454),
}


@pytest.mark.parametrize("crs", OBSERVED)
def test_grid_is_upstreams(gt: GeoTessera, crs: str) -> None:
    values, transform, name = gt.fetch_mosaic_for_region(BOX, 2024, crs)
    pixel, left, top, height, width = OBSERVED[crs]
    assert (values.shape, values.dtype, name) == ((height, width, 4), np.float32, crs)
    assert isinstance(transform, Affine)
    np.testing.assert_allclose(tuple(transform)[:6], (pixel, 0, left, 0, -pixel, top), rtol=1e-12)
