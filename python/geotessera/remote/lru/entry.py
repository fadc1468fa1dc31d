"""What entries of a `FileCache` look like on disk, and how damage to them is found.

Bytes are one file: a header, the key, the data; a CRC-32 over key and data is checked at every
read. A group of files is a directory with the files as they are, and ``entry.json``.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from geotessera.remote.owner import boot_id

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RECORD_NAME", "GroupFile", "GroupRecord", "pack_header", "unpack"]

RECORD_NAME = "entry.json"

CHECK_SECONDS = 30 * 86400.0
"""After so long the digests of a group are checked again."""

_MAGIC = b"GTcache1"
_HEADER = struct.Struct("<8sIIQ")  # magic, CRC-32, bytes of the key, bytes of the data


def pack_header(key: str, data: memoryview) -> bytes:
    """Return what stands before an entry's data."""
    name = key.encode()
    crc = zlib.crc32(data, zlib.crc32(name))
    return _HEADER.pack(_MAGIC, crc, len(name), data.nbytes) + name


def unpack(key: str, content: bytes) -> memoryview | None:
    """Return an entry's data, without a copy; None if it is damaged or has another key."""
    name = key.encode()
    start = _HEADER.size + len(name)
    if len(content) < start:
        return None
    magic, crc, key_length, length = _HEADER.unpack_from(content)
    view = memoryview(content)
    whole = (magic, key_length, length) == (_MAGIC, len(name), len(content) - start)
    if not whole or view[_HEADER.size : start] != name:
        return None
    return view[start:] if zlib.crc32(view[_HEADER.size :]) == crc else None


@dataclass(frozen=True, slots=True)
class GroupFile:
    """A file of a group: its size, its SHA-256, and its time stamp when that was checked."""

    size: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What was known of a group of files when it was put into the cache.

    Parameters
    ----------
    id : str
        Random: another group of the same key has another.
    key : str
        The key.
    files : dict of str to GroupFile
        By name.
    boot : str
        The start of the machine that wrote the files: after a power cut they may hold zeros.
        Empty once they were read back on another machine, or after another start.
    checked : float
        POSIX time of the last look at their digests.
    """

    id: str
    key: str
    files: dict[str, GroupFile]
    boot: str
    checked: float

    def dump(self) -> bytes:
        """Return the content of ``entry.json``."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """Return the record, or None if it is damaged."""
        try:
            fields = json.loads(content)
            files = {name: GroupFile(**file) for name, file in fields.pop("files").items()}
            made = cls(files=files, **fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        kinds = isinstance(made.id, str) and isinstance(made.key, str)
        kinds &= isinstance(made.boot, str) and isinstance(made.checked, (int, float))
        for name, file in files.items():
            kinds &= Path(name).name == name and isinstance(file.sha256, str)
            kinds &= isinstance(file.size, int) and isinstance(file.mtime_ns, int)
        return made if kinds and files else None

    def is_expected(self, expected: Mapping[str, tuple[int | None, str | None]]) -> bool:
        """Return whether the files have the names, and sizes and SHA-256 where they are known."""
        return expected.keys() == self.files.keys() and all(
            size in (None, self.files[name].size) and sha256 in (None, self.files[name].sha256)
            for name, (size, sha256) in expected.items()
        )

    def have_sizes(self, stats: Mapping[str, tuple[int, int]]) -> bool:
        """Return whether files with these (size, mtime_ns) have the sizes of the record."""
        return all(size == self.files[name].size for name, (size, _) in stats.items())

    def is_fresh(self, stats: Mapping[str, tuple[int, int]]) -> bool:
        """Return whether files with these (size, mtime_ns) need not be hashed again."""
        same = all(
            stat == (self.files[n].size, self.files[n].mtime_ns) for n, stat in stats.items()
        )
        recent = 0 <= time.time() - self.checked < CHECK_SECONDS
        return same and recent and self.boot in ("", boot_id())

    def checked_now(self, stats: Mapping[str, tuple[int, int]]) -> GroupRecord:
        """Return the record of the same files, found sound by their digests."""
        files = {n: replace(self.files[n], mtime_ns=mtime) for n, (_, mtime) in stats.items()}
        boot = self.boot if self.boot == boot_id() else ""
        return replace(self, files=files, boot=boot, checked=time.time())
