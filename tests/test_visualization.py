"""Pictures of three bands, re-read by rasterio; numbers are what upstream 0.11.0 wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.warp import transform_bounds

from geotessera import GeoTessera, raster, visualization
from geotessera.errors import BandError, DatasetMismatchError, FormatError, InputError
from geotessera.visualization import create_rgb_mosaic
from registry_fixtures import manifest_b
from test_raster import KNOWN, LEFT, TOP, UTM, damage, noise, read, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def picture(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The three bands, and the mask: 255 where there is something."""
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask()


def stretched(bands: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Least to greatest finite value of each band as 0 to 255, truncated, by plain NumPy."""
    shown = np.isfinite(bands).all(axis=0)
    out = np.zeros(bands.shape, np.uint8)
    for band, plane in enumerate(bands.astype(np.float64)):
        finite = plane[np.isfinite(plane)]
        if finite.size and finite.max() > finite.min():
            span = finite.max() - finite.min()
            out[band][shown] = ((plane[shown] - finite.min()) / span * 255).astype(np.uint8)
    return out, shown


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Five bands: a pixel without any, one without band 1, and a constant band."""
    data = noise(5, 30, 40, seed=1)
    data[:, 0, 0] = np.nan
    data[1, 1, 1] = np.nan
    data[0, 1, 1] = 90
    data[3] = 7
    names = [f"Tessera_Band_{band}" for band in range(5)]
    return write(tmp_path / "a.tif", data, nodata=np.nan, tags=KNOWN, names=names)


def test_range_of_each_band(holed: Path, tmp_path: Path) -> None:
    pixels, mask = picture(create_rgb_mosaic([holed], tmp_path / "o.tif", (0, 1, 4), UTM))
    expected, shown = stretched(read(holed)[[0, 1, 4]])
    np.testing.assert_array_equal(mask, np.where(shown, 255, 0))
    np.testing.assert_array_equal(pixels, expected)
    # As upstream: a pixel that is not shown, for want of another band, stretches its band.
    assert pixels[0].max() < 20
    assert (pixels[:, 0, 0] == 0).all()
    assert (pixels[1:].max(axis=(1, 2)) == 255).all()


def test_profile_and_tags(holed: Path, tmp_path: Path) -> None:
    with rasterio.open(create_rgb_mosaic([holed], tmp_path / "o.tif")) as dataset:
        profile, tags = dataset.profile, dataset.tags()
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert dataset.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        # What upstream wrote for the same raster: pixel size, left, top.
        a, _, left, _, e, top = tuple(dataset.transform)[:6]
        np.testing.assert_allclose(
            (a, -e, left, top),
            (90.1364544267971, 90.1364544267971, 2671910.5608483576, 18445238.8618546),
            rtol=1e-12,
        )
        assert str(dataset.crs) == "EPSG:3857"
    assert {key: profile[key] for key in profile if key not in ("crs", "transform")} == {
        "driver": "GTiff", "dtype": "uint8", "nodata": None, "width": 41, "height": 32, "count": 3,
        "blockxsize": 512, "blockysize": 512, "tiled": True, "compress": "lzw",
        "interleave": "pixel",
    }  # fmt: skip
    assert tags["TIFFTAG_IMAGEDESCRIPTION"] == "RGB visualization using bands (0, 1, 2)"
    assert tags.items() >= KNOWN.items()
    assert (tags["TESSERA_TARGET_CRS"], tags["TESSERA_TILE_COUNT"]) == ("EPSG:3857", "1")
    assert [path.name for path in tmp_path.iterdir() if path.name != holed.name] == ["o.tif"]


def test_constant_band_is_zero(holed: Path, tmp_path: Path) -> None:
    pixels, mask = picture(create_rgb_mosaic([holed], tmp_path / "o.tif", [3, 0, 3], UTM))
    assert (pixels[[0, 2]] == 0).all()
    assert pixels[1].max() == 255
    assert (mask > 0).sum() == 30 * 40 - 1


def test_infinite_values_are_masked(tmp_path: Path) -> None:
    data = noise(3, 10, 10)
    data[0, 4, 4], data[1, 5, 5] = np.inf, -np.inf
    path = write(tmp_path / "a.tif", data)
    pixels, mask = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    expected, shown = stretched(data)
    assert (~shown).sum() == 2
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(mask > 0, shown)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_truncates_as_upstream(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(3).integers(0, 200, (3, 40, 50)).astype(dtype)
    path = write(tmp_path / "a.tif", data)
    pixels, _ = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    expected, _ = stretched(data.astype(np.float32))
    np.testing.assert_array_equal(pixels, expected)


def test_nothing_to_see(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((3, 10, 10), np.nan, np.float32), nodata=np.nan)
    pixels, mask = picture(create_rgb_mosaic([path], tmp_path / "o.tif", target_crs=UTM))
    assert not pixels.any()
    assert not mask.any()


@pytest.mark.parametrize("in_memory", [True, False])
def test_many_blocks_have_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(raster, "_IN_MEMORY", 0)
    first = noise(3, 700, 600)
    first[:, 100:300, 500:] = np.nan
    second = noise(3, 700, 600, seed=1) * 5
    paths = [
        write(tmp_path / "a.tif", first, nodata=np.nan),
        write(tmp_path / "b.tif", second, LEFT + 5000, TOP, nodata=np.nan),
    ]
    calls: list[tuple[int, int, str]] = []
    found = create_rgb_mosaic(
        paths, tmp_path / "o.tif", (2, 1, 0), UTM, lambda *call: calls.append(call)
    )
    pixels, mask = picture(found)
    expected, shown = stretched(read(raster.merge_geotiffs(paths, tmp_path / "m.tif", UTM))[::-1])
    assert pixels.shape == (3, 700, 1100)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(mask > 0, shown)
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (12, 12, "Complete")  # six blocks, twice


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 2, 3), (), None])
def test_three_bands_are_needed(holed: Path, tmp_path: Path, bands: Any) -> None:
    with pytest.raises(InputError):
        create_rgb_mosaic([holed], tmp_path / "o.tif", bands)


