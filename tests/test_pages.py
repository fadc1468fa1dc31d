"""The pages, in a real browser that has no network: from a disk and from a server."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import TYPE_CHECKING, Any

import mercantile
import numpy as np
import pytest
import shapely
from PIL import Image
from tests.browser import Chromium, OpenPage, served

from geotessera import grid
from geotessera.country import CountryLookup, country_features
from geotessera.errors import InputError
from geotessera.pages import Basemap, GlobeDataset, write_globe, write_viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUNDS = (0.0, 52.0, 0.3, 52.2)
ZOOMS = (8, 11)
# The tile of zoom 11 that was lost: a place in it, and one on its neighbour.
LOST, FOUND = (0.24, 52.13), (0.12, 52.13)
RUN = "window.broken = 1"
EVIL = f"</script><script>{RUN}</script><img src=x onerror='{RUN}'> & {{{{data}}}} {{name}} ${{1}}"
MARK = (255, 212, 0)  # of a region's outline
YEARS = [2019, 2020, 2024]


def _pixels(tile: mercantile.Tile) -> np.ndarray:
    """Return a tile of a colour for each place: smooth, so that a pixel off is seen."""
    box = mercantile.bounds(tile)
    u = np.linspace(box.west, box.east, 256, endpoint=False) + (box.east - box.west) / 512
    v = np.linspace(box.north, box.south, 256, endpoint=False) - (box.north - box.south) / 512
    lon, lat = np.meshgrid(u, v)
    out = np.zeros((256, 256, 4), np.uint8)
    out[..., 0] = 40 + 600 * np.clip(lon, 0, 0.3)
    out[..., 1] = 40 + 900 * np.clip(lat - 52, 0, 0.2)
    out[..., 2] = 200
    inside = (lon >= BOUNDS[0]) & (lon < BOUNDS[2]) & (lat >= BOUNDS[1]) & (lat < BOUNDS[3])
    out[..., 3] = np.where(inside, 255, 0)
    return out


def _colour(lon: float, lat: float, zoom: int) -> list[int]:
    tile = mercantile.tile(lon, lat, zoom)
    west, south, east, north = mercantile.xy_bounds(tile)
    x, y = mercantile.xy(lon, lat)
    column, row = (x - west) / (east - west) * 256, (north - y) / (north - south) * 256
    return _pixels(tile)[int(row), int(column), :3].tolist()


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles by both numberings, and packs; one tile of the largest zoom is missing."""
    directory = tmp_path_factory.mktemp("mosaic")
    lost = mercantile.tile(*LOST, ZOOMS[1])
    assert lost != mercantile.tile(*FOUND, ZOOMS[1])
    packs: dict[str, dict[str, str]] = {}
    for tile in mercantile.tiles(*BOUNDS, range(ZOOMS[0], ZOOMS[1] + 1)):
        if tile == lost:
            continue
        buffer = io.BytesIO()
        Image.fromarray(_pixels(tile)).save(buffer, "PNG")
        for name, row in (("tiles", tile.y), ("tms", 2**tile.z - 1 - tile.y)):
            path = directory / name / f"{tile.z}/{tile.x}/{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
        pack = packs.setdefault(f"packs/{tile.z}/{tile.x // 8}_{tile.y // 8}.js", {})
        key = f"{tile.z}/{tile.x}/{tile.y}"
        pack[key] = base64.b64encode(buffer.getvalue()).decode()
    for name, pack in packs.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"geotesseraTiles({json.dumps(pack)});")
    return directory


def _viewer(directory: Path, name: str = "viewer.html", **options: Any) -> Path:
    settings = {"tiles": "tiles/{z}/{x}/{y}.png", "packs": "packs/{z}/{x8}_{y8}.js"}
    settings |= {"bounds": BOUNDS, "zooms": ZOOMS, "title": "Cambridge", "initial_zoom": 10}
    return write_viewer(directory / name, **{**settings, **options})


