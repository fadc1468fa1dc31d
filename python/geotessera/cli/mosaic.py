"""`geotessera mosaic`: the tiles of a region on one grid, as a GeoTIFF, a COG or a Zarr store."""

from __future__ import annotations

import shutil
import time
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated

import typer

from geotessera.cli.errors import PROBLEMS, UsageError
from geotessera.cli.groups import takes_groups
from geotessera.cli.mosaic_plan import (
    Job,
    check,
    choose_part,
    choose_region,
    find_rasters,
    parse_part,
    plan_mosaic,
)
from geotessera.cli.mosaic_report import report_failures, report_mosaic, report_plan
from geotessera.cli.options import (
    BandsText,
    Clip,
    DatasetOptions,
    Georeference,
    GeoreferenceOption,
    Jobs,
    Json,
    Resampling,
    Resolution,
    Verbose,
    Year,
    limit_gdal_cache,
    parse_bands,
)
from geotessera.cli.output import Output
from geotessera.cli.selectors import RegionOptions
from geotessera.cli.sources import SourceOptions
from geotessera.errors import EmptySelectionError, IncompleteMosaicError, InputError
from geotessera.remote.connections import check_jobs
from geotessera.sizes import parse_size

if TYPE_CHECKING:
    from geotessera.mosaic import MosaicPlan
    from geotessera.supply.mosaics import TileRasters

__all__ = ["mosaic"]

_SUFFIXES = {"tiff": (".tif", ".tiff"), "cog": (".tif", ".tiff"), "zarr": (".zarr",)}


class _Format(StrEnum):
    tiff = "tiff"
    cog = "cog"
    zarr = "zarr"


@takes_groups
def mosaic(
    path: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File (.tif) or directory (.zarr) to write; needed unless --dry-run.",
        ),
    ] = None,
    where: RegionOptions = RegionOptions(),
    like: Annotated[
        Path | None,
        typer.Option(
            help="Raster whose grid (CRS, extent, resolution) the mosaic gets; "
            "a region is not needed then."
        ),
    ] = None,
    year: Year = 2024,
    crs: Annotated[
        str | None,
        typer.Option(
            metavar="CRS", help="Of the mosaic, such as EPSG:3035; the UTM zone of most tiles."
        ),
    ] = None,
    resolution: Resolution = None,
    method: Annotated[
        Resampling,
        typer.Option(
            "--resampling",
            help="The pixel under the centre as it was made, or a weighted mean of four.",
        ),
    ] = Resampling.nearest,
    bands: BandsText = None,
    fmt: Annotated[
        _Format | None,
        typer.Option(
            "--format",
            "-f",
            help="Tiled BigTIFF, cloud-optimised GeoTIFF, or Zarr 3; by default by the name.",
        ),
    ] = None,
    quantized: Annotated[
        bool,
        typer.Option(
            "--quantized",
            help="Keep int8 values and float32 scales (a quarter of the size, nothing lost): "
            "X.tif and X_scales.tif, or two arrays of a store.",
        ),
    ] = False,
    clip: Clip = False,
    compress: Annotated[
        str, typer.Option(metavar="zstd|deflate|lzw|none", help="Compression of GeoTIFFs.")
    ] = "zstd",
    georeference: GeoreferenceOption = Georeference.snapped,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What the process may use, such as 500MB.")
    ] = "2GB",
    embeddings_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory of tiles to read, and to keep what is fetched; without it fetched "
            "tiles are removed as soon as nothing of them is needed any more."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on from what a stopped run left, or not."),
    ] = True,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Of a region in parts that lie far apart, such as a country with its islands "
            "overseas, the Nth by its tiles only (--dry-run lists them), or one grid round all.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the size; write nothing.")
    ] = False,
    dataset: DatasetOptions = DatasetOptions(),
    pixels: SourceOptions = SourceOptions(),
    jobs: Jobs = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Put the tiles of a region on one grid.

    Choose the region with one of --bbox, --tile, --region-file and --country, or the grid
    with --like. Tiles that are not local are fetched while what is there is written. The
    mosaic appears whole or not at all; a run that was stopped, or that lacks a tile, is gone
    on with when the same command is run again. Mosaics larger than memory are no matter.
    """
    from geotessera.mosaic.parts import parts_of
    from geotessera.mosaic.record import InProgressError

    output = Output(as_json=as_json, verbose=verbose)
    job = Job(
        path,
        _format(path, fmt, dry_run),
        year,
        crs,
        resolution,
        method.value,
        parse_bands(bands),
        like,
        quantized,
        clip,
        georeference.value,
        compress,
        parse_size(memory, "--memory"),
        check_jobs(jobs),
        resume,
        embeddings_dir,
        parse_part(part),
        dry_run,
    )
    check(job)
    # What is not said before GDAL is loaded it does not hear.
    limit_gdal_cache()
    began = time.perf_counter()
    region, grid = choose_region(job, where)
    options = pixels.client_options(dataset, tiles=embeddings_dir)
    if options and georeference is Georeference.landmask:
        raise UsageError("--georeference landmask belongs to tiles: a store has none")
    registry = dataset.client(embeddings_dir, **options).registry
    tiles = region.select(registry.iter_tiles_in_region(region.bbox, year))
    if not tiles:
        raise EmptySelectionError(
            f"no tiles of {year} in {region.name or tuple(region.bbox)}: the dataset has the "
            f"years {', '.join(map(str, registry.get_available_years()))}, and land only"
        )
    parts = parts_of(region, tiles)
    chosen, wanted = choose_part(job, region, grid, tiles, parts)
    had_tiles = job.work_directory().exists()
    goes_on = not dry_run  # the same command, from what is fetched and finished
    try:
        rasters = find_rasters(output, job, registry, wanted)
        plan = plan_mosaic(job, chosen, grid, rasters)
        if dry_run:
            report_plan(output, job, plan, rasters, parts)
        else:
            _run(output, job, plan, rasters, began)
    except IncompleteMosaicError as error:
        report_failures(output, job, error)
        raise typer.Exit(PROBLEMS) from error
    except InProgressError:
        goes_on = True  # by the process that makes it
        raise
    except InputError:
        goes_on = False
        raise
    finally:
        if not (goes_on or had_tiles or job.directory is not None):
            shutil.rmtree(job.work_directory(), ignore_errors=True)


def _format(path: Path | None, fmt: _Format | None, dry_run: bool) -> str:
    if path is None:
        if not dry_run:
            raise InputError("--output is needed, or --dry-run to see how much it would be")
        return (fmt or _Format.tiff).value
    suffix = path.suffix.lower()
    kind = fmt.value if fmt is not None else "zarr" if suffix == ".zarr" else "tiff"
    if suffix not in _SUFFIXES[kind]:
        endings = " or ".join(_SUFFIXES[kind])
        raise UsageError(f"--output {path}: --format {kind} needs a name that ends in {endings}")
    return kind


def _run(output: Output, job: Job, plan: MosaicPlan, rasters: TileRasters, began: float) -> None:
    from geotessera.mosaic.write import write_mosaic
    from geotessera.supply.mosaics import TileSupply

    assert job.path is not None  # checked with the options
    output.say(str(plan))
    keeps = job.directory is not None
    supply = TileSupply(plan, rasters, keeps=keeps, jobs=job.jobs)
    with supply, output.progress("Mosaicking") as progress:
        report = write_mosaic(
            plan,
            job.path,
            format=job.fmt,  # type: ignore[arg-type]
            compress=job.compress,
            memory=job.memory,
            progress=progress,
            resume=job.resume,
            supply=supply,
        )
    report_mosaic(output, job, plan, report, supply, time.perf_counter() - began)
