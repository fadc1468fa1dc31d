"""``tiles.json``: what a map's tiles were made of, and what lies beside them."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.remote.locks import try_lock
from geotessera.remote.partfile import writing_to
from geotessera.stages import read_stage, save_stage
from geotessera.webmap.zooms import check_zooms

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RECORD", "SCHEMA", "Note", "read_scheme"]

SCHEMA = 2
"""Of ``tiles.json``; 1 is upstream's, whose rows are counted from the south."""

RECORD = "tiles.json"


class Note:
    """A map's ``tiles.json``, as the last run left it.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    before : dict
        What it says; empty if there is none, or it cannot be read.
    complete : bool
        Whether the last run came to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._take()

    def _take(self) -> None:
        found = read_stage(self.path)
        self.before: dict[str, Any] = found if isinstance(found, dict) else {}
        self.complete = self.before.get("complete") is True

    def former(self, now: str) -> list[Path]:
        """Return directories of tiles of earlier runs, other than the one of now."""
        kept = self.before.get("former")
        names = [*(kept if isinstance(kept, list) else []), self.before.get("directory")]
        if self.before.get("schema") != SCHEMA:
            return []
        # Beside the note: a file says this, and others may have written it.
        found = {name for name in names if isinstance(name, str) and Path(name).name == name}
        return [self.path.parent / name for name in sorted(found - {"", "..", now})]

    def says(self, what: dict[str, Any]) -> bool:
        """Whether it says all of this."""
        return all(self.before.get(key) == value for key, value in what.items())

    def relative(self, path: Path | None) -> str | None:
        """Return the way to a path from the note."""
        if path is None:
            return None
        return Path(os.path.relpath(path, self.path.parent)).as_posix()

    def begin(self, what: dict[str, Any], **more: Any) -> None:
        """Say what is being made, and that it is not finished."""
        # What there may be of an earlier run is to go, or to be made anew, by the next one too.
        names = "packs", "pmtiles"
        kept: dict[str, Any] = {key: self.before[key] for key in names if key in self.before}
        kept["former"] = [one.name for one in self.former(what["directory"])]
        save_stage(self.path, what | kept | more | {"complete": False})

    def finish(self, what: dict[str, Any]) -> None:
        """Say what was made."""
        if self.before != what | {"complete": True}:
            save_stage(self.path, what | {"complete": True})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the note's directory; make it if it is missing.

        Raises
        ------
        InputError
            (a `ValueError`) if another process makes the same map now.
        """
        directory = self.path.parent
        with writing_to(self.path):
            directory.mkdir(parents=True, exist_ok=True)
        if os.name != "posix":  # a directory cannot be opened: nobody is kept out
            yield
            return
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            if not try_lock(descriptor):
                raise InputError(f"{directory} is being made by another process")
            self._take()  # another process may have been at work until now
            yield
        finally:
            os.close(descriptor)


def read_scheme(tiles: str | os.PathLike[str]) -> tuple[str, tuple[int, int] | None, Any]:
    """Return how the rows of a directory of tiles are counted, its zooms and its bounds.

    Parameters
    ----------
    tiles : path
        The directory.

    Returns
    -------
    tuple
        ``"xyz"`` where ``tiles.json``, in the directory or beside it, says so, else
        ``"tms"``, as gdal2tiles counts; zooms and bounds are None where nothing says them.
    """
    directory = Path(tiles).absolute()
    for place in (directory / RECORD, directory.parent / RECORD):
        found = read_stage(place)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            continue
        if place.parent == directory or found.get("directory") == directory.name:
            scheme = "tms" if found.get("scheme") == "tms" else "xyz"
            return scheme, _zooms_of(found.get("zoom")), _bounds_of(found.get("bounds"))
    return "tms", None, None


def _zooms_of(value: Any) -> tuple[int, int] | None:
    try:
        return check_zooms(value)
    except InputError:
        return None


def _bounds_of(value: Any) -> list[float] | None:
    plain = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    if not plain or len(value) != 4 or not all(map(math.isfinite, value)):
        return None
    west, south, east, north = value
    whole = -180 <= west <= 180 and -180 <= east <= 180 and west != east
    return value if whole and -90 <= south < north <= 90 else None
