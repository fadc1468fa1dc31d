from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from geotessera.errors import BoxError, NoOverlapError, YearError, ZoneError
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.store import GeoTesseraZarr
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.types import GridSpec, Window
from zarr_readers import CountingReader

BANDS = 4
PLACES = (
    (0.0, 52.0, 30), (0.0, 52.0, 31), (-51.0, -10.0, 22), (39.0, 0.0, 37),
    (180.0, -17.0, 60), (180.0, -17.0, 1),
)  # fmt: skip
GRIDS = [zone_grid(lon, lat, zone=zone) for lon, lat, zone in PLACES]
SEAM_BOX = (-0.004, 51.998, 0.003, 52.001)
CROSSING = (179.996, -17.002, -179.997, -16.999)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    path = tmp_path_factory.mktemp("regions") / "store"
    return SampleStore.build(path, grids=GRIDS, pixels=Pattern(BANDS), depths=(2,))


@pytest.fixture(scope="module")
def client(store: SampleStore) -> GeoTesseraZarr:
    return GeoTesseraZarr(store.path)


def stored(store: SampleStore, zone: int, year: int, name: str = "embeddings") -> Any:
    """Values (band, y, x), scales (y, x), x and y as zarr-python reads them."""
    group = zarr.open_group(store.path, mode="r")[f"utm{zone:02d}"]
    step = group["time"][:].tolist().index(year)
    return group[name][step], group["scales"][step], group["x"][:], group["y"][:]


def expected(
    store: SampleStore, zone: int, bbox: tuple[float, ...], year: int, name: str = "embeddings"
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """int8 (h, w, B), scales (h, w) and transform of a box, as the specification says."""
    values, scales, x, y = stored(store, zone, year, name)
    bounds = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform_bounds(
        *bbox, densify_pts=21
    )
    cols = np.flatnonzero((x >= bounds[0]) & (x <= bounds[2]))
    rows = np.flatnonzero((y >= bounds[1]) & (y <= bounds[3]))
    here = np.ix_(rows, cols)
    part = values[:, rows][:, :, cols].transpose(1, 2, 0)
    return part, scales[here], (10, 0, x[cols[0]] - 5, 0, -10, y[rows[0]] + 5)


def dequantized(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    factors = np.where(np.isfinite(scales), scales, np.float32(np.nan))
    return values.astype(np.float32) * factors[..., None]


BOXES = [
    (30, (-0.004, 51.998, -0.001, 52.001)),
    (30, SEAM_BOX),
    (31, (0.0005, 51.9985, 0.004, 52.0)),
    (22, (-51.003, -10.002, -50.999, -9.999)),
    (37, (38.998, -0.002, 39.003, 0.003)),
    (60, (179.996, -17.003, 179.999, -16.999)),
    (1, (-179.999, -17.003, -179.995, -16.999)),
    (37, (38.9, -0.1, 39.1, 0.1)),
]


@pytest.mark.parametrize(("zone", "bbox"), BOXES)
def test_a_box_of_one_zone(
    store: SampleStore, client: GeoTesseraZarr, zone: int, bbox: tuple[float, ...]
) -> None:
    part, scales, transform = expected(store, zone, bbox, 2024)
    values, affine, crs = client.read_region(bbox, 2024)
    assert values.dtype == np.float32
    assert crs == f"EPSG:{32600 + zone}"
    assert tuple(affine)[:6] == transform
    np.testing.assert_array_equal(values, dequantized(part, scales))
    assert np.isfinite(values).any()

    raw, factors, affine, crs = client.read_region_quantized(bbox, 2024)
    assert (raw.dtype, factors.dtype) == (np.int8, np.float32)
    assert tuple(affine)[:6] == transform
    np.testing.assert_array_equal(raw[np.isfinite(scales)], part[np.isfinite(scales)])
    np.testing.assert_array_equal(factors, scales)

    low, _, _ = client.read_region(bbox, 2024, depth=2)
    np.testing.assert_array_equal(low, values[..., :2])
    picked, _, _ = client.read_region(bbox, 2024, bands=np.array([3, 1]))
    np.testing.assert_array_equal(picked, values[..., [3, 1]])


@pytest.mark.parametrize("rows", [1, 7, 32, 33, 500])
def test_strips_are_the_region_in_pieces(client: GeoTesseraZarr, rows: int) -> None:
    bbox = (38.9, -0.1, 39.1, 0.1)
    whole, affine, crs = client.read_region(bbox, 2023)
    strips = list(client.iter_region(bbox, 2023, strip_rows=rows))
    np.testing.assert_array_equal(np.concatenate([strip for strip, _, _ in strips]), whole)
    for number, (strip, own, name) in enumerate(strips):
        assert name == crs
        assert tuple(own)[:6] == (10, 0, affine.c, 0, -10, affine.f - 10 * rows * number)
        assert len(strip) == rows or number == len(strips) - 1


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-0.0055, 0.005), st.floats(-0.004, 0.0035), st.floats(2e-4, 0.004), st.integers(1, 40)
)
def test_any_box_and_any_strips(
    store: SampleStore, client: GeoTesseraZarr, dx: float, dy: float, size: float, rows: int
) -> None:
    bbox = (-51 + dx, -10 + dy, -51 + dx + size, -10 + dy + size)
    part, scales, transform = expected(store, 22, bbox, 2024)
    values, affine, _ = client.read_region(bbox, 2024)
    assert tuple(affine)[:6] == transform
    np.testing.assert_array_equal(values, dequantized(part, scales))
    strips = [strip for strip, _, _ in client.iter_region(bbox, 2024, strip_rows=rows)]
    np.testing.assert_array_equal(np.concatenate(strips), values)