@pytest.fixture(scope="module", params=["disk", "server", "server, TMS"])
def viewer(request: pytest.FixtureRequest, mosaic: Path, chromium: Chromium) -> Iterator[OpenPage]:
    """The viewer, opened in each of the ways it may be."""
    triangle = [[[0.02, 52.02], [0.28, 52.02], [0.02, 52.18], [0.02, 52.02]]]
    facts = {"Dataset": EVIL}
    options: dict[str, Any] = {"title": EVIL, "meta": facts, "legend": [((1, 2, 3), EVIL)]}
    options["region"] = {"type": "Polygon", "coordinates": triangle}
    if request.param == "server, TMS":
        options |= {"tiles": "tms/{z}/{x}/{y}.png", "scheme": "tms"}
    page = _viewer(mosaic, f"viewer {len(request.param)}.html", **options)
    if request.param == "disk":
        with chromium.open(page.as_uri()) as opened:
            yield opened
    else:
        with served(mosaic) as base, chromium.open(f"{base}/{page.name}") as opened:
            yield opened


def test_viewer(viewer: OpenPage) -> None:
    page = viewer.page
    zoom = 10
    for place in ((0.21, 52.05), (0.07, 52.17), (0.16, 52.11)):
        name = grid.tile_to_grid_name(*grid.tile_from_world(*place))
        viewer.click(*place)
        page.wait_for_selector(f"#place strong:text-is('{name}')")
        lon, lat = name.split("_")[1:]
        assert (
            page.inner_text("#command-text") == f"geotessera download --tile={lon},{lat} -o {name}"
        )
        text = page.inner_text("#place")
        shown = [int(v) for v in re.findall(r"\d+", text.partition("RGB")[2])]
        # The place that was clicked is known to a screen's pixel: half a tile's.
        assert np.abs(np.subtract(shown, _colour(*place, zoom))).max() <= 1, place
        assert np.abs(viewer.colour(*place) - np.asarray(shown)).max() <= 2, place
        # Without a click: under the pointer.
        page.wait_for_selector(f"#pointer:has-text('RGB {shown[0]}, {shown[1]}, {shown[2]}')")
    viewer.click(-0.05, 52.11)
    page.wait_for_selector("#place strong:text-is('grid_-0.05_52.15')")
    assert "none here" in page.inner_text("#place")
    assert (viewer.picture().reshape(-1, 3) == MARK).all(axis=1).sum() > 50  # the outline

    # Nothing of what was given ran, and all of it is there to be read.
    assert page.evaluate("window.broken") is None
    assert page.inner_text("h1") == EVIL
    assert page.title() == EVIL
    assert page.inner_text("#legend li") == EVIL
    assert page.text_content("#meta dd") == EVIL
    assert viewer.problems == []
    assert viewer.elsewhere == []


@pytest.mark.parametrize("viewer", ["server"], indirect=True)
def test_viewer_opacity_and_layers(viewer: OpenPage) -> None:
    page = viewer.page
    place = (0.16, 52.11)
    full = viewer.colour(*place)
    page.focus("#opacity")
    page.keyboard.press("Home")
    viewer.settled()
    base = viewer.colour(*place)
    assert page.inner_text("#opacity-value") == "0%"
    assert np.ptp(base.astype(int)) < 20  # land is grey
    assert np.abs(base.astype(int) - full).max() > 40
    page.fill("#opacity", "50")
    viewer.settled()
    half = viewer.colour(*place)
    assert np.abs(half - (base.astype(float) + full) / 2).max() <= 2
    page.fill("#opacity", "100")
    page.uncheck("#show-region")
    viewer.settled()
    assert (viewer.picture().reshape(-1, 3) == MARK).all(axis=1).sum() == 0
    page.check("#show-region")
    page.check("#show-grid")
    viewer.settled()
    gridded = viewer.picture()
    page.uncheck("#show-grid")
    viewer.settled()
    changed = np.abs(viewer.picture().astype(int) - gridded).max(axis=2) > 15
    x, y = map(int, viewer.spot(0.2, 52.13))
    assert changed[y, x - 1 : x + 2].any()
    assert not changed[y, x + 5 : x + 15].any()
    assert viewer.problems == []


def test_missing_tiles_are_empty(viewer: OpenPage) -> None:
    page = viewer.page
    viewer.look(0.18, 52.13, 10)
    for place, there in ((LOST, False), (FOUND, True)):
        viewer.click(*place)
        name = grid.tile_to_grid_name(*grid.tile_from_world(*place))
        page.wait_for_selector(f"#place strong:text-is('{name}')")
        assert ("RGB" in page.inner_text("#place")) is there
        assert bool(np.ptp(viewer.colour(*place).astype(int)) > 60) is there
    # A browser says of itself that a file was not there; the page has nothing to say.
    assert [text for text in viewer.problems if "404" not in text] == []
    viewer.problems.clear()
    assert page.get_attribute("html", "data-state") == "ready"
    page.click("#extent")
    viewer.settled()
    west, south, east, north = page.evaluate("geotesseraMap.getBounds().toArray().flat()")
    assert west < BOUNDS[0] < BOUNDS[2] < east
    assert south < BOUNDS[1] < BOUNDS[3] < north


