"""Tiles against rasterio's warp, mercantile's numbering and plain NumPy."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mercantile
import numpy as np
import pytest
import rasterio
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject, transform, transform_bounds
from rasterio.windows import Window as RasterioWindow

from geotessera.errors import EmptySelectionError, FormatError, InputError
from geotessera.mosaic.record import Record
from geotessera.regions import Region
from geotessera.webmap import build_tiles, check_zooms, read_scheme
from geotessera.webmap.region_plan import crs_of_region
from waiting import until

SIDE = 256


def field(height, width, seed=0):
    """Smooth colours, so that positions show in values."""
    row, col = np.mgrid[:height, :width]
    waves = [
        np.sin(row / (17 + seed)) + np.cos(col / 23),
        np.sin(col / (11 + seed)) - np.cos(row / 31),
        np.sin((row + col) / (19 + seed)) * 2,
    ]
    return np.stack([np.round(127 + 60 * wave) for wave in waves]).astype(np.uint8)


def write(path, pixels, crs, origin, size, *, mask=None, nodata=None, **more):
    """Write (bands, rows, columns) north-up."""
    across, down = size if isinstance(size, tuple) else (size, size)
    count, height, width = pixels.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width,
        "dtype": pixels.dtype, "crs": crs, "transform": from_origin(*origin, across, down),
        "nodata": nodata, "tiled": True, "blockxsize": 128, "blockysize": 128,
    } | more  # fmt: skip
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


@pytest.fixture
def picture(tmp_path):
    """A picture of 3.0 × 2.6 km in UTM with a hole, near 15° E 46.5° N."""
    mask = np.ones((300, 260), bool)
    mask[100:140, 50:90] = False
    origin = (500_000, 5_150_000)
    return write(tmp_path / "utm.tif", field(300, 260), "EPSG:32633", origin, 10, mask=mask)


def read(directory, tile):
    """Pixels of a tile, zeros where there is none."""
    path = Path(directory) / f"{tile[0]}/{tile[1]}/{tile[2]}.png"
    if not path.exists():
        return np.zeros((SIDE, SIDE, 4), np.uint8)
    with Image.open(path) as image:
        assert image.size == (SIDE, SIDE)
        return np.asarray(image.convert("RGBA"))


def tiles_in(directory):
    found = Path(directory).glob("[0-9]*/[0-9]*/[0-9]*.png")
    return {tuple(map(int, (p.parts[-3], p.parts[-2], p.stem))) for p in found}


def contents(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in Path(directory).rglob("*.png")}


def times(directory):
    return {
        str(p.relative_to(directory)): (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in Path(directory).rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def warped(path, tile, method=Resampling.bilinear):
    """A tile by GDAL's warper, positions exact."""
    with rasterio.open(path) as dataset:
        rgba = np.zeros((4, dataset.height, dataset.width), np.uint8)
        rgba[:3] = dataset.read([1, 2, 3])
        rgba[3] = dataset.dataset_mask()
        out = np.zeros((4, SIDE, SIDE), np.uint8)
        west, south, east, north = mercantile.xy_bounds(tile[1], tile[2], tile[0])
        reproject(
            rgba, out, src_transform=dataset.transform, src_crs=dataset.crs,
            dst_transform=rasterio.transform.from_bounds(west, south, east, north, SIDE, SIDE),
            dst_crs="EPSG:3857", resampling=method, src_alpha=4, dst_alpha=4, tolerance=0,
        )  # fmt: skip
    return out.transpose(1, 2, 0)


def eroded(visible):
    """Pixels all of whose neighbours, up to three away, are visible."""
    inner = np.zeros_like(visible)
    side = 7
    windows = np.lib.stride_tricks.sliding_window_view(visible, (side, side))
    inner[3:-3, 3:-3] = windows.all(axis=(2, 3))
    return inner


# --- Pixels ------------------------------------------------------------------------------


PLACES = {
    "utm north": ("EPSG:32633", (500_000, 5_150_000), 10, 14),
    "utm south": ("EPSG:32733", (420_000, 6_250_000), 10, 14),
    "mercator": ("EPSG:3857", (1_670_000, 5_860_000), 14, 14),
    "degrees": ("EPSG:4326", (15.0, 46.5), (0.00013, 0.00009), 14),
    "laea": ("EPSG:3035", (4_700_000, 2_600_000), 10, 13),
}


