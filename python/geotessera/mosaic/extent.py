"""How large a mosaic may be: what no disk has room for, and what would be nearly empty."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.sizes import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.types import GridSpec, Window

__all__ = ["check_disk", "check_filled", "check_room", "is_nearly_empty"]

logger = logging.getLogger(__name__)

_SMALLEST = 200
"""Pixels that a byte has room for at most: those of blocks without a visible pixel."""

_SMALL = 2**30
"""Pixels of a mosaic that is made in minutes, however empty it is."""

_SHRUNK = 8
"""Bytes of embeddings that never shrink to one: int8 values do by a third, and float32 ones are
four times as large and made of them."""

_EMPTIEST = 100
"""Pixels to one that a raster may give: scattered field sites have fewer."""


def check_room(grid: GridSpec, output: Path) -> None:
    """Refuse a picture that no compression makes small enough, before hours of work.

    Raises
    ------
    InputError
        (a `ValueError`) if the disk has too little room.
    """
    place, free = _free(output)
    if grid.height * grid.width > _SMALLEST * max(free, 2**20):
        raise InputError(
            f"a picture of {_size(grid)} pixels has no room in {place}, where "
            f"{format_bytes(free)} are free: its resolution of {grid.transform[0]:g} is in units "
            "of the CRS, choose a larger one"
        )


def check_disk(plan: MosaicPlan, target: Path, copies: int = 1) -> None:
    """Refuse a mosaic that no disk this full can take, before hours of work.

    One that fits only if it shrinks is made, with a warning: how much it shrinks is not known,
    and a run that a full disk stopped is gone on with.

    Parameters
    ----------
    plan : MosaicPlan
        What is to be made.
    target : Path
        Where to. What an earlier run left beside it is room, too: it is gone on with.
    copies : int
        How often the mosaic is on the disk while it is made.

    Raises
    ------
    InputError
        (a `ValueError`) if its pixels are more than `_SHRUNK` times as large as the room.
    """
    place, free = _free(target)
    room = free + _left_beside(target)
    needs = plan.filled_bytes * copies
    if needs <= room:
        return
    twice = " (twice while a COG is finished)" if copies > 1 else ""
    text = (
        f"the tiles fill {format_bytes(plan.filled_bytes)} of the mosaic before compression"
        f"{twice}, and in {place} there is room for {format_bytes(room)}"
    )
    if needs > _SHRUNK * room:
        raise InputError(
            f"{text}: make it quantised, coarser, of fewer bands, of a smaller region or elsewhere"
        )
    logger.warning("%s: it may not fit", text)


def _free(target: Path) -> tuple[Path, int]:
    """Return the directory that a file will be in, or above it, and the bytes free there."""
    place = next(one for one in target.absolute().parents if one.exists())
    return place, shutil.disk_usage(place).free


def _left_beside(target: Path) -> int:
    """Return the bytes on disk of what an earlier run left."""
    from geotessera.mosaic.record import work_path

    left = [work_path(target, suffix) for suffix in ("", ".tif")]
    files = [file for one in left for file in ([one] if one.is_file() else one.rglob("*"))]
    return sum(getattr(file.stat(), "st_blocks", 0) * 512 for file in files)


def is_nearly_empty(pixels: int, filled: float) -> bool:
    """Return whether a mosaic is large, and nearly none of its pixels is filled."""
    return pixels > _SMALL and pixels > _EMPTIEST * filled


def check_filled(grid: GridSpec, reaches: Iterable[Window | None]) -> None:
    """Refuse a mosaic round rasters that lie so far apart that nearly all of it is empty.

    Parameters
    ----------
    grid : GridSpec
        What encloses them.
    reaches : iterable of Window or None
        Which pixels each of them may give.

    Raises
    ------
    InputError
        (a `ValueError`) if there are far more pixels than that.
    """
    pixels = grid.height * grid.width
    areas = [reach.height * reach.width for reach in reaches if reach is not None]
    filled = sum(areas)
    if is_nearly_empty(pixels, filled):
        raise InputError(
            f"{len(areas)} rasters lie far apart: what encloses them has {_size(grid)} pixels of "
            f"{grid.transform[0]:g} × {-grid.transform[4]:g} in {grid.crs_name[:80]}, of which "
            f"they fill one in {pixels // max(filled, 1):,}: make a mosaic of each place by itself"
        )


def _size(grid: GridSpec) -> str:
    return f"{grid.width:,} × {grid.height:,}"
