"""NPY tiles: int8 pixels and float32 scales, memory-mapped as they lie on disk."""

from __future__ import annotations

import math
import mmap
import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError, InputError
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.landmask import Georeference, read_georeference, read_mask
from geotessera.types import Block, Provenance, QuantizedRaster, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NpySource", "NpyTile", "map_npy"]

MAX_HEADER = 4096
"""Bytes a header may claim; published ones have 128."""

# A mapping need not keep its file descriptor: a thousand open tiles would use up the
# usual limit of 1024.
_NO_FD: dict[str, Any] = {}
if sys.version_info >= (3, 13) and os.name == "posix":
    _NO_FD = {"trackfd": False}


def map_npy(path: str | Path, dtype: str, ndims: tuple[int, ...]) -> NDArray[Any]:
    """Map an NPY file into memory after checking its header; no pixel is read.

    Parameters
    ----------
    path : path
        NPY file, format version 1.0 or 2.0, C order.
    dtype : {"int8", "float32"}
        The dtype it must have, in this machine's byte order.
    ndims : tuple of int
        The numbers of axes it may have.

    Returns
    -------
    ndarray
        Read-only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError` and a `ValueError`) if the file is anything else.
    """
    import numpy as np

    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - 5× faster than Path.open
        shape, found, fortran = _read_header(path, file)
        wanted = np.dtype(dtype)
        if found != wanted:
            raise _wrong(path, f"expected {wanted.name} values, found dtype {found.str!r}")
        if fortran:
            raise _wrong(path, "the array is in Fortran order; only C order is supported")
        if len(shape) not in ndims:
            axes = " or ".join(map(str, ndims))
            raise _wrong(path, f"expected {axes} axes, found shape {shape}")
        if 0 in shape:
            raise _wrong(path, f"the array of shape {shape} holds no pixels")
        offset = file.tell()
        expected = offset + math.prod(shape) * wanted.itemsize
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            what = "truncated" if size < expected else "longer than its header says"
            raise _wrong(path, f"it is {what}: {size} bytes, while shape {shape} takes {expected}")
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, **_NO_FD)
    return np.ndarray(shape, wanted, buffer=mapped, offset=offset)


# What NumPy itself writes for these two dtypes; anything else takes NumPy's own parser, which
# evaluates Python literals and costs ten times as much.
_PLAIN_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([|<]i1|<f4)', 'fortran_order': False, "
    rb"'shape': \((\d{1,9}(?:, \d{1,9}){1,2})\), \} *\n",
    re.DOTALL,
)


def _read_header(path: str | Path, file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    import numpy as np

    plain = _PLAIN_HEADER.match(file.read(192))
    if plain and plain.end() == 10 + int.from_bytes(plain[1], "little"):
        file.seek(plain.end())
        shape = tuple(int(size) for size in plain[3].split(b","))
        return shape, np.dtype(plain[2].decode()), False
    file.seek(0)
    return _read_any_header(path, file)


def _read_any_header(path: str | Path, file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        version = npy.read_magic(file)
        if version not in readers:
            raise _wrong(path, f"NPY format {version[0]}.{version[1]} is not supported")
        shape, fortran, dtype = readers[version](file, max_header_size=MAX_HEADER)
    except FormatError:
        raise
    except Exception as error:
        raise _wrong(path, f"its NPY header is damaged ({str(error).splitlines()[0]})") from error
    if dtype.hasobject:
        raise _wrong(path, "it holds pickled objects, which are never loaded")
    return shape, dtype, fortran


def _wrong(path: str | Path, what: str) -> FormatError:
    return FormatError(f"{path} is not a tile file: {what}. Delete it and fetch it again.")


@dataclass(frozen=True, slots=True)
class NpyTile:
    """The three files of an NPY tile: a descriptor.

    Parameters
    ----------
    embedding, scales, landmask : path
        int8 (H, W, B), float32 (H, W) or (H, W, B), and the landmask GeoTIFF.
    georeference : {"landmask", "snapped"}
        See `geotessera.sources.landmask.read_georeference`.
    provenance : Provenance
        Dataset and year.
    """

    embedding: str | Path
    scales: str | Path
    landmask: str | Path
    georeference: Georeference = "landmask"
    provenance: Provenance = field(default_factory=Provenance)

    def open(self) -> NpySource:
        """Open the tile."""
        return NpySource(self)


class NpySource(RasterSource):
    """An NPY tile on disk.

    Opening checks headers and sizes and reads no pixel. Any number of threads may read.

    Parameters
    ----------
    descriptor : NpyTile
        Its files.

    Raises
    ------
    FileNotFoundError
        If one of the three files is missing.
    FormatError
        (a `RuntimeError` and a `ValueError`) if one is not what it should be, or if
        their sizes differ.
    """

    def __init__(self, descriptor: NpyTile) -> None:
        self._descriptor = descriptor
        self.provenance = descriptor.provenance
        self.grid = read_georeference(descriptor.landmask, descriptor.georeference)
        self._values: NDArray[np.int8] = map_npy(descriptor.embedding, "int8", (3,))
        self._scales: NDArray[np.float32] = map_npy(descriptor.scales, "float32", (2, 3))
        self._land: NDArray[np.uint8] | None = None
        self.band_count = int(self._values.shape[2])
        size = self.block_shape = self._values.shape[:2]
        if self._scales.shape != (self._values.shape if self._scales.ndim == 3 else size):
            raise _wrong(
                descriptor.scales,
                f"shape {self._scales.shape} does not fit the embedding's {self._values.shape}",
            )
        if size != (self.grid.height, self.grid.width):
            raise _wrong(
                descriptor.landmask,
                f"{self.grid.height} × {self.grid.width} pixels do not fit the embedding's "
                f"{size[0]} × {size[1]}",
            )

    @property
    def descriptor(self) -> NpyTile:
        """The tile's files."""
        return self._descriptor

    def pixels(self) -> Block:
        """Return the whole tile, memory-mapped."""
        return QuantizedRaster(self._values, self._scales, self.grid, provenance=self.provenance)

    def land(self) -> NDArray[np.uint8]:
        """Return the landmask, read once: uint8 (height, width), 0 for water."""
        if self._land is None:
            self._land = read_mask(self._descriptor.landmask)
        return self._land

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Read int8 pixels and their scales; see `RasterSource.read`.

        With scales per band, a subset of bands also selects their scales; what needs the
        validity of the whole pixel reads all bands and selects later.
        """
        picked = check_bands(bands, self.band_count)
        row, col, height, width = part = check_window(window, self.grid)
        values = self._values[row : row + height, col : col + width]
        scales = self._scales[row : row + height, col : col + width]
        if picked is not None:
            index = _as_slice(picked)
            values = values[..., index]
            scales = scales[..., index] if scales.ndim == 3 else scales
        if out is not None:
            if out.shape != values.shape or out.dtype != values.dtype:
                raise InputError(
                    f"out must be int8 of shape {values.shape}, found {out.dtype} {out.shape}"
                )
            out[...] = values
            values = out
        return QuantizedRaster(values, scales, self.grid.window(part), provenance=self.provenance)


def _as_slice(bands: list[int]) -> slice | list[int]:
    """Return a slice for a run of neighbouring bands, which needs no copy."""
    first = bands[0]
    if bands == list(range(first, first + len(bands))):
        return slice(first, first + len(bands))
    return bands
