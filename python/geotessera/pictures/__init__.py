"""Pictures of embeddings: principal components as colours, in any CRS, block by block."""

from geotessera.pictures.inputs import LAYOUTS, PictureInput, rasters_below, rasters_of
from geotessera.pictures.make import Look, PictureReport, check_model, make_picture

__all__ = [
    "LAYOUTS",
    "Look",
    "PictureInput",
    "PictureReport",
    "check_model",
    "make_picture",
    "rasters_below",
    "rasters_of",
]