def test_strips_read_each_chunk_once(store: SampleStore) -> None:
    reader = CountingReader(store.path)
    client = GeoTesseraZarr(open_embedding_store(reader))
    bbox = (38.9, -0.1, 39.1, 0.1)
    strips = client.iter_region(bbox, 2024, strip_rows=10)
    assert sum(len(strip) for strip, _, _ in strips) == 96
    spans = sorted(one for one in reader.ranges if "embeddings" in one[0])
    assert len(spans) == len(set(spans)) > 0
    assert sum(length for *_, length in spans) < 96 * 128 * BANDS * 1.1


# --- Errors ------------------------------------------------------------------------------


def test_boxes_that_cannot_be_read(client: GeoTesseraZarr) -> None:
    for ask in (client.read_region, client.read_region_quantized):
        with pytest.raises(BoxError, match="positive area") as caught:
            ask((-0.004, 52.001, -0.003, 52.0), 2024)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, RuntimeError)  # upstream's comes from PROJ
        with pytest.raises(NoOverlapError, match="does not intersect") as missed:
            ask((-0.004, 53, -0.003, 54), 2024)
        assert isinstance(missed.value, IndexError)
        with pytest.raises(ZoneError, match="zone 32 is not in"):
            ask((10, 52, 11, 53), 2024)
        with pytest.raises(YearError, match="2023, 2024"):
            ask((-0.004, 51.998, -0.003, 52.0), 2020)
        with pytest.raises(ValueError, match=r"depth 3 not in this store.*\[2, 4\]"):
            ask((-0.004, 51.998, -0.003, 52.0), 2024, depth=3)
    for flat in ((-51.0, -10.0, -51.0, -9.9), (-200, 50, -190, 60)):
        with pytest.raises(IndexError, match="positive area"):  # upstream finds nothing there
            client.read_region(flat, 2024)
    for bbox in ((1, 2), (1, 2, 3), (1, 2, 3, np.nan), 5, None):
        with pytest.raises(BoxError):
            client.read_region(bbox, 2024)


def test_what_only_another_grid_can_have(client: GeoTesseraZarr, tmp_path: Path) -> None:
    box = BOXES[0][1]
    for ask in (
        client.read_region,
        client.read_region_quantized,
        lambda *args, **kwargs: next(client.iter_region(*args, **kwargs)),
        lambda *args, **kwargs: client.export_geotiffs(*args, tmp_path, **kwargs),
    ):
        with pytest.raises(ValueError, match="needs crs="):
            ask(box, 2024, resolution=20)
    with pytest.raises(ValueError, match="cubic"):
        client.read_region(box, 2024, method="cubic")  # type: ignore[arg-type]
    # Beyond the grids of zones that are there, nothing is found on any grid.
    for crs in (None, 3857, 4326):
        with pytest.raises(NoOverlapError):
            client.read_region((2, 52, 2.01, 52.01), 2024, crs=crs)


def test_errors_of_strips_come_with_the_first_one(client: GeoTesseraZarr) -> None:
    strips = client.iter_region((-0.004, 51.998, -0.003, 52.0), 2024, strip_rows=0)
    with pytest.raises(ValueError, match="strip_rows must be positive"):
        next(strips)
    with pytest.raises(ZoneError):
        next(client.iter_region((10, 52, 11, 53), 2024))


