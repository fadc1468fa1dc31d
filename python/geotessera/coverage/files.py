"""The files of a dataset's coverage: lists of tiles for programs, a texture for globes."""

from __future__ import annotations

import functools
import gc
import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from geotessera.cells import COLUMNS, ROWS, centre_of_column, centre_of_row
from geotessera.coverage.texture import write_texture
from geotessera.datasets import normalize_version
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.coverage.grid import Coverage

__all__ = [
    "DatasetFiles",
    "Listing",
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
    coverage: Coverage,
    path: str | os.PathLike[str],
    dataset_id: str | None,
    listing: Listing | None = None,
) -> tuple[Path, ...]:
    """Write the summary of a dataset, and beside it a list of tiles for each year.

    Parameters
    ----------
    coverage : Coverage
        The dataset.
    path : path
        The summary.
    dataset_id : str, optional
        Of the dataset among others.
    listing : Listing, optional
        Its tiles, if they have been listed before.

    Returns
    -------
    tuple of Path
        The lists, ``coverage_{dataset_id}_{year}.json`` or ``coverage_{year}.json``.
    """
    prefix = "coverage_" if dataset_id is None else f"coverage_{dataset_id}_"
    years = tuple(Path(path).with_name(f"{prefix}{year}.json") for year in coverage.years)
    tiles = Listing.of(coverage.bits) if listing is None else listing
    for number, target in enumerate(years):
        with atomic_path(target) as temporary:
            temporary.write_bytes(tiles.json(number).encode("ascii"))
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


@dataclass(frozen=True, eq=False)
class Listing:
    """The tiles of a dataset, sorted as text; made once for all that is written of them.

    Parameters
    ----------
    names : list of str
        Centres, such as ``"0.15,52.05"``.
    bits : ndarray of unsigned int, shape (N,)
        Their years, as `Coverage.bits` has them.
    """

    names: list[str]
    bits: NDArray[np.unsignedinteger[Any]]

    @classmethod
    def of(cls, bits: NDArray[Any]) -> Self:
        """List the cells of an array, shape (3600, 1800), that are not 0."""
        lon, lat = _spellings()
        columns, rows = map(np.array, _as_text())
        columns = columns[bits.any(axis=1)[columns]]
        chosen = bits[columns][:, rows]
        counts = np.count_nonzero(chosen, axis=1)
        lats = np.array(lat, dtype=object)[rows[np.nonzero(chosen)[1]]].tolist()
        ends = np.cumsum(counts).tolist()
        # A join a column, and one split: a third of the time of a format a tile.
        parts = [
            f"{lon[column]}," + f"\n{lon[column]},".join(lats[end - count : end])
            for column, count, end in zip(columns.tolist(), counts.tolist(), ends, strict=True)
        ]
        return cls("\n".join(parts).split("\n") if parts else [], chosen[chosen != 0])

    def json(self, bit: int = 0) -> str:
        """Return the tiles of the year of a bit as a JSON list."""
        has = ((self.bits >> self.bits.dtype.type(bit)) & self.bits.dtype.type(1)).astype(np.uint8)
        text = '","'.join(compress(self.names, has.tobytes()))
        return f'["{text}"]' if text else "[]"


@contextmanager
def _without_collection() -> Iterator[None]:
    """Make millions of objects that all stay: to look for garbage would take half the time."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def document(coverage: Coverage, listing: Listing | None = None) -> dict[str, Any]:
    """Return a coverage as Python objects.

    Parameters
    ----------
    coverage : Coverage
        The dataset.
    listing : Listing, optional
        Its tiles, if they have been listed before.

    Returns
    -------
    dict
        ``tiles``: ``{"lon,lat": [years]}``; ``no_coverage``: land without a tile; both sorted as
        text; ``years``; ``metadata``.
    """
    land = coverage.land
    with _without_collection():
        tiles = Listing.of(coverage.bits) if listing is None else listing
        patterns, which = np.unique(tiles.bits, return_inverse=True)
        years = [
            [year for number, year in enumerate(coverage.years) if bits >> number & 1]
            for bits in patterns.tolist()
        ]
        lists = map(list.copy, map(years.__getitem__, which.tolist()))
        bare = None if land is None else Listing.of(land & ~coverage.covered)
        return {
            "tiles": dict(zip(tiles.names, lists, strict=True)),
            "no_coverage": [] if bare is None else bare.names,
            "years": list(coverage.years),
            "metadata": coverage.metadata(),
        }
