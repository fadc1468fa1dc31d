"""Web maps: a picture cut into Web Mercator tiles, and the page that shows them."""

from geotessera.webmap.build import BuildReport, build_tiles
from geotessera.webmap.note import read_scheme
from geotessera.webmap.picture import Picture
from geotessera.webmap.zooms import MAX_ZOOM, check_zooms

__all__ = [
    "MAX_ZOOM",
    "BuildReport",
    "Picture",
    "build_tiles",
    "check_zooms",
    "read_scheme",
]
