"""Tiles as GeoTIFFs: float32, in their own CRS, tagged with where they come from."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera import _native
from geotessera.datasets import EMBEDDINGS_DIR_NAME, dataset_tags
from geotessera.errors import InputError, UnwritableDestination
from geotessera.remote.partfile import PartFile, atomic_path
from geotessera.remote.records import FileRecords
from geotessera.sidecar import TESSERA_METADATA_FILENAME
from geotessera.sources.base import RasterSource, check_bands
from geotessera.sources.floats import as_float
from geotessera.sources.geotiff_check import written_whole
from geotessera.tiff import BLOCK, COMPRESSIONS, write_geotiff
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from geotessera.types import TileId

__all__ = [
    "SOURCE_BANDS_TAG",
    "check_export_options",
    "compressions",
    "export_tile",
    "record_export",
]

logger = logging.getLogger("geotessera")

SOURCE_BANDS_TAG = "GEOTESSERA_SOURCE_BANDS"
"""Tag with the number of bands of what was exported: says whether a file holds them all."""

# All of GDAL's that keep every bit of a float32.
_LOSSLESS = (
    "deflate",
    "lerc",
    "lerc_deflate",
    "lerc_zstd",
    "lzma",
    "lzw",
    "none",
    "packbits",
    "zstd",
)


def check_export_options(
    *, bands: Sequence[int] | None = None, compress: str = "lzw", cog: bool = False
) -> None:
    """Check what can be checked before any data is fetched.

    Raises
    ------
    BandError
        (an `IndexError` and a `ValueError`) for bands that no raster has.
    InputError
        (a `ValueError`) for a compression that GDAL does not offer or that would lose
        bits; the message lists those that can be used.
    """
    check_bands(bands)
    if not isinstance(compress, str) or compress.lower() not in compressions():
        kind = "a COG" if cog else "a GeoTIFF"
        raise InputError(
            f"compression {compress!r} cannot be used for {kind} of float32: "
            f"choose one of {', '.join(compressions())}"
        )


@functools.cache
def compressions() -> tuple[str, ...]:
    """Return the names of the compressions that an export can use with this GDAL.

    Each is tried: GDAL only warns about one it was built without, and then uses none.
    """
    import numpy as np
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    profile = {
        "driver": "GTiff",
        "width": 16,
        "height": 16,
        "count": 1,
        "dtype": "float32",
        "transform": from_origin(0, 0, 10, 10),
    }
    offered = []
    for name in _LOSSLESS:
        try:
            with MemoryFile() as memory:
                with memory.open(**profile, compress=name) as dataset:
                    dataset.write(np.zeros((1, 16, 16), np.float32))
                with memory.open() as dataset:
                    found = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
        except RasterioError:
            continue
        if found.lower() == name:
            offered.append(name)
    return tuple(offered)


def export_tile(
    source: RasterSource,
    path: str | os.PathLike[str],
    *,
    tile: TileId | None = None,
    dataset: tuple[str, str] | None = None,
    bands: Sequence[int] | None = None,
    compress: str = "lzw",
    cog: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write a raster as a float32 GeoTIFF in its own CRS and grid.

    Quantised pixels become float32 block by block on their way into the file, so a tile
    is never in memory as a whole. Pixels without an embedding are NaN, the file's nodata.

    Parameters
    ----------
    source : RasterSource
        What to write.
    path : path
        The file; parents are made. It appears whole or not at all.
    tile : TileId, optional
        Year and centre, for the tags.
    dataset : tuple of (version, variant), optional
        For the tags; by default the source's own, where known.
    bands : sequence of int, optional
        Zero-based bands in the wanted order; all by default.
    compress : str
        One of `compressions`.
    cog : bool
        Write a cloud-optimised GeoTIFF: with overviews, by nearest neighbour.
    tags : mapping of str to str, optional
        More tags.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BandError
        (an `IndexError` and a `ValueError`) for a band that the raster does not have.
    InputError
        (a `ValueError`) for a compression that cannot be used.
    UnwritableDestination
        (an `OSError`) if the file cannot be written.
    """
    check_export_options(bands=bands, compress=compress, cog=cog)
    picked = check_bands(bands, source.band_count) or list(range(source.band_count))
    every_tag = {**_tags(source, tile, dataset), **(tags or {})}
    target = Path(path)
    if compress.lower() in COMPRESSIONS:
        write_geotiff(
            target,
            source.grid,
            lambda window: as_float(source.read(window), picked),
            names=_names(picked),
            tags=every_tag,
            compress=compress.lower(),
            cog=cog,
        )
        return target
    with atomic_path(target, suffix=".tif") as temporary, written_whole(temporary, target):
        if not cog:
            _write_by_gdal(source, temporary, picked, compress.lower(), every_tag)
        else:
            # On disk, not in memory: a tile is 0.5 GB. GDAL would write the same twice.
            with PartFile(target, suffix=".tif") as plain:
                _write_by_gdal(source, plain.path, picked, "none", every_tag)
                _copy_as_cog(plain.path, temporary, compress.lower())
    return target


