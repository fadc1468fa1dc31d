"""Coverage on the globe page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.pages import GlobeDataset, write_globe

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path

    from geotessera.coverage.grid import Coverage

__all__ = ["write_coverage_globe"]


def write_coverage_globe(
    path: str | os.PathLike[str],
    found: Iterable[tuple[Coverage, tuple[int, int, int] | None]],
) -> Path:
    """Write the page that shows datasets on a globe; it needs no other file and no network.

    Parameters
    ----------
    path : path
        The page.
    found : iterable of (Coverage, color)
        Datasets, each with its tint; with None colours tell its years apart.

    Returns
    -------
    Path
        The page.
    """
    datasets = [
        # Pages count rows from the north and have them first.
        GlobeDataset(one.id, one.version, one.variant, color, one.years, one.bits.T[::-1])
        for one, color in found
    ]
    return write_globe(path, datasets)
