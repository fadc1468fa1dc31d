"""Markers of finished stages: small JSON files that say what an output was made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["file_identity", "read_stage", "save_stage", "stage_matches"]


def file_identity(
    path: str | os.PathLike[str], relative_to: str | os.PathLike[str] | None = None
) -> list[Any]:
    """Return what tells a file from another: [path, size in bytes, mtime in ns].

    Parameters
    ----------
    path : path
        Of a file that exists; `FileNotFoundError` otherwise.
    relative_to : path, optional
        A directory: the path is then the way there from it, with forward slashes, so that
        both may move together. By default it is absolute.
    """
    found = Path(path).stat()
    place = Path(path).resolve()
    name = str(place)
    if relative_to is not None:
        root = Path(relative_to).resolve()
        if place.drive == root.drive:  # there is no way from one drive to another
            name = Path(os.path.relpath(place, root)).as_posix()
    return [name, found.st_size, found.st_mtime_ns]


def read_stage(path: str | os.PathLike[str]) -> Any:
    """Return what a marker says; None if there is none, or it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def stage_matches(path: str | os.PathLike[str], expected: Mapping[str, Any]) -> bool:
    """Whether a marker says exactly what is expected."""
    found = read_stage(path)
    # As JSON has it: tuples are lists there, and keys text.
    return found is not None and found == json.loads(json.dumps(expected))


def save_stage(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a marker, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(state), encoding="utf-8")
