"""Reading arrays with zarr-python: for codecs that the kernels do not know."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError, GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

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

        self._name = f"{reader.location}/{spec.path}"
        self._spec = spec
        with self._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = _reader_store()(reader)
            self._array = zarr.open_array(store, path=spec.path, mode="r", zarr_format=3)

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


def _reader_store() -> Any:
    """Return the class of stores over our readers, made when zarr is first needed."""
    global _store_class
    if _store_class is None:
        _store_class = _make_store_class()
    return _store_class


_store_class: Any = None


def _make_store_class() -> Any:
    import asyncio

    from zarr.abc.store import (
        OffsetByteRequest,
        RangeByteRequest,
        Store,
        SuffixByteRequest,
    )

    def fetch(reader: ObjectReader, key: str, part: object) -> bytes | None:
        match part:
            case RangeByteRequest(start, end):
                return reader.get_range(key, start, end - start)
            case SuffixByteRequest(length):
                return reader.get_suffix(key, length)
            case OffsetByteRequest(offset):
                whole = reader.get(key)
                return None if whole is None else whole[offset:]
        return reader.get(key)

    class ReaderStore(Store):
        """A read-only store whose objects come from one of our readers."""

        supports_writes = False
        supports_deletes = False
        supports_partial_writes = False
        supports_listing = False

        def __init__(self, reader: ObjectReader) -> None:
            super().__init__(read_only=True)
            self._reader = reader

        def __eq__(self, other: object) -> bool:
            return isinstance(other, ReaderStore) and other._reader is self._reader

        async def get(self, key: str, prototype: Any, byte_range: object = None) -> Buffer | None:
            data = await asyncio.to_thread(fetch, self._reader, key, byte_range)
            return None if data is None else prototype.buffer.from_bytes(data)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> list[Any]:
            return list(
                await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))
            )

        async def exists(self, key: str) -> bool:
            return await self.get(key, _prototype()) is not None

        async def set(self, key: str, value: Any) -> None:
            raise NotImplementedError("stores are read-only here")

        async def delete(self, key: str) -> None:
            raise NotImplementedError("stores are read-only here")

        async def _nothing(self) -> AsyncIterator[str]:
            names: tuple[str, ...] = ()
            for name in names:
                yield name

        def list(self) -> Any:
            return self._nothing()

        def list_prefix(self, prefix: str) -> Any:
            return self._nothing()

        def list_dir(self, prefix: str) -> Any:
            return self._nothing()

    def _prototype() -> Any:
        from zarr.core.buffer import default_buffer_prototype

        return default_buffer_prototype()

    return ReaderStore
