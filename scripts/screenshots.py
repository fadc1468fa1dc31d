"""Make the pictures of the documentation from what `geotessera demo DIR` left.

Usage: screenshots.py DIR

Writes docs/images/: the viewer and a globe as Chromium draws them, without a network, and the
demo's PCA picture. The demo has four tiles; the globe is of an invented planet. Needs Debian's
chromium and Playwright.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import rasterio
import rasterio.features
import rasterio.transform
import rasterio.warp
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from geotessera.country import country_features
from geotessera.pages import GlobeDataset, write_globe

OUT = Path(__file__).parents[1] / "docs" / "images"
LIMIT = 250_000  # bytes; a README is read over slow lines too
SIZE = {"width": 1200, "height": 750}
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]

EARLIER = {"GBR": 0b101111111, "IRL": 0b101111111, "KEN": 0b101110000, "CHE": 0b100100000}
"""Years before and after 2024, a bit each from 2017 on, that some countries have."""


def save(picture: Image.Image, name: str) -> None:
    """Save a picture as large, and then in as many colours, as the limit allows."""
    content = b""
    for colours, width in ((0, 1200), (0, 1000), (0, 700), (256, 1000), (128, 900), (64, 700)):
        small = picture.convert("RGB")
        small.thumbnail((width, width))
        buffer = BytesIO()
        if colours:
            # Small things of a colour of their own, such as legends, keep it.
            small = small.quantize(colours, Image.Quantize.MAXCOVERAGE)
        small.save(buffer, "PNG", optimize=True)
        content = buffer.getvalue()
        if len(content) <= LIMIT:
            break
    (OUT / name).write_bytes(content)
    print(f"{name}: {len(content):,} bytes")


def invented() -> GlobeDataset:
    """Return a planet whose land has tiles of one year, and a few countries of more."""
    years = list(range(2017, 2026))
    shapes = [
        (feature["geometry"], 1 << 7 | EARLIER.get(feature["properties"]["iso_a3"], 0))
        for feature in country_features()
    ]
    place = rasterio.transform.from_origin(-180, 90, 0.1, 0.1)
    bits = rasterio.features.rasterize(shapes, (1800, 3600), transform=place, dtype="uint16")
    return GlobeDataset("v1_invented", "1.0", "invented", None, years, bits)


def shot(browser: Browser, page_file: Path, place: tuple[float, float], zoom: float) -> Image.Image:
    """Return a page as it is drawn, with a place chosen."""
    page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
    page.goto(page_file.absolute().as_uri())
    page.wait_for_selector('html[data-state="ready"]', timeout=120_000)
    move = "([center, zoom]) => void geotesseraMap.jumpTo({ center, zoom })"
    page.evaluate(move, [list(place), zoom])
    point = page.evaluate("(place) => geotesseraMap.project(place)", list(place))
    page.mouse.click(point["x"], point["y"])
    page.wait_for_selector("#place strong")
    page.evaluate(
        "() => new Promise((done) => {"
        "geotesseraMap.once('idle', () => done()); geotesseraMap.triggerRepaint(); })"
    )
    image = Image.open(BytesIO(page.screenshot()))
    page.close()
    return image


def main(work: Path) -> None:
    """Write the pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    with rasterio.open(work / "picture.tif") as picture:
        height = min(picture.height, 900)
        shape = (round(picture.width * height / picture.height), height)
        pixels = picture.read([1, 2, 3], out_shape=(3, *shape[::-1]))
        pixels[:, picture.dataset_mask(out_shape=shape[::-1]) == 0] = 255  # paper
        box = rasterio.warp.transform_bounds(picture.crs, "EPSG:4326", *picture.bounds)
    save(Image.fromarray(pixels.transpose(1, 2, 0)), "picture.png")
    west, south, east, north = box
    place = (west + (east - west) * 0.3, south + (north - south) * 0.45)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        globe = write_globe(Path(scratch) / "globe.html", [invented()])
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        save(shot(browser, work / "webmap" / "viewer.html", place, 9), "viewer.png")
        save(shot(browser, globe, (-1.55, 52.45), 1.6), "globe.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
