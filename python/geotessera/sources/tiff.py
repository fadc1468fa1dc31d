"""The header of a GeoTIFF: size, bands, CRS and transform, without opening it in GDAL.

A tile's georeference is nothing but a landmask's header, and GDAL needs about a
millisecond (and half a second of imports) for what 300 bytes say. The plain case is
read here: classic or BigTIFF, either byte order, north-up or with a full matrix, a UTM
CRS on WGS84. Whatever is not that plain goes to rasterio.

Tags: TIFF 6.0 and OGC 19-008r4 (GeoTIFF 1.1).
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from geotessera.errors import FormatError
from geotessera.types import GridSpec

__all__ = ["TiffHeader", "read_header"]

_WIDTH, _HEIGHT, _SAMPLES = 256, 257, 277
_PIXEL_SCALE, _TIEPOINT, _MATRIX, _GEO_KEYS = 33550, 33922, 34264, 34735
_WANTED = {_WIDTH, _HEIGHT, _SAMPLES, _PIXEL_SCALE, _TIEPOINT, _MATRIX, _GEO_KEYS}
_FORMATS = {3: "H", 4: "I", 12: "d", 16: "Q"}
"""struct letters of the TIFF types SHORT, LONG, DOUBLE and LONG8."""

_MODEL, _RASTER, _PROJECTED = 1024, 1025, 3072
# Keys that say nothing beside the EPSG code: citations, and the units it implies.
_HARMLESS_KEYS = {
    1026: None,
    2049: None,
    2054: 9102,
    2057: None,
    2059: None,
    3073: None,
    3076: 9001,
}
_MAX_ENTRIES = 1024
_MAX_VALUES = 4096


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What a GeoTIFF says about itself.

    Parameters
    ----------
    grid : GridSpec
        CRS, transform from pixel corners, and size.
    band_count : int
        Number of bands.
    """

    grid: GridSpec
    band_count: int


class _NotPlain(Exception):  # noqa: N818 - control flow, never seen outside
    """The header is something that GDAL should judge."""


def _tags(file: BinaryIO) -> dict[int, tuple[int | float, ...]]:
    """Return the values of the wanted tags of the first directory."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        raise _NotPlain
    big = head[2:4] == struct.pack(order + "H", 43)
    if not big and head[2:4] != struct.pack(order + "H", 42):
        raise _NotPlain
    pointer, counter, inline = ("Q", "Q", 8) if big else ("I", "H", 4)
    offset = struct.unpack_from(order + pointer, head, 8 if big else 4)[0]
    file.seek(offset)
    (count,) = struct.unpack(order + counter, file.read(struct.calcsize(counter)))
    if count > _MAX_ENTRIES:
        raise _NotPlain
    entry = struct.Struct(f"{order}HH{pointer}{inline}s")
    tags: dict[int, tuple[int | float, ...]] = {}
    for tag, kind, length, value in entry.iter_unpack(file.read(count * entry.size)):
        if tag not in _WANTED:
            continue
        letter = _FORMATS.get(kind)
        if letter is None or length > _MAX_VALUES:
            raise _NotPlain
        layout = f"{order}{length}{letter}"
        size = struct.calcsize(layout)
        if size > inline:
            file.seek(struct.unpack(order + pointer, value)[0])
            value = file.read(size)
        tags[tag] = struct.unpack(layout, value[:size])
    return tags


def _epsg(keys: tuple[int | float, ...]) -> int:
    """Return the EPSG code of a WGS84 UTM zone from the directory of GeoKeys."""
    version, count = keys[0], int(keys[3])
    if version != 1 or len(keys) < 4 + 4 * count:
        raise _NotPlain
    found: dict[int, int] = {}
    for at in range(4, 4 + 4 * count, 4):
        key, location, _, value = (int(part) for part in keys[at : at + 4])
        if key in _HARMLESS_KEYS:
            expected = _HARMLESS_KEYS[key]
            if expected is None or (location, value) == (0, expected):
                continue
        if location or key not in (_MODEL, _RASTER, _PROJECTED):
            raise _NotPlain
        found[key] = value
    epsg = found.get(_PROJECTED, 0)
    # PixelIsPoint (raster type 2) moves the origin by half a pixel: GDAL knows how.
    if found.get(_MODEL) != 1 or found.get(_RASTER, 1) != 1 or not _is_utm(epsg):
        raise _NotPlain
    return epsg


def _is_utm(epsg: int) -> bool:
    return 32601 <= epsg <= 32660 or 32701 <= epsg <= 32760


def _transform(
    tags: dict[int, tuple[int | float, ...]],
) -> tuple[float, float, float, float, float, float]:
    """Return the affine transform as GDAL derives it."""
    if _MATRIX in tags:
        if _PIXEL_SCALE in tags or len(tags[_MATRIX]) != 16:
            raise _NotPlain
        m = tags[_MATRIX]
        return float(m[0]), float(m[1]), float(m[3]), float(m[4]), float(m[5]), float(m[7])
    scale, tie = tags.get(_PIXEL_SCALE, ()), tags.get(_TIEPOINT, ())
    if len(scale) != 3 or len(tie) != 6 or min(scale[0], scale[1]) <= 0:
        raise _NotPlain
    across, down = float(scale[0]), float(scale[1])
    return (across, 0.0, tie[3] - tie[0] * across, 0.0, -down, tie[4] + tie[1] * down)


def _read_plain(path: Path) -> TiffHeader:
    # GDAL lets a sidecar override what the file says.
    if Path(f"{path}.aux.xml").exists():
        raise _NotPlain
    with path.open("rb", buffering=4096) as file:
        try:
            tags = _tags(file)
            width, height = int(tags[_WIDTH][0]), int(tags[_HEIGHT][0])
            samples = int(tags.get(_SAMPLES, (1,))[0])
            epsg = _epsg(tags[_GEO_KEYS])
            transform = _transform(tags)
        except (struct.error, ArithmeticError, LookupError, ValueError, OSError):
            raise _NotPlain from None
    if min(width, height, samples) < 1:
        raise _NotPlain
    return TiffHeader(GridSpec(epsg, transform, height, width), samples)


def _read_gdal(path: Path) -> TiffHeader:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                return TiffHeader(grid_of(path, dataset), dataset.count)
    except RasterioError as error:
        raise FormatError(f"{path} cannot be read as a GeoTIFF: {error}") from error


def grid_of(path: Path, dataset: object) -> GridSpec:
    """Return the grid of an open rasterio dataset, or raise `FormatError`."""
    from rasterio.crs import CRS

    crs, transform = dataset.crs, dataset.transform  # type: ignore[attr-defined]
    if not crs:
        raise FormatError(f"{path} has no CRS: fetch the file again, or assign its UTM zone")
    if transform.is_identity:
        raise FormatError(f"{path} has no georeference (no affine transform): fetch it again")
    epsg = crs.to_epsg()
    # to_epsg() guesses; the code stands for the CRS only if it gives the same one back.
    code = epsg if epsg is not None and CRS.from_epsg(epsg) == crs else crs.to_wkt()
    height, width = dataset.shape  # type: ignore[attr-defined]
    return GridSpec(code, tuple(transform)[:6], height, width)


def read_header(path: str | Path) -> TiffHeader:
    """Return the grid and the number of bands of a GeoTIFF.

    Parameters
    ----------
    path : path
        A file that GDAL's GTiff driver can open. No pixels are read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError`) if it is not a GeoTIFF, or has no CRS or transform.
    """
    path = Path(path)
    try:
        return _read_plain(path)
    except _NotPlain:
        return _read_gdal(path)