@pytest.mark.parametrize("viewer", ["server"], indirect=True)
def test_places_have_the_names_of_the_grid(viewer: OpenPage) -> None:
    rng = np.random.default_rng(6)
    places = np.column_stack([rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)]).tolist()
    ends = [[180.0, 0.0], [-180.0, 89.99], [0.1, 0.3], [-0.1, -0.3], [179.9, -89.95], [3.3, 12.7]]
    places += ends + [[k / 10, -k / 20] for k in range(-180, 180, 7)]
    names = viewer.page.evaluate(
        """async (places) => {
          const names = [];
          for (const [lng, lat] of places) {
            geotesseraMap.fire("click", { lngLat: { lng, lat }, point: { x: 0, y: 0 } });
            await new Promise((done) => setTimeout(done));
            names.push(document.querySelector("#place strong").textContent);
          }
          return names;
        }""",
        places,
    )
    expected = [grid.tile_to_grid_name(*grid.tile_from_world(*place)) for place in places]
    assert names == expected


def test_viewer_by_keyboard(mosaic: Path, chromium: Chromium) -> None:
    page_file = _viewer(mosaic, "keys.html")
    with chromium.open(page_file.as_uri(), reduced_motion="reduce") as opened:
        page = opened.page
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "CANVAS":
                break
        assert "Arrow keys" in page.evaluate("document.activeElement.ariaLabel")
        before = page.evaluate("geotesseraMap.getCenter().lng")
        page.keyboard.press("ArrowRight")
        opened.settled()
        page.keyboard.press("+")
        opened.settled()
        assert page.evaluate("geotesseraMap.getZoom()") == pytest.approx(10)
        lng, lat = page.evaluate("geotesseraMap.getCenter().toArray()")
        assert lng > before
        page.keyboard.press("Enter")
        name = grid.tile_to_grid_name(*grid.tile_from_world(lng, lat))
        page.wait_for_selector(f"#place strong:text-is('{name}')")
        assert page.get_attribute("#place", "aria-live") == "polite"
        reached = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        wanted = {"opacity", "show-grid", "show-labels", "extent", "copy"}
        assert wanted <= reached
        # With less motion wanted, the map is where it was sent at once.
        page.click("#extent")
        assert page.evaluate("geotesseraMap.isMoving()") is False
        # Every control says what it is.
        controls = page.query_selector_all("input, button, select, summary, canvas")
        named = """(one) => Boolean(
          one.ariaLabel || one.labels?.length || one.textContent.trim() || one.title)"""
        assert all(page.evaluate(named, one) for one in controls)
        assert opened.problems == []


def test_online_base_map_only_when_asked_for(mosaic: Path, chromium: Chromium) -> None:
    page_file = _viewer(mosaic, "online.html", title="plain")
    with chromium.open(page_file.as_uri()) as opened:
        assert opened.elsewhere == []
        asked = []
        png = io.BytesIO()
        Image.new("RGB", (256, 256), (10, 90, 10)).save(png, "PNG")

        def answer(route: Any) -> None:
            asked.append(route.request.url)
            headers = {"Access-Control-Allow-Origin": "*"}
            route.fulfill(body=png.getvalue(), content_type="image/png", headers=headers)

        opened.page.context.route("https://tiles.example/**", answer)
        opened.page.click("#online summary")
        opened.page.fill("#basemap-url", "https://tiles.example/{z}/{x}/{y}.png")
        opened.page.fill("#basemap-credit", "<b>Somebody</b>")
        opened.page.click("#basemap button[type=submit]")
        opened.settled()
        assert len(asked) > 0
        assert re.fullmatch(r"https://tiles\.example/\d+/\d+/\d+\.png", asked[0])
        assert "<b>Somebody</b>" in opened.page.inner_text(".maplibregl-ctrl-attrib")
        assert opened.colour(-0.1, 52.1).tolist() == [10, 90, 10]
        opened.page.click("#basemap-off")
        opened.settled()
        assert opened.colour(-0.1, 52.1).tolist() != [10, 90, 10]
        assert opened.problems == []


