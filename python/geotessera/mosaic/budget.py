"""How much of a mosaic is in memory at a time, so that a budget is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.mosaic.execute import SPARSE

if TYPE_CHECKING:
    from geotessera.mosaic.geotiffs import GeoTiffs
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.stores import Store

__all__ = ["WINDOW_BYTES", "reduction", "resident", "within"]

_SLACK = 96 << 20
"""Of the budget, for what libraries hold: GDAL's cache, directories, Python's own."""

WINDOW_BYTES = 96 << 20
"""Windows larger than this are made no faster."""


def within(plan: MosaicPlan, work: GeoTiffs | Store, memory: int, jobs: int) -> tuple[int, int]:
    """Return how many blocks a window has, and how many threads write, to keep the budget.

    Raises
    ------
    InputError
        (a `ValueError`) if it is too small for one block and one thread.
    """
    area = min(work.side, plan.grid.height) * min(work.side, plan.grid.width)
    out = plan.pixel_bytes
    each = area * (2 * out + _source_bytes(plan))
    used = resident() + _SLACK
    for threads in range(jobs, 0, -1):
        needs = used + threads * work.block_copies * area * out
        span = (memory - needs) // each
        if span >= 1:
            widest = max(1, WINDOW_BYTES // (area * out))
            return int(min(span, widest, work.columns)), threads
    # In the units of the option, and a little more: what it needs grows with what is loaded.
    enough = (-(-(needs + each) // 10**7) + 1) * 10
    raise InputError(
        f"memory: {memory / 1e6:,.4g} MB is too little for this mosaic, which needs {enough:,} MB"
    )


def reduction(plan: MosaicPlan) -> float:
    """Return how many pixels of a raster there are to a pixel of the mosaic, at least 1."""
    ratios = (
        raster.grid.height * raster.grid.width / max(reach.height * reach.width, 1)
        for raster, reach in zip(plan.rasters, plan.reaches, strict=True)
    )
    return max(1.0, min(ratios))  # what the mosaic's edge cuts seems to be reduced more


def _source_bytes(plan: MosaicPlan) -> int:
    """Return how many bytes of rasters come into memory for a pixel of the mosaic."""
    ratio = reduction(plan)
    raster = plan.rasters[0]
    size = raster.band_count * (1 if raster.quantized else 4) + 4
    # Windows are read whole, or mapped: the rows that are touched, as pages come in runs.
    return int(size * (ratio if ratio <= SPARSE else ratio**0.5))


def resident() -> int:
    """Return what the process has in memory now, in bytes."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")
    return 256 << 20
