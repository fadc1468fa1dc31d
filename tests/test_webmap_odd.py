"""Odd pictures and odd directories: shown rightly, or refused in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from geotessera.errors import FormatError, InputError, UnwritableDestination
from geotessera.web import create_simple_web_viewer
from geotessera.webmap import build_tiles, read_scheme

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, values: tuple[int, ...] = (200, 100, 50), **more: Any) -> Path:
    profile = {"crs": "EPSG:4326", "transform": from_origin(10.0, 50.0, 1.0, 1.0)} | more
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=10, width=10, dtype="uint8", **profile
    ) as dataset:
        dataset.write(np.full((len(values), 10, 10), np.reshape(values, (-1, 1, 1)), np.uint8))
    return path


def test_colours_are_found_by_what_the_file_calls_them(tmp_path: Path) -> None:
    picture = write(tmp_path / "bgrn.tif", (50, 100, 200, 7), photometric="MINISBLACK")
    with rasterio.open(picture, "r+") as dataset:
        dataset.colorinterp = [
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined,
        ]  # fmt: skip
    build_tiles(picture, tmp_path / "tiles", zooms=(4, 4))
    with Image.open(next((tmp_path / "tiles/4").rglob("*.png"))) as image:
        pixels = np.asarray(image.convert("RGBA"))
    assert (pixels[pixels[..., 3] == 255] == (200, 100, 50, 255)).all()


def test_a_picture_of_nowhere_is_refused(tmp_path: Path) -> None:
    plan = 'LOCAL_CS["plan",UNIT["metre",1]]'
    picture = write(tmp_path / "plan.tif", crs=plan)
    with pytest.raises(FormatError, match="no place on the globe"):
        build_tiles(picture, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


def test_no_file_is_written_over_another(tmp_path: Path) -> None:
    picture = write(tmp_path / "picture.tif")
    before = picture.read_bytes()
    other: dict[str, Any] = {"archive": tmp_path / "./a", "record": tmp_path / "a"}
    for names in ({"archive": picture}, {"record": picture}, other):
        with pytest.raises(InputError, match="one file"):
            build_tiles(picture, tmp_path / "tiles", zooms=(0, 3), **names)
    assert picture.read_bytes() == before
    assert not (tmp_path / "tiles").exists()


@pytest.mark.parametrize(
    "name", ["0", "3", "3/4", ".units.jsonl", ".unfinished", "tiles.json", "3/4/2.png", ""]
)
@pytest.mark.parametrize("kind", ["link", "file", "directory"])
def test_what_is_in_the_way_ends_in_an_error_or_in_a_map(
    tmp_path: Path, name: str, kind: str
) -> None:
    picture, tiles = write(tmp_path / "picture.tif"), tmp_path / "map"
    build_tiles(picture, tmp_path / "fresh", zooms=(0, 3))
    place = tiles / name if name else tiles
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        place.symlink_to(tmp_path / "nowhere/at/all")
    elif kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    try:
        build_tiles(picture, tiles, zooms=(0, 3))
    except UnwritableDestination:
        return
    for one in (tmp_path / "fresh").rglob("*.png"):
        found = tiles / one.relative_to(tmp_path / "fresh")
        assert found.read_bytes() == one.read_bytes()


@pytest.mark.parametrize(
    "said",
    [
        {"zoom": "ab"}, {"zoom": [5]}, {"zoom": [9, 1]}, {"zoom": {"a": 1}}, {"zoom": 0},
        {"bounds": "<b>"}, {"bounds": [1, 2, 3]}, {"bounds": [None] * 4}, {"bounds": [9e99] * 4},
        {"bounds": [10, 5, 12, -5]}, {"scheme": ["xyz"]}, {"scheme": "</script>"},
    ],
)  # fmt: skip
def test_a_viewer_of_a_damaged_note_is_one_of_a_note_that_says_less(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    picture = write(tmp_path / "picture.tif")
    build_tiles(picture, tmp_path / "tiles", zooms=(0, 3))
    note = tmp_path / "tiles/tiles.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | said))
    scheme, zooms, bounds = read_scheme(tmp_path / "tiles")
    assert scheme == "xyz"
    assert zooms == (None if "zoom" in said else (0, 3))
    assert (bounds is None) == ("bounds" in said)
    create_simple_web_viewer(tmp_path / "tiles", tmp_path / "viewer.html")
