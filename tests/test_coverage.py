"""Coverage as rasters: textures, lists and pixels, each against a loop over its tiles."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import realdata
from geotessera import GeoTessera
from geotessera.coverage import (
    Coverage,
    coverage_texture,
    draw_coverage,
    draw_sources,
    write_coverage_files,
    write_index,
    write_texture,
)
from geotessera.coverage.figure import frame_for
from geotessera.coverage.files import Listing, document, write_summary
from geotessera.coverage.maps import draw_rows
from geotessera.coverage.raster import View, common_class, paint_boxes, paint_cells
from geotessera.coverage.region import region_cells, region_lines
from geotessera.coverage.tile_rows import TileRows
from geotessera.errors import InputError, UnwritableDestination
from geotessera.regions import Region
from geotessera.registry import Registry
from geotessera.testing import SampleWorld
from geotessera.testing.stores import SampleStore
from registry_fixtures import landmasks_b, manifest_b

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

type Place = tuple[float, float]

CORNERS = [(-179.95, -89.95), (-179.95, 89.95), (179.95, -89.95), (179.95, 89.95)]

PLACES = st.one_of(
    st.sampled_from(CORNERS),
    st.builds(
        lambda c, r: (round(-179.95 + c / 10, 2), round(-89.95 + r / 10, 2)),
        st.integers(0, 3599),
        st.integers(0, 1799),
    ),
)
YEARS = st.lists(st.integers(2015, 2030), min_size=1, max_size=9, unique=True).map(sorted)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[int], dict[Place, list[int]], list[Place]]:
    """Years, the years of each tile, and land without a tile."""
    years = draw(YEARS)
    some = st.lists(st.sampled_from(years), min_size=1, unique=True).map(sorted)
    tiles = draw(st.dictionaries(PLACES, some, max_size=30))
    land = draw(st.lists(PLACES, max_size=10, unique=True))
    return years, tiles, [place for place in land if place not in tiles]


def cell(place: Place) -> tuple[int, int]:
    return round((place[0] + 179.95) * 10), round((place[1] + 89.95) * 10)


def mask(places: Iterable[Place]) -> NDArray[np.bool_]:
    found = np.zeros((3600, 1800), bool)
    for place in places:
        found[cell(place)] = True
    return found


def made(
    years: list[int], tiles: dict[Place, list[int]], land: list[Place] | None = None
) -> Coverage:
    bits = np.zeros((3600, 1800), np.uint16)
    for place, has in tiles.items():
        bits[cell(place)] = sum(1 << years.index(year) for year in has)
    known = None if land is None else mask([*tiles, *land])
    return Coverage(tuple(years), bits, known, "v1.1", "cambridge")


def text(place: Place) -> str:
    return f"{place[0]:.2f},{place[1]:.2f}"


# --- From a registry ----------------------------------------------------------------------


def test_a_registry_is_read_cell_by_cell(tmp_path: Path) -> None:
    tiles = [(2022, 0.05, 50.05), (2024, 0.05, 50.05), (2023, -0.05, -0.05)]
    tiles += [(2024, *corner) for corner in CORNERS]
    manifest_b(tmp_path / "manifest.parquet", tiles)
    landmasks_b(tmp_path / "landmasks.parquet", [(0.05, 50.05), (12.35, -7.85)])
    registry = Registry("v1.1", "cambridge", registry_dir=tmp_path, cache_dir=tmp_path / "c")
    found = Coverage.of_registry(registry)
    assert found.years == (2022, 2023, 2024)
    assert (found.id, found.version, found.variant) == ("v1.1_cambridge", "v1.1", "cambridge")
    for year in found.years:
        places = [(lon, lat) for own, lon, lat in tiles if own == year]
        np.testing.assert_array_equal(found.of_year(year), mask(places))
    assert not found.of_year(2019).any()
    assert found.land is not None
    np.testing.assert_array_equal(found.land, mask([(0.05, 50.05), (12.35, -7.85)]))
    assert found.counts() == {2022: 1, 2023: 1, 2024: 5}
    assert found.counts(mask([(0.05, 50.05)])) == {2022: 1, 2023: 0, 2024: 1}
    assert found.metadata() == {
        "total_tiles": 6, "total_landmasks": 2, "total_no_coverage": 1, "version": "v1.1",
    }  # fmt: skip


def test_a_part_of_a_registry_has_its_own_years(tmp_path: Path) -> None:
    manifest_b(tmp_path / "m.parquet", [(2020, 9.05, 9.05), (2021, 0.05, 0.05), (2023, 0.05, 0.05)])
    registry = Registry(
        "v1.1", "cambridge", registry_path=tmp_path / "m.parquet", cache_dir=tmp_path / "c",
        bbox=(0, 0, 1, 1),
    )  # fmt: skip
    found = Coverage.of_registry(registry)
    assert found.years == (2021, 2023)
    assert found.counts() == {2021: 1, 2023: 1}
    assert found.land is None
    assert found.metadata()["total_landmasks"] == 1
    np.testing.assert_array_equal(found.covered, mask([(0.05, 0.05)]))
    assert found.bits[cell((0.05, 0.05))] == 0b11


# --- Textures -----------------------------------------------------------------------------


def texture_oracle(
    years: list[int],
    tiles: dict[Place, list[int]],
    land: list[Place],
    tint: tuple[int, int, int] | None,
) -> NDArray[np.uint8]:
    """The published rules of colour, tile by tile."""
    out = np.zeros((1800, 3600, 4), np.uint8)
    total = len(years)
    for place in land if tint is None else ():
        column, row = cell(place)
        out[1799 - row, column] = (100, 100, 100, 76)
    for place, has in tiles.items():
        count = len(has)
        if tint is not None:
            full = 1 if total <= 1 else 0.5 + 0.5 * (count - 1) / (total - 1)
            color = [int(part * full + 255 * (1 - full)) for part in tint]
            color.append(int(140 + 60 * count / total))
        elif count == 1:
            color = [255, 200, 0, 255] if has == [years[-1]] else [200, 100, 0, 255]
        elif count == total:
            color = [0, 200, 0, 255]
        else:
            share = count / total
            color = [0, int(200 * share), int(100 + 155 * share), 255]
        lon, lat = place
        out[round((89.95 - lat) * 10), round((lon + 179.95) * 10)] = color
    return out


@settings(max_examples=6, deadline=None)
@given(worlds(), st.none() | st.tuples(*[st.integers(0, 255)] * 3))
def test_textures_follow_the_rules_of_colour(
    world: tuple[list[int], dict[Place, list[int]], list[Place]],
    tint: tuple[int, int, int] | None,
) -> None:
    years, tiles, land = world
    np.testing.assert_array_equal(
        coverage_texture(made(years, tiles, land), tint), texture_oracle(*world, tint)
    )


def test_without_landmasks_no_land_is_grey() -> None:
    picture = coverage_texture(made([2024], {(0.05, 0.05): [2024]}))
    assert np.count_nonzero(picture[..., 3]) == 1


@pytest.mark.parametrize("tint", [(1, 2), (1, 2, 256), "red", (1, -2, 3), ("a", "b", "c")])
def test_a_tint_is_three_bytes(tint: Any) -> None:
    with pytest.raises(InputError, match="tint"):
        coverage_texture(made([2024], {}), tint)


def test_a_texture_is_a_png_that_appears_whole(tmp_path: Path) -> None:
    found = made([2023, 2024], {(-179.95, 89.95): [2024]}, [(179.95, -89.95)])
    before = os.umask(0o027)
    try:
        write_texture(found, tmp_path / "new" / "t.png")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "t.png").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.png"]
    with Image.open(tmp_path / "new" / "t.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (3600, 1800))
        assert image.getpixel((0, 0)) == (255, 200, 0, 255)
        assert image.getpixel((3599, 1799)) == (100, 100, 100, 76)
        assert image.getpixel((1800, 900)) == (0, 0, 0, 0)


# --- Lists --------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(worlds())
def test_documents_and_lists_say_what_there_is(
    world: tuple[list[int], dict[Place, list[int]], list[Place]],
) -> None:
    years, tiles, land = world
    found = made(years, tiles, land)
    listing = Listing.of(found.bits)
    for number, year in enumerate(years):
        expected = sorted(text(place) for place, has in tiles.items() if year in has)
        assert listing.json(number) == json.dumps(expected, separators=(",", ":"))
    content = document(found)
    assert content["tiles"] == {text(place): has for place, has in tiles.items()}
    assert list(content["tiles"]) == sorted(content["tiles"])
    assert content["no_coverage"] == sorted(map(text, land))
    assert content["years"] == years
    assert content["metadata"]["total_tiles"] == len(tiles)
    assert content["metadata"]["total_landmasks"] == len(tiles) + len(land)
    assert content["metadata"]["total_no_coverage"] == len(land)
    again = Coverage.of_document(content)
    assert again.years == tuple(years)
    np.testing.assert_array_equal(again.bits, found.bits)
    np.testing.assert_array_equal(coverage_texture(again), coverage_texture(found))


def test_lists_of_years_can_be_changed_one_by_one() -> None:
    tiles = document(made([2024], {(0.05, 0.05): [2024], (0.15, 0.05): [2024]}))["tiles"]
    tiles["0.05,0.05"].append(2025)
    assert tiles["0.15,0.05"] == [2024]


@pytest.mark.parametrize(
    "names", [["0.05"], ["0.05,x"], ["0.1,0.2"], ["180.05,0.05"], ["nan,1"],
              ["0.05,0.05,1", "2"], [(0.05, 0.05)],
              ["--1.05,0.05"], ["0.05,0.05,"], ["1.5-,0.05"], ["0.05,5.5"]]
)  # fmt: skip
def test_documents_of_something_else_are_refused(names: list[Any]) -> None:
    with pytest.raises(InputError, match="lon,lat"):
        Coverage.of_document({"tiles": {name: [1] for name in names}, "years": [1]})


@pytest.mark.parametrize("key", ["0.05,50.05", "0.0500,50.05", "5e-2,50.05", " 0.05, 50.05"])
def test_centres_in_other_spellings_are_centres(key: str) -> None:
    found = Coverage.of_document({"tiles": {"-0.05,-0.05": [1], key: [2]}})
    np.testing.assert_array_equal(found.of_year(2), mask([(0.05, 50.05)]))
    np.testing.assert_array_equal(found.of_year(1), mask([(-0.05, -0.05)]))


def test_a_document_may_have_more_years_than_its_tiles() -> None:
    found = Coverage.of_document({"tiles": {"0.05,0.05": [2023]}, "years": [2022, 2023, 2024]})
    assert found.years == (2022, 2023, 2024)
    assert tuple(coverage_texture(found)[899, 1800]) == (200, 100, 0, 255)
    assert Coverage.of_document({}).years == ()
    assert not coverage_texture(Coverage.of_document({})).any()
    with pytest.raises(InputError, match="years"):
        Coverage.of_document({"years": range(65)})


def test_files_have_the_published_names_and_shapes(tmp_path: Path) -> None:
    tiles = {(0.05, 50.05): [2023, 2024], (-0.05, -9.95): [2024]}
    found = made([2023, 2024], tiles, [(10.05, 0.05)])
    files = write_coverage_files(found, tmp_path, (31, 119, 180))
    write_index([files], tmp_path / "coverage.json")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "coverage.json", "coverage_v1.1_cambridge.json", "coverage_v1.1_cambridge_2023.json",
        "coverage_v1.1_cambridge_2024.json", "coverage_texture_v1.1_cambridge.png",
    }  # fmt: skip
    assert {path.name for path in files.paths} == names - {"coverage.json"}
    # As upstream 0.11.0 wrote it, byte for byte but for the numbers.
    assert (tmp_path / "coverage.json").read_text() == (
        '{"datasets":[{"id":"v1.1_cambridge","version":"1.1","version_path":"v1.1",'
        '"variant":"cambridge","color":[31,119,180],"years":[2023,2024],'
        '"coverage_json":"coverage_v1.1_cambridge.json",'
        '"texture_png":"coverage_texture_v1.1_cambridge.png"}],"schema_version":2}'
    )
    assert (tmp_path / "coverage_v1.1_cambridge.json").read_text() == (
        '{"years":[2023,2024],"metadata":{"total_tiles":2,"total_landmasks":3,'
        '"total_no_coverage":1,"version":"v1.1"},"dataset_id":"v1.1_cambridge",'
        '"year_file_prefix":"coverage_v1.1_cambridge_"}'
    )
    lists = [json.loads(path.read_text()) for path in files.years]
    assert lists == [["0.05,50.05"], ["-0.05,-9.95", "0.05,50.05"]]


def test_a_texture_of_one_among_several_is_tinted(tmp_path: Path) -> None:
    found = made([2024], {(0.05, 0.05): [2024]}, [(9.05, 9.05)])
    files = write_coverage_files(found, tmp_path, (1, 2, 3), tint=True)
    with Image.open(files.texture) as image:
        assert image.getpixel((1800, 899)) == (1, 2, 3, 200)
        assert image.getcolors() is not None
        assert len(image.getcolors()) == 2


def test_a_directory_that_cannot_be_written_is_named(read_only_directory: Path) -> None:
    with pytest.raises(UnwritableDestination):
        write_summary(made([2024], {}), read_only_directory / "c.json", None)


# --- The client's methods -----------------------------------------------------------------


def test_a_client_exports_its_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [(2022, 0.05, 50.05), (2024, 0.05, 50.05), (2024, -60.05, -9.95)]
    manifest_b(tmp_path / "manifest.parquet", tiles)
    landmasks_b(tmp_path / "landmasks.parquet", [(0.05, 50.05), (1.05, 50.05)])
    client = GeoTessera("v1.1", "cambridge", registry_dir=tmp_path, cache_dir=tmp_path / "cache")
    found = client.export_coverage_map(tmp_path / "out" / "mine.json")
    assert found == {
        "tiles": {"-60.05,-9.95": [2024], "0.05,50.05": [2022, 2024]},
        "no_coverage": ["1.05,50.05"],
        "years": [2022, 2024],
        "metadata": {
            "total_tiles": 2, "total_landmasks": 2, "total_no_coverage": 1, "version": "v1.1",
        },
    }  # fmt: skip
    written = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert written == {
        "years": [2022, 2024], "metadata": found["metadata"], "dataset_id": None,
        "year_file_prefix": "coverage_",
    }  # fmt: skip
    listed = json.loads((tmp_path / "out" / "coverage_2024.json").read_text())
    assert listed == ["-60.05,-9.95", "0.05,50.05"]
    client.export_coverage_map(str(tmp_path / "named.json"), dataset_id="x")
    assert (tmp_path / "coverage_x_2022.json").read_text() == '["0.05,50.05"]'
    monkeypatch.chdir(tmp_path)
    assert client.generate_coverage_texture(found) == "coverage_texture.png"
    with Image.open("coverage_texture.png") as image:
        oracle = texture_oracle(
            [2022, 2024], {(0.05, 50.05): [2022, 2024], (-60.05, -9.95): [2024]}, [(1.05, 50.05)],
            None,
        )  # fmt: skip
        np.testing.assert_array_equal(np.asarray(image), oracle)
    assert client.generate_coverage_texture(found, "t.png", (1, 2, 3)) == "t.png"


def test_a_store_is_listed_only_in_a_box(tmp_path: Path) -> None:
    world = SampleWorld.build(tmp_path, size="tiny")
    SampleStore.from_world(world, shard=512)
    where: dict[str, Any] = {"source": "zarr", "base_url": world.root("B")}
    client = GeoTessera("v1.1", "cambridge", bbox=(23.8, 83.5, 24.2, 83.9), **where)
    content = client.export_coverage_map()
    listed = {
        (year, *map(float, name.split(",")))
        for name, years in content["tiles"].items()
        for year in years
    }
    assert listed == {tuple(one.tile) for one in world.tiles}
    assert content["metadata"]["total_no_coverage"] == 0
    with pytest.raises(InputError, match="bbox="):
        GeoTessera("v1.1", "cambridge", **where).export_coverage_map()


# --- Pixels of cells and boxes ------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-3600, 1790), st.integers(-900, 890), st.integers(1, 3600), st.integers(1, 1800),
    st.integers(1, 60), st.integers(1, 40), st.sampled_from([0.3, 1.0, 2.5, 7.0]),
    st.lists(PLACES, min_size=1, max_size=20, unique=True),
)  # fmt: skip
def test_pixels_show_the_cells_that_are_theirs(
    west: int, south: int, wide: int, high: int, width: int, height: int, size: float,
    places: list[Place],
) -> None:  # fmt: skip
    # Off the cells' grid by a third, so that no edge is in doubt.
    left, bottom = west / 10 + 1 / 30, south / 10 + 1 / 30
    high = min(high, 900 - south)
    view = View(left, bottom, left + wide / 10, bottom + high / 10, width, height)
    shown = paint_cells(view, mask(places), size)
    expected = np.zeros((height, width), np.int64)
    dx, dy = wide / 10 / width, high / 10 / height
    rx, ry = (max(size / 20, pixel / 2) for pixel in (dx, dy))
    doubt = False
    for lon, lat in places:
        for turn in (-360, 0, 360):
            x = np.abs(left + (np.arange(width) + 0.5) * dx - lon - turn)
            y = np.abs(bottom + (np.arange(height) + 0.5) * dy - lat)
            doubt |= bool((abs(x - rx) < 1e-9).any() or (abs(y - ry) < 1e-9).any())
            expected += np.outer(y < ry, x < rx)
    if not doubt:
        np.testing.assert_array_equal(shown, expected[::-1])


@settings(max_examples=25, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=30, unique=True), st.integers(3, 400))
def test_no_tile_is_lost_or_shown_twice_on_a_small_globe(places: list[Place], width: int) -> None:
    view = View(-180, -90, 180, 90, width, max(width // 2, 1))
    assert paint_cells(view, mask(places)).sum() == len(places)


def test_a_pixel_has_the_commonest_class() -> None:
    first, second = np.array([[0, 2, 3, 1]], np.int32), np.array([[0, 2, 1, 4]], np.int32)
    assert common_class([first, second]).tolist() == [[0, 1, 1, 2]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-360, 170), st.integers(-90, 80), st.integers(1, 360), st.integers(1, 180),
    st.integers(1, 50), st.integers(1, 30),
    st.lists(st.tuples(st.floats(-180, 179.9), st.floats(-90, 89.9), st.floats(0.01, 30),
                       st.floats(0.01, 20)), max_size=12),
)  # fmt: skip
def test_pixels_show_the_boxes_over_their_centres(
    west: int, south: int, wide: int, high: int, width: int, height: int,
    drawn: list[tuple[float, float, float, float]],
) -> None:  # fmt: skip
    view = View(west, south, west + wide, min(south + high, 90), width, height)
    boxes = [(w, s, w + x - 360 if w + x > 180 else w + x, min(s + y, 90)) for w, s, x, y in drawn]
    shown = paint_boxes(view, np.array(boxes).reshape(-1, 4))
    expected = np.zeros((height, width), np.int64)
    dx, dy = wide / width, (view.north - south) / height
    for w, s, x, y in drawn:
        top = min(s + y, 90)
        rows = np.arange(height) + 0.5
        lats = view.north - rows * dy
        inside_y = (lats > s) & (lats <= top)
        if not _any_centre(view.north, dy, s, top, downwards=True):
            inside_y = np.arange(height) == math.floor((view.north - (s + top) / 2) / dy)
        for turn in (-360, 0, 360):
            lons = west + (np.arange(width) + 0.5) * dx
            low, end = w + turn, w + x + turn
            inside_x = (lons >= low) & (lons < end)
            if not _any_centre(west, dx, low, end, downwards=False):
                inside_x = np.arange(width) == math.floor(((low + end) / 2 - west) / dx)
            expected += np.outer(inside_y, inside_x)
    # Rounding may move a side over a centre.
    assert np.count_nonzero(shown != expected) <= 0.02 * expected.size + 1


def _any_centre(start: float, step: float, low: float, end: float, *, downwards: bool) -> bool:
    first, last = ((start - end), (start - low)) if downwards else ((low - start), (end - start))
    return math.ceil(first / step - 0.5) < math.ceil(last / step - 0.5)


# --- Regions ------------------------------------------------------------------------------


def met(geometry: Any, box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Cells in a box that a geometry meets by a tenth of a millimetre (1e-9°), by shapely."""
    west, south, east, north = box
    columns = np.arange(max(math.floor((west + 180) * 10) - 2, 0), math.ceil((east + 180) * 10) + 2)
    rows = np.arange(max(math.floor((south + 90) * 10) - 2, 0), math.ceil((north + 90) * 10) + 2)
    columns, rows = columns[columns < 3600], rows[rows < 1800]
    x, y = (
        axis - shift
        for axis, shift in zip(np.meshgrid(columns, rows, indexing="ij"), (1800, 900), strict=True)
    )
    cells = shapely.box(x / 10 + 1e-9, y / 10 + 1e-9, (x + 1) / 10 - 1e-9, (y + 1) / 10 - 1e-9)
    shapely.prepare(geometry)
    found = np.zeros((3600, 1800), bool)
    found[np.ix_(columns, rows)] = shapely.intersects(geometry, cells)
    return found


