"""Mosaics to disk: made window by window within a budget of memory, resumable, atomic."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from geotessera import _native
from geotessera.errors import (
    GeoTesseraError,
    IncompleteMosaicError,
    InputError,
    UnwritableDestination,
)
from geotessera.mosaic.budget import reduction, resident, within
from geotessera.mosaic.execute import SPARSE, render
from geotessera.mosaic.extent import check_disk
from geotessera.mosaic.opener import Opener
from geotessera.mosaic.record import Record
from geotessera.types import Window

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.mosaic.geotiffs import GeoTiffs
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.stores import Store
    from geotessera.types import ProgressCallback

__all__ = ["DEFAULT_MEMORY", "MosaicReport", "Supply", "write_mosaic"]

type Format = Literal["tiff", "cog", "zarr"]

DEFAULT_MEMORY = 2 * 10**9
"""Bytes of memory that writing a mosaic keeps to."""

_FORMATS = ("tiff", "cog", "zarr")


class Supply(Protocol):
    """Who brings rasters that are not there yet; the rasters are known by their numbers."""

    def start(self, order: Sequence[int], tell: Callable[[str], object]) -> None:
        """Begin: these rasters are needed, in this order; `tell` takes a status text."""
        ...

    def wait(self, rasters: Sequence[int]) -> dict[int, Exception]:
        """Return when the rasters are there; those that could not be had, with the reasons."""
        ...

    def release(self, rasters: Sequence[int]) -> None:
        """Take back rasters of which nothing is needed any more."""
        ...


@dataclass(slots=True)
class MosaicReport:
    """What was done to make a mosaic.

    Parameters
    ----------
    paths : list of Path
        The files, or the directory of a Zarr store; the values first.
    blocks : int
        Blocks of the mosaic, overviews apart.
    written : int
        Those that this run made.
    resumed : int
        Those that an earlier run had made.
    empty : int
        Those that no raster touches.
    bytes : int
        Size on disk.
    """

    paths: list[Path] = field(default_factory=list)
    blocks: int = 0
    written: int = 0
    resumed: int = 0
    empty: int = 0
    bytes: int = 0


def write_mosaic(
    plan: MosaicPlan,
    path: str | os.PathLike[str],
    *,
    format: Format = "tiff",
    compress: str = "zstd",
    memory: int | None = None,
    jobs: int | None = None,
    overviews: bool = True,
    progress: ProgressCallback | None = None,
    resume: bool = True,
    keep: bool = True,
    supply: Supply | None = None,
) -> MosaicReport:
    """Make a mosaic on disk.

    Windows of it are made one after another while the one before is compressed and
    written, so that memory is bounded whatever the mosaic's size. What is finished is
    recorded beside the target: a run that was killed, or that lacked a tile, is gone on
    with by the next one. The target itself appears whole or not at all.

    Parameters
    ----------
    plan : MosaicPlan
        What to make. A quantised plan becomes two GeoTIFFs, ``X.tif`` with the int8 values
        and ``X_scales.tif``, or a Zarr store of two arrays.
    path : path
        The file, or the directory of a Zarr store; parents are made. What is there is
        replaced at the end.
    format : {"tiff", "cog", "zarr"}
        Tiled BigTIFF, the same cloud-optimised, or Zarr (version 3, sharded).
    compress : {"zstd", "deflate", "lzw", "none"}
        Of GeoTIFFs; int8 embeddings shrink to two thirds by zstd, and grow by lzw.
    memory : int, optional
        Bytes that the whole process may use; by default `DEFAULT_MEMORY` more than now.
    jobs : int, optional
        Threads that compress; by default as many as the kernels use.
    overviews : bool
        Whether a plain GeoTIFF has overviews, by nearest neighbour; the others: a COG
        always, a store never.
    progress : callable, optional
        Called with (blocks done, blocks in all, status text).
    resume : bool
        Whether to go on from what an earlier run of the same plan left.
    keep : bool
        Whether a run that fails leaves what is finished for the next one.
    supply : Supply, optional
        Who brings rasters that are not there yet.

    Returns
    -------
    MosaicReport

    Raises
    ------
    IncompleteMosaicError
        (a `RuntimeError`) if tiles could not be had or read; all else is done and kept.
    InputError
        (a `ValueError`) for an option that cannot be used, a budget that is too small, a disk
        with far too little room, or if another process makes the same mosaic.
    UnwritableDestination
        (an `OSError`) if the target cannot be written.
    """
    if format not in _FORMATS:
        raise InputError(f"format {format!r}: expected one of {', '.join(_FORMATS)}")
    target = Path(path)
    _check_target(target, format)
    check_disk(plan, target, copies=2 if format == "cog" else 1)
    jobs = jobs or _native.num_threads()
    how = [format, *([compress.lower(), overviews or format == "cog"] if format != "zarr" else [])]
    record = Record(target, f"{plan.digest} {how}", resume=resume)
    work: GeoTiffs | Store | None = None
    whole = False
    try:
        if format == "zarr":
            from geotessera.mosaic.stores import Store

            work = Store(plan, target, record)
        else:
            from geotessera.mosaic.geotiffs import GeoTiffs

            work = GeoTiffs(
                plan, target, record, cog=format == "cog", compress=compress, overviews=overviews
            )
        if memory is None:
            memory = resident() + DEFAULT_MEMORY
        run = _Run(plan, work, memory, jobs, progress, supply)
        report = run.make()
        whole = True
    finally:
        if work is not None:
            # What another plan left, and nothing to go on from, is no use to anybody.
            (work.discard if whole or not keep or not len(record) else work.close)()
        (record.discard if whole or not keep or not len(record) else record.close)()
    return report


def _check_target(target: Path, fmt: Format) -> None:
    if target.is_dir() and fmt != "zarr":
        raise InputError(f"{target} is a directory: name a file, such as {target / 'mosaic.tif'}")
    if fmt == "zarr" and target.exists() and not (target / "zarr.json").is_file():
        raise InputError(f"{target} is there and is no Zarr store: it is not replaced")


class _Run:
    """One call of `write_mosaic`."""

    def __init__(
        self,
        plan: MosaicPlan,
        work: GeoTiffs | Store,
        memory: int,
        jobs: int,
        progress: ProgressCallback | None,
        supply: Supply | None,
    ) -> None:
        self._plan = plan
        self._work = work
        self._progress = progress
        self._supply = supply
        self._failed: dict[str, Exception] = {}
        self._done = self._told = 0
        self._opener = Opener()
        self._coarse = reduction(plan) > SPARSE
        self._span, self._jobs = within(plan, work, memory, jobs)
        self._report = MosaicReport(blocks=work.rows * work.columns)

    def _tell(self, done: int | None, status: str = "") -> None:
        self._told = self._told if done is None else done
        if self._progress is not None:
            self._progress(self._told, self._work.tasks, status)

    def make(self) -> MosaicReport:
        """Make all that is not made, then the whole."""
        report, work = self._report, self._work
        with self._opener, ThreadPoolExecutor(self._jobs) as pool:
            try:
                work.check(pool, lambda done, total: self._tell(0, f"checking {done} of {total}"))
                self._blocks(pool)
                if self._failed:
                    raise IncompleteMosaicError(self._failed)
                report.paths = work.finish(pool, self._tell)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._tell(work.tasks)
        report.bytes = sum(_size(path) for path in report.paths)
        return report

    def _blocks(self, pool: ThreadPoolExecutor) -> None:
        """Make windows, each while the one before is compressed and written."""
        windows = list(self._windows())
        last = self._last_uses(windows)
        if self._supply is not None:
            order = (at for one in windows for at in self._plan.rasters_of(self._window(*one)))
            self._supply.start(list(dict.fromkeys(order)), lambda text: self._tell(None, text))
        buffers = [_Buffer(self._plan, self._work, self._span) for _ in range(2)]
        done = 0
        self._tell(self._done)
        for number, columns in enumerate(windows):
            buffer = buffers[number % 2]
            done += buffer.wait()
            self._tell(self._done + done)
            row, first, count = columns
            window = self._window(row, first, count)
            if self._render(window, buffer):
                buffer.submit(pool, row, first, count)
            if self._supply is not None and last.get(number):
                self._supply.release(last[number])
        for buffer in buffers:
            done += buffer.wait()
            self._tell(self._done + done)
        self._report.written = done

    def _windows(self) -> Iterator[tuple[int, int, int]]:
        """Yield row, first column and number of blocks of what is not there, row by row."""
        work, report = self._work, self._report
        for row in range(work.rows):
            run: list[int] = []
            for column in range(work.columns):
                wanted = not work.is_done(row, column)
                report.resumed += not wanted
                if wanted and not self._plan.rasters_of(self._window(row, column, 1)):
                    work.write_empty(row, column)
                    report.empty += 1
                    wanted = False
                self._done += not wanted
                if run and (not wanted or len(run) == self._span):
                    yield row, run[0], len(run)
                    run = []
                if wanted:
                    run.append(column)
            if run:
                yield row, run[0], len(run)

    def _window(self, row: int, column: int, count: int) -> Window:
        side, grid = self._work.side, self._plan.grid
        top, left = row * side, column * side
        return Window(top, left, min(side, grid.height - top), min(count * side, grid.width - left))

    def _last_uses(self, windows: Sequence[tuple[int, int, int]]) -> dict[int, list[int]]:
        """Return the rasters that are of no more use after each window."""
        if self._supply is None:
            return {}
        last: dict[int, int] = {}
        for number, columns in enumerate(windows):
            last |= dict.fromkeys(self._plan.rasters_of(self._window(*columns)), number)
        uses: dict[int, list[int]] = {}
        for raster, number in last.items():
            uses.setdefault(number, []).append(raster)
        return uses

    def _render(self, window: Window, buffer: _Buffer) -> bool:
        """Make a window; what fails is kept in mind, and does not stop the others."""
        rasters = self._plan.rasters_of(window)
        if self._supply is not None and (missing := self._supply.wait(rasters)):
            names = {self._plan.rasters[at].name: why for at, why in missing.items()}
            self._failed |= names
            return False
        try:
            values, scales = buffer.views(window)
            render(
                self._plan,
                window,
                out=values,
                scales=scales,
                layout=self._work.layout,
                opener=self._opener,
                mapped=False,
            )
            if self._coarse:
                self._opener.close()  # unmaps what was mapped
        except (InputError, UnwritableDestination):
            raise
        except (GeoTesseraError, OSError) as error:
            self._failed[f"rows {window.row}…, columns {window.col}…"] = error
            return False
        return True


class _Buffer:
    """The pixels of a window, from when they are made until they are written."""

    def __init__(self, plan: MosaicPlan, work: GeoTiffs | Store, span: int) -> None:
        import numpy as np

        self._work = work
        self._chw = work.layout == "chw"
        self._pending: list[Future[None]] = []
        pixels = work.side * work.side * span
        self._bands = plan.band_count
        self._scale_bands = self._bands if plan.scales_per_band else 0
        self._values: NDArray[Any] = np.empty(
            pixels * plan.band_count, np.int8 if plan.quantized else np.float32
        )
        self._scales: NDArray[np.float32] | None = None
        if plan.quantized:
            self._scales = np.empty(pixels * (self._scale_bands or 1), np.float32)
        self._window = Window(0, 0, 0, 0)

    def views(self, window: Window) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return arrays of a window's shape in the buffer."""
        self._window = window
        values = self._shaped(self._values, self._bands)
        return values, None if self._scales is None else self._shaped(
            self._scales, self._scale_bands
        )

    def _shaped(self, flat: NDArray[Any], bands: int) -> NDArray[Any]:
        size = self._window.height, self._window.width
        shape = size if not bands else (bands, *size) if self._chw else (*size, bands)
        count = size[0] * size[1] * (bands or 1)
        return flat[:count].reshape(shape)

    def submit(self, pool: ThreadPoolExecutor, row: int, first: int, count: int) -> None:
        """Have the blocks of the window written."""
        values, scales = self.views(self._window)
        for column in range(count):
            part = slice(column * self._work.side, (column + 1) * self._work.side)
            self._pending.append(
                pool.submit(
                    self._work.write,
                    row,
                    first + column,
                    self._cut(values, part),
                    None if scales is None else self._cut(scales, part),
                )
            )

    def _cut(self, pixels: NDArray[Any], columns: slice) -> NDArray[Any]:
        return pixels[..., columns] if pixels.ndim == 2 or self._chw else pixels[:, columns]

    def wait(self) -> int:
        """Return how many blocks are written, when all are."""
        pending, self._pending = self._pending, []
        for job in pending:
            job.result()
        return len(pending)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(_size(one) for one in path.rglob("*") if one.is_file())
    return path.stat().st_size
