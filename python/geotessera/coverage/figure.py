"""A map as a picture: extent, countries, outline, legend and title round pixels that are given.

matplotlib's objects are used without `pyplot`, which keeps figures and a backend for the whole
process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.coverage.raster import View
from geotessera.coverage.region import region_lines, visible_parts, without_seams
from geotessera.coverage.texture import write_picture
from geotessera.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.regions import Region

__all__ = ["Frame", "MapStyle", "checked_color", "frame_for", "save_map"]

NARROWEST, WIDEST = 200, 20_000
"""Pixels of a map's width: less has no room for words, more none in memory."""

_INCHES = 20.0
"""Width of all figures: words grow with the number of pixels, and the layout is one."""

# Inches left, right, below and above of the map itself.
_MARGINS = (0.75, 0.25, 0.85, 0.55)

_PADDING = 0.05  # of the region's sides
_LEAST_PADDING = 0.1  # degrees: one tile
_FLATTEST, _STEEPEST = 0.25, 1.6  # height by width

_WORLD = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where things are in a picture, in pixels from its top left.

    Parameters
    ----------
    view : View
        The map: its extent and its own pixels.
    width, height : int
        Of the picture.
    left, top : int
        Of the map.
    """

    view: View
    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True)
class MapStyle:
    """What a map says and shows besides its tiles.

    Parameters
    ----------
    title : str
        Above the map.
    note : str
        Below it: what was counted.
    legend : list of (str, colour)
        Words and colours.
    alpha : float
        Opacity of tiles.
    show_countries : bool
        Draw the borders of countries.
    region : Region, optional
        Its outline is drawn.
    """

    title: str
    note: str = ""
    legend: list[tuple[str, Any]] = field(default_factory=list)
    alpha: float = 0.6
    show_countries: bool = True
    region: Region | None = None


def checked_color(color: Any) -> tuple[float, float, float]:
    """Return a colour that matplotlib knows as red, green, blue in 0..1, or raise `InputError`."""
    from matplotlib.colors import to_rgb

    try:
        return to_rgb(color)
    except ValueError as error:
        raise InputError(f"{color!r} is no colour: give a name or #rrggbb") from error


def frame_for(width: int, region: Region | None) -> Frame:
    """Return the layout of a map of the globe, or of a region and a little around it.

    Parameters
    ----------
    width : int
        Pixels of the whole picture; its height follows from the extent.
    region : Region, optional
        What is shown.

    Raises
    ------
    InputError
        (a `ValueError`) for a width that no map can have.
    """
    if isinstance(width, bool) or int(width) != width or not NARROWEST <= width <= WIDEST:
        raise InputError(f"a map is {NARROWEST} to {WIDEST} pixels wide; found {width!r}")
    width = int(width)
    left, right, below, above = (round(inch * width / _INCHES) for inch in _MARGINS)
    west, south, east, north = _WORLD if region is None else _extent_of(region)
    across = width - left - right
    along = max(round(across * (north - south) / (east - west)), 1)
    view = View(west, south, east, north, across, along)
    return Frame(view, width, along + below + above, left, above)


def _extent_of(region: Region) -> tuple[float, float, float, float]:
    west, south, east, north = region.bbox
    east += 360 if west > east else 0
    pad = max(_PADDING * (east - west), _LEAST_PADDING)
    west, east = west - pad, east + pad
    pad = max(_PADDING * (north - south), _LEAST_PADDING)
    south, north = max(south - pad, -90.0), min(north + pad, 90.0)
    # Strips are shown with what is on both sides of them.
    wide, high = east - west, north - south
    more = max(high / _STEEPEST - wide, 0) / 2
    west, east = west - more, east + more
    more = max(wide * _FLATTEST - high, 0) / 2
    south, north = max(south - more, -90.0), min(north + more, 90.0)
    if east - west >= 360:
        west, east = _WORLD[0], _WORLD[2]
    return west, south, east, north


def save_map(
    path: str | os.PathLike[str],
    frame: Frame,
    layers: Sequence[NDArray[np.uint8]],
    style: MapStyle,
) -> None:
    """Write a map as PNG, or as JPEG where the path ends so.

    Parameters
    ----------
    path : path
        Where to; appears whole or not at all.
    frame : Frame
        The layout.
    layers : sequence of ndarray of uint8, shape (height, width, 4)
        RGBA of the frame's view, one over the other.
    style : MapStyle
        The rest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    view, dpi = frame.view, frame.width / _INCHES
    # A hundredth of a pixel more, for the renderer truncates.
    figure = Figure(((frame.width + 0.01) / dpi, (frame.height + 0.01) / dpi), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    bottom = frame.height - frame.top - view.height
    axes = figure.add_axes(
        (
            frame.left / (frame.width + 0.01), bottom / (frame.height + 0.01),
            view.width / (frame.width + 0.01), view.height / (frame.height + 0.01),
        )
    )  # fmt: skip
    axes.set_xlim(view.west, view.east)
    axes.set_ylim(view.south, view.north)
    axes.set_aspect("auto")
    if style.show_countries:
        _draw_countries(axes, view)
    for order, layer in enumerate(layers):
        axes.imshow(
            layer,
            extent=(view.west, view.east, view.south, view.north),
            interpolation="nearest",
            aspect="auto",
            zorder=2 + order / 100,
        )
    if style.region is not None:
        _draw_lines(axes, region_lines(style.region), view, color="black", linewidth=1.5, zorder=4)
    _label(axes, style)
    if style.legend:
        patches = [
            Patch(facecolor=(*checked_color(color), style.alpha), edgecolor="grey", label=label)
            for label, color in style.legend
        ]
        axes.legend(handles=patches, loc="lower left", framealpha=0.9).set_zorder(5)
    drawn: Any = canvas  # matplotlib does not type these two
    drawn.draw()
    write_picture(np.asarray(drawn.buffer_rgba()), path)


def _label(axes: Any, style: MapStyle) -> None:
    axes.set_title(style.title, fontsize=16, fontweight="bold")
    axes.xaxis.set_major_formatter(lambda x, _: _degrees((x + 180) % 360 - 180, "EW"))
    axes.yaxis.set_major_formatter(lambda y, _: _degrees(y, "NS"))
    axes.grid(visible=True, alpha=0.3, linestyle="--", zorder=3)
    # An annotation's offset is in points, so it is below the labels at any height.
    axes.annotate(
        style.note, (0, 0), (0, -28), xycoords="axes fraction", textcoords="offset points",
        va="top", fontsize=11,
    )  # fmt: skip


def _degrees(value: float, sides: str) -> str:
    if abs(value) == 180:
        return "180°"
    text = f"{abs(round(value, 6)):g}°"
    return text if text == "0°" else text + sides[int(value < 0)]


# --- Countries ---------------------------------------------------------------------------


@functools.cache
def _country_rings() -> list[NDArray[np.float64]]:
    from geotessera.country import get_country_lookup

    return [
        np.array(ring)
        for outline in get_country_lookup().outlines()
        for polygon in outline["coordinates"]
        for ring in polygon
    ]


def _draw_countries(axes: Any, view: View) -> None:
    from matplotlib.collections import PolyCollection

    rings = visible_parts(_country_rings(), *view.extent)
    # Holes are other countries, which are drawn too.
    land = PolyCollection(rings, facecolors="#f3f3f0", edgecolors="none", zorder=1)
    axes.add_collection(land, autolim=False)
    borders = [piece for ring in _country_rings() for piece in without_seams(ring)]
    _draw_lines(axes, borders, view, color="#808080", linewidth=0.5, zorder=3)


def _draw_lines(axes: Any, lines: Sequence[NDArray[np.float64]], view: View, **style: Any) -> None:
    from matplotlib.collections import LineCollection

    seen = visible_parts(lines, *view.extent)
    points = [line for line in seen if len(line) == 1]
    axes.add_collection(
        LineCollection([line for line in seen if len(line) > 1], **style), autolim=False
    )
    if points:
        x, y = np.concatenate(points).T
        axes.plot(x, y, "x", color=style["color"], zorder=style["zorder"])
