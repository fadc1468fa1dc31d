"""`mosaic` against a plain reference, one pixel and one source after the other."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import oracles

from geotessera._native import mosaic, project, unproject
from geotessera.errors import BandError
from geotessera.types import Lattice, MosaicSource, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UTM31, UTM32, SOUTH, GEO, WEB = 32631, 32632, 32735, 4326, 3857
KINDS = ["i8", "i8-bands", "f4"]


class Grid(NamedTuple):
    epsg: int
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> None:
    """Equal to the last bit, NaN and the sign of zero included."""
    if a.dtype == np.float32:
        a, b = a.view(np.uint32), b.view(np.uint32)
    np.testing.assert_array_equal(a, b)


def pixels(
    rng: np.random.Generator, kind: str, shape: tuple[int, int, int], gaps: float = 0.2
) -> tuple[Any, Any, float | None]:
    """Values, scales and nodata of a raster with gaps in it, HWC."""
    q = rng.integers(-128, 128, shape, dtype=np.int8)
    if kind == "i8":
        scales = rng.uniform(-0.1, 0.2, shape[:2]).astype(np.float32)
        scales[rng.random(shape[:2]) < gaps] = np.nan
        scales[rng.random(shape[:2]) < gaps / 4] = np.inf
        return q, scales, None
    if kind == "i8-bands":
        scales = rng.uniform(-0.1, 0.2, shape).astype(np.float32)
        scales[rng.random(shape) < gaps] = -np.inf
        scales[rng.random(shape[:2]) < gaps] = np.nan
        return q, scales, None
    values = rng.normal(size=shape).astype(np.float32)
    values[rng.random(shape) < gaps / 2] = np.nan
    values[rng.random(shape) < gaps / 2] = -9999
    values[rng.random(shape[:2]) < gaps] = -9999
    return values, None, -9999.0


def chw(source: MosaicSource) -> MosaicSource:
    """The same raster, bands first in memory."""
    scales = source.scales
    if scales is not None and scales.ndim == 3:
        scales = np.ascontiguousarray(np.moveaxis(scales, -1, 0))
    values = np.ascontiguousarray(np.moveaxis(source.values, -1, 0))
    return source._replace(values=values, scales=scales, layout="chw")


def centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, _, c, _, e, f = grid.transform
    x, y = np.meshgrid(
        c + a * (np.arange(grid.width) + 0.5), f + e * (np.arange(grid.height) + 0.5)
    )
    return x.ravel(), y.ravel()


def lonlat_of(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = centres(grid)
    return (x, y) if grid.epsg == GEO else unproject(x, y, grid.epsg)


def expected(
    sources: Sequence[MosaicSource], grid: Grid, *, method: str, bands: list[int] | None
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Values (row, column, band) and the source each pixel came from.

    Coordinates come from the kernels' projections, which other tests hold against PROJ.
    """
    lon, lat = lonlat_of(grid)
    tenths = [(math.floor(lo * 10), math.floor(la * 10)) for lo, la in zip(lon, lat, strict=True)]
    cells = [((east + 1800) % 3600 - 1800, north) for east, north in tenths]
    found = []
    for source in sources:
        if source.position == "same":
            x, y = centres(grid)
            epsg = grid.epsg
        else:
            assert isinstance(source.position, int)
            epsg = source.position
            x, y = centres(grid) if epsg == grid.epsg else project(lon, lat, epsg)
        period = {GEO: 360.0, WEB: 2 * math.pi * 6378137.0}.get(epsg)
        if period:
            middle = source.transform[2] + source.transform[0] * source.shape[1] / 2
            x = x - period * np.floor((x - middle) / period + 0.5)
        found.append(
            oracles.sample(
                source.values,
                source.scales,
                source.transform,
                np.column_stack([x, y]),
                method=method,
                rule=source.rule,
                layout=source.layout,
                bands=bands,
                nodata=source.nodata,
            )
        )
    depth = found[0][0].shape[1]
    out = np.full((len(lon), depth), np.nan, np.float32)
    origin = np.full(len(lon), -1, np.int16)
    for i in range(len(lon)):
        owners = [k for k, s in enumerate(sources) if s.cell == cells[i]]
        for k in [*owners, *range(len(sources))]:
            if found[k][1][i] == oracles.VALID:
                out[i], origin[i] = found[k][0][i], k
                break
    size = (grid.height, grid.width)
    return out.reshape(*size, depth), origin.reshape(size)


