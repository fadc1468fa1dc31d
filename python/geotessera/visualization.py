"""Pictures of embeddings: the names and import paths of earlier releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from geotessera.core import GeoTessera
    from geotessera.regions import Region
    from geotessera.tiles import Tile
    from geotessera.types import ProgressCallback

    type StrPath = str | os.PathLike[str]

__all__ = [
    "analyze_geotiff_coverage",
    "calculate_bbox_from_file",
    "calculate_bbox_from_points",
    "create_pca_mosaic",
    "create_rgb_mosaic",
    "visualize_global_coverage",
    "visualize_sources_coverage",
    "visualize_tile_registry_coverage",
]


def create_rgb_mosaic(
    geotiff_paths: Iterable[str | os.PathLike[str]],
    output_path: str | os.PathLike[str],
    bands: Sequence[int] = (0, 1, 2),
    target_crs: Any = "EPSG:3857",
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Write three bands of GeoTIFFs as one picture; see `geotessera.raster.create_rgb`."""
    from geotessera.raster import create_rgb

    return create_rgb(geotiff_paths, output_path, bands, target_crs, progress_callback)


def create_pca_mosaic(
    tiles_data: Iterable[Tile | Mapping[str, Any]],
    output_path: str | os.PathLike[str],
    n_components: int = 3,
    target_crs: Any = "EPSG:3857",
    progress_callback: ProgressCallback | None = None,
    balance_method: str = "histogram",
    percentile_range: tuple[float, float] = (2, 98),
) -> str:
    """Write the first principal components of tiles as one picture: a uint8 GeoTIFF.

    The components are those of every valid pixel of all tiles, standardised. Pixels without an
    embedding are masked, and 0. The picture is made and written block by block.

    Parameters
    ----------
    tiles_data : iterable of Tile or mapping
        Tiles of one dataset and year, or dictionaries of ``data`` (array of shape (rows,
        columns, bands), NaN where there is nothing), ``crs``, ``transform``, ``height`` and
        ``width``, such as `Tile.to_dict` returns.
    output_path : path
        The file; parents are made. It appears whole or not at all.
    n_components : int
        Components to fit; the picture has the first three at most.
    target_crs : CRS, int or str
        Of the picture. Its pixel size is what GDAL gives the first tile in the CRS.
    progress_callback : callable, optional
        Called with (hundredths done, 100, status text).
    balance_method : {"histogram", "percentile", "adaptive"}
        How scores become levels: each level for as many pixels, linearly between two
        percentiles, or linearly over 2.5 standard deviations each side of the mean.
    percentile_range : (float, float)
        For ``"percentile"``.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    InputError
        (a `ValueError`) if there is no tile, for more components than bands, for a balance,
        percentiles or a CRS that cannot be used, and for tiles that lie too far apart.
    DatasetMismatchError
        (a `ValueError`) for tiles of different datasets or years.
    FileNotFoundError, FormatError
        If a tile's file is missing or damaged.
    UnwritableDestination
        (an `OSError`) if the picture cannot be written.
    """
    from geotessera.pictures import Look, make_picture, rasters_of

    look = Look(n_components, balance=balance_method, percentile_range=percentile_range)
    make_picture(
        rasters_of(tiles_data), output_path, look=look, crs=target_crs, progress=progress_callback
    )
    return str(output_path)


# --- Coverage ----------------------------------------------------------------------------


def analyze_geotiff_coverage(geotiff_paths: Iterable[StrPath]) -> dict[str, Any]:
    """Return what GeoTIFFs of embeddings cover; their headers alone are read.

    Parameters
    ----------
    geotiff_paths : iterable of path
        The files; one that cannot be read is logged and left out.

    Returns
    -------
    dict
        ``total_files``; ``tiles``, of each its ``path``, ``bounds`` (west, south, east, north
        in WGS84 degrees), ``bands``, ``year`` (text), ``tile_lat`` and ``tile_lon``;
        ``bounds`` of all (``min_lon``, ``max_lon``, ``min_lat``, ``max_lat``, infinite without
        a file that could be read); ``band_counts``, ``years`` and ``crs``. Without files
        ``{"error": text}``.
    """
    from geotessera.coverage.inputs import survey_geotiffs

    return survey_geotiffs(geotiff_paths)


def visualize_global_coverage(
    tessera_client: GeoTessera,
    output_path: StrPath = "tessera_coverage.png",
    year: int | None = None,
    width_pixels: int = 2000,
    show_countries: bool = True,
    tile_color: Any = "red",
    tile_alpha: float = 0.6,
    tile_size: float = 1.0,
    progress_callback: ProgressCallback | None = None,
    multi_year_colors: bool = True,
    region_bbox: Sequence[float] | None = None,
    region_file: StrPath | None = None,
) -> str:
    """Draw a map of where a dataset has tiles; `geotessera.coverage.draw_coverage` draws it.

    Parameters
    ----------
    tessera_client : GeoTessera
        The dataset; nothing but its registry is read.
    output_path : path
        A PNG, or a JPEG where it ends in ``.jpg``.
    year : int, optional
        Show one year, in `tile_color`. By default the colours tell the years: dark green has
        all, dark blue the latest alone, dark orange others.
    width_pixels : int
        Width of the picture.
    show_countries : bool
        Draw the borders of countries, which come with the package.
    tile_color : colour
        What matplotlib takes: of a single year, or without `multi_year_colors`.
    tile_alpha : float
        Opacity of tiles, 0 to 1.
    tile_size : float
        Side of a tile's square, in tiles; none is smaller than a pixel.
    progress_callback : callable, optional
        Called with (done, in all, text).
    multi_year_colors : bool
        Show the years by colours.
    region_bbox : sequence of 4 float, optional
        (west, south, east, north) in WGS84 degrees that is shown, with a little around it; west
        > east crosses the antimeridian.
    region_file : path, optional
        A vector file: what is shown, with its outline.

    Returns
    -------
    str
        Path of the picture.

    Raises
    ------
    InputError
        (a `ValueError`) for a colour, a size, a width or a region that cannot be used.
    UnwritableDestination
        (an `OSError`) if the picture cannot be written.
    """
    from geotessera.coverage.grid import Coverage
    from geotessera.coverage.maps import draw_coverage

    region = _region(region_bbox, region_file)
    _tell(progress_callback, 0, "Reading the registry")
    coverage = Coverage.of_registry(tessera_client.registry)
    _tell(progress_callback, 30, "Drawing")
    draw_coverage(
        coverage,
        output_path,
        year=year,
        width=width_pixels,
        show_countries=show_countries,
        tile_color=tile_color,
        tile_alpha=tile_alpha,
        tile_size=tile_size,
        multi_year_colors=multi_year_colors,
        region=region,
    )
    _tell(progress_callback, 100, "Done!")
    return str(output_path)


