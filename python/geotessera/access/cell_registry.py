"""Which 0.1° cells a Zarr store has, told as a registry tells which tiles a dataset has.

A store has no list of its cells, but the indexes of its shards say which chunks were written:
262 kB for 41 × 41 km, which reading the pixels needs anyway.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.cells import COLUMNS, ROWS, CellRange, cells_around_box, centre_of_column
from geotessera.datasets import check_variant, normalize_version, version_path
from geotessera.errors import EmptySelectionError, InputError, NotPublishedError, ZoneError
from geotessera.grid import tile_to_grid_name, utm_zone
from geotessera.index import WORLD
from geotessera.registries.tiles import scope_box
from geotessera.registry import Registry
from geotessera.remote.transfer.refresh import cache_base
from geotessera.sidecar import s3_embeddings_subdir
from geotessera.sources.cell import CellTile, cell_windows
from geotessera.types import Provenance, TileId

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.sources.zarr import ZarrZone
    from geotessera.sources.zarr_store import EmbeddingStore

__all__ = ["CellRegistry"]

MOST_CELLS = 100_000
"""Cells that one question may be about: a box of 31° × 31°, whose indexes are a gigabyte."""

_BATCH = 2**20
"""Chunks that are looked up together."""


class CellIndex:
    """What a store has, asked as `geotessera.index.TileIndex` is.

    Parameters
    ----------
    store : EmbeddingStore
        The store.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store
        self._held = frozenset(store.zone_numbers)

    def zone_of_column(self, column: int) -> ZarrZone | None:
        """Return the zone that owns a column of cells, or None if the store lacks it."""
        number = utm_zone(centre_of_column(column))
        return self.store.zone(number) if number in self._held else None

    def tiles(self, within: CellRange, year: int) -> Iterator[tuple[list[float], list[float]]]:
        """Yield the (longitudes, latitudes) of cell centres of a year, by longitude, latitude."""
        rows = np.arange(within.row, within.row + within.rows)
        for start, stop in within.spans():
            held = [at for at in range(start, stop) if self.zone_of_column(at) is not None]
            if len(held) * len(rows) > MOST_CELLS:
                raise InputError(
                    f"{len(held) * len(rows):,} cells of {self.store.location} are too many to "
                    "look at: a store has no list of them. Ask for a smaller region, or give the "
                    "client one with bbox="
                )
            columns = np.repeat(np.array(held, np.int64), len(rows))
            lines = np.tile(rows, len(held))
            there = self.contains_many(year, columns, lines)
            yield (
                ((columns[there] * 10 - 17995) / 100).tolist(),
                ((lines[there] * 10 - 8995) / 100).tolist(),
            )

    def contains(self, year: int, column: int, row: int) -> bool:
        """Whether a cell has pixels in a year."""
        return bool(self.contains_many(year, np.array([column]), np.array([row]))[0])

    def contains_many(
        self,
        year: int,
        columns: NDArray[np.int64],
        rows: NDArray[np.int64],
        *,
        edges: bool = False,
    ) -> NDArray[np.bool_]:
        """Whether each of many cells has pixels in a year; at its edges alone if asked for."""
        found = np.zeros(columns.shape, bool)
        numbers = np.array([utm_zone(centre_of_column(int(at))) for at in np.unique(columns)])
        zones = numbers[np.searchsorted(np.unique(columns), columns)]
        for number in np.unique(zones).tolist():
            if number not in self._held:
                continue
            zone = self.store.zone(number)
            if year in zone.years:
                here = zones == number
                lon, lat = (columns[here] * 10 - 17995) / 100, (rows[here] * 10 - 8995) / 100
                found[here] = _written(zone, year, lon, lat, edges=edges)
        return found

    def years_of(self, column: int, row: int) -> list[int]:
        """Return the years in which a cell has pixels, ascending."""
        zone = self.zone_of_column(column)
        years = sorted(zone.years) if zone is not None else []
        return [year for year in years if self.contains(year, column, row)]


