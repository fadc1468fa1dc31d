"""Making a mosaic: the kernel is given the rasters that a window needs, and no more of them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import FormatError, InputError
from geotessera.mosaic.clip import covers_nothing, inside
from geotessera.mosaic.lattices import SQUARE
from geotessera.mosaic.opener import Opener
from geotessera.mosaic.places import lonlat, needs_lattices, position
from geotessera.mosaic.reach import source_window
from geotessera.sampling import has_exact_projection
from geotessera.sources.base import check_window
from geotessera.types import Block, MosaicSource, QuantizedRaster, Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from geotessera.mosaic.opener import Loan
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.sources import RasterSource
    from geotessera.sources.base import Allocate
    from geotessera.types import Layout

    type Values = NDArray[np.float32] | NDArray[np.int8]

__all__ = ["SPARSE", "render"]

_LARGEST = 2**28
"""Bytes of raster windows in memory at once, for one call of the kernel, where that is possible."""

_SMALLEST = 32
"""Side of the smallest part that a window is cut into to keep to that."""

_AHEAD = 4
"""Calls of the kernel whose windows may be read ahead, by as many threads."""

SPARSE = 8
"""A window so many times larger than what it gives is mapped instead of read: then it is a
coarse mosaic, which needs single pixels from here and there."""


def render(
    plan: MosaicPlan,
    window: Window | None = None,
    *,
    out: Values | None = None,
    scales: NDArray[np.float32] | None = None,
    layout: Layout = "hwc",
    opener: Opener | None = None,
    mapped: bool = True,
) -> Block:
    """Make a window of a mosaic, or all of it.

    Neither the window nor the number of threads nor `mapped` changes a bit of a pixel.

    Parameters
    ----------
    plan : MosaicPlan
        What is made.
    window : Window, optional
        Which pixels of the plan's grid; all by default. Any size will do.
    out : ndarray, optional
        Where the values go: float32, or int8 for a quantised plan, in the shape of `layout`;
        any strides. Threads that render at once need arrays whose memory does not interleave:
        bands of whole rows of one array do, tiles of it do not.
    scales : ndarray of float32, optional
        Where the scales of a quantised plan go: (height, width), or the shape of `out` if
        the plan has scales for each band.
    layout : {"hwc", "chw"}
        Axis order of the result.
    opener : Opener, optional
        Keeps sources open between calls; by default they are closed at the end.
    mapped : bool
        Whether files are memory-mapped, and those that cannot be are read ahead by threads.
        Otherwise only the windows that are needed are read, one after the other into buffers
        that are used again: what a block of `window` needs is in memory, nothing else.

    Returns
    -------
    Block
        Float32 values, NaN where there is no embedding; for a quantised plan a
        `QuantizedRaster`, q = 0 and scale = +inf where there is none.

    Raises
    ------
    InputError
        (a `ValueError`) for a window outside the grid, and for outputs that do not fit.
    FileNotFoundError
        If a raster is not there (any more).
    FormatError
        (a `RuntimeError`) if one is damaged, or is not the raster that was planned with.
    """
    whole = check_window(window, plan.grid)
    values, factors = _outputs(plan, whole, layout, out, scales)
    with ExitStack() as stack:
        if opener is None:
            opener = stack.enter_context(Opener())
        target = _Target(whole, layout, values, factors)
        parts = (
            piece for part in _squares(plan, whole) for piece in _pieces(plan, part, opener, mapped)
        )
        for piece in _read_ahead(plan, parts, opener) if mapped else parts:
            piece.render(plan, target, opener)
    grid = plan.grid.window(whole)
    if plan.quantized:
        return QuantizedRaster(values, factors, grid, layout, provenance=plan.provenance)
    return Block(values, None, grid, layout, provenance=plan.provenance)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the pixels of a window go."""

    window: Window
    layout: Layout
    values: Values
    scales: NDArray[np.float32] | None

    def part(self, part: Window) -> tuple[Any, Any]:
        """Return the views of values and scales that a part of the window fills."""
        row, col = part.row - self.window.row, part.col - self.window.col
        rows, cols = slice(row, row + part.height), slice(col, col + part.width)
        where = (rows, cols) if self.layout == "hwc" else (slice(None), rows, cols)
        if self.scales is None:
            return self.values[where], None
        return self.values[where], self.scales[(rows, cols) if self.scales.ndim == 2 else where]

    def empty(self, part: Window, mask: NDArray[np.bool_] | None = None) -> None:
        """Fill a part with what stands for "no embedding", where a mask says so."""
        values, scales = self.part(part)
        fill = np.nan if scales is None else 0
        for array, nothing in ((values, fill), (scales, np.inf)):
            if array is None:
                continue
            if mask is None:
                array[...] = nothing
            elif self.layout == "hwc" or array.ndim == 2:
                array[mask] = nothing
            else:
                array[:, mask] = nothing