def visualize_sources_coverage(
    manifest_path: StrPath,
    output_path: StrPath = "tessera_sources.png",
    year: int | None = None,
    width_pixels: int = 2000,
    show_countries: bool = True,
    tile_alpha: float = 0.6,
    tile_size: float = 1.0,
    versions: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    region_bbox: Sequence[float] | None = None,
    region_file: StrPath | None = None,
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Draw a map of where the datasets of one registry file have tiles, a colour each.

    Parameters
    ----------
    manifest_path : path
        A registry with the columns version and variant, such as ``manifest.parquet``.
    versions, variants : sequence of str, optional
        Those that are shown; by default all.

    The other parameters and the result are those of `visualize_global_coverage`.

    Raises
    ------
    InputError
        (a `ValueError`) if nothing is left to show, and as `visualize_global_coverage`.
    RegistrySchemaError
        (a `ValueError`) if a column is missing.
    """
    from geotessera.coverage.maps import draw_sources
    from geotessera.coverage.sources import coverages_of_manifest

    region = _region(region_bbox, region_file)
    _tell(progress_callback, 0, "Reading the registry")
    sources = coverages_of_manifest(manifest_path, versions, variants)
    _tell(progress_callback, 30, "Drawing")
    draw_sources(
        sources,
        output_path,
        year=year,
        width=width_pixels,
        show_countries=show_countries,
        tile_alpha=tile_alpha,
        tile_size=tile_size,
        region=region,
    )
    _tell(progress_callback, 100, "Done!")
    return str(output_path)


def visualize_tile_registry_coverage(
    tiles: pd.DataFrame,
    output_path: StrPath = "tessera_coverage.png",
    year: int | None = None,
    width_pixels: int = 2000,
    show_countries: bool = True,
    tile_alpha: float = 0.6,
    region_bbox: Sequence[float] | None = None,
    region_file: StrPath | None = None,
    title: str = "Tessera Embedding Coverage",
) -> str:
    """Draw a map of what became of the tiles of an Icechunk repository.

    Parameters
    ----------
    tiles : DataFrame
        Rows of `geotessera.icechunk.TileRegistry.tiles`.
    year : int, optional
        Of a year dark green is embedded, dark orange has more than half of its pixels refused,
        red is not embedded. By default dark green is usable in all years, dark orange in some,
        red in none.
    title : str
        Above the map.

    The other parameters and the result are those of `visualize_global_coverage`.

    Raises
    ------
    InputError
        (a `ValueError`) if the table lacks a column, and as `visualize_global_coverage`.
    """
    from geotessera.coverage.maps import draw_rows
    from geotessera.coverage.tile_rows import TileRows

    draw_rows(
        TileRows.of_table(tiles),
        output_path,
        year=year,
        width=width_pixels,
        show_countries=show_countries,
        tile_alpha=tile_alpha,
        region=_region(region_bbox, region_file),
        title=title,
    )
    return str(output_path)


def calculate_bbox_from_file(filepath: StrPath) -> tuple[float, float, float, float]:
    """Return the (west, south, east, north) of a vector file in WGS84 degrees.

    Raises
    ------
    InputError
        (a `ValueError`) if it cannot be read, is empty, or declares no CRS.
    """
    from geotessera.coverage.inputs import box_of_file

    return box_of_file(filepath)


def calculate_bbox_from_points(
    points: pd.DataFrame | Sequence[dict[str, float]], buffer_degrees: float = 0.1
) -> tuple[float, float, float, float]:
    """Return the (west, south, east, north) round points, with a margin, in their degrees.

    Parameters
    ----------
    points : DataFrame or list of dict
        With ``lon`` and ``lat``.
    buffer_degrees : float
        The margin, which may reach beyond ±180 and ±90.

    Raises
    ------
    InputError
        (a `ValueError`) without points, or where ``lon`` or ``lat`` are missing.
    """
    from geotessera.coverage.inputs import box_of_points

    return box_of_points(points, buffer_degrees)


def _region(bbox: Sequence[float] | None, file: StrPath | None) -> Region | None:
    from geotessera.regions import Region

    if file is not None:
        return Region.from_file(file)
    return None if bbox is None else Region.from_bbox(bbox)


def _tell(callback: ProgressCallback | None, done: int, text: str) -> None:
    if callback is not None:
        callback(done, 100, text)
