"""Whole tiles kept between runs, when asked for: ``GeoTessera(cache_tiles="10GB")``.

A tile is an entry of a `FileCache`: its three files, which come and go together. What is
returned are hard links of this process, so that a tile which is evicted stays readable for
those who have it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geotessera.download import download_tile, download_tiles
from geotessera.errors import UnwritableDestination
from geotessera.grid import tile_to_grid_name
from geotessera.layout import local_tile_files
from geotessera.sizes import parse_size
from geotessera.sources import NpyTile
from geotessera.tile_files import published_sizes
from geotessera.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from geotessera.registry import Registry
    from geotessera.remote.lru import FileCache, Lease
    from geotessera.remote.transfer import Transferred
    from geotessera.types import ProgressCallback, TileId

    type OnTile = Callable[[TileId, Exception | None], object]

__all__ = ["CACHE_TILES_ENV", "CachedTile", "TileCache", "cache_limit", "tiles_cache"]

CACHE_TILES_ENV = "GEOTESSERA_CACHE_TILES"

RECENT = 4
"""Tiles of the last calls that this process keeps, evicted or not: what was fetched ahead of
need must be there when its turn comes, however small the cache is."""

_LANDMASK_BYTES = 2**17
"""What a landmask takes at most, about; their sizes are in another registry."""


def cache_limit(cache_tiles: str | float | None = None) -> int | None:
    """Return the size of the tile cache in bytes, or None where there is to be none.

    Parameters
    ----------
    cache_tiles : str, int or float, optional
        As `GeoTessera` takes it; by default the environment variable
        ``GEOTESSERA_CACHE_TILES``.

    Raises
    ------
    InputError
        (a `ValueError`) if it is no size.
    """
    if cache_tiles is not None:
        return parse_size(cache_tiles, "cache_tiles")
    text = os.environ.get(CACHE_TILES_ENV, "").strip()
    return parse_size(text, CACHE_TILES_ENV) if text else None


def tiles_cache(cache_dir: Path) -> Path:
    """Return where the tile cache is, below the directory of all caches."""
    return cache_dir / "tiles"


@dataclass(frozen=True, slots=True)
class CachedTile(NpyTile):
    """An NPY tile whose files stay as long as this descriptor, or a source of it, is used."""

    lease: Lease | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[NpyTile], tuple[Any, ...]]:
        """Pickle without the lease: the files stay as long as this process uses the tile."""
        names = self.embedding, self.scales, self.landmask, self.georeference, self.provenance
        return NpyTile, names


class TileCache:
    """The tiles of one dataset and mirror in a cache that others share.

    Safe to use from many threads and processes. Only what was verified is put: where
    verification is switched off, nothing is.

    Parameters
    ----------
    registry : Registry
        What exists, and what its files must be.
    files : FileCache
        Where tiles are kept.
    origin : str
        The mirror.
    """

    def __init__(self, registry: Registry, files: FileCache, *, origin: str) -> None:
        self._registry = registry
        self._files = files
        self._identity = f"{origin}\n{registry.version}\n{registry.variant}"
        self._lock = threading.Lock()
        self._leases: weakref.WeakValueDictionary[TileId, Lease] = weakref.WeakValueDictionary()
        self._recent: deque[Lease] = deque(maxlen=RECENT)
        self._flights: dict[TileId, threading.Event] = {}

    # --- What is there -------------------------------------------------------------------

    def find(self, tile: TileId) -> CachedTile | None:
        """Return a tile if it is cached, and what the registry says it must be."""
        with self._lock:
            lease = self._leases.get(tile)
        if lease is None:
            if not self._registry.has_tile(*tile):
                return None
            lease = self._files.lease(self._key(tile), self._expected(tile))
            if lease is None:
                return None
        return self._held(tile, lease)

    def fits(self, tiles: Iterable[TileId]) -> bool:
        """Return whether tiles would all be kept, as far as their sizes are published."""
        if not self._usable:
            return False
        sizes = (sum(size or 0 for size in published_sizes(self._registry, tile)) for tile in tiles)
        return sum(size + _LANDMASK_BYTES for size in sizes) <= self._files.limit

    @property
    def _usable(self) -> bool:
        return self._files.writable and self._registry.verifies

    def _key(self, tile: TileId) -> str:
        return f"{self._identity}\n{tile.year}\n{tile_to_grid_name(tile.lon, tile.lat)}"

    def _expected(self, tile: TileId) -> dict[str, tuple[int | None, str | None]]:
        """Return the names of a tile's files, with the sizes and SHA-256 that are published."""
        digests = self._registry.expected_sha256(*tile) or (None, None)
        landmask = self._registry.landmask_sha256(tile.lon, tile.lat)
        names = (path.name for path in local_tile_files("", tile))
        states = zip(
            (*published_sizes(self._registry, tile), None), (*digests, landmask), strict=True
        )
        return dict(zip(names, states, strict=True))

    def _held(self, tile: TileId, lease: Lease) -> CachedTile:
        with self._lock:
            self._leases[tile] = lease
            if lease not in self._recent:
                self._recent.append(lease)
        provenance = Provenance(self._registry.version, self._registry.variant, tile.year)
        embedding, scales, landmask = (
            lease.files[path.name] for path in local_tile_files("", tile)
        )
        return CachedTile(embedding, scales, landmask, provenance=provenance, lease=lease)

    # --- What is fetched -----------------------------------------------------------------

    def get(
        self,
        tile: TileId,
        *,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
    ) -> CachedTile | None:
        """Fetch a tile and keep it; None if it cannot be kept.

        Threads that want one tile fetch it once.

        Raises
        ------
        TileNotFoundError, TransferError
            As for `download_tile`.
        """
        while self.fits([tile]):
            mine, theirs = self._claim([tile])
            if mine:
                try:
                    with self._files.workspace() as place:
                        done = download_tile(
                            self._registry, tile, place, progress=progress, stop=stop
                        )
                        return self._keep(tile, done)
                except UnwritableDestination as error:
                    self._files.give_up(error)
                finally:
                    self._release(mine)
            for flight in theirs.values():
                while not flight.wait(0.1) and not (stop is not None and stop.is_set()):
                    pass
            if not mine and (found := self.find(tile)) is not None:
                return found
        return None

    def fetch(
        self, tiles: Iterable[TileId], on_tile: OnTile
    ) -> tuple[dict[TileId, CachedTile], dict[TileId, Exception]]:
        """Fetch tiles, several at once, and keep them.

        Parameters
        ----------
        tiles : iterable of TileId
            Which tiles.
        on_tile : callable
            Called with each tile that is there, and None, or that failed, and why.

        Returns
        -------
        found : dict of TileId to CachedTile
        failed : dict of TileId to Exception
            Tiles that are in neither cannot be kept; they were not fetched.
        """
        found: dict[TileId, CachedTile] = {}
        failed: dict[TileId, Exception] = {}
        wanted = [tile for tile in tiles if self.fits([tile])]
        while wanted and self._usable:
            mine, theirs = self._claim(wanted)
            try:
                if mine:
                    self._fetch(mine, found, failed, on_tile)
            finally:
                self._release(mine)
            wanted = []
            for tile, flight in theirs.items():
                flight.wait()
                if (here := self.find(tile)) is None:
                    wanted.append(tile)  # it failed there, or is gone already
                else:
                    found[tile] = here
                    on_tile(tile, None)
        return found, failed

    def _fetch(
        self,
        tiles: Sequence[TileId],
        found: dict[TileId, CachedTile],
        failed: dict[TileId, Exception],
        on_tile: OnTile,
    ) -> None:
        def keep(tile: TileId, files: Sequence[Transferred]) -> None:
            found[tile] = self._keep(tile, files)

        try:
            with self._files.workspace() as place:
                report = download_tiles(
                    self._registry, tiles, place, on_tile=on_tile, on_files=keep
                )
                failed |= report.failed
        except UnwritableDestination as error:
            self._files.give_up(error)

    def _keep(self, tile: TileId, done: Sequence[Transferred]) -> CachedTile:
        files = {one.path.name: one.path for one in done}
        digests = {one.path.name: one.sha256 for one in done if one.sha256 is not None}
        return self._held(tile, self._files.adopt(self._key(tile), files, digests))

    def _claim(self, tiles: Iterable[TileId]) -> tuple[list[TileId], dict[TileId, threading.Event]]:
        """Return the tiles that nobody fetches now, for the caller to fetch, and the others."""
        mine, theirs = [], {}
        with self._lock:
            for tile in dict.fromkeys(tiles):
                if tile in self._flights:
                    theirs[tile] = self._flights[tile]
                else:
                    self._flights[tile] = threading.Event()
                    mine.append(tile)
        return mine, theirs

    def _release(self, tiles: Iterable[TileId]) -> None:
        with self._lock:
            done = [self._flights.pop(tile) for tile in tiles]
        for flight in done:
            flight.set()
