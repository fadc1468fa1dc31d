"""Packs: tiles as scripts, for pages that are opened from a disk.

A page from ``file://`` may not fetch files, nor read the pixels of images that it shows; it
may load scripts. ``{z}/{x8}_{y8}.js`` hands over 8 × 8 tiles at once, in XYZ numbering.
"""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from geotessera.remote.partfile import atomic_path
from geotessera.webmap.zooms import Tile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from pathlib import Path

    from geotessera.types import ProgressCallback
    from geotessera.webmap.tree import TileTree

__all__ = ["TEMPLATE", "remove_packs", "write_packs"]

TEMPLATE = "{z}/{x8}_{y8}.js"
"""Names of packs below their directory."""

_FUNCTION = "geotesseraTiles"

_NAME = re.compile(r"\d+_\d+\.js")


def write_packs(
    tree: TileTree,
    tiles: Iterable[Tile],
    directory: Path,
    changed: Set[tuple[int, int, int]] | None = None,
    progress: ProgressCallback | None = None,
) -> int:
    """Write the packs of a directory of tiles, and remove those without a tile.

    Parameters
    ----------
    tree : TileTree
        The tiles' files.
    tiles : iterable of Tile
        All that there are.
    directory : Path
        Where packs go.
    changed : set of (zoom, column, row), optional
        The packs that are not as they were; others are written only if they are missing, or
        have not the size that they should have. By default all are.
    progress : callable, optional
        Called with (packs done, packs in all, status text).

    Returns
    -------
    int
        Packs written.
    """
    groups = list(_groups(tiles))
    written = 0
    kept: set[Path] = set()
    for done, (key, members) in enumerate(groups):
        z, x8, y8 = key
        path = directory / TEMPLATE.format(z=z, x8=x8, y8=y8)
        kept.add(path)
        if changed is None or key in changed or not _is_whole(path, tree, z, members):
            written += _write(path, _script(tree, z, members))
        if progress is not None:
            progress(done + 1, len(groups), "tiles as scripts")
    _remove_others(directory, kept)
    return written


def _groups(
    tiles: Iterable[Tile],
) -> Iterator[tuple[tuple[int, int, int], list[tuple[int, int]]]]:
    """Yield packs, and the columns and rows of their tiles."""
    # Millions of tiles are three columns of numbers here, and no objects.
    numbers = np.fromiter((number for tile in tiles for number in tile), np.int32).reshape(-1, 3)
    z, x, y = numbers.T
    order = np.lexsort((x, y, x >> 3, y >> 3, z))
    keys = np.column_stack([z, x >> 3, y >> 3])[order]
    ends = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    for part in np.split(order, ends):
        if len(part):
            first = numbers[part[0]]
            members = [(int(a), int(b)) for a, b in numbers[part, 1:]]
            yield (int(first[0]), int(first[1]) >> 3, int(first[2]) >> 3), members


def _script(tree: TileTree, z: int, members: list[tuple[int, int]]) -> bytes:
    parts = []
    for x, y in members:
        data = tree.read(Tile(z, x, y))
        if data is not None:
            parts.append(b'"%d/%d/%d":"%s"' % (z, x, y, base64.b64encode(data)))
    return b"%s({\n%s\n});\n" % (_FUNCTION.encode(), b",\n".join(parts))


def _is_whole(path: Path, tree: TileTree, z: int, members: list[tuple[int, int]]) -> bool:
    """Whether a pack has the size that its tiles make."""
    size = len(b"%s({\n\n});\n" % _FUNCTION.encode()) - len(b",\n")
    for x, y in members:
        with suppress(OSError):
            encoded = -(-tree.path(Tile(z, x, y)).stat().st_size // 3) * 4
            size += len(b'"%d/%d/%d":"",\n' % (z, x, y)) + encoded
    with suppress(OSError):
        return path.is_file() and path.stat().st_size == size
    return False


def _write(path: Path, script: bytes) -> bool:
    with suppress(FileNotFoundError):
        if path.stat().st_size == len(script) and path.read_bytes() == script:
            return False
    with atomic_path(path) as temporary:
        temporary.write_bytes(script)
    return True


def _remove_others(directory: Path, kept: Set[Path]) -> None:
    if not directory.is_dir():
        return
    for level in [one for one in directory.iterdir() if one.name.isdecimal()]:
        for pack in level.glob("*.js"):
            if pack not in kept and _NAME.fullmatch(pack.name):
                pack.unlink(missing_ok=True)
        with suppress(OSError):
            level.rmdir()


def remove_packs(directory: Path) -> None:
    """Remove a directory of packs: they would show what the tiles no longer do.

    Whatever else is in it stays: which directory it is may be read from a file.
    """
    _remove_others(directory, set())
    with suppress(OSError):
        directory.rmdir()
