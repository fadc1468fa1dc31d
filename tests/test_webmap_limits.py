"""Web maps that would be too many tiles or none, and notes that point at what is not theirs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geotessera import cli
from geotessera.datasets import dataset_tags
from geotessera.errors import EmptySelectionError, InputError
from geotessera.testing import SampleStore
from geotessera.types import GridSpec
from geotessera.webmap import Picture, build_tiles
from geotessera.webmap.places import expected_tiles
from geotessera.webmap.viewing import command_of_picture

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, words)))


def picture(path: Path, side: int = 64, pixel: float = 1000.0, value: int = 7) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=3, dtype="uint8",
        crs="EPSG:32719", photometric="RGB",
        transform=rasterio.Affine(pixel, 0, 300000, 0, -pixel, 6200000),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, side, side), value, np.uint8))
    return path


def test_expected_tiles_are_about_those_that_are_made(tmp_path: Path) -> None:
    source = picture(tmp_path / "p.tif")
    made = build_tiles(source, tmp_path / "tiles", zooms=(8, 13))
    with Picture(source) as opened:
        expected = expected_tiles(opened.grid, (8, 13))
        # 1 km is 0.0107 degrees of longitude at 34.5 south; a pixel of zoom 7 is 0.011.
        assert opened.finest_zoom == 8
    assert made.count / 1.3 < expected < made.count * 1.3


@pytest.mark.parametrize(
    ("grid", "zoom", "exact"),
    [
        (GridSpec(4326, (1.0, 0.0, -180.0, 0.0, -1.0, 90.0), 180, 360), 6, 4**6),
        (GridSpec(4326, (0.01, 0.0, 179.0, 0.0, -0.01, 1.0), 200, 200), 15, (2 / 360 * 2**15) ** 2),
    ],
)
def test_expected_tiles_of_the_globe_and_across_its_seam(
    grid: GridSpec, zoom: int, exact: float
) -> None:
    assert expected_tiles(grid, (zoom, zoom)) == pytest.approx(exact, rel=0.03)


def test_more_tiles_than_can_be_are_refused_at_once(tmp_path: Path) -> None:
    source = picture(tmp_path / "p.tif")
    with pytest.raises(InputError, match=r"zooms 8 to 24 .* some [\d,]{10,} tiles.* 8 already"):
        build_tiles(source, tmp_path / "map/tiles", zooms=(8, 24))
    assert [one.name for one in tmp_path.iterdir()] == ["p.tif"] or not list(
        (tmp_path / "map").rglob("*")
    )


def test_a_picture_smaller_than_a_pixel_says_so(tmp_path: Path) -> None:
    source = picture(tmp_path / "p.tif", pixel=10.0)
    with pytest.raises(EmptySelectionError, match=r"too small for this zoom \(zoom 14 shows"):
        build_tiles(source, tmp_path / "tiles", zooms=(0, 0))


def test_the_command_warns_of_many_tiles_and_leaves_no_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "p.tif")
    module = sys.modules["geotessera.cli.webmap_map"]
    monkeypatch.setattr(module, "_MANY", 20)
    result = run("webmap", source, "-o", tmp_path / "map", "--max-zoom", "11")
    assert result.exit_code == 0
    assert "zooms 8 to 11 of" in result.stderr
    assert "--max-zoom 8 already shows each pixel" in result.stderr
    result = run("webmap", source, "-o", tmp_path / "none", "--min-zoom", "0", "--max-zoom", "24")
    assert result.exit_code == 1
    assert not (tmp_path / "none").exists()


def test_a_directory_is_no_mosaic(tmp_path: Path) -> None:
    result = run("webmap", tmp_path)
    assert result.exit_code == 1
    assert "geotessera visualize" in result.stderr


def test_a_note_that_names_other_files_deletes_none(tmp_path: Path) -> None:
    source = picture(tmp_path / "p.tif")
    tiles = tmp_path / "map/tiles"
    mine = tmp_path / "mine"
    (mine / "2024").mkdir(parents=True)
    (mine / "2024/tile.npy").write_bytes(b"mine")
    (mine / "2024/app.js").write_bytes(b"mine")
    (mine / "thesis.txt").write_bytes(b"mine")
    note = tmp_path / "map/tiles.json"
    build_tiles(source, tiles, zooms=(8, 8), record=note, packs=tmp_path / "map/packs")
    known = json.loads(note.read_text())
    note.write_text(json.dumps(known | {"packs": "../mine", "pmtiles": "../mine/thesis.txt"}))
    picture(source, value=9)
    build_tiles(source, tiles, zooms=(8, 8), record=note)
    assert sorted(one.name for one in mine.rglob("*")) == [
        "2024", "app.js", "thesis.txt", "tile.npy",
    ]  # fmt: skip


def test_the_page_downloads_the_year_and_the_dataset_of_the_picture(tmp_path: Path) -> None:
    source = picture(tmp_path / "p.tif")
    plain = "geotessera download --tile={lon},{lat} -o {name}"
    assert command_of_picture(source) == plain
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(TESSERA_YEAR="2023", **dataset_tags("v1.1", "cambridge"))
    wanted = (
        "geotessera download --tile={lon},{lat} --year 2023 --dataset-version v1.1 "
        "--dataset-variant cambridge -o {name}"
    )
    assert command_of_picture(source) == wanted
    assert run("webmap", source, "-o", tmp_path / "map", "--max-zoom", "8").exit_code == 0
    assert wanted in (tmp_path / "map/viewer.html").read_text()


def test_the_page_of_a_region_downloads_its_year_from_its_store(tmp_path: Path) -> None:
    store = SampleStore.build(tmp_path / "my store", size="tiny")
    result = run(
        "webmap", "--bbox", "0,51.99,0.02,52.01", "--store-url", store.path, "--year", "2023",
        "-o", tmp_path / "map", "--max-zoom", "9",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    wanted = f"--year 2023 --store-url '{store.path.resolve()}' -o {{name}}"
    assert wanted in (tmp_path / "map/viewer.html").read_text()
