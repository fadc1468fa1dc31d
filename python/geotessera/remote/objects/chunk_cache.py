"""Objects and ranges of stores that are kept on disk, for the next run and for other processes.

What is kept, and when a server is asked again:

- A range is kept under its store's location, its object's name, the object's version (its
  ETag, or else its date and length), its first byte and its length; so bytes of two versions
  of an object are never mixed. Damage is noticed (CRC-32) and fetched anew.
- The version that an object has is believed for `DATA_SECONDS`; then its first byte is asked
  for once, and an object of another version is read anew. A server that says meanwhile that
  the version changed is believed at once (`ChangedError`).
- Metadata (``zarr.json`` and its like) are believed for `METADATA_SECONDS`, then asked for
  again unless they are what is kept; a server that cannot be reached leaves them as they are.
- That an object does not exist is believed for `ABSENT_SECONDS`, or `METADATA_SECONDS`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import ChangedError, HTTPStatusError, OfflineError, UnreachableError
from geotessera.remote.lru import FileCache
from geotessera.remote.objects.reader import (
    Later,
    ObjectReader,
    Pending,
    Suffix,
    changed,
    check_range,
)
from geotessera.sizes import parse_size

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from geotessera.remote.objects.network import RemoteReader
    from geotessera.remote.objects.reader import KeyRange

__all__ = ["DEFAULT_LIMIT", "CachedReader", "chunk_cache"]

logger = logging.getLogger("geotessera")

DEFAULT_LIMIT = 20_000_000_000
"""Bytes on disk where nobody says how many: a season's work in a few regions."""

DIRECTORY = "store-chunks"
"""Below the cache directory of a client."""

METADATA_SECONDS = 3600.0
ABSENT_SECONDS = 86400.0
DATA_SECONDS = 7 * 86400.0

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class _Known(NamedTuple):
    """What is known of an object: its version, "" if it does not exist, and since when."""

    version: str
    checked: float

    def dump(self) -> bytes:
        return json.dumps([self.version, self.checked]).encode() + b"\n"

    @classmethod
    def parse(cls, data: memoryview | None) -> tuple[_Known, bytes] | None:
        """Return it, and what follows it."""
        if data is None:
            return None
        line, _, rest = bytes(data).partition(b"\n")
        try:
            version, checked = json.loads(line)
        except ValueError:
            return None
        return cls(str(version), float(checked)), rest


def chunk_cache(directory: str | os.PathLike[str], limit: str | float | None = None) -> FileCache:
    """Return the cache of chunks below a cache directory; all stores share it.

    Parameters
    ----------
    directory : path
        A client's ``cache_dir``.
    limit : int or str, optional
        Bytes on disk, also as ``"40GB"``; by default 20 GB.

    Raises
    ------
    InputError
        (a `ValueError`) if the limit is no size.
    """
    size = DEFAULT_LIMIT if limit is None else parse_size(limit, "cache_max_size")
    return FileCache(Path(directory).expanduser() / DIRECTORY, size)


