"""A registry of published proportions: most tiles are of one year, a third as many of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geotessera.benchmark.worlds.registries import write_registries

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["build"]

SHARE = 0.346
"""Of all rows, those of 2024."""

YEARS = tuple(range(2017, 2026))


def build(root: Path, count: int) -> None:
    """Write a registry of about `count` rows; its land lies in blobs of 10°."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(3)
    columns, rows = np.meshgrid(np.arange(3600), np.arange(1800), indexing="ij")
    continents = rng.random((36, 18))
    continents[17:19, 14:16] = 0  # Britain, which is asked for, is on land
    land = continents.repeat(100, 0).repeat(100, 1)
    order = np.argsort(land.ravel(), kind="stable")[: max(3600 * 1800 // 4, 4)]
    lon = np.round(columns.ravel()[order] / 10 - 179.95, 2)
    lat = np.round(rows.ravel()[order] / 10 - 89.95, 2)
    city = np.flatnonzero((np.abs(lon - 0.15) < 0.2) & (np.abs(lat - 52.25) < 0.2))
    chosen = []
    for year in YEARS:
        share = SHARE if year == 2024 else (1 - SHARE) / (len(YEARS) - 1)
        some = np.sort(rng.choice(len(lon), min(round(count * share), len(lon)), replace=False))
        some = np.union1d(some, city) if year == 2024 else some
        some = some[np.lexsort((lat[some], lon[some]))]
        chosen.append((np.full(len(some), year), some))
    years = np.concatenate([year for year, _ in chosen])
    index = np.concatenate([some for _, some in chosen])
    sizes = np.full((len(index), 2), (106_000_000, 3_300_000))
    write_registries(root, years, lon[index], lat[index], sizes)
