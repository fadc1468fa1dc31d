"""Web maps of pictures: the names and import paths of earlier releases.

No tool but this package is needed, and no page that is made here needs the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from geotessera.types import ProgressCallback

    type StrPath = str | os.PathLike[str]

__all__ = [
    "create_coverage_summary_map",
    "create_simple_web_viewer",
    "geotiff_to_web_tiles",
    "prepare_mosaic_for_web",
]


def prepare_mosaic_for_web(
    input_mosaic: StrPath,
    output_path: StrPath,
    target_crs: Any = "EPSG:3857",
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Write a mosaic in another CRS, bilinearly; a picture gets an alpha band.

    `geotiff_to_web_tiles` takes pictures in any CRS and does not need this.

    Parameters
    ----------
    input_mosaic : path
        A raster.
    output_path : path
        The GeoTIFF to write; it appears whole or not at all.
    target_crs : CRS, int or str
        Of the GeoTIFF.
    progress_callback : callable, optional
        Called with (blocks done, blocks in all, status text).

    Returns
    -------
    str
        The path of the GeoTIFF, or of the mosaic itself if it is in that CRS already.
    """
    from geotessera.webmap.warp import warp_raster

    return str(warp_raster(input_mosaic, output_path, target_crs, progress_callback))


def geotiff_to_web_tiles(
    geotiff_path: StrPath,
    output_dir: StrPath,
    zoom_levels: Sequence[int] = (8, 15),
    use_gdal_raster: bool = False,
    *,
    resampling: str = "bilinear",
    force: bool = False,
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Cut a picture into Web Mercator tiles: ``{z}/{x}/{y}.png``, rows from the north (XYZ).

    ``tiles.json`` in the directory says how; tiles that are there and are made of the same
    pixels are left alone.

    Parameters
    ----------
    geotiff_path : path
        8-bit picture in any CRS.
    output_dir : path
        The directory of tiles; nothing of it is made if that fails.
    zoom_levels : (int, int)
        Smallest and largest zoom, 0 to 24.
    use_gdal_raster : bool
        Of earlier releases; no tool of GDAL is needed, and none is used.
    resampling : {"bilinear", "nearest"}
        How pixels of the largest zoom are made.
    force : bool
        Whether to cut everything anew.
    progress_callback : callable, optional
        Called with (done, in all, status text).

    Returns
    -------
    str
        The directory.

    Raises
    ------
    InputError
        (a `ValueError`) for a picture that does not hold 8-bit colours, and for zooms that
        are none.
    FileNotFoundError, FormatError
        If there is no picture, or it cannot be read.
    """
    from geotessera.webmap import build_tiles

    build_tiles(
        geotiff_path,
        output_dir,
        zooms=zoom_levels,
        method=resampling,  # type: ignore[arg-type]  # checked there
        force=force,
        progress=progress_callback,
    )
    return str(output_dir)


def create_simple_web_viewer(
    tiles_dir: StrPath,
    output_html: StrPath,
    center_lon: float = 0,
    center_lat: float = 0,
    zoom: int = 10,
    title: str = "GeoTessera Visualization",
    region_file: StrPath | None = None,
) -> str:
    """Write a page that shows a directory of tiles, with the outlines of a region file.

    Parameters
    ----------
    tiles_dir : path
        ``{z}/{x}/{y}.png`` as `geotiff_to_web_tiles` makes them; without its ``tiles.json``
        rows are counted from the south, as gdal2tiles counts them.
    output_html : path
        The page; tiles are found relative to it.
    center_lon, center_lat : float
        Where the map starts, in degrees.
    zoom : int
        The zoom that it starts with.
    title : str
        Plain text.
    region_file : path, optional
        Vector file whose outlines are drawn.

    Returns
    -------
    str
        The path of the page.
    """
    from geotessera.pages import write_viewer
    from geotessera.webmap.note import read_scheme
    from geotessera.webmap.viewing import found_zooms, outline_of, relative_url

    directory = Path(tiles_dir)
    scheme, zooms, bounds = read_scheme(directory)
    found = zooms or found_zooms(directory) or (0, 18)
    page = write_viewer(
        output_html,
        tiles=relative_url(directory, output_html) + "/{z}/{x}/{y}.png",
        bounds=bounds or (-180.0, -85.0511, 180.0, 85.0511),
        zooms=found,
        scheme=scheme,
        initial_zoom=zoom,
        center=(center_lon, center_lat),
        title=title,
        region=None if region_file is None else outline_of(region_file),
    )
    return str(page)


def create_coverage_summary_map(
    geotiff_paths: Iterable[StrPath],
    output_html: StrPath,
    title: str = "GeoTessera Coverage Map",
) -> str:
    """Write a page that shows where GeoTIFFs of embeddings lie.

    Parameters
    ----------
    geotiff_paths : iterable of path
        The files; one that cannot be read is logged and left out.
    output_html : path
        The page.
    title : str
        Plain text.

    Returns
    -------
    str
        The path of the page.

    Raises
    ------
    InputError
        (a `ValueError`) if none of the files can be read.
    """
    from geotessera.webmap.viewing import write_summary

    return str(write_summary(geotiff_paths, output_html, title))