def test_without_webgl_the_page_says_so(mosaic: Path, chromium: Chromium) -> None:
    script = """
      const real = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
        return kind.startsWith("webgl") ? null : real.call(this, kind, ...rest);
      };"""
    page_file = _viewer(mosaic, "plain.html")
    with chromium.open(page_file.as_uri(), state="failed", script=script) as opened:
        notice = opened.page.locator("#notice")
        assert notice.is_visible()
        assert "WebGL" in notice.inner_text()
        assert opened.problems == []


def test_without_packs_a_disk_is_no_place_for_tiles(mosaic: Path, chromium: Chromium) -> None:
    """And a base map that the caller gives is asked for; that it does not answer is no harm."""
    online = Basemap("https://tiles.example/{z}/{x}/{y}.png", "<i>Somebody</i>")
    page_file = _viewer(mosaic, "no packs.html", packs=None, basemap=online)
    with chromium.open(page_file.as_uri()) as opened:
        assert "geotessera serve" in opened.page.inner_text("#notice")
        assert {address.split("/")[2] for address in opened.elsewhere} == {"tiles.example"}
        assert "<i>Somebody</i>" in opened.page.inner_text(".maplibregl-ctrl-attrib")
        assert opened.page.input_value("#basemap-url") == online.url
        assert [text for text in opened.problems if text.startswith("error:")] == [
            text for text in opened.problems if "ERR_FAILED" in text
        ]


def test_narrow_and_dark(mosaic: Path, chromium: Chromium) -> None:
    page_file = _viewer(mosaic, "phone.html")
    phone = {"width": 380, "height": 640}
    with chromium.open(page_file.as_uri(), viewport=phone, color_scheme="dark") as opened:
        page = opened.page
        assert not page.is_visible("#opacity")  # the map first
        assert opened.colour(-0.2, 52.1).max() < 90
        opened.click(0.16, 52.11)
        page.wait_for_selector("#place strong:text-is('grid_0.15_52.15')")
        assert page.is_visible("#place")
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        page.emulate_media(color_scheme="light")
        assert opened.becomes(lambda now: now.colour(-0.2, 52.1).min() > 200)
        assert opened.problems == []


# --- The globe ----------------------------------------------------------------------------


def _cell(lon: float, lat: float) -> tuple[int, int]:
    east, north = grid.tile_from_world(lon, lat)
    return round((89.95 - north) * 10), round((east + 179.95) * 10)


def _country(lon: float, lat: float) -> str:
    for feature in country_features():
        if shapely.contains_xy(shapely.geometry.shape(feature["geometry"]), lon, lat):
            return str(feature["properties"]["name"])
    raise AssertionError


def _masks() -> np.ndarray:
    """Return tiles of all years, of some and of one, in Rwanda and about."""
    masks = np.zeros((1800, 3600), np.uint8)
    row, column = _cell(29.55, -2.05)
    masks[row : row + 8, column : column + 8] = 7
    masks[row + 1, column + 1] = 0b100
    masks[row + 2, column + 2] = 0b001
    masks[row + 3, column + 3] = 0b011
    masks[row + 4, column + 4] = 0
    return masks


ALL, LATEST, OLDER, SOME, NONE = (
    (29.55, -2.05), (29.65, -2.15), (29.75, -2.25), (29.85, -2.35), (29.95, -2.45),
)  # fmt: skip
COLOURS = {ALL: (0, 200, 0), LATEST: (255, 200, 0), OLDER: (200, 100, 0), SOME: (0, 133, 203)}


