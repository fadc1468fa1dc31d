"""Whole answers from several zones of a store: a grid, and a plan for `geotessera.mosaic`.

At each pixel the zone comes first that owns the pixel's longitude. Only within 0.1° of the
border between two zones do both hold data, because tiles overrun their cells: there the plan
has parts of the zones, as large as a cell of the tile grid, which the kernel prefers in their
own cell; then it has the zones themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import EmptySelectionError, NoOverlapError
from geotessera.mosaic import (
    MosaicPlan,
    MosaicRaster,
    crs_code,
    grid_like,
    grid_of_bounds,
    project_bbox,
)
from geotessera.mosaic.transforms import transform
from geotessera.region_mosaic import bbox_of
from geotessera.sources.base import RasterSource, check_window
from geotessera.stores.zones import (
    SEAM_DEGREES,
    StoreZones,
    centre_of,
    natural_zones,
    pixels_round_bounds,
    zone_bounds,
    zones_of_box,
)
from geotessera.types import BBox, GridSpec, Provenance, QuantizedRaster, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.datasets import Dataset
    from geotessera.sources.base import Allocate
    from geotessera.sources.zarr import ZarrZone
    from geotessera.types import Method

    type Resolution = float | tuple[float, float]

__all__ = ["ZonePart", "ground_resolution", "plan_zone", "plan_zones", "region_grid"]

_MARGIN = 4
"""Pixels of a part beyond its cell: more than a bilinear value at the cell's edge needs."""

_COARSE = 0.01
"""Degrees. Coarser pixels on a border are the zone's that is nearer to the grid's middle."""

_SAME_SCALE = 0.01
"""A CRS in which a metre is a metre to so much takes the store's pixel size as it is."""


# --- Grids -------------------------------------------------------------------------------


def region_grid(
    zones: StoreZones,
    bbox: BBox | None,
    crs: Any = None,
    like: Any = None,
    resolution: Resolution | None = None,
) -> GridSpec:
    """Return the grid on which a box is wanted.

    Parameters
    ----------
    zones : StoreZones
        The store's zones.
    bbox : BBox or None
        The box; not used with `like`.
    crs : int, str or CRS
        Of the grid. In the UTM zone of a zone of the store, north or south, the pixels are the
        store's own.
    like : GridSpec, path, xarray object or GeoBox, optional
        What has the grid instead.
    resolution : float or (float, float), optional
        Size of a pixel in units of the CRS; by default what a pixel of the store measures in
        the middle of the box.
    """
    if like is not None:
        return grid_like(like)
    assert bbox is not None  # what callers check
    code = crs_code(crs)
    lon, lat = centre_of(bbox)
    if resolution is None and isinstance(code, int) and code // 100 in (326, 327):
        zone = zones.find(code % 100)
        if zone is not None:
            return _pixels_of_zone(zone, bbox, code)
    if resolution is None:
        held = sorted(zones.numbers)
        metres = zones.get(held[0]).pixel_size if held else 10.0
        resolution = ground_resolution(code, lon, lat, metres)
    return grid_of_bounds(code, project_bbox(bbox, code), resolution)


