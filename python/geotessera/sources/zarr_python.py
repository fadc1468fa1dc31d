"""Reading arrays with zarr-python: for codecs that the kernels do not know."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError, GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader
    from geotessera.sources.zarr_spec import ArraySpec
    from geotessera.types import Window

__all__ = ["ForeignArray"]

_STRIP = 256
"""Rows that are decoded together, at least."""


class ForeignArray:
    """An array that zarr-python decodes.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.
    spec : ArraySpec
        The array's metadata.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`), here and below, if zarr-python cannot read it.
    """

    def __init__(self, reader: ObjectReader, spec: ArraySpec) -> None:
        import zarr

        from geotessera.remote.objects.reader_store import store_of

        self._name = f"{reader.location}/{spec.path}"
        self._spec = spec
        with self._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._array = zarr.open_array(store_of(reader), path=spec.path, mode="r", zarr_format=3)
            if self._array.shape != spec.shape:
                raise ValueError(f"shape {self._array.shape}, and {spec.shape} in the root")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (GeoTesseraError, OSError, MemoryError):
            raise
        except Exception as error:
            raise FormatError(f"{self._name}: zarr-python cannot read it: {error}") from error

    def values(self) -> NDArray[Any]:
        """Return all of it."""
        import numpy as np

        with self._explained():
            return np.asarray(self._array[...])

    def read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None,
        out: NDArray[Any],
        scales: NDArray[np.float32] | None,
    ) -> None:
        """Read a window into `out` (height, width, band), strip by strip; see `ZarrArray.read`."""
        high = self._spec.plane(self._spec.inner)[0]
        strip = -(-_STRIP // high) * high
        start = window.row
        while start < window.row + window.height:
            stop = min(start // strip * strip + strip, window.row + window.height)
            rows = slice(start - window.row, stop - window.row)
            values = self._pixels(
                step, slice(start, stop), slice(window.col, window.col + window.width)
            )
            factors = None if scales is None else scales[rows]
            out[rows] = _finished(values, bands, factors)
            start = stop

    def gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None,
        out: NDArray[Any],
        scales: NDArray[np.float32] | None,
    ) -> None:
        """Read single pixels into `out` (n, band), chunk by chunk; see `ZarrArray.gather`."""
        import numpy as np

        (high, wide), size = self._spec.plane(self._spec.inner), self._spec.size
        across = -(-size[1] // wide)
        numbers, which = np.unique(rows // high * across + cols // wide, return_inverse=True)
        order = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[order], np.arange(len(numbers) + 1))
        for at, number in enumerate(numbers.tolist()):
            points = order[ends[at] : ends[at + 1]]
            row, col = number // across * high, number % across * wide
            chunk = self._pixels(step, slice(row, row + high), slice(col, col + wide))
            values = chunk[rows[points] - row, cols[points] - col][:, None]
            factors = None if scales is None else scales[points][:, None]
            out[points] = _finished(values, bands, factors)[:, 0]

    def _pixels(self, step: int, rows: slice, cols: slice) -> NDArray[Any]:
        """Return pixels as (row, column, band)."""
        import numpy as np

        bands = (slice(None),) if self._spec.layout == "chw" else ()
        part: Any = (step, *bands, rows, cols)
        with self._explained():
            values = np.asarray(self._array[part])
        if self._spec.layout == "chw":
            return values.transpose(1, 2, 0)
        return values[..., None] if self._spec.layout == "hw" else values


def _finished(
    values: NDArray[Any], bands: list[int] | None, scales: NDArray[np.float32] | None
) -> NDArray[Any]:
    """Select bands and dequantise as the kernels do."""
    from geotessera import _native

    if scales is not None:
        return _native.dequantize(values, scales, bands=bands)
    return values if bands is None else values[..., bands]