def made(
    sources: Sequence[MosaicSource],
    grid: Grid,
    *,
    depth: int,
    window: Window | None = None,
    layout: Any = "hwc",
    **options: Any,
) -> tuple[NDArray[np.float32], NDArray[np.int16], int]:
    """What the kernel makes of it, HWC."""
    window = window or Window(0, 0, grid.height, grid.width)
    size = (window.height, window.width)
    shape = (*size, depth) if layout == "hwc" else (depth, *size)
    out, origin = np.full(shape, 7, np.float32), np.full(size, 77, np.int16)
    options = {"epsg": grid.epsg, **options}
    count = mosaic(
        sources, grid.transform, window, out=out, origin=origin, out_layout=layout, **options
    )
    return (out if layout == "hwc" else np.moveaxis(out, 0, -1)), origin, count


def raster(
    rng: np.random.Generator,
    kind: str,
    grid: Grid,
    depth: int,
    *,
    position: Any = "same",
    cell: tuple[int, int] | None = None,
    rule: Any = "floor",
    gaps: float = 0.2,
) -> MosaicSource:
    size = (grid.height, grid.width)
    values, scales, nodata = pixels(rng, kind, (*size, depth), gaps)
    window = Window(0, 0, *size)
    return MosaicSource(
        values, scales, window, size, grid.transform, position, cell, "hwc", nodata, rule
    )


def around(epsg: int, lon: float, lat: float, pixel: float, height: int, width: int) -> Grid:
    """A grid whose middle is about here."""
    if epsg == GEO:
        x, y = lon, lat
    else:
        x, y = (float(v[0]) for v in project(np.array([lon]), np.array([lat]), epsg))
    left, top = x - pixel * width / 2, y + pixel * height / 2
    return Grid(epsg, (pixel, 0.0, left, 0.0, -pixel, top), height, width)


