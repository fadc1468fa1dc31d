"""`geotessera mosaic`: the tiles of a region on one grid, as a GeoTIFF, a COG or a Zarr store."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import PROBLEMS, UsageError
from geotessera.cli.groups import takes_groups
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
from geotessera.cli.output import Output, format_bytes
from geotessera.cli.selectors import RegionOptions
from geotessera.cli.sources import SourceOptions
from geotessera.errors import EmptySelectionError, IncompleteMosaicError, InputError
from geotessera.remote.connections import check_jobs
from geotessera.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.mosaic import MosaicPlan
    from geotessera.mosaic.write import MosaicReport
    from geotessera.regions import Region
    from geotessera.registry import Registry
    from geotessera.supply.mosaics import TileRasters, TileSupply
    from geotessera.types import GridSpec, Provenance, TileId

__all__ = ["mosaic"]

_SUFFIXES = {"tiff": (".tif", ".tiff"), "cog": (".tif", ".tiff"), "zarr": (".zarr",)}


_ALIKE = 0.1
"""How much metres of a CRS may differ from those on the ground to be taken for them."""


class _Format(StrEnum):
    tiff = "tiff"
    cog = "cog"
    zarr = "zarr"


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    path: Path | None
    fmt: str
    year: int
    crs: str | None
    resolution: float | None
    method: str
    bands: list[int] | None
    like: Path | None
    quantized: bool
    clip: bool
    georeference: str
    compress: str
    memory: int
    jobs: int
    resume: bool
    directory: Path | None

    def work_directory(self) -> Path:
        """Where tiles go: where the user keeps them, or beside the mosaic while it is made."""
        if self.directory is not None:
            return self.directory
        from geotessera.mosaic.record import work_path

        return work_path(self.path or Path("mosaic"), "_tiles")


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
    output = Output(as_json=as_json, verbose=verbose)
    job = _Job(
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
    )
    _check(job)
    # What is not said before GDAL is loaded it does not hear.
    limit_gdal_cache()
    began = time.perf_counter()
    region, grid = _region(job, where)
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
    had_tiles = job.work_directory().exists()
    try:
        rasters = _rasters(output, job, registry, tiles, fetch=not dry_run)
        plan = _plan(job, region, grid, rasters)
        if dry_run:
            _dry_run(output, job, plan, rasters)
        else:
            _run(output, job, plan, rasters, began)
    except IncompleteMosaicError as error:
        _report_failures(output, job, error)
        raise typer.Exit(PROBLEMS) from error
    except InputError:
        if job.directory is None and not had_tiles:  # the same command would never go on
            shutil.rmtree(job.work_directory(), ignore_errors=True)
        raise


def _format(path: Path | None, fmt: _Format | None, dry_run: bool) -> str:
    if path is None:
        if not dry_run:
            raise InputError("--output is needed, or --dry-run to see how much it would be")
        return (fmt or _Format.tiff).value
    suffix = path.suffix.lower()
    kind = fmt.value if fmt is not None else "zarr" if suffix == ".zarr" else "tiff"
    if suffix not in _SUFFIXES[kind]:
        raise UsageError(f"--output {path}: a {kind} needs a name that ends in {_SUFFIXES[kind]}")
    return kind


def _check(job: _Job) -> None:
    """Refuse what could only fail later."""
    from geotessera.tiff.codecs import COMPRESSIONS

    if job.quantized and job.method != "nearest":
        raise UsageError("--quantized copies pixels as they are: leave out --resampling")
    if job.like is not None and (job.crs is not None or job.resolution is not None):
        raise UsageError("--like gives the whole grid: leave out --crs and --resolution")
    if job.compress.lower() not in COMPRESSIONS:
        raise InputError(f"--compress {job.compress!r}: expected one of {', '.join(COMPRESSIONS)}")
    if job.crs is not None:
        from geotessera.mosaic import crs_code

        crs_code(job.crs)
    if job.path is not None:
        from geotessera.remote.partfile import check_writable

        check_writable(job.path.parent)


def _region(job: _Job, where: RegionOptions) -> tuple[Region, GridSpec | None]:
    from geotessera.regions import Region

    grid = None
    if job.like is not None:
        from geotessera.mosaic import grid_like

        grid = grid_like(job.like)
    if where.given or grid is None:
        return where.region(), grid
    if job.clip:
        raise UsageError("--clip needs a region: give one of --region-file, --country, --bbox")
    from geotessera.region_mosaic import bbox_of

    return Region(bbox_of(grid), name=str(job.like)), grid


def _rasters(
    output: Output, job: _Job, registry: Registry, tiles: Sequence[TileId], *, fetch: bool
) -> TileRasters:
    from geotessera.supply.mosaics import TileRasters

    with output.progress("Locating tiles", unit="bytes") as progress:
        return TileRasters.find(
            registry,
            tiles,
            job.work_directory(),
            local=job.directory,
            quantized=job.quantized,
            georeference="landmask" if job.georeference == "landmask" else "snapped",
            fetch=fetch,
            jobs=job.jobs,
            progress=progress,
        )


def _plan(job: _Job, region: Region, grid: GridSpec | None, rasters: TileRasters) -> MosaicPlan:
    from geotessera.mosaic import plan_region

    how: dict[str, Any] = {
        "method": job.method,
        "bands": job.bands,
        "quantized": job.quantized,
        "clip": job.clip,
    }
    if grid is not None:
        return plan_region(rasters.tiles.values(), region, like=grid, **how)
    crs = job.crs or _usual_crs(rasters)
    resolution = job.resolution
    if resolution is None:
        resolution = _usual_resolution(rasters, crs)
    return plan_region(
        rasters.tiles.values(), region, crs, resolution=resolution, align=True, **how
    )


def _usual_crs(rasters: TileRasters) -> int | str:
    """Return the CRS of most tiles; of equals, the first one's."""
    counts: dict[int | str, int] = {}
    for raster in rasters.tiles.values():
        code = raster.grid.epsg_or_wkt
        counts[code] = counts.get(code, 0) + 1
    return max(counts, key=lambda code: counts[code])


