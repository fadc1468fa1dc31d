"""Mosaics: many rasters on one grid, planned first, made afterwards."""

from geotessera.mosaic.grids import crs_code, grid_around, grid_like, grid_of_bounds, project_bbox
from geotessera.mosaic.plan import MosaicPlan
from geotessera.mosaic.rasters import MosaicRaster

__all__ = [
    "MosaicPlan",
    "MosaicRaster",
    "crs_code",
    "grid_around",
    "grid_like",
    "grid_of_bounds",
    "project_bbox",
]