PLACES = [
    # A corner of four cells, inside a zone, on a zone seam, south, and beside the antimeridian.
    ((3.1, 52.2), (UTM31, UTM31)),
    ((6.0, 47.3), (UTM31, UTM32)),
    ((27.0, -12.4), (SOUTH, SOUTH)),
    ((179.9999, -16.8), (32760, 32701)),
]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    place=st.sampled_from(PLACES),
    target=st.sampled_from(["utm", GEO, WEB]),
    method=st.sampled_from(["nearest", "bilinear"]),
    rule=st.sampled_from(["floor", "nearest"]),
    depth=st.integers(1, 20),
    layouts=st.tuples(st.sampled_from(["hwc", "chw"]), st.sampled_from(["hwc", "chw"])),
    subset=st.booleans(),
    celled=st.booleans(),
    phase=st.sampled_from([0.0, 0.5, 0.37]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_bit_for_bit_the_reference(
    seed: int,
    kinds: list[str],
    place: tuple[tuple[float, float], tuple[int, int]],
    target: Any,
    method: Any,
    rule: Any,
    depth: int,
    layouts: tuple[str, str],
    subset: bool,
    celled: bool,
    phase: float,
    size: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    (lon, lat), zones = place
    epsg = zones[0] if target == "utm" else target
    grid = around(epsg, lon, lat, 1e-4 if epsg == GEO else 10.0, *size)
    sources = []
    for number, kind in enumerate(kinds):
        zone = zones[number % 2]
        shape = rng.integers(1, 14, 2).tolist()
        ground = around(zone, lon, lat, 10.0, *shape)
        shift = rng.integers(-4, 5, 2) + phase
        # From the target's corner where they share a zone, so that pixels share edges.
        left, top = (grid if zone == epsg else ground).transform[2::3]
        left, top = left + 10.0 * shift[0], top + 10.0 * shift[1]
        ground = ground._replace(transform=(10.0, 0.0, left, 0.0, -10.0, top))
        cell = None
        if celled:
            east, north = math.floor(lon * 10), math.floor(lat * 10)
            east = (east - int(rng.integers(0, 2)) + 1800) % 3600 - 1800
            cell = (east, north - int(rng.integers(0, 2)))
        position = "same" if zone == epsg and rng.random() < 0.5 else zone
        source = raster(rng, kind, ground, depth, position=position, cell=cell, rule=rule)
        sources.append(chw(source) if layouts[0] == "chw" else source)
    bands = rng.integers(0, depth, rng.integers(0, 7)).tolist() if subset else None
    want, origin = expected(sources, grid, method=method, bands=bands)
    found, found_origin, count = made(
        sources, grid, depth=want.shape[2], method=method, bands=bands, layout=layouts[1]
    )
    np.testing.assert_array_equal(found_origin, origin)
    same_bits(np.ascontiguousarray(found), want)
    assert count == (origin >= 0).sum()


@pytest.mark.parametrize("target", [UTM31, GEO, WEB])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_windows_change_no_bit(target: int, method: Any) -> None:
    rng = np.random.default_rng(2)
    grid = around(target, 3.1, 52.2, 1.3e-4 if target == GEO else 11.0, 150, 170)
    cells = itertools.product((30, 31), (521, 522))
    sources = [
        raster(rng, kind, around(UTM31, 3.1, 52.2, 10.0, 160, 120), 5, position=UTM31, cell=cell)
        for kind, cell in zip(("i8", "i8-bands", "f4", "i8"), cells, strict=True)
    ]
    whole, origin, count = made(sources, grid, depth=5, method=method)
    total = 0
    for row, col in itertools.product(range(0, 150, 47), range(0, 170, 61)):
        window = Window(row, col, min(47, 150 - row), min(61, 170 - col))
        part, part_origin, part_count = made(sources, grid, depth=5, method=method, window=window)
        rows, cols = slice(row, row + 47), slice(col, col + 61)
        same_bits(part, np.ascontiguousarray(whole[rows, cols]))
        np.testing.assert_array_equal(part_origin, origin[rows, cols])
        total += part_count
    assert total == count == (origin >= 0).sum()


@pytest.mark.parametrize("bands", [None, [3, 0, 3]])
@pytest.mark.parametrize("kind", ["i8", "i8-bands"])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_quantised_output_is_what_is_stored(kind: str, bands: Any, layout: Any) -> None:
    rng = np.random.default_rng(9)
    grid = around(GEO, 3.1, 52.2, 1.3e-4, 40, 70)
    sources = [
        raster(rng, kind, around(UTM31, lon, 52.2, 10.0, 30, 40), 6, position=UTM31, cell=cell)
        for lon, cell in ((3.0985, (30, 522)), (3.1015, (31, 521)))
    ]
    depth = 6 if bands is None else 3
    want, origin, count = made(sources, grid, depth=depth, bands=bands)
    size = (40, 70)
    shape = (*size, depth) if layout == "hwc" else (depth, *size)
    q = np.full(shape, 7, np.int8)
    scales = np.full(size if kind == "i8" else shape, 7, np.float32)
    found_count = mosaic(
        sources,
        grid.transform,
        (0, 0, *size),
        epsg=GEO,
        out=q,
        out_scales=scales,
        out_layout=layout,
        bands=bands,
    )
    assert found_count == count
    values = oracles.dequantized(q, scales, layout=layout)
    same_bits(np.ascontiguousarray(values), want)
    hwc = np.moveaxis(q, 0, -1) if layout == "chw" else q
    flat = scales if kind == "i8" else scales[..., 0] if layout == "hwc" else scales[0]
    gone = origin < 0
    assert gone.any()
    assert not hwc[gone].any()
    assert (flat[gone] == np.inf).all()


def test_cells_own_their_west_and_south_edges() -> None:
    """On a grid whose pixel centres lie on cell edges, to the last bit."""
    grid = Grid(GEO, (0.05, 0.0, -0.125, 0.0, -0.05, 0.125), 5, 5)
    rng = np.random.default_rng(0)
    ground = Grid(GEO, (0.5, 0.0, -1.0, 0.0, -0.5, 1.0), 4, 4)
    cells = [(-1, 0), (0, 0), (-1, -1), (0, -1)]
    sources = [raster(rng, "i8", ground, 3, cell=cell, gaps=0.0) for cell in cells]
    _, origin, _ = made(sources, grid, depth=3)
    lon, lat = centres(grid)
    want = [
        cells.index((max(min(math.floor(x * 10), 0), -1), max(min(math.floor(y * 10), 0), -1)))
        if (math.floor(x * 10), math.floor(y * 10)) in cells
        else 0
        for x, y in zip(lon, lat, strict=True)
    ]
    np.testing.assert_array_equal(origin.ravel(), want)
    assert origin[2, 2] == 1  # (0, 0) itself belongs to the north-eastern cell


def test_the_antimeridian_is_one_meridian() -> None:
    """A target in continuous longitude, and rasters on both sides of 180 degrees."""
    rng = np.random.default_rng(0)
    grid = Grid(GEO, (0.0625, 0.0, 179.78125, 0.0, -0.0625, 0.125), 3, 7)
    east = Grid(GEO, (0.1, 0.0, 179.0, 0.0, -0.1, 0.3), 6, 11)
    west = Grid(GEO, (0.1, 0.0, -180.2, 0.0, -0.1, 0.3), 6, 11)
    sources = [
        raster(rng, "f4", east, 2, cell=(1799, 0), gaps=0.0),
        raster(rng, "f4", west, 2, cell=(-1800, 0), gaps=0.0),
    ]
    want, want_origin = expected(sources, grid, method="nearest", bands=None)
    found, origin, _ = made(sources, grid, depth=2)
    np.testing.assert_array_equal(origin, want_origin)
    same_bits(found, want)
    # The fourth centre is 180 exactly, which belongs to the cell that begins at -180.
    assert origin[0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    # Nobody owns the last row, south of the equator: the first raster that is there.
    assert origin[2].tolist() == [0, 0, 0, 0, 0, 1, 1]


def nodes_of(grid: Grid, epsg: int | str, step: int, crs: Any) -> Lattice:
    """A lattice over a whole grid whose CRS PROJ knows."""
    rows = np.arange(0, grid.height + step, step, dtype=float)
    cols = np.arange(0, grid.width + step, step, dtype=float)
    a, _, c, _, e, f = grid.transform
    x, y = np.meshgrid(c + a * cols, f + e * rows)
    transformer = pyproj.Transformer.from_crs(crs, epsg, always_xy=True)
    return Lattice(0, 0, step, np.stack(transformer.transform(x, y), axis=-1))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(("crs", "lon", "lat"), [(3035, 10.1, 47.2), (27700, -1.9, 52.3)])
def test_lattices_are_interpolated(crs: int, lon: float, lat: float, method: Any) -> None:
    """A lattice of step 4 against PROJ at every pixel."""
    rng = np.random.default_rng(4)
    zone = 32600 + int((lon + 180) // 6 + 1)
    to = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    x, y = to.transform(lon, lat)
    grid = Grid(crs, (10.0, 0.0, x - 300.0, 0.0, -10.0, y + 250.0), 50, 60)
    lonlat = nodes_of(grid, 4326, 4, crs)
    lattice = nodes_of(grid, zone, 4, crs)
    cells = [(math.floor(lon * 10) - 1, math.floor(lat * 10)), None]
    grounds = [around(zone, lon - d, lat, 10.0, 70, 50) for d in (0.002, -0.001)]
    smooth = []
    for ground, cell, gaps in zip(grounds, cells, (0.0, 0.0), strict=True):
        source = raster(rng, "f4", ground, 3, position=lattice, cell=cell, gaps=gaps)
        rows, cols = np.mgrid[0 : ground.height, 0 : ground.width]
        values = np.stack([rows, cols, rows * 2.0 + cols], axis=-1).astype(np.float32)
        smooth.append(source._replace(values=values))
    found, origin, _ = made(smooth, grid, depth=3, epsg=None, lonlat=lonlat, method=method)
    exact = pyproj.Transformer.from_crs(crs, zone, always_xy=True)
    px, py = exact.transform(*centres(grid))
    for k, source in enumerate(smooth):
        mine = (origin == k).ravel()
        assert mine.any()
        a, _, c, _, e, f = source.transform
        u, v = (px[mine] - c) / a, (py[mine] - f) / e
        inner = (u > 1) & (v > 1) & (u < source.shape[1] - 1) & (v < source.shape[0] - 1)
        values = found.reshape(-1, 3)[mine][inner]
        if method == "bilinear":
            np.testing.assert_allclose(values[:, 0], v[inner] - 0.5, atol=1e-4)
            np.testing.assert_allclose(values[:, 1], u[inner] - 0.5, atol=1e-4)
        else:
            off_edge = (np.abs(u[inner] % 1 - 0.5) < 0.499) & (np.abs(v[inner] % 1 - 0.5) < 0.499)
            np.testing.assert_array_equal(values[off_edge, 0], np.floor(v[inner][off_edge]))
            np.testing.assert_array_equal(values[off_edge, 1], np.floor(u[inner][off_edge]))
    # The same through longitude and latitude alone.
    direct = [source._replace(position=zone) for source in smooth]
    again, again_origin, _ = made(direct, grid, depth=3, epsg=None, lonlat=lonlat, method=method)
    assert (again_origin == origin).mean() > 0.99
    both = np.isfinite(found) & np.isfinite(again)
    assert both.any()


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    ("epsg", "zone", "lon", "lat"),
    [
        (UTM31, UTM31, 3.1, 52.2),
        (UTM32, UTM31, 6.02, 52.2),
        (GEO, UTM31, 3.1, 52.2),
        (WEB, UTM31, 3.1, 52.2),
        (GEO, SOUTH, 27.3, -12.4),
        (GEO, 32633, 15.5, 78.2),
    ],
)
def test_gdal_agrees(epsg: int, zone: int, lon: float, lat: float, method: Any) -> None:
    """`rasterio.warp.reproject`, exact transformer, away from ties and from gaps."""
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    rng = np.random.default_rng(11)
    ground = around(zone, lon, lat, 10.0, 90, 80)
    source = raster(rng, "i8", ground, 4, position=zone, gaps=0.01)
    grid = around(epsg, lon, lat, 8e-5 if epsg == GEO else 9.7, 60, 70)
    found, _, _ = made([source], grid, depth=4, method=method)
    dequantized = oracles.dequantized(source.values, source.scales)
    gdal = np.full((4, 60, 70), np.nan, np.float32)
    reproject(
        np.ascontiguousarray(np.moveaxis(dequantized, -1, 0)),
        gdal,
        src_transform=Affine(*ground.transform),
        src_crs=CRS.from_epsg(zone),
        src_nodata=np.nan,
        dst_transform=Affine(*grid.transform),
        dst_crs=CRS.from_epsg(epsg),
        dst_nodata=np.nan,
        resampling=Resampling[method],
        tolerance=0,
        # GDAL averages where it believes that it coarsens; we never do.
        XSCALE=1,
        YSCALE=1,
    )
    want = np.moveaxis(gdal, 0, -1).reshape(-1, 4)
    values = found.reshape(-1, 4)
    to = pyproj.Transformer.from_crs(epsg, zone, always_xy=True)
    x, y = to.transform(*centres(grid))
    u = (x - ground.transform[2]) / 10.0
    v = (ground.transform[5] - y) / 10.0
    inner = (u > 1) & (v > 1) & (u < ground.width - 1) & (v < ground.height - 1)
    if method == "nearest":
        sure = inner & (np.abs(u % 1 - 0.5) < 0.49) & (np.abs(v % 1 - 0.5) < 0.49)
        assert sure.sum() > 1000
        same = np.where(np.isfinite(want), want, np.nan)
        np.testing.assert_array_equal(values[sure], same[sure])
        return
    whole = np.isfinite(dequantized).all(axis=2)
    near = np.ones_like(inner)
    for dr, dc in itertools.product((-1, 0, 1), repeat=2):
        rows = np.clip(np.floor(v).astype(int) + dr, 0, ground.height - 1)
        cols = np.clip(np.floor(u).astype(int) + dc, 0, ground.width - 1)
        near &= whole[rows, cols]
    sure = inner & near
    assert sure.sum() > 800
    scale = np.abs(dequantized[whole]).max()
    np.testing.assert_allclose(values[sure], want[sure], rtol=1e-4, atol=1e-4 * scale)


def ready() -> tuple[MosaicSource, Grid, NDArray[np.float32]]:
    grid = around(UTM31, 3.1, 52.2, 10.0, 6, 8)
    source = raster(np.random.default_rng(0), "i8", grid, 4, gaps=0.0)
    return source, grid, np.empty((6, 8, 4), np.float32)


def test_what_is_missing_from_a_window_is_an_error() -> None:
    source, grid, out = ready()
    part = source._replace(
        values=source.values[1:5, 2:8],
        scales=source.scales[1:5, 2:8],  # type: ignore[index]
        window=Window(1, 2, 4, 6),
    )
    with pytest.raises(ValueError, match=r"source 0: pixel \(0, 0\) of the raster is needed"):
        mosaic([part], grid.transform, (0, 0, 6, 8), epsg=UTM31, out=out)
    whole, _, _ = made([source], grid, depth=4)
    inner, _, _ = made([part], grid, depth=4, window=Window(1, 2, 4, 6))
    same_bits(inner, np.ascontiguousarray(whole[1:5, 2:8]))
    # A neighbour that only takes part in a mean.
    half = grid._replace(
        transform=(10.0, 0.0, grid.transform[2] + 2.5, 0.0, -10.0, grid.transform[5])
    )
    with pytest.raises(ValueError, match=r"source 0: pixel \(1, 1\)|pixel \(1, 8\)|is needed"):
        made(
            [part._replace(shape=(6, 9))],
            half,
            depth=4,
            window=Window(1, 2, 4, 6),
            method="bilinear",
        )


def test_nothing_to_do() -> None:
    source, grid, out = ready()
    assert mosaic([], grid.transform, (0, 0, 6, 8), epsg=UTM31, out=out) == 0
    assert np.isnan(out).all()
    empty = np.empty((0, 8, 4), np.float32)
    assert mosaic([source], grid.transform, (3, 0, 0, 8), epsg=UTM31, out=empty) == 0
    far = mosaic([source], grid.transform, (10**6, 10**6, 6, 8), epsg=UTM31, out=out)
    assert far == 0
    assert np.isnan(out).all()
    none = np.empty((6, 8, 0), np.float32)
    assert mosaic([source], grid.transform, (0, 0, 6, 8), epsg=UTM31, out=none, bands=[]) == 48


def test_strided_outputs_and_memory_maps(tmp_path: Any) -> None:
    source, grid, want = ready()
    mosaic([source], grid.transform, (0, 0, 6, 8), epsg=UTM31, out=want)
    np.save(tmp_path / "q.npy", source.values)
    mapped = source._replace(values=np.load(tmp_path / "q.npy", mmap_mode="r"))
    store = np.full((12, 16, 8), 5, np.float32)
    for view in (store[::2, ::2, ::2], store[5::-1, 7::-1, 3::-1]):
        store.fill(5)
        mosaic([mapped], grid.transform, (0, 0, 6, 8), epsg=UTM31, out=view)
        same_bits(np.ascontiguousarray(view), want)
        assert (store == 5).sum() == store.size - view.size


def test_arguments_are_checked() -> None:
    source, grid, out = ready()
    window = (0, 0, 6, 8)
    q, scales = np.empty((6, 8, 4), np.int8), np.empty((6, 8), np.float32)
    float_source = source._replace(values=source.values.astype(np.float32), scales=None)
    each = np.ones((6, 8, 4), np.float32)
    fewer = source._replace(values=source.values[..., :3])
    cases: list[tuple[str, list[MosaicSource], dict[str, Any]]] = [
        ("source 1: it has 3 bands, but source 0 has 4", [source, fewer], {}),
        ("expected shape", [source], {"out": out[:5]}),
        ("out_scales", [source], {"out": q}),
        ("out_scales must be None", [source], {"out_scales": scales}),
        ("nearest", [source], {"out": q, "out_scales": scales, "method": "bilinear"}),
        ("source 0: it is float32", [float_source], {"out": q, "out_scales": scales}),
        (
            "source 1: it has a scale for each band",
            [source, source._replace(scales=each)],
            {"out": q, "out_scales": scales},
        ),
        ("source 0: EPSG:27700", [source._replace(position=27700)], {}),
        ("position must be", [source._replace(position="other")], {}),  # type: ignore[arg-type]
        ("lattice of longitudes", [source._replace(position=UTM31)], {"epsg": None}),
        ("it has a cell", [source._replace(cell=(1, 2))], {"epsg": None}),
        ("is not inside", [source._replace(shape=(5, 8))], {}),
        ("its window is 6 x 7", [source._replace(window=Window(0, 0, 6, 7))], {}),
        ("must not be negative", [source._replace(window=Window(0, -1, 6, 8))], {}),
        ("rotated", [source._replace(transform=(1.0, 1.0, 0.0, 0.0, -1.0, 0.0))], {}),
        ("out overlaps", [float_source], {"out": float_source.values}),
        ("multiples of its step", [source], {"lonlat": Lattice(1, 0, 4, np.zeros((9, 9, 2)))}),
        ("multiples of its step", [source], {"lonlat": Lattice(0, 0, 0, np.zeros((9, 9, 2)))}),
        ("does not cover", [source], {"lonlat": Lattice(0, 0, 1, np.zeros((6, 9, 2)))}),
        (
            "source 0: lattice nodes",
            [source._replace(position=Lattice(0, 0, 1, np.zeros((9, 9, 3))))],
            {},
        ),
        ("too large", [source], {"window": (2**62, 0, 6, 8)}),
    ]
    for message, sources, changed in cases:
        options: dict[str, Any] = {"epsg": UTM31, "out": out, **changed}
        at = options.pop("window", window)
        with pytest.raises(ValueError, match=message):
            mosaic(sources, grid.transform, at, **options)
    with pytest.raises(BandError, match="band 4"):
        mosaic([source], grid.transform, window, epsg=UTM31, out=out, bands=[4])
    wrong = source._replace(values=source.values.astype(np.int16))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source 0: values must be"):
        mosaic([wrong], grid.transform, window, epsg=UTM31, out=out)
    with pytest.raises(TypeError, match="out must be"):
        mosaic([source], grid.transform, window, epsg=UTM31, out=np.zeros(out.shape))  # type: ignore[arg-type]
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mosaic([source], grid.transform, window, epsg=UTM31, out=out)
