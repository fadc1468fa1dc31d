"""The rasters of `geotessera visualize`: those of a path, or of a region of a dataset."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geotessera.cli.errors import describe
from geotessera.errors import EmptySelectionError, InputError, TileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geotessera.cli.options import DatasetOptions
    from geotessera.cli.output import Output
    from geotessera.pictures import Look, PictureInput
    from geotessera.regions import Region

__all__ = ["Job", "rasters"]

_YEAR = 2024
"""Of a region, where no year is given."""


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for."""

    source: Path | None
    output: Path
    region: Region | None
    year: int | None
    look: Look | None
    model: Path | None
    save_model: Path | None
    crs: str
    resolution: float | None
    method: str
    georeference: str
    clip: bool
    mask_water: bool
    png: bool
    directory: Path | None
    jobs: int


@contextmanager
def rasters(
    output: Output, job: Job, dataset: DatasetOptions, options: dict[str, Any]
) -> Iterator[PictureInput]:
    """Yield the rasters, all of them here; what was fetched for them goes afterwards."""
    if job.source is not None:
        yield _local(job, job.source)
        return
    from geotessera.remote.partfile import workplace

    with workplace(job.output) as directory:
        yield _of_dataset(output, job, dataset, options, directory)


def _local(job: Job, path: Path) -> PictureInput:
    from geotessera.pictures import LAYOUTS, rasters_below

    snapped = job.georeference == "snapped"
    if not path.exists():
        raise InputError(f"No tiles found: there is no {path}; expected a file or a directory")
    found = rasters_below(
        path,
        year=job.year,
        region=job.region,
        georeference="snapped" if snapped else "landmask",
    )
    if not found.rasters:
        where = f" in the region ({job.region.name or 'box'})" if job.region is not None else ""
        when = f" of {job.year}" if job.year is not None else ""
        raise EmptySelectionError(f"No tiles{when} found in {path}{where}; expected {LAYOUTS}")
    return found


def _of_dataset(
    output: Output,
    job: Job,
    dataset: DatasetOptions,
    options: dict[str, Any],
    directory: Path,
) -> PictureInput:
    from geotessera.download import download_tiles
    from geotessera.grid import tile_to_grid_name
    from geotessera.pictures import PictureInput
    from geotessera.supply.mosaics import TileRasters

    assert job.region is not None  # checked with the paths
    if options and dataset.cache_dir is None and "cache_tiles" not in options:
        # Pixels are read three times, and should come once.
        dataset = dataset if dataset.offline else replace(dataset, cache_dir=directory / "cache")
    year = job.year or _YEAR
    registry = dataset.client(job.directory, **options).registry
    tiles = job.region.select(registry.iter_tiles_in_region(job.region.bbox, year))
    if not tiles:
        raise EmptySelectionError(
            f"no tiles of {year} in {job.region.name or tuple(job.region.bbox)}: the dataset has "
            f"the years {', '.join(map(str, registry.get_available_years()))}, and land only"
        )
    keep = job.directory or directory
    with output.progress("Fetching tiles", unit="bytes") as progress:
        found = TileRasters.find(
            registry,
            tiles,
            keep,
            local=job.directory,
            georeference="landmask" if job.georeference == "landmask" else "snapped",
            jobs=job.jobs,
            progress=progress,
        )
        if found.missing:
            report = download_tiles(registry, found.missing, keep, jobs=job.jobs, progress=progress)
            for at, why in report.failed.items():
                output.note(f"FAILED: {tile_to_grid_name(at.lon, at.lat)}: {describe(why)}")
            if report.failed:
                raise TileError(
                    f"{len(report.failed)} of {len(tiles)} tiles could not be had, and a picture "
                    "with holes would pass for the whole: run the command again"
                )
    return PictureInput(list(found.tiles.values()))