@pytest.mark.parametrize("name", PLACES)
def test_tiles_of_the_finest_zoom_equal_a_direct_warp(tmp_path, name):
    crs, origin, size, zoom = PLACES[name]
    path = write(tmp_path / "p.tif", field(300, 260), crs, origin, size)
    build_tiles(path, tmp_path / "tiles", zooms=(zoom, zoom))
    with rasterio.open(path) as dataset:
        bounds = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    compared = 0
    for found in mercantile.tiles(*bounds, zooms=zoom):
        tile = (found.z, found.x, found.y)
        ours, wanted = read(tmp_path / "tiles", tile), warped(path, tile)
        inner = eroded((ours[..., 3] == 255) & (wanted[..., 3] == 255))
        off = np.abs(ours[..., :3].astype(int) - wanted[..., :3])[inner]
        assert off.max(initial=0) <= 1  # both round
        compared += inner.sum()
        # Edges: GDAL fades them over half a pixel, here a pixel is there or is not.
        unlike = (ours[..., 3] > 0) != (wanted[..., 3] > 0)
        assert unlike.mean() < 0.03
    assert compared > 20_000


def test_nearest_takes_the_pixel_that_gdal_takes(tmp_path, picture):
    build_tiles(picture, tmp_path / "tiles", zooms=(15, 15), method="nearest")
    same = total = 0
    for tile in tiles_in(tmp_path / "tiles"):
        ours, wanted = read(tmp_path / "tiles", tile), warped(picture, tile, Resampling.nearest)
        same += (ours == wanted).all(axis=2).sum()
        total += SIDE * SIDE
    assert same / total > 0.999  # places on an edge between two pixels may go either way


def test_coarser_zooms_are_means_weighted_by_alpha(tmp_path, picture):
    build_tiles(picture, tmp_path / "tiles", zooms=(8, 15))
    checked = 0
    for z in range(8, 15):
        for _, x, y in [tile for tile in tiles_in(tmp_path / "tiles") if tile[0] == z]:
            below = np.block(
                [[[read(tmp_path / "tiles", (z + 1, 2 * x + i, 2 * y + j))] for i in (0, 1)]
                 for j in (0, 1)]
            ).reshape(2 * SIDE, 2 * SIDE, 4).astype(float)  # fmt: skip
            four = below.reshape(SIDE, 2, SIDE, 2, 4)
            alpha = four[..., 3].sum(axis=(1, 3))
            ours = read(tmp_path / "tiles", (z, x, y)).astype(float)
            assert np.abs(ours[..., 3] - alpha / 4).max() <= 0.5
            seen = ours[..., 3] > 0
            colour = (four[..., :3] * four[..., 3:]).sum(axis=(1, 3))[seen] / alpha[seen][:, None]
            assert np.abs(ours[seen][:, :3] - colour).max() <= 0.5 + 1e-9
            checked += seen.sum()
    assert checked > 1000


def test_fine_pictures_are_averaged_into_coarse_pixels(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, 1024, 1024), np.uint8)
    size = 2 * 20037508.342789244 / (SIDE << 12)
    x, y = -20037508.342789244 + 2200 * SIDE * size, 20037508.342789244 - 1400 * SIDE * size
    path = write(tmp_path / "fine.tif", pixels, "EPSG:3857", (x, y), size / 4)
    build_tiles(path, tmp_path / "tiles", zooms=(12, 12))
    assert tiles_in(tmp_path / "tiles") == {(12, 2200, 1400)}
    ours = read(tmp_path / "tiles", (12, 2200, 1400))[..., :3].astype(float)
    wanted = pixels.reshape(3, SIDE, 4, SIDE, 4).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(ours - wanted).max() <= 1


# --- Numbering and the edges of the world ------------------------------------------------