@pytest.mark.parametrize("country", ["Tonga", "FJ", "LUX", "LSO", "NZL"])
def test_the_cells_of_a_country_are_those_its_outline_meets(country: str) -> None:
    region = Region.from_country(country)
    everywhere = np.ones((3600, 1800), bool)
    assert region.geometry is not None
    expected = np.zeros((3600, 1800), bool)
    for part in shapely.get_parts(region.geometry):
        expected |= met(part, part.bounds)
    np.testing.assert_array_equal(region_cells(region, everywhere), expected)
    some = np.random.default_rng(0).random((3600, 1800)) < 0.5
    np.testing.assert_array_equal(region_cells(region, some), expected & some)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=8, unique=True),
       st.sampled_from([(0, 0), (174.9, 84.9), (-174.9, -84.9)]))  # fmt: skip
def test_the_cells_of_any_polygon(points: list[Place], shift: Place) -> None:
    polygon = shapely.make_valid(shapely.Polygon([(x + shift[0], y + shift[1]) for x, y in points]))
    parts = shapely.get_parts(shapely.get_parts(polygon))  # a collection holds multipolygons
    areas = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    if areas.is_empty:
        return
    found = region_cells(Region.from_geometry(areas), np.ones((3600, 1800), bool))
    np.testing.assert_array_equal(found, met(areas, areas.bounds))


