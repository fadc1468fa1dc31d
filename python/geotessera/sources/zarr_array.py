"""Reading windows and single pixels of one array of a Zarr store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from geotessera.errors import FormatError
from geotessera.sources.zarr_python import read_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.zarr_spec import ArraySpec
    from geotessera.types import Window

__all__ = ["ByteReader", "ZarrArray", "read_values"]


class ByteReader(Protocol):
    """Where the objects of a store come from, as far as this layer needs to know.

    Thread-safe. None stands for an object that does not exist; an error is an error. A reader
    of files may have an attribute ``directory``, where they are: their chunks are then read by
    the kernels.
    """

    @property
    def location(self) -> str:
        """The store's canonical location."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return a part of an object, never less than was asked for."""
        ...

    def get_suffix(self, key: str, length: int) -> bytes | None:
        """Return the end of an object."""
        ...

    def get_ranges(self, key_ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        """Return parts of objects: (key, start, length) each, in their order."""
        ...


class ZarrArray:
    """An array of pixels with a time axis: embeddings or scales.

    Parameters
    ----------
    reader : ByteReader
        The store's bytes.
    spec : ArraySpec
        The array's metadata.
    """

    def __init__(self, reader: ByteReader, spec: ArraySpec) -> None:
        self.reader = reader
        self.spec = spec
        if spec.layout is None:
            raise FormatError(
                f"{reader.location}/{spec.path}: an array of pixels has three or four axes, "
                f"found shape {spec.shape}"
            )

    def read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read a window of one year.

        Parameters
        ----------
        step : int
            Position on the time axis.
        window : Window
            Which pixels; inside the array.
        bands : list of int, optional
            Which bands, checked; all by default.
        out : ndarray, optional
            Where the pixels go.
        scales : ndarray of float32, shape (height, width), optional
            Factors to dequantise with.

        Returns
        -------
        ndarray, shape (height, width, band), or (height, width) of an array without bands
            Of the array's dtype; float32 where `scales` are given.
        """
        import numpy as np

        row, col, height, width = window
        rows, cols = slice(row, row + height), slice(col, col + width)
        index = (slice(None), rows, cols) if self.spec.layout == "chw" else (rows, cols)
        values = np.asarray(read_array(self.reader, self.spec, (step, *index)))
        if self.spec.layout == "chw":
            values = values.transpose(1, 2, 0)
        return _finished(values, bands, out, scales)

    def gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read single pixels of one year, in any order.

        Parameters
        ----------
        step : int
            Position on the time axis.
        rows, cols : ndarray of int64, shape (n,)
            Which pixels; inside the array.
        bands, out, scales
            As in `read`; `scales` has shape (n,).

        Returns
        -------
        ndarray, shape (n, band), or (n,) of an array without bands
        """
        import numpy as np

        values = np.empty(
            (len(rows), *([self.spec.band_count] * (self.spec.layout != "hw"))), self.spec.dtype
        )
        for at, (row, col) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
            index = (slice(None), row, col) if self.spec.layout == "chw" else (row, col)
            values[at] = read_array(self.reader, self.spec, (step, *index))
        return _finished(values, bands, out, scales)


def _finished(
    values: NDArray[Any],
    bands: list[int] | None,
    out: NDArray[Any] | None,
    scales: NDArray[np.float32] | None,
) -> NDArray[Any]:
    """Select bands and dequantise as the kernels do, in memory of its own or in `out`."""
    import numpy as np

    from geotessera import _native

    if bands is not None:
        values = values[..., bands]
    if scales is not None:
        flat = values if values.ndim == 3 else values[:, None]
        factors = scales if scales.ndim == 2 else scales[:, None]
        values = _native.dequantize(np.ascontiguousarray(flat), factors).reshape(values.shape)
    if out is None:
        return values
    out[...] = values
    return out


def read_values(reader: ByteReader, spec: ArraySpec) -> NDArray[Any]:
    """Read a small array whole, such as a coordinate."""
    import numpy as np

    return np.asarray(read_array(reader, spec, (Ellipsis,)))