def test_tiles_are_numbered_from_the_north_west(tmp_path, picture):
    report = build_tiles(picture, tmp_path / "tiles", zooms=(10, 15))
    found = tiles_in(tmp_path / "tiles")
    assert report.count == len(found)
    wanted = {(t.z, t.x, t.y) for t in mercantile.tiles(*report.bounds, zooms=range(10, 16))}
    assert found <= wanted
    # A corner of the bounds may be a tile that the picture itself does not touch.
    missing = [tile for tile in wanted - found if warped(picture, tile)[..., 3].any()]
    assert all((warped(picture, tile)[..., 3] > 0).sum() < 600 for tile in missing)
    with rasterio.open(picture) as dataset:
        lon, lat = transform(dataset.crs, "EPSG:4326", *([v] for v in dataset.xy(10, 10)))
    at = mercantile.tile(lon[0], lat[0], 15)
    assert (at.z, at.x, at.y) in found


def test_a_global_picture_covers_every_tile(tmp_path):
    # Red tells the longitude, green the latitude.
    lon, lat = np.meshgrid(np.arange(-179.5, 180), np.arange(89.5, -90, -1))
    pixels = np.stack([(lon + 180) / 360 * 255, (lat + 90) / 180 * 255, lon * 0 + 9])
    path = write(tmp_path / "globe.tif", pixels.astype(np.uint8), "EPSG:4326", (-180, 90), 1)
    report = build_tiles(path, tmp_path / "tiles", zooms=(0, 4))
    assert report.count == sum(4**z for z in range(5))
    assert report.bounds == pytest.approx((-180, -85.0511, 180, 85.0511), abs=1e-4)
    for tile in [(4, 0, 0), (4, 15, 15), (4, 8, 5), (4, 0, 8)]:
        ours = read(tmp_path / "tiles", tile)
        assert (ours[..., 3] == 255).all()
        box = mercantile.bounds(tile[1], tile[2], tile[0])
        assert ours[128, 128, 0] == pytest.approx(
            ((box.west + box.east) / 2 + 180) / 360 * 255, abs=2
        )
        middle = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (tile[2] + 0.5) / 16))))
        assert ours[128, 128, 1] == pytest.approx((middle + 90) / 180 * 255, abs=2)


ACROSS = {
    "degrees": ("EPSG:4326", (179.95, -16.0), 0.0005),
    "degrees, west": ("EPSG:4326", (-180.05, -16.0), 0.0005),
    "mercator": ("EPSG:3857", (20_032_000, -1_800_000), 55),
    "utm": ("EPSG:32701", (174_500, 8_225_000), 50),
}


@pytest.mark.parametrize("name", ACROSS)
def test_pictures_across_the_antimeridian_have_both_sides(tmp_path, name):
    crs, origin, size = ACROSS[name]
    pixels = field(200, 200)
    pixels[:, :, :] += 1
    path = write(tmp_path / "p.tif", pixels, crs, origin, size)
    build_tiles(path, tmp_path / "tiles", zooms=(12, 12))
    columns = {x for _, x, _ in tiles_in(tmp_path / "tiles")}
    assert {0, 4095} <= columns
    assert len(columns) < 12
    with rasterio.open(path) as dataset:
        for row, col in [(100, 20), (100, 180), (30, 100)]:
            lon, lat = transform(dataset.crs, "EPSG:4326", *([v] for v in dataset.xy(row, col)))
            wrapped = (lon[0] + 180) % 360 - 180
            tile = mercantile.tile(wrapped, lat[0], 12)
            n = 1 << 12
            u = (wrapped + 180) / 360 * n
            v = (1 - np.arcsinh(np.tan(np.radians(lat[0]))) / np.pi) / 2 * n
            ours = read(tmp_path / "tiles", (12, tile.x, tile.y))
            pixel = ours[int((v - tile.y) * SIDE), int((u - tile.x) * SIDE)]
            assert pixel[3] == 255
            assert np.abs(pixel[:3].astype(int) - pixels[:, row, col]).max() <= 10


def test_a_picture_that_goes_round_the_globe_and_further_counts_once(tmp_path):
    pixels = np.full((3, 40, 400), 50, np.uint8)
    pixels[:, :, 360:] = 200  # the first 40 degrees again
    path = write(tmp_path / "p.tif", pixels, "EPSG:4326", (-180, 20), 1)
    build_tiles(path, tmp_path / "tiles", zooms=(3, 3))
    assert {x for _, x, _ in tiles_in(tmp_path / "tiles")} == set(range(8))
    assert set(np.unique(read(tmp_path / "tiles", (3, 4, 4))[..., 0])) <= {0, 50}


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ("0.1,52.0,0.3,52.1", 32631),
        ("-0.3,51.9,-0.1,52.1", 32630),
        ("18.4,-34.0,18.5,-33.9", 32734),
        ("179,-17,-179.5,-16", 32760),
        ("179.5,-17,-179,-16", 32701),
        ("-180,60,-179,61", 32601),
        ("5,45,17.5,47", 3857),
        ("170,-20,-170,-10", 3857),
    ],
)
def test_narrow_regions_are_made_in_their_utm_zone(box, code):
    assert crs_of_region(Region.from_bbox(box)) == code


