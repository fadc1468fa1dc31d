"""Objects that are files below a directory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from itertools import starmap
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError, StoreNotFoundError, TransferError
from geotessera.remote.mirror import local_path
from geotessera.remote.objects.reader import ObjectReader, Suffix, changed, check_range, too_short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geotessera.remote.objects.reader import KeyRange

__all__ = ["LocalReader"]

_MOST_OPEN = 32
"""Files kept open: the shards of a few strips."""

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalReader(ObjectReader):
    """Reads files below a directory; a few of them stay open.

    Parameters
    ----------
    path : path or str
        The directory, or its ``file://`` URL.

    Raises
    ------
    StoreNotFoundError
        (a `FileNotFoundError`) if it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        found = local_path(path)
        assert found is not None
        self.path = found.expanduser().absolute()
        if not self.path.exists():
            raise StoreNotFoundError(
                f"{self.path} does not exist: expected the directory of a store, or a URL"
            )
        super().__init__(str(self.path))
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._versions: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the location."""
        return LocalReader, (self.location,)

    def get(self, key: str) -> bytes | None:
        """Return a whole file; see `ObjectReader.get`."""
        place = self._place(key)
        try:
            data = place.read_bytes()
        except _ABSENT:
            return None
        except OSError as error:
            raise self._unreadable(place, error) from error
        self.traffic.add(1, len(data))
        return data

    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        """Return the last bytes of files; see `ObjectReader.read_suffixes`."""
        return list(starmap(self._suffix, wanted))

    def _suffix(self, key: str, length: int) -> Suffix | None:
        check_range(key, 0, length)
        file = self._open(key)
        if file is None:
            return None
        if file.size < length:
            raise too_short(file.name, f"has only {file.size:,} of {length:,} bytes")
        return Suffix(self._read(file, file.size - length, length), file.version)

    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        """Return ranges of files; see `ObjectReader.get_ranges`.

        They are read one after the other: what is on disk is copied, not waited for.
        """
        expected = versions or {}

        def one(key: str, start: int, length: int) -> bytes | None:
            check_range(key, start, length)
            file = self._open(key)
            if file is None:
                return None
            if (expected.get(key) or file.version) != file.version:
                raise changed(file.name)
            return self._read(file, start, length)

        return list(starmap(one, ranges))

    def forget(self, key: str) -> None:
        """Open a file anew next time; see `ObjectReader.forget`."""
        with self._lock:
            self._files.pop(key, None)
            self._versions.pop(key, None)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            self._files.clear()

    def _place(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise InputError(f"{key!r} is no key of a store")
        return self.path.joinpath(*parts)

    def _open(self, key: str) -> _File | None:
        with self._lock:
            file = self._files.get(key)
            if file is not None:
                self._files.move_to_end(key)
                return file
        place = self._place(key)
        try:
            file = _File(place)
        except _ABSENT:
            return None
        except OSError as error:
            raise self._unreadable(place, error) from error
        with self._lock:
            if self._versions.setdefault(key, file.version) != file.version:
                raise changed(file.name)
            self._files[key] = file
            while len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)
        return file

    def _read(self, file: _File, start: int, length: int) -> bytes:
        try:
            data = file.read(start, length)
        except OSError as error:
            raise self._unreadable(file.name, error) from error
        if len(data) != length:
            raise too_short(file.name, f"ends {length - len(data):,} bytes before a range does")
        self.traffic.add(1, length)
        return data

    def _unreadable(self, place: object, error: OSError) -> TransferError:
        return TransferError(
            f"{place} cannot be read ({error.strerror}): check the store's permissions and disk",
            url=str(place),
        )


class _File:
    """An open file, which is closed when nobody uses it any more."""

    def __init__(self, place: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.name = str(place)
        stat = os.fstat(self.descriptor)
        if not os.path.isfile(place):  # noqa: PTH113 - a directory opens, too
            raise IsADirectoryError(place)
        self.size = stat.st_size
        self.version = f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes, fewer where the file ends."""
        data = self._some(start, length)
        if len(data) == length:
            return data
        whole = bytearray(data)
        while len(whole) < length and (data := self._some(start + len(whole), length - len(whole))):
            whole += data
        return bytes(whole)

    if hasattr(os, "pread"):

        def _some(self, start: int, length: int) -> bytes:
            return os.pread(self.descriptor, length, start)

    else:

        def _some(self, start: int, length: int) -> bytes:
            with self._lock:
                os.lseek(self.descriptor, start, os.SEEK_SET)
                return os.read(self.descriptor, length)
