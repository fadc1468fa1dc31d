"""A 0.1° cell of a Zarr store as a source of pixels: the tile that would have been published.

A store keeps a UTM zone in one grid. A cell is a window of it: that in which a tile of the
cell lies, whose raster is the UTM bounding box of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import TileError, ZoneError
from geotessera.grid import epsg_of_tile, tile_to_grid_name, utm_zone
from geotessera.sources.base import RasterSource, check_window
from geotessera.types import GridSpec, Provenance, QuantizedRaster, SparsePixels, TileId, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate
    from geotessera.sources.zarr import ZarrZone

__all__ = ["CellSource", "CellTile", "CellWindows", "PickedCell", "cell_windows"]

FALSE_NORTHING = 10_000_000.0
"""What the southern CRSs (EPSG:327zz) add to the northings of the northern ones."""


class CellWindows(NamedTuple):
    """Where cells lie in the grid of their zone: arrays of int64, shape (n,), in pixels.

    They may leave the grid.
    """

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    slant_rows: NDArray[np.int64]
    """Rows at the top and the bottom that may also hold a neighbour's pixels."""
    slant_cols: NDArray[np.int64]
    """Columns at the sides that may also hold a neighbour's pixels."""


def cell_windows(zone: ZarrZone, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> CellWindows:
    """Return the windows of cells that belong to one zone.

    The published stores place a tile of corner (x, y) at column ``floor((x - x0) / 10)`` and
    row ``floor((y0 - y) / 10)``.

    Parameters
    ----------
    zone : ZarrZone
        The zone.
    lon, lat : ndarray of float64, shape (n,)
        The cells' centres in WGS84 degrees.
    """
    import numpy as np

    from geotessera import _native

    pixel, _, left, _, _, top = zone.grid.transform
    # As `tile_footprint`, which the tiles are made by, in its order of operations.
    west, east, south, north = lon - 0.05, lon + 0.05, lat - 0.05, lat + 0.05
    x, y = _native.project(
        np.concatenate([west, west, east, east]),
        np.concatenate([south, north, south, north]),
        32600 + zone.number,
    )
    x, y = x.reshape(4, -1), y.reshape(4, -1)
    first, last = x[:2].min(axis=0), x[2:].max(axis=0)
    upper, lower = np.maximum(y[1], y[3]), np.minimum(y[0], y[2])
    slant_x = np.maximum(np.abs(x[0] - x[1]), np.abs(x[2] - x[3]))
    slant_y = np.maximum(np.abs(y[0] - y[2]), np.abs(y[1] - y[3]))
    return CellWindows(
        np.floor((top - upper) / pixel).astype(np.int64),
        np.floor((first - left) / pixel).astype(np.int64),
        np.rint((upper - lower) / pixel).astype(np.int64),
        np.rint((last - first) / pixel).astype(np.int64),
        np.ceil(slant_y / pixel).astype(np.int64) + 1,
        np.ceil(slant_x / pixel).astype(np.int64) + 1,
    )


def _window_of(zone: ZarrZone, tile: TileId) -> Window:
    """Return a cell's window, cut at the edges of the zone's grid."""
    import numpy as np

    if utm_zone(tile.lon) != zone.number:
        raise ZoneError(f"{tile_to_grid_name(tile.lon, tile.lat)} is not in zone {zone.number}")
    found = cell_windows(zone, np.array([tile.lon]), np.array([tile.lat]))
    row, col, height, width = (int(one[0]) for one in found[:4])
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + height, zone.grid.height), min(col + width, zone.grid.width)
    if top >= bottom or left >= right:
        raise TileError(
            f"{tile_to_grid_name(tile.lon, tile.lat)} lies outside the grid of {zone.name} in "
            f"{zone.reader.location}"
        )
    return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True, eq=False, repr=False)
class CellTile:
    """A cell of a store in one year: a descriptor.

    Parameters
    ----------
    zone : ZarrZone
        The zone that the cell's centre lies in.
    tile : TileId
        Year and centre.
    provenance : Provenance
        Dataset, year and store.
    """

    zone: ZarrZone
    tile: TileId
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        """Name the cell: the same in every process."""
        return f"{self.path} of {self.tile.year}"

    @property
    def path(self) -> str:
        """What messages call the cell."""
        name = tile_to_grid_name(self.tile.lon, self.tile.lat)
        return f"{self.zone.reader.location}/{self.zone.name}/{name}"

    def open(self) -> CellSource:
        """Open the cell; nothing is read."""
        return CellSource(self)


