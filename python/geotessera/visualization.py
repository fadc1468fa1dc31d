"""Pictures of embeddings: the names and import paths of earlier releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from geotessera.tiles import Tile
    from geotessera.types import ProgressCallback

__all__ = ["create_pca_mosaic", "create_rgb_mosaic"]


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
        (a `ValueError`) if there is no tile, for more components than bands, and for a
        balance, percentiles or a CRS that cannot be used.
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