def record_export(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
    """Record size and SHA-256 of an exported file, so that `verify` can tell later damage.

    A failure is only logged: the file itself is good.

    Parameters
    ----------
    path : path
        The file.
    root : path, optional
        The tile directory that it lies in; by default the nearest one around it. A file
        that lies in none is not recorded.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    directory = next(filter(_is_tile_directory, file.parents), None)
    if root is not None:
        directory = Path(os.path.abspath(root))  # noqa: PTH100
    if directory is None:
        return
    try:
        FileRecords(directory).record_local([file])
    except UnwritableDestination as error:
        logger.warning("What is known of %s could not be recorded: %s", path, error)


def _is_tile_directory(path: Path) -> bool:
    marks = (".geotessera", TESSERA_METADATA_FILENAME, EMBEDDINGS_DIR_NAME)
    return any((path / mark).exists() for mark in marks)


def _tags(
    source: RasterSource, tile: TileId | None, dataset: tuple[str, str] | None
) -> dict[str, str]:
    origin = source.provenance
    if dataset is None and origin.version and origin.variant:
        dataset = origin.version, origin.variant
    tags = dataset_tags(*dataset) if dataset else {}
    year = tile.year if tile is not None else origin.year
    if year is not None:
        tags["TESSERA_YEAR"] = str(year)
    if tile is not None:
        tags["TESSERA_TILE_LAT"] = f"{tile.lat:.2f}"
        tags["TESSERA_TILE_LON"] = f"{tile.lon:.2f}"
    tags["TESSERA_DESCRIPTION"] = "GeoTessera satellite embedding tile"
    tags["GEOTESSERA_VERSION"] = _native.__version__
    tags[SOURCE_BANDS_TAG] = str(source.band_count)
    return tags


def _names(bands: list[int]) -> list[str]:
    return [f"Tessera_Band_{band}" for band in bands]


def _write_by_gdal(
    source: RasterSource, path: Path, bands: list[int], compress: str, tags: dict[str, str]
) -> None:
    import numpy as np
    import rasterio

    grid = source.grid
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=len(bands),
        dtype="float32",
        crs=grid.crs,
        transform=grid.affine,
        nodata=np.nan,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        interleave="pixel",
        compress=compress,
        num_threads="ALL_CPUS",
        BIGTIFF="IF_SAFER",
    ) as dataset:
        dataset.update_tags(**tags)
        dataset.descriptions = _names(bands)
        for window in _blocks(grid):
            values = as_float(source.read(window), bands)
            # Pixel order in memory is pixel order in the file: GDAL copies, not transposes.
            dataset.write(
                values.transpose(2, 0, 1),
                window=(
                    (window.row, window.row + window.height),
                    (window.col, window.col + window.width),
                ),
            )


def _blocks(grid: GridSpec) -> Iterator[Window]:
    """Yield the file's blocks in the order in which they are stored."""
    for row in range(0, grid.height, BLOCK):
        for col in range(0, grid.width, BLOCK):
            yield Window(row, col, min(BLOCK, grid.height - row), min(BLOCK, grid.width - col))


def _copy_as_cog(source: Path, target: Path, compress: str) -> None:
    from rasterio.shutil import copy

    # Overviews by nearest neighbour: an average of feature vectors is a new vector.
    copy(
        source,
        target,
        driver="COG",
        compress=compress,
        blocksize=BLOCK,
        overview_resampling="nearest",
        num_threads="ALL_CPUS",
        bigtiff="if_safer",
    )
