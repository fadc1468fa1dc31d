"""Our readers as Zarr stores, for xarray, dask and zarr-python: one policy, one cache."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from zarr.abc.store import (
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from geotessera.errors import ChangedError
from geotessera.remote.objects.local import LocalReader
from geotessera.remote.objects.opening import open_reader
from geotessera.remote.objects.zarr import StoreReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from geotessera.remote.objects.reader import ObjectReader

__all__ = ["ReaderStore", "store_of", "zarr_store"]

_THREADS = 64


class ReaderStore(Store):
    """A read-only Zarr store whose objects come from one of our readers.

    Its objects cannot be listed: groups are found by their consolidated metadata, or by name.

    Parameters
    ----------
    reader : ObjectReader
        Where they come from.
    """

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = False

    def __init__(self, reader: ObjectReader) -> None:
        super().__init__(read_only=True)
        self.reader = reader

    def __eq__(self, other: object) -> bool:
        """Compare by location."""
        return isinstance(other, ReaderStore) and other.reader.location == self.reader.location

    def __hash__(self) -> int:
        return hash(self.reader.location)

    def __str__(self) -> str:
        return self.reader.location

    def __repr__(self) -> str:
        return f"ReaderStore({self.reader!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the reader."""
        return ReaderStore, (self.reader,)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return an object, or a range of it, or None."""
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(_threads(os.getpid()), self._fetch, key, byte_range)
        if data is None:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return objects, or ranges of them."""
        return list(
            await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))
        )

    async def exists(self, key: str) -> bool:
        """Return whether an object exists; reads it."""
        return await self.get(key) is not None

    def _fetch(self, key: str, part: ByteRequest | None) -> bytes | None:
        try:
            return self._part(key, part)
        except ChangedError:
            # Who reads again begins with the index, and nobody else knows the key.
            self.reader.forget(key)
            raise

    def _part(self, key: str, part: ByteRequest | None) -> bytes | None:
        match part:
            case RangeByteRequest(start, end):
                return self.reader.get_range(key, start, end - start)
            case SuffixByteRequest(length):
                return self.reader.get_suffix(key, length)
            case OffsetByteRequest(offset):
                whole = self.reader.get(key)
                return None if whole is None else whole[offset:]
        return self.reader.get(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse to delete."""
        self._check_writable()

    async def _nothing(self) -> AsyncIterator[str]:
        names: tuple[str, ...] = ()
        for name in names:
            yield name

    def list(self) -> AsyncIterator[str]:
        """List nothing; see the class."""
        return self._nothing()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """List nothing; see the class."""
        return self._nothing()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List nothing; see the class."""
        return self._nothing()


@cache
def _threads(pid: int) -> ThreadPoolExecutor:
    # Of each process its own: threads do not survive a fork.
    return ThreadPoolExecutor(_THREADS, "geotessera-store")


def store_of(reader: ObjectReader) -> Store:
    """Return a Zarr store of what a reader reads.

    Parameters
    ----------
    reader : ObjectReader
        A directory becomes a `zarr.storage.LocalStore`, and a store object stays itself.
    """
    if isinstance(reader, LocalReader):
        return LocalStore(reader.path, read_only=True)
    if isinstance(reader, StoreReader):
        return reader.store
    return ReaderStore(reader)


def zarr_store(
    location: str | os.PathLike[str] | Store,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_max_size: str | float | None = None,
    via_gateway: bool | None = None,
    *,
    offline: bool = False,
) -> Store:
    """Return a read-only Zarr store of a location, for xarray or zarr-python.

    Parameters
    ----------
    location, cache_dir, cache_max_size, via_gateway, offline
        As for `open_reader`.

    Raises
    ------
    StoreNotFoundError
        (a `FileNotFoundError`) if a directory does not exist.
    InputError
        (a `ValueError`) as `open_reader`.

    Examples
    --------
    >>> import tempfile
    >>> from geotessera.testing.stores import SampleStore
    >>> made = SampleStore.build(tempfile.mkdtemp() + "/store")
    >>> import zarr
    >>> zarr.open_group(zarr_store(made.path), mode="r")["utm30/embeddings"].shape
    (2, 8, 96, 128)
    """
    return store_of(
        open_reader(
            location,
            cache_dir=cache_dir,
            cache_max_size=cache_max_size,
            via_gateway=via_gateway,
            offline=offline,
        )
    )