class CachedReader(ObjectReader):
    """Reads what is kept on disk there, and the rest through another reader, once.

    Parameters
    ----------
    inner : RemoteReader
        Asks the server; its traffic is what this reader's `traffic` counts, besides hits.
    files : FileCache
        What is kept.
    offline : bool
        Ask no server: what is not kept raises `OfflineError`.
    """

    def __init__(self, inner: RemoteReader, files: FileCache, *, offline: bool = False) -> None:
        super().__init__(inner.location)
        # What was learnt without this cache would never come to lie in it.
        self.identity = f"{inner.identity}\n{files.directory}"
        self.inner, self.files, self.offline = inner, files, offline
        self.traffic = inner.traffic
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the location and the cache's directory."""
        place = self.files.directory, self.files.limit
        return _reopen, (self.inner, *place, self.offline)

    # --- Whole objects -----------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return a whole object; see `ObjectReader.get`."""
        name = f"{self.location}\n{key}\nwhole"
        kept = _Known.parse(self.files.get(name))
        if kept is not None:
            known, data = kept
            if self.offline or not self._is_old(key, known):
                self.traffic.add(hits=1)
                return data if known.version else None
        elif self.offline:
            raise self._offline(key)
        try:
            found = self.inner.read_whole(key, kept[0].version if kept else "")
        except (UnreachableError, HTTPStatusError) as error:
            if kept is None or not error.passing:
                raise
            logger.warning("%s: what is kept in the cache is used", error)
            self.traffic.add(hits=1)
            return kept[1] if kept[0].version else None
        if found is None:
            self.files.put(name, _Known("", time.time()).dump())
            return None
        if found.data is None:
            assert kept is not None
            data = kept[1]
        else:
            data = found.data
        self.files.put(name, _Known(found.version, time.time()).dump() + data)
        return data

    # --- Ranges ------------------------------------------------------------------------------

    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        """Return the last bytes of objects; see `ObjectReader.read_suffixes`."""
        known = {key: self._of(key) for key in dict.fromkeys(key for key, _ in wanted)}
        found: list[Suffix | None] = [None] * len(wanted)
        missing = []
        for index, (key, length) in enumerate(wanted):
            check_range(key, 0, length)
            one = known[key]
            data = None
            if one is not None and one.version:
                data = self.files.get(self._name(key, one.version, f"-{length}"))
                found[index] = None if data is None else Suffix(bytes(data), one.version)
            if one is None or (one.version and data is None):
                missing.append(index)
        self.traffic.add(hits=len(wanted) - len(missing))
        if not missing:
            return found
        if self.offline:
            raise self._offline(wanted[missing[0]][0], len(missing), len(wanted))
        try:
            fresh = self.inner.read_suffixes([wanted[index] for index in missing])
        except ChangedError as error:
            self._drop(known, error)
            raise
        for index, suffix in zip(missing, fresh, strict=True):
            key, length = wanted[index]
            version = "" if suffix is None else suffix.version
            before = known[key]
            if before is not None and before.version != version:
                self._drop([key])
                raise changed(self.inner.url_of(key))
            self._learn(key, version)
            if suffix is not None:
                self.files.put(self._name(key, version, f"-{length}"), suffix.data)
            found[index] = suffix
        return found

    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        """Return ranges of objects; see `ObjectReader.get_ranges`."""
        return self._read(ranges, versions or {}, lambda pending: None)

    def begin(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> Pending:
        """Begin to read ranges; see `ObjectReader.begin`."""
        asked: list[Pending] = []
        return Later(
            lambda: self._read(ranges, versions or {}, asked.append),
            lambda: [pending.cancel() for pending in asked],
        )

    def _read(
        self,
        ranges: Sequence[KeyRange],
        versions: Mapping[str, str],
        on_begin: Callable[[Pending], object],
    ) -> list[bytes | None]:
        known = {key: self._of(key) for key in dict.fromkeys(key for key, _, _ in ranges)}
        found: list[bytes | None] = [None] * len(ranges)
        missing = []
        for index, (key, start, length) in enumerate(ranges):
            check_range(key, start, length)
            one = known[key]
            if one is None:
                missing.append(index)
                continue
            if versions.get(key) not in (None, "", one.version):
                self._drop([key])
                raise changed(self.inner.url_of(key))
            if one.version:
                data = self.files.get(self._name(key, one.version, f"{start}+{length}"))
                if data is None:
                    missing.append(index)
                    continue
                found[index] = bytes(data)
        self.traffic.add(hits=len(ranges) - len(missing))
        if not missing:
            return found
        if self.offline:
            raise self._offline(ranges[missing[0]][0], len(missing), len(ranges))

        def keep(number: int, data: bytes | None, version: str) -> None:
            key, start, length = ranges[missing[number]]
            self._learn(key, version)
            if data is not None:
                self.files.put(self._name(key, version, f"{start}+{length}"), data)

        expected = {key: one.version for key, one in known.items() if one is not None} | {
            key: version for key, version in versions.items() if version
        }
        asked = [ranges[index] for index in missing]
        pending = self.inner.begin(asked, expected, keep=keep, waits=True)
        on_begin(pending)
        try:
            for index, data_or_none in zip(missing, pending.result(), strict=True):
                found[index] = data_or_none
        except ChangedError as error:
            self._drop(known, error)
            raise
        return found

    def forget(self, key: str) -> None:
        """Take an object for another one from now on; see `ObjectReader.forget`."""
        with self._lock:
            self._known.pop(key, None)
        self.files.remove(self._record(key))
        self.inner.forget(key)

    def close(self) -> None:
        """Give up what the other reader holds."""
        self.inner.close()

    # --- What is known of objects ------------------------------------------------------------

    def _of(self, key: str) -> _Known | None:
        """Return what is known of an object, or None: then it has to be asked for."""
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        kept = _Known.parse(self.files.get(self._record(key)))
        if kept is None:
            return None
        known = kept[0]
        if not self.offline and self._is_old(key, known):
            if not known.version:
                return None
            try:
                version = self.inner.read_version(key)
            except (UnreachableError, HTTPStatusError) as error:
                if not error.passing:
                    raise
                logger.warning("%s: what is kept in the cache is used", error)
            else:
                self._learn(key, version)
                with self._lock:
                    return self._known[key]
        with self._lock:
            return self._known.setdefault(key, known)

    def _learn(self, key: str, version: str) -> None:
        """Note what a server said of an object."""
        with self._lock:
            before = self._known.get(key)
            if before is not None and before.version == version:
                return
            self._known[key] = known = _Known(version, time.time())
        self.files.put(self._record(key), known.dump())

    def _drop(self, keys: Iterable[str], error: ChangedError | None = None) -> None:
        """Forget on disk what is known of objects that changed."""
        for key in keys:
            if error is None or error.url == self.inner.url_of(key):
                self.files.remove(self._record(key))

    def _is_old(self, key: str, known: _Known) -> bool:
        if key.rpartition("/")[2] in _METADATA:
            most = METADATA_SECONDS
        else:
            most = DATA_SECONDS if known.version else ABSENT_SECONDS
        return not 0 <= time.time() - known.checked <= most

    def _record(self, key: str) -> str:
        return f"{self.location}\n{key}"

    def _name(self, key: str, version: str, part: str) -> str:
        return f"{self.location}\n{key}\n{version}\n{part}"

    def _offline(self, key: str, missing: int = 1, count: int = 1) -> OfflineError:
        url = self.inner.url_of(key)
        what = f"{url} is" if count == 1 else f"{missing} of {count} ranges, such as of {url}, are"
        return OfflineError(
            f"{what} not in the cache at {self.files.directory}, and offline=True asks no server: "
            "read the region once with a network",
            url=url,
        )


def _reopen(inner: RemoteReader, directory: Path, limit: int, offline: bool) -> CachedReader:
    return CachedReader(inner, FileCache(directory, limit), offline=offline)