# --- What is transparent, and what is refused ----------------------------------------------


def test_masks_nodata_and_alpha_are_alike(tmp_path):
    pixels = np.maximum(field(200, 200), 1)
    mask = np.ones((200, 200), bool)
    mask[50:120, 30:90] = False
    where = ("EPSG:32633", (500_000, 5_150_000), 10)
    holes = pixels * mask
    alpha = np.concatenate([pixels, (mask * 255).astype(np.uint8)[None]])
    write(tmp_path / "mask.tif", pixels, *where, mask=mask)
    write(tmp_path / "nodata.tif", holes, *where, nodata=0)
    write(tmp_path / "alpha.tif", alpha, *where, photometric="RGB", alpha="yes")
    made = []
    for name in ("mask", "nodata", "alpha"):
        build_tiles(tmp_path / f"{name}.tif", tmp_path / name, zooms=(12, 14))
        made.append(contents(tmp_path / name))
    assert made[0] == made[1] == made[2]
    assert any(not (read(tmp_path / "mask", t)[..., 3] == 255).all()
               for t in tiles_in(tmp_path / "mask"))  # fmt: skip


def test_transparent_neighbours_colour_nothing(tmp_path):
    pixels = np.full((3, 64, 64), 200, np.uint8)
    mask = np.ones((64, 64), bool)
    mask[:, 32:] = False
    pixels[:, :, 32:] = 10
    path = write(tmp_path / "p.tif", pixels, "EPSG:3857", (1e6, 1e6), 40, mask=mask)
    build_tiles(path, tmp_path / "tiles", zooms=(8, 15))
    for tile in tiles_in(tmp_path / "tiles"):
        ours = read(tmp_path / "tiles", tile)
        assert (ours[ours[..., 3] > 0][:, :3] == 200).all()


def test_grey_is_shown_as_grey(tmp_path):
    grey = field(100, 100)[:1]
    where = ("EPSG:32633", (500_000, 5_150_000), 10)
    write(tmp_path / "grey.tif", grey, *where)
    write(tmp_path / "rgb.tif", np.repeat(grey, 3, axis=0), *where)
    for name in ("grey", "rgb"):
        build_tiles(tmp_path / f"{name}.tif", tmp_path / name, zooms=(13, 13))
    assert contents(tmp_path / "grey") == contents(tmp_path / "rgb")


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_what_is_no_8_bit_picture_is_refused(tmp_path, dtype):
    path = write(tmp_path / "p.tif", field(8, 8).astype(dtype), "EPSG:3857", (0, 0), 10)
    with pytest.raises(InputError, match=f"holds {dtype}.*uint8"):
        build_tiles(path, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


def test_other_pictures_that_cannot_be_shown_are_refused(tmp_path):
    pixels = field(8, 8)
    where = ("EPSG:3857", (0, 0), 10)
    two = write(tmp_path / "two.tif", pixels[:2], *where)
    with pytest.raises(InputError, match="2 bands of colour"):
        build_tiles(two, tmp_path / "tiles")
    palette = write(tmp_path / "palette.tif", pixels[:1], *where, photometric="palette")
    with rasterio.open(palette, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(InputError, match="palette"):
        build_tiles(palette, tmp_path / "tiles")
    plain = write(tmp_path / "plain.tif", pixels, None, (5, 5), 10)
    with pytest.raises(FormatError, match="no CRS"):
        build_tiles(plain, tmp_path / "tiles")
    with pytest.raises(FileNotFoundError):
        build_tiles(tmp_path / "none.tif", tmp_path / "tiles")
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(FormatError):
        build_tiles(tmp_path / "text.tif", tmp_path / "tiles")
    with pytest.raises(InputError, match="method"):
        build_tiles(two, tmp_path / "tiles", method="cubic")
    assert not (tmp_path / "tiles").exists()


@pytest.mark.parametrize("zooms", [(-1, 3), (5, 4), (0, 25), (3,), "ab"])
def test_zooms_that_are_none_are_refused(zooms):
    with pytest.raises(InputError):
        check_zooms(zooms)


def test_an_invisible_picture_leaves_nothing(tmp_path):
    mask = np.zeros((64, 64), bool)
    path = write(tmp_path / "p.tif", field(64, 64), "EPSG:3857", (0, 0), 10, mask=mask)
    with pytest.raises(EmptySelectionError):
        build_tiles(path, tmp_path / "map" / "tiles", record=tmp_path / "map" / "tiles.json")
    assert not (tmp_path / "map" / "tiles").exists()
    assert not (tmp_path / "map" / "tiles.json").exists()


def test_a_damaged_picture_leaves_no_empty_directory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 600, 600), np.uint8)
    path = write(tmp_path / "p.tif", pixels, "EPSG:3857", (0, 0), 10, compress="deflate")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    with pytest.raises(FormatError):
        build_tiles(path, tmp_path / "tiles", zooms=(13, 13))
    assert not (tmp_path / "tiles").exists() or tiles_in(tmp_path / "tiles")


