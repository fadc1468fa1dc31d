"""Unfinished files whose writers are gone: found, and gone on with.

A file belongs to the process in its name. It is taken over by renaming it, which only one
can do, when that process is gone. File locks are not used: on network file systems they
may succeed for everyone.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from geotessera.remote.owner import is_gone, this_process
from geotessera.remote.temporary import OwnedName
from geotessera.remote.transfer.resume import PART, SIDECAR, ResumableFile, delete, is_mine

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geotessera.remote.transfer.request import FileRequest

__all__ = ["LeftOver", "discard_certain", "left_overs", "take_over"]

logger = logging.getLogger(__name__)


class LeftOver(NamedTuple):
    """An unfinished file whose writer is gone, certainly or by all appearance."""

    path: Path
    certain: bool


def left_overs(directory: Path) -> dict[str, list[LeftOver]]:
    """Return the files in a directory that can be taken over, by the stem of their target."""
    found: dict[str, list[LeftOver]] = {}
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            path = directory / entry.name.removesuffix(SIDECAR)
            name = OwnedName.parse(path.name)
            if name is None or name.suffix != PART:
                continue
            if entry.name.endswith(SIDECAR) and path.exists():
                continue  # it is found by the file itself; alone, it is to be deleted
            gone = _is_left(name, entry, path)
            if gone is not False:
                found.setdefault(name.stem, []).append(LeftOver(path, certain=gone is True))
    return found


def _is_left(name: OwnedName, entry: os.DirEntry[str], path: Path) -> bool | None:
    if name.owner == this_process():
        return not is_mine(path)
    try:
        return is_gone(name.owner, entry.stat().st_mtime)
    except OSError:
        return False


def discard_certain(candidates: Iterable[LeftOver]) -> None:
    """Delete unfinished files that nobody can go on with, if their writers are surely gone."""
    for candidate in candidates:
        if candidate.certain:
            delete(candidate.path)


def take_over(
    request: FileRequest, candidates: Iterable[LeftOver], block: int
) -> ResumableFile | None:
    """Return the best of some unfinished files as this process's own, or None.

    What cannot be used is deleted. Of the one that can, only blocks that have their
    recorded digest are kept.

    Parameters
    ----------
    request : FileRequest
        What is wanted; `request.size` must agree with the record.
    candidates : iterable of LeftOver
        From `left_overs`, for the request's file.
    block : int
        Bytes of a block.
    """
    best: ResumableFile | None = None
    for candidate in candidates:
        try:
            taken = _take(request, candidate, block)
        except OSError as error:
            logger.debug("%s cannot be taken over: %s", candidate.path, error)
            continue
        if taken is None:
            continue
        if best is None or len(taken.whole) > len(best.whole):
            best, taken = taken, best
        if taken is not None:
            taken.discard()
    return best


def _take(request: FileRequest, candidate: LeftOver, block: int) -> ResumableFile | None:
    file = ResumableFile(request.dest, block)
    try:
        if file.adopt(candidate.path, copy=not candidate.certain) and file.load(request):
            return file
    except BaseException:
        file.abandon()
        raise
    file.discard()
    return None