def test_boxes_and_points_have_cells() -> None:
    everywhere = np.ones((3600, 1800), bool)
    crossing = region_cells(Region.from_bbox((179.9, -16.1, -179.8, -15.9)), everywhere)
    columns, rows = np.nonzero(crossing)
    assert sorted(set(columns.tolist())) == [0, 1, 3599]
    assert sorted(set(rows.tolist())) == [739, 740]
    point = region_cells(Region.from_geometry(shapely.Point(0.1, 50.0)), everywhere)
    assert np.argwhere(point).tolist() == [[1801, 1400]]
    line = shapely.LineString([(0.05, 50.05), (0.35, 50.05)])
    found = region_cells(Region.from_geometry(line), everywhere)
    assert np.argwhere(found)[:, 0].tolist() == [1800, 1801, 1802, 1803]
    assert not region_cells(Region.from_geometry(line), ~everywhere).any()


def test_outlines_have_no_line_at_180_degrees() -> None:
    for country in ("Fiji", "Russia", "Antarctica"):
        for line in region_lines(Region.from_country(country)):
            along = np.abs(line[:, 0]) >= 180 - 1e-9
            assert not (along[1:] & along[:-1]).any()
    (box,) = region_lines(Region.from_bbox((170, -20, -170, -10)))
    assert (box.min(axis=0).tolist(), box.max(axis=0).tolist()) == ([170, -20], [190, -10])


