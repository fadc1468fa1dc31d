"""Sessions of Icechunk repositories, and the bytes of their stores."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geotessera.errors import FormatError, InputError, MissingExtraError
from geotessera.remote.lru import FileCache
from geotessera.remote.objects.chunk_cache import chunk_cache
from geotessera.remote.objects.s3 import PUBLIC_BUCKETS
from geotessera.remote.objects.zarr import StoreReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    import icechunk
    from zarr.abc.store import ByteRequest

__all__ = [
    "RepositoryReader",
    "canonical_repository",
    "open_repository",
    "open_session",
]

_quiet = threading.Lock()
_ABSENT, _PRESENT = b"\0", b"\1"


def canonical_repository(location: str | os.PathLike[str]) -> str:
    """Return a repository's one spelling: an ``s3://`` URL, or an absolute path.

    Raises
    ------
    InputError
        (a `ValueError`) for a URL of another scheme.
    """
    text = os.fspath(location).rstrip("/")
    parts = urlsplit(text)
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    if parts.scheme == "s3" and parts.netloc and parts.path.strip("/"):
        return text
    raise InputError(f"{text}: an Icechunk repository is at s3://bucket/prefix, or a local path")


def open_session(
    location: str | os.PathLike[str], *, branch: str = "main", snapshot_id: str | None = None
) -> icechunk.Session:
    """Open a read-only session of an Icechunk repository.

    The repository's own configuration is used as it is stored.

    Parameters
    ----------
    location : str or path
        ``s3://bucket/prefix``, or a directory. The published bucket is read without
        credentials; others with those of the environment, in the region ``AWS_REGION``.
    branch : str
        Whose newest snapshot is read.
    snapshot_id : str, optional
        Which snapshot is read instead.

    Raises
    ------
    MissingExtraError
        (an `ImportError`) if the package ``icechunk`` is not installed.
    InputError
        (a `ValueError`) for a URL of another scheme.
    FormatError
        (a `RuntimeError` and a `ValueError`) if there is no repository, branch or snapshot.
    """
    url = canonical_repository(location)
    package = _package()
    try:
        with _without_warnings(package):
            repository = package.Repository.open(_storage(package, url))
        if snapshot_id is not None:
            session: icechunk.Session = repository.readonly_session(snapshot_id=snapshot_id)
        else:
            session = repository.readonly_session(branch)
        return session
    except package.IcechunkError as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(
            f"{url}: no Icechunk repository could be opened ({reason}); see "
            "geotessera.registry.DATASETS for the published versions and where they are"
        ) from error


def _package() -> Any:
    try:
        import icechunk
    except ImportError as error:
        raise MissingExtraError(
            "Icechunk repositories need the package icechunk: pip install 'geotessera[icechunk]'"
        ) from error
    return icechunk


def _storage(package: Any, url: str) -> Any:
    if not url.startswith("s3://"):
        return package.local_filesystem_storage(url)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    region = PUBLIC_BUCKETS.get(bucket)
    if region is not None:
        return package.s3_storage(bucket=bucket, prefix=prefix, region=region, anonymous=True)
    region = os.environ.get("AWS_REGION")
    return package.s3_storage(bucket=bucket, prefix=prefix, region=region, from_env=True)


@contextmanager
def _without_warnings(package: Any) -> Iterator[None]:
    """Keep it from telling readers that writing to a local directory is not safe."""
    set_filter = getattr(package, "set_logs_filter", None)
    if set_filter is None or os.environ.get("ICECHUNK_LOG"):
        yield
        return
    with _quiet:
        set_filter("error")
        try:
            yield
        finally:
            set_filter(None)


class RepositoryReader(StoreReader):
    """The objects of one snapshot of a repository.

    Make one with `open_repository`. It is pickled by location and snapshot: another process
    reads the same snapshot, also if the branch went on meanwhile.

    Parameters
    ----------
    url : str
        The repository, as `canonical_repository` spells it.
    session : icechunk.Session
        A read-only session.
    files : FileCache, optional
        Keeps on disk what was read. A snapshot never changes, so nothing is asked for again.
    """

    def __init__(self, url: str, session: icechunk.Session, files: FileCache | None = None) -> None:
        # The location keeps what is cached apart, snapshot from snapshot.
        super().__init__(session.store, f"{url}@{session.snapshot_id}")
        self.url = url
        self.session = session
        self.files = files

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by location, snapshot and the cache's directory."""
        cache = None if self.files is None else (self.files.directory, self.files.limit)
        return _reopened, (self.url, self.session.snapshot_id, cache)

    def names(self, prefix: str = "") -> list[str]:
        """Return what lies directly below a prefix, sorted."""

        async def listed() -> list[str]:
            return sorted([name async for name in self.store.list_dir(prefix)])

        return self._run(prefix, listed())

    async def _get(self, key: str, part: ByteRequest | None) -> bytes | None:
        if self.files is None:
            return await super()._get(key, part)
        name = f"{self.location}\n{key}\n{part}"
        kept = await asyncio.to_thread(self.files.get, name)
        if kept is not None:
            self.traffic.add(hits=1)
            return bytes(kept[1:]) if kept[:1] == _PRESENT else None
        data = await super()._get(key, part)
        entry = _ABSENT if data is None else _PRESENT + data
        await asyncio.to_thread(self.files.put, name, entry)
        return data


def open_repository(
    location: str | os.PathLike[str],
    *,
    branch: str = "main",
    snapshot_id: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_max_size: str | float | None = None,
) -> RepositoryReader:
    """Return the reader of a snapshot of a repository; see `open_session`.

    Parameters
    ----------
    location, branch, snapshot_id
        As there.
    cache_dir, cache_max_size
        As for `geotessera.remote.objects.open_reader`; a local repository needs none.
    """
    url = canonical_repository(location)
    files = None
    if cache_dir is not None and url.startswith("s3://"):
        files = chunk_cache(cache_dir, cache_max_size)
    session = open_session(url, branch=branch, snapshot_id=snapshot_id)
    return RepositoryReader(url, session, files)


@functools.lru_cache(maxsize=8)
def _reopened(url: str, snapshot_id: str, cache: tuple[Path, int] | None) -> RepositoryReader:
    """Return the process's one reader of a snapshot: each task of a graph asks for it."""
    files = None if cache is None else FileCache(*cache)
    return RepositoryReader(url, open_session(url, snapshot_id=snapshot_id), files)