# --- Again ---------------------------------------------------------------------------------


def test_the_same_again_changes_nothing(tmp_path, picture):
    out = {"record": tmp_path / "map/tiles.json", "packs": tmp_path / "map/tiles.js",
           "archive": tmp_path / "map/tiles.pmtiles"}  # fmt: skip
    first = build_tiles(picture, tmp_path / "map/tiles", **out)
    before = times(tmp_path / "map")
    assert first.cut == first.written == first.count
    again = build_tiles(picture, tmp_path / "map/tiles", **out)
    assert (again.cut, again.written, again.removed) == (0, 0, 0)
    assert again.count == first.count
    assert times(tmp_path / "map") == before
    # Another time of change, the same pixels: they are read, and nothing is cut.
    os.utime(picture)
    again = build_tiles(picture, tmp_path / "map/tiles", **out)
    assert (again.cut, again.written, again.removed) == (0, 0, 0)
    tiles = {k: v for k, v in times(tmp_path / "map").items() if k.endswith((".png", ".js"))}
    assert tiles == {k: v for k, v in before.items() if k.endswith((".png", ".js"))}


def test_a_moved_map_is_not_rebuilt(tmp_path, picture):
    (tmp_path / "a").mkdir()
    shutil.move(picture, tmp_path / "a/rgb_mosaic.tif")
    build_tiles(tmp_path / "a/rgb_mosaic.tif", tmp_path / "a/tiles",
                record=tmp_path / "a/tiles.json")  # fmt: skip
    before = times(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = build_tiles(tmp_path / "b/rgb_mosaic.tif", tmp_path / "b/tiles",
                        record=tmp_path / "b/tiles.json")  # fmt: skip
    assert (again.cut, again.written) == (0, 0)
    assert times(tmp_path / "b") == before


def wide(tmp_path, seed=0):
    """A picture of several units at zoom 15."""
    pixels = field(1200, 900, seed)
    return write(tmp_path / "wide.tif", pixels, "EPSG:32633", (500_000, 5_150_000), 10)


def test_a_changed_corner_cuts_what_it_touches(tmp_path):
    path = wide(tmp_path)
    first = build_tiles(path, tmp_path / "tiles", zooms=(10, 15), packs=tmp_path / "js")
    before = times(tmp_path / "tiles")
    packs = times(tmp_path / "js")
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((3, 20, 20), 255, np.uint8), window=RasterioWindow(0, 0, 20, 20))
        bounds = dataset.window_bounds(RasterioWindow(-2, -2, 24, 24))
        touched = transform_bounds(dataset.crs, "EPSG:4326", *bounds)
    report = build_tiles(path, tmp_path / "tiles", zooms=(10, 15), packs=tmp_path / "js")
    after = times(tmp_path / "tiles")
    changed = {name for name in after if after[name] != before.get(name)} - {"tiles.json"}
    allowed = {f"{t.z}/{t.x}/{t.y}.png" for t in mercantile.tiles(*touched, zooms=range(10, 16))}
    assert changed
    assert changed <= allowed
    assert report.written == len(changed)
    assert report.cut < first.cut
    assert set(before) == set(after)
    for name, state in times(tmp_path / "js").items():
        z, x8, y8 = map(int, re.split(r"[/_.]", name)[:3])
        mine = any(f"{z}/{x}/{y}.png" in changed for x in range(8 * x8, 8 * x8 + 8)
                   for y in range(8 * y8, 8 * y8 + 8))  # fmt: skip
        assert (state != packs[name]) == mine
    build_tiles(path, tmp_path / "fresh", zooms=(10, 15))
    assert contents(tmp_path / "tiles") == contents(tmp_path / "fresh")