# --- Maps ---------------------------------------------------------------------------------


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def at(picture: NDArray[np.uint8], frame: Any, lon: float, lat: float) -> tuple[int, ...]:
    """The colour of a map at a place."""
    view = frame.view
    x = frame.left + (lon - view.west) / (view.east - view.west) * view.width
    y = frame.top + (view.north - lat) / (view.north - view.south) * view.height
    return tuple(picture[math.floor(y), math.floor(x)].tolist())


def mixed(color: tuple[int, int, int], alpha: float) -> NDArray[np.float64]:
    return np.array(color) * alpha + 255 * (1 - alpha)


GREEN, BLUE, ORANGE = (0, 100, 0), (0, 0, 139), (255, 140, 0)  # matplotlib's dark ones

SHOWN = {
    (0.35, 50.05): ([2022, 2023, 2024], GREEN),
    (-70.05, -33.05): ([2024], BLUE),
    (-179.95, 71.05): ([2022], ORANGE),
    (179.95, -16.05): ([2023, 2024], ORANGE),
    (122.05, 89.95): ([2022, 2023, 2024], GREEN),
    (122.05, -89.95): ([2024], BLUE),
}


@pytest.mark.parametrize("width", [400, 2000])
def test_every_tile_has_its_colour_on_the_globe(tmp_path: Path, width: int) -> None:
    found = made([2022, 2023, 2024], {place: has for place, (has, _) in SHOWN.items()})
    draw_coverage(found, tmp_path / "m.png", width=width, tile_alpha=0.6, show_countries=False)
    picture, frame = pixels(tmp_path / "m.png"), frame_for(width, None)
    assert picture.shape == (frame.height, width, 3)
    for (lon, lat), (_, color) in SHOWN.items():
        near = [at(picture, frame, lon, lat)]
        if abs(lat) > 89 or abs(lon) > 179:
            # The frame's line is on the outermost pixels.
            continue
        np.testing.assert_allclose(near[0], mixed(color, 0.6), atol=1.01)
    assert at(picture, frame, 30.5, 31.5) == (255, 255, 255)


