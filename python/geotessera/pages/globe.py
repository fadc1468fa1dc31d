"""The globe of coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotessera.datasets import dataset_label, version_path
from geotessera.errors import InputError
from geotessera.pages.assemble import deflated, write_page
from geotessera.pages.outlines import packed_countries

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["GlobeDataset", "write_globe"]

_SHAPE = (1800, 3600)
_COMMAND = (
    "geotessera download --tile={lon},{lat} --year {year} --dataset-version {version} "
    "--dataset-variant {variant} -o {name}"
)
_COUNTRY_COMMAND = (
    "geotessera download --country {country} --year {year} --dataset-version {version} "
    "--dataset-variant {variant} -o {country}"
)


@dataclass(frozen=True, eq=False)
class GlobeDataset:
    """Which tiles of a dataset exist, and in which years.

    Parameters
    ----------
    id : str
        Such as ``v1.1_cambridge``; unique on a globe.
    version, variant : str
        Of the dataset.
    color : tuple of int or None
        Tint (red, green, blue); without one colours tell years apart.
    years : sequence of int
        In ascending order, at most 32.
    grid : ndarray of shape (1800, 3600), uint8, uint16 or uint32
        One value a 0.1° cell, rows from the north, columns from -180°; bit i is set where
        the tile exists in ``years[i]``.
    """

    id: str
    version: str
    variant: str
    color: tuple[int, int, int] | None
    years: Sequence[int]
    grid: npt.NDArray[np.unsignedinteger[Any]]


def _packed(dataset: GlobeDataset) -> tuple[dict[str, Any], str]:
    """Return what the page says of a dataset, and its grid as bit planes.

    The union of all years, then what each year lacks of it, 8 cells a byte: of 1.6 million
    tiles in 9 years that is 0.3 MB deflated; the masks as they are take a sixth more.
    """
    import numpy as np

    years, grid = list(dataset.years), np.asarray(dataset.grid)
    if grid.shape != _SHAPE or grid.dtype.kind != "u":
        raise InputError(
            f"the grid of {dataset.id} is {grid.dtype} of shape {grid.shape}: "
            f"expected unsigned integers of shape {_SHAPE}"
        )
    if not years or years != sorted(set(years)) or len(years) > min(32, 8 * grid.itemsize):
        raise InputError(
            f"the years of {dataset.id} are {years}: expected ascending ones, as many as the grid "
            f"of {grid.dtype} has bits or fewer"
        )
    union, full = grid != 0, np.ones(_SHAPE, bool)
    planes, counts = [np.packbits(union)], []
    for bit in range(len(years)):
        has = (grid >> bit) & 1 != 0
        counts.append(int(has.sum()))
        full &= has
        planes.append(np.packbits(union & ~has))
    if (grid >> (len(years) - 1) >> 1).any():
        raise InputError(f"the grid of {dataset.id} has bits beyond its {len(years)} years")
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    box = None
    if len(rows) and columns[-1] - columns[0] < 1800:  # most of the globe needs no zoom
        west, east = columns[0] / 10 - 180, (columns[-1] + 1) / 10 - 180
        box = [float(v) for v in (west, 90 - (rows[-1] + 1) / 10, east, 90 - rows[0] / 10)]
    facts = {
        "id": dataset.id,
        "label": dataset_label(dataset.version, dataset.variant),
        "version": version_path(dataset.version),
        "variant": dataset.variant,
        "color": list(dataset.color) if dataset.color else None,
        "years": years,
        "box": box,
        "counts": {"all": int(union.sum()), "full": int(full.sum()), "years": counts},
    }
    # Level 6 is ten times as fast as 9, for an eighth more bytes.
    return facts, deflated(b"".join(plane.tobytes() for plane in planes), 6)


def write_globe(
    output_html: str | os.PathLike[str],
    datasets: Sequence[GlobeDataset],
    *,
    title: str = "TESSERA coverage",
    selected: str | None = None,
    command: str = _COMMAND,
    country_command: str = _COUNTRY_COMMAND,
) -> Path:
    """Write the page that shows on a globe which tiles exist in which years.

    One file: MapLibre GL JS, outlines and grids are inside, so that it opens from a disk
    without a network.

    Parameters
    ----------
    output_html : path
        The page.
    datasets : sequence of GlobeDataset
        At least one.
    title : str, optional
        Plain text.
    selected : str, optional
        The dataset that is shown first, by id; by default the first one.
    command : str, optional
        How a tile is downloaded, with ``{lon}``, ``{lat}``, ``{name}``, ``{year}``, ``{version}``
        and ``{variant}``; the page shows it for a chosen tile.
    country_command : str, optional
        How a country is downloaded, with ``{country}`` (its ISO code) and the last three.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        (a `ValueError`) without datasets, for two of one id, an unknown selection, or a grid of
        another shape or type.
    """
    ids = [dataset.id for dataset in datasets]
    if not ids or len(set(ids)) != len(ids):
        raise InputError(f"a globe needs datasets with ids of their own (found {ids})")
    if selected is not None and selected not in ids:
        raise InputError(f"no dataset is {selected!r}: expected one of {', '.join(ids)}")
    parts = {"countries-data": packed_countries(0.03, 0.005)}
    described = []
    for number, dataset in enumerate(datasets):
        facts, parts[f"grid-{number}"] = _packed(dataset)
        described.append(facts | {"part": f"grid-{number}"})
    data = {
        "title": title,
        "datasets": described,
        "selected": selected or ids[0],
        "command": command,
        "countryCommand": country_command,
    }
    return write_page(output_html, "globe", title, data, parts)