@pytest.fixture(scope="module")
def globe(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[OpenPage]:
    """A globe of two datasets, from a disk."""
    masks = _masks()
    tinted = GlobeDataset("v2_x", "2.0", EVIL, (200, 0, 120), [2024], (masks & 4 > 0).astype("u2"))
    whole = GlobeDataset("v1_vultr", "1.0", "vultr", None, YEARS, masks)
    directory = tmp_path_factory.mktemp("globe")
    page_file = write_globe(directory / "globe.html", [whole, tinted], title=EVIL)
    with chromium.open(page_file.as_uri(), reduced_motion="reduce") as opened:
        yield opened


def _year(globe: OpenPage, number: int) -> None:
    globe.page.fill("#year", str(number))
    globe.settled()


def test_globe_draws_each_tile_in_its_colour(globe: OpenPage) -> None:
    page = globe.page
    assert page.inner_text("h1") == EVIL
    assert page.inner_text("#count") == "63 tiles, 60 of them in all 3 years"
    globe.look(29.9, -2.4, 8)
    picture = globe.picture()
    for place, colour in COLOURS.items():
        # To within a tenth of a cell of its edges: the cells are crisp.
        for dx, dy in ((0, 0), (0.045, 0.045), (-0.045, -0.045)):
            x, y = globe.spot(place[0] + dx, place[1] + dy)
            assert picture[int(y), int(x)].tolist() == pytest.approx(colour, abs=3), (place, dx)
    x, y = globe.spot(*NONE)
    assert np.ptp(picture[int(y), int(x)].astype(int)) < 20
    _year(globe, 1)  # 2019
    assert page.inner_text("#year-value") == "2019"
    assert page.inner_text("#count") == "62 tiles"
    picture = globe.picture()
    for place, there in ((ALL, True), (LATEST, False), (OLDER, True), (SOME, True), (NONE, False)):
        x, y = globe.spot(*place)
        assert (picture[int(y), int(x)].tolist() == [0, 200, 0]) is there, place
    _year(globe, 0)
    assert page.inner_text("#year-value") == "all years"
    assert page.evaluate("window.broken") is None
    assert globe.problems == []
    assert globe.elsewhere == []


def test_globe_reads_out_tiles(globe: OpenPage) -> None:
    page = globe.page
    globe.look(29.9, -2.4, 8)
    for place, years in ((LATEST, [2024]), (SOME, [2019, 2020]), (ALL, YEARS), (NONE, [])):
        name = grid.tile_to_grid_name(*grid.tile_from_world(*place))
        globe.click(*place)
        page.wait_for_selector(f"#place strong:text-is('{name}')")
        text = page.inner_text("#place")
        assert (", ".join(map(str, years)) or "none in v1 vultr") in text
        assert _country(*place) in text
        assert page.is_visible("#command") is bool(years)
        if years:
            lon, lat = (f"{degrees:.2f}" for degrees in place)
            assert page.inner_text("#command-text") == (
                f"geotessera download --tile={lon},{lat} --year {years[-1]} "
                f"--dataset-version v1 --dataset-variant vultr -o {name}"
            )
    globe.click(*LATEST)
    _year(globe, 2)
    assert "not in 2020" in page.inner_text("#place")
    assert not page.is_visible("#command")
    _year(globe, 3)
    assert "--year 2024" in page.inner_text("#command-text")
    _year(globe, 0)


def test_globe_names_parts_of_countries(globe: OpenPage) -> None:
    page = globe.page
    globe.look(-61.5, 16.2, 8)
    globe.click(-61.65, 16.15)
    page.wait_for_selector("#place strong:text-is('grid_-61.65_16.15')")
    assert "Guadeloupe (France)" in page.inner_text("#place")
    # The country is still the whole of it, as --country has it.
    page.fill("#country", "FRA")
    page.press("#country", "Enter")
    page.wait_for_selector("#place strong:text-is('France')")
    globe.settled()
    west, _, east, _ = CountryLookup().get_bbox("France")
    box = page.evaluate("geotesseraMap.getBounds().toArray().flat()")
    assert box[0] < west < east < box[2]
    marked = page.evaluate("geotesseraMap.getSource('mark').serialize().data.geometry.coordinates")
    longitudes = [x for polygon in marked for ring in polygon for x, _ in ring]
    assert min(longitudes) < -61
    assert max(longitudes) > 55
    assert globe.problems == []


def test_globe_has_datasets(globe: OpenPage) -> None:
    page = globe.page
    page.select_option("#dataset", "v2_x")
    globe.look(29.9, -2.4, 8)
    assert page.inner_text("#count") == "61 tiles"
    assert page.is_disabled("#year")
    base = np.array([244, 242, 236])
    tint = np.array([200, 0, 120]) * 200 / 255 + base * 55 / 255
    assert globe.colour(*ALL).tolist() == pytest.approx(tint, abs=3)
    assert np.ptp(globe.colour(*SOME).astype(int)) < 20
    assert page.evaluate("window.broken") is None
    page.select_option("#dataset", "v1_vultr")
    globe.settled()
    assert page.inner_text("#count") == "63 tiles, 60 of them in all 3 years"


def test_globe_finds_countries_by_keyboard(globe: OpenPage) -> None:
    page = globe.page
    page.fill("#country", "")
    page.focus("#country")
    page.keyboard.type("rw")
    page.keyboard.press("Enter")
    page.wait_for_selector("#place strong:text-is('Rwanda')")
    globe.settled()
    outline = shapely.geometry.shape(CountryLookup().get_outline("Rwanda"))
    rows, columns = np.nonzero(_masks())
    inside = shapely.contains_xy(outline, columns / 10 - 179.95, 89.95 - rows / 10).sum()
    found = int(re.search(r"(\d+) with their centre", page.inner_text("#place"))[1])  # type: ignore[index]
    assert abs(found - inside) <= 2  # the page's outline is simplified to 0.03 degrees
    assert "--country RWA --year 2024" in page.inner_text("#command-text")
    west, south, east, north = CountryLookup().get_bbox("Rwanda")
    box = page.evaluate("geotesseraMap.getBounds().toArray().flat()")
    assert box[0] < west < east < box[2]
    assert box[1] < south < north < box[3]
    page.fill("#country", "Atlantis")
    page.press("#country", "Enter")
    assert "none is called “Atlantis”" in page.inner_text("#place")
    # Enter on the globe reads its centre out.
    globe.look(29.65, -2.15, 5)
    page.focus("canvas")
    page.keyboard.press("Enter")
    page.wait_for_selector("#place strong:text-is('grid_29.65_-2.15')")
    assert globe.problems == []


def test_globe_shows_few_tiles_on_the_whole_globe(globe: OpenPage) -> None:
    globe.look(29.9, -2.4, 1)
    x, y = globe.spot(29.9, -2.4)
    near = globe.picture()[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].astype(int)
    assert (near[..., 1] - near[..., 0]).max() > 60  # green on grey


def test_copies_the_command(tmp_path: Path, chromium: Chromium) -> None:
    dataset = GlobeDataset("v1_vultr", "1.0", "vultr", None, YEARS, _masks())
    write_globe(tmp_path / "globe.html", [dataset], command="get {name} {year}")
    rights = ["clipboard-read", "clipboard-write"]
    with (
        served(tmp_path) as base,
        chromium.open(f"{base}/globe.html", permissions=rights) as opened,
    ):
        opened.look(29.9, -2.4, 8)
        opened.click(*SOME)
        opened.page.click("#copy")
        opened.page.wait_for_selector("#copy:text-is('Copied')")
        copied = opened.page.evaluate("navigator.clipboard.readText()")
        assert copied == "get grid_29.85_-2.35 2020"
        assert opened.problems == []


# --- Without a browser ---------------------------------------------------------------------


def test_a_globe_of_the_planet_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    masks = np.zeros((1800, 3600), np.uint16)
    masks[200:1100, 800:2600] = 511  # 1.6 million tiles
    for year in range(9):
        masks[rng.random(masks.shape) < 0.01] &= ~np.uint16(1 << year)
    dataset = GlobeDataset("v1.1_x", "1.1", "x", None, list(range(2017, 2026)), masks)
    page = write_globe(tmp_path / "globe.html", [dataset])
    assert page.stat().st_size < 3e6


def test_pages_name_no_other_server(tmp_path: Path) -> None:
    dataset = GlobeDataset("v1_x", "1.0", "x", None, [2024], np.zeros((1800, 3600), np.uint8))
    for page in (_viewer(tmp_path), write_globe(tmp_path / "globe.html", [dataset])):
        text = page.read_text()
        assert "default-src 'none'" in text
        assert "MapLibre contributors" in text  # the licence, which names its sources
        text, _, licence = text.partition('id="maplibre-licence"')
        text += licence.partition("</script>")[2]
        found = set(re.findall(r"https?://[\w.-]+", text))
        assert found <= {"http://www.w3.org"}, found  # namespaces of inlined SVG
        # One script runs; the rest are data.
        assert text.count("<script") == text.count("</script>") + 1  # that of the licence is cut
        assert len(re.findall(r'<script type="module">', text)) == 1


def test_no_half_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _viewer(tmp_path)
    whole = page.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="full"):
        _viewer(tmp_path, title="other")
    assert page.read_bytes() == whole
    assert [one.name for one in tmp_path.iterdir()] == [page.name]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"bounds": (0, 1, 2, 1)}, "no box"),
        ({"bounds": (0, float("nan"), 2, 1)}, "no box"),
        ({"zooms": (9, 8)}, "zooms"),
        ({"zooms": (8, 25)}, "zooms"),
        ({"scheme": "quadkey"}, "scheme"),
    ],
)
def test_viewer_refuses(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        _viewer(tmp_path, **options)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"grid": np.zeros((10, 20), np.uint8)}, "shape"),
        ({"grid": np.zeros((1800, 3600), np.int16)}, "unsigned"),
        ({"grid": np.full((1800, 3600), 4, np.uint8)}, "beyond"),
        ({"years": [2024, 2023]}, "ascending"),
        ({"years": []}, "ascending"),
        ({"years": list(range(2010, 2020))}, "bits"),
    ],
)
def test_globe_refuses(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    values: dict[str, Any] = {"years": [2023, 2024], "grid": np.zeros((1800, 3600), np.uint8)}
    values |= {"id": "a", "version": "1.0", "variant": "x", "color": None, **change}
    with pytest.raises(InputError, match=why):
        write_globe(tmp_path / "globe.html", [GlobeDataset(**values)])
    assert not (tmp_path / "globe.html").exists()


def test_globe_refuses_sets(tmp_path: Path) -> None:
    one = GlobeDataset("a", "1.0", "x", None, [2024], np.zeros((1800, 3600), np.uint8))
    for datasets, options in (([], {}), ([one, one], {}), ([one], {"selected": "b"})):
        with pytest.raises(InputError):
            write_globe(tmp_path / "globe.html", datasets, **options)


def test_outlines_stay_near_the_bundled_ones() -> None:
    import zlib

    from geotessera.pages.outlines import packed_countries

    packed = json.loads(zlib.decompress(base64.b64decode(packed_countries(0.03, 0.005))))
    assert len(packed["countries"]) == len(country_features())

    def polygons(country: dict[str, Any]) -> list[shapely.Polygon]:
        paths = [
            [np.cumsum(np.reshape(ring, (-1, 2)), axis=0) * packed["step"] for ring in rings]
            for rings in country["rings"]
        ]
        return [shapely.Polygon(first, rest) for first, *rest in paths]

    every = [one for country in packed["countries"] for one in polygons(country)]
    sound = shapely.make_valid(np.array(every))
    # Each place is drawn once; rounded to 0.005 degrees, borders may cross by so much.
    assert shapely.area(sound).sum() - shapely.union_all(sound).area < 0.05
    for feature, country in zip(country_features(), packed["countries"], strict=True):
        outline = shapely.geometry.shape(feature["geometry"])
        own = [one for one in packed["countries"] if one.get("partOf") == country["name"]]
        drawn = shapely.MultiPolygon([one for part in (country, *own) for one in polygons(part)])
        # Of the area nearly all is left: what goes is at the edges.
        lost = shapely.symmetric_difference(shapely.make_valid(drawn), outline).area
        assert lost < 0.03 * outline.length, country["name"]
        west, _, east, _ = country["box"]
        width = min(outline.bounds[2] - outline.bounds[0], 360)
        assert east - west <= width + 0.02
        spans = [(part.bounds[0], part.bounds[2]) for part in shapely.get_parts(outline)]
        for left, right in spans:
            turn = 0 if left >= west - 0.01 else 360
            assert west - 0.01 <= left + turn
            assert right + turn <= east + 0.01
    boxes = {country["name"]: country["box"] for country in packed["countries"]}
    assert boxes["Fiji"][2] - boxes["Fiji"][0] < 10  # it crosses the antimeridian
    assert boxes["Rwanda"] == pytest.approx(CountryLookup().get_bbox("Rwanda"), abs=0.01)


def test_the_library_is_what_its_source_says() -> None:
    from importlib import resources

    vendor = resources.files("geotessera.pages").joinpath("vendor")
    source = vendor.joinpath("SOURCE.txt").read_text()
    version = re.search(r"MapLibre GL JS (\d+\.\d+\.\d+)", source)[1]  # type: ignore[index]
    head = vendor.joinpath("maplibre-gl.mjs").read_text()[:300]
    assert f"/v{version}/" in head
    assert "BSD-3-Clause" in source
    assert "MapLibre contributors" in vendor.joinpath("LICENSE.txt").read_text()
