from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import shapely

from geotessera.datasets import find_dataset
from geotessera.errors import BandError, NoOverlapError
from geotessera.regions import Region
from geotessera.sidecar import write_tessera_metadata
from geotessera.store import GeoTesseraZarr
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore

if TYPE_CHECKING:
    from pathlib import Path

BANDS = 4
PLACES = ((0.0, 52.0, 30), (0.0, 52.0, 31), (180.0, -17.0, 60), (180.0, -17.0, 1))
SEAM = (-0.004, 51.998, 0.003, 52.001)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    grids = [zone_grid(lon, lat, zone=zone) for lon, lat, zone in PLACES]
    path = tmp_path_factory.mktemp("exports") / "store"
    return SampleStore.build(path, grids=grids, pixels=Pattern(BANDS), depths=(2,))


@pytest.fixture
def client(store: SampleStore) -> GeoTesseraZarr:
    return GeoTesseraZarr(store.path)


@pytest.mark.parametrize("compress", ["lzw", "zstd", "deflate", "none", None])
def test_one_file_for_each_zone(
    store: SampleStore, client: GeoTesseraZarr, tmp_path: Path, compress: str | None
) -> None:
    planned = client.export_geotiffs(SEAM, 2024, tmp_path / "o", dry_run=True)
    assert not (tmp_path / "o").exists()
    paths = client.export_geotiffs(SEAM, 2024, tmp_path / "o", compress=compress)
    assert paths == [str(tmp_path / "o" / f"tessera_2024_utm{zone}.tif") for zone in (30, 31)]
    for path, plan, part in zip(paths, planned, ((-0.004, 0.0), (0.0, 0.003)), strict=True):
        box = (part[0], SEAM[1], part[1], SEAM[3])
        values, affine, crs = client.read_region(box, 2024)
        height, width = values.shape[:2]
        assert plan == {
            "zone": int(crs[-2:]),
            "width": width,
            "height": height,
            "uncompressed_bytes": width * height * BANDS * 4,
        }
        with rasterio.open(path) as found:
            assert found.crs.to_string() == crs
            assert found.transform == affine
            assert np.isnan(found.nodata)
            assert found.dtypes == ("float32",) * BANDS
            assert found.profile["tiled"]
            np.testing.assert_array_equal(found.read().transpose(1, 2, 0), values)
            assert found.descriptions == tuple(f"Tessera_Band_{band}" for band in range(BANDS))
            tags = found.tags()
            kind = found.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
        assert kind.lower() == (compress or "none")
        assert tags["TESSERA_YEAR"] == "2024"
        assert tags["TESSERA_SOURCE"] == str(store.path)
        assert tags["TESSERA_MODEL"] == client.model_version
        assert tags["TESSERA_BUILD_VERSION"] == client.build_version
        assert tags["TESSERA_BANDS"] == "0,1,2,3"
        assert "TESSERA_DATASET_VERSION" not in tags
    assert not (tmp_path / "o" / "tessera_metadata.json").exists()


def test_bands_of_any_integral_type(client: GeoTesseraZarr, tmp_path: Path) -> None:
    whole = client.read_region((-0.004, 51.998, -0.001, 52.001), 2024)[0]
    (path,) = client.export_geotiffs(
        (-0.004, 51.998, -0.001, 52.001), 2024, tmp_path, bands=np.array([1, 0]), depth=2
    )
    with rasterio.open(path) as found:
        np.testing.assert_array_equal(found.read().transpose(1, 2, 0), whole[..., [1, 0]])
        assert found.tags()["TESSERA_BANDS"] == "1,0"
        assert found.descriptions == ("Tessera_Band_1", "Tessera_Band_0")


