"""The reader that fits a location."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from geotessera.datasets import canonical_store_location
from geotessera.errors import InputError

if TYPE_CHECKING:
    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.objects.reader import ObjectReader

__all__ = ["open_reader"]


def open_reader(
    location: str | os.PathLike[str] | Any,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_max_size: str | float | None = None,
    via_gateway: bool | None = None,
    offline: bool = False,
    jobs: int | None = None,
    gap: int | None = None,
    policy: RetryPolicy | None = None,
) -> ObjectReader:
    """Return the reader of a location.

    Parameters
    ----------
    location : str, path or zarr.abc.store.Store
        A directory, a ``file://``, ``http(s)://`` or ``s3://`` URL, another URL that fsspec
        knows, or a Zarr store object, which is used as it is.
    cache_dir : path, optional
        Keep on disk, below this directory, what servers send; see `chunk_cache`. Directories
        need none.
    cache_max_size : int or str, optional
        Bytes that are kept at the most, also as ``"40GB"``; by default 20 GB.
    via_gateway : bool, optional
        Whether a published store is read through the gateway instead of its bucket; by default
        as ``GEOTESSERA_VIA_GATEWAY`` says.
    offline : bool
        Ask no server, and answer from the cache.
    jobs : int, optional
        Connections at once, by default ``GEOTESSERA_RANGE_JOBS`` or 256.
    gap : int, optional
        Bytes between ranges of an object for which they become one request, by default
        ``GEOTESSERA_RANGE_GAP`` or 0.
    policy : RetryPolicy, optional
        Timeouts and repetitions of HTTP.

    Raises
    ------
    StoreNotFoundError
        (a `FileNotFoundError`) if a directory does not exist.
    InputError
        (a `ValueError`) for what is no location, options out of range, a cache for a Zarr store
        object, or `offline` without a cache.
    """
    if not isinstance(location, str | os.PathLike):
        if cache_dir is not None:
            raise InputError(
                "cache_dir cannot be combined with a Zarr store object: give its URL, or wrap it"
            )
        from geotessera.remote.objects.zarr import StoreReader

        return StoreReader(location)
    text = os.fspath(location)
    if not text.strip():
        raise InputError("an empty text is no location of a store: expected a path or a URL")
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme == "file":
        from geotessera.remote.objects.local import LocalReader

        return LocalReader(text)
    if offline and cache_dir is None:
        raise InputError(f"offline=True needs cache_dir to read {text} from")
    reader = _open_remote(text, scheme, via_gateway, jobs, gap, policy)
    if cache_dir is None:
        return reader
    from geotessera.remote.objects.chunk_cache import CachedReader, chunk_cache
    from geotessera.remote.objects.network import RemoteReader

    if not isinstance(reader, RemoteReader):
        raise InputError(f"{text} cannot be cached: only http://, https:// and s3:// URLs can")
    return CachedReader(reader, chunk_cache(cache_dir, cache_max_size), offline=offline)


def _open_remote(
    text: str,
    scheme: str,
    via_gateway: bool | None,
    jobs: int | None,
    gap: int | None,
    policy: RetryPolicy | None,
) -> ObjectReader:
    from geotessera.remote.objects.network import costs_of

    costs = costs_of(jobs, gap)
    if scheme in ("http", "https"):
        if not text.partition("://")[2].partition("/")[0]:
            raise InputError(f"{text!r} names no server: expected https://server/path")
        from geotessera.remote.objects.http import HttpReader
        from geotessera.remote.objects.routing import base_of

        canonical = canonical_store_location(text)
        return HttpReader(canonical, base_of(text, via_gateway), costs, policy)
    if scheme == "s3":
        from geotessera.remote.objects.s3 import S3Reader

        return S3Reader(text, costs, policy)
    from geotessera.remote.objects.zarr import open_by_fsspec

    return open_by_fsspec(text)
