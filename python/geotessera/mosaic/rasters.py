"""The rasters of a mosaic: where they are, what they hold, and which may be put together."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cells import COLUMNS, ROWS, cell_of_centre
from geotessera.errors import BandError, DatasetMismatchError, FormatError, InputError
from geotessera.grid import parse_grid_name
from geotessera.layout import geotiff_identity
from geotessera.sources import GeoTiff, NpyTile
from geotessera.sources.landmask import read_georeference
from geotessera.sources.npy_file import open_npy
from geotessera.types import GridSpec, Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geotessera.sources import SourceDescriptor

__all__ = ["MosaicRaster", "check_alike", "check_output"]


@dataclass(frozen=True, slots=True)
class MosaicRaster:
    """A raster of a mosaic, known well enough to plan with; make one with `of`.

    Parameters
    ----------
    descriptor : SourceDescriptor
        What opens it, here or in another process.
    grid : GridSpec
        CRS, transform and size of the whole raster.
    band_count : int
        Number of bands.
    cell : tuple of int, optional
        The 0.1° cell that the raster is the tile of: ``(floor(lon * 10), floor(lat * 10))``
        of its centre.
    provenance : Provenance
        Dataset and year, where known.
    quantized : bool
        Whether it holds int8 values with scales.
    scales_per_band : bool
        Whether each band has its own scales.
    band_names : tuple of str, optional
        What the bands are called, such as ``Tessera_Band_0``; None where the file does not say.
    identity : str
        What tells its pixels from those of another raster, for the plan's digest.
    """

    descriptor: SourceDescriptor
    grid: GridSpec
    band_count: int
    cell: tuple[int, int] | None = None
    provenance: Provenance = field(default_factory=Provenance)
    quantized: bool = True
    scales_per_band: bool = False
    band_names: tuple[str, ...] | None = None
    identity: str = ""

    @classmethod
    def of(
        cls,
        descriptor: SourceDescriptor,
        *,
        tile: tuple[float, float] | None = None,
        band_count: int | None = None,
    ) -> MosaicRaster:
        """Read a raster's headers; no pixel is read.

        Parameters
        ----------
        descriptor : SourceDescriptor
            What opens the raster. Of an `NpyTile` only the landmask needs to be there if
            `band_count` is given: the rest may still have to be downloaded.
        tile : tuple of float, optional
            (longitude, latitude) of the tile's centre; by default what the file's name says.
        band_count : int, optional
            Number of bands of a tile whose embedding is not there yet.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        FormatError
            (a `RuntimeError`) if one is not what it should be.
        """
        if isinstance(descriptor, NpyTile):
            return _of_npy(descriptor, tile, band_count)
        with descriptor.open() as source:
            raster = cls(
                descriptor,
                source.grid,
                source.band_count,
                provenance=source.provenance,
                quantized=not isinstance(descriptor, GeoTiff),
                band_names=_names(getattr(source, "descriptions", ())),
            )
        if isinstance(descriptor, GeoTiff):
            found = geotiff_identity(descriptor.path)
            if tile is None and found is not None and cell_of_centre(found.lon, found.lat):
                tile = found.lon, found.lat  # of another grid's name the cell is not known
            _check_north_up(raster)
            raster = replace(raster, identity=_file_identity(descriptor.path))
        return replace(raster, cell=_cell(tile), identity=raster.identity or repr(descriptor))

    @property
    def centre(self) -> tuple[float, float] | None:
        """(longitude, latitude) of the tile's centre in degrees, or None for no tile."""
        if self.cell is None:
            return None
        return (self.cell[0] * 10 + 5) / 100, (self.cell[1] * 10 + 5) / 100

    @property
    def name(self) -> str:
        """What messages call the raster: its file."""
        at = self.descriptor
        return str(getattr(at, "embedding", getattr(at, "path", at)))

    def signature(self) -> bytes:
        """Return what decides the raster's pixels, the same in every process."""
        parts = (
            self.grid.crs_name,
            tuple(float(value).hex() for value in self.grid.transform),
            (self.grid.height, self.grid.width, self.band_count),
            self.cell,
            (self.provenance.version, self.provenance.variant, self.provenance.year),
            self.identity,
        )
        return hashlib.sha256(repr(parts).encode()).digest()


def _check_north_up(raster: MosaicRaster) -> None:
    a, b, _, d, e, _ = raster.grid.transform
    if b or d or a <= 0 or e >= 0:
        raise FormatError(
            f"{raster.name} is not north-up (transform {raster.grid.transform}): rotated rasters "
            "and rows from south to north are not supported; warp it first"
        )