def test_a_picture_that_grows_keeps_its_tiles(tmp_path):
    pixels = field(1200, 900)
    where = ("EPSG:32633", (500_000, 5_150_000), 10)
    small = write(tmp_path / "p.tif", pixels[:, :600], *where)
    build_tiles(small, tmp_path / "tiles", zooms=(12, 15))
    before = times(tmp_path / "tiles")
    write(tmp_path / "p.tif", pixels, *where)
    report = build_tiles(tmp_path / "p.tif", tmp_path / "tiles", zooms=(12, 15))
    after = times(tmp_path / "tiles")
    kept = [name for name in before if name.endswith(".png") and after[name] == before[name]]
    assert len(kept) > 20
    assert report.removed == 0
    build_tiles(tmp_path / "p.tif", tmp_path / "fresh", zooms=(12, 15))
    assert contents(tmp_path / "tiles") == contents(tmp_path / "fresh")


def test_tiles_that_vanish_are_removed(tmp_path):
    pixels = field(1200, 900)
    where = ("EPSG:32633", (500_000, 5_150_000), 10)
    path = write(tmp_path / "p.tif", pixels, *where)
    out = {"zooms": (10, 15), "packs": tmp_path / "js"}
    first = build_tiles(path, tmp_path / "tiles", **out)
    mask = np.zeros((1200, 900), bool)
    mask[:100, :100] = True
    write(path, pixels, *where, mask=mask)
    report = build_tiles(path, tmp_path / "tiles", **out)
    assert report.removed == first.count - report.count > 0
    write(path, pixels[:, :60, :60], *where)  # units that are not touched any more
    build_tiles(path, tmp_path / "tiles", **out)
    build_tiles(path, tmp_path / "fresh", zooms=(10, 15), packs=tmp_path / "fresh.js")
    assert contents(tmp_path / "tiles") == contents(tmp_path / "fresh")
    assert set(times(tmp_path / "js")) == set(times(tmp_path / "fresh.js"))
    empty = [p for p in (tmp_path / "tiles").rglob("*") if p.is_dir() and not any(p.iterdir())]
    assert not empty


def test_lost_tiles_come_back_and_force_cuts_all(tmp_path, picture):
    report = build_tiles(picture, tmp_path / "tiles")
    whole = contents(tmp_path / "tiles")
    for tile in [max(tiles_in(tmp_path / "tiles")), min(tiles_in(tmp_path / "tiles"))]:
        (tmp_path / f"tiles/{tile[0]}/{tile[1]}/{tile[2]}.png").unlink()
    again = build_tiles(picture, tmp_path / "tiles")
    assert again.written == 2
    assert contents(tmp_path / "tiles") == whole
    forced = build_tiles(picture, tmp_path / "tiles", force=True)
    assert forced.cut == report.count
    assert contents(tmp_path / "tiles") == whole


def test_other_zooms_and_other_tools_tiles_are_replaced(tmp_path, picture):
    build_tiles(picture, tmp_path / "tiles", zooms=(9, 14))
    report = build_tiles(picture, tmp_path / "tiles", zooms=(12, 13))
    assert {z for z, _, _ in tiles_in(tmp_path / "tiles")} == {12, 13}
    assert report.cut == report.count
    # Tiles whose rows are counted from the south lie where nothing says so.
    (tmp_path / "tms/12/7").mkdir(parents=True)
    (tmp_path / "tms/12/7/9.png").write_bytes(b"of another tool")
    (tmp_path / "tms/leaflet.html").write_text("of another tool, too")
    build_tiles(picture, tmp_path / "tms", zooms=(12, 13))
    assert contents(tmp_path / "tms") == contents(tmp_path / "tiles")
    assert (tmp_path / "tms/leaflet.html").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe", b'{"schema": 2}'])