def test_refusals(holed: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "o.tif"
    for bands in ((0, 1, 5), (0, 1, -1)):
        with pytest.raises(BandError):
            create_rgb_mosaic([holed], target, bands)
    with pytest.raises(InputError, match="at least one"):
        create_rgb_mosaic([], target)
    with pytest.raises(FormatError, match="CRS"):
        create_rgb_mosaic([write(tmp_path / "n.tif", noise(3, 5, 5), crs=None)], target)
    other = write(
        tmp_path / "b.tif", noise(5, 5, 5), tags=KNOWN | {"TESSERA_DATASET_VARIANT": "vultr"}
    )
    with pytest.raises(DatasetMismatchError, match="different datasets"):
        create_rgb_mosaic([holed, other], target)
    assert not target.parent.exists()


def test_file(holed: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "o.tif"
    before = os.umask(0o027)
    try:
        found = create_rgb_mosaic([str(holed)], str(target), np.array([4, 2, 0]), UTM)
    finally:
        os.umask(before)
    assert found == str(target)
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]
    # A failure leaves the picture as it is.
    content = target.read_bytes()
    damaged = damage(write(tmp_path / "c.tif", noise(5, 300, 300), compress="deflate"))
    with pytest.raises(RuntimeError, match=r"c\.tif"):
        create_rgb_mosaic([damaged], target, target_crs=UTM)
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["o.tif"]


# --- Coverage -----------------------------------------------------------------------------


@pytest.fixture
def planet(tmp_path: Path) -> Path:
    """A registry of two datasets."""
    import pandas as pd

    tiles = [(2023, 7.05, 50.05), (2024, 7.05, 50.05), (2024, -70.05, -33.05)]
    first = manifest_b(tmp_path / "a.parquet", tiles)
    second = manifest_b(tmp_path / "b.parquet", [(2022, 7.05, -33.05)], "2.0", "2B-L~beta2")
    frames = [pd.read_parquet(path) for path in (first, second)]
    (tmp_path / "planet").mkdir()
    pd.concat(frames).to_parquet(tmp_path / "planet" / "manifest.parquet", index=False)
    return tmp_path / "planet"


def colors_of(path: str | Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(1 << 24)
    return {color for _, color in found}


def test_the_coverage_of_a_client_as_a_map(planet: Path, tmp_path: Path) -> None:
    client = GeoTessera("v1.1", "cambridge", registry_dir=planet, cache_dir=tmp_path / "cache")
    calls: list[tuple[int, int, str]] = []
    target = tmp_path / "out" / "m.png"
    found = visualization.visualize_global_coverage(
        client, target, width_pixels=501, tile_alpha=1, show_countries=False,
        progress_callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert found == str(target)
    assert calls[-1][:2] == (100, 100)
    with Image.open(target) as image:
        assert image.width == 501
    assert {(0, 100, 0), (0, 0, 139)} <= colors_of(target)
    assert (255, 140, 0) in colors_of(target)  # in the legend
    visualization.visualize_global_coverage(
        client, str(target), 2023, 300, False, "#010203", 1.0, 3.0, None, True, (6, 49, 8, 51)
    )
    assert (1, 2, 3) in colors_of(target)
    assert (0, 100, 0) not in colors_of(target)
    assert [path.name for path in target.parent.iterdir()] == ["m.png"]
    with pytest.raises(InputError, match="bbox"):
        visualization.visualize_global_coverage(client, target, region_bbox=(1, 2, 3))
    with pytest.raises(InputError, match="no region file"):
        visualization.visualize_global_coverage(client, target, region_file=tmp_path / "none.shp")


def test_the_default_names_are_upstreams(
    planet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = GeoTessera("v1.1", "cambridge", registry_dir=planet)
    assert visualization.visualize_global_coverage(client, width_pixels=200)
    assert visualization.visualize_sources_coverage(planet / "manifest.parquet", width_pixels=200)
    assert (tmp_path / "tessera_coverage.png").is_file()
    assert (tmp_path / "tessera_sources.png").is_file()


def test_the_datasets_of_a_registry_as_a_map(
    planet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    manifest, target = planet / "manifest.parquet", tmp_path / "s.png"
    draw = visualization.visualize_sources_coverage
    options: dict[str, Any] = {
        "width_pixels": 300, "tile_alpha": 1, "show_countries": False,
    }  # fmt: skip
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert draw(str(manifest), target, **options) == str(target)
    assert {blue, orange} <= colors_of(target)
    draw(manifest, target, versions=["v2"], **options)
    assert blue in colors_of(target)
    assert orange not in colors_of(target)
    for wrong in ({"versions": ["9"]}, {"variants": ["vultr"]}, {"year": 1999}):
        with pytest.raises(ValueError, match="No tiles to render"):
            draw(manifest, target, **options | wrong)
    bare = manifest_b(tmp_path / "bare.parquet", [(2024, 0.05, 0.05)])
    table = pq.read_table(bare).drop_columns("variant")
    pq.write_table(table, bare)
    with pytest.raises(ValueError, match="variant"):
        draw(bare, target)
    with pytest.raises(RuntimeError, match="does not exist"):
        draw(tmp_path / "missing.parquet", target)


def test_the_headers_of_geotiffs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tagged = KNOWN | {"TESSERA_YEAR": "2021"}
    one = write(tmp_path / "x.tif", noise(4, 30, 40), tags=tagged)
    two = write(tmp_path / "grid_1.05_2.05_2020.tiff", noise(3, 20, 20), crs="EPSG:3857")
    plain = write(tmp_path / "plain.tif", noise(2, 5, 5))
    junk = tmp_path / "junk.tif"
    junk.write_text("no raster")
    found = visualization.analyze_geotiff_coverage([one, two, plain, junk])
    assert found["total_files"] == 4
    assert found["band_counts"] == {4: 1, 3: 1}
    assert found["years"] == ["2020", "2021"]
    assert found["crs"] == [UTM, "EPSG:3857"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    first, second = found["tiles"]
    assert (second["tile_lon"], second["tile_lat"], second["year"]) == (1.05, 2.05, "2020")
    with rasterio.open(one) as dataset:
        bounds = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    assert first["bounds"] == list(bounds)
    assert first["path"] == str(one)
    assert bounds[0] < first["tile_lon"] < bounds[2]
    lows, highs = zip(first["bounds"], second["bounds"], strict=True), found["bounds"]
    west, south, east, north = lows
    assert highs == {
        "min_lon": min(west), "max_lon": max(east), "min_lat": min(south), "max_lat": max(north),
    }  # fmt: skip
    assert visualization.analyze_geotiff_coverage([]) == {"error": "No files provided"}
    nothing = visualization.analyze_geotiff_coverage([str(junk)])
    assert nothing["bounds"]["min_lon"] == np.inf
    assert nothing["bounds"]["max_lat"] == -np.inf
    assert (nothing["tiles"], nothing["years"], nothing["crs"]) == ([], [], [])


def test_boxes_round_points_and_files(tmp_path: Path) -> None:
    points = [{"lon": 1, "lat": 2}, {"lon": 3.5, "lat": 89.95}]
    box = visualization.calculate_bbox_from_points
    np.testing.assert_allclose(box(points), (0.9, 1.9, 3.6, 90.05))
    assert box(pd.DataFrame(points), 0) == (1, 2, 3.5, 89.95)
    for wrong in ([], [{"x": 1, "lat": 2}], pd.DataFrame({"longitude": [1], "latitude": [1]})):
        with pytest.raises(ValueError, match="'lon' and 'lat'"):
            box(wrong)
    shape = gpd.GeoDataFrame(geometry=[shapely.box(500000, 5500000, 501000, 5502000)], crs=32631)
    shape.to_file(tmp_path / "s.gpkg")
    expected = shape.to_crs(4326).total_bounds
    found = visualization.calculate_bbox_from_file(tmp_path / "s.gpkg")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert isinstance(found, tuple)
    with pytest.raises(ValueError, match="no region file"):
        visualization.calculate_bbox_from_file(tmp_path / "missing.gpkg")


def test_the_rows_of_a_tile_registry_as_a_map(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "zone": "31N", "tile": ["a", "b", "c"], "year": 2024,
            "embedded": [True, True, False], "refused_px": [0, 9, 0], "eligible_px": 10,
            "bbox_west": [0.0, 1.0, 2.0], "bbox_east": [1.0, 2.0, 3.0], "bbox_south": 50.0,
            "bbox_north": 51.0,
        }
    )  # fmt: skip
    target = tmp_path / "r.png"
    found = visualization.visualize_tile_registry_coverage(
        rows, target, 2024, 400, False, 1.0, (0, 50, 3, 51), title="Mine"
    )
    assert found == str(target)
    assert {(0, 100, 0), (255, 140, 0), (178, 34, 34)} <= colors_of(target)
    with Image.open(target) as image:
        assert image.width == 400
    with pytest.raises(ValueError, match="bbox_west"):
        visualization.visualize_tile_registry_coverage(rows.drop(columns="bbox_west"), target)