def _written(
    zone: ZarrZone,
    year: int,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    *,
    edges: bool,
) -> NDArray[np.bool_]:
    """Return whether cells of a zone hold chunks that were written.

    Tiles overrun their cells. Where a store was made of tiles, chunks that a neighbour may have
    filled do not make a cell, unless `edges` are asked for; in one made otherwise every pixel
    is its cell's own.
    """
    array = zone.array("scales")
    high, wide = array.spec.plane(array.spec.inner)
    at = cell_windows(zone, lon, lat)
    spans = []
    for first, size, slant, whole, side in (
        (at.row, at.height, at.slant_rows, zone.grid.height, high),
        (at.col, at.width, at.slant_cols, zone.grid.width, wide),
    ):
        low, end = np.clip(first, 0, whole), np.clip(first + size, 0, whole)
        begin, stop = low // side, -(-end // side)
        if zone.nan_is_water and not edges:
            # The chunks between the slanting edges; in a narrow cell that in the middle.
            inner, outer = -(-(first + slant) // side), (first + size - slant) // side
            middle = (first + size // 2) // side
            inner, outer = np.where(inner < outer, (inner, outer), (middle, middle + 1))
            begin, stop = np.maximum(inner, begin), np.minimum(outer, stop)
        spans.append((begin, np.where(low < end, np.maximum(stop, begin), begin)))
    (top, bottom), (left, right) = spans
    counts = (bottom - top) * (right - left)
    found = np.zeros(len(counts), bool)
    step = zone.step(year)

    def ask(cells: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.bool_]:
        across = (right - left)[cells]
        row, col = top[cells] + number // across, left[cells] + number % across
        return array.written(step, row * high, col * wide)

    # Most cells have a chunk in their middle: what has none is searched.
    some = np.flatnonzero(counts)
    middle = (bottom - top)[some] // 2 * (right - left)[some] + (right - left)[some] // 2
    if len(some):
        found[some] = ask(some, middle)
    rest = some[~found[some]]
    groups = np.cumsum(counts[rest]) // _BATCH
    for group in np.unique(groups):
        cells = rest[groups == group]
        owners = np.repeat(np.arange(len(cells)), counts[cells])
        starts = np.cumsum(counts[cells]) - counts[cells]
        hits = ask(cells[owners], np.arange(len(owners)) - starts[owners])
        found[cells] = np.bincount(owners[hits], minlength=len(cells)) > 0
    return found


class CellRegistry(Registry):
    """The cells that a dataset's Zarr store has, as `geotessera.registry.Registry` tells tiles.

    Parameters
    ----------
    store : EmbeddingStore
        The store.
    version, variant : str
        The dataset that it holds.
    bbox : sequence of 4 float, optional
        (west, south, east, north) in WGS84 degrees: only cells there are looked at.
    bbox_margin_deg : float
        Margin around `bbox`, in degrees.
    cache_dir : path, optional
        Where the client keeps what it fetches.
    offline : bool
        Whether the store is read from the cache alone.
    logger : logging.Logger, optional
        Takes messages.

    Raises
    ------
    EmptySelectionError
        (a `ValueError`) if the store holds nothing at all.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        version: str,
        variant: str,
        *,
        bbox: Sequence[float] | None = None,
        bbox_margin_deg: float = 0.15,
        cache_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
        logger: logging.Logger | None = None,
    ) -> None:
        self.logger = logger or logging.getLogger("geotessera.registry")
        self.store = store
        self._offline = offline
        self._version_norm = normalize_version(version)
        self.version = version_path(version)
        self.variant = check_variant(variant)
        self.embeddings_subdir = s3_embeddings_subdir(variant)
        self.manifest_path = Path(store.location)
        self._cache_dir = cache_base() if cache_dir is None else Path(cache_dir).expanduser()
        self._bbox, self._margin = None, bbox_margin_deg
        self._scope = WORLD
        if bbox is not None:
            self._bbox = scope_box(bbox, bbox_margin_deg)
            self._scope = cells_around_box(self._bbox, bbox_margin_deg)
        self._index = CellIndex(store)  # type: ignore[assignment]
        self._counts = dict.fromkeys(sorted(store.years), 0)
        if not self._counts:
            raise EmptySelectionError(f"{store.location} holds no zone, or no year")
        self._lock = threading.Lock()
        self._table: Any = None

    def _reopen(self) -> None:
        self._index = CellIndex(self.store)  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CellRegistry({self.version!r}, {self.variant!r}, {self.store.location!r})"

    def describe(self) -> tuple[dict[str, object], str]:
        """Return names and values for people; which cells there are the store would be asked."""
        from geotessera.notebook import few

        facts: dict[str, object] = {
            "dataset": f"{self.version} {self.variant}",
            "store": self.store.location,
            "years": few(list(self._counts)),
            "UTM zones": few(sorted(self.store.zone_numbers)),
        }
        return facts, ""

    @property
    def offline(self) -> bool:
        """Whether the store is read from the cache alone."""
        return self._offline

    @property
    def identity(self) -> tuple[str, str]:
        """Version, normalised, and variant."""
        return self._version_norm, self.variant

    def cell(self, tile: TileId) -> CellTile:
        """Return a cell's descriptor; whether it holds anything is not asked.

        Raises
        ------
        ZoneError
            (a `KeyError` and a `ValueError`) if the store lacks its zone.
        """
        number = utm_zone(tile.lon)
        if number not in self.store.zone_numbers:
            name = tile_to_grid_name(tile.lon, tile.lat)
            raise ZoneError(f"{name} lies in zone {number}, which {self.store.location} lacks")
        provenance = Provenance(*self.identity, tile.year, self.store.location)
        return CellTile(self.store.zone(number), tile, provenance)

    def touched(self, tiles: Sequence[TileId]) -> list[bool]:
        """Return whether cells hold any pixel, be it one that a neighbour's tile brought.

        Parameters
        ----------
        tiles : sequence of TileId
            Of one year.
        """
        cells = [self._cell(tile.lon, tile.lat) for tile in tiles]
        if not tiles or tiles[0].year not in self._counts:
            return [False] * len(tiles)
        columns, rows = np.array(cells, np.int64).T
        index: Any = self._index
        found: list[bool] = index.contains_many(tiles[0].year, columns, rows, edges=True).tolist()
        return found

    def get_tile_counts_by_year(self) -> dict[int, int]:
        """Return the number of cells of each year, within the client's bbox if it has one."""
        return {year: len(self._tiles(self._scope, year)) for year in self._counts}

    def year_bits(self) -> tuple[tuple[int, ...], NDArray[np.unsignedinteger[Any]]]:
        """Return which years each cell has pixels in, as a registry of tiles does.

        Raises
        ------
        InputError
            (a `ValueError`) unless the client has a bbox: a store has no list of its cells.
        """
        bits = np.zeros((COLUMNS, ROWS), np.uint32)
        for number, year in enumerate(self._counts):
            for lon, lat in self._index.tiles(self._scope, year):
                columns = (np.rint(np.array(lon) * 100).astype(np.int64) + 17995) // 10
                rows = (np.rint(np.array(lat) * 100).astype(np.int64) + 8995) // 10
                bits[columns, rows] |= np.uint32(1 << number)
        return tuple(self._counts), bits

    def landmask_cells(self) -> None:
        """Return None: a store has no landmasks."""

    def get_landmask_count(self) -> int:
        """Return 0: a store has no landmasks."""
        return 0

    @property
    def available_landmasks(self) -> list[tuple[float, float]]:
        """No landmasks: what is water, the scales of a store say."""
        return []

    def use_embeddings_dir(self, directory: object) -> None:
        """Do nothing: a store is read where it is."""

    def validate_embeddings_dir(self) -> None:
        """Do nothing: a store is read where it is."""

    def _no_files(self, *_: object, **__: object) -> Any:
        raise NotPublishedError(
            f"dataset {self.version} {self.variant} is read from its Zarr store "
            f"{self.store.location}, which has no files of tiles: fetch or export its cells, or "
            "use `geotessera download`"
        )

    # What asks for files of tiles ends here, whichever way it came.
    get_tile_file_size = get_scales_file_size = get_landmask_file_size = _no_files
    calculate_download_requirements = tile_urls = fetch = fetch_landmask = _no_files
    expected_sha256 = landmask_sha256 = _no_files
    mirror = property(_no_files)
