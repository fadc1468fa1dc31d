"""Drawing: scores become levels, window by window, while the one before is written."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.export import SOURCE_BANDS_TAG
from geotessera.mosaic.execute import render
from geotessera.mosaic.geotiffs import tags_of
from geotessera.mosaic.opener import Opener
from geotessera.pictures.geotiff import BLOCK, PictureFile
from geotessera.pictures.png import png_files, write_png
from geotessera.remote.partfile import atomic_path, check_target, workplace
from geotessera.sources.geotiff_check import written_whole
from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from geotessera.pictures.make import PictureReport
    from geotessera.types import GridSpec, ProgressCallback

__all__ = ["check_places", "write_picture"]

_WIDEST = 8192
"""Columns that are made at a time: 50 MB of scores."""


def write_picture(
    report: PictureReport, output: Path, *, png: bool, progress: ProgressCallback
) -> list[Path]:
    """Write a picture as its plan and model say, and return its files.

    Parameters
    ----------
    report : PictureReport
        The plan and the model.
    output : Path
        A GeoTIFF, or a PNG if its name ends in ``.png``.
    png : bool
        Whether a PNG is written beside a GeoTIFF.
    progress : callable
        Called with (windows done, windows in all, status text).
    """
    if output.suffix.lower() != ".png":
        _draw(report, output, progress)
        return [output, *(write_png(output, output.with_suffix(".png")) if png else [])]
    with workplace(output) as directory:  # the GeoTIFF that it is made of is not kept
        picture = directory / "picture.tif"
        _draw(report, picture, progress)
        return write_png(picture, output)


def check_places(output: Path, *, png: bool) -> None:
    """Raise `UnwritableDestination` if one of the files of `write_picture` cannot be made."""
    check_target(output)
    is_png = output.suffix.lower() == ".png"
    if png or is_png:
        for path in png_files(output if is_png else output.with_suffix(".png")):
            check_target(path)


def _draw(report: PictureReport, output: Path, progress: ProgressCallback) -> None:
    plan, stretch = report.plan, report.model.stretch
    assert stretch is not None  # fitted before
    stretch = replace(stretch, thresholds=stretch.thresholds[: plan.band_count])
    windows = list(_windows(plan.grid))
    names = plan.band_names or ()
    pending: Future[None] | None = None
    with (
        atomic_path(output, suffix=".tif") as temporary,
        written_whole(temporary, output),
        PictureFile(temporary, plan.grid, plan.band_count, _tags(report), names) as file,
        Opener() as opener,
        ThreadPoolExecutor(1, thread_name_prefix="geotessera-picture") as pool,
    ):
        for done, window in enumerate(windows):
            progress(done, len(windows) + 1, f"drawing {done + 1} of {len(windows)}")
            scores: Any = render(plan, window, opener=opener, mapped=False).values
            levels = stretch.apply(scores)
            shown = np.isfinite(scores[..., 0])  # a pixel has all of them, or none
            if pending is not None:
                pending.result()
            # Compressed and written while the next window is made.
            pending = pool.submit(file.write, window, levels, shown)
        if pending is not None:
            pending.result()
        progress(len(windows), len(windows) + 1, "overviews")
        file.finish()


def _windows(grid: GridSpec) -> Iterator[Window]:
    """Yield windows of whole blocks of the file."""
    for row in range(0, grid.height, BLOCK):
        for col in range(0, grid.width, _WIDEST):
            yield Window(row, col, min(BLOCK, grid.height - row), min(_WIDEST, grid.width - col))


def _tags(report: PictureReport) -> dict[str, str]:
    plan, model = report.plan, report.model
    explained = model.explained_variance_ratio.tolist()
    assert model.stretch is not None
    return tags_of(plan) | {
        "TESSERA_DESCRIPTION": "GeoTessera principal components of satellite embeddings",
        SOURCE_BANDS_TAG: str(model.band_count),
        "PCA_COMPONENTS": str(len(explained)),
        "PCA_EXPLAINED_VARIANCE": json.dumps(explained),
        "PCA_TOTAL_VARIANCE": f"{sum(explained):.7g}",
        "PCA_BALANCE_METHOD": model.stretch.method,
        "PCA_STANDARDIZED": str(model.standardized),
        "PCA_PIXELS": str(model.pixels),
        "TIFFTAG_IMAGEDESCRIPTION": f"Principal components 1 to {plan.band_count} as colours",
    }
