"""Reading arrays with zarr-python: for codecs that the kernels do not know."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError, GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import zarr
    from zarr.core.buffer import Buffer

    from geotessera.sources.zarr_array import ByteReader
    from geotessera.sources.zarr_spec import ArraySpec

__all__ = ["open_array", "read_array"]


def open_array(reader: ByteReader, spec: ArraySpec) -> zarr.Array[Any]:
    """Open an array with zarr-python, its bytes through our reader.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if zarr-python does not understand it.
    """
    import zarr

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return zarr.open_array(_reader_store()(reader), path=spec.path, mode="r", zarr_format=3)
    except (GeoTesseraError, OSError):
        raise
    except Exception as error:
        raise FormatError(
            f"{reader.location}/{spec.path}: zarr-python cannot open it: {error}"
        ) from error


def read_array(reader: ByteReader, spec: ArraySpec, index: tuple[Any, ...]) -> Any:
    """Read a part of an array with zarr-python.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if its chunks cannot be decoded.
    """
    array = open_array(reader, spec)
    try:
        return array[index]
    except (GeoTesseraError, OSError, MemoryError):
        raise
    except Exception as error:
        raise FormatError(
            f"{reader.location}/{spec.path}: zarr-python cannot decode it: {error}"
        ) from error


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

    def fetch(reader: ByteReader, key: str, part: object) -> bytes | None:
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

        def __init__(self, reader: ByteReader) -> None:
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
