"""The files of a dataset's coverage: lists of tiles for programs, a texture for globes."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.cells import COLUMNS, ROWS, centre_of_column, centre_of_row
from geotessera.coverage.texture import write_texture
from geotessera.datasets import normalize_version
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.coverage.grid import Coverage

__all__ = [
    "DatasetFiles",
    "document",
    "write_coverage_files",
    "write_index",
    "write_summary",
]

_SCHEMA = 2


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """What was written of a dataset.

    Parameters
    ----------
    coverage : Coverage
        The dataset.
    color : tuple of int
        (red, green, blue) of the dataset among others.
    summary, texture : Path
        The JSON summary and the PNG texture.
    years : tuple of Path
        Lists of tiles, one a year.
    """

    coverage: Coverage
    color: tuple[int, int, int]
    summary: Path
    texture: Path
    years: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return self.summary, self.texture, *self.years


def write_coverage_files(
    coverage: Coverage,
    directory: str | os.PathLike[str],
    color: tuple[int, int, int],
    *,
    tint: bool = False,
) -> DatasetFiles:
    """Write the summary, the lists of tiles and the texture of a dataset.

    Parameters
    ----------
    coverage : Coverage
        The dataset.
    directory : path
        Where to: ``coverage_{id}.json``, ``coverage_{id}_{year}.json`` and
        ``coverage_texture_{id}.png``.
    color : tuple of int
        (red, green, blue) of the dataset among others.
    tint : bool
        Draw the texture in shades of that colour.
    """
    folder, name = Path(directory), coverage.id
    texture = folder / f"coverage_texture_{name}.png"
    write_texture(coverage, texture, color if tint else None)
    summary = folder / f"coverage_{name}.json"
    years = write_summary(coverage, summary, name)
    return DatasetFiles(coverage, color, summary, texture, years)


def write_summary(
    coverage: Coverage, path: str | os.PathLike[str], dataset_id: str | None
) -> tuple[Path, ...]:
    """Write the summary of a dataset, and beside it a list of tiles for each year.

    Returns
    -------
    tuple of Path
        The lists, ``coverage_{dataset_id}_{year}.json`` or ``coverage_{year}.json``.
    """
    prefix = "coverage_" if dataset_id is None else f"coverage_{dataset_id}_"
    years = tuple(Path(path).with_name(f"{prefix}{year}.json") for year in coverage.years)
    for year, target in zip(coverage.years, years, strict=True):
        with atomic_path(target) as temporary:
            temporary.write_text(names_json(coverage.of_year(year)), encoding="ascii")
    summary = {
        "years": list(coverage.years),
        "metadata": coverage.metadata(),
        "dataset_id": dataset_id,
        "year_file_prefix": prefix,
    }
    _write(summary, Path(path))
    return years


def write_index(datasets: Sequence[DatasetFiles], path: str | os.PathLike[str]) -> None:
    """Write ``coverage.json``: which datasets there are, and their files beside it."""
    rows = [
        {
            "id": one.coverage.id,
            "version": normalize_version(one.coverage.version),
            "version_path": one.coverage.version,
            "variant": one.coverage.variant,
            "color": list(one.color),
            "years": list(one.coverage.years),
            "coverage_json": one.summary.name,
            "texture_png": one.texture.name,
        }
        for one in datasets
    ]
    _write({"datasets": rows, "schema_version": _SCHEMA}, Path(path))


def _write(content: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


# --- Lists of tiles ----------------------------------------------------------------------


@functools.cache
def _spellings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(f"{centre_of_column(column):.2f}" for column in range(COLUMNS)),
        tuple(f"{centre_of_row(row):.2f}" for row in range(ROWS)),
    )


@functools.cache
def _as_text() -> tuple[list[int], list[int]]:
    """Return columns and rows as their spellings are sorted.

    No spelling is the beginning of another, so sorting pairs is sorting first by longitude.
    """
    lon, lat = _spellings()
    return (
        sorted(range(COLUMNS), key=lon.__getitem__),
        sorted(range(ROWS), key=lat.__getitem__),
    )


def _by_column(cells: NDArray[np.bool_], order: tuple[Any, Any]) -> list[tuple[str, list[str]]]:
    """Return (longitude, latitudes) of the columns that have any cell, in an order."""
    lon, lat = _spellings()
    columns, rows = (np.asarray(axis) for axis in order)
    columns = columns[cells.any(axis=1)[columns]]
    chosen = cells[columns][:, rows]
    counts = np.count_nonzero(chosen, axis=1)
    names = np.array(lat, dtype=object)[rows][np.nonzero(chosen)[1]].tolist()
    ends = np.cumsum(counts).tolist()
    return [
        (lon[column], names[end - count : end])
        for column, count, end in zip(columns.tolist(), counts.tolist(), ends, strict=True)
    ]


def names_json(cells: NDArray[np.bool_]) -> str:
    """Return the centres of cells as a JSON list of ``"lon,lat"``, sorted as text."""
    parts = [
        # One join a column: five million names take a second.
        f'"{lon},' + f'","{lon},'.join(lats) + '"'
        for lon, lats in _by_column(cells, _as_text())
    ]
    return f"[{','.join(parts)}]"


def document(coverage: Coverage) -> dict[str, Any]:
    """Return a coverage as Python objects.

    Returns
    -------
    dict
        ``tiles``: ``{"lon,lat": [years]}`` by longitude, then latitude; ``no_coverage``: sorted
        ``"lon,lat"`` of land without a tile; ``years``; ``metadata``.
    """
    covered = coverage.covered
    order = np.arange(COLUMNS), np.arange(ROWS)
    names = [f"{lon},{lat}" for lon, lats in _by_column(covered, order) for lat in lats]
    held = coverage.bits[covered]
    patterns, which = np.unique(held, return_inverse=True)
    lists = [
        [year for number, year in enumerate(coverage.years) if bits >> number & 1]
        for bits in patterns.tolist()
    ]
    tiles = {name: lists[at].copy() for name, at in zip(names, which.tolist(), strict=True)}
    land = coverage.land
    bare = [] if land is None else _by_column(land & ~covered, _as_text())
    return {
        "tiles": tiles,
        "no_coverage": [f"{lon},{lat}" for lon, lats in bare for lat in lats],
        "years": list(coverage.years),
        "metadata": coverage.metadata(),
    }
