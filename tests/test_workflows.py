"""Jobs over stores by upstream's names: `geotessera.streaming` and `geotessera.workflows`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from geotessera import inputs, streaming, workflows
from geotessera.testing.stores import SampleStore

if TYPE_CHECKING:
    from geotessera.store import GeoTesseraZarr

BOX = "-0.004,51.998,0.003,52.001"
NUMBERS = (-0.004, 51.998, 0.003, 52.001)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return SampleStore.build(tmp_path_factory.mktemp("workflows") / "store", size="tiny")


@pytest.fixture
def client(store: SampleStore) -> GeoTesseraZarr:
    return workflows.open_stream(store_url=store.path)


def region_file(directory: Path, *boxes: tuple[float, float, float, float]) -> Path:
    path = directory / "region.geojson"
    shapes = [shapely.box(*box) for box in boxes]
    geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:4326").to_file(path)
    return path


# --- Windows -------------------------------------------------------------------------------


def test_windows_hold_what_regions_hold(client: GeoTesseraZarr) -> None:
    found = list(streaming.region_windows(client, NUMBERS, 2024))
    assert [zone for zone, _, _ in found] == [30, 31]
    for (_, dataset, window), part in zip(found, ((-0.004, 0.0), (0.0, 0.003)), strict=True):
        values, affine, crs = client.read_region((part[0], 51.998, part[1], 52.001), 2024)
        assert dataset.tessera.crs == crs
        assert window.transform == affine
        x0, x1, y0, y1, _ = window
        assert (y1 - y0, x1 - x0) == values.shape[:2]
        pixels = dataset.isel(x=slice(x0, x1), y=slice(y0, y1)).sel(time=2024)
        quantised = pixels.embeddings.transpose("y", "x", "band").values.astype(np.float32)
        scales = pixels.scales.values
        scales = np.where(np.isfinite(scales), scales, np.float32(np.nan))
        np.testing.assert_array_equal(quantised * scales[..., None], values)


def test_windows_elsewhere(client: GeoTesseraZarr) -> None:
    assert list(streaming.region_windows(client, (50, 10, 51, 11), 2024)) == []
    with pytest.raises(ValueError, match="1999 is unavailable"):
        list(streaming.region_windows(client, NUMBERS, 1999))
    with pytest.raises(ValueError, match="positive area"):
        list(streaming.region_windows(client, (3, 2, 1, 4), 2024))


def test_an_export_is_the_client_s(client: GeoTesseraZarr, tmp_path: Path) -> None:
    planned = streaming.export_region(client, NUMBERS, 2024, tmp_path / "a", dry_run=True)
    assert planned == client.export_geotiffs(NUMBERS, 2024, tmp_path / "b", dry_run=True)
    paths = streaming.export_region(client, NUMBERS, 2024, tmp_path / "a", bands=[1], depth=4)
    assert [Path(path).name for path in paths] == [
        "tessera_2024_utm30.tif",
        "tessera_2024_utm31.tif",
    ]


# --- Downloads -----------------------------------------------------------------------------


def test_a_download(store: SampleStore, client: GeoTesseraZarr, tmp_path: Path) -> None:
    how: dict[str, Any] = {"bbox": BOX, "store_url": store.path}
    planned = workflows.stream_download(tmp_path / "o", **how, dry_run=True)
    assert planned == client.export_geotiffs(NUMBERS, 2024, tmp_path / "o", dry_run=True)
    assert not (tmp_path / "o").exists()
    paths = workflows.stream_download(tmp_path / "o", **how, bands="3,0", year=2023)
    values, affine, _ = client.read_region((-0.004, 51.998, 0, 52.001), 2023, bands=[3, 0])
    with rasterio.open(paths[0]) as found:
        assert found.transform == affine
        np.testing.assert_array_equal(np.moveaxis(found.read(), 0, 2), values)


def test_a_download_follows_the_outline(store: SampleStore, tmp_path: Path) -> None:
    path = region_file(tmp_path, (-0.003, 51.999, -0.001, 52.0), (50, 10, 51, 11))
    paths = workflows.stream_download(tmp_path / "o", region_file=path, store_url=store.path)
    assert [Path(one).name for one in paths] == ["tessera_2024_utm30.tif"]
    with rasterio.open(paths[0]) as found:
        assert found.width * 10 < 250  # metres: 0.002° of longitude, and not all of the zone


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"bbox": BOX, "tile": "0,52"},
        {"bbox": BOX, "bands": "x"},
        {"bbox": BOX, "bands": "0,999"},
        {"bbox": BOX, "year": 1999},
        {"bbox": BOX, "depth": 3},
        {"country": "Atlantis"},
    ],
)
def test_what_cannot_be_downloaded(
    store: SampleStore, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    for job in (workflows.stream_download, workflows.stream_rgb, workflows.cached_stream_rgb):
        with pytest.raises(ValueError, match=r"\w"):
            job(tmp_path / "o" / "rgb.tif", store_url=store.path, **wrong)
    assert not list(tmp_path.rglob("*.tif"))


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        workflows.open_stream(store_url=tmp_path / "none")


def test_a_mirror_s_store_is_what_it_is_asked_for(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "v1.1-dclimate").symlink_to(store.path)
    monkeypatch.setenv("GEOTESSERA_BASE_URL", str(tmp_path))
    client = workflows.open_stream()
    assert client.dataset is not None
    assert (client.dataset.version, client.dataset.variant) == ("1.1", "dclimate")


# --- Pictures ------------------------------------------------------------------------------


def test_a_picture(store: SampleStore, client: GeoTesseraZarr, tmp_path: Path) -> None:
    target = tmp_path / "new" / "rgb.tif"
    assert workflows.stream_rgb(target, bbox=BOX, store_url=store.path, bands="2,1,0") == target
    assert list(target.parent.iterdir()) == [target]
    with rasterio.open(target) as found:
        assert (found.count, found.crs.to_epsg()) == (3, 3857)
        assert found.dtypes == ("uint8",) * 3
        pixels, mask = found.read(), found.dataset_mask()
    assert 0 < (mask > 0).mean() < 1
    assert pixels[:, mask > 0].min(axis=1).tolist() == [0, 0, 0]
    assert pixels[:, mask > 0].max(axis=1).tolist() == [255, 255, 255]


def test_a_picture_is_made_once(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "web" / "rgb_mosaic.tif"
    marker = target.with_suffix(".json")
    how: dict[str, Any] = {"bbox": BOX, "store_url": store.path}

    def make(**changes: Any) -> bool:
        path, reused = workflows.cached_stream_rgb(changes.pop("target", target), **(how | changes))
        assert path.is_file()
        return reused

    assert not make()
    assert make()
    state = json.loads(marker.read_text())
    assert state["artifact"] == workflows.file_identity(target, target.parent)
    assert len(bytes.fromhex(state["request"])) == 32
    assert make(cache_dir=tmp_path / "cache")  # it does not change a pixel
    assert make(bbox=NUMBERS)
    assert not make(force=True)
    moved = target.parent.rename(tmp_path / "moved") / target.name
    assert make(target=moved)
    for change in ({"year": 2023}, {"bands": "0,1,3"}, {"bbox": "-0.004,51.998,0.003,52.0"}):
        assert not make(target=moved, **change)
        assert make(target=moved, **change)
    assert not make(target=moved)
    moved.write_bytes(moved.read_bytes() + b"x")
    assert not make(target=moved)
    with monkeypatch.context() as patch:
        patch.setattr(workflows, "open_stream", lambda *_: pytest.fail("nobody is asked"))
        assert make(target=moved)
    # A run that fails leaves no marker for what is not there any more.
    with pytest.raises(ValueError, match="1999"):
        make(target=moved, year=1999)
    assert not moved.with_suffix(".json").exists()


def test_pictures_of_outlines_differ_though_their_boxes_do_not(
    store: SampleStore, tmp_path: Path
) -> None:
    target = tmp_path / "rgb.tif"
    first = region_file(tmp_path, NUMBERS)
    assert not workflows.cached_stream_rgb(target, region_file=first, store_url=store.path)[1]
    region_file(tmp_path, (-0.004, 51.998, -0.002, 52.001), (-0.004, 51.998, 0.003, 51.9995))
    assert not workflows.cached_stream_rgb(target, region_file=first, store_url=store.path)[1]


# --- Names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (workflows.open_stream, "version variant store_url cache_dir"),
        (
            workflows.stream_download,
            "output bbox tile region_file country year version variant store_url cache_dir bands "
            "depth compress dry_run",
        ),
        (
            workflows.stream_rgb,
            "output bbox tile region_file country year version variant store_url cache_dir bands "
            "depth",
        ),
        (workflows.cached_stream_rgb, "output force kwargs"),
        (workflows.stage_matches, "path expected"),
        (workflows.save_stage, "path state"),
        (
            streaming.export_region,
            "client bbox year output_dir bands depth strip_rows compress progress_callback dry_run",
        ),
        (streaming.region_windows, "client bbox year"),
        (inputs.resolve_region, "bbox tile region_file country"),
        (inputs.parse_bbox, "value"),
        (inputs.parse_points, "points"),
        (inputs.read_region_file, "location"),
    ],
)
def test_signatures_are_upstream_s(function: Any, names: str) -> None:
    assert list(inspect.signature(function).parameters) == names.split()
