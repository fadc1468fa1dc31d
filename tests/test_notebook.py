"""What notebooks show: valid, escaped, small, and made of what is there already."""

from __future__ import annotations

import io
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geotessera import notebook
from geotessera.core import GeoTessera
from geotessera.grid import tile_footprint
from geotessera.mosaic import MosaicRaster, plan_region
from geotessera.regions import Region
from geotessera.sources import NpyTile
from geotessera.store import GeoTesseraZarr
from geotessera.testing.server import LoopbackServer
from geotessera.testing.stores import SampleStore
from geotessera.types import Block, GridSpec, Provenance, QuantizedRaster

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

EVIL = "<script>alert('x')</script>\"&'\x00\x1b"
VOID = {"img", "br", "meta", "path", "image"}


class Checker(HTMLParser):
    """Follows the nesting of elements, and collects what is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def checked(page: str) -> Checker:
    """Parse HTML that a notebook is given, and check what holds for all of it."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert not {"script", "iframe", "link", "object", "embed"} & set(checker.seen)
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert "url(" not in page
    assert len(page) < 300_000
    # Neither black nor white is written: the page's own colours are used.
    assert not re.search(r"(?i)#(000|fff)\b|\b(black|white)\b", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)  # XML too
    page.encode()
    return checker


def shown(value: Any) -> Checker:
    return checked(value._repr_html_())


# --- The parts -----------------------------------------------------------------------------


@given(st.text())
def test_text_stands_for_itself(text: str) -> None:
    page = f'<p title="{notebook.escape(text)}">{notebook.escape(text)}</p>'
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.seen == ["p"]
    assert checker.open == []
    page.encode()


def test_a_card_escapes_all() -> None:
    page = notebook.card(EVIL, {EVIL: EVIL, "empty": "", "none": None, "zero": 0})
    checker = checked(page)
    words = "".join(checker.words)
    assert words.count("<script>alert('x')</script>") == 3
    assert "zero" in words
    assert "empty" not in words
    assert "none" not in words


@pytest.mark.parametrize("channels", [3, 4])
def test_a_png_is_read_back(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 11, channels), np.uint8)
    with Image.open(io.BytesIO(notebook.png(pixels))) as found:
        np.testing.assert_array_equal(np.asarray(found), pixels)


def test_a_picture_is_named() -> None:
    page = notebook.picture(np.zeros((4, 8, 3), np.uint8), EVIL, width=80)
    assert checked(page).seen == ["img"]
    assert 'width="80" height="40"' in page


