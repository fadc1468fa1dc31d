"""`geotessera.web`: the names and habits of earlier releases."""

import inspect
import json
import re
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject

import geotessera
from geotessera import web
from geotessera.errors import FormatError, InputError
from geotessera.regions import Region
from geotessera.webmap.viewing import outline_of, relative_url

PLACE = ("EPSG:32633", (500_000, 5_150_000), 10)


def write(path, pixels, crs, origin, size, **more):
    count, height, width = pixels.shape
    transform = rasterio.transform.from_origin(*origin, size, size)
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width,
               "dtype": pixels.dtype, "crs": crs, "transform": transform} | more  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def picture(tmp_path):
    row, col = np.mgrid[:200, :240]
    pixels = np.stack([row, col, (row + col) // 2]).astype(np.uint8)
    return write(tmp_path / "picture.tif", pixels, *PLACE)


def data_of(page):
    """What a page was told."""
    text = page.read_text()
    found = re.search(
        r'<script[^>]*type="application/json"[^>]*id="data"[^>]*>(.*?)</script>', text
    )
    found = found or re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_names_are_upstreams():
    assert geotessera.web is web
    assert "web" in dir(geotessera)
    signatures = {
        name: list(inspect.signature(getattr(web, name)).parameters) for name in web.__all__
    }
    assert signatures["prepare_mosaic_for_web"] == [
        "input_mosaic", "output_path", "target_crs", "progress_callback"]  # fmt: skip
    assert signatures["geotiff_to_web_tiles"][:4] == [
        "geotiff_path", "output_dir", "zoom_levels", "use_gdal_raster"]  # fmt: skip
    assert signatures["create_simple_web_viewer"] == [
        "tiles_dir", "output_html", "center_lon", "center_lat", "zoom", "title",
        "region_file"]  # fmt: skip
    assert signatures["create_coverage_summary_map"] == [
        "geotiff_paths", "output_html", "title"]  # fmt: skip


def test_the_module_is_light():
    code = "import geotessera, sys; geotessera.web; print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# --- Warping -------------------------------------------------------------------------------


def test_a_picture_is_warped_with_alpha(tmp_path, picture):
    seen = []
    out = tmp_path / "new" / "web.tif"
    found = web.prepare_mosaic_for_web(
        picture, str(out), progress_callback=lambda done, total, text: seen.append((done, total))
    )
    assert found == str(out)
    assert seen[-1][0] == seen[-1][1]
    with rasterio.open(picture) as source, rasterio.open(out) as warped:
        transform, width, height = calculate_default_transform(
            source.crs, "EPSG:3857", source.width, source.height, *source.bounds
        )
        assert warped.crs.to_epsg() == 3857
        assert (warped.width, warped.height, warped.count) == (width, height, 4)
        assert warped.transform.almost_equals(transform, 1e-6)
        assert warped.compression.value == "LZW"
        expected = np.zeros((3, height, width), np.uint8)
        reproject(
            source.read(), expected, src_transform=source.transform, src_crs=source.crs,
            dst_transform=transform, dst_crs="EPSG:3857", resampling=Resampling.bilinear,
        )  # fmt: skip
        values = warped.read()
    inner = (slice(None), slice(20, -20), slice(20, -20))
    assert np.abs(values[:3][inner].astype(int) - expected[inner]).max() <= 1
    assert (values[3][20:-20, 20:-20] == 255).all()


def test_what_is_in_the_crs_is_left_where_it_is(tmp_path):
    path = write(tmp_path / "p.tif", np.zeros((3, 8, 8), np.uint8), "EPSG:3857", (0, 0), 10)
    assert web.prepare_mosaic_for_web(path, tmp_path / "out.tif") == str(path)
    assert not (tmp_path / "out.tif").exists()
    assert web.prepare_mosaic_for_web(str(path), tmp_path / "out.tif", 3857) == str(path)


def test_floats_keep_their_nodata(tmp_path):
    pixels = np.full((1, 40, 40), 7, np.float32)
    path = write(tmp_path / "p.tif", pixels, *PLACE, nodata=np.nan)
    web.prepare_mosaic_for_web(path, tmp_path / "out.tif", "EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as warped:
        assert (warped.count, warped.dtypes[0]) == (1, "float32")
        values = warped.read(1)
    assert set(np.unique(values[np.isfinite(values)])) == {7}


def test_a_failed_warp_leaves_nothing(tmp_path):
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(FormatError):
        web.prepare_mosaic_for_web(tmp_path / "text.tif", tmp_path / "new" / "out.tif")
    with pytest.raises(FileNotFoundError):
        web.prepare_mosaic_for_web(tmp_path / "none.tif", tmp_path / "new" / "out.tif")
    with pytest.raises(InputError):
        web.prepare_mosaic_for_web(tmp_path / "text.tif", tmp_path / "out.tif", "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.tif"]


# --- Tiles and viewers ---------------------------------------------------------------------


def test_tiles_are_cut_and_shown(tmp_path, picture):
    out = web.geotiff_to_web_tiles(picture, tmp_path / "map" / "my tiles", (10, 13))
    assert out == str(tmp_path / "map" / "my tiles")
    page = tmp_path / "pages" / "view.html"
    assert web.create_simple_web_viewer(out, page, 15.0, 46.5, 12, "A <title>") == str(page)
    data = data_of(page)
    assert data["tiles"] == "../map/my%20tiles/{z}/{x}/{y}.png"
    assert data["scheme"] == "xyz"
    assert data["zooms"] == [10, 13]
    assert data["center"] == [15.0, 46.5]
    assert data["initialZoom"] == 12
    assert data["title"] == "A <title>"
    assert data["bounds"][0] == pytest.approx(15.0, abs=0.01)


def test_a_tile_generator_that_is_not_needed_changes_nothing(tmp_path, picture):
    web.geotiff_to_web_tiles(picture, tmp_path / "a", (12, 12), use_gdal_raster=True)
    web.geotiff_to_web_tiles(picture, tmp_path / "b", (12, 12))
    names = [{p.relative_to(tmp_path / d) for p in (tmp_path / d).rglob("*.png")} for d in "ab"]
    assert names[0] == names[1] != set()


def test_tiles_that_say_nothing_are_counted_from_the_south(tmp_path):
    for name in ("9/1/2.png", "12/9/9.png"):
        (tmp_path / "tiles" / name).parent.mkdir(parents=True)
        (tmp_path / "tiles" / name).write_bytes(b"png")
    web.create_simple_web_viewer(tmp_path / "tiles", tmp_path / "view.html")
    data = data_of(tmp_path / "view.html")
    assert data["scheme"] == "tms"
    assert data["zooms"] == [9, 12]
    assert data["tiles"] == "tiles/{z}/{x}/{y}.png"


def test_outlines_are_drawn(tmp_path, picture):
    shape = shapely.box(500_500, 5_148_500, 501_500, 5_149_500)
    frame = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633")
    frame.to_file(tmp_path / "region.gpkg")
    web.geotiff_to_web_tiles(picture, tmp_path / "tiles", (12, 12))
    web.create_simple_web_viewer(
        tmp_path / "tiles", tmp_path / "v.html", region_file=str(tmp_path / "region.gpkg")
    )
    drawn = shapely.geometry.shape(data_of(tmp_path / "v.html")["region"]["geometry"])
    wanted = frame.to_crs("EPSG:4326").geometry.iloc[0]
    assert drawn.symmetric_difference(wanted).area < 0.001 * wanted.area


def test_boxes_across_the_antimeridian_are_drawn_in_one_piece():
    feature = outline_of(Region.from_bbox("179,-17,-179,-16"))
    assert shapely.geometry.shape(feature["geometry"]).bounds == (179, -17, 181, -16)


def test_urls_are_relative_and_quoted(tmp_path):
    assert relative_url(tmp_path / "a b" / "tiles#1", tmp_path / "a b" / "v.html") == "tiles%231"
    assert relative_url(tmp_path / "tiles", tmp_path / "x" / "v.html") == "../tiles"


def test_a_failure_leaves_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        web.geotiff_to_web_tiles(tmp_path / "none.tif", tmp_path / "tiles")
    assert list(tmp_path.iterdir()) == []


def test_footprints_are_shown(tmp_path, picture, caplog):
    picture = picture.rename(tmp_path / "grid_15.05_46.45_2024.tiff")
    other = write(
        tmp_path / "grid_1.05_1.95_2023.tiff",
        np.zeros((2, 9, 9), np.float32),
        "EPSG:4326",
        (1, 2),
        0.01,
    )
    (tmp_path / "bad.tif").write_text("no raster")
    files = [picture, str(other), tmp_path / "bad.tif"]
    page = web.create_coverage_summary_map(files, tmp_path / "map.html", "Mine")
    assert page == str(tmp_path / "map.html")
    assert "bad.tif" in caplog.text
    data = data_of(tmp_path / "map.html")
    assert data["tiles"] == ""
    assert data["title"] == "Mine"
    boxes = [shapely.geometry.shape(one["geometry"]) for one in data["region"]["features"]]
    assert len(boxes) == 2
    assert boxes[1].bounds == pytest.approx((1, 1.91, 1.09, 2))
    assert data["bounds"] == pytest.approx([1, 1.91, boxes[0].bounds[2], boxes[0].bounds[3]])
    with pytest.raises(ValueError, match="could be read"):
        web.create_coverage_summary_map([tmp_path / "bad.tif"], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