def test_across_the_antimeridian(client: GeoTesseraZarr, tmp_path: Path) -> None:
    box = (179.996, -17.002, -179.997, -16.999)
    paths = client.export_geotiffs(box, 2024, tmp_path)
    assert [path[-9:-4] for path in paths] == ["utm60", "utm01"]
    for path in paths:
        with rasterio.open(path) as found:
            assert found.crs.to_epsg() in (32660, 32601)
            assert found.bounds.top < 0
            assert np.isfinite(found.read(1)).mean() > 0.7
    (merged,) = client.export_geotiffs(box, 2024, tmp_path, crs="EPSG:3857")
    assert merged.endswith("tessera_2024_epsg3857.tif")
    values, affine, _ = client.read_region(box, 2024, crs="EPSG:3857")
    with rasterio.open(merged) as found:
        assert found.transform == affine
        np.testing.assert_array_equal(found.read().transpose(1, 2, 0), values)
    (planned,) = client.export_geotiffs(box, 2024, tmp_path, crs="EPSG:3857", dry_run=True)
    assert (planned["zone"], planned["height"]) == (None, values.shape[0])


def test_a_request_is_done_once(client: GeoTesseraZarr, tmp_path: Path) -> None:
    def export(**options: Any) -> list[int]:
        paths = client.export_geotiffs(SEAM, 2024, tmp_path, resume=True, **options)
        return [(tmp_path / path).stat().st_mtime_ns for path in paths]

    first = export()
    assert export() == first
    # Other bands or another compression are another request, by the same name.
    for options in ({"bands": [1]}, {"compress": "zstd", "bands": [1]}, {}):
        second = export(**options)
        assert all(new > old for new, old in zip(second, first, strict=True))
        assert export(**options) == second
        first = second
    # What was lost is made again, what is there stays.
    (tmp_path / "tessera_2024_utm30.tif").write_bytes(b"damaged")
    third = export()
    assert third[0] > first[0]
    assert third[1] == first[1]
    paths = client.export_geotiffs(SEAM, 2024, tmp_path)
    assert all((tmp_path / path).stat().st_mtime_ns > third[0] for path in paths)


def test_another_store_is_another_request(
    client: GeoTesseraZarr, store: SampleStore, tmp_path: Path
) -> None:
    other = SampleStore.build(
        tmp_path / "other", grids=store.grids.values(), pixels=Pattern(BANDS, seed=1)
    )
    (path, _) = client.export_geotiffs(SEAM, 2024, tmp_path / "o")
    GeoTesseraZarr(other.path).export_geotiffs(SEAM, 2024, tmp_path / "o", resume=True)
    with rasterio.open(path) as found:
        assert found.tags()["TESSERA_SOURCE"] == str(other.path)