@pytest.mark.parametrize("name", ["read_region", "read_region_quantized", "iter_region"])
def test_all_variants_say_that_a_box_spans_zones(
    client: GeoTesseraZarr, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.WARNING, "geotessera.store"):
        found = getattr(client, name)(SEAM_BOX, 2024)
        if name == "iter_region":
            next(found)
    assert f"{name}: bbox spans UTM zones [30, 31]" in caplog.text
    assert "zone 30" in caplog.text


def test_crossing_boxes_are_where_they_are(store: SampleStore, client: GeoTesseraZarr) -> None:
    values, affine, crs = client.read_region(CROSSING, 2024)
    assert crs == "EPSG:32660"  # the middle is 179.9995
    x, y = affine.c, affine.f
    lon, lat = Transformer.from_crs(32660, 4326, always_xy=True).transform(x, y)
    assert abs(lon - 179.996) < 5e-4
    assert abs(lat + 16.999) < 5e-4
    assert np.isfinite(values).any()
    east = (179.998, -17.002, -179.996, -16.999)
    assert client.read_region(east, 2024)[2] == "EPSG:32601"


@pytest.mark.parametrize(
    ("bbox", "zone"),
    [
        ((-180, -90, 180, 90), 31),
        ((-179, -89, 179, 89), 31),
        ((0, 51, 6, 90), 31),
        ((-10, 51, 10, 53), 31),
        ((-171, -80, 69, 80), 22),
        ((-150, 51.9, 156, 52.1), 31),
        ((100, -18, -101, -16), 60),
    ],
)
def test_wide_boxes_hold_the_whole_grid(
    store: SampleStore, client: GeoTesseraZarr, bbox: tuple[float, ...], zone: int
) -> None:
    values, affine, crs = client.read_region(bbox, 2024)
    grid = store.grids[zone]
    assert crs == f"EPSG:{32600 + zone}"
    assert tuple(affine)[:6] == grid.transform
    np.testing.assert_array_equal(values, store.embedding(zone, 2024))


