"""How large a mosaic may be: what no disk has room for, and what would be nearly empty."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.sizes import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geotessera.types import GridSpec, Window

__all__ = ["check_filled", "check_room"]

_SMALLEST = 200
"""Pixels that a byte has room for at most: those of blocks without a visible pixel."""

_SMALL = 2**30
"""Pixels of a mosaic that is made in minutes, however empty it is."""

_EMPTIEST = 100
"""Pixels to one that a raster may give: scattered field sites have fewer."""


def check_room(grid: GridSpec, output: Path) -> None:
    """Refuse a picture that no compression makes small enough, before hours of work.

    Raises
    ------
    InputError
        (a `ValueError`) if the disk has too little room.
    """
    place = next(one for one in output.absolute().parents if one.exists())
    free = shutil.disk_usage(place).free
    if grid.height * grid.width > _SMALLEST * max(free, 2**20):
        raise InputError(
            f"a picture of {_size(grid)} pixels has no room in {place}, where "
            f"{format_bytes(free)} are free: its resolution of {grid.transform[0]:g} is in units "
            "of the CRS, choose a larger one"
        )


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
    if pixels <= _SMALL:
        return
    areas = [reach.height * reach.width for reach in reaches if reach is not None]
    filled = sum(areas)
    if pixels > _EMPTIEST * filled:
        raise InputError(
            f"{len(areas)} rasters lie far apart: what encloses them has {_size(grid)} pixels of "
            f"{grid.transform[0]:g} × {-grid.transform[4]:g} in {grid.crs_name[:80]}, of which "
            f"they fill one in {pixels // max(filled, 1):,}: make a mosaic of each place by itself"
        )


def _size(grid: GridSpec) -> str:
    return f"{grid.width:,} × {grid.height:,}"
