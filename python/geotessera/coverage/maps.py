"""Maps of coverage: by years, by datasets, and by what became of each tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.coverage.figure import MapStyle, checked_color, frame_for, save_map
from geotessera.coverage.raster import common_class, paint_boxes, paint_cells
from geotessera.coverage.region import region_cells, region_name
from geotessera.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geotessera.coverage.grid import Coverage
    from geotessera.coverage.tile_rows import TileRows
    from geotessera.regions import Region

__all__ = ["SOURCE_COLORS", "draw_coverage", "draw_rows", "draw_sources", "source_color"]

ALL, LATEST, SOME = "darkgreen", "darkblue", "darkorange"

USABLE, PARTLY, UNUSABLE = "darkgreen", "darkorange", "firebrick"

SOURCE_COLORS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""Colours of datasets, in their order: those that published maps have."""


def source_color(number: int) -> tuple[int, int, int]:
    """Return the colour of one of several datasets."""
    return SOURCE_COLORS[number % len(SOURCE_COLORS)]


def draw_coverage(
    coverage: Coverage,
    output_path: str | os.PathLike[str],
    *,
    year: int | None = None,
    width: int = 2000,
    show_countries: bool = True,
    tile_color: Any = "red",
    tile_alpha: float = 0.6,
    tile_size: float = 1.0,
    multi_year_colors: bool = True,
    region: Region | None = None,
) -> None:
    """Draw where a dataset has tiles.

    Parameters
    ----------
    coverage : Coverage
        The dataset.
    output_path : path
        ``.png``, or ``.jpg``.
    year : int, optional
        Only its tiles, in `tile_color`. By default all, by years: dark green has all of them,
        dark blue the latest alone, dark orange others.
    width : int
        Pixels of the picture.
    show_countries : bool
        Draw the borders of countries.
    tile_color : colour
        Of a single year, or without `multi_year_colors`.
    tile_alpha : float
        Opacity, 0 to 1.
    tile_size : float
        Side of a tile's square in tiles; none is smaller than a pixel.
    multi_year_colors : bool
        Show the years by colours.
    region : Region, optional
        What is shown; its tiles are counted beside all.

    Raises
    ------
    InputError
        (a `ValueError`) for a colour, opacity, size or width that cannot be.
    """
    _check(tile_alpha, tile_size)
    frame = frame_for(width, region)
    classes, title = _classes(coverage, year, tile_color, by_years=multi_year_colors)
    colors = [checked_color(color) for _, _, color in classes]
    shown = common_class([paint_cells(frame.view, cells, tile_size) for _, cells, _ in classes])
    style = MapStyle(
        title=title + (" (Region View)" if region else ""),
        note=_note(coverage, year, region),
        legend=[(label, color) for label, _, color in classes],
        alpha=tile_alpha,
        show_countries=show_countries,
        region=region,
    )
    save_map(output_path, frame, [_colored(shown, colors, tile_alpha)], style)


type _Class = tuple[str, NDArray[np.bool_], Any]
"""Words, cells and a colour."""


def _classes(
    coverage: Coverage, year: int | None, tile_color: Any, *, by_years: bool
) -> tuple[list[_Class], str]:
    title, years = "Tessera Embedding Coverage", coverage.years
    if year is not None:
        return [(f"Tiles of {year}", coverage.of_year(year), tile_color)], f"{title} - Year {year}"
    if not by_years or not years:
        return [("Tiles of any year", coverage.covered, tile_color)], f"{title} - All Years"
    whole, last = (
        coverage.bits.dtype.type(mask) for mask in ((1 << len(years)) - 1, 1 << (len(years) - 1))
    )
    every, latest = coverage.bits == whole, coverage.bits == last
    partial = coverage.covered & ~every & ~latest
    count = len(years)
    return [
        (f"All years ({count} year{'s' * (count > 1)})", every, ALL),
        (f"Latest year only ({years[-1]})", latest & ~every, LATEST),
        ("Partial years coverage", partial, SOME),
    ], f"{title} - Multi-Year Analysis"


def _note(coverage: Coverage, year: int | None, region: Region | None) -> str:
    cells = coverage.covered if year is None else coverage.of_year(year)
    total = int(np.count_nonzero(cells))
    text = f"Tiles: {total:,}"
    if region is not None:
        inside = int(np.count_nonzero(region_cells(region, cells)))
        text = f"Tiles: {inside:,} in {region_name(region)}, {total:,} in all"
    if year is None and coverage.years:
        text += f"   Years: {_span(coverage.years)}"
    if coverage.variant:
        text += f"   Dataset: {coverage.version} {coverage.variant}"
    return text


def _span(years: Sequence[int]) -> str:
    return str(years[0]) if len(years) == 1 else f"{years[0]}-{years[-1]}"


