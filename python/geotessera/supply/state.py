"""What is on disk of a tile, compared with what is published and asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from geotessera.datasets import dataset_from_tags, normalize_version
from geotessera.errors import FormatError, InputError
from geotessera.export import SOURCE_BANDS_TAG
from geotessera.grid import tile_footprint
from geotessera.layout import local_tile_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from geotessera.registry import Registry
    from geotessera.remote.records import FileRecord
    from geotessera.types import TileId

__all__ = ["depth_of", "stale_export", "wrong_sizes"]

_DEFAULT_DEPTH = 128
_NPY_HEADER_BYTES = range(64, 4097)


def depth_of(registry: Registry, tile: TileId, directory: Path | None = None) -> int | None:
    """Return the number of bands of a tile: from its local array, else its published size.

    Parameters
    ----------
    registry : Registry
        Knows the size of the array.
    tile : TileId
        Which tile.
    directory : Path, optional
        Where its array may be.

    Returns
    -------
    int or None
        None where neither tells it: a mirror's tiles need not fill their cells.
    """
    from geotessera.sources.npy import map_npy

    if directory is not None:
        with suppress(OSError, FormatError):
            return int(map_npy(local_tile_files(directory, tile).embedding, "int8", (3,)).shape[2])
    try:
        size = registry.get_tile_file_size(*tile)
    except InputError:
        return None
    grid = tile_footprint(tile.lon, tile.lat)
    depth, header = divmod(size, grid.height * grid.width)
    return depth if depth and header in _NPY_HEADER_BYTES else None


def wrong_sizes(registry: Registry, tile: TileId, directory: Path) -> list[str]:
    """Return which of a tile's local files do not have the published size, and why.

    A file that does not exist, or whose size is not published, is not wrong.
    """
    embedding, scales, landmask = local_tile_files(directory, tile)
    year, lon, lat = tile
    sizes: tuple[tuple[Path, Callable[[], int]], ...] = (
        (embedding, lambda: registry.get_tile_file_size(year, lon, lat)),
        (scales, lambda: registry.get_scales_file_size(year, lon, lat)),
        (landmask, lambda: registry.get_landmask_file_size(lon, lat)),
    )
    reasons = []
    for path, published in sizes:
        try:
            found, expected = path.stat().st_size, published()
        except (FileNotFoundError, InputError):
            continue
        if found != expected:
            reasons.append(f"{path.name}: {found:,} bytes instead of {expected:,}")
    return reasons


def stale_export(
    path: Path,
    tile: TileId,
    *,
    dataset: tuple[str, str],
    bands: Sequence[int] | None = None,
    compress: str = "lzw",
    cog: bool = False,
    depth: int | None = None,
    record: FileRecord | None = None,
) -> str | None:
    """Return why an existing GeoTIFF is not what is asked for, or None if it is.

    The file's own tags decide: a name says nothing about bands, compression or dataset.
    Whether it is whole is judged by its size, where that was recorded, and else by where
    its blocks should be. Its bytes are not hashed (a tile is 0.5 GB): `verify` does that.

    Parameters
    ----------
    path : Path
        The GeoTIFF.
    tile : TileId
        What its name says it holds.
    dataset : tuple of str
        Version and variant.
    bands, compress, cog
        What is asked for.
    depth : int, optional
        Number of bands of the tile, for files that do not say it themselves.
    record : FileRecord, optional
        What was known of the file when it was made.
    """
    import rasterio
    from rasterio.errors import RasterioError

    from geotessera.sources.geotiff_check import lacks_blocks

    size = path.stat().st_size
    if record is not None and record.size != size:
        return f"it has {size:,} bytes, and had {record.size:,} when it was made"
    try:
        with rasterio.open(path) as raster:
            tags = raster.tags()
            descriptions = raster.descriptions
            structure = raster.tags(ns="IMAGE_STRUCTURE")
            if record is None and lacks_blocks(raster):
                return "it is truncated"
    except RasterioError as error:
        return f"it cannot be read ({error})"
    found = dataset_from_tags(tags)
    if found != (normalize_version(dataset[0]), dataset[1]):
        return "it was made from another dataset, or does not say which"
    if tags.get("TESSERA_YEAR") != str(tile.year):
        return f"it holds the year {tags.get('TESSERA_YEAR')}"
    if bands is None:
        told = tags.get(SOURCE_BANDS_TAG, "")
        bands = range(int(told) if told.isdecimal() else depth or _DEFAULT_DEPTH)
    if descriptions != tuple(f"Tessera_Band_{band}" for band in bands):
        return "it holds other bands"
    stored = structure.get("COMPRESSION", "none").lower()
    if stored != compress.lower():
        return f"its compression is {stored}"
    if (structure.get("LAYOUT") == "COG") != cog:
        return "it is no cloud-optimised GeoTIFF" if cog else "it is a cloud-optimised GeoTIFF"
    return None
