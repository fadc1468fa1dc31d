"""Sampling one raster: its pixels are gathered, or read window by window, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native
from geotessera.errors import InputError, TileError
from geotessera.types import Status, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.sources import RasterSource
    from geotessera.types import GridSpec, Method

__all__ = ["check_method", "has_exact_projection", "needed_pixels", "sample_source"]

METHODS = ("nearest", "bilinear")


def sample_source(
    source: RasterSource,
    points: NDArray[np.float64],
    *,
    rows: NDArray[np.int64] | None = None,
    values: NDArray[np.float32] | None = None,
    status: NDArray[np.uint8] | None = None,
    pixels: NDArray[np.int32] | None = None,
    method: Method = "nearest",
    bands: Sequence[int] | None = None,
    mask_water: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Sample one raster.

    Parameters
    ----------
    source : RasterSource
        The raster, quantised or not, in any CRS.
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees.
    rows : ndarray of int64, optional
        Which rows of `points` and of the outputs are meant, strictly ascending; all by
        default.
    values : ndarray of float32, shape (N, bands), optional
    status : ndarray of uint8, shape (N,), optional
    pixels : ndarray of int32, shape (N, 2), optional
        Where to write; `values` and `status` are allocated by default, pixels not.
    method, bands, mask_water
        As for `sample_tiles`.

    Returns
    -------
    values : ndarray of float32, shape (N, bands)
    status : ndarray of uint8, shape (N,)
    """
    grid = source.grid
    epsg = grid.epsg
    exact = has_exact_projection(epsg)
    some = None
    if exact and source.prefers_gather(len(points) if rows is None else len(rows)):
        some = source.gather(needed_pixels(grid, points, rows, method))
    if some is not None:
        return _native.sample(
            some.values,
            some.scales,
            grid.transform,
            points,
            epsg=epsg,
            index=rows,
            method=method,
            bands=bands,
            nodata=some.nodata,
            land=_landmask(source) if mask_water else None,
            out=values,
            status=status,
            pixels=pixels,
            shape=(grid.height, grid.width),
            present=some.numbers,
        )
    block = source.pixels() if exact else None
    if block is None:
        return _sample_windows(
            source, points, rows, values, status, pixels, method, bands, mask_water
        )
    return _native.sample(
        block.values,
        block.scales,
        block.grid.transform,
        points,
        epsg=epsg,
        index=rows,
        method=method,
        layout=block.layout,
        bands=bands,
        nodata=block.nodata,
        land=_landmask(source) if mask_water else None,
        out=values,
        status=status,
        pixels=pixels,
    )


def needed_pixels(
    grid: GridSpec,
    points: NDArray[np.float64],
    rows: NDArray[np.int64] | None = None,
    method: Method = "nearest",
) -> NDArray[np.int64]:
    """Return the numbers of the pixels that some points need, strictly increasing.

    Parameters are those of `sample_source`; a number is row * width + column.
    """
    return _native.needed_pixels(
        (grid.height, grid.width),
        grid.transform,
        points,
        epsg=grid.epsg,
        index=rows,
        method=method,
    )


def check_method(method: str) -> None:
    """Raise `InputError` (a `ValueError`) for an unknown method."""
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")


def _landmask(source: RasterSource) -> NDArray[np.uint8]:
    land = source.land()
    if land is None:
        raise TileError(
            f"{source.provenance.source or 'the raster'} has no landmask beside it, so water "
            "cannot be masked: fetch the tile's landmask, or leave out mask_water"
        )
    return land


def has_exact_projection(epsg: int | None) -> bool:
    """Return whether the kernels know the CRS: UTM on WGS84, EPSG:4326 or EPSG:3857."""
    if epsg is None:
        return False
    return epsg in (4326, 3857) or (epsg // 100 in (326, 327) and 1 <= epsg % 100 <= 60)


def _project(points: NDArray[np.float64], grid: GridSpec) -> NDArray[np.float64]:
    """Return points in a grid's CRS."""
    lon, lat = np.ascontiguousarray(points.T)
    if has_exact_projection(grid.epsg):
        assert grid.epsg is not None  # has_exact_projection says so
        return np.column_stack(_native.project(lon, lat, grid.epsg))
    from pyproj import Transformer

    transformer = Transformer.from_crs(4326, grid.crs_name, always_xy=True)
    return np.column_stack(transformer.transform(lon, lat))


def _sample_windows(
    source: RasterSource,
    points: NDArray[np.float64],
    rows: NDArray[np.int64] | None,
    values: NDArray[np.float32] | None,
    status: NDArray[np.uint8] | None,
    pixels: NDArray[np.int32] | None,
    method: Method,
    bands: Sequence[int] | None,
    mask_water: bool,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Sample a raster that is read window by window, each stored block once."""
    if rows is None:
        rows = np.arange(len(points), dtype=np.int64)
    if values is None:
        width = source.band_count if bands is None else len(bands)
        values = np.full((len(points), width), np.nan, np.float32)
    if status is None:
        status = np.full(len(points), Status.OUTSIDE, np.uint8)
    grid = source.grid
    xy = _project(points[rows], grid)
    found = np.full((len(rows), values.shape[1]), np.nan, np.float32)
    found_status = np.full(len(rows), Status.OUTSIDE, np.uint8)
    found_pixels = np.full((len(rows), 2), -1, np.int32)
    land = _landmask(source) if mask_water else None
    for window, members in _windows_of(source, xy):
        block = source.read(window)
        part = np.s_[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
        _native.sample(
            block.values,
            block.scales,
            block.grid.transform,
            xy,
            index=members,
            method=method,
            layout=block.layout,
            bands=bands,
            nodata=block.nodata,
            land=None if land is None else land[part],
            out=found,
            status=found_status,
            pixels=found_pixels,
        )
        inside = members[found_pixels[members, 0] >= 0]
        found_pixels[inside] += np.array([window.row, window.col], np.int32)
    values[rows], status[rows] = found, found_status
    if pixels is not None:
        pixels[rows] = found_pixels
    return values, status


def _windows_of(
    source: RasterSource, xy: NDArray[np.float64]
) -> Iterator[tuple[Window, NDArray[np.int64]]]:
    """Yield the stored blocks that hold points, a pixel wider, with the points' rows."""
    grid, (block_height, block_width) = source.grid, source.block_shape
    a, _, left, _, e, top = grid.transform
    with np.errstate(invalid="ignore"):
        col = np.floor((xy[:, 0] - left) / a)
        row = np.floor((xy[:, 1] - top) / e)
        inside = (col >= 0) & (col < grid.width) & (row >= 0) & (row < grid.height)
    members = np.flatnonzero(inside)
    across = -(-grid.width // block_width)
    block = row[members] // block_height * across + col[members] // block_width
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.diff(block[order], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        down, right = divmod(int(block[order[start]]), across)
        # A pixel more on each side: the neighbours of a bilinear sample.
        first_row, first_col = max(down * block_height - 1, 0), max(right * block_width - 1, 0)
        last_row = min((down + 1) * block_height + 1, grid.height)
        last_col = min((right + 1) * block_width + 1, grid.width)
        window = Window(first_row, first_col, last_row - first_row, last_col - first_col)
        yield window, members[order[start:stop]].astype(np.int64)
