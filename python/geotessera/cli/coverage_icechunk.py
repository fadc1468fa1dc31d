"""`geotessera coverage` of a dataset that an Icechunk repository holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.cli.coverage_report import report
from geotessera.cli.errors import describe
from geotessera.datasets import (
    DEFAULT_VERSION,
    dataset_label,
    default_variant,
    find_dataset,
    normalize_version,
    version_path,
)
from geotessera.errors import EmptySelectionError, GeoTesseraError, InputError, RegistryError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from geotessera.cli.coverage_report import Request
    from geotessera.cli.options import DatasetOptions
    from geotessera.cli.output import Output
    from geotessera.coverage.tile_rows import TileRows

__all__ = ["draw_icechunk", "identity_of"]


def identity_of(dataset: DatasetOptions) -> tuple[str, str]:
    """Return version, normalised, and variant; what was not given is the version's default."""
    version = normalize_version(dataset.version or DEFAULT_VERSION)
    return version, dataset.variant or default_variant(version)


def draw_icechunk(
    out: Output, request: Request, dataset: DatasetOptions, location: str | None
) -> None:
    """Draw what became of the tiles of a repository, and report it."""
    from geotessera.coverage.maps import draw_rows
    from geotessera.coverage.region import region_name
    from geotessera.coverage.tile_rows import TileRows

    version, variant = identity_of(dataset)
    name = dataset_label(version, variant)
    table = _rows(out, request, dataset, location, name)
    rows = TileRows.of_table(table)
    region = request.region
    counted = rows if region is None else rows.of(rows.inside(region, rows.boxes))
    if not len(counted):
        where = "" if region is None else f" in {region_name(region)}"
        when = "" if request.year is None else f" of {request.year}"
        raise EmptySelectionError(f"the tile registry of {name} has no tiles{when}{where}")
    draw_rows(
        rows,
        request.picture,
        year=request.year,
        region=region,
        title=f"Tessera Embedding Coverage - {name}",
        **request.look,
    )
    states = _states(counted, request.year)
    # What was read is all there is only if nothing was left out.
    whole = region is None and request.year is None
    found = [rows.coverage(version_path(version), variant)] if whole else []
    report(out, request, found, states=states, name=name)


def _rows(
    out: Output, request: Request, dataset: DatasetOptions, location: str | None, name: str
) -> pd.DataFrame:
    from geotessera.tile_registry import TileRegistry

    known = find_dataset(*identity_of(dataset))
    url = location or (known and known.tile_registry) or ""
    if url.startswith("s3://") and dataset.offline:
        url = str(_kept_parts(url, dataset.cache_dir, name))
    elif url.startswith("s3://") and request.region is None:
        out.note(
            "Warning: without a region the whole tile registry is read, about 140 MB; parts are "
            "kept for later runs. --bbox or --country reads less"
        )
    bbox = None if request.region is None else request.region.bbox
    try:
        registry = TileRegistry(url, dataset.cache_dir)
        with out.progress("Reading the tile registry") as progress:
            return registry.tiles(bbox, request.year, progress)
    except InputError:
        raise
    except (GeoTesseraError, OSError) as error:
        raise RegistryError(
            f"the tile registry of {name} could not be read: {describe(error)} "
            "(--dataset-variant chooses a dataset with tiles, such as cambridge)"
        ) from error


def _kept_parts(url: str, cache_dir: Path | None, name: str) -> Path:
    from geotessera.remote.transfer.refresh import cache_base

    base = cache_base() if cache_dir is None else cache_dir.expanduser()
    kept = base / "tile-registry" / url.removeprefix("s3://")
    if not kept.is_dir():
        raise RegistryError(
            f"offline, and no part of the tile registry of {name} is in {kept}: read it once with "
            "a network, or choose a dataset with tiles by --dataset-variant"
        )
    return kept


def _states(rows: TileRows, year: int | None) -> dict[str, int]:
    import numpy as np

    _, state, words = rows.states(year)
    counts = np.bincount(state, minlength=len(words)).tolist()
    return dict(zip(words, counts, strict=True))
