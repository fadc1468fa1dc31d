"""Where the inner chunks of shards are: indexes, read once a process."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from geotessera.errors import FormatError, TruncatedError
from geotessera.remote.objects.local import LocalReader
from geotessera.remote.objects.reader import Suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader
    from geotessera.sources.zarr_spec import ArraySpec, ShardIndex

__all__ = ["Index", "file_version", "forget_indexes", "local_path", "shard_indexes"]

_MOST_BYTES = 128 * 2**20
"""Of indexes kept: those of 480 published shards."""

_ABSENT_SECONDS = 600.0
"""How long a shard that a server does not have is believed to be absent."""


class Index(NamedTuple):
    """A shard's index.

    Parameters
    ----------
    entries : ndarray of uint64, shape (n, 2), or None
        Offset and length of each inner chunk; None for a shard that does not exist.
    version : str
        Of the shard.
    """

    entries: NDArray[np.uint64] | None
    version: str


class _Indexes:
    """The process's indexes, least recently used first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[Index, float]] = OrderedDict()
        self._bytes = 0

    def get(self, place: tuple[str, str]) -> Index | None:
        with self._lock:
            found = self._kept.get(place)
            if found is None:
                return None
            index, until = found
            if until < time.monotonic():
                self._drop(place)
                return None
            self._kept.move_to_end(place)
            return index

    def put(self, place: tuple[str, str], index: Index) -> None:
        absent = index.entries is None
        until = time.monotonic() + _ABSENT_SECONDS if absent else float("inf")
        with self._lock:
            self._drop(place)
            self._kept[place] = index, until
            self._bytes += _size(index)
            while self._bytes > _MOST_BYTES and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))

    def drop(self, place: tuple[str, str]) -> None:
        with self._lock:
            self._drop(place)

    def _drop(self, place: tuple[str, str]) -> None:
        found = self._kept.pop(place, None)
        if found is not None:
            self._bytes -= _size(found[0])


def _size(index: Index) -> int:
    return 512 + (0 if index.entries is None else index.entries.nbytes)


_indexes = _Indexes()


def _forget() -> None:
    # A child must not wait for a lock that a thread of its parent held.
    global _indexes
    _indexes = _Indexes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def local_path(reader: ObjectReader) -> str | None:
    """Return the directory of a reader of files, which the kernels read themselves."""
    return str(reader.path) if isinstance(reader, LocalReader) else None


def shard_indexes(reader: ObjectReader, wanted: Sequence[tuple[ArraySpec, str]]) -> list[Index]:
    """Return the indexes of shards, each read once a process.

    A file's index is read again when the file has changed.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.
    wanted : sequence of (ArraySpec, str)
        Arrays, and keys of shards.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if an index is damaged.
    TransferError
        (an `OSError`) if one cannot be had.
    """
    directory = local_path(reader)
    found: list[Index | None] = []
    for spec, key in wanted:
        index = _indexes.get((reader.identity, key))
        if index is not None and not _fits(index, spec):
            index = None  # the array was made anew
        if directory is not None:
            version = file_version(f"{directory}/{key}")
            if version is None:
                index = Index(None, "")
            elif index is not None and index.version != version:
                index = None
        found.append(index)
    missing = [at for at, index in enumerate(found) if index is None]
    if missing:
        asked = [wanted[at] for at in missing]
        read = _read_files(directory, asked) if directory else _fetch(reader, asked)
        for at, index in zip(missing, read, strict=True):
            found[at] = index
            _indexes.put((reader.identity, wanted[at][1]), index)
    return [index for index in found if index is not None]


def forget_indexes(reader: ObjectReader, keys: Sequence[str]) -> None:
    """Read the indexes of some shards again next time, since they have changed."""
    for key in keys:
        _indexes.drop((reader.identity, key))
        reader.forget(key)


def file_version(path: str) -> str | None:
    """Return what tells a file's versions apart, or None if there is no such file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - pathlib costs as much again
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"


def _read_files(directory: str, wanted: Sequence[tuple[ArraySpec, str]]) -> list[Index]:
    from geotessera import _native

    found: list[Index] = []
    for spec, key in wanted:
        path = f"{directory}/{key}"
        version = file_version(path)  # before it is read: a change meanwhile is seen next time
        shape = _shape(spec)
        made = _native.shard_indexes(
            [path], shape.entries, checked=shape.checked, at_end=shape.at_end
        )[0]
        found.append(_index(made, version or "", path))
    return found


def _fetch(reader: ObjectReader, wanted: Sequence[tuple[ArraySpec, str]]) -> list[Index]:
    from geotessera import _native

    suffixes = [at for at, (spec, _) in enumerate(wanted) if _shape(spec).at_end]
    asked = [(wanted[at][1], _shape(wanted[at][0]).length) for at in suffixes]
    try:
        found = dict(zip(suffixes, reader.read_suffixes(asked), strict=True))
        ranges = [(key, 0, _shape(spec).length) for spec, key in wanted if not _shape(spec).at_end]
        starts = iter(reader.get_ranges(ranges) if ranges else [])
    except TruncatedError as error:
        if error.passing:
            raise
        raise FormatError(f"a shard's index is cut off: {error}") from error
    parts = {at: suffix for at, suffix in found.items() if suffix is not None}
    for at, (spec, _) in enumerate(wanted):
        if not _shape(spec).at_end and (data := next(starts)) is not None:
            parts[at] = Suffix(data, "")
    indexes = [Index(None, "")] * len(wanted)
    # Those of one shape are checked together, on all cores.
    for shape in dict.fromkeys(_shape(wanted[at][0]) for at in parts):
        alike = [at for at in parts if _shape(wanted[at][0]) == shape]
        made = _native.shard_indexes(
            [parts[at].data for at in alike],
            shape.entries,
            checked=shape.checked,
            at_end=shape.at_end,
        )
        for at, one in zip(alike, made, strict=True):
            name = f"{reader.location}/{wanted[at][1]}"
            indexes[at] = _index(one, parts[at].version, name)
    return indexes


def _fits(index: Index, spec: ArraySpec) -> bool:
    return index.entries is None or len(index.entries) == _shape(spec).entries


def _shape(spec: ArraySpec) -> ShardIndex:
    assert spec.index is not None  # only shards have one
    return spec.index


def _index(made: NDArray[np.uint64] | str | None, version: str, name: str) -> Index:
    if isinstance(made, str):
        raise FormatError(f"{name}: {made}; the shard is damaged, have it written or fetched again")
    return Index(made, version if made is not None else "")