def _outputs(
    plan: MosaicPlan,
    window: Window,
    layout: Layout,
    out: Values | None,
    scales: NDArray[np.float32] | None,
) -> tuple[Any, Any]:
    if layout not in ("hwc", "chw"):
        raise InputError(f"layout {layout!r}: expected 'hwc' or 'chw'")
    size, bands = (window.height, window.width), plan.band_count
    shape = (*size, bands) if layout == "hwc" else (bands, *size)
    kind = "int8" if plan.quantized else "float32"
    values = _output("out", out, shape, kind)
    if not plan.quantized:
        if scales is not None:
            raise InputError("scales= is for quantised mosaics, and this one is float32")
        return values, None
    return values, _output("scales", scales, shape if plan.scales_per_band else size, "float32")


def _output(name: str, given: Any, shape: tuple[int, ...], dtype: str) -> Any:
    if given is None:
        return np.empty(shape, dtype)
    if given.shape != shape or given.dtype != dtype:
        raise InputError(
            f"{name} must be {dtype} of shape {shape}, found {given.dtype} {given.shape}"
        )
    return given


def _squares(plan: MosaicPlan, window: Window) -> Iterator[Window]:
    """Yield the window, in parts that lie in one square of a lattice each where one is needed."""
    if needs_lattices(plan):
        yield from _parts(window, SQUARE)
    else:
        yield window


