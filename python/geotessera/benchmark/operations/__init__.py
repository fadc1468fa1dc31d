"""All operations, by topic."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from geotessera.benchmark.operations import (
    downloads,
    exports,
    kernels,
    mosaics,
    pictures,
    registries,
    sampling,
    stores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.benchmark.model import Operation

__all__ = ["OPERATIONS", "select"]

OPERATIONS: tuple[Operation, ...] = (
    *kernels.OPERATIONS,
    *registries.OPERATIONS,
    *sampling.OPERATIONS,
    *mosaics.OPERATIONS,
    *exports.OPERATIONS,
    *downloads.OPERATIONS,
    *stores.OPERATIONS,
    *pictures.OPERATIONS,
)
"""In the order of the report."""


def select(patterns: Sequence[str] = (), *, quick: bool = False) -> list[Operation]:
    """Return the operations whose name matches one of the patterns.

    Parameters
    ----------
    patterns : sequence of str
        As of a shell (``"mosaic.*"``), or the beginning of names up to a dot (``"mosaic"``).
        None means all.
    quick : bool
        Leave out what takes long.
    """
    chosen = [one for one in OPERATIONS if one.quick or not quick]
    if not patterns:
        return chosen
    return [one for one in chosen if any(_matches(one.name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
