"""Rasters that are on the mosaic's grid but for a fraction of a pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from geotessera.mosaic.reach import shares_axes

if TYPE_CHECKING:
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.types import GridSpec

__all__ = ["on_whole_pixels"]

_SAME_SIZE = 1e-9
"""Relative difference of pixel sizes that are the same: 1 mm over 100,000 pixels of 10 m."""


def on_whole_pixels(plan: MosaicPlan) -> MosaicPlan:
    """Return a plan whose rasters are moved by up to half a pixel onto its grid, if they fit.

    A raster fits if its CRS and the size of its pixels are the grid's. A bilinear mosaic then
    copies its pixels as they are, instead of blending each with its neighbours for a shift
    that is less than a pixel. Other rasters stay where they are.
    """
    rasters = tuple(replace(raster, grid=_moved(raster.grid, plan.grid)) for raster in plan.rasters)
    return replace(plan, rasters=rasters)


def _moved(raster: GridSpec, grid: GridSpec) -> GridSpec:
    a, b, left, d, e, top = raster.transform
    across, _, first_left, _, down, first_top = grid.transform
    alike = abs(a - across) <= _SAME_SIZE * across and abs(e - down) <= _SAME_SIZE * -down
    if b or d or not alike or not shares_axes(grid, raster):
        return raster
    col, row = round((left - first_left) / across), round((top - first_top) / down)
    transform = (across, 0.0, first_left + col * across, 0.0, down, first_top + row * down)
    return replace(raster, transform=transform)
