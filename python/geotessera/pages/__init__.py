"""Two pages for a browser: a viewer of web-map tiles and a globe of coverage.

Each is one HTML file that holds everything it needs (MapLibre GL JS, outlines of countries,
data), opens from a disk or from any server, and asks no other machine for anything.
"""

from geotessera.pages.globe import GlobeDataset, write_globe
from geotessera.pages.viewer import Basemap, write_viewer

__all__ = ["Basemap", "GlobeDataset", "write_globe", "write_viewer"]
