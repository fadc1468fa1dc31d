"""Writes the tile registry that lies beside an Icechunk repository: Parquet, a part a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.testing.store_pixels import PIXEL, to_lonlat
from geotessera.testing.terrain import _hash
from geotessera.types import Window

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from geotessera.types import GridSpec

__all__ = ["write_tile_registry"]

_RUNS = ("run-b", "run-a")
"""Names of the first and the second run."""


def write_tile_registry(
    directory: str | os.PathLike[str],
    groups: Mapping[str, GridSpec],
    years: Iterable[int],
    *,
    tile_px: int = 2048,
    reruns: bool = True,
) -> list[dict[str, Any]]:
    """Write ``zone={zz}{N|S}/year={yyyy}/{run}.parquet`` for the groups of a repository.

    Of each part's tiles, some are embedded, some refused more than half of their pixels,
    some have nulls and some were not embedded at all.

    Parameters
    ----------
    directory : path
        The registry's location, which ends in ``parts`` where it is published.
    groups : mapping of str to GridSpec
        Names and grids, as `SampleRepository.groups` has them.
    years : iterable of int
        A part for each.
    tile_px : int
        Side of a tile in pixels.
    reruns : bool
        Whether a second, later run assembled every third tile again. It sorts before the
        first by name, so that only `assembled_at` tells which is the latest.

    Returns
    -------
    list of dict
        The latest row of each (zone, year, tile), with ``zone`` and ``year``, in the order
        of groups, years, rows and columns.
    """
    latest = []
    for zone, grid in groups.items():
        for year in years:
            part = Path(directory) / f"zone={zone}" / f"year={year}"
            part.mkdir(parents=True, exist_ok=True)
            rows: dict[str, dict[str, Any]] = {}
            for repeat in range(1 + reruns):
                tiles = _tiles(grid, tile_px)[:: 3 if repeat else 1]
                made = [_row(zone, grid, year, tile, tile_px, repeat) for tile in tiles]
                _write(part / f"{_RUNS[repeat]}.parquet", made)
                rows |= {row["tile"]: row for row in made}
            latest += [{**row, "zone": zone, "year": year} for row in rows.values()]
    return latest


def _tiles(grid: GridSpec, tile_px: int) -> list[Window]:
    return [
        Window(row, col, min(tile_px, grid.height - row), min(tile_px, grid.width - col))
        for row in range(0, grid.height, tile_px)
        for col in range(0, grid.width, tile_px)
    ]


def _row(
    zone: str, grid: GridSpec, year: int, tile: Window, tile_px: int, repeat: int
) -> dict[str, Any]:
    part = grid.window(tile)
    left, bottom, right, top = part.bounds
    edge = np.linspace(0, 1, 11)
    x = np.concatenate([left + edge * (right - left)] * 2 + [np.repeat([left, right], 11)])
    y = np.concatenate(
        [np.repeat([bottom, top], 11), *[bottom + edge * (top - bottom)] * 2],
    )
    lon, lat = to_lonlat(part, x, y)
    middle = int(zone[:2]) * 6 - 183
    # Continuous round the zone's middle, then back to -180 … 180: west > east at 180°.
    turned = (lon - middle + 180) % 360 - 180 + middle
    west, east = ((float(side) + 180) % 360 - 180 for side in (turned.min(), turned.max()))
    place = np.array([round(left / PIXEL)])
    draw = int(_hash(place, round(top / PIXEL), year, repeat)[0] % 8)
    eligible = tile.height * tile.width
    refused = {0: 0.9, 1: 0.6, 2: 0.5}.get(draw, 0.1)
    embedded = draw != 3
    return {
        "run_id": _RUNS[repeat],
        "tile": f"chunk_{tile.row // tile_px}_{tile.col // tile_px}",
        "assembled_at": f"2026-0{1 + repeat}-15T12:00:0{draw}+00:00",
        "chunk_px": tile_px,
        "embedded": embedded,
        "refused_px": None if draw == 4 else math.floor(eligible * refused),
        "eligible_px": None if draw in (4, 5) else (0 if draw == 6 else eligible),
        "refused_no_optical_px": 0,
        "refused_thin_px": 0,
        "refused_no_radar_px": 0,
        "px_with_any_optical": eligible,
        "obs_max": 90,
        "median_obs_where_any": 45.0,
        "px_with_any_radar": eligible,
        "radar_rule_enforced": True,
        "optical_min_obs": 15,
        "code_version": "1.0.0",
        "code_commit": "0" * 40,
        "bbox_west": west,
        "bbox_south": float(lat.min()),
        "bbox_east": east,
        "bbox_north": float(lat.max()),
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    for name in ("refused_px", "eligible_px"):  # a part may hold nothing but nulls
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.int64()))
    pq.write_table(table, path)