def test_a_damaged_note_costs_nothing_but_a_look(tmp_path, picture, damage):
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    whole = contents(tmp_path / "tiles")
    (tmp_path / "tiles/tiles.json").write_bytes(damage)
    report = build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    assert report.written == 0
    assert contents(tmp_path / "tiles") == whole
    assert json.loads((tmp_path / "tiles/tiles.json").read_text())["complete"] is True


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_record_means_cutting_anew(tmp_path, picture, damage):
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    whole = contents(tmp_path / "tiles")
    record = tmp_path / "tiles/.units.jsonl"
    lines = record.read_bytes()
    record.write_bytes({"cut": lines[:-7], "noise": b"\x00" * 40, "empty": b""}[damage])
    report = build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    assert report.cut > 0
    assert contents(tmp_path / "tiles") == whole


def test_a_killed_run_is_gone_on_with(tmp_path):
    path = wide(tmp_path)
    code = (
        "import itertools, sys, time\n"
        "from geotessera.webmap import build_tiles\n"
        "from geotessera.webmap.tree import TileTree\n"
        "write, numbers = TileTree.write, itertools.count()\n"
        "def slow(self, tile, data):\n"
        "    if next(numbers) >= 120:\n"
        "        time.sleep(600)\n"
        "    return write(self, tile, data)\n"
        "TileTree.write = slow\n"
        "build_tiles(sys.argv[1], sys.argv[2], zooms=(10, 15), jobs=1)\n"
    )
    tiles = tmp_path / "tiles"
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(tiles)])
    until(lambda: len(tiles_in(tiles)) >= 90, lambda: process.poll() is None)
    process.kill()
    process.wait()
    left = len(tiles_in(tiles))
    assert left >= 90
    assert json.loads((tiles / "tiles.json").read_text())["complete"] is False
    report = build_tiles(path, tiles, zooms=(10, 15))
    assert left <= report.count
    assert report.cut < report.count  # finished units were not cut again
    build_tiles(path, tmp_path / "fresh", zooms=(10, 15))
    assert contents(tiles) == contents(tmp_path / "fresh")
    assert not (tiles / ".unfinished").exists()


def test_a_killed_run_over_another_picture_leaves_no_old_pixel(tmp_path):
    path = wide(tmp_path)
    build_tiles(path, tmp_path / "tiles", zooms=(12, 15))
    # As if the run after had been killed in a unit: its tiles may be of either picture.
    record = Record(tmp_path / "tiles", _identity(tmp_path), path=tmp_path / "tiles/.units.jsonl")
    place, entry = next((at, found) for at, found in record.items() if found[1])
    record.add(place, (0, *entry[1:]))
    record.close()
    _, top, y, x = place
    name = f"{top - 3}/{x}/{y}.png"
    (tmp_path / "tiles" / name).write_bytes(b"half of another")
    build_tiles(path, tmp_path / "tiles", zooms=(12, 15))
    build_tiles(path, tmp_path / "fresh", zooms=(12, 15))
    assert contents(tmp_path / "tiles") == contents(tmp_path / "fresh")


def _identity(tmp_path):
    return json.loads((tmp_path / "tiles/.units.jsonl").read_text().splitlines()[0])[0]


def test_two_runs_at_once_are_refused(tmp_path, picture):
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 13))
    record = Record(tmp_path / "tiles", _identity(tmp_path), path=tmp_path / "tiles/.units.jsonl")
    try:
        with pytest.raises(InputError, match="another process"):
            build_tiles(picture, tmp_path / "tiles", zooms=(12, 13), force=True)
    finally:
        record.close()
    assert tiles_in(tmp_path / "tiles")


def test_neither_jobs_nor_threads_change_a_byte(tmp_path):
    path = wide(tmp_path)
    for jobs in (1, 5):
        build_tiles(path, tmp_path / str(jobs), zooms=(11, 14), jobs=jobs)
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


# --- Packs and archives ----------------------------------------------------------------------


