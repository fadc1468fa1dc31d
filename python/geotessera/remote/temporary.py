"""Names of unfinished files beside their targets, and what becomes of those left behind.

``.<name>_tmp_<host>_<pid>_<start>_<random><suffix>`` belongs to the process in it: another one
takes it away when that process is gone. Without a process, ``.<name>_tmp_<random><suffix>``, it
is another program's, or kept on purpose.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from geotessera.remote.owner import Owner, is_abandoned, this_process

__all__ = [
    "OwnedName",
    "is_temporary_name",
    "remove_left_overs",
    "temporary_path",
    "temporary_stem",
]

_TEMPORARY = re.compile(r"\..+_tmp_[a-z0-9_]+(\.[^.]+)*", re.DOTALL)
_OWNED = re.compile(
    r"\.(.+)_tmp_([0-9a-f]{8})_(\d+)_([0-9a-f]{8})_[0-9a-f]{12}((?:\..+)?)", re.DOTALL
)

_KEPT = (".part", ".part.json")
"""Suffixes of what another run goes on with; see `geotessera.remote.transfer.resume`."""

# 255 bytes is the longest name that common file systems take; the rest is ours.
_LONGEST_STEM = 200

_LOOK_SECONDS = 600
"""How long a directory that was looked through is not looked through again: it may be large."""


class OwnedName(NamedTuple):
    """What the name of an unfinished file says."""

    stem: str
    owner: Owner
    suffix: str

    @classmethod
    def parse(cls, name: str) -> OwnedName | None:
        """Read a name that `temporary_path` made; None for any other."""
        match = _OWNED.fullmatch(name)
        if match is None:
            return None
        return cls(match[1], Owner(match[2], int(match[3]), match[4]), match[5])


def is_temporary_name(name: str) -> bool:
    """Return whether a file name is that of an unfinished file, which discovery ignores."""
    return _TEMPORARY.fullmatch(name) is not None


def temporary_stem(destination: Path) -> str:
    """Return as much of a final name as fits into the temporary ones."""
    return os.fsencode(destination.name)[:_LONGEST_STEM].decode(errors="ignore")


def temporary_path(destination: Path, suffix: str = "") -> Path:
    """Return a name beside a target that nobody else has, and that says whose it is."""
    owner = this_process()
    name = f".{temporary_stem(destination)}_tmp_{owner.host}_{owner.pid}_{owner.start}"
    return destination.with_name(f"{name}_{secrets.token_hex(6)}{suffix}")


def remove_left_overs(directory: Path) -> None:
    """Delete what processes that are gone left unfinished in a directory.

    Files that downloads go on with stay. A directory is looked through once in a while only.
    """
    _looked_through(str(directory.absolute()), int(time.monotonic() // _LOOK_SECONDS))


@lru_cache(maxsize=4096)
def _looked_through(directory: str, _: int) -> None:
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            found = OwnedName.parse(entry.name)
            if found is None or found.suffix in _KEPT or found.owner == this_process():
                continue
            with suppress(OSError):
                if is_abandoned(found.owner, _last_change(entry)):
                    _delete(entry)


def _last_change(entry: os.DirEntry[str]) -> float:
    """Return when a file, or anything in a directory, was changed."""
    last = entry.stat(follow_symlinks=False).st_mtime
    if entry.is_dir(follow_symlinks=False):
        for place, _, names in os.walk(entry.path):
            for name in names:
                with suppress(OSError):
                    last = max(last, (Path(place) / name).lstat().st_mtime)
    return last


def _delete(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        Path(entry.path).unlink()
