"""How the kernel finds the pixels of a mosaic in a raster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from geotessera.mosaic.grids import period_of
from geotessera.mosaic.lattices import SQUARE, lattice_of
from geotessera.mosaic.reach import shares_axes
from geotessera.sampling import has_exact_projection

if TYPE_CHECKING:
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.types import Lattice, MosaicSource, Window

__all__ = ["lonlat", "needs_lattices", "position"]


def needs_lattices(plan: MosaicPlan) -> bool:
    """Return whether the kernel has to be told places that it cannot compute."""
    if not plan.exact or not has_exact_projection(plan.grid.epsg):
        return True
    return any(_kind(plan, raster) == "lattice" for raster in plan.rasters)


def _kind(plan: MosaicPlan, raster: MosaicRaster) -> Literal["same", "epsg", "lattice"]:
    if shares_axes(plan.grid, raster.grid):
        return "same"
    code = raster.grid.epsg
    exact = plan.exact and has_exact_projection(code) and has_exact_projection(plan.grid.epsg)
    # A CRS that goes round the globe is left to the kernel, which knows how far round is.
    return "epsg" if exact or code in (4326, 3857) else "lattice"


def position(
    plan: MosaicPlan, raster: MosaicRaster, part: Window
) -> Literal["same"] | int | Lattice:
    """Return how pixels of a part find their place in a raster: `MosaicSource.position`.

    A part of a plan that needs lattices lies in one square of them.
    """
    kind, code = _kind(plan, raster), raster.grid.epsg_or_wkt
    if kind == "same":
        return "same"
    if kind == "epsg" and isinstance(code, int):
        return code
    a, _, _, _, e, _ = raster.grid.transform
    lattice = lattice_of(plan.grid, *_square(part), code, (a, -e))
    period = period_of(code)
    known = lattice.nodes[np.isfinite(lattice.nodes[..., 0]), 0]
    if period is None or not len(known):
        return lattice
    left, _, right, _ = raster.grid.bounds
    turns = np.floor((known.mean() - (left + right) / 2) / period + 0.5) * period
    return lattice._replace(nodes=lattice.nodes - [turns, 0.0]) if turns else lattice


def _square(part: Window) -> tuple[int, int]:
    return part.row // SQUARE * SQUARE, part.col // SQUARE * SQUARE


def lonlat(plan: MosaicPlan, part: Window, sources: list[MosaicSource]) -> Lattice | None:
    """Return the lattice of longitude and latitude, if a source asks for them."""
    epsgs = {source.position for source in sources if isinstance(source.position, int)}
    if not epsgs and all(source.cell is None for source in sources):
        return None
    sizes = [_degrees(raster) for raster in plan.rasters if raster.grid.epsg in (4326, 3857)]
    pixel = None if not sizes else (min(size[0] for size in sizes), min(size[1] for size in sizes))
    return lattice_of(plan.grid, *_square(part), 4326, pixel)


def _degrees(raster: MosaicRaster) -> tuple[float, float]:
    a, _, _, _, e, _ = raster.grid.transform
    if raster.grid.epsg == 4326:
        return a, -e
    # The latitudes of a Mercator pixel shrink towards the poles.
    metres = 20037508.34
    top = max(abs(raster.grid.bounds[1]), abs(raster.grid.bounds[3]))
    return a / metres * 180, -e / metres * 180 / float(np.cosh(top / 6378137.0))
