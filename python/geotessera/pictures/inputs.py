"""What a picture is made of: a file, a directory, or tiles and arrays in hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cells import COLUMNS, cell_of_centre, cells_of_box
from geotessera.errors import FormatError, InputError
from geotessera.layout import local_tile_files, npy_identity
from geotessera.mosaic.rasters import MosaicRaster
from geotessera.pictures.arrays import ArrayRaster
from geotessera.sidecar import recorded_dataset
from geotessera.sources import GeoTiff, NpyTile
from geotessera.tiles import Tile, discover_tiles
from geotessera.types import Provenance, TileId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.regions import Region
    from geotessera.sources import Georeference

__all__ = ["LAYOUTS", "PictureInput", "rasters_below", "rasters_of"]

LAYOUTS = (
    "GeoTIFFs (*.tif, *.tiff) of embeddings anywhere below it, named "
    "grid_<lon>_<lat>_<year> or with a tag TESSERA_YEAR; or NPY tiles, "
    "global_0.1_degree_representation/<year>/grid_<lon>_<lat>/*.npy with their landmasks in "
    "global_0.1_degree_tiff_all"
)
"""What `rasters_below` finds, for messages."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """Rasters that were found.

    Parameters
    ----------
    rasters : list of MosaicRaster
        Tiles by year, latitude and longitude.
    """

    rasters: list[MosaicRaster]

    @property
    def format(self) -> str:
        """``"npy"``, ``"geotiff"`` or ``"zarr"``; several with a plus sign between them."""
        names = ((NpyTile, "npy"), (GeoTiff, "geotiff"), (object, "zarr"))
        found = {
            next(name for kind, name in names if isinstance(raster.descriptor, kind))
            for raster in self.rasters
        }
        return "+".join(sorted(found, reverse=True))


def rasters_below(
    path: str | Path,
    *,
    year: int | None = None,
    region: Region | None = None,
    georeference: Georeference = "snapped",
) -> PictureInput:
    """Return the raster that a file holds, or those of all tiles below a directory.

    Parameters
    ----------
    path : path
        A GeoTIFF, the embedding file of an NPY tile, or a directory.
    year : int, optional
        Only tiles of this year; without it a directory may hold one year only.
    region : Region, optional
        Only tiles of this region.
    georeference : {"snapped", "landmask"}
        Where NPY tiles are; see `geotessera.sources.landmask.read_georeference`.

    Returns
    -------
    PictureInput
        Without rasters if there is none.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    InputError
        (a `ValueError`) for a file that is no raster of embeddings, and for a directory with
        several years.
    FormatError
        (a `RuntimeError`) for a damaged file.
    """
    path = Path(path)
    if path.is_file():
        return PictureInput([_of_file(path, georeference)])
    if not path.exists():
        raise FileNotFoundError(f"there is no file or directory {path}")
    tiles = [tile for tile in discover_tiles(path) if year is None or tile.year == year]
    tiles = [tile for tile in tiles if not _is_picture(tile)]
    if region is not None:
        tiles = [tile for tile in tiles if _lies_in(tile, region)]
    years = sorted({tile.year for tile in tiles})
    if len(years) > 1:
        raise InputError(
            f"{path} holds tiles of {', '.join(map(str, years))}: a picture shows one year, "
            "choose it with --year"
        )
    known = recorded_dataset(path)
    return PictureInput([_of_tile(tile, path, known, georeference) for tile in tiles])


def _lies_in(tile: Tile, region: Region) -> bool:
    """Return whether a tile lies in a region; a raster that is no cell is kept for later."""
    cell = cell_of_centre(tile.lon, tile.lat)
    if cell is None:
        return True
    box = cells_of_box(region.bbox)
    across = (cell[0] - box.column) % COLUMNS < box.columns
    in_box = across and box.row <= cell[1] < box.row + box.rows
    return in_box and (region.geometry is None or bool(region.select([_id(tile)])))


def _is_picture(tile: Tile) -> bool:
    """Return whether a GeoTIFF is a picture itself, such as an earlier run made of the tiles."""
    import rasterio

    descriptor = tile.source().descriptor
    if not isinstance(descriptor, GeoTiff):
        return False
    with rasterio.open(descriptor.path) as dataset:
        return set(dataset.dtypes) == {"uint8"}


def _id(tile: Tile) -> TileId:
    return TileId(tile.year, tile.lon, tile.lat)


def _of_file(path: Path, georeference: Georeference) -> MosaicRaster:
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return _checked(MosaicRaster.of(GeoTiff(path)))
    tile = npy_identity(path) if suffix == ".npy" else None
    if tile is None:
        raise InputError(
            f"{path} is no raster of embeddings: expected a GeoTIFF, or the embedding file of an "
            "NPY tile, <year>/grid_<lon>_<lat>/grid_<lon>_<lat>.npy"
        )
    base = path.absolute().parents[3]
    made = Tile.from_npy(path, base)
    return _of_tile(made, base, recorded_dataset(base), georeference)


def _of_tile(
    tile: Tile, base: Path, dataset: tuple[str, str] | None, georeference: Georeference
) -> MosaicRaster:
    descriptor = tile.source().descriptor
    if isinstance(descriptor, GeoTiff):
        landmask = local_tile_files(base, _id(tile)).landmask
        descriptor = replace(descriptor, landmask=landmask if landmask.is_file() else None)
        return _checked(MosaicRaster.of(descriptor, tile=_centre(tile)))
    assert isinstance(descriptor, NpyTile)  # files on disk are one or the other
    version, variant = dataset or (None, None)
    provenance = Provenance(version, variant, tile.year)
    descriptor = replace(descriptor, georeference=georeference, provenance=provenance)
    return MosaicRaster.of(descriptor, tile=_centre(tile))


def _centre(tile: Tile) -> tuple[float, float] | None:
    """Return the centre of a tile, or None of a raster that is no cell."""
    return None if cell_of_centre(tile.lon, tile.lat) is None else (tile.lon, tile.lat)


def _checked(raster: MosaicRaster) -> MosaicRaster:
    """Refuse values whose scales are in another file: they compare with nothing."""
    assert isinstance(raster.descriptor, GeoTiff)
    with raster.descriptor.open() as source:
        scales = source.tags.get("GEOTESSERA_SCALES")
        of_values = source.tags.get("GEOTESSERA_VALUES")
    if scales is None and of_values is None:
        return raster
    raise FormatError(
        f"{raster.name} is one half of a quantised mosaic, the other is {scales or of_values}: "
        "make it without --quantized, or give the tiles themselves"
    )


def rasters_of(tiles: Iterable[Tile | Mapping[str, Any]]) -> list[MosaicRaster]:
    """Return the rasters of tiles, or of dictionaries with arrays.

    Parameters
    ----------
    tiles : iterable of Tile or mapping
        Tiles, or dictionaries of ``data`` (rows, columns, bands), ``crs``, ``transform``,
        ``height`` and ``width``. Tiles come first where their cell owns the pixel, others
        in their order.

    Raises
    ------
    InputError
        (a `ValueError`) if there is none, or for anything else.
    """
    if isinstance(tiles, Tile | Mapping | str):
        raise InputError(f"a {type(tiles).__name__} is one: expected a list of tiles")
    rasters = [_of_any(tile, number) for number, tile in enumerate(tiles)]
    if not rasters:
        raise InputError("no tiles: a picture needs at least one")
    return rasters


def _of_any(tile: Any, number: int) -> MosaicRaster:
    if isinstance(tile, Tile):
        return MosaicRaster.of(tile.source().descriptor, tile=_centre(tile))
    if isinstance(tile, Mapping):
        name = str(tile.get("path") or f"tile {number}")
        raster = MosaicRaster.of(ArrayRaster.of(tile, name))
        return replace(raster, quantized=False, identity=f"{number} {raster.identity}")
    raise InputError(f"{tile!r} is neither a Tile nor a dictionary of data, crs and transform")