@given(
    st.lists(
        st.tuples(*[st.floats(-400, 400) | st.sampled_from([float("nan"), float("inf")])] * 4),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_boxes_make_a_map_or_none(boxes: list[tuple[float, ...]], degrees: bool) -> None:
    page = notebook.map_svg(boxes, label=EVIL, degrees=degrees)
    sound = [box for box in boxes if np.isfinite(box).all() and box[1] <= box[3]]
    assert (page == "") == (not sound)
    if page:
        checked(page)
        assert "nan" not in page
        assert "inf" not in page
        width, height = (int(number) for number in re.findall(r'(?:width|height)="(\d+)"', page))
        assert 0 < width <= notebook.WIDTH
        assert 0 < height <= notebook.HEIGHT


def _paths(page: str) -> list[list[float]]:
    return [[float(n) for n in re.findall(r"-?\d+\.\d", path)] for path in
            re.findall(r' d="(M[^"]*)" fill="#', page)]  # fmt: skip


def test_a_box_is_where_it_is() -> None:
    page = notebook.map_svg([(10, 10, 20, 20)], label="x", view=(0, 0, 40, 30), degrees=False)
    # 320 by 240 pixels: 8 to a unit.
    assert _paths(page) == [[80.0, 80.0, 160.0, 160.0, 80.0]]


def test_a_box_across_the_antimeridian_is_in_one_piece() -> None:
    page = notebook.map_svg([(179, 0, -179, 1)], label="x")
    left, _, right, *_ = _paths(page)[0]
    assert right - left > notebook.WIDTH / 2
    assert "180°" in page


def test_many_boxes_make_a_short_page() -> None:
    boxes = [(x / 10, y / 10, x / 10 + 0.1, y / 10 + 0.1) for x in range(200) for y in range(200)]
    page = notebook.map_svg(boxes, label="x")
    assert len(page) < 100_000
    checked(page)
    ink = sum((right - left) * 3 for left, _, right, _, _ in np.reshape(_paths(page)[0], (-1, 5)))
    assert ink == pytest.approx((1 / 1.3) ** 2 * 236 * 240, rel=0.15)  # what the boxes cover


@pytest.mark.parametrize(
    ("value", "text"), [(181, "179°W"), (-180, "180°"), (0, "0°"), (12.5, "12.5°E"), (179, "179°E")]
)
def test_longitudes_are_called_as_people_do(value: float, text: str) -> None:
    page = notebook.map_svg(
        label="x", view=(value - 0.001, 0, value + 0.001, 0.001), rings=[[(value, 0)]]
    )
    assert f">{text}</text>" in page


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_blocks_of_cells(rows: int, columns: int, side: int, seed: int) -> None:
    cells = np.random.default_rng(seed).random((rows, columns)) < 0.05
    found = notebook.any_in_blocks(cells, side)
    expected = [
        [cells[r : r + side, c : c + side].any() for c in range(0, columns, side)]
        for r in range(0, rows, side)
    ]
    np.testing.assert_array_equal(found, expected)


# --- Regions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region",
    [
        Region.from_bbox("0.1,52.0,0.3,52.1"),
        Region.from_bbox("170,-20,-170,-10"),
        Region.from_country("France"),
        Region.from_country("Fiji"),
        Region.from_country("Antarctica"),
        Region.from_geometry(shapely.Point(1, 2), EVIL),
        Region.from_geometry(shapely.LineString([(1, 2), (3, 4)]), EVIL),
        Region.from_geometry(shapely.box(179, 0, 181, 1) - shapely.box(179.5, 0.2, 180.5, 0.8)),
    ],
    ids=lambda region: region.name[:12],
)
def test_regions(region: Region) -> None:
    assert {"table", "svg"} <= set(shown(region).seen)


def test_an_outline_in_two_halves_is_drawn_in_one_piece() -> None:
    page = Region.from_geometry(shapely.box(179, 0, 181, 1))._repr_html_()
    xs = np.concatenate([path[::2] for path in _paths(page)])
    assert np.ptp(xs) > notebook.WIDTH / 2  # not at two ends of a map of the world


# --- Blocks --------------------------------------------------------------------------------

GRID = GridSpec(32631, (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_800_000.0), 300, 400)


def block(layout: Any = "hwc", bands: int = 4, rows: int = 300, columns: int = 400) -> Block:
    shape = (rows, columns, bands) if layout == "hwc" else (bands, rows, columns)
    grid = GridSpec(GRID.epsg_or_wkt, GRID.transform, rows, columns)
    values = np.random.default_rng(2).standard_normal(shape, np.float32)
    return Block(values, None, grid, layout, provenance=Provenance(EVIL, EVIL, 2024, EVIL))


def thumbnail(page: str) -> Image.Image | None:
    found = re.search(r'<img [^>]*base64,([^"]*)"', page)
    return Image.open(io.BytesIO(b64decode(found[1]))) if found else None


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("bands", [1, 2, 4])
def test_blocks(layout: str, bands: int) -> None:
    one = block(layout, bands)
    words = "".join(shown(one).words)
    assert f"300 × 400 pixels × {bands} bands" in words
    assert "EPSG:32631" in words
    image = thumbnail(one._repr_html_())
    assert image is not None
    assert image.size == (134, 100)
    assert np.asarray(image)[..., 3].min() == 255


@pytest.mark.parametrize("per_band", [False, True])
def test_quantised_rasters_show_where_nothing_is(per_band: bool) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-127, 128, (300, 400, 4), np.int8)
    scales = np.ones((300, 400, 4) if per_band else (300, 400), np.float32)
    scales[:, :200] = np.nan
    image = thumbnail(QuantizedRaster(values, scales, GRID)._repr_html_())
    assert image is not None
    alpha = np.asarray(image)[..., 3]
    assert alpha[:, :66].max() == 0
    assert alpha[:, 68:].min() == 255


def test_an_empty_block_has_no_thumbnail() -> None:
    assert thumbnail(block(rows=0)._repr_html_()) is None
    assert thumbnail(block(bands=0)._repr_html_()) is None


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(4 * 20_000 * 1_000)
    mapped = np.memmap(path, np.float32, "r", shape=(20_000, 250, 4))
    grid = GridSpec(32631, GRID.transform, 20_000, 250)
    assert thumbnail(Block(mapped[::-1], None, grid)._repr_html_()) is None
    small = Block(mapped[:300], None, GridSpec(32631, GRID.transform, 300, 250))
    assert thumbnail(small._repr_html_()) is not None


# --- Clients, registries, plans ------------------------------------------------------------


def client(world: SampleWorld, tmp_path: Path, **options: Any) -> GeoTessera:
    cache = tmp_path / "cache <b>"
    return GeoTessera(
        "v1.1", "cambridge", cache_dir=cache, base_url=str(world.root("B")), **options
    )


def test_clients_and_registries(small_world: SampleWorld, tmp_path: Path) -> None:
    tessera = client(small_world, tmp_path, embeddings_dir=tmp_path / "<b>tiles")
    words = "".join(shown(tessera).words)
    assert str(tmp_path / "<b>tiles") in words
    for year, count in tessera.registry.get_tile_counts_by_year().items():
        assert f"{year}{count} tiles" in words
    assert "svg" in shown(tessera.registry).seen


