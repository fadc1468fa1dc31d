"""The directory of tiles: files that change only when their pixels do, and never by halves."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.remote.partfile import writing_to

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from geotessera.webmap.zooms import Tile

__all__ = ["TileTree"]

_RECORD = ".units.jsonl"
_UNFINISHED = ".unfinished"

# Others remove a directory only as often as they empty it; a dangling link never becomes one.
_MOST_TRIES = 1000


class TileTree:
    """The files ``{z}/{x}/{y}.png`` below a directory; any number of threads may write.

    Parameters
    ----------
    directory : path
        It is made when the first tile is written.

    Attributes
    ----------
    directory : Path
    record : Path
        What is known of the tiles, in the same directory so that they go together.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.record = self.directory / _RECORD
        self._unfinished = self.directory / _UNFINISHED
        self._numbers = itertools.count()

    def path(self, tile: Tile) -> Path:
        """Return the file of a tile."""
        return self.directory / tile.path

    def read(self, tile: Tile) -> bytes | None:
        """Return the bytes of a tile; None if there is none."""
        try:
            return self.path(tile).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def state(self, tiles: Iterable[Tile]) -> int | None:
        """Return one number for the sizes and times of files; None if one is missing."""
        found: list[int] = []
        for tile in tiles:
            try:
                status = self.path(tile).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            found += (status.st_size, status.st_mtime_ns)
        return int.from_bytes(hashlib.blake2b(repr(found).encode(), digest_size=8).digest())

    def write(self, tile: Tile, data: bytes) -> bool:
        """Write a tile; return False if it is there with the same bytes, and is left alone."""
        target = self.path(tile)
        with writing_to(target):
            try:
                if target.stat().st_size == len(data) and target.read_bytes() == data:
                    return False
            except FileNotFoundError:
                pass
            part = self._unfinished / str(next(self._numbers))
            try:
                part.write_bytes(data)
            except FileNotFoundError:
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(data)
            _rename(part, target)
        return True

    def remove(self, tile: Tile) -> bool:
        """Remove a tile, and directories that are empty then; return whether it was there."""
        target = self.path(tile)
        with writing_to(target):
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return False
        for directory in (target.parent, target.parent.parent):
            with suppress(OSError):
                directory.rmdir()
        return True

    def begin(self) -> None:
        """Remove what a run that was killed left unfinished."""
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def finish(self) -> None:
        """Remove what nothing needs any more: never leave a directory without a tile."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        if not self._levels():
            self.record.unlink(missing_ok=True)
            with suppress(OSError):
                self.directory.rmdir()

    def _levels(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [one for one in self.directory.iterdir() if one.name.isdecimal() and one.is_dir()]

    def sweep(self) -> int:
        """Remove every file that is named like a tile, whoever made it; return how many."""
        count = 0
        for level in self._levels():
            for column in [one for one in level.iterdir() if one.name.isdecimal()]:
                for tile in column.glob("*.png"):
                    if tile.stem.isdecimal():
                        with writing_to(tile):
                            tile.unlink(missing_ok=True)
                        count += 1
                with suppress(OSError):
                    column.rmdir()
            with suppress(OSError):
                level.rmdir()
        return count


def _rename(part: Path, target: Path) -> None:
    """Give a file its name, in a directory that another thread may find empty, and remove."""
    for _ in range(_MOST_TRIES):
        try:
            part.replace(target)
        except FileNotFoundError:
            if not part.exists():
                raise
            with suppress(FileNotFoundError, FileExistsError):
                target.parent.mkdir(parents=True, exist_ok=True)
        else:
            return
    part.replace(target)
