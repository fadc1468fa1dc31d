"""NPY tiles: int8 pixels and float32 scales, read as they lie on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.landmask import Georeference, read_georeference, read_mask
from geotessera.sources.npy_file import map_npy, not_a_tile_file, open_npy
from geotessera.types import Block, Provenance, QuantizedRaster, SparsePixels, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate

    type Mapped = tuple[NDArray[np.int8], NDArray[np.float32]]

__all__ = ["NpySource", "NpyTile", "map_npy"]

BYTES_PER_POINT = 2**15
"""A source gathers a point for so many bytes of its file before it maps it.

Mapping costs what pages are touched, until all are: in a tile of 98 MB that took as long as
3500 points gathered, one for 28 KiB (2 cores, page cache warm).
"""

GATHER_CALL = 8
"""What a call costs beside its points, in points."""


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

    Opening checks headers and sizes and reads no pixel; the files are mapped when more
    than a few pixels are asked for. Any number of threads may read.

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
        self._values_file = open_npy(descriptor.embedding, "int8", (3,))
        self._scales_file = open_npy(descriptor.scales, "float32", (2, 3))
        self._mapped: Mapped | None = None
        self._gathered = 0
        self._land: NDArray[np.uint8] | None = None
        height, width, self.band_count = shape = self._values_file.shape
        size = self.block_shape = (height, width)
        if self._scales_file.shape not in (shape, size):
            raise not_a_tile_file(
                descriptor.scales,
                f"shape {self._scales_file.shape} does not fit the embedding's {shape}",
            )
        if size != (self.grid.height, self.grid.width):
            raise not_a_tile_file(
                descriptor.landmask,
                f"{self.grid.height} × {self.grid.width} pixels do not fit the embedding's "
                f"{size[0]} × {size[1]}",
            )

    @property
    def descriptor(self) -> NpyTile:
        """The tile's files."""
        return self._descriptor

    def _map(self) -> Mapped:
        """Return values and scales, memory-mapped once (twice if threads race; no harm)."""
        if self._mapped is None:
            self._mapped = self._values_file.map(), self._scales_file.map()
        return self._mapped

    def pixels(self) -> Block:
        """Return the whole tile, memory-mapped."""
        values, scales = self._map()
        return QuantizedRaster(values, scales, self.grid, provenance=self.provenance)

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Read a window into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        size = part.height, part.width
        values = allocate((*size, *self._values_file.shape[2:]), "int8")
        scales = allocate((*size, *self._scales_file.shape[2:]), "float32")
        self._values_file.read(part, values)
        self._scales_file.read(part, scales)
        return QuantizedRaster(values, scales, self.grid.window(part), provenance=self.provenance)

    def prefers_gather(self, count: int) -> bool:
        """Return whether so few points are asked for that mapping the files would not pay.

        The first touch of a mapped page costs 1.4 µs and its unmapping as much again; two
        reads of a record cost 1 µs. A page once touched costs nothing, so a source that was
        asked for many points, one call after another, maps its files in the end.
        """
        limit = self._values_file.size // BYTES_PER_POINT
        return self._mapped is None and self._gathered + count <= limit

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Read some pixels and nothing else; see `RasterSource.gather`."""
        self._gathered += len(numbers) + GATHER_CALL
        values, scales = self._values_file.pixels(numbers), self._scales_file.pixels(numbers)
        return SparsePixels(numbers, values, scales)

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
        values, scales = self._map()
        values = values[row : row + height, col : col + width]
        scales = scales[row : row + height, col : col + width]
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
