"""What is finished of a mosaic that is being made, so that the next run goes on from there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.remote.disk import append_line
from geotessera.remote.locks import try_lock
from geotessera.remote.partfile import writing_to
from geotessera.remote.temporary import temporary_stem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geotessera.tiff.file import Entry, Place

__all__ = ["InProgressError", "Record", "check_idle", "work_path"]


class InProgressError(InputError):
    """Another process makes the same file: what it has beside it is to be left alone."""


def work_path(target: Path, suffix: str) -> Path:
    """Return where the unfinished parts of a target are: beside it, hidden."""
    return target.with_name(f".{temporary_stem(target)}_tmp_mosaic{suffix}")


class Record:
    """The finished blocks of one target, a line each; only one process may hold it.

    A line is written after the block's bytes, and has their CRC-32: a block that a power
    failure took away after its line was written is found out when the run goes on.

    Parameters
    ----------
    target : Path
        The mosaic that is made.
    identity : str
        What decides its bytes; a record of anything else is begun anew.
    resume : bool
        Whether to go on from what is there.
    path : Path, optional
        The record's own file; by default a hidden one beside the target.

    Raises
    ------
    InProgressError
        (an `InputError` and `ValueError`) if another process makes the same mosaic now.
    UnwritableDestination
        (an `OSError`) if the record cannot be written.

    Attributes
    ----------
    fresh : bool
        Whether nothing was there to go on from.
    """

    def __init__(
        self, target: Path, identity: str, *, resume: bool = True, path: Path | None = None
    ) -> None:
        self.target = target
        self.path = path or work_path(target, ".jsonl")
        self._entries: dict[Place, Entry] = {}
        with writing_to(target):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
        try:
            self._lock()
            lines = self._lines()
            self.fresh = not resume or lines[:1] != [[identity]]
            for found in [] if self.fresh else lines[1:]:
                file, level, row, column, *entry = (int(str(value)) for value in found)
                self._entries[file, level, row, column] = tuple(entry)
            with writing_to(target):
                os.ftruncate(self._descriptor, 0 if self.fresh else self._whole)
                if self.fresh:
                    append_line(self._descriptor, _line([identity]))
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self) -> None:
        if not try_lock(self._descriptor):
            raise InProgressError(f"{self.target} is being made by another process")

    def _lines(self) -> list[list[object]]:
        """Return the lines that are whole: the last one may be cut off."""
        found: list[list[object]] = []
        self._whole = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            for line in file:
                try:
                    values = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    values = None
                whole = isinstance(values, list) and (
                    not found or (len(values) > 3 and all(isinstance(one, int) for one in values))
                )
                if not whole:
                    break
                found.append(values)  # type: ignore[arg-type]
                self._whole += len(line)
        return found

    def __contains__(self, place: Place) -> bool:
        return place in self._entries

    def __getitem__(self, place: Place) -> Entry:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[Place, Entry]]:
        """Return all finished blocks."""
        return list(self._entries.items())

    def add(self, place: Place, entry: Entry) -> None:
        """Record a finished block; from any thread."""
        with writing_to(self.target):
            append_line(self._descriptor, _line([*place, *entry]))
        self._entries[place] = entry

    def forget(self, place: Place) -> None:
        """Take a block that turned out to be damaged as not made; it is made again."""
        self._entries.pop(place, None)

    def close(self) -> None:
        """Let go of the record; it stays for the next run."""
        os.close(self._descriptor)

    def discard(self) -> None:
        """Delete the record: the mosaic is whole."""
        with suppress(OSError):
            self.path.unlink()
        self.close()


def check_idle(target: Path) -> None:
    """Raise `InProgressError` if another process makes a mosaic now."""
    with suppress(OSError):
        descriptor = os.open(work_path(target, ".jsonl"), os.O_RDWR)
        try:
            idle = try_lock(descriptor)
        finally:
            os.close(descriptor)
        if not idle:
            raise InProgressError(f"{target} is being made by another process")


def _line(values: Sequence[object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
