"""Arrays in memory as a source of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import InputError
from geotessera.mosaic.grids import crs_code
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.floats import as_float32
from geotessera.types import Block, GridSpec, Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate

__all__ = ["ArrayRaster", "ArraySource"]


@dataclass(frozen=True, slots=True, eq=False)
class ArrayRaster:
    """An array with its place: a descriptor.

    Parameters
    ----------
    data : ndarray of float32, shape (rows, columns, bands)
        The pixels, NaN where there is nothing.
    grid : GridSpec
        Where they are.
    name : str
        What messages call it.
    """

    data: NDArray[np.float32]
    grid: GridSpec
    name: str = "an array"

    @classmethod
    def of(cls, tile: Mapping[str, Any], name: str) -> ArrayRaster:
        """Take a dictionary of ``data``, ``crs``, ``transform``, ``height`` and ``width``.

        What the mask of a masked array hides is NaN.

        Raises
        ------
        InputError
            (a `ValueError`) if one is missing, or if they do not fit each other.
        """
        missing = [key for key in ("data", "crs", "transform") if tile.get(key) is None]
        if missing:
            raise InputError(f"{name} has no {' and no '.join(missing)}")
        data = np.asanyarray(tile["data"])
        if data.ndim != 3 or not data.size or data.dtype.kind not in "iuf":
            raise InputError(
                f"{name}: data must be numbers of shape (rows, columns, bands), found "
                f"{data.dtype} of shape {data.shape}"
            )
        size = tile.get("height", data.shape[0]), tile.get("width", data.shape[1])
        if size != data.shape[:2]:
            raise InputError(
                f"{name}: height and width are {size}, but data has {data.shape[0]} × "
                f"{data.shape[1]} pixels"
            )
        try:
            a, b, c, d, e, f = (float(value) for value in tuple(tile["transform"])[:6])
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{name}: transform must be an affine.Affine, found {tile['transform']!r}"
            ) from error
        if b or d or a <= 0 or e >= 0:
            raise InputError(f"{name} is not north-up: its transform is {(a, b, c, d, e, f)}")
        grid = GridSpec(crs_code(tile["crs"]), (a, b, c, d, e, f), *data.shape[:2])
        return cls(as_float32(data), grid, name)

    @property
    def path(self) -> str:
        """What messages call it."""
        return self.name

    def __repr__(self) -> str:
        """Name the array; two of them have two names."""
        return f"{self.name} at {id(self.data):#x}"

    def open(self) -> ArraySource:
        """Return the array as a source."""
        return ArraySource(self)


class ArraySource(RasterSource):
    """An array in memory, read as any raster; nothing is copied.

    Parameters
    ----------
    descriptor : ArrayRaster
        The array.
    """

    def __init__(self, descriptor: ArrayRaster) -> None:
        self._descriptor = descriptor
        self.grid = descriptor.grid
        self.band_count = int(descriptor.data.shape[2])
        self.block_shape = (self.grid.height, self.grid.width)
        self.provenance = Provenance()

    @property
    def descriptor(self) -> ArrayRaster:
        """The array."""
        return self._descriptor

    def pixels(self) -> Block:
        """Return the whole array."""
        return self.read()

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Return a view of the pixels; see `RasterSource.read`."""
        picked = check_bands(bands, self.band_count)
        row, col, height, width = part = check_window(window, self.grid)
        values = self._descriptor.data[row : row + height, col : col + width]
        if picked is not None:
            values = values[..., picked]
        if out is not None:
            if out.shape != values.shape or out.dtype != np.float32:
                raise InputError(
                    f"out must be float32 of shape {values.shape}, found {out.dtype} {out.shape}"
                )
            out[...] = values
            values = out
        return Block(values, None, self.grid.window(part), provenance=self.provenance)

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Return a view of the pixels; there is nothing to read."""
        return self.read(window)