@pytest.mark.parametrize("place", list(SHOWN))
def test_every_tile_has_its_colour_in_a_region(tmp_path: Path, place: Place) -> None:
    lon, lat = place
    found = made([2022, 2023, 2024], {key: has for key, (has, _) in SHOWN.items()})
    region = Region.from_bbox(f"{lon},{lat}")
    draw_coverage(found, tmp_path / "m.png", width=600, region=region, tile_alpha=1.0)
    frame = frame_for(600, region)
    assert frame.view.east - frame.view.west == pytest.approx(0.3)  # padded by a tile
    picture = pixels(tmp_path / "m.png")
    assert picture.shape[1] == 600
    colors = {at(picture, frame, lon + dx, lat) for dx in (-0.03, -0.011, 0.013, 0.03)}
    assert SHOWN[place][1] in colors
    # Beyond its edge there is none.
    beyond = [at(picture, frame, lon + dx, lat + 0.01) for dx in (-0.08, 0.08)]
    assert not {SHOWN[place][1]} & set(beyond)


def test_one_year_one_colour_and_larger_tiles(tmp_path: Path) -> None:
    found = made([2023, 2024], {(7.05, 50.05): [2023], (40.05, 50.05): [2024]})
    frame = frame_for(800, None)
    draw_coverage(found, tmp_path / "a.png", width=800, year=2023, tile_color="#0000ff",
                  tile_alpha=1, tile_size=20, show_countries=False)  # fmt: skip
    picture = pixels(tmp_path / "a.png")
    assert at(picture, frame, 7.5, 50.6) == (0, 0, 255)
    assert at(picture, frame, 40.05, 50.05) == (255, 255, 255)
    draw_coverage(found, tmp_path / "b.png", width=800, multi_year_colors=False,
                  tile_alpha=0.5, show_countries=False)  # fmt: skip
    picture = pixels(tmp_path / "b.png")
    for lon in (7.05, 40.05):
        np.testing.assert_allclose(at(picture, frame, lon, 50.05), (255, 127.5, 127.5), atol=1.01)


