"""Mosaics of tiles that need not be here: what is there is used, the rest comes while it is made.

A tile's place is in its landmask, a few kilobytes: with the landmasks a mosaic can be
planned, and the arrays of its tiles come in the order in which the mosaic needs them.
"""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import batched
from typing import TYPE_CHECKING, Self

from geotessera.access.cell_registry import CellRegistry
from geotessera.datasets import normalize_version
from geotessera.download import download_tiles
from geotessera.errors import (
    DatasetMismatchError,
    GeoTesseraError,
    IncompleteMosaicError,
    TileNotFoundError,
)
from geotessera.grid import tile_footprint, tile_to_grid_name
from geotessera.layout import local_tile_files
from geotessera.mosaic.rasters import MosaicRaster
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.sidecar import check_dataset_dir
from geotessera.sources import GeoTiff, NpyTile, find_tile
from geotessera.sources.landmask import snap
from geotessera.sources.local import stands_for
from geotessera.supply.state import depth_of
from geotessera.tile_files import check_online, landmask_request, record
from geotessera.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.registry import Registry
    from geotessera.sources.cell import CellTile
    from geotessera.sources.landmask import Georeference
    from geotessera.types import GridSpec, ProgressCallback, TileId

__all__ = ["TileRasters", "TileSupply"]

AHEAD = 12
"""Tiles that are fetched before they are needed, where they are not kept."""

BATCH = 4
"""Tiles that are fetched at once then."""


