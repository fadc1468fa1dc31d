"""The part of `geotessera demo` that looks: components as colours, a web map, a globe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geotessera.cli.output import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from geotessera.registry import Registry

__all__ = ["show_pictures"]

ZOOMS = (7, 13)


def show_pictures(
    step: Callable[[str], AbstractContextManager[Any]],
    registry: Registry,
    work: Path,
    paths: dict[str, Path],
) -> None:
    """Draw the downloaded tiles, cut the picture into a web map, and map the registry.

    Parameters
    ----------
    step : callable
        Returns what times a part of the work and shows its ``result``.
    registry : Registry
        Of the world.
    work : Path
        Where results go.
    paths : dict
        What the demo made, by name; ``tiles`` are drawn.
    """
    _draw(step, work, paths)
    _cut(step, work, paths)
    _map(step, registry, work, paths)


def _draw(
    step: Callable[[str], AbstractContextManager[Any]], work: Path, paths: dict[str, Path]
) -> None:
    from geotessera.pictures import make_picture, rasters_below

    with step("Draw three principal components of every pixel") as one:
        rasters = rasters_below(paths["tiles"]).rasters
        picture = paths["PCA mosaic"] = work / "picture.tif"
        report = make_picture(rasters, picture, mask_water=True)
        grid, model = report.plan.grid, report.model
        one.result = (
            f"{grid.width} × {grid.height} pixels in {grid.crs_name}; they explain "
            f"{model.explained_variance_ratio.sum():.0%} of the variance of {model.pixels:,} pixels"
        )


def _cut(
    step: Callable[[str], AbstractContextManager[Any]], work: Path, paths: dict[str, Path]
) -> None:
    from geotessera.pages import write_viewer
    from geotessera.webmap import build_tiles
    from geotessera.webmap.packs import TEMPLATE

    with step("Cut it into a web map") as one:
        directory = work / "webmap"
        report = build_tiles(
            paths["PCA mosaic"],
            directory / "tiles",
            zooms=ZOOMS,
            record=directory / "tiles.json",
            packs=directory / "packs",
            name="sample world",
        )
        paths["web map"] = write_viewer(
            directory / "viewer.html",
            tiles="tiles/{z}/{x}/{y}.png",
            packs=f"packs/{TEMPLATE}",
            bounds=report.bounds,
            zooms=ZOOMS,
            initial_zoom=10,
            center=report.center,
            title="TESSERA: the sample world",
        )
        one.result = f"{report.count} tiles of zooms {ZOOMS[0]} to {ZOOMS[1]}, and a page"


def _map(
    step: Callable[[str], AbstractContextManager[Any]],
    registry: Registry,
    work: Path,
    paths: dict[str, Path],
) -> None:
    import numpy as np

    from geotessera.coverage import Coverage, draw_coverage, write_coverage_globe

    with step("Map what the registry has, flat and on a globe") as one:
        found = Coverage.of_registry(registry)
        paths["coverage map"] = work / "coverage" / "tessera_coverage.png"
        draw_coverage(found, paths["coverage map"])
        globe = paths["globe"] = work / "coverage" / "globe.html"
        write_coverage_globe(globe, [(found, None)])
        one.result = (
            f"{np.count_nonzero(found.covered)} places, {', '.join(map(str, found.years))}; "
            f"the page has {format_bytes(globe.stat().st_size)}"
        )