@pytest.mark.parametrize("year", [None, 2019])
def test_nothing_is_a_map_too(tmp_path: Path, year: int | None) -> None:
    empty = Coverage((), np.zeros((3600, 1800), np.uint8), None, "v1.1", "cambridge")
    for found in (empty, made([2024], {(0.05, 0.05): [2024]})):
        draw_coverage(found, tmp_path / "m.png", width=300, year=year or 2019)
        assert pixels(tmp_path / "m.png").shape[1] == 300
    draw_coverage(empty, tmp_path / "m.png", width=300)


def test_countries_are_drawn_unless_they_are_not_wanted(tmp_path: Path) -> None:
    found, frame = made([2024], {}), frame_for(1000, None)
    draw_coverage(found, tmp_path / "with.png", width=1000)
    draw_coverage(found, tmp_path / "without.png", width=1000, show_countries=False)
    land, sea = (at(pixels(tmp_path / "with.png"), frame, *place) for place in ((15, 15), (-35, 5)))
    assert land != sea == (255, 255, 255)
    assert at(pixels(tmp_path / "without.png"), frame, 15, 15) == (255, 255, 255)


def test_an_outline_is_drawn_where_it_is(tmp_path: Path) -> None:
    region = Region.from_country("Fiji")
    assert region.geometry is not None
    draw_coverage(made([2024], {}), tmp_path / "m.png", width=1500, region=region,
                  show_countries=False)  # fmt: skip
    picture, frame = pixels(tmp_path / "m.png"), frame_for(1500, region)
    edges = shapely.get_coordinates(region.geometry.boundary)
    edges = edges[np.abs(edges[:, 0]) < 179.99]
    dark = [sum(at(picture, frame, lon + (360 if lon < 0 else 0), lat)) < 300 for lon, lat in edges]
    assert np.mean(dark) > 0.95
    assert at(picture, frame, 176.05, -15.03) == (255, 255, 255)


