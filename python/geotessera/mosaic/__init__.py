"""Mosaics: many rasters on one grid, planned first, made afterwards."""

from geotessera.mosaic.build import plan_files, plan_like, plan_region, region_grid
from geotessera.mosaic.execute import render
from geotessera.mosaic.grids import crs_code, grid_around, grid_of_bounds, project_bbox
from geotessera.mosaic.like import grid_like
from geotessera.mosaic.opener import Opener
from geotessera.mosaic.plan import BLOCK, MosaicPlan
from geotessera.mosaic.rasters import MosaicRaster

__all__ = [
    "BLOCK",
    "MosaicPlan",
    "MosaicRaster",
    "Opener",
    "crs_code",
    "grid_around",
    "grid_like",
    "grid_of_bounds",
    "plan_files",
    "plan_like",
    "plan_region",
    "project_bbox",
    "region_grid",
    "render",
]
