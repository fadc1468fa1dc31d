"""Embeddings at points: grouped by tile, each tile's pixels gathered once."""

from geotessera.sampling.grouping import PointGroups, group_points
from geotessera.sampling.source import (
    check_method,
    has_exact_projection,
    needed_pixels,
    sample_source,
)
from geotessera.sampling.tiles import Sampled, sample_tiles

__all__ = [
    "PointGroups",
    "Sampled",
    "check_method",
    "group_points",
    "has_exact_projection",
    "needed_pixels",
    "sample_source",
    "sample_tiles",
]