def draw_sources(
    sources: Mapping[tuple[str, str], Coverage],
    output_path: str | os.PathLike[str],
    *,
    year: int | None = None,
    width: int = 2000,
    show_countries: bool = True,
    tile_alpha: float = 0.6,
    tile_size: float = 1.0,
    region: Region | None = None,
    colors: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Draw where several datasets have tiles, one colour each, the later over the earlier.

    Parameters
    ----------
    sources : mapping of (str, str) to Coverage
        The datasets by version and variant, as the legend spells them.
    colors : sequence of (int, int, int), optional
        Of each; by default `SOURCE_COLORS` in their order.

    The other parameters and the errors are those of `draw_coverage`.
    """
    _check(tile_alpha, tile_size)
    frame = frame_for(width, region)
    layers, legend = [], []
    for number, ((version, variant), coverage) in enumerate(sources.items()):
        cells = coverage.covered if year is None else coverage.of_year(year)
        part = cells if region is None else region_cells(region, cells)
        if not part.any():
            continue
        rgb = colors[number] if colors else source_color(number)
        color = (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)
        count = int(np.count_nonzero(part))
        legend.append((f"{version} / {variant} ({count:,} tile{'s' * (count != 1)})", color))
        shown = common_class([paint_cells(frame.view, cells, tile_size)])
        layers.append(_colored(shown, [color], tile_alpha))
    if not layers:
        raise InputError(
            "No tiles to render after filtering: check the year, the versions and variants, and "
            "the region"
        )
    style = MapStyle(
        title="Tessera Coverage by Source"
        + (f" - Year {year}" if year is not None else "")
        + (" (Region View)" if region else ""),
        note=f"Tiles in {region_name(region)} are counted" if region else "",
        legend=legend,
        alpha=tile_alpha,
        show_countries=show_countries,
        region=region,
    )
    save_map(output_path, frame, layers, style)


def draw_rows(
    rows: TileRows,
    output_path: str | os.PathLike[str],
    *,
    year: int | None = None,
    width: int = 2000,
    show_countries: bool = True,
    tile_alpha: float = 0.6,
    region: Region | None = None,
    title: str = "Tessera Embedding Coverage",
) -> None:
    """Draw what became of the tiles of an Icechunk repository.

    Of a year: dark green is embedded, dark orange has more than half of its pixels refused, red
    is not embedded. Of all years: dark green is usable in all of them, dark orange in some, red
    in none. Where tiles overlap the better one is shown.

    Parameters
    ----------
    rows : TileRows
        The tiles.

    The other parameters and the errors are those of `draw_coverage`.
    """
    _check(tile_alpha, 1.0)
    frame = frame_for(width, region)
    boxes, state, words = rows.states(year)
    colors = [checked_color(color) for color in (USABLE, PARTLY, UNUSABLE)]
    shown = np.zeros((frame.view.height, frame.view.width), np.uint8)
    for number in (3, 2, 1):
        shown[paint_boxes(frame.view, boxes[state == number - 1]) > 0] = number
    counted = state if region is None else state[rows.inside(region, boxes)]
    counts = np.bincount(counted, minlength=3).tolist()
    legend = [
        (f"{word} ({count:,})", color)
        for word, count, color in zip(words, counts, (USABLE, PARTLY, UNUSABLE), strict=True)
    ]
    note = f"Tiles: {sum(counts):,}" + (f" in {region_name(region)}" if region else "")
    if year is None and rows.years:
        note += f"   Years: {_span(rows.years)}"
    style = MapStyle(
        title=title + (f" - Year {year}" if year is not None else ""),
        note=note,
        legend=legend,
        alpha=tile_alpha,
        show_countries=show_countries,
        region=region,
    )
    save_map(output_path, frame, [_colored(shown, colors, tile_alpha)], style)


def _colored(
    classes: NDArray[np.uint8], colors: Sequence[tuple[float, float, float]], alpha: float
) -> NDArray[np.uint8]:
    """Return RGBA of classes, shape (H, W, 4); class 0 is transparent."""
    table = np.zeros((len(colors) + 1, 4), np.uint8)
    table[1:, :3] = np.rint(np.array(colors) * 255)
    table[1:, 3] = round(alpha * 255)
    packed = table.view(np.uint32)[:, 0]
    return packed[classes].view(np.uint8).reshape(*classes.shape, 4)


def _check(alpha: float, size: float) -> None:
    if not 0 <= alpha <= 1:
        raise InputError(f"an opacity is 0 to 1; found {alpha!r}")
    if not 0 < size <= 100:
        raise InputError(f"the size of a tile is above 0, up to 100; found {size!r}")
