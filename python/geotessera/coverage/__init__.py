"""Which places have embeddings: maps, textures and lists, drawn from the registry as a raster."""

from geotessera.coverage.files import DatasetFiles, write_coverage_files, write_index
from geotessera.coverage.globe import write_coverage_globe
from geotessera.coverage.grid import Coverage
from geotessera.coverage.maps import draw_coverage, draw_sources
from geotessera.coverage.texture import coverage_texture, write_texture

__all__ = [
    "Coverage",
    "DatasetFiles",
    "coverage_texture",
    "draw_coverage",
    "draw_sources",
    "write_coverage_files",
    "write_coverage_globe",
    "write_index",
    "write_texture",
]