@pytest.mark.parametrize("way", ["client", "accessor"])
def test_a_region_takes_little_more_memory_than_its_values(tmp_path: Path, way: str) -> None:
    grid = zone_grid(-3, 52, 512, 512)
    SampleStore.build(
        tmp_path / "s", grids=[grid], pixels=Pattern(128), years=(2024,), depths=(), clip=False,
        shard=512,
    )  # fmt: skip
    west, south, east, north = grid.bounds
    code = f"""
from pyproj import Transformer
from geotessera.store import GeoTesseraZarr
def kilobytes(name):
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(name)).split()[1])
client = GeoTesseraZarr({str(tmp_path / "s")!r})
zone = client.open_zone(zone=30).tessera
box = {(west, south, east, north)!r}
degrees = Transformer.from_crs(32630, 4326, always_xy=True).transform_bounds(*box)
client.read_region((-3, 52, -2.9999, 52.0001), 2024)
zone.read_region((box[0], box[1], box[0] + 50, box[1] + 50), 2024)
open("/proc/self/clear_refs", "w").write("5")  # begins a new peak
before = kilobytes("VmRSS")
if {way!r} == "client":
    values = client.read_region(degrees, 2024)[0]
else:
    values = zone.read_region(box, 2024)[0]
assert values.shape[:2] == (512, 512), values.shape
print((kilobytes("VmHWM") - before) * 1024 / values.nbytes)
"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks of memory are measured on Linux")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0.9 < float(done.stdout) < 1.3


# --- Whole answers -----------------------------------------------------------------------


def owned(store: SampleStore, lon: np.ndarray, lat: np.ndarray, year: int) -> np.ndarray:
    """Nearest pixels of places: of the zone that owns the longitude, else of its neighbour."""
    lon = (lon + 180) % 360 - 180
    own = np.minimum(np.floor((lon + 180) / 6) + 1, 60).astype(int)
    out = np.full((*lon.shape, BANDS), np.nan, np.float32)
    for zone in store.grids:  # all of them: data overlap by 0.0005° only
        values, scales, x, y = stored(store, zone, year)
        pixels = dequantized(values.transpose(1, 2, 0), scales)
        east, north = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
        east, north = np.nan_to_num(east, posinf=0), np.nan_to_num(north, posinf=0)
        col = np.ceil((east - x[0]) / 10 - 0.5).astype(int)
        row = np.ceil((y[0] - north) / 10 - 0.5).astype(int)
        inside = (col >= 0) & (col < len(x)) & (row >= 0) & (row < len(y))
        found = np.full_like(out, np.nan)
        found[inside] = pixels[row[inside], col[inside]]
        take = inside & np.isfinite(found[..., 0]) & ((own == zone) | np.isnan(out[..., 0]))
        out[take] = found[take]
    return out


def centres(affine: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return affine.c + affine.a * cols, affine.f + affine.e * rows


@pytest.mark.parametrize(
    ("bbox", "crs"),
    [
        (SEAM_BOX, "EPSG:4326"),
        (SEAM_BOX, 3857),
        (SEAM_BOX, 32631),
        (CROSSING, "EPSG:4326"),
        (CROSSING, "EPSG:3857"),
        ((-51.003, -10.002, -50.999, -9.999), "EPSG:32722"),
        ((38.998, -0.002, 39.003, 0.003), "EPSG:4326"),
    ],
)
def test_one_grid_from_all_zones(
    store: SampleStore, client: GeoTesseraZarr, bbox: tuple[float, ...], crs: Any
) -> None:
    values, affine, name = client.read_region(bbox, 2024, crs=crs)
    assert name == f"EPSG:{str(crs).removeprefix('EPSG:')}"
    x, y = centres(affine, values.shape)
    if crs != "EPSG:4326":
        code = int(name.removeprefix("EPSG:"))
        if code == 3857:  # goes on beyond the antimeridian, which PROJ does not
            x = (x + 20037508.342789244) % (2 * 20037508.342789244) - 20037508.342789244
        x, y = Transformer.from_crs(code, 4326, always_xy=True).transform(x, y)
    reference = owned(store, x, y, 2024)
    same = (values == reference) | (np.isnan(values) & np.isnan(reference))
    # Where a rule of rounding decides, the last bit of a projection may.
    assert same.all(axis=2).mean() > 0.999
    assert np.isfinite(values[:, 0]).any()
    assert np.isfinite(values[:, -1]).any()

    raw, scales, *_ = client.read_region_quantized(bbox, 2024, crs=crs)
    np.testing.assert_array_equal(dequantized(raw, scales), values)
    strips = list(client.iter_region(bbox, 2024, crs=crs, strip_rows=9))
    np.testing.assert_array_equal(np.concatenate([strip for strip, _, _ in strips]), values)
    assert strips[1][1].f == pytest.approx(affine.f + 9 * affine.e)


def test_pixels_of_a_zone_are_copied_in_its_own_crs(
    store: SampleStore, client: GeoTesseraZarr
) -> None:
    bbox = (-51.003, -10.002, -50.999, -9.999)
    own, affine, _ = client.read_region(bbox, 2024)
    for code, shift in ((32622, 0), (32722, 10_000_000)):
        values, moved, _ = client.read_region(bbox, 2024, crs=code)
        assert tuple(moved)[:6] == (10, 0, affine.c, 0, -10, affine.f + shift)
        np.testing.assert_array_equal(values, own)


def test_overlapping_data_belong_to_the_owner(tmp_path: Path) -> None:
    """Both zones have data on both sides of the seam: each place has its own zone's."""
    grids = [zone_grid(0, 52, zone=zone) for zone in (30, 31)]
    plain = Pattern(BANDS, water=0, gaps=0, specks=1 / 16)
    store = SampleStore.build(tmp_path / "a", grids=grids, pixels=plain, clip=False, depths=())
    client = GeoTesseraZarr(store.path)
    values, affine, _ = client.read_region(SEAM_BOX, 2024, crs=4326, resolution=1e-4)
    assert values.shape[:2] == (30, 70)
    x, y = centres(affine, values.shape)
    reference = owned(store, x, y, 2024)
    same = (values == reference) | (np.isnan(values) & np.isnan(reference))
    assert same.all(axis=2).mean() > 0.999