def _usual_resolution(rasters: TileRasters, crs: int | str) -> float | None:
    """Return 10 m in CRSs whose metres are about those of the tiles; None for GDAL's guess."""
    from geotessera.grid import PIXEL_METRES
    from geotessera.mosaic.grids import crs_code, default_resolution

    first = next(iter(rasters.tiles.values()))
    guess = min(default_resolution(first.grid, crs_code(crs)))
    return PIXEL_METRES if abs(guess / PIXEL_METRES - 1) < _ALIKE else None


def _dry_run(output: Output, job: _Job, plan: MosaicPlan, rasters: TileRasters) -> None:
    missing, size = len(rasters.missing), rasters.download_bytes()
    output.say(str(plan))
    output.pairs(
        {
            "Format": job.fmt + (" (int8 + scales)" if job.quantized else " (float32)"),
            "Size before compression": format_bytes(plan.nbytes),
            "Tiles to fetch": f"{missing} of {len(rasters.tiles)}, {format_bytes(size)}",
            "Memory": format_bytes(job.memory),
        }
    )
    output.emit(
        _document(job, plan)
        | {"dry_run": True, "to_fetch": {"tiles": missing, "bytes": size}, "bytes": plan.nbytes}
    )


def _run(output: Output, job: _Job, plan: MosaicPlan, rasters: TileRasters, began: float) -> None:
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
    _conclude(output, job, plan, report, supply, time.perf_counter() - began)


def _report_failures(output: Output, job: _Job, error: IncompleteMosaicError) -> None:
    for name, reason in error.failed.items():
        output.note(f"FAILED: {Path(name).name}: {' '.join(str(reason).split())}")
    message = (
        f"{len(error.failed)} tiles are missing, so there is no {job.path} yet; what is finished "
        "is kept: run the same command again"
    )
    if not output.as_json:
        output.note(f"Error: {message}")
    failed = [{"tile": Path(name).stem, "message": str(why)} for name, why in error.failed.items()]
    output.emit(
        {
            "output": job.path,
            "failed": failed,
            "error": {"type": "IncompleteMosaicError", "message": message},
        }
    )


def _document(job: _Job, plan: MosaicPlan) -> dict[str, Any]:
    origin: Provenance = plan.provenance
    return {
        "output": job.path.absolute() if job.path else None,
        "format": job.fmt,
        "quantized": job.quantized,
        "year": job.year,
        "dataset": {"version": origin.version, "variant": origin.variant},
        "crs": plan.grid.crs_name,
        "transform": plan.grid.transform,
        "height": plan.grid.height,
        "width": plan.grid.width,
        "bands": list(plan.bands) if plan.bands is not None else list(range(plan.band_count)),
        "resampling": plan.method,
        "tiles": len(plan.rasters),
        "digest": plan.digest,
    }


def _conclude(
    output: Output,
    job: _Job,
    plan: MosaicPlan,
    report: MosaicReport,
    supply: TileSupply,
    seconds: float,
) -> None:
    grid = plan.grid
    kept = f", {report.resumed} of {report.blocks} blocks were there" if report.resumed else ""
    output.say(
        f"SUCCESS: {grid.width:,} × {grid.height:,} pixels × {plan.band_count} bands in "
        f"{seconds:.1f} s{kept}"
    )
    for path in report.paths:
        output.say(f"  {path}")
    output.say(f"{format_bytes(report.bytes)} of {format_bytes(plan.nbytes)} before compression")
    output.emit(
        _document(job, plan)
        | {
            "files": report.paths,
            "bytes": report.bytes,
            "blocks": {
                "all": report.blocks,
                "written": report.written,
                "resumed": report.resumed,
                "empty": report.empty,
            },
            "fetched": {"tiles": supply.fetched, "bytes": supply.bytes},
            "seconds": round(seconds, 3),
        }
    )