def _parts(window: Window, size: int) -> Iterator[Window]:
    """Yield the parts of a window in squares that are anchored at the grid's first pixel."""
    for row in range(window.row // size * size, window.row + window.height, size):
        for col in range(window.col // size * size, window.col + window.width, size):
            part = window.overlap(Window(row, col, size, size))
            assert part is not None  # the ranges touch the window
            yield part


def _pieces(plan: MosaicPlan, part: Window, opener: Opener, mapped: bool) -> Iterator[_Piece]:
    """Yield a part at once if its rasters' windows are small or mapped, else piece by piece."""
    rasters = plan.rasters_of(part)
    if not rasters or (plan.clip is not None and covers_nothing(plan.clip, plan.grid, part)):
        yield _Piece(part, ())
        return
    found = (_Need.of(plan, at, part, opener, mapped) for at in rasters)
    needs = tuple(need for need in found if need is not None)
    side = max(part.height, part.width)
    if sum(need.nbytes for need in needs) <= _LARGEST or side <= _SMALLEST:
        yield _Piece(part, needs)
        return
    size = SQUARE
    while size >= side:
        size //= 2
    for window in _parts(part, size):
        yield from _pieces(plan, window, opener, mapped)


def _read_ahead(plan: MosaicPlan, pieces: Iterator[_Piece], opener: Opener) -> Iterator[_Piece]:
    """Yield pieces whose windows are read by threads: decoding takes longer than the kernel."""
    pool: ThreadPoolExecutor | None = None
    waiting: deque[_Piece] = deque()
    most = min(_native.num_threads(), _AHEAD)
    try:
        for piece in pieces:
            if any(need.nbytes for need in piece.needs):
                pool = pool or ThreadPoolExecutor(most, thread_name_prefix="geotessera-mosaic")
                piece.begin(plan, opener, pool)
            waiting.append(piece)
            while len(waiting) > most:
                yield waiting.popleft()
        yield from waiting
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Piece:
    """A part of a mosaic that is made by one call of the kernel, and what that needs."""

    window: Window
    needs: tuple[_Need, ...]
    begun: Future[tuple[list[MosaicSource], Loan]] | None = None

    def begin(self, plan: MosaicPlan, opener: Opener, pool: ThreadPoolExecutor) -> None:
        """Have the windows read by a thread."""
        self.begun = pool.submit(self._read, plan, opener)

    def _read(self, plan: MosaicPlan, opener: Opener) -> tuple[list[MosaicSource], Loan]:
        loan = opener.lend()
        try:
            return [need.read(plan, self.window, loan) for need in self.needs], loan
        except BaseException:
            loan.give_back()
            raise

    def render(self, plan: MosaicPlan, target: _Target, opener: Opener) -> None:
        """Fill the window."""
        if not self.needs:
            target.empty(self.window)
            return
        sources, loan = self.begun.result() if self.begun else self._read(plan, opener)
        try:
            _call(plan, self.window, target, sources)
        finally:
            loan.give_back()
        if plan.clip is not None:
            mask = inside(plan.clip, plan.grid, self.window)
            if mask is not None:
                target.empty(self.window, ~mask)


def _call(plan: MosaicPlan, part: Window, target: _Target, sources: list[MosaicSource]) -> None:
    epsg = plan.grid.epsg if plan.exact and has_exact_projection(plan.grid.epsg) else None
    values, scales = target.part(part)
    _native.mosaic(
        sources,
        plan.grid.transform,
        part,
        epsg=epsg,
        lonlat=None if epsg is not None else lonlat(plan, part, sources),
        method=plan.method,
        bands=plan.bands,
        out=values,
        out_scales=scales,
        out_layout=target.layout,
    )


@dataclass(frozen=True, slots=True)
class _Need:
    """What a part of a mosaic needs of a raster: the pixels of a window, mapped or read."""

    raster: MosaicRaster
    source: RasterSource
    window: Window
    mapped: Block | None
    nbytes: int

    @classmethod
    def of(
        cls, plan: MosaicPlan, at: int, part: Window, opener: Opener, mapped: bool
    ) -> _Need | None:
        raster = plan.rasters[at]
        touched = part.overlap(plan.reaches[at])
        window = touched and source_window(plan.grid, touched, raster.grid)
        if touched is None or window is None:
            return None
        source = _checked(opener(raster.descriptor), raster)
        pixels = window.height * window.width
        if mapped or pixels > SPARSE * touched.height * touched.width:
            block = source.pixels()
            if block is not None:
                everything = Window(0, 0, raster.grid.height, raster.grid.width)
                return cls(raster, source, everything, block, 0)
        size = raster.band_count * (1 if raster.quantized else 4) + 4 * raster.quantized
        return cls(raster, source, window, None, pixels * size)

    def read(self, plan: MosaicPlan, part: Window, allocate: Allocate) -> MosaicSource:
        """Return what the kernel takes."""
        raster = self.raster
        block = self.mapped or self.source.read_into(self.window, allocate)
        return MosaicSource(
            block.values,
            block.scales,
            self.window,
            (raster.grid.height, raster.grid.width),
            raster.grid.transform,
            position(plan, raster, part),
            raster.cell,
            block.layout,
            block.nodata,
            self.source.rule,
        )


def _checked(source: RasterSource, raster: MosaicRaster) -> RasterSource:
    """Return a source if it is still the raster that the plan was made with."""
    found = source.grid.height, source.grid.width, source.band_count
    planned = raster.grid.height, raster.grid.width, raster.band_count
    if found != planned or source.grid.epsg_or_wkt != raster.grid.epsg_or_wkt:
        raise FormatError(
            f"{raster.name} has changed since the mosaic was planned: it has {found} rows, columns "
            f"and bands in {source.grid.crs_name[:40]}, planned were {planned} in "
            f"{raster.grid.crs_name[:40]}. Plan again."
        )
    return source