def _of_npy(
    descriptor: NpyTile, tile: tuple[float, float] | None, band_count: int | None
) -> MosaicRaster:
    grid = read_georeference(descriptor.landmask, descriptor.georeference)
    per_band = False
    if band_count is None or Path(descriptor.embedding).exists():
        shape = open_npy(descriptor.embedding, "int8", (3,)).shape
        scales = open_npy(descriptor.scales, "float32", (2, 3)).shape
        if shape[:2] != (grid.height, grid.width) or scales not in (shape, shape[:2]):
            raise FormatError(
                f"{descriptor.embedding} of shape {shape}, its scales of {scales} and its landmask "
                f"of {(grid.height, grid.width)} do not fit each other: fetch the tile again"
            )
        band_count, per_band = shape[2], len(scales) == 3
    lon, lat = tile or parse_grid_name(Path(descriptor.embedding).name)
    cell = _cell(None if lon is None or lat is None else (lon, lat))
    known = descriptor.provenance
    # A published tile is the same wherever it lies, and before it is downloaded too.
    published = None not in (known.version, known.variant, known.year, cell)
    return MosaicRaster(
        descriptor,
        grid,
        band_count,
        cell,
        known,
        scales_per_band=per_band,
        band_names=_all_bands(band_count),
        identity="tile" if published else _file_identity(descriptor.embedding),
    )


def _cell(tile: tuple[float, float] | None) -> tuple[int, int] | None:
    if tile is None:
        return None
    found = cell_of_centre(*tile)
    if found is None:
        raise InputError(f"{tile} is not the centre of a tile (longitude, latitude)")
    return found[0] - COLUMNS // 2, found[1] - ROWS // 2


@functools.cache
def _all_bands(count: int) -> tuple[str, ...]:
    return tuple(f"Tessera_Band_{band}" for band in range(count))


def _names(descriptions: Iterable[str | None]) -> tuple[str, ...] | None:
    names = tuple(name for name in descriptions if name is not None)
    return names if names and len(names) == len(tuple(descriptions)) else None


def _file_identity(path: Any) -> str:
    try:
        found = Path(path).stat()
    except OSError:
        return str(path)
    return f"{os.path.abspath(path)} {found.st_size} {found.st_mtime_ns}"  # noqa: PTH100 - no links


def check_alike(rasters: Sequence[MosaicRaster]) -> Provenance:
    """Return what all rasters have in common, or raise: they must go into one mosaic.

    Raises
    ------
    DatasetMismatchError
        (a `ValueError`) if rasters are known to be of different datasets or years, or if
        their lists of bands differ.
    BandError
        (a `ValueError`) if their numbers of bands differ.
    """
    if not rasters:
        raise InputError("a mosaic needs at least one raster")
    first = rasters[0]
    dataset: MosaicRaster | None = None
    year: MosaicRaster | None = None
    names: MosaicRaster | None = None
    for raster in rasters:
        if raster.band_count != first.band_count:
            raise BandError(
                f"rasters of different depths cannot be put together: {first.name} has "
                f"{first.band_count} bands, {raster.name} has {raster.band_count}"
            )
        known = raster.provenance
        if known.version is not None:
            dataset = dataset or raster
            _refuse("datasets", dataset, raster, _dataset(dataset), _dataset(raster))
        if known.year is not None:
            year = year or raster
            _refuse("years", year, raster, year.provenance.year, known.year)
        if raster.band_names is not None:
            names = names or raster
            _refuse("bands", names, raster, names.band_names, raster.band_names)
    return Provenance(
        dataset.provenance.version if dataset else None,
        dataset.provenance.variant if dataset else None,
        year.provenance.year if year else None,
    )


def check_output(rasters: Iterable[MosaicRaster], output: str | os.PathLike[str]) -> None:
    """Refuse to replace a raster by a picture of it.

    Raises
    ------
    InputError
        (a `ValueError`) if the output is the file of one of them, by whatever name.
    """
    target = _place_of(output)
    if target is None:
        return
    for raster in rasters:
        path = getattr(raster.descriptor, "path", None)
        if isinstance(path, str | os.PathLike) and _place_of(path) == target:
            raise InputError(f"{output} is what the picture is made of: name another file")


def _place_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return what tells a file from others whatever its name is; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - of text that may be no path at all
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _dataset(raster: MosaicRaster) -> str:
    return f"{raster.provenance.version} {raster.provenance.variant}"


def _refuse(what: str, one: MosaicRaster, other: MosaicRaster, first: Any, found: Any) -> None:
    if first == found:
        return
    if what == "bands":
        at = next(i for i, pair in enumerate(zip(first, found, strict=True)) if len({*pair}) > 1)
        first, found = f"{first[at]} as band {at}", found[at]
    raise DatasetMismatchError(
        f"rasters of different {what} cannot be put together, their embeddings do not compare: "
        f"{one.name} holds {first}, {other.name} holds {found}"
    )
