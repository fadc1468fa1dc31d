"""Getting tiles: what is local, what is not, and how the missing files come.

A tile is three files; it is complete when all three are there. They are committed
landmask, scales, embedding, so that a reader never takes a part for the whole.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geotessera.errors import (
    DatasetMismatchError,
    GeoTesseraError,
    StalledError,
    TileError,
    TileNotFoundError,
)
from geotessera.grid import tile_to_grid_name
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.sidecar import check_dataset_dir, label_dataset_dir
from geotessera.tile_files import (
    check_online,
    record,
    tile_requests,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from geotessera.registry import Registry
    from geotessera.remote.transfer import Transferred
    from geotessera.types import ProgressCallback, TileId

__all__ = ["DownloadReport", "download_tile", "download_tiles"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class DownloadReport:
    """What a batch of downloads did.

    Parameters
    ----------
    complete : list of TileId
        Tiles that are complete now.
    failed : dict of TileId to Exception
        Tiles that are not, and why.
    files : list of Path
        Files that were transferred.
    bytes : int
        Their size.
    """

    complete: list[TileId] = field(default_factory=list)
    failed: dict[TileId, Exception] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    bytes: int = 0


def download_tile(
    registry: Registry,
    tile: TileId,
    directory: Path,
    *,
    refresh: bool = False,
    progress: ProgressCallback | None = None,
    jobs: int | None = None,
    stop: threading.Event | None = None,
) -> list[Transferred]:
    """Make a tile complete in a directory.

    Safe to call from many threads and processes; threads that want one tile fetch it once.

    Parameters
    ----------
    registry : Registry
        Where files are and what their digests must be.
    tile : TileId
        Which tile.
    directory : Path
        Root of the local layout.
    refresh : bool
        Fetch all three files again; those that are there stay until all are verified.
    progress : callable, optional
        Called with (bytes done, bytes in all, status text).
    jobs : int, optional
        Connections at once; by default ``GEOTESSERA_JOBS``, else 8.
    stop : threading.Event, optional
        Set it to give up from another thread.

    Returns
    -------
    list of Transferred
        The files that were transferred.

    Raises
    ------
    TileNotFoundError
        (a `RuntimeError` and `FileNotFoundError`) if the dataset has no such tile.
    TransferError
        (an `OSError`) if a file could not be fetched; the next call goes on where this one
        stopped.
    UnwritableDestination
        (an `OSError`) if the directory cannot be written.
    DatasetMismatchError
        (a `ValueError`) if the directory holds another dataset.
    """
    check_dataset_dir(directory, registry.version, registry.variant)
    group = _group(registry, tile, directory, refresh=refresh)
    if not group.files:
        return []
    label_dataset_dir(directory, registry.version, registry.variant)
    files: list[Transferred] | None = None
    for result in transfer(
        [group],
        jobs=jobs,
        progress=progress,
        total=sum(request.size or 0 for request in group.files),
        verify=registry.verifies,
        stop=stop,
    ):
        if result.error is not None:
            raise result.error
        for done in result.files:
            record(done, directory)
        files = result.files
    if files is None:
        raise TileError(f"the download of {_name(tile)} was stopped")
    return files


def _name(tile: TileId) -> str:
    return tile_to_grid_name(tile.lon, tile.lat)


def _group(registry: Registry, tile: TileId, directory: Path, *, refresh: bool) -> Group:
    """Return the files to fetch for a tile, in order of commit; none if all are there."""
    if not registry.has_tile(*tile):
        raise TileNotFoundError(_not_published(registry, tile))
    requests = tile_requests(registry, tile, directory)
    if not refresh:
        requests = [request for request in requests if not request.dest.is_file()]
    for request in requests:
        check_online(registry, request)
    return Group(tile, tuple(requests), replace=refresh)


def download_tiles(
    registry: Registry,
    tiles: Iterable[TileId],
    directory: Path,
    *,
    refresh: bool = False,
    progress: ProgressCallback | None = None,
    jobs: int | None = None,
    on_tile: Callable[[TileId, Exception | None], object] | None = None,
    on_files: Callable[[TileId, Sequence[Transferred]], object] | None = None,
) -> DownloadReport:
    """Make tiles complete in a directory; a tile that fails does not stop the others.

    Parameters
    ----------
    registry, directory, refresh, jobs
        As for `download_tile`.
    tiles : iterable of TileId
        Which tiles.
    progress : callable, optional
        Called with (bytes done, bytes in all, status text).
    on_tile : callable, optional
        Called with each tile that is complete, and None, or that failed, and why.
    on_files : callable, optional
        Called before that with each tile that was fetched, and its files.

    Raises
    ------
    UnwritableDestination
        (an `OSError`) if the directory cannot be written: no other tile could be either.
    DatasetMismatchError
        (a `ValueError`) if the directory holds another dataset.
    """
    check_dataset_dir(directory, registry.version, registry.variant)
    report = DownloadReport()

    def finish(tile: TileId, error: Exception | None, files: Sequence[Transferred] = ()) -> None:
        if error is not None:
            logger.warning("%s: %s", _name(tile), error)
            report.failed[tile] = error
        else:
            report.complete.append(tile)
        for done in files:
            record(done, directory)
            report.files.append(done.path)
            report.bytes += done.size
        if files and on_files is not None and error is None:
            on_files(tile, files)
        if on_tile is not None:
            on_tile(tile, error)

    groups: list[Group] = []
    for tile in dict.fromkeys(tiles):
        try:
            group = _group(registry, tile, directory, refresh=refresh)
        except DatasetMismatchError:
            raise
        except (GeoTesseraError, OSError) as error:
            finish(tile, error)
            continue
        if group.files:
            groups.append(group)
        else:
            finish(tile, None)
    if not groups:
        return report
    label_dataset_dir(directory, registry.version, registry.variant)
    try:
        for result in transfer(
            groups,
            jobs=jobs,
            progress=progress,
            total=sum(request.size or 0 for group in groups for request in group.files),
            verify=registry.verifies,
        ):
            finish(result.key, result.error, result.files)
    except StalledError as error:
        # Nothing moves: the tiles that are left would all wait as long.
        for group in groups:
            if group.key not in report.failed and group.key not in report.complete:
                finish(group.key, error)
    return report


def _not_published(registry: Registry, tile: TileId) -> str:
    year, lon, lat = tile
    name = tile_to_grid_name(lon, lat)
    dataset = f"dataset {registry.version} {registry.variant}"
    other = registry.nearest_year(lon, lat, year)
    if other is not None:
        return f"{dataset} has no tile {name} for {year}; the nearest year it has is {other}"
    return f"{dataset} has no tile {name} in any year: is the place on land?"
