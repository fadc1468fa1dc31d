"""Sampling tiles that are not local: only the bytes of the wanted pixels are fetched.

A tile is read by ranges where that is cheaper than fetching it whole, and nobody would use
the whole tile again. Values are those of the whole tile: the same kernels read them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

from geotessera.access.landmask_cache import LandmaskCache
from geotessera.errors import ChangedError, GeoTesseraError, InputError, TileError
from geotessera.grid import tile_to_grid_name
from geotessera.remote.byterange import NoRangesError, RangeCosts, RangePool, first_failure
from geotessera.remote.transfer import local_path
from geotessera.sampling import needed_pixels
from geotessera.sources.ranged import MirroredTile, RangedSource, RangedTile
from geotessera.tile_files import published_sizes
from geotessera.types import Provenance, TileId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.access.tile_store import TileStore
    from geotessera.registry import Registry
    from geotessera.remote.http import RetryPolicy
    from geotessera.sampling import PointGroups
    from geotessera.sources import RasterSource
    from geotessera.sources.local import LocalTile
    from geotessera.types import Method, ProgressCallback

    type Coord = tuple[float, float]

__all__ = ["FETCHES", "RangedTiles"]

logger = logging.getLogger("geotessera")

FETCHES = ("auto", "ranges", "tiles")

WORTH = 2
"""Ranges must be so many times cheaper than the whole tile, which is verified and used again."""

_TOGETHER = 64
"""Tiles whose headers, then pixels, are asked for together."""


_WHOLE = TileError("the whole tile is cheaper")
"""What stands for the decision not to read by ranges."""


@dataclass(slots=True, eq=False)
class _Job:
    """A tile on its way: what is wanted of it, and the source that has it in the end."""

    tile: TileId
    rows: NDArray[np.int64]
    urls: tuple[str, str, str]
    source: RasterSource | None = None


@dataclass(slots=True, eq=False)
class _Remote:
    """A job over HTTP: what it waits for."""

    job: _Job
    source: RangedSource
    landmask: Future[Path]
    waits: list[Future[Any]]
    numbers: NDArray[np.int64] | None = None


class RangedTiles:
    """Opens tiles that are not local so that only their wanted pixels are fetched.

    Safe to use from many threads.

    Parameters
    ----------
    registry : Registry
        What exists, and where.
    store : TileStore
        What is local.
    costs : RangeCosts, optional
        By default ``GEOTESSERA_RANGE_GAP`` and ``GEOTESSERA_RANGE_JOBS``.
    policy : RetryPolicy, optional
        Timeouts and repetitions.
    """

    def __init__(
        self,
        registry: Registry,
        store: TileStore,
        *,
        costs: RangeCosts | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._costs = costs
        self._policy = policy
        self._landmasks = LandmaskCache(registry, store.session_target, policy)
        self._spent: dict[TileId, int] = {}
        self._no_ranges = False

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
        local: dict[TileId, LocalTile] | None = None,
    ) -> dict[Coord, RasterSource]:
        """Return the sources of those tiles that are read by ranges, their pixels fetched.

        Parameters
        ----------
        groups : PointGroups
            The points, by tile.
        year : int
            Which year's tiles.
        method : {"nearest", "bilinear"}
            Which pixels a point needs.
        fetch : {"auto", "ranges", "tiles"}
            ``"auto"``: ranges where they cost less than half of the tile and the tiles would
            not be kept; ``"ranges"``: always; ``"tiles"``: never.
        auto_download : bool
            Whether anything is fetched at all.
        progress : callable, optional
            Called with (tiles done, tiles in all, status text).
        failures : dict, optional
            Where tiles that cannot be had are put; without it they raise.
        local : dict, optional
            Where tiles that were found to be local are put, so that nobody looks again.

        Returns
        -------
        dict of (lon, lat) to RasterSource
            Tiles that are left out are local, better fetched whole, or do not exist.

        Raises
        ------
        InputError
            (a `ValueError`) for an unknown `fetch`.
        TileError
            (a `RuntimeError`) for the first tile that could not be had.
        """
        if fetch not in FETCHES:
            raise InputError(f"fetch={fetch!r}: expected one of {', '.join(FETCHES)}")
        never = not auto_download or fetch == "tiles" or self._no_ranges
        if never or (fetch == "auto" and self._store.keeps):
            return {}
        found: dict[Coord, RasterSource] = {}
        jobs = list(self._jobs(groups, year, {} if local is None else local))
        remote = [job.tile for job in jobs if local_path(job.urls[0]) is None]
        if fetch == "auto" and remote and self._store.would_keep(remote):
            return {}
        done = 0
        for some in batched(jobs, _TOGETHER):
            if self._no_ranges:
                break
            if progress is not None:
                name = tile_to_grid_name(some[0].tile.lon, some[0].tile.lat)
                progress(done, len(jobs), f"reading pixels of {name}")
            for job, error in self._read(some, groups.points, method, fetch == "auto"):
                if error is None:
                    assert job.source is not None
                    found[job.tile.lon, job.tile.lat] = job.source
                elif failures is not None:
                    failures[job.tile] = error
                else:
                    raise TileError(
                        f"tile {tile_to_grid_name(job.tile.lon, job.tile.lat)} of "
                        f"{job.tile.year} could not be fetched: {error}"
                    ) from error
            done += len(some)
        return found

    def _jobs(
        self, groups: PointGroups, year: int, local: dict[TileId, LocalTile]
    ) -> Iterator[_Job]:
        """Yield the tiles that exist and are not local; note those that are."""
        here = self._registry.has_tiles(groups.keys[:, 0], groups.keys[:, 1], year).tolist()
        for centre, rows, exists in zip(groups.tiles(), groups.rows(), here, strict=True):
            tile = TileId.of(year, *centre)
            if not exists:
                continue
            if (here := self._store.local(tile)) is not None:
                local[tile] = here
                continue
            try:
                urls = self._registry.tile_urls(*tile)
            except (GeoTesseraError, OSError) as error:
                # Fetching the whole tile says what is wrong, as it is asked to.
                logger.info("The layout of the mirror could not be found out: %s", error)
                continue
            if not (self._registry.offline and local_path(urls[0]) is None):
                yield _Job(tile, rows, urls)

    def _read(
        self, jobs: Sequence[_Job], points: NDArray[np.float64], method: Method, thrifty: bool
    ) -> Iterator[tuple[_Job, Exception | None]]:
        """Read some tiles together; yield what became of those that are read by ranges."""
        remote = []
        for job in jobs:
            if local_path(job.urls[0]) is None:
                remote.append(job)
            elif self._open_mirrored(job, points, method, thrifty):
                yield job, None
        if not remote:
            return
        costs = self._costs or RangeCosts.from_environment()
        with RangePool(costs, self._policy) as pool:
            # All of the first pass is asked for before anything is waited for.
            begun = [self._begin(job, pool) for job in remote]
            first = [(one, self._plan(one, pool, points, method, thrifty)) for one in begun]
            for one, outcome in first:
                error = self._finish(one) if outcome is None else outcome
                if isinstance(error, NoRangesError):
                    self._note(error)
                elif error is not _WHOLE:
                    one.job.source = one.source
                    yield one.job, error

    def _begin(self, job: _Job, pool: RangePool) -> _Remote:
        """Ask for a tile's landmask and headers."""
        tile = job.tile
        request = self._landmasks.request(tile)
        source = RangedSource(
            RangedTile(
                job.urls[0],
                job.urls[1],
                request.dest,
                sizes=published_sizes(self._registry, tile),
                provenance=self._provenance(tile),
                costs=pool.costs,
            )
        )
        landmask = pool.submit(self._landmasks.get, request)
        return _Remote(job, source, landmask, [landmask, *source.begin(pool)])

    def _plan(
        self,
        one: _Remote,
        pool: RangePool,
        points: NDArray[np.float64],
        method: Method,
        thrifty: bool,
    ) -> Exception | None:
        """Ask for a tile's pixels; return why not, `_WHOLE` if the whole tile is cheaper."""
        error = first_failure(one.waits)
        if isinstance(error, ChangedError):
            one.source.forget()
            one.waits = one.source.begin(pool)
            error = first_failure(one.waits)
        if error is not None:
            return error
        try:
            one.source.check(one.landmask.result())
        except (GeoTesseraError, OSError) as wrong:
            return wrong
        numbers = needed_pixels(one.source.grid, points, one.job.rows, method)
        if thrifty and not self._pays(one, numbers):
            return _WHOLE
        one.numbers = numbers
        one.waits = one.source.request(pool, numbers)
        return None

    def _pays(self, one: _Remote, numbers: NDArray[np.int64]) -> bool:
        """Whether ranges are cheaper than the whole tile, all that were read so far included."""
        tile = one.job.tile
        cost = self._spent.get(tile, 0) + one.source.cost(numbers)
        if cost * WORTH >= one.source.whole_cost:
            return False
        self._spent[tile] = cost
        return True

    def _finish(self, one: _Remote) -> Exception | None:
        """Wait for a tile's pixels; read it again if it changed meanwhile."""
        error = first_failure(one.waits)
        if isinstance(error, ChangedError):
            logger.info("%s: reading it again", error)
            one.source.forget()
            try:
                one.source.load(one.numbers, self._policy, attempts=1)
            except (GeoTesseraError, OSError) as wrong:
                return wrong
            return None
        return error

    def _note(self, error: NoRangesError) -> None:
        if not self._no_ranges:
            self._no_ranges = True
            logger.warning("%s: whole tiles are fetched instead of their pixels", error)

    def _open_mirrored(
        self, job: _Job, points: NDArray[np.float64], method: Method, thrifty: bool
    ) -> bool:
        """Open a tile of a mirror on disk where it is; what is wrong there says the copying."""
        paths = [path for url in job.urls if (path := local_path(url)) is not None]
        tile = MirroredTile(paths[0], paths[1], paths[2], provenance=self._provenance(job.tile))
        try:
            source = tile.open()
            for path, size in zip(paths, published_sizes(self._registry, job.tile), strict=False):
                if size not in (None, path.stat().st_size):
                    return False
        except (GeoTesseraError, OSError):
            return False
        needed = len(needed_pixels(source.grid, points, job.rows, method))
        if thrifty and not source.prefers_gather(needed):
            return False
        job.source = source
        return True

    def _provenance(self, tile: TileId) -> Provenance:
        return Provenance(self._registry.version, self._registry.variant, tile.year)