def _pixels_of_zone(zone: ZarrZone, bbox: BBox, code: int) -> GridSpec:
    """Return the pixels of a zone in a box, also those beyond its grid."""
    a, _, left, _, e, top = zone.grid.transform
    window = pixels_round_bounds(zone.grid, zone_bounds(bbox, zone.number))
    north = top + window.row * e + (10_000_000 if code // 100 == 327 else 0)
    west = left + window.col * a
    return GridSpec(code, (a, 0.0, west, 0.0, e, north), window.height, window.width)


def ground_resolution(code: int | str, lon: float, lat: float, metres: float) -> Resolution:
    """Return what a square on the ground measures in a CRS.

    Parameters
    ----------
    code : int or str
        EPSG code or WKT.
    lon, lat : float
        Where, WGS84 degrees.
    metres : float
        The square's side.

    Returns
    -------
    float or (float, float)
        In units of the CRS: a square where it is projected, else width and height in degrees.
    """
    epsg = 32600 + int(natural_zones(np.array([lon]))[0])
    x, y = (float(one[0]) for one in _native.project(np.array([lon]), np.array([lat]), epsg))
    half = metres / 2
    east, north = transform(
        np.array([x - half, x + half, x, x]), np.array([y, y, y - half, y + half]), epsg, code
    )
    grid = GridSpec(code, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 1, 1)
    if grid.crs.is_geographic:
        across = (float(east[1] - east[0]) + 180) % 360 - 180
        return math.hypot(across, float(north[1] - north[0])), math.hypot(
            float(east[3] - east[2]), float(north[3] - north[2])
        )
    area = (east[1] - east[0]) * (north[3] - north[2]) - (east[3] - east[2]) * (north[1] - north[0])
    side = math.sqrt(abs(float(area)))
    return metres if abs(side / metres - 1) <= _SAME_SCALE else side


# --- Plans -------------------------------------------------------------------------------


def plan_zones(
    zones: StoreZones,
    grid: GridSpec,
    year: int,
    *,
    depth: int | None = None,
    bands: Sequence[int] | None = None,
    method: Method = "nearest",
    quantized: bool = False,
    dataset: Dataset | None = None,
) -> MosaicPlan:
    """Plan one grid from all zones of a store that it meets.

    Parameters
    ----------
    zones : StoreZones
        The store's zones.
    grid : GridSpec
        What is wanted, in any CRS.
    year, depth, bands, method, quantized
        As for `MosaicPlan`; see there.
    dataset : Dataset, optional
        What the store holds, for the tags of files.

    Raises
    ------
    NoOverlapError
        (an `IndexError` and a `ValueError`) if no zone of the store meets the grid.
    YearError
        (a `KeyError` and a `ValueError`) if one that does lacks the year.
    """
    zones.check_depth(depth)
    bbox = bbox_of(grid)
    whole = _wider(bbox)
    met = [number for number, _ in zones_of_box(bbox)]
    centre = int(natural_zones(np.array([centre_of(bbox)[0]]))[0])
    found: dict[int, ZarrZone] = {}
    for number in dict.fromkeys([*met, *(number for number, _ in zones_of_box(whole))]):
        zone = zones.find(number)
        # A neighbour that only overruns its border is asked if it has the year.
        if zone is not None and (number in met or year in zone.years):
            found[number] = zone
    order = sorted(found, key=lambda number: _offset(centre, number))
    make = _Rasters(zones, year, depth, dataset)
    rasters = [make.whole(found[number]) for number in order]
    fine = (bbox.north - bbox.south) / grid.height < _COARSE
    rasters += [
        part
        for number in (order if fine else ())
        for cell in _seam_cells(number, whole, found)
        if (part := make.part(found[number], cell)) is not None
    ]
    if not rasters:
        held = ", ".join(map(str, sorted(zones.numbers))) or "none"
        raise NoOverlapError(
            f"the grid {grid.bounds} in {grid.crs_name[:80]} lies in UTM zones "
            f"{', '.join(map(str, met))}; {zones.store.location} holds zones {held}"
        )
    try:
        return MosaicPlan.of(grid, rasters, method=method, bands=bands, quantized=quantized)
    except EmptySelectionError as error:
        raise NoOverlapError(f"{zones.store.location}: {error}") from error


def plan_zone(
    zones: StoreZones,
    zone: ZarrZone,
    window: Window,
    year: int,
    *,
    depth: int | None = None,
    bands: Sequence[int] | None = None,
    dataset: Dataset | None = None,
) -> MosaicPlan:
    """Plan a window of one zone, on the zone's own grid: pixels are copied."""
    raster = _Rasters(zones, year, depth, dataset).whole(zone)
    return MosaicPlan.of(zone.grid.window(window), [raster], bands=bands)


def _wider(bbox: BBox) -> BBox:
    """Return a box with those places whose pixels may lie in a neighbouring zone."""
    west, south, east, north = bbox
    width = east - west if west <= east else east + 360 - west
    if width + 2 * SEAM_DEGREES >= 360:
        return BBox(-180.0, south, 180.0, north)
    low, high = ((x + 180) % 360 - 180 for x in (west - SEAM_DEGREES, east + SEAM_DEGREES))
    return BBox(low, south, high, north)


def _offset(centre: int, number: int) -> tuple[int, int]:
    """Return a key that orders zones by their distance from another one."""
    around = (number - centre + 30) % 60 - 30
    return abs(around), around


def _seam_cells(number: int, bbox: BBox, found: dict[int, ZarrZone]) -> Iterator[tuple[int, int]]:
    """Yield a zone's cells on its borders with other zones that are met, within a box."""
    first = number * 60 - 1860  # the zone's westernmost column of cells
    across = ((number - 2) % 60 + 1, first), (number % 60 + 1, first + 59)
    south, north = max(bbox.south, -90.0), min(bbox.north, 89.99)
    for row in range(math.floor(south * 10), math.floor(north * 10) + 1):
        for neighbour, column in across:
            if neighbour in found:
                yield column, row


@dataclass(frozen=True)
class _Rasters:
    """Makes the rasters of a plan."""

    zones: StoreZones
    year: int
    depth: int | None
    dataset: Dataset | None

    def whole(self, zone: ZarrZone) -> MosaicRaster:
        """Return a zone."""
        grid = zone.grid
        return self._raster(zone, Window(0, 0, grid.height, grid.width), None)

    def part(self, zone: ZarrZone, cell: tuple[int, int]) -> MosaicRaster | None:
        """Return a zone's pixels in and round a cell, or None where it has none."""
        west, south = cell[0] / 10, cell[1] / 10
        box = BBox(west, south, west + 0.1, south + 0.1)
        row, col, height, width = pixels_round_bounds(zone.grid, zone_bounds(box, zone.number))
        wide = Window(row - _MARGIN, col - _MARGIN, height + 2 * _MARGIN, width + 2 * _MARGIN)
        window = wide.overlap(Window(0, 0, zone.grid.height, zone.grid.width))
        return None if window is None else self._raster(zone, window, cell)

    def _raster(self, zone: ZarrZone, window: Window, cell: tuple[int, int] | None) -> MosaicRaster:
        count = zone.source(self.year, self.depth).band_count
        known = self.dataset
        # The reader's location also says which snapshot of a repository it is.
        origin = f"{zone.reader.location} {self.zones.store.build_version} {zone.name}"
        return MosaicRaster(
            ZonePart(zone, self.year, self.depth, window),
            zone.grid.window(window),
            count,
            cell,
            Provenance(
                known.version if known else None, known.variant if known else None, self.year
            ),
            band_names=tuple(f"Tessera_Band_{band}" for band in range(count)),
            identity=f"{origin} {self.year} {count}",
        )


# --- Their pixels ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ZonePart:
    """A part of a year of a zone: a descriptor.

    Parameters
    ----------
    zone : ZarrZone
        Its zone.
    year : int
        Which year.
    depth : int or None
        How many bands.
    window : Window
        Which pixels.
    """

    zone: ZarrZone
    year: int
    depth: int | None
    window: Window

    @property
    def path(self) -> str:
        """What messages call it."""
        return f"{self.zone.reader.location}/{self.zone.name}"

    def open(self) -> RasterSource:
        """Open the part; nothing is read."""
        return _PartSource(self)


class _PartSource(RasterSource):
    """A part of a zone. Pixels at an edge where the zone goes on are left empty.

    A raster gives its outermost pixels to places beyond it too, which are not theirs here.
    """

    rule = "nearest"

    def __init__(self, part: ZonePart) -> None:
        self._part = part
        self._source = part.zone.source(part.year, part.depth)
        self.grid = part.zone.grid.window(part.window)
        self.block_shape = self._source.block_shape
        self.band_count = self._source.band_count
        self.provenance = self._source.provenance

    @property
    def descriptor(self) -> ZonePart:
        """Zone, year, depth and window."""
        return self._part

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> QuantizedRaster:
        """Read int8 pixels and their scales; see `RasterSource.read`."""
        part = check_window(window, self.grid)
        return self._cut(self._source.read(self._moved(part), bands, out), part)

    def read_into(self, window: Window, allocate: Allocate) -> QuantizedRaster:
        """Read a window into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        return self._cut(self._source.read_into(self._moved(part), allocate), part)

    def _moved(self, window: Window) -> Window:
        row, col, height, width = window
        return Window(row + self._part.window.row, col + self._part.window.col, height, width)

    def _cut(self, block: Any, window: Window) -> QuantizedRaster:
        scales: NDArray[np.float32] = block.scales
        part, zone = self._part.window, self._part.zone.grid
        for axis, (first, count, whole, start, size) in enumerate(
            (
                (part.row, part.height, zone.height, window.row, window.height),
                (part.col, part.width, zone.width, window.col, window.width),
            )
        ):
            lines = scales if axis == 0 else scales.T
            if first > 0 and start == 0:
                lines[0] = np.inf
            if first + count < whole and start + size == count:
                lines[-1] = np.inf
        return QuantizedRaster(block.values, scales, self.grid.window(window))
