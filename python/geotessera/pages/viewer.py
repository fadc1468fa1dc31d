"""The viewer of web-map tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import InputError
from geotessera.pages.assemble import write_page
from geotessera.pages.outlines import packed_countries

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Basemap", "write_viewer"]

_COMMAND = "geotessera download --tile={lon},{lat} -o {name}"
_MAX_ZOOM = 24


class Basemap(NamedTuple):
    """Online tiles below the mosaic.

    Parameters
    ----------
    url : str
        XYZ template with ``{z}``, ``{x}`` and ``{y}``, 256-pixel tiles.
    attribution : str
        Whom to name on the map; plain text.
    """

    url: str
    attribution: str = ""


def _checked_bounds(bounds: Sequence[float]) -> list[float]:
    west, south, east, north = (float(degrees) for degrees in bounds)
    east += 360 if east < west else 0
    whole = -180 <= west < east <= west + 360 and -90 <= south < north <= 90
    if not (all(map(math.isfinite, (west, south, east, north))) and whole):
        raise InputError(f"bounds {tuple(bounds)} are no box (west, south, east, north) in degrees")
    return [west, south, east, north]


def write_viewer(
    output_html: str | os.PathLike[str],
    *,
    tiles: str,
    bounds: Sequence[float],
    zooms: tuple[int, int],
    title: str,
    scheme: str = "xyz",
    initial_zoom: float | None = None,
    center: tuple[float, float] | None = None,
    region: Mapping[str, Any] | None = None,
    packs: str | None = None,
    listing: Sequence[Sequence[int]] | None = None,
    legend: Iterable[tuple[tuple[int, int, int], str]] = (),
    meta: Mapping[str, object] | None = None,
    basemap: Basemap | str | None = None,
    command: str = _COMMAND,
) -> Path:
    """Write the page that shows tiles of a mosaic over an offline base map.

    One file; the tiles stay beside it. From a server it fetches the PNG tiles, from a disk,
    where browsers refuse that, it loads the packs. A tile that is not there is empty.

    Parameters
    ----------
    output_html : path
        The page.
    tiles : str
        URL template of 256-pixel PNG tiles in Web Mercator, relative to the page:
        ``tiles/{z}/{x}/{y}.png``; empty for a map of outlines alone.
    bounds : sequence of float
        (west, south, east, north) of the mosaic in WGS84 degrees; west > east crosses the
        antimeridian. No tile outside is asked for.
    zooms : tuple of int
        Smallest and largest zoom of the tiles.
    title : str
        Plain text.
    scheme : {"xyz", "tms"}
        Whether row 0 of `tiles` is the northernmost or the southernmost.
    initial_zoom : float, optional
        Where the map starts, in zooms of 256-pixel tiles; by default the whole mosaic.
    center : tuple of float, optional
        (longitude, latitude) at the start; by default the mosaic's.
    region : mapping, optional
        GeoJSON object in WGS84 whose outline is drawn.
    packs : str, optional
        URL template of the packs, with ``{z}``, ``{x8}`` and ``{y8}`` (x // 8, y // 8, rows from
        the north): scripts that call ``geotesseraTiles({"z/x/y": "<base64 PNG>", …})``.
    listing : sequence of sequence of int, optional
        The tiles that there are, rows from the north: ``[zoom, row, first column, column after
        the last, first, …]``. No others are asked for; by default all inside `bounds` are.
    legend : iterable of ((red, green, blue), str), optional
        What colours mean.
    meta : mapping, optional
        Facts shown under "About this map", by name.
    basemap : Basemap or str, optional
        Online tiles shown below the mosaic from the start. Without it nothing is fetched from
        elsewhere unless the reader types an address in.
    command : str, optional
        How a tile is downloaded, with ``{name}``, ``{lon}`` and ``{lat}``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        (a `ValueError`) for bounds that are no box, unknown schemes and zooms.
    """
    box = _checked_bounds(bounds)
    low, high = zooms
    if not 0 <= low <= high <= _MAX_ZOOM:
        raise InputError(f"zooms {zooms} are not 0 <= smallest <= largest <= {_MAX_ZOOM}")
    if scheme not in ("xyz", "tms"):
        raise InputError(f"unknown scheme {scheme!r}: expected xyz or tms")
    if isinstance(basemap, str):
        basemap = Basemap(basemap)
    data = {
        "title": title,
        "tiles": tiles,
        "packs": packs,
        "listing": listing,
        "scheme": scheme,
        "bounds": box,
        "zooms": [low, high],
        "initialZoom": initial_zoom,
        "center": list(center) if center else None,
        "region": region,
        "legend": [[list(colour), text] for colour, text in legend],
        "meta": [[name, str(value)] for name, value in (meta or {}).items()],
        "basemap": basemap._asdict() if basemap else None,
        "command": command,
    }
    parts = {"countries-data": packed_countries(0.01, 0.001)}
    # Online base maps are the reader's choice, wherever they are.
    policy = {
        "script-src": "'self' file:",
        "connect-src": "'self' https: http:",
        "img-src": "'self' https: http:",
    }
    return write_page(output_html, "viewer", title, data, parts, policy)
