"""The tiles that a client can read: where each is, and how one that is nowhere comes."""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.datasets import LANDMASKS_DIR_NAME, tile_to_landmask_filename
from geotessera.download import download_tile, download_tiles
from geotessera.errors import DatasetMismatchError, InputError, TileError, TileNotFoundError
from geotessera.grid import tile_to_grid_name
from geotessera.sidecar import check_dataset_dir
from geotessera.sources import GeoTiff, find_tile, read_georeference
from geotessera.sources.local import stands_for
from geotessera.tile_files import fetch_recorded, landmask_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.access.tile_cache import TileCache
    from geotessera.registry import Registry
    from geotessera.sources.local import LocalTile
    from geotessera.types import GridSpec, ProgressCallback, TileId

__all__ = ["TileStore", "session_directory"]


def _name(tile: TileId) -> str:
    return tile_to_grid_name(tile.lon, tile.lat)


class TileStore:
    """The tiles that a client can read: local ones, and those it fetches to answer a call.

    Safe to use from many threads.

    Parameters
    ----------
    registry : Registry
        What exists.
    directory : Path
        Where the user's tiles are.
    origin : str
        The mirror that tiles come from; tells apart what different clients fetch.
    keeps : bool
        Whether fetched tiles are kept in `directory`, or only as long as the process.
    cache : TileCache, optional
        Where tiles are kept between processes; it stands between the two.
    """

    def __init__(
        self,
        registry: Registry,
        directory: Path,
        *,
        origin: str,
        keeps: bool,
        cache: TileCache | None = None,
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._directory = directory
        self._keeps = keeps
        self._dataset = registry.version, registry.variant
        self._checked: bool | None = None
        self._exports: dict[tuple[GeoTiff, int, int], bool] = {}
        identity = f"{origin} {registry.version} {registry.variant}"
        self._session_name = hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def keeps(self) -> bool:
        """Whether what is fetched is kept in the user's directory."""
        return self._keeps

    def would_keep(self, tiles: Iterable[TileId]) -> bool:
        """Return whether tiles that are fetched whole will be there for a later process."""
        return self._keeps or (self._cache is not None and self._cache.fits(tiles))

    def session_target(self) -> Path:
        """Return the directory for what only this process needs; it need not exist."""
        return session_directory() / self._session_name

    def _target(self) -> Path:
        return self._directory if self._keeps else self.session_target()

    def local(self, tile: TileId) -> LocalTile | None:
        """Return a complete local tile, or None.

        Raises
        ------
        DatasetMismatchError
            (a `ValueError`) if the directory that was given holds another dataset.
        """
        found = None
        if self._is_ours():
            found = find_tile(self._directory, tile, self._dataset)
            if isinstance(found, GeoTiff) and not self._stands_for(found, tile):
                found = None
        if found is None and self._cache is not None:
            found = self._cache.find(tile)
        if found is None and not self._keeps and _session is not None:
            found = find_tile(self._target(), tile, self._dataset)
        return found

    def _stands_for(self, found: GeoTiff, tile: TileId) -> bool:
        """Whether an exported GeoTIFF is the whole tile; asked once for each state of it."""
        stat = Path(found.path).stat()
        state = (found, stat.st_mtime_ns, stat.st_size)
        known = self._exports.get(state)
        if known is None:
            try:
                size: int | None = self._registry.get_tile_file_size(*tile)
            except InputError:
                size = None  # not recorded
            known = self._exports[state] = stands_for(found, tile, self._dataset, size)
        return known

    def _is_ours(self) -> bool:
        """Whether the directory may be read: it does not record another dataset."""
        if self._checked is None:
            try:
                check_dataset_dir(self._directory, *self._dataset)
            except DatasetMismatchError:
                if self._keeps:
                    raise
                self._checked = False  # nobody chose the current directory: pass it over
            else:
                self._checked = True
        return self._checked

    def get(
        self,
        tile: TileId,
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
    ) -> LocalTile:
        """Return a tile, fetching it if it is not local or if `refresh` is asked for.

        Raises
        ------
        TileNotFoundError, TransferError, DatasetMismatchError
            As for `download_tile`.
        """
        found = None if refresh else self.local(tile)
        if found is None and self._cache is not None:
            found = self._cache.get(tile, progress=progress, stop=stop)
        if found is not None:
            return found
        target = self._target()
        download_tile(self._registry, tile, target, refresh=refresh, progress=progress, stop=stop)
        return self._must_be_there(tile, find_tile(target, tile))

    def _must_be_there(self, tile: TileId, found: LocalTile | None) -> LocalTile:
        if found is None:
            raise TileError(
                f"tile {_name(tile)} of {tile.year} vanished from {self._target()} while it was "
                "used: do not delete tiles under a running program"
            )
        return found

    def ensure(
        self,
        tiles: Iterable[TileId],
        *,
        auto_download: bool = True,
        progress: ProgressCallback | None = None,
        failures: dict[TileId, Exception] | None = None,
    ) -> dict[TileId, LocalTile]:
        """Return those of some tiles that exist, fetching what is not local.

        Parameters
        ----------
        tiles : iterable of TileId
            Which tiles; those that the dataset does not have are left out.
        auto_download : bool
            Whether to fetch.
        progress : callable, optional
            Called with (tiles done, tiles in all, status text) while fetching.
        failures : dict, optional
            Where tiles that cannot be had are put; without it they raise.

        Raises
        ------
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if tiles are not local and
            `auto_download` is False.
        TileError
            (a `RuntimeError`) for the first tile that could not be fetched.
        """
        found: dict[TileId, LocalTile] = {}
        missing: list[TileId] = []
        for tile in tiles:
            if (here := self.local(tile)) is not None:
                found[tile] = here
            elif self._registry.has_tile(*tile):
                missing.append(tile)
        if missing and not auto_download:
            names = ", ".join(_name(tile) for tile in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            absent = TileNotFoundError(
                f"{len(missing)} tiles of {missing[0].year} are not in {self._directory} and "
                f"auto_download is off: {names}{more}"
            )
            if failures is None:
                raise absent
            failures |= dict.fromkeys(missing, absent)
            return found
        if missing:
            found |= self._fetch(missing, progress, failures)
        return found

    def _fetch(
        self,
        missing: list[TileId],
        progress: ProgressCallback | None,
        failures: dict[TileId, Exception] | None,
    ) -> dict[TileId, LocalTile]:
        """Fetch several tiles at once; the first that fails raises without `failures`."""
        counts = itertools.count(1)

        def on_tile(tile: TileId, error: Exception | None) -> None:
            if error is not None and failures is None:
                raise TileError(
                    f"tile {_name(tile)} of {tile.year} could not be fetched: {error}"
                ) from error
            if progress is not None:
                progress(next(counts), len(missing), f"downloaded {_name(tile)}")

        if progress is not None:
            progress(0, len(missing), f"downloading {_name(missing[0])}")
        found: dict[TileId, LocalTile] = {}
        failed: dict[TileId, Exception] = {}
        if self._cache is not None:
            cached, failed = self._cache.fetch(missing, on_tile)
            found |= cached
        rest = [tile for tile in missing if tile not in found and tile not in failed]
        target = self._target()
        report = download_tiles(self._registry, rest, target, on_tile=on_tile)
        if failures is not None:
            failures |= failed | report.failed
        for tile in report.complete:
            found[tile] = self._must_be_there(tile, find_tile(target, tile))
        return found

    def landmask(self, lon: float, lat: float, *, refresh: bool = False) -> Path:
        """Return the path of a tile's landmask, fetching it if need be."""
        for root in (self._directory, self._target()):
            local = root / LANDMASKS_DIR_NAME / tile_to_landmask_filename(lon, lat)
            if local.is_file() and not refresh and (root != self._directory or self._is_ours()):
                return local
        target = self._target()
        request = landmask_request(self._registry, lon, lat, target)
        return fetch_recorded(self._registry, request, target).path

    def georeference(self, lon: float, lat: float, *, refresh: bool = False) -> GridSpec:
        """Return where the pixels of a tile are, from its landmask, fetched if need be."""
        return read_georeference(self.landmask(lon, lat, refresh=refresh))


_session_lock = threading.Lock()
_session: Path | None = None


def session_directory() -> Path:
    """Return the directory for tiles that only this process needs; removed at exit."""
    global _session
    with _session_lock:
        if _session is None:
            _session = Path(tempfile.mkdtemp(prefix="geotessera-"))
            atexit.register(_remove_session, _session, os.getpid())
        return _session


def _remove_session(directory: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves its parent's tiles alone
        shutil.rmtree(directory, ignore_errors=True)