def test_sources_lie_over_each_other(tmp_path: Path) -> None:
    first = made([2024], {(7.35, 50.05): [2024], (40.35, 50.05): [2024]})
    second = made([2023], {(40.35, 50.05): [2023], (80.35, 50.05): [2023]})
    sources = {("1.0", "a"): first, ("2.0", "b"): second}
    draw_sources(sources, tmp_path / "s.png", width=900, tile_alpha=0.5, show_countries=False)
    picture, frame = pixels(tmp_path / "s.png"), frame_for(900, None)
    one, other = mixed((31, 119, 180), 0.5), mixed((255, 127, 14), 0.5)
    both = np.array((255, 127, 14)) * 0.5 + one * 0.5
    for lon, color in ((7.35, one), (40.35, both), (80.35, other)):
        np.testing.assert_allclose(at(picture, frame, lon, 50.05), color, atol=1.51)
    draw_sources(sources, tmp_path / "s.png", width=900, tile_alpha=0.5, show_countries=False,
                 year=2023, colors=[(0, 0, 0), (0, 0, 255)])  # fmt: skip
    picture = pixels(tmp_path / "s.png")
    assert at(picture, frame, 7.35, 50.05) == (255, 255, 255)
    np.testing.assert_allclose(at(picture, frame, 40.35, 50.05), (127, 127, 255), atol=1.01)
    with pytest.raises(InputError, match="No tiles to render"):
        draw_sources(sources, tmp_path / "s.png", year=2019)
    with pytest.raises(InputError, match="No tiles to render"):
        draw_sources(sources, tmp_path / "s.png", region=Region.from_bbox((1, 1, 2, 2)))


@pytest.mark.parametrize(
    "options",
    [{"tile_alpha": 1.1}, {"tile_alpha": -0.1}, {"tile_size": 0}, {"tile_color": "nothing"},
     {"width": 10}, {"width": 10**6}, {"width": 400.5}, {"tile_alpha": math.nan}],
)  # fmt: skip
def test_maps_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    defaults: dict[str, Any] = {"multi_year_colors": False}
    with pytest.raises(InputError):
        draw_coverage(made([2024], {}), tmp_path / "m.png", **defaults | options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "box", ["0,0,0.1,0.1", "-180,-90,180,90", "179,-17,-179,-16", "-10,50,-9.9,80", "-80,1,80,1.1",
            "-179.9,89.9,-179.8,90"]
)  # fmt: skip
def test_the_layout_shows_the_region_and_a_little_more(box: str) -> None:
    region = Region.from_bbox(box)
    frame = frame_for(1000, region)
    view, (west, south, east, north) = frame.view, region.bbox
    east += 360 if west > east else 0
    assert view.south <= south < north <= view.north
    assert -90 <= view.south < view.north <= 90
    assert view.west <= west < east <= view.east
    assert view.east - view.west <= 360
    if east - west < 300:
        assert view.west <= west - 0.0999
        assert view.east >= east + 0.0999
    scale = (view.east - view.west) / view.width, (view.north - view.south) / view.height
    assert scale[0] == pytest.approx(scale[1], rel=0.02)
    assert frame.width == 1000
    assert 150 < frame.height < 2000


def test_jpegs_by_their_suffix(tmp_path: Path) -> None:
    for name in ("m.jpg", "m.JPEG"):
        draw_coverage(made([2024], {}), tmp_path / name, width=300)
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.mode, image.size[0]) == ("JPEG", "RGB", 300)


# --- Rows of a tile registry --------------------------------------------------------------


def table(rows: list[tuple[str, str, int, bool | None, int | None, int | None, Any]]) -> Any:
    names = ["zone", "tile", "year", "embedded", "refused_px", "eligible_px", "box"]
    frame = pd.DataFrame(rows, columns=names)
    for number, name in enumerate(("bbox_west", "bbox_south", "bbox_east", "bbox_north")):
        frame[name] = [float(row[-1][number]) for row in rows]
    for name in ("refused_px", "eligible_px"):
        frame[name] = frame[name].astype("Int64")
    return frame.drop(columns="box")


A, B, C, D, E = ((2.0 * i, 50.0, 2.0 * i + 1, 51.0) for i in range(5))
ROWS = [
    ("31N", "a", 2023, True, 0, 100, A), ("31N", "a", 2024, True, 50, 100, A),
    ("31N", "b", 2023, True, 51, 100, B), ("31N", "b", 2024, True, None, 100, B),
    ("31N", "c", 2023, False, 0, 100, C), ("31N", "c", 2024, None, None, None, C),
    ("32N", "a", 2024, True, 60, None, D),
    ("32N", "b", 2023, True, 5, 0, (179.5, 50, -179.5, 51)),
    ("32N", "b", 2024, True, 0, 9, (179.5, 50, -179.5, 51)),
]  # fmt: skip


def test_rows_tell_what_became_of_tiles() -> None:
    rows = TileRows.of_table(table(ROWS))
    assert rows.years == (2023, 2024)
    assert rows.usable.tolist() == [True, True, False, True, False, False, True, True, True]
    _, state, words = rows.states(2023)
    assert (state.tolist(), words[0]) == ([0, 1, 2, 0], "Embedded")
    boxes, state, words = rows.states(None)
    # In all of the two years; in some; in none; in some; in all.
    assert state.tolist() == [0, 1, 2, 1, 0]
    assert boxes[:, 0].tolist() == [0, 2, 4, 6, 179.5]
    assert words == ("Usable in all 2 years", "Usable in some years", "Usable in no year")
    inside = rows.inside(Region.from_geometry(shapely.box(-180, 50, -179.9, 51)), boxes)
    assert inside.tolist() == [False] * 4 + [True]
    assert len(rows.of(rows.year == 2023)) == 4


