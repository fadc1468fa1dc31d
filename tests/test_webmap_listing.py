"""The page of a map asks for the tiles that there are, and for no others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mercantile
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.warp import transform
from typer.testing import CliRunner

from browser import Chromium, served
from geotessera import cli
from geotessera.webmap import viewing
from geotessera.webmap.viewing import listing_of
from geotessera.webmap.zooms import Tile

if TYPE_CHECKING:
    from collections.abc import Iterable

TILES = st.sets(
    st.integers(0, 5).flatmap(
        lambda z: st.builds(Tile, st.just(z), st.integers(0, 2**z - 1), st.integers(0, 2**z - 1))
    )
)
COLOUR = (250, 20, 30)


def named(listing: Iterable[list[int]]) -> list[Tile]:
    return [
        Tile(z, x, y)
        for z, y, *ends in listing
        for first, after in zip(ends[::2], ends[1::2], strict=True)
        for x in range(first, after)
    ]


@given(TILES)
def test_a_listing_names_each_tile_once(tiles: set[Tile]) -> None:
    listing = listing_of(tiles)
    assert listing is not None
    found = named(listing)
    assert len(found) == len(tiles)
    assert set(found) == tiles
    assert len({(z, y) for z, y, *_ in listing}) == len(listing)
    for _, _, *ends in listing:
        assert ends == sorted(set(ends))  # the page counts those that lie before a column


def test_a_listing_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [Tile(5, x, y) for x in range(0, 32, 2) for y in range(32)]
    assert listing_of(tiles) is not None
    monkeypatch.setattr(viewing, "_MOST_NUMBERS", 100)
    assert listing_of(tiles) is None
    assert listing_of([Tile(5, x, y) for x in range(32) for y in range(32)]) is not None


@pytest.fixture
def islands(tmp_path: Path) -> Path:
    """A map of a picture of two small squares in opposite corners."""
    pixels = np.zeros((3, 1400, 1300), np.uint8)
    for corner in (np.s_[:, 60:160, 20:120], np.s_[:, 1270:1370, 1180:1280]):
        pixels[corner] = np.reshape(COLOUR, (3, 1, 1))
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": 3, "height": 1400, "width": 1300, "dtype": "uint8",
        "crs": "EPSG:32633", "transform": from_origin(5e5, 5.15e6, 10, 10), "nodata": 0,
    }  # fmt: skip
    with rasterio.open(tmp_path / "islands.tif", "w", **profile) as dataset:
        dataset.write(pixels)
    words = ["webmap", str(tmp_path / "islands.tif"), "-o", str(tmp_path / "map")]
    result = CliRunner().invoke(cli.app, [*words, "--max-zoom", "14"])
    assert result.exit_code == 0, result.output
    return tmp_path / "map"


@pytest.mark.parametrize("place", ["disk", "server"])
def test_no_tile_is_asked_for_in_vain(islands: Path, chromium: Chromium, place: str) -> None:
    page = islands / "viewer.html"
    x, y = [500_700, 512_300, 506_500], [5_148_900, 5_136_800, 5_143_000]
    *land, sea = zip(*transform("EPSG:32633", "EPSG:4326", x, y), strict=True)
    there = {tuple(map(int, one.relative_to(islands / "tiles").with_suffix("").parts))
             for one in islands.rglob("*.png")}  # fmt: skip
    assert mercantile.tile(*sea, 14)[::-1] not in [(y, x, z) for z, x, y in there]
    with (
        served(islands) as base,
        chromium.open(page.as_uri() if place == "disk" else f"{base}/viewer.html") as opened,
    ):
        asked: list[str] = []
        opened.page.on("request", lambda request: asked.append(request.url))
        opened.look(sea[0], sea[1], 11)
        opened.look(sea[0], sea[1], 13)
        for lon, lat in land:
            opened.look(lon, lat, 13)
            assert np.abs(opened.colour(lon, lat).astype(int) - COLOUR).max() <= 6
        files = [url for url in asked if url.endswith((".png", ".js"))]
        assert opened.problems == []
    assert files
    root = islands.as_uri() if place == "disk" else base
    assert all(Path(islands, url.removeprefix(f"{root}/")).is_file() for url in files)
