"""A mosaic as GeoTIFFs: float32, or int8 values and their scales in a file beside them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.datasets import dataset_tags
from geotessera.export import SOURCE_BANDS_TAG
from geotessera.mosaic.record import work_path
from geotessera.remote.partfile import PartFile, writing_to
from geotessera.tiff import BLOCK, Codec, TiffFile, describe, row_major

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.record import Record
    from geotessera.tiff.fields import Field
    from geotessera.types import Layout

__all__ = ["DIGEST_TAG", "GeoTiffs", "scales_path", "tags_of"]

DIGEST_TAG = "GEOTESSERA_MOSAIC_DIGEST"
"""Tag with the digest of the plan that a mosaic was made from."""


def scales_path(path: Path) -> Path:
    """Return where the scales of a quantised mosaic are: ``X_scales.tif`` beside ``X.tif``."""
    return path.with_name(f"{path.stem}_scales{path.suffix}")


def tags_of(plan: MosaicPlan) -> dict[str, str]:
    """Return what a mosaic says of itself: dataset, year, bands, method and plan."""
    known = plan.provenance
    tags = dataset_tags(known.version, known.variant) if known.version and known.variant else {}
    if known.year is not None:
        tags["TESSERA_YEAR"] = str(known.year)
    return tags | {
        "TESSERA_DESCRIPTION": "GeoTessera satellite embedding mosaic",
        "TESSERA_TARGET_CRS": plan.grid.crs_name,
        "TESSERA_TILE_COUNT": str(len(plan.rasters)),
        "GEOTESSERA_VERSION": _native.__version__,
        SOURCE_BANDS_TAG: str(plan.rasters[0].band_count),
        "GEOTESSERA_RESAMPLING": plan.method,
        DIGEST_TAG: plan.digest,
        **dict(plan.tags),
    }


class GeoTiffs:
    """A mosaic on its way into one GeoTIFF, or into two: int8 values, and their scales.

    Parameters
    ----------
    plan : MosaicPlan
        What is made.
    target : Path
        The file; scales go beside it.
    record : Record
        What is finished.
    cog : bool
        Whether the files become cloud-optimised.
    compress : str
        One of `codecs.COMPRESSIONS`.
    overviews : bool
        Whether there are any; a COG has them always.

    Attributes
    ----------
    side : int
        Height and width of what is written at a time.
    layout : {"hwc"}
        Axis order of what is written.
    block_copies : int
        How often a thread that writes a block holds it: the four that an overview's is
        made of are decoded one after another.
    """

    side = BLOCK
    layout: Layout = "hwc"
    block_copies = 4

    def __init__(
        self,
        plan: MosaicPlan,
        target: Path,
        record: Record,
        *,
        cog: bool,
        compress: str,
        overviews: bool = True,
    ) -> None:
        self._plan = plan
        self._record = record
        self._cog = cog
        parts = [(target, plan.band_count, "float32", float("nan"))]
        if plan.quantized:
            bands = plan.band_count if plan.scales_per_band else 1
            parts = [
                (target, plan.band_count, "int8", 0.0),
                (scales_path(target), bands, "float32", float("inf")),
            ]
        self._files: list[TiffFile] = []
        for path, bands, dtype, fill in parts:
            codec = Codec.of(compress, np.dtype(dtype))
            shape = plan.grid.height, plan.grid.width, bands
            self._files.append(
                TiffFile(
                    len(self._files), path, work_path(path, ".tif"), shape, dtype, fill, codec,
                    record, overviews=overviews or cog,
                )
            )  # fmt: skip
        image = self._files[0].images[0]
        self.rows, self.columns = image.rows, image.columns
        self.tasks = sum(one.rows * one.columns for one in self._files[0].images)

    @property
    def paths(self) -> list[Path]:
        """The final names."""
        return [file.target for file in self._files]

    def check(self, pool: Executor, progress: Callable[[int, int], object]) -> None:
        """Forget recorded blocks that are not in the files any more."""
        items = self._record.items()
        jobs = [pool.submit(self._files[place[0]].is_whole, entry) for place, entry in items]
        for number, ((place, _), job) in enumerate(zip(items, jobs, strict=True)):
            if not job.result():
                self._forget(place)
            progress(number + 1, len(items))
        for file in self._files:
            file.continue_after()

    def _forget(self, place: tuple[int, int, int, int]) -> None:
        """Forget a block, and the blocks of overviews that were made of it."""
        number, level, row, column = place
        while level < len(self._files[number].images):
            self._record.forget((number, level, row, column))
            level, row, column = level + 1, row // 2, column // 2

    def is_done(self, row: int, column: int) -> bool:
        """Return whether a block of the raster itself is finished."""
        return all((file.number, 0, row, column) in self._record for file in self._files)

    def write(
        self, row: int, column: int, values: NDArray[Any], scales: NDArray[Any] | None
    ) -> None:
        """Write a block; at the right and lower edge it may be smaller than `side`."""
        for file, part in zip(self._files, (values, scales), strict=False):
            assert part is not None  # a quantised plan has two files, and both parts
            block = part[..., np.newaxis] if part.ndim == 2 else part
            file.write(0, row, column, file.pad(block))

    def write_empty(self, row: int, column: int) -> None:
        """Record a block that no raster touches."""
        for file in self._files:
            self._record.add((file.number, 0, row, column), (0, 0, 0))

    def finish(self, pool: Executor, progress: Callable[[int], object]) -> list[Path]:
        """Make overviews and directories, and give the files their names."""
        done = self.rows * self.columns
        for level, image in enumerate(self._files[0].images[1:], 1):
            jobs = []
            for row, column in row_major(image):
                wanted = [
                    file for file in self._files
                    if (file.number, level, row, column) not in self._record
                ]  # fmt: skip
                jobs.append([pool.submit(file.halve, level, row, column) for file in wanted])
            for block in jobs:
                for job in block:
                    job.result()
                done += 1
                progress(done)
        made = []
        try:
            for file in reversed(self._files):
                base = self._describe(file)
                if self._cog:
                    part = PartFile(file.target, suffix=".tif")
                    made.append(part)
                    file.assemble(part.path, base, pool)
                else:
                    file.finish(base)
            self._commit(made)
        finally:
            for part in made:
                if part.path.exists():
                    part.discard()
        return self.paths

    def _commit(self, made: list[PartFile]) -> None:
        """Rename all files, the values last: nobody takes old scales for theirs."""
        if len(self._files) > 1:
            with writing_to(self.paths[0]):
                self.paths[0].unlink(missing_ok=True)
        for part in made:
            part.commit()
        for file in reversed(self._files):
            file.close()
            with writing_to(file.target):
                if self._cog:
                    file.path.unlink()
                else:
                    file.path.replace(file.target)

    def _describe(self, file: TiffFile) -> dict[int, Field]:
        plan, tags = self._plan, tags_of(self._plan)
        names: Sequence[str | None] = plan.band_names or (None,) * plan.band_count
        nodata: float | None = file.fill
        if plan.quantized:
            other = self._files[1 - file.number].target.name
            tags |= {"GEOTESSERA_VALUES" if file.number else "GEOTESSERA_SCALES": other}
            if file.number:
                names = tuple(f"Scale_of_{name}" for name in names)
                names = names if plan.scales_per_band else ("Scale",)
            else:
                nodata = None  # 0 is a value like any other; the scale tells
        return describe(plan.grid, file.bands, file.dtype.name, nodata, tags, names)

    def close(self) -> None:
        """Let go of the unfinished files; they stay for the next run."""
        for file in self._files:
            with suppress(OSError):
                file.close()

    def discard(self) -> None:
        """Delete the unfinished files."""
        self.close()
        for file in self._files:
            with suppress(OSError):
                file.path.unlink(missing_ok=True)