def test_packs_hold_the_tiles(tmp_path):
    build_tiles(wide(tmp_path), tmp_path / "tiles", zooms=(9, 15), packs=tmp_path / "js")
    found = {}
    for pack in (tmp_path / "js").rglob("*.js"):
        text = pack.read_text()
        assert text.startswith("geotesseraTiles(")
        assert text.endswith(");\n")
        members = json.loads(text.removeprefix("geotesseraTiles(").removesuffix(");\n"))
        z, x8, y8 = map(int, (pack.parent.name, *pack.stem.split("_")))
        for name, data in members.items():
            tile = tuple(map(int, name.split("/")))
            assert (tile[0], tile[1] // 8, tile[2] // 8) == (z, x8, y8)
            found[f"{name}.png"] = base64.b64decode(data, validate=True)
    assert found == contents(tmp_path / "tiles")
    build_tiles(tmp_path / "wide.tif", tmp_path / "tiles", zooms=(9, 15))
    assert not (tmp_path / "js").exists()  # they would go stale


def test_an_archive_holds_the_tiles(tmp_path):
    path = wide(tmp_path)
    archive = tmp_path / "map.pmtiles"
    report = build_tiles(path, tmp_path / "tiles", zooms=(9, 15), archive=archive)
    with archive.open("rb") as file:
        source = MmapSource(file)
        found = {f"{z}/{x}/{y}.png": data for (z, x, y), data in all_tiles(source)}
        header = Reader(source).header()
        metadata = Reader(source).metadata()
    assert found == contents(tmp_path / "tiles")
    assert (header["min_zoom"], header["max_zoom"]) == (9, 15)
    assert header["clustered"]
    assert header["min_lon_e7"] / 1e7 == pytest.approx(report.bounds[0], abs=1e-6)
    assert header["max_lat_e7"] / 1e7 == pytest.approx(report.bounds[3], abs=1e-6)
    assert metadata["name"] == "wide"


def test_an_archive_can_stand_alone(tmp_path, picture):
    archive = tmp_path / "map.pmtiles"
    how = {"archive": archive, "keep_tiles": False, "record": tmp_path / "tiles.json"}
    report = build_tiles(picture, tmp_path / ".work", zooms=(10, 14), **how)
    assert not (tmp_path / ".work").exists()
    assert report.tiles is None
    before = archive.stat().st_mtime_ns
    build_tiles(picture, tmp_path / ".work", zooms=(10, 14), **how)
    assert archive.stat().st_mtime_ns == before
    build_tiles(picture, tmp_path / "tiles", zooms=(10, 14))
    with archive.open("rb") as file:
        found = {f"{z}/{x}/{y}.png": data for (z, x, y), data in all_tiles(MmapSource(file))}
    assert found == contents(tmp_path / "tiles")
    with pytest.raises(InputError):
        build_tiles(picture, tmp_path / "tiles", keep_tiles=False)


def test_a_stale_archive_goes(tmp_path, picture):
    archive = tmp_path / "map.pmtiles"
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 14), archive=archive)
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    assert archive.exists()  # it is still what the tiles are
    with rasterio.open(picture, "r+") as dataset:
        dataset.write(np.zeros((3, 9, 9), np.uint8), window=RasterioWindow(0, 0, 9, 9))
    build_tiles(picture, tmp_path / "tiles", zooms=(12, 14))
    assert not archive.exists()


def test_the_note_says_how_rows_are_counted(tmp_path, picture):
    build_tiles(picture, tmp_path / "map/tiles", zooms=(9, 12), record=tmp_path / "map/tiles.json")
    scheme, zooms, bounds = read_scheme(tmp_path / "map/tiles")
    assert (scheme, zooms) == ("xyz", (9, 12))
    assert bounds[0] == pytest.approx(15, abs=1e-3)
    (tmp_path / "map/others").mkdir()
    assert read_scheme(tmp_path / "map/others") == ("tms", None, None)
    (tmp_path / "map/tiles.json").write_text('{"schema": 1, "zoom": [8, 15]}')
    assert read_scheme(tmp_path / "map/tiles")[0] == "tms"
    umask = os.umask(0)
    os.umask(umask)
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "map/tiles").rglob("*.png")}
    assert modes == {0o666 & ~umask}
