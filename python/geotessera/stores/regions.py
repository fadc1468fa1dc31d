"""Boxes of one zone of a store: whole, or strip by strip with the next one read meanwhile."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import BoxError, InputError
from geotessera.regions import parse_bbox
from geotessera.sampling import check_method
from geotessera.stores.zones import (
    StoreZones,
    centre_of,
    natural_zones,
    pixels_of_bounds,
    zone_bounds,
    zones_of_box,
)
from geotessera.types import BBox, GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.sources.zarr import ZarrSource, ZarrZone

    type Strip = tuple[NDArray[np.float32], GridSpec]

__all__ = [
    "box_of",
    "check_own_grid",
    "check_rows",
    "read_ahead",
    "read_strips",
    "render_strips",
    "zone_of_region",
]

logger = logging.getLogger("geotessera.store")


def box_of(bbox: str | Sequence[float]) -> BBox:
    """Return a box of four numbers, in degrees.

    Raises
    ------
    BoxError
        (a `ValueError`, and a `RuntimeError` as upstream's) for anything else, such as
        south > north or a box without area.
    """
    if not isinstance(bbox, str) and (not hasattr(bbox, "__len__") or len(bbox) != 4):
        raise BoxError(f"bbox {bbox!r} must be (west, south, east, north) in WGS84 degrees")
    try:
        return parse_bbox(bbox)
    except InputError as error:
        raise BoxError(str(error)) from error


def zone_of_region(
    zones: StoreZones, bbox: BBox, caller: str | None = None
) -> tuple[ZarrZone, Window]:
    """Return the zone in which a box has its middle, and the box's pixels there.

    Parameters
    ----------
    zones : StoreZones
        The store's zones.
    bbox : BBox
        West > east crosses the antimeridian.
    caller : str, optional
        Who is told, in the log, that the box has parts in other zones.

    Raises
    ------
    ZoneError
        (a `KeyError` and a `ValueError`) if the store does not hold the zone.
    NoOverlapError
        (an `IndexError` and a `ValueError`) if the box has no pixel there.
    """
    number = int(natural_zones(np.array([centre_of(bbox)[0]]))[0])
    spanned = [zone for zone, _ in zones_of_box(bbox)]
    if caller and len(spanned) > 1:
        logger.warning(
            "%s: bbox spans UTM zones %s; reading zone %d only: pass crs= or like= for all of "
            "them on one grid",
            caller, spanned, number,
        )  # fmt: skip
    zone = zones.get(number)
    return zone, pixels_of_bounds(zone.grid, zone_bounds(bbox, number))


def check_own_grid(resolution: Any, method: Any) -> None:
    """Raise `InputError` (a `ValueError`) for what needs another grid than the zone's."""
    check_method(method)
    if resolution is not None:
        raise InputError(f"resolution={resolution!r} needs crs=: a zone's pixels are as they are")


def check_rows(strip_rows: Any) -> int:
    """Return a number of rows, or raise `InputError` (a `ValueError`)."""
    if isinstance(strip_rows, bool) or not isinstance(strip_rows, int | np.integer):
        raise InputError(f"strip_rows must be a whole number, found {strip_rows!r}")
    if strip_rows < 1:
        raise InputError(f"strip_rows must be positive, found {strip_rows}")
    return int(strip_rows)


def read_strips(
    source: ZarrSource,
    window: Window,
    strip_rows: int,
    bands: Sequence[int] | None = None,
) -> Iterator[Strip]:
    """Yield a window in strips of whole rows, while a thread reads the next one.

    Strips of any height decode each chunk once: rows that a strip leaves of the chunks it ends
    in are kept for the next one.

    Parameters
    ----------
    source : ZarrSource
        What is read.
    window : Window
        Which pixels of it.
    strip_rows : int
        Rows of a strip; the last one may be lower.
    bands : sequence of int, optional
        Zero-based bands; all by default.

    Yields
    ------
    values : ndarray of float32, shape (rows, columns, bands)
    grid : GridSpec
        Where the strip's pixels are.
    """
    reader = _Strips(source, window, bands)
    stop = window.row + window.height
    parts = [
        Window(row, window.col, min(strip_rows, stop - row), window.width)
        for row in range(window.row, stop, strip_rows)
    ]
    jobs = (lambda part=part: (reader.read(part), source.grid.window(part)) for part in parts)
    return read_ahead(jobs)


def read_ahead[T](jobs: Iterator[Callable[[], T]]) -> Iterator[T]:
    """Yield what jobs return, while a thread does the next one; they are done in order."""
    with ThreadPoolExecutor(1, "geotessera-strips") as pool:
        waiting = None
        for job in jobs:
            coming = pool.submit(job)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def render_strips(plan: MosaicPlan, strip_rows: int) -> Iterator[Strip]:
    """Yield a planned mosaic as `read_strips` yields a window."""
    from geotessera.mosaic import Opener, render

    height, width, _ = plan.shape

    def make(row: int, opener: Opener) -> Strip:
        part = Window(row, 0, min(strip_rows, height - row), width)
        block: Any = render(plan, part, opener=opener)
        return block.values, block.grid

    with Opener() as opener:
        jobs = (lambda row=row: make(row, opener) for row in range(0, height, strip_rows))
        yield from read_ahead(jobs)


class _Strips:
    """Reads the rows of a window from top to bottom, each chunk once."""

    def __init__(self, source: ZarrSource, window: Window, bands: Sequence[int] | None) -> None:
        self._source = source
        self._window = window
        self._bands = bands
        self._chunk = source.block_shape[0]
        self._kept: NDArray[np.float32] | None = None  # the rows that come next

    def read(self, part: Window) -> NDArray[np.float32]:
        """Return the rows of a part, which begins where the one before ended."""
        count = self._source.band_count if self._bands is None else len(self._bands)
        out = np.empty((part.height, part.width, count), np.float32)
        done = 0
        if self._kept is not None:
            done = min(len(self._kept), part.height)
            out[:done] = self._kept[:done]
            self._kept = self._kept[done:] if done < len(self._kept) else None
        stop = part.row + part.height
        row = part.row + done
        whole = stop // self._chunk * self._chunk
        last = self._window.row + self._window.height
        if stop == last:
            whole = stop  # nothing comes after
        if row < whole:
            self._fill(out[row - part.row : whole - part.row], row)
            row = whole
        if row < stop:
            below = min(whole + self._chunk, last)
            ends = np.empty((below - row, *out.shape[1:]), np.float32)
            self._fill(ends, row)
            out[row - part.row :] = ends[: stop - row]
            self._kept = ends[stop - row :]
        return out

    def _fill(self, out: NDArray[np.float32], row: int) -> None:
        window = Window(row, self._window.col, len(out), self._window.width)
        self._source.read_float(window, self._bands, out)
