"""Objects of a Zarr store object that the caller made."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from geotessera.errors import GeoTesseraError, InputError, TransferError, UnreachableError
from geotessera.remote.objects.reader import ObjectReader, Suffix, check_range, too_short

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from zarr.abc.store import ByteRequest, Store

    from geotessera.remote.objects.reader import KeyRange

__all__ = ["StoreReader", "open_by_fsspec"]

_numbers = itertools.count()

_AT_ONCE = 64
"""Ranges that are asked for at the same time; the store has its own cap on connections."""


def open_by_fsspec(url: str) -> StoreReader:
    """Return a reader of a URL that fsspec knows, such as ``gs://`` or ``memory://``.

    Raises
    ------
    InputError
        (a `ValueError`) if it does not, or lacks what it needs for it.
    UnreachableError
        (an `OSError`) if nobody answers.
    """
    from zarr.storage import FsspecStore

    try:
        store = FsspecStore.from_url(url, read_only=True)
    except (ValueError, ImportError) as error:
        raise InputError(
            f"{url} cannot be opened: {error}; expected a path or an http://, https:// or s3:// URL"
        ) from error
    except OSError as error:  # some of them connect at once
        raise UnreachableError(
            f"{url} could not be reached: {error}; check the network and the URL", url=url
        ) from error
    return StoreReader(store, url.rstrip("/"))


class StoreReader(ObjectReader):
    """Reads through a Zarr store object: with its connections, retries and caches.

    Nothing is known of versions there, so a change of an object is not noticed.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store.
    location : str, optional
        What errors call it, by default its ``str``.

    Raises
    ------
    InputError
        (a `ValueError`) if it is no store.
    """

    def __init__(self, store: Store, location: str | None = None) -> None:
        from zarr.abc.store import Store

        if not isinstance(store, Store):
            raise InputError(
                f"{store!r:.100} is no location of a store: expected a path, a URL or a Zarr store"
            )
        super().__init__(str(store) if location is None else location)
        self.store = store
        # Stores in memory are called by their addresses, which later ones get again.
        self.identity = f"{self.location}#{next(_numbers)}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the store."""
        return StoreReader, (self.store, self.location)

    def get(self, key: str) -> bytes | None:
        """Return a whole object; see `ObjectReader.get`."""
        return self._run(key, self._get(key, None))

    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        """Return the last bytes of objects; see `ObjectReader.read_suffixes`."""
        from zarr.abc.store import SuffixByteRequest

        for key, length in wanted:
            check_range(key, 0, length)
        found = self._all([(key, SuffixByteRequest(length)) for key, length in wanted])
        for (key, length), data in zip(wanted, found, strict=True):
            if data is not None and len(data) != length:
                raise too_short(self._name(key), f"has only {len(data):,} of {length:,} bytes")
        return [None if data is None else Suffix(data, "") for data in found]

    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        """Return ranges of objects; see `ObjectReader.get_ranges`."""
        from zarr.abc.store import RangeByteRequest

        for each in ranges:
            check_range(*each)
        found = self._all(
            [(key, RangeByteRequest(start, start + length)) for key, start, length in ranges]
        )
        for (key, start, length), data in zip(ranges, found, strict=True):
            if data is not None and len(data) != length:
                raise too_short(
                    self._name(key), f"has {len(data):,} of the {length:,} bytes at {start:,}"
                )
        return found

    def _all(self, parts: Sequence[tuple[str, ByteRequest]]) -> list[bytes | None]:
        async def together() -> list[bytes | None]:
            turn = asyncio.Semaphore(_AT_ONCE)

            async def one(key: str, part: ByteRequest) -> bytes | None:
                async with turn:
                    return await self._get(key, part)

            return await asyncio.gather(*(one(*each) for each in parts))

        return self._run(parts[0][0] if len(parts) == 1 else "", together())

    async def _get(self, key: str, part: ByteRequest | None) -> bytes | None:
        from zarr.core.buffer import default_buffer_prototype

        found = await self.store.get(key, default_buffer_prototype(), part)
        if found is None:
            return None
        data = found.to_bytes()
        self.traffic.add(1, len(data))
        return data

    def _run[T](self, key: str, work: Coroutine[Any, Any, T]) -> T:
        from zarr.core.sync import sync

        try:
            return sync(work)
        except (GeoTesseraError, MemoryError):
            raise
        except Exception as error:  # each store has its own
            raise TransferError(
                f"{self._name(key)} cannot be read: {type(error).__name__}: {error}",
                url=self._name(key),
            ) from error

    def _name(self, key: str) -> str:
        return f"{self.location}/{key}".rstrip("/")
