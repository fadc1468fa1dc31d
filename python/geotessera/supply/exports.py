"""Making tiles complete in a directory: what is there is checked, what is missing is made.

As the published arrays, or as GeoTIFFs. A second run over the same tiles makes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any

from geotessera.datasets import EMBEDDINGS_DIR_NAME, normalize_version
from geotessera.download import download_tiles
from geotessera.errors import (
    GeoTesseraError,
    InputError,
    TileError,
    UnwritableDestination,
)
from geotessera.export import export_tile, record_export
from geotessera.grid import tile_to_grid_name
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.remote.records import FileRecords
from geotessera.sources import NpyTile
from geotessera.supply.state import depth_of, stale_export, wrong_sizes
from geotessera.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from geotessera.download import DownloadReport
    from geotessera.registry import Registry
    from geotessera.types import ProgressCallback, TileId

__all__ = ["CompletionReport", "complete_arrays", "complete_geotiffs"]

BATCH = 8
"""Tiles whose arrays are on disk at once if they are not kept."""


@dataclass(slots=True)
class CompletionReport:
    """What a run did.

    Parameters
    ----------
    downloaded : list of Path
        Transferred files.
    downloaded_bytes : int
        Their size.
    exported : list of Path
        Written GeoTIFFs.
    skipped : int
        Files (arrays) or GeoTIFFs that were there and right.
    redone : list of str
        What was there and wrong, and why.
    failed : dict of TileId to Exception
        Tiles that are incomplete.
    """

    downloaded: list[Path] = field(default_factory=list)
    downloaded_bytes: int = 0
    exported: list[Path] = field(default_factory=list)
    skipped: int = 0
    redone: list[str] = field(default_factory=list)
    failed: dict[TileId, Exception] = field(default_factory=dict)

    @property
    def created(self) -> list[Path]:
        """New files that are for the user: GeoTIFFs, or else arrays."""
        return self.exported or self.downloaded

    def add(self, report: DownloadReport) -> None:
        """Add what a batch of transfers did."""
        self.downloaded += report.files
        self.downloaded_bytes += report.bytes
        self.failed |= report.failed


def complete_arrays(
    registry: Registry,
    tiles: Sequence[TileId],
    directory: Path,
    *,
    progress: ProgressCallback | None = None,
    **how: Any,
) -> CompletionReport:
    """Make the three files of every tile complete; wrong sizes are fetched again.

    Parameters
    ----------
    registry : Registry
        What the files must be.
    tiles : sequence of TileId
        Which tiles.
    directory : Path
        Root of the local layout.
    progress : callable, optional
        As `download_tiles` calls it.
    **how
        Further keywords of `download_tiles`.

    Raises
    ------
    UnwritableDestination, DatasetMismatchError
        As `download_tiles`; a tile that fails otherwise does not stop the others.
    """
    report = CompletionReport()
    existing = {
        tile: sum(path.exists() for path in local_tile_files(directory, tile)) for tile in tiles
    }
    refreshed = _transfer(registry, tiles, directory, report, progress, how)
    report.skipped = sum(existing[tile] for tile in existing.keys() - set(refreshed))
    return report


def complete_geotiffs(
    registry: Registry,
    tiles: Sequence[TileId],
    directory: Path,
    *,
    bands: Sequence[int] | None = None,
    compress: str = "lzw",
    cog: bool = False,
    keep_npy: bool = True,
    progress: ProgressCallback | None = None,
    **how: Any,
) -> CompletionReport:
    """Make the GeoTIFF of every tile, from arrays that are fetched where they are missing.

    A GeoTIFF that is there, whole and as it is asked for stays; see `stale_export`.

    Parameters
    ----------
    registry, tiles, directory, **how
        As for `complete_arrays`.
    bands, compress, cog
        As for `geotessera.export.export_tile`.
    keep_npy : bool
        Whether arrays stay beside their GeoTIFFs. If not, those that this run fetched are
        removed, a few tiles after another; what was there before stays, and so does a
        landmask that other arrays need.
    progress : callable, optional
        Called with (tiles done, tiles in all, status text).

    Raises
    ------
    InputError
        (a `ValueError`) for bands or a compression that cannot be used.
    UnwritableDestination, DatasetMismatchError
        As `download_tiles`; a tile that fails otherwise does not stop the others.
    """
    report = CompletionReport()
    records = FileRecords(directory).load()

    def is_stale(tile: TileId) -> bool:
        path = geotiff_path(directory, tile)
        if not path.exists():
            return True
        reason = stale_export(
            path,
            tile,
            dataset=(registry.version, registry.variant),
            bands=bands,
            compress=compress,
            cog=cog,
            depth=depth_of(registry, tile, directory),
            record=records.get(path.relative_to(directory).as_posix()),
        )
        if reason is not None:
            report.redone.append(f"{path.name}: {reason}")
        return reason is not None

    wanted = [tile for tile in tiles if is_stale(tile)]
    report.skipped = len(tiles) - len(wanted)
    done = 0
    for batch in batched(wanted, max(len(wanted), 1) if keep_npy else BATCH):
        before = {
            path for tile in batch for path in local_tile_files(directory, tile) if path.exists()
        }
        fetched = len(report.downloaded)
        shifted = None if progress is None else _shifted(progress, done, len(wanted))
        refreshed = _transfer(registry, batch, directory, report, shifted, how)
        for tile in batch:
            if progress is not None:
                progress(done, len(wanted), tile_to_grid_name(tile.lon, tile.lat))
            if tile not in report.failed:
                _export(registry, tile, directory, report, bands, compress, cog)
            done += 1
        if not keep_npy:
            # A tile that was there and wrong is the user's, though all of it was fetched again.
            theirs = {path for tile in refreshed for path in local_tile_files(directory, tile)}
            _remove(set(report.downloaded[fetched:]) - before - theirs, directory)
    if progress is not None:
        progress(done, len(wanted), "")
    return report


def _transfer(
    registry: Registry,
    tiles: Iterable[TileId],
    directory: Path,
    report: CompletionReport,
    progress: ProgressCallback | None,
    how: dict[str, Any],
) -> list[TileId]:
    """Fetch what is missing, and again what has the wrong size; return those tiles."""
    right: list[TileId] = []
    wrong: list[TileId] = []
    for tile in tiles:
        reasons = wrong_sizes(registry, tile, directory)
        report.redone += reasons
        (wrong if reasons else right).append(tile)
    for group, refresh in ((right, False), (wrong, True)):
        if group:
            report.add(
                download_tiles(
                    registry, group, directory, refresh=refresh, progress=progress, **how
                )
            )
    return wrong


def _export(
    registry: Registry,
    tile: TileId,
    directory: Path,
    report: CompletionReport,
    bands: Sequence[int] | None,
    compress: str,
    cog: bool,
) -> None:
    dataset = normalize_version(registry.version), registry.variant
    files = local_tile_files(directory, tile)
    path = geotiff_path(directory, tile)
    try:
        if absent := files.missing():
            raise TileError(f"{absent[0]} vanished while it was used")
        with NpyTile(*files, provenance=Provenance(*dataset, tile.year)).open() as source:
            export_tile(
                source, path, tile=tile, dataset=dataset, bands=bands, compress=compress, cog=cog
            )
    except (InputError, UnwritableDestination):
        raise  # no other tile would fare better
    except (GeoTesseraError, OSError, RuntimeError) as error:
        report.failed[tile] = error
        return
    record_export(path, directory)
    report.exported.append(path)


def _shifted(progress: ProgressCallback, done: int, total: int) -> ProgressCallback:
    """Return a callback that keeps the bar of a whole run still while a batch is fetched."""

    def callback(current: int, count: int, status: str = "", /) -> None:
        share = f" ({current * 100 // count} %)" if count else ""
        progress(done, total, f"downloading {status}{share}")

    return callback


def _remove(paths: set[Path], directory: Path) -> None:
    """Remove arrays, and those of the landmasks among the paths that no array needs."""
    arrays = {path for path in paths if path.suffix == ".npy"}
    _forget_and_unlink(arrays, directory)
    _forget_and_unlink(
        {path for path in paths - arrays if not _is_needed(path, directory)}, directory
    )


def _forget_and_unlink(paths: set[Path], directory: Path) -> None:
    FileRecords(directory).forget(path.relative_to(directory) for path in sorted(paths))
    for path in paths:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()  # where nothing else is in it


def _is_needed(landmask: Path, directory: Path) -> bool:
    arrays = (directory / EMBEDDINGS_DIR_NAME).glob(f"*/{landmask.stem}/{landmask.stem}*.npy")
    return next(arrays, None) is not None