def test_tiles_are_drawn_where_they_are(tiny_world: SampleWorld, tmp_path: Path) -> None:
    registry = client(tiny_world, tmp_path).registry
    cells, (west, south, east, north) = registry._cells_there()
    height, width = (north - south) / cells.shape[0], (east - west) / cells.shape[1]
    found = {
        (round(west + (col + 0.5) * width, 2), round(north - (row + 0.5) * height, 2))
        for row, col in np.argwhere(cells).tolist()
    }
    assert found == {(lon, lat) for _, lon, lat in registry.get_available_embeddings()}


@pytest.mark.parametrize("bbox", [(179.0, 83.0, 180.0, 84.0), (23.0, 83.0, 25.0, 84.0)])
def test_registries_of_a_region(
    small_world: SampleWorld, tmp_path: Path, bbox: tuple[float, float, float, float]
) -> None:
    checker = shown(client(small_world, tmp_path, bbox=bbox))
    assert "svg" in checker.seen


def raster(lon: float, lat: float) -> MosaicRaster:
    name = f"grid_{lon:.2f}_{lat:.2f}"
    return MosaicRaster(
        NpyTile(f"{name}.npy", f"{name}_scales.npy", f"{name}.tiff"),
        tile_footprint(lon, lat),
        4,
        provenance=Provenance("1.1", EVIL, 2024),
        identity="tile",
    )


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326", "EPSG:3857"])
def test_plans(crs: str) -> None:
    rasters = [raster(lon, lat) for lon in (0.05, 0.15, 0.25) for lat in (52.15, 52.25)]
    plan = plan_region(rasters, (0.0, 52.1, 0.3, 52.3), crs=crs)
    page = plan._repr_html_()
    words = "".join(checked(page).words)
    for line in str(plan).splitlines()[1:]:
        assert line[11:].translate({0: "�", 27: "�"}) in words
    (path,) = _paths(page)
    corners = np.reshape(path, (-1, 5))
    assert len(corners) == len(plan.rasters)
    assert corners[:, [0, 2]].min() == pytest.approx(0, abs=3)
    assert corners[:, [0, 2]].max() == pytest.approx(_size(page)[0], abs=3)
    assert ("°E" in words) == (crs == "EPSG:4326")


def _size(page: str) -> tuple[int, int]:
    found = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', page)
    assert found is not None
    return int(found[1]), int(found[2])


def test_stores(tmp_path: Path) -> None:
    stores = SampleStore.build(tmp_path / "store <b>", size="tiny")
    zarr = GeoTesseraZarr(stores.path)
    page = zarr._repr_html_()
    words = "".join(checked(page).words)
    assert "store <b>" in words
    assert "30, 31" in words
    assert all(str(year) in words for year in zarr.years)
    # Zones 30 and 31 meet in the middle of the map.
    left, _, right, *_ = _paths(page)[0][:3]
    assert right == pytest.approx(_size(page)[0] / 2, abs=1)
    assert left < right
    tessera = GeoTessera(
        "v1.1", "dclimate", source="zarr", store_url=stores.path, cache_dir=tmp_path
    )
    words = "".join(shown(tessera).words)
    assert "a Zarr store" in words
    assert "store <b>" in words
    assert shown(tessera.registry).open == []


def test_nobody_is_asked(small_world: SampleWorld, tmp_path: Path) -> None:
    store = SampleStore.build(tmp_path / "web" / "store", size="tiny")
    with (
        LoopbackServer(small_world.root("B")) as mirror,
        LoopbackServer(store.path.parent) as stores,
    ):
        tessera = GeoTessera("v1.1", "cambridge", base_url=mirror.url, cache_dir=tmp_path / "c")
        zarr = GeoTesseraZarr(stores.url + "/store")
        cells = GeoTessera(
            "v1.1", "dclimate", source="zarr", store_url=stores.url + "/store", cache_dir=tmp_path
        )
        before = len(mirror.requests), len(stores.requests)
        assert min(before) > 0
        for one in (tessera, tessera.registry, zarr, cells, cells.registry):
            shown(one)
        assert (len(mirror.requests), len(stores.requests)) == before


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(tmp_path: Path, scheme: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    parts = [block()._repr_html_(), Region.from_country("Fiji")._repr_html_()]
    path = tmp_path / "page.html"
    path.write_text(
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>t</title>'
        f'<meta name="color-scheme" content="light dark"><body>{"".join(parts)}',
        encoding="utf-8",
    )
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(color_scheme=scheme)
        problems: list[Any] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(path.as_uri())
        assert page.evaluate("document.images[0].naturalWidth") == 134
        drawing = page.locator("svg").screenshot()
        words = page.locator("table").first
        ink = words.evaluate("e => getComputedStyle(e).color")
        browser.close()
    assert problems == []
    light = [int(number) for number in re.findall(r"\d+", ink)][:3]
    assert (min(light) > 200) if scheme == "dark" else (max(light) < 60)
    with Image.open(io.BytesIO(drawing)) as found:
        assert len(found.convert("RGB").getcolors(1 << 20) or []) > 3