def test_rows_on_the_grid() -> None:
    found = TileRows.of_table(table(ROWS)).coverage("v1.1", "dclimate")
    assert (found.id, found.years) == ("v1.1_dclimate", (2023, 2024))
    usable = {2023: [A, (179.5, 50, 180, 51), (-180, 50, -179.5, 51)],
              2024: [A, B, D, (179.5, 50, 180, 51), (-180, 50, -179.5, 51)]}  # fmt: skip
    for year, boxes in usable.items():
        expected = np.zeros((3600, 1800), bool)
        for west, south, east, north in boxes:
            expected[
                round((west + 180) * 10) : round((east + 180) * 10),
                round((south + 90) * 10) : round((north + 90) * 10),
            ] = True
        np.testing.assert_array_equal(found.of_year(year), expected)
    assert found.metadata()["total_no_coverage"] == 100  # that of tile c


def test_rows_are_drawn_by_their_state(tmp_path: Path) -> None:
    rows = TileRows.of_table(table(ROWS))
    region = Region.from_bbox((-1, 49, 8, 52))
    frame = frame_for(800, region)
    red = (178, 34, 34)
    for year, colors in ((None, (GREEN, ORANGE, red, ORANGE)), (2023, (GREEN, ORANGE, red, None)),
                         (2024, (GREEN, GREEN, red, GREEN))):  # fmt: skip
        draw_rows(rows, tmp_path / "r.png", year=year, width=800, region=region, tile_alpha=1,
                  show_countries=False)  # fmt: skip
        picture = pixels(tmp_path / "r.png")
        for (west, *_), color in zip((A, B, C, D), colors, strict=True):
            assert at(picture, frame, west + 0.37, 50.77) == (color or (255, 255, 255))


def test_an_empty_table_and_one_of_something_else(tmp_path: Path) -> None:
    rows = TileRows.of_table(pd.DataFrame(columns=["zone", "year", "tile"]))
    draw_rows(rows, tmp_path / "r.png", width=300)
    assert rows.coverage("v1.1", "x").years == ()
    with pytest.raises(InputError, match="eligible_px"):
        TileRows.of_table(table(ROWS).drop(columns="eligible_px"))


# --- Real lists ---------------------------------------------------------------------------


@pytest.mark.real
def test_a_real_list_and_its_summary_come_out_as_they_were_published(tmp_path: Path) -> None:
    source = realdata.path("coverage/coverage_v2_2B-L~beta2_2025.json")
    listed = json.loads(source.read_text())
    tiles: dict[Place, list[int]] = {
        (float(lon), float(lat)): [2025] for lon, lat in (name.split(",") for name in listed)
    }
    made_here = made([2025], tiles)
    found = Coverage(made_here.years, made_here.bits, None, "v2", "2B-L~beta2")
    files = write_coverage_files(found, tmp_path, (1, 2, 3))
    assert [path.name for path in files.years] == [source.name]
    assert files.years[0].read_text() == source.read_text().strip()
    for published in (
        "coverage_v1_vultr.json", "coverage_v1.1_cambridge.json", "coverage_v2_2B-L~beta2.json",
    ):  # fmt: skip
        other = json.loads(realdata.path(f"coverage/{published}").read_text())
        ours = json.loads(files.summary.read_text())
        assert list(ours) == list(other)
        assert list(ours["metadata"]) == list(other["metadata"])
        assert [type(value) for value in ours.values()] == [type(v) for v in other.values()]
    assert ours["dataset_id"] == other["dataset_id"]
    assert ours["year_file_prefix"] == other["year_file_prefix"]


@pytest.mark.real
def test_real_registry_lists_become_a_map(tmp_path: Path) -> None:
    tiles: dict[Place, list[int]] = {}
    for year in range(2017, 2024):
        names = realdata.path(f"registry/registry_{year}.txt").read_text().split()[::4]
        for name in names:
            _, lon, lat = name.split("/")[1].split("_")
            tiles.setdefault((float(lon), float(lat)), []).append(year)
    found = made(list(range(2017, 2024)), tiles)
    # The README's numbers of the lists.
    assert list(found.counts().values()) == [3994, 4050, 4055, 4057, 4055, 4220, 4046]
    assert found.metadata()["total_tiles"] == 4226
    texture = coverage_texture(found)
    assert (texture == (0, 200, 0, 255)).all(axis=-1).sum() == 3976
    austria = Region.from_country("AUT")
    chosen = austria.select((2017, *place) for place in tiles)
    inside = region_cells(austria, found.covered)
    assert np.count_nonzero(inside) == len(chosen) == 34  # two of the block are Slovakia's
    np.testing.assert_array_equal(inside, mask([(lon, lat) for _, lon, lat in chosen]))
