"""What rasters on disk say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.errors import FormatError, InputError
from geotessera.layout import TileFiles, geotiff_identity, npy_identity, scan_geotiffs, scan_npy

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.sources import RasterSource
    from geotessera.types import TileId

__all__ = ["LocalRaster", "inspect_path"]


@dataclass(frozen=True, slots=True)
class LocalRaster:
    """A tile or another raster of embeddings on disk.

    Parameters
    ----------
    path : Path
        The GeoTIFF, or the embedding file of an NPY tile.
    format : {"npy", "geotiff"}
        What it is.
    lon, lat : float or None
        Centre of the tile, if its name says so.
    year : int or None
        Year, from the name or the tags.
    dataset : str or None
        Dataset, from the tags or the directory's record.
    crs : str
        Such as ``EPSG:32631``.
    bounds : tuple of 4 float
        (west, south, east, north) of the raster in WGS84 degrees.
    height, width, bands : int
        Its shape.
    """

    path: Path
    format: str
    lon: float | None
    lat: float | None
    year: int | None
    dataset: str | None
    crs: str
    bounds: tuple[float, float, float, float]
    height: int
    width: int
    bands: int


def inspect_path(path: Path) -> tuple[list[LocalRaster], list[str]]:
    """Describe a raster, or all those below a directory.

    Returns
    -------
    found : list of LocalRaster
        Sorted by path. Where a tile is there as NPY and as GeoTIFF, both are listed.
    problems : list of str
        Files that could not be read, and why.
    """
    found: list[LocalRaster] = []
    problems: list[str] = []
    arrays, rasters = _candidates(path)
    for source_path in [*arrays, *rasters]:
        try:
            found.append(_npy(source_path) if source_path in arrays else _geotiff(source_path))
        except (FormatError, OSError) as error:
            problems.append(" ".join(str(error).split()))
    return found, problems


def _candidates(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the embedding files and the GeoTIFFs that a path stands for."""
    if path.is_dir():
        return list(scan_npy(path)), list(scan_geotiffs(path))
    if path.suffix.lower() in (".tif", ".tiff"):
        return [], [path]
    if path.suffix == ".npy":
        path = path.with_name(path.name.replace("_scales.npy", ".npy"))
        if npy_identity(path.absolute()) is None:
            raise InputError(
                f"{path} is no embedding file: expected …/YEAR/grid_LON_LAT/grid_LON_LAT.npy"
            )
        return [path], []
    return [], []


def _npy(path: Path) -> LocalRaster:
    from geotessera.layout import local_tile_files
    from geotessera.sidecar import recorded_dataset
    from geotessera.sources import NpyTile

    tile = npy_identity(path.absolute())
    assert tile is not None  # the candidates are those that have one
    base = path.absolute().parents[3]
    files: TileFiles = local_tile_files(base, tile)
    missing = [file.name for file in files.missing()]
    if missing:
        raise FormatError(f"{path} is part of an incomplete tile: {', '.join(missing)} missing")
    recorded = recorded_dataset(base)
    with NpyTile(path, files.scales, files.landmask).open() as source:
        return _describe(path, "npy", tile, source, "-".join(recorded) if recorded else None)


def _geotiff(path: Path) -> LocalRaster:
    from geotessera.sources import GeoTiff

    with GeoTiff(path).open() as source:
        known = source.provenance
        dataset = f"{known.version}-{known.variant}" if known.version else None
        return _describe(path, "geotiff", geotiff_identity(path), source, dataset)


def _describe(
    path: Path, fmt: str, tile: TileId | None, source: RasterSource, dataset: str | None
) -> LocalRaster:
    from rasterio.warp import transform_bounds

    grid = source.grid
    west, south, east, north = transform_bounds(grid.crs, "EPSG:4326", *grid.bounds)
    return LocalRaster(
        path=path,
        format=fmt,
        lon=tile.lon if tile else None,
        lat=tile.lat if tile else None,
        year=tile.year if tile else source.provenance.year,
        dataset=dataset,
        crs=f"EPSG:{grid.epsg}" if grid.epsg else "custom",
        bounds=(west, south, east, north),
        height=grid.height,
        width=grid.width,
        bands=source.band_count,
    )