def test_progress_is_told(client: GeoTesseraZarr, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    client.export_geotiffs(SEAM, 2024, tmp_path, progress_callback=lambda *one: told.append(one))
    assert {total for _, total, _ in told} == {2}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == 2
    assert "utm31" in told[-1][2]


def test_progress_never_passes_the_end(tmp_path: Path) -> None:
    """A file is written in other units than the blocks that were planned."""
    grid = zone_grid(0.0, 52.0, zone=31, height=600, width=600)
    path = SampleStore.build(tmp_path / "store", grids=[grid], pixels=Pattern(1)).path
    told: list[tuple[int, int, str]] = []
    GeoTesseraZarr(path).export_geotiffs(
        (0.0, 51.9, 0.1, 52.1), 2024, tmp_path, progress_callback=lambda *one: told.append(one)
    )
    assert told[-1][0] == told[-1][1]
    assert all(0 <= done <= total for done, total, _ in told)


def test_datasets_are_recorded_and_not_mixed(client: GeoTesseraZarr, tmp_path: Path) -> None:
    client.dataset = find_dataset("1.1", "dclimate")
    paths = client.export_geotiffs(SEAM, 2024, tmp_path / "a")
    record = json.loads((tmp_path / "a" / "tessera_metadata.json").read_text())
    assert record["dataset_variant"] == "dclimate"
    assert (record["format"], record["year"], record["source"]) == ("tiff", 2024, client.url)
    with rasterio.open(paths[0]) as found:
        tags = found.tags()
    assert tags["TESSERA_DATASET_VERSION"] == "1.1"
    assert tags["TESSERA_DATASET_VERSION_PATH"] == "v1.1"
    assert tags["TESSERA_DATASET_VARIANT"] == "dclimate"
    write_tessera_metadata(tmp_path / "b", "1.0", "vultr")
    with pytest.raises(ValueError, match="cannot be interchanged"):
        client.export_geotiffs(SEAM, 2024, tmp_path / "b")
    assert [one.name for one in (tmp_path / "b").iterdir()] == ["tessera_metadata.json"]


def test_a_failure_keeps_the_earlier_file(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = GeoTesseraZarr(store.path)
    (path, _) = client.export_geotiffs(SEAM, 2024, tmp_path)
    before = (tmp_path / path).read_bytes()
    from geotessera.sources.zarr import ZarrSource

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("the line is cut")

    monkeypatch.setattr(ZarrSource, "read_into", fail)
    with pytest.raises((OSError, RuntimeError), match="the line is cut"):
        client.export_geotiffs(SEAM, 2024, tmp_path, bands=[1])
    assert (tmp_path / path).read_bytes() == before


@pytest.mark.parametrize(
    ("bbox", "year", "options", "error", "message"),
    [
        ((10, 52, 11, 53), 2024, {}, NoOverlapError, "does not intersect any zone grid"),
        ((-0.004, 53, -0.003, 54), 2024, {}, NoOverlapError, "does not intersect any zone grid"),
        ((0.003, 51.998, 0.001, 52), 2024, {}, ValueError, "bbox"),
        (SEAM, 1999, {}, ValueError, "1999"),
        (SEAM, 2024, {"depth": 3}, ValueError, "depth 3 not in this store"),
        (SEAM, 2024, {"strip_rows": 0}, ValueError, "strip_rows must be positive"),
        (SEAM, 2024, {"bands": []}, BandError, "empty"),
        (SEAM, 2024, {"bands": [4]}, BandError, "out of range"),
        (SEAM, 2024, {"bands": [1.5]}, BandError, "whole number"),
        (SEAM, 2024, {"bands": [True]}, BandError, "whole number"),
        (SEAM, 2024, {"compress": "jpeg"}, ValueError, "jpeg"),
    ],
)
def test_what_cannot_be_exported(
    client: GeoTesseraZarr,
    tmp_path: Path,
    bbox: Any,
    year: int,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        client.export_geotiffs(bbox, year, tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_an_outline_chooses_zones_and_their_boxes(client: GeoTesseraZarr, tmp_path: Path) -> None:
    west = shapely.box(-0.003, 51.999, -0.001, 52.0)
    east = shapely.box(180.0 - 0.002, -17.001, 180.0, -16.999)
    far = shapely.box(-180.0, -17.0, -180 + 0.001, -16.999)
    region = Region.from_geometry(shapely.union_all([west, east, far]))
    planned = client.export_geotiffs(
        region.bbox, 2024, tmp_path, dry_run=True, outline=region.geometry
    )
    assert [one["zone"] for one in planned] == [1, 30, 60]  # not 31, which the box meets
    for one, part in zip(planned, (far, west, east), strict=True):
        (alone,) = client.export_geotiffs(part.bounds, 2024, tmp_path, dry_run=True)
        assert one == alone
    paths = client.export_geotiffs(region.bbox, 2024, tmp_path, outline=region.geometry)
    values, affine, _ = client.read_region(west.bounds, 2024)
    with rasterio.open(paths[1]) as found:
        assert found.transform == affine
        np.testing.assert_array_equal(np.moveaxis(found.read(), 0, 2), values)


@pytest.mark.parametrize(
    "outline", [None, shapely.Point(0, 52), shapely.LineString([(0, 52), (1, 52)])]
)
def test_an_outline_without_an_area_does_nothing(
    client: GeoTesseraZarr, tmp_path: Path, outline: Any
) -> None:
    how: Any = {"dry_run": True}
    planned = client.export_geotiffs(SEAM, 2024, tmp_path, outline=outline, **how)
    assert planned == client.export_geotiffs(SEAM, 2024, tmp_path, **how)


def test_an_outline_away_from_the_store(client: GeoTesseraZarr, tmp_path: Path) -> None:
    outline = shapely.box(50, 10, 51, 11)
    with pytest.raises(NoOverlapError):
        client.export_geotiffs((-1, 50, 60, 53), 2024, tmp_path, outline=outline)
