from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from geotessera.errors import ResamplingError, YearError, ZoneError
from geotessera.store import GeoTesseraZarr
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

BANDS = 4
PLACES = (
    (0.0, 52.0, 30), (0.0, 52.0, 31), (-51.0, -10.0, 22), (180.0, -17.0, 60), (180.0, -17.0, 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    grids = [zone_grid(lon, lat, zone=zone) for lon, lat, zone in PLACES]
    path = tmp_path_factory.mktemp("patches") / "store"
    return SampleStore.build(path, grids=grids, pixels=Pattern(BANDS), depths=(2,))


@pytest.fixture(scope="module")
def client(store: SampleStore) -> GeoTesseraZarr:
    return GeoTesseraZarr(store.path)


def padded(store: SampleStore, zone: int, row: int, col: int, size: int) -> np.ndarray:
    """Pixels of a square of a zone, NaN beyond its grid."""
    grid = store.grids[zone]
    whole = store.embedding(zone, 2024, Window(0, 0, grid.height, grid.width))
    wide = np.pad(whole, ((size, size), (size, size), (0, 0)), constant_values=np.nan)
    return wide[row + size : row + 2 * size, col + size : col + 2 * size]


@pytest.mark.parametrize("size", [1, 2, 20, 21])
@pytest.mark.parametrize(("row", "col"), [(40, 50), (0, 0), (95, 127), (3, 90)])
def test_a_patch_in_one_zone_is_copied(
    store: SampleStore, client: GeoTesseraZarr, row: int, col: int, size: int
) -> None:
    for offset in (0.3, 0.8):
        lon, lat = store.lonlat(22, row, col, offset)
        values, affine, crs = client.read_patch(lon, lat, 2024, size)
        assert values.shape == (size, size, BANDS)
        assert values.dtype == np.float32
        assert crs == "EPSG:32622"
        x, y = Transformer.from_crs(4326, 32622, always_xy=True).transform(lon, lat)
        assert int((x - affine.c) // 10) == int((affine.f - y) // 10) == size // 2
        grid = store.grids[22]
        top, left = row - size // 2, col - size // 2
        assert (affine.c, affine.f) == (
            grid.transform[2] + 10 * left,
            grid.transform[5] - 10 * top,
        )
        np.testing.assert_array_equal(values, padded(store, 22, top, left, size))


def test_a_patch_beyond_the_grid_is_empty(client: GeoTesseraZarr, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "geotessera.store"):
        values, affine, crs = client.read_patch(-51.0, -10.2, 2024, 10, depth=2)
    assert values.shape == (10, 10, 2)
    assert np.isnan(values).all()
    assert crs == "EPSG:32622"
    x, y = Transformer.from_crs(4326, 32622, always_xy=True).transform(-51.0, -10.2)
    assert abs(affine.c + 55 - x) <= 6
    assert abs(affine.f - 55 - y) <= 6
    assert "100.0% of the 10x10 patch has no coverage" in caplog.text


def merged(
    store: SampleStore, zones: Iterable[int], lon: np.ndarray, lat: np.ndarray
) -> np.ndarray:
    out = np.full((*lon.shape, BANDS), np.nan, np.float32)
    own = np.minimum(np.floor((lon + 180) / 6) + 1, 60).astype(int)
    for zone in zones:
        grid = store.grids[zone]
        pixels = store.embedding(zone, 2024)
        x, y = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
        col = np.ceil((x - grid.transform[2]) / 10 - 1).astype(int)
        row = np.ceil((grid.transform[5] - y) / 10 - 1).astype(int)
        inside = (col >= 0) & (col < grid.width) & (row >= 0) & (row < grid.height)
        found = np.full_like(out, np.nan)
        found[inside] = pixels[row[inside], col[inside]]
        take = np.isfinite(found[..., 0]) & ((own == zone) | np.isnan(out[..., 0]))
        out[take] = found[take]
    return out


@pytest.mark.parametrize(
    ("place", "size", "dst"),
    [
        ((0.0001, 51.9995), 33, None),
        ((-0.0011, 52.0), 40, None),
        ((179.9999, -17.0003), 31, None),
        ((-179.9999, -17.0002), 32, None),
        ((-51.001, -10.0002), 31, "EPSG:32722"),
        ((0.0002, 52.0001), 24, "EPSG:3035"),
        ((0.0002, 52.0001), 24, 3857),
    ],
)
def test_a_patch_of_several_zones_is_merged(
    store: SampleStore,
    client: GeoTesseraZarr,
    place: tuple[float, float],
    size: int,
    dst: Any,
) -> None:
    values, affine, name = client.read_patch(*place, 2024, size, dst_crs=dst)
    crs = CRS.from_user_input(name)
    if dst is None:
        assert crs.name == f"Tessera patch Transverse Mercator lon_0={place[0]:.4f}"
        known = {one.name: one.value for one in crs.coordinate_operation.params}
        assert known["Longitude of natural origin"] == place[0]
        assert known["Scale factor at natural origin"] == 0.9996
        assert known["False easting"] == 500_000
        assert known["False northing"] == (10_000_000 if place[1] < 0 else 0)
    else:
        assert name == f"EPSG:{str(dst).removeprefix('EPSG:')}"
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(*place)
    middle = (size // 2 + 0.5) * affine.a
    assert affine.c + middle == pytest.approx(x, abs=1e-6)
    assert affine.f - middle == pytest.approx(y, abs=1e-6)
    assert (affine.a, affine.e) == (10.0, -10.0)  # of the CRS, as upstream's
    cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(
        affine.c + affine.a * cols, affine.f + affine.e * rows
    )
    reference = merged(store, store.grids, np.asarray(lon), np.asarray(lat))
    same = (values == reference) | (np.isnan(values) & np.isnan(reference))
    # Positions are exact to a few hundredths of a pixel in CRSs that are not our own.
    assert same.all(axis=2).mean() > 0.97
    covered = np.isfinite(reference[..., 0])
    assert (np.isfinite(values[..., 0]) != covered).mean() < 0.02
    assert covered.mean() > 0.8


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([-1, 1]), st.floats(1e-6, 0.0015), st.integers(1, 30))
def test_a_square_round_the_place_says_whether_a_patch_spans_zones(
    client: GeoTesseraZarr, side: int, off: float, size: int
) -> None:
    zone = 30 if side < 0 else 31
    there = Transformer.from_crs(4326, 32600 + zone, always_xy=True)
    x, y = there.transform(side * off, 52.0003)
    half = size * 5
    lons, _ = there.transform(
        [x - half, x + half, x - half, x + half],
        [y - half, y - half, y + half, y + half],
        direction="INVERSE",
    )
    if min(abs(lon) for lon in lons) < 1e-9:
        return
    within = all((lon > 0) == (side > 0) for lon in lons)
    crs = client.read_patch(side * off, 52.0003, 2024, size)[2]
    assert (crs == f"EPSG:{32600 + zone}") == within


def test_a_patch_is_resampled_as_asked(client: GeoTesseraZarr) -> None:
    place = 0.0001, 51.9995
    found = {
        name: client.read_patch(*place, 2024, 24, resampling=name)
        for name in ("nearest", "bilinear", "cubic", "average")
    }
    assert len({tuple(affine)[:6] for _, affine, _ in found.values()}) == 1
    plain = found["nearest"][0]
    for name in ("bilinear", "cubic", "average"):
        values = found[name][0]
        assert values.shape == plain.shape
        assert not np.array_equal(values, plain, equal_nan=True)
        both = np.isfinite(values) & np.isfinite(plain)
        assert both.mean() > 0.5
    half = client.read_patch(*place, 2024, 24, dst_crs=32631, resolution=5.0)[1]
    assert (half.a, half.e) == (5.0, -5.0)


@pytest.mark.parametrize("dst", ["EPSG:3035", 32630, 32631])
@pytest.mark.parametrize("lon", [-0.003, -0.0001])
def test_bilinear_patches_blend_the_owners_four_pixels(tmp_path: Any, dst: Any, lon: float) -> None:
    plain = Pattern(BANDS, water=0, gaps=0, specks=0)
    grids = [zone_grid(0, 52, zone=zone) for zone in (30, 31)]
    store = SampleStore.build(tmp_path / "s", grids=grids, pixels=plain, clip=False, depths=())
    values, affine, crs = GeoTesseraZarr(store.path).read_patch(
        lon, 52, 2024, 20, dst_crs=dst, resampling="bilinear"
    )
    cols, rows = np.meshgrid(np.arange(20) + 0.5, np.arange(20) + 0.5)
    east, north = affine.c + affine.a * cols, affine.f + affine.e * rows
    lons, _ = Transformer.from_crs(crs, 4326, always_xy=True).transform(east, north)
    expected = np.full(values.shape, np.nan)
    for zone, grid in store.grids.items():
        x, y = Transformer.from_crs(crs, 32600 + zone, always_xy=True).transform(east, north)
        u, v = (x - grid.transform[2]) / 10 - 0.5, (grid.transform[5] - y) / 10 - 0.5
        i, j = np.floor(v).astype(int), np.floor(u).astype(int)
        down, right = (v - i)[..., None], (u - j)[..., None]
        pixels = store.embedding(zone, 2024).astype(np.float64)
        above = pixels[i, j] * (1 - right) + pixels[i, j + 1] * right
        below = pixels[i + 1, j] * (1 - right) + pixels[i + 1, j + 1] * right
        own = (lons < 0) == (zone == 30)
        expected[own] = (above * (1 - down) + below * down)[own]
    # Positions in other CRSs than the zones' are interpolated: 0.001 of a pixel.
    np.testing.assert_allclose(values, expected, atol=5e-3 if dst == "EPSG:3035" else 1e-5)


def test_bands_of_patches(client: GeoTesseraZarr) -> None:
    for place, kwargs in (((-51.0005, -10.0), {}), ((0.0001, 52.0), {"resampling": "cubic"})):
        whole = client.read_patch(*place, 2024, 9, **kwargs)[0]
        part = client.read_patch(*place, 2024, 9, bands=[2, 0], **kwargs)[0]
        np.testing.assert_array_equal(part, whole[..., [2, 0]])


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None, "3"])
def test_sizes_that_are_none(client: GeoTesseraZarr, size: Any) -> None:
    with pytest.raises(ValueError, match="size_px must be positive"):
        client.read_patch(0, 52, 2024, size)


def test_what_patches_refuse(client: GeoTesseraZarr) -> None:
    for lon, lat in ((181, 0), (0, 91), (np.nan, 0)):
        with pytest.raises(ValueError, match="not on the globe"):
            client.read_patch(lon, lat, 2024, 5)
    for place in (("a", 52), (None, 52)):
        with pytest.raises(ValueError, match="expected degrees"):
            client.read_patch(*place, 2024, 5)
    for crs in ("EPSG:4326", "EPSG:2263"):  # degrees, feet
        with pytest.raises(ValueError, match="metre"):
            client.read_patch(0, 52, 2024, 5, dst_crs=crs)
    with pytest.raises(ResamplingError, match="unknown resampling 'foo'") as caught:
        client.read_patch(0, 52, 2024, 5, resampling="foo")
    assert isinstance(caught.value, KeyError)
    with pytest.raises(ZoneError, match="zone 47"):
        client.read_patch(100, 52, 2024, 5)
    with pytest.raises(YearError):
        client.read_patch(0.01, 52, 2020, 5)
    with pytest.raises(ValueError, match="depth 3"):
        client.read_patch(0.01, 52, 2024, 5, depth=3)