class CellSource(RasterSource):
    """A cell of a store, in the CRS of its tile: EPSG:327zz with its false northing in the south.

    Like a tile's, its pixels own positions by the rule ``"floor"``. Any number of threads may
    read.

    Parameters
    ----------
    descriptor : CellTile
        Which cell.

    Raises
    ------
    YearError
        (a `KeyError` and a `ValueError`) if its zone does not have the year.
    TileError
        (a `RuntimeError`) if it lies outside the zone's grid.
    """

    def __init__(self, descriptor: CellTile) -> None:
        zone, tile = descriptor.zone, descriptor.tile
        self._descriptor = descriptor
        self._zone = zone.source(tile.year)
        self._place = _window_of(zone, tile)
        grid = zone.grid.window(self._place)
        a, b, left, d, e, top = grid.transform
        if tile.lat < 0:
            top += FALSE_NORTHING
        epsg = epsg_of_tile(tile.lon, tile.lat)
        self.grid = GridSpec(epsg, (a, b, left, d, e, top), grid.height, grid.width)
        self.band_count = self._zone.band_count
        self.descriptions = tuple(f"Tessera_Band_{band}" for band in range(self.band_count))
        self.block_shape = self._zone.block_shape
        self.provenance = descriptor.provenance

    @property
    def descriptor(self) -> CellTile:
        """Zone, year and cell."""
        return self._descriptor

    def _moved(self, window: Window) -> Window:
        row, col, height, width = window
        return Window(row + self._place.row, col + self._place.col, height, width)

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> QuantizedRaster:
        """Read int8 pixels and their scales; see `RasterSource.read`."""
        part = check_window(window, self.grid)
        return self._placed(self._zone.read(self._moved(part), bands, out), part)

    def read_into(self, window: Window, allocate: Allocate) -> QuantizedRaster:
        """Read a window into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        return self._placed(self._zone.read_into(self._moved(part), allocate), part)

    def _placed(self, block: QuantizedRaster, part: Window) -> QuantizedRaster:
        grid = self.grid.window(part)
        return QuantizedRaster(block.values, block.scales, grid, provenance=self.provenance)

    def prefers_gather(self, count: int) -> bool:
        """Return True: only the chunks that hold the pixels are read."""
        return True

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Read some pixels: each chunk once, and none whose pixels are all invalid."""
        some = self._zone.gather(self.zone_numbers(numbers))
        return SparsePixels(numbers, some.values, some.scales)

    def zone_numbers(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what pixels of the cell are numbered in the zone's grid; their order stays."""
        row, col = numbers // self.grid.width, numbers % self.grid.width
        return (row + self._place.row) * self._zone.grid.width + col + self._place.col

    def land(self) -> NDArray[np.uint8]:
        """Return uint8 (height, width), 0 for water, as the scales say it.

        Raises
        ------
        TileError
            (a `RuntimeError`) if the store does not tell water from gaps.
        """
        import numpy as np

        self._check_says_water()
        return np.where(np.isnan(self._zone.scales(self._place)), 0, 1).astype(np.uint8)

    def _check_says_water(self) -> None:
        if not self._descriptor.zone.nan_is_water:
            raise TileError(
                f"{self._descriptor.zone.reader.location} does not say which pixels are water: "
                "leave out mask_water (they have no embedding, as gaps have none)"
            )


class PickedCell(CellSource):
    """A cell of which some pixels were read already, with those of other cells of its zone.

    Parameters
    ----------
    descriptor : CellTile
        Which cell.
    """

    def __init__(self, descriptor: CellTile) -> None:
        super().__init__(descriptor)
        self._picked: SparsePixels | None = None

    def hold(
        self, numbers: NDArray[np.int64], pixels: SparsePixels, part: NDArray[np.int64]
    ) -> None:
        """Keep pixels: the cell's numbers of them, and where they are among those read."""
        assert pixels.scales is not None
        self._picked = SparsePixels(numbers, pixels.values[part], pixels.scales[part])

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Return the pixels that are held, or read others."""
        import numpy as np

        held = self._picked
        if held is not None and np.array_equal(held.numbers, numbers):
            return held
        return super().gather(numbers)

    def land(self) -> NDArray[np.uint8]:
        """Return which pixels are land: of those that are held, or else of all."""
        import numpy as np

        held = self._picked
        if held is None:
            return super().land()
        self._check_says_water()
        assert held.scales is not None
        land = np.ones((self.grid.height, self.grid.width), np.uint8)
        land.reshape(-1)[held.numbers[np.isnan(held.scales)]] = 0
        return land