def test_a_grid_like_another(store: SampleStore, client: GeoTesseraZarr) -> None:
    like = GridSpec(3857, (12.0, 0, -300.0, 0, -12.0, 6800300.0), 40, 60)
    values, affine, crs = client.read_region(None, 2024, like=like)
    assert values.shape == (40, 60, BANDS)
    assert crs == "EPSG:3857"
    assert tuple(affine)[:6] == like.transform
    x, y = centres(affine, values.shape)
    lon, lat = Transformer.from_crs(3857, 4326, always_xy=True).transform(x, y)
    reference = owned(store, lon, lat, 2024)
    same = (values == reference) | (np.isnan(values) & np.isnan(reference))
    assert same.all(axis=2).mean() > 0.999
    with pytest.raises(ValueError, match="leave out"):
        client.read_region(None, 2024, like=like, crs=3857)
    with pytest.raises(NoOverlapError, match="holds zones"):
        client.read_region((10, 52, 10.01, 52.01), 2024, crs=4326)


def test_the_default_resolution_is_a_pixels_size_on_the_ground(client: GeoTesseraZarr) -> None:
    _, affine, _ = client.read_region(SEAM_BOX, 2024, crs=3857)
    assert affine.a == pytest.approx(10 / np.cos(np.radians(52)), rel=2e-3)
    assert affine.e == -affine.a
    _, affine, _ = client.read_region(SEAM_BOX, 2024, crs=4326)
    assert affine.a == pytest.approx(10 / 111_320 / np.cos(np.radians(52)), rel=5e-3)
    assert affine.e == pytest.approx(-10 / 111_250, rel=5e-3)
    _, affine, _ = client.read_region(SEAM_BOX, 2024, crs=3035)
    assert affine.a == 10.0


def test_windows_of_a_plan_are_parts_of_the_whole(client: GeoTesseraZarr) -> None:
    from geotessera.mosaic import render

    plan = client._plan(SEAM_BOX, 2024, None, None, 4326, None, 5e-5)
    whole = render(plan).values
    assert whole.shape[0] > 40
    part = Window(11, 60, 20, 50)
    np.testing.assert_array_equal(render(plan, part).values, whole[11:31, 60:110])
    assert str(client.store.location) not in plan.digest
    assert plan.digest == client._plan(SEAM_BOX, 2024, None, None, 4326, None, 5e-5).digest
    assert plan.digest != client._plan(SEAM_BOX, 2023, None, None, 4326, None, 5e-5).digest


# --- As xarray has it --------------------------------------------------------------------


def test_zones_as_datasets(store: SampleStore, client: GeoTesseraZarr) -> None:
    import geotessera.store

    dataset = client.open_zone(zone=22)
    assert client.open_zone(lon=-51) is dataset
    assert client.open_zone(bbox=(-51.01, -10, -50.99, -9.9)) is dataset
    values, scales, x, y = stored(store, 22, 2024)
    np.testing.assert_array_equal(dataset.x, x)
    np.testing.assert_array_equal(dataset.y, y)
    np.testing.assert_array_equal(dataset.scales.sel(time=2024), scales)
    assert dataset.tessera.crs == "EPSG:32622"
    other = geotessera.store.open_zone(store.path, zone=22)
    np.testing.assert_array_equal(other.embeddings.sel(time=2024), values)
    with pytest.raises(TypeError, match="exactly one"):
        client.open_zone(zone=22, lon=3)
    with pytest.raises(KeyError, match="zone 21"):
        client.open_zone(zone=21)
    lazy = client.open_dataarray(SEAM_BOX, 2024, crs=4326)
    eager, _, _ = client.read_region(SEAM_BOX, 2024, crs=4326)
    assert lazy.dims == ("band", "y", "x")
    np.testing.assert_array_equal(lazy.values.transpose(1, 2, 0), eager)


def test_a_grid_of_the_whole_globe(client: GeoTesseraZarr) -> None:
    like = GridSpec(4326, (1.0, 0, -180.0, 0, -1.0, 90.0), 180, 360)
    values, _, _ = client.read_region(None, 2024, like=like)
    assert values.shape == (180, 360, BANDS)


def test_names_that_are_had_when_asked_for() -> None:
    import geotessera.store
    from geotessera.remote.http import enable_http_logging

    assert geotessera.store.enable_http_logging is enable_http_logging
    assert set(geotessera.store.__all__) <= set(dir(geotessera.store)) | {
        "TesseraAccessor", "open_dataarray", "open_zone", "zarr_store",
    }  # fmt: skip
    for name in geotessera.store.__all__:
        assert hasattr(geotessera.store, name)
    with pytest.raises(AttributeError, match="nothing"):
        geotessera.store.nothing  # noqa: B018