@dataclass(slots=True)
class TileRasters:
    """The rasters of some tiles, local or not; find them with `find`.

    Parameters
    ----------
    registry : Registry
        The dataset.
    directory : Path
        Where tiles that are not local go.
    tiles : dict of TileId to MosaicRaster
        The rasters, in the tiles' order.
    missing : list of TileId
        Those whose arrays are not local.
    """

    registry: Registry
    directory: Path
    tiles: dict[TileId, MosaicRaster] = field(default_factory=dict)
    missing: list[TileId] = field(default_factory=list)

    @classmethod
    def find(
        cls,
        registry: Registry,
        tiles: Iterable[TileId],
        directory: Path,
        *,
        local: Path | None = None,
        quantized: bool = False,
        georeference: Georeference = "snapped",
        fetch: bool = True,
        jobs: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Find tiles on disk, and fetch the landmasks of the others.

        Cells of a Zarr store are read where they are: none of them is missing.

        Parameters
        ----------
        registry : Registry
            The dataset.
        tiles : iterable of TileId
            Which tiles.
        directory : Path
            Where what is not local goes.
        local : Path, optional
            Where tiles are looked for before.
        quantized : bool
            Whether int8 values are needed, which exported GeoTIFFs do not have.
        georeference : {"snapped", "landmask"}
            Where NPY tiles are; see `geotessera.sources.landmask.read_georeference`.
        fetch : bool
            Whether to fetch at all. If not, tiles whose landmask is not local are where
            their cell is, which is good enough to tell sizes.
        jobs : int, optional
            Connections at once.
        progress : callable, optional
            Called with (bytes done, bytes in all, status text).

        Raises
        ------
        IncompleteMosaicError
            (a `RuntimeError`) if tiles have no landmask that could be had.
        DatasetMismatchError
            (a `ValueError`) if `local` holds another dataset.
        """
        if isinstance(registry, CellRegistry):
            cells = {tile: registry.cell(tile) for tile in dict.fromkeys(tiles)}
            return cls(registry, directory, {at: _of_cell(cell) for at, cell in cells.items()})
        dataset = normalize_version(registry.version), registry.variant
        if local is not None:
            check_dataset_dir(local, *dataset)
        _drop_another_dataset(directory, local, dataset)
        found = cls(registry, directory)
        places = [place for place in (local, directory) if place is not None]
        wanted = list(dict.fromkeys(tiles))
        descriptors: dict[TileId, NpyTile | GeoTiff] = {}
        for tile in wanted:
            for place in places:
                here = find_tile(place, tile, dataset)
                if isinstance(here, GeoTiff) and (
                    quantized or not stands_for(here, tile, dataset, None)
                ):
                    here = None
                if here is not None:
                    descriptors[tile] = here
                    break
            else:
                found.missing.append(tile)
        if fetch and found.missing:
            _fetch_landmasks(registry, found.missing, directory, jobs, progress)
        depth = found._depth(local)
        for tile in wanted:
            there = descriptors.get(tile)
            if isinstance(there, NpyTile):
                there = replace(there, georeference=georeference)
            if there is not None:
                found.tiles[tile] = MosaicRaster.of(there, tile=(tile.lon, tile.lat))
                continue
            files = local_tile_files(directory, tile)
            later = NpyTile(*files, georeference, Provenance(*dataset, tile.year))
            found.tiles[tile] = _of_missing(tile, later, depth)
        return found

    def _depth(self, local: Path | None) -> int:
        for tile in self.missing[:1]:
            return depth_of(self.registry, tile, local) or self._depth_of_first(tile)
        return 0

    def _depth_of_first(self, tile: TileId) -> int:
        """Fetch one tile to see how deep the others are."""
        report = download_tiles(self.registry, [tile], self.directory)
        if report.failed:
            raise IncompleteMosaicError({_name(tile): report.failed[tile]})
        return depth_of(self.registry, tile, self.directory) or 0

    def download_bytes(self) -> int:
        """Return the published size of what is not local, landmasks apart."""
        sizes = self.registry.get_tile_file_size, self.registry.get_scales_file_size
        total = 0
        for tile in self.missing:
            for size in sizes:
                with suppress(GeoTesseraError):
                    total += size(*tile)
        return total


def _of_missing(tile: TileId, later: NpyTile, depth: int) -> MosaicRaster:
    """Return the raster of a tile whose arrays are to come, by its landmask or else its cell."""
    centre = tile.lon, tile.lat
    with suppress(FileNotFoundError):
        return MosaicRaster.of(later, tile=centre, band_count=depth)
    grid: GridSpec = tile_footprint(*centre)
    if later.georeference == "snapped":
        grid = snap(grid)
    return MosaicRaster(later, grid, depth, provenance=later.provenance)


def _drop_another_dataset(directory: Path, local: Path | None, dataset: tuple[str, str]) -> None:
    """Delete what a run over another dataset left in the working directory."""
    if directory == local:
        return
    try:
        check_dataset_dir(directory, *dataset)
    except DatasetMismatchError:
        shutil.rmtree(directory)


def _fetch_landmasks(
    registry: Registry,
    tiles: Sequence[TileId],
    directory: Path,
    jobs: int | None,
    progress: ProgressCallback | None,
) -> None:
    groups: list[Group] = []
    failed: dict[str, Exception] = {}
    for tile in tiles:
        request = landmask_request(registry, tile.lon, tile.lat, directory, tile.year)
        if request.dest.is_file():
            continue
        try:
            check_online(registry, request)
        except TileNotFoundError as error:
            failed[_name(tile)] = error
        else:
            groups.append(Group(tile, (request,)))
    if not failed:
        for result in transfer(groups, jobs=jobs, progress=progress, verify=registry.verifies):
            if result.error is not None:
                failed[_name(result.key)] = result.error
            for done in result.files:
                record(done, directory)
    if failed:
        raise IncompleteMosaicError(failed)


def _of_cell(cell: CellTile) -> MosaicRaster:
    return MosaicRaster.of(cell, tile=(cell.tile.lon, cell.tile.lat))


def _name(tile: TileId) -> str:
    return tile_to_grid_name(tile.lon, tile.lat)


class _Stopped(Exception):  # noqa: N818 - control flow, never seen outside
    """The supply is not wanted any more."""


class TileSupply:
    """Fetches the tiles of a mosaic while it is made; a `geotessera.mosaic.write.Supply`.

    Tiles come in the order in which they are needed. If they are not kept, only a few are
    fetched ahead, and each is removed when nothing of it is needed any more.

    Parameters
    ----------
    plan : MosaicPlan
        The mosaic.
    rasters : TileRasters
        Its tiles.
    keeps : bool
        Whether fetched tiles stay.
    jobs : int, optional
        Connections at once.

    Attributes
    ----------
    fetched : int
        Tiles that came.
    bytes : int
        What was transferred.
    """

    def __init__(
        self, plan: MosaicPlan, rasters: TileRasters, *, keeps: bool, jobs: int | None = None
    ) -> None:
        centres = {(tile.lon, tile.lat): tile for tile in rasters.missing}
        self._tiles: dict[int, TileId] = {
            at: centres[raster.centre]
            for at, raster in enumerate(plan.rasters)
            if raster.centre in centres
        }
        self._numbers = {tile: at for at, tile in self._tiles.items()}
        self._rasters = rasters
        self._keeps = keeps
        self._jobs = jobs
        self._changed = threading.Condition()
        self._arrived: dict[int, Exception | None] = {}
        self._awaited: set[int] = set()
        self._live = 0
        self._stop = False
        self._fatal: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._tell: Callable[[str], object] = lambda _: None
        self.fetched = self.bytes = 0

    def start(self, order: Sequence[int], tell: Callable[[str], object]) -> None:
        """Begin to fetch those of some rasters that are not local, in their order."""
        queue = [at for at in order if at in self._tiles]
        if not queue:
            return
        self._tell = tell
        self._thread = threading.Thread(target=self._run, args=(queue,), daemon=True)
        self._thread.start()

    def _run(self, queue: list[int]) -> None:
        try:
            for batch in batched(queue, len(queue) if self._keeps else BATCH):
                with self._changed:
                    self._changed.wait_for(self._may_go_on)
                    if self._stop:
                        return
                report = download_tiles(
                    self._rasters.registry,
                    [self._tiles[at] for at in batch],
                    self._rasters.directory,
                    jobs=self._jobs,
                    progress=self._progress,
                    on_tile=self._arrive,
                )
                self.bytes += report.bytes
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where tiles are waited for
            with self._changed:
                self._fatal = error
                self._changed.notify_all()

    def _may_go_on(self) -> bool:
        return self._stop or self._keeps or self._live < AHEAD or bool(self._awaited)

    def _progress(self, done: int, total: int, _: str, /) -> None:
        if self._stop:
            raise _Stopped
        share = f", next {done * 100 // total} %" if total else ""
        self._tell(f"fetched {self.fetched} of {len(self._tiles)} tiles{share}")

    def _arrive(self, tile: TileId, error: Exception | None) -> None:
        with self._changed:
            at = self._numbers[tile]
            self._arrived[at] = error
            self._awaited.discard(at)
            self.fetched += error is None
            self._live += error is None
            self._changed.notify_all()

    def wait(self, rasters: Sequence[int]) -> dict[int, Exception]:
        """Return when rasters are local; those that could not be had, with the reasons.

        Raises
        ------
        UnwritableDestination
            (an `OSError`) if tiles cannot be kept where they go.
        """
        wanted = [at for at in rasters if at in self._tiles]
        with self._changed:
            self._awaited |= {at for at in wanted if at not in self._arrived}
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fatal or all(at in self._arrived for at in wanted))
            if self._fatal is not None:
                raise self._fatal
            failed = {at: self._arrived[at] for at in wanted}
        return {at: error for at, error in failed.items() if error is not None}

    def release(self, rasters: Sequence[int]) -> None:
        """Remove the arrays of rasters of which nothing is needed any more."""
        if self._keeps:
            return
        for at in rasters:
            if at in self._tiles and self._arrived.get(at, KeyError()) is None:
                embedding, scales, _ = local_tile_files(self._rasters.directory, self._tiles[at])
                for path in (embedding, scales):
                    path.unlink(missing_ok=True)
                with self._changed:
                    self._live -= 1
                    self._changed.notify_all()

    def close(self, *, done: bool) -> None:
        """Stop fetching; when the mosaic is done, remove what was not to be kept."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if done and not self._keeps:
            shutil.rmtree(self._rasters.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop fetching."""
        self.close(done=kind is None)
