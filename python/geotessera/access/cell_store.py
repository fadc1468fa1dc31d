"""The cells of a Zarr store in the place of tiles: found, opened, and sampled together.

`CellStore` has the methods of `geotessera.access.tile_store.TileStore` and of
`geotessera.access.ranged_tiles.RangedTiles`, so that a client does not know which it reads from.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.access.cell_registry import CellRegistry
from geotessera.access.ranged_tiles import FETCHES
from geotessera.datasets import (
    BASE_URL,
    base_url_from,
    dataset_for_location,
    dataset_label,
    default_variant,
    find_dataset,
    normalize_version,
    zarr_store_url,
)
from geotessera.errors import (
    DatasetMismatchError,
    GeoTesseraError,
    InputError,
    TileError,
    TileNotFoundError,
)
from geotessera.grid import tile_to_grid_name
from geotessera.remote.transfer.refresh import cache_base
from geotessera.sampling import needed_pixels
from geotessera.sources.cell import PickedCell
from geotessera.sources.zarr_store import open_embedding_store
from geotessera.types import TileId

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geotessera.sampling import PointGroups
    from geotessera.sources import RasterSource
    from geotessera.sources.cell import CellTile
    from geotessera.sources.zarr import ZarrZone
    from geotessera.types import GridSpec, Method, ProgressCallback

    type Coord = tuple[float, float]

__all__ = ["CellStore", "identity_of_store", "open_cells", "store_location"]

logger = logging.getLogger("geotessera")


def store_location(version: str, variant: str, base_url: str | os.PathLike[str] | None) -> str:
    """Return where the Zarr store of a dataset is: published, or on a mirror.

    Parameters
    ----------
    version, variant : str
        The dataset.
    base_url : str or path, optional
        The mirror; by default ``GEOTESSERA_BASE_URL``, else the published store. A mirror has
        it where the public server has it, below ``zarr/``.

    Raises
    ------
    NotPublishedError
        (a `ValueError`) if the dataset has no store.
    """
    published = zarr_store_url(version, variant)
    base = base_url_from(base_url)
    dataset = find_dataset(normalize_version(version), variant)
    if base == BASE_URL or (dataset is not None and dataset.zarr is None):
        return published
    return f"{base}/zarr/{published.rpartition('/zarr/')[2]}"


def identity_of_store(store_url: object, version: str, variant: str | None) -> tuple[str, str]:
    """Return (version, variant) of what a store at a given place holds.

    Parameters
    ----------
    store_url : str or path
        The store. A published one is known by its place.
    version, variant : str
        What the caller says it is; it must be said of a store that is not known, so that
        nothing is labelled with a guess.

    Raises
    ------
    DatasetMismatchError
        (a `ValueError`) if a published store holds another dataset.
    InputError
        (a `ValueError`) if neither the place nor the caller says what the store holds.
    """
    norm = normalize_version(version)
    known = dataset_for_location(store_url)
    if known is None:
        if variant is None:
            raise InputError(
                f"which dataset does {store_url} hold? Say it with dataset_version= and "
                "dataset_variant= (--dataset-version, --dataset-variant): what is made of "
                "it is labelled with it"
            )
        return norm, variant
    if variant is not None and (norm, variant) != (known.version, known.variant):
        raise DatasetMismatchError(
            f"{store_url} holds {dataset_label(known.version, known.variant)}, not "
            f"{dataset_label(norm, variant)}"
        )
    return known.version, known.variant


def open_cells(
    version: str,
    variant: str | None = None,
    *,
    store_url: str | os.PathLike[str] | None = None,
    base_url: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_size: int | None = None,
    offline: bool = False,
    **scope: Any,
) -> CellRegistry:
    """Open the store of a dataset and return the registry of its cells.

    Parameters
    ----------
    version, variant : str
        The dataset; by default the first variant that has a store.
    store_url : str or path, optional
        Where the store is; see `identity_of_store`.
    base_url : str or path, optional
        A mirror; see `store_location`.
    cache_dir : path, optional
        Where what a server sends is kept; with `cache_size` or `offline` there is a default.
    cache_size : int, optional
        Bytes that are kept at the most.
    offline : bool
        Ask no server.
    **scope
        ``bbox``, ``bbox_margin_deg`` and ``logger`` of `CellRegistry`.

    Raises
    ------
    InputError
        (a `ValueError`) for a dataset that has no store, and as `identity_of_store`.
    FormatError, OSError
        If there is no store, or if it cannot be read.
    """
    if store_url is not None:
        identity = identity_of_store(store_url, version, variant)
    else:
        norm = normalize_version(version)
        identity = norm, variant or default_variant(norm, "stream")
        store_url = store_location(*identity, base_url)
    if cache_dir is None and (offline or cache_size is not None):
        cache_dir = cache_base()
    options: dict[str, Any] = {"cache_dir": cache_dir, "cache_max_size": cache_size}
    options = {name: value for name, value in options.items() if value is not None}
    store = open_embedding_store(store_url, offline=offline, **options)
    return CellRegistry(store, *identity, cache_dir=cache_dir, offline=offline, **scope)


class CellStore:
    """The cells of a store that a client can read.

    Safe to use from many threads.

    Parameters
    ----------
    registry : CellRegistry
        What exists, and the store.
    """

    keeps = False
    """Nothing is written to the user's directory."""

    def __init__(self, registry: CellRegistry) -> None:
        self._registry = registry

    def local(self, tile: TileId) -> None:
        """Return None: no cell is a file."""

    def get(
        self,
        tile: TileId,
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
    ) -> CellTile:
        """Return a cell's descriptor; its pixels are read when they are asked for.

        Raises
        ------
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if the store holds nothing of it.
        """
        if not self._registry.has_tile(*tile):
            raise TileNotFoundError(self._absent(tile))
        return self._registry.cell(tile)

    def _absent(self, tile: TileId) -> str:
        name, where = tile_to_grid_name(tile.lon, tile.lat), self._registry.store.location
        other = self._registry.nearest_year(tile.lon, tile.lat, tile.year)
        if other is not None:
            return f"{where} has nothing of {name} in {tile.year}; the nearest year is {other}"
        return f"{where} has nothing of {name} in any year: is the place on land?"

    def ensure(
        self,
        tiles: Iterable[TileId],
        *,
        auto_download: bool = True,
        progress: ProgressCallback | None = None,
        failures: dict[TileId, Exception] | None = None,
    ) -> dict[TileId, CellTile]:
        """Return those of some cells that hold anything.

        Parameters
        ----------
        tiles : iterable of TileId
            Which cells.
        auto_download : bool
            Whether a server may be asked, where the store is on one.
        progress : callable, optional
            Not called: only indexes are read.
        failures : dict, optional
            Where cells are put that could not be looked for; without it they raise.

        Raises
        ------
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if a server would have to be asked and
            `auto_download` is off.
        TileError
            (a `RuntimeError`) if the store cannot be read.
        """
        wanted = list(tiles)
        try:
            self._check_online(auto_download)
            there = self._existing(wanted)
            return {tile: self._registry.cell(tile) for tile in wanted if tile in there}
        except InputError:
            raise
        except (GeoTesseraError, OSError) as error:
            if failures is not None:
                failures |= dict.fromkeys(wanted, error)
                return {}
            if isinstance(error, TileError):
                raise
            raise TileError(f"{self._registry.store.location} cannot be read: {error}") from error

    def _check_online(self, auto_download: bool) -> None:
        where = self._registry.store.location
        remote = "://" in where and not where.startswith("file:")
        if remote and not auto_download and not self._registry.offline:
            raise TileNotFoundError(
                f"{where} is on a server and auto_download is off: a client with a cache_dir "
                "and offline=True reads what was read before"
            )

    def _existing(self, tiles: Sequence[TileId]) -> set[TileId]:
        """Return those of some cells that hold any pixel, so that no point misses its own."""
        found: set[TileId] = set()
        for year in {tile.year for tile in tiles}:
            some = [tile for tile in tiles if tile.year == year]
            there = self._registry.touched(some)
            found |= {tile for tile, exists in zip(some, there, strict=True) if exists}
        return found

    def georeference(self, lon: float, lat: float, *, refresh: bool = False) -> GridSpec:
        """Return where the pixels of the cell with a centre are, in any year."""
        tile = TileId(self._registry.store.years[-1], lon, lat)
        return self._registry.cell(tile).open().grid

    # --- Many points ---------------------------------------------------------------------

    def open(
        self,
        groups: PointGroups,
        year: int,
        *,
        method: Method = "nearest",
        fetch: str = "auto",
        auto_download: bool = True,
        progress: ProgressCallback | None = None,
        failures: dict[TileId, Exception] | None = None,
        local: object = None,
    ) -> dict[Coord, RasterSource]:
        """Return the cells that own points, their pixels read: each chunk of a zone once.

        Parameters
        ----------
        groups : PointGroups
            The points, by cell.
        year : int
            Which year.
        method : {"nearest", "bilinear"}
            Which pixels a point needs.
        fetch : {"auto", "ranges", "tiles"}
            Not used: of a store only chunks are read.
        auto_download, failures
            As for `ensure`.
        progress : callable, optional
            Called with (zones done, zones in all, status text).
        local : dict, optional
            Not used: no cell is local.

        Raises
        ------
        InputError
            (a `ValueError`) for an unknown `fetch`.
        TileNotFoundError, TileError
            As `ensure`.
        """
        if fetch not in FETCHES:
            raise InputError(f"fetch={fetch!r}: expected one of {', '.join(FETCHES)}")
        wanted = {TileId.of(year, *at): rows for at, rows in _by_tile(groups)}
        cells = self.ensure(wanted, auto_download=auto_download, failures=failures)
        zones: dict[int, list[CellTile]] = {}
        for cell in cells.values():
            zones.setdefault(cell.zone.number, []).append(cell)
        found: dict[Coord, RasterSource] = {}
        for done, some in enumerate(zones.values()):
            if progress is not None:
                progress(done, len(zones), f"reading pixels of {some[0].zone.name}")
            picked = [PickedCell(cell) for cell in some]
            rows = [wanted[cell.tile] for cell in some]
            try:
                _pick(some[0].zone, year, picked, rows, groups.points, method)
            except (GeoTesseraError, OSError) as error:
                if failures is None:
                    raise TileError(f"{some[0].zone.name} could not be read: {error}") from error
                # Each by itself then: what cannot be read is not the others' fault.
                logger.info("Cells of %s are read one by one: %s", some[0].zone.name, error)
            found |= {cell.tile[1:]: source for cell, source in zip(some, picked, strict=True)}
        return found


def _by_tile(groups: PointGroups) -> Iterable[tuple[Coord, NDArray[np.int64]]]:
    return zip(groups.tiles(), groups.rows(), strict=True)


def _pick(
    zone: ZarrZone,
    year: int,
    cells: Sequence[PickedCell],
    rows: Sequence[NDArray[np.int64]],
    points: NDArray[np.float64],
    method: Method,
) -> None:
    """Read the pixels that the points of some cells need, all of a zone together."""
    own = [
        needed_pixels(cell.grid, points, index, method)
        for cell, index in zip(cells, rows, strict=True)
    ]
    placed = [cell.zone_numbers(numbers) for cell, numbers in zip(cells, own, strict=True)]
    # Cells overlap by some pixels; of the chunks that two share, each is read once.
    every, which = np.unique(np.concatenate(placed), return_inverse=True)
    pixels: Any = zone.source(year).gather(every)
    ends = np.cumsum([0, *map(len, placed)])
    for at, (cell, numbers) in enumerate(zip(cells, own, strict=True)):
        cell.hold(numbers, pixels, which[ends[at] : ends[at + 1]])
