"""`geotessera visualize`: principal components of tiles as one picture."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from geotessera.cli.errors import UsageError
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    Clip,
    DatasetOptions,
    Georeference,
    GeoreferenceOption,
    Jobs,
    Json,
    Resampling,
    Resolution,
    Verbose,
    limit_gdal_cache,
)
from geotessera.cli.output import Output
from geotessera.cli.selectors import RegionOptions
from geotessera.cli.sources import SourceOptions
from geotessera.cli.visualize_rasters import Job, rasters
from geotessera.cli.visualize_report import conclude
from geotessera.errors import InputError
from geotessera.remote.connections import check_jobs

if TYPE_CHECKING:
    from geotessera.pca import PcaModel
    from geotessera.pictures import Look, PictureInput, PictureReport
    from geotessera.regions import Region

__all__ = ["visualize"]

_SUFFIXES = (".tif", ".tiff", ".png")


class _Balance(StrEnum):
    histogram = "histogram"
    percentile = "percentile"
    adaptive = "adaptive"


@takes_groups
def visualize(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[INPUT_PATH] OUTPUT_FILE",
            help="A GeoTIFF or NPY tile, or a directory of tiles (not needed with a region), "
            "and the picture: .tif, .tiff or .png.",
        ),
    ],
    crs: Annotated[
        str, typer.Option(metavar="CRS", help="Of the picture, such as EPSG:32631.")
    ] = "EPSG:3857",
    n_components: Annotated[
        int | None,
        typer.Option(
            "--n-components",
            min=1,
            help="Components to fit; the first three are shown.",
            show_default="3, or the model's",
        ),
    ] = None,
    balance: Annotated[
        _Balance | None,
        typer.Option(
            help="Colours: each for as many pixels, linearly between two percentiles, or over "
            "2.5 standard deviations each side of the mean.",
            show_default="histogram, or the model's",
        ),
    ] = None,
    percentile_low: Annotated[
        float, typer.Option("--percentile-low", help="For --balance percentile.")
    ] = 2,
    percentile_high: Annotated[
        float, typer.Option("--percentile-high", help="For --balance percentile.")
    ] = 98,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Components and colours that an earlier run saved, so that years or regions "
            "share them."
        ),
    ] = None,
    save_model: Annotated[
        Path | None, typer.Option("--save-model", help="Where to save components and colours.")
    ] = None,
    resolution: Resolution = None,
    method: Annotated[
        Resampling,
        typer.Option("--resampling", help="A weighted mean of four pixels, or the nearest one."),
    ] = Resampling.bilinear,
    mask_water: Annotated[
        bool,
        typer.Option("--mask-water", help="Leave out what the landmask calls water."),
    ] = False,
    clip: Clip = False,
    png: Annotated[
        bool,
        typer.Option("--png", help="Write a PNG, its world file and its CRS beside the GeoTIFF."),
    ] = False,
    georeference: GeoreferenceOption = Georeference.snapped,
    where: RegionOptions = RegionOptions(),
    year: Annotated[
        int | None,
        typer.Option(
            "--year",
            help="Year of the embeddings.",
            show_default="2024; the only one of a directory",
        ),
    ] = None,
    embeddings_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory of tiles to read, and to keep what is fetched of a region; without it "
            "fetched tiles are removed at the end."
        ),
    ] = None,
    dataset: DatasetOptions = DatasetOptions(),
    pixels: SourceOptions = SourceOptions(),
    jobs: Jobs = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Draw the principal components of embeddings as a picture.

    Of a file or of the tiles below a directory, or of a region of a dataset: choose that with
    one of --bbox, --tile, --region-file and --country. With a directory and a region, only the
    tiles of the directory that lie in the region are drawn.

    The components are those of every valid pixel, not of a sample. The picture appears whole
    or not at all, with overviews, a mask and its place on the globe.
    """
    output = Output(as_json=as_json, verbose=verbose)
    began = time.perf_counter()
    # What is not said before GDAL is loaded it does not hear.
    limit_gdal_cache()
    given, target = _paths(paths)
    job = Job(
        given,
        target,
        _region(given, where),
        year,
        _look(n_components, balance, (percentile_low, percentile_high), with_model=bool(model)),
        model,
        save_model,
        crs,
        resolution,
        method.value,
        georeference.value,
        clip,
        mask_water,
        png,
        embeddings_dir,
        check_jobs(jobs),
    )
    _check(job)
    if given is not None and (embeddings_dir or pixels.store_url or pixels.source != "auto"):
        raise UsageError(
            "--embeddings-dir, --store-url and --source belong to regions of a dataset: leave "
            "out INPUT_PATH"
        )
    loaded = _load(job)
    options = pixels.client_options(dataset, tiles=embeddings_dir)
    if options and georeference is Georeference.landmask:
        raise UsageError("--georeference landmask belongs to tiles: a store has none")
    with rasters(output, job, dataset, options) as found:
        report = _draw(output, job, found, loaded)
        conclude(output, job, found, report, time.perf_counter() - began)


# --- What was asked for --------------------------------------------------------------------


def _paths(paths: list[Path]) -> tuple[Path | None, Path]:
    if len(paths) > 2:
        raise UsageError(f"{len(paths)} paths: expected INPUT_PATH and OUTPUT_FILE")
    given, output = (None, paths[0]) if len(paths) == 1 else (paths[0], paths[1])
    return given, output


def _region(given: Path | None, where: RegionOptions) -> Region | None:
    region = where.optional()
    if region is None and given is None:
        raise UsageError(
            "Missing argument OUTPUT_FILE; of a region, given by --bbox, --tile, --region-file "
            "or --country, OUTPUT_FILE alone is enough"
        )
    return region


def _look(
    n_components: int | None,
    balance: _Balance | None,
    percentiles: tuple[float, float],
    *,
    with_model: bool,
) -> Look | None:
    """Return how the picture is to look; None if that is the model's business."""
    from geotessera.pictures import Look

    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise InputError(
            f"Invalid percentile range [{low:g}, {high:g}]: expected 0 <= low < high <= 100"
        )
    if with_model and n_components is not None:
        raise UsageError("--n-components is fitted, and --model is there already: leave one out")
    if with_model and balance is None:
        return None
    return Look(n_components or 3, balance=(balance or "histogram"), percentile_range=percentiles)


def _check(job: Job) -> None:
    """Refuse what could only fail later."""
    from geotessera.mosaic import crs_code
    from geotessera.pca.files import check_name
    from geotessera.remote.partfile import check_target

    if job.output.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"Output file must have .tif or .tiff extension (or .png), found {job.output.name}"
        )
    if job.output.is_dir():
        raise InputError(f"{job.output} is a directory: name a file, such as picture.tif")
    if job.clip and job.region is None:
        raise UsageError("--clip needs a region: give one of --region-file, --country, --bbox")
    both = job.source is not None and job.source.exists() and job.output.exists()
    if both and job.output.samefile(job.source or job.output):
        raise InputError(f"{job.output} is what the picture is made of: name another file")
    if job.save_model is not None:
        check_name(job.save_model)
    crs_code(job.crs)
    for path in filter(None, (job.output, job.save_model)):
        check_target(path)


def _load(job: Job) -> PcaModel | None:
    if job.model is None:
        return None
    from geotessera.pca import PcaModel

    return PcaModel.load(job.model)


# --- The picture ---------------------------------------------------------------------------


def _draw(output: Output, job: Job, found: PictureInput, model: PcaModel | None) -> PictureReport:
    from geotessera.pictures import make_picture

    count = len(found.rasters)
    output.say(f"Found {count} tile{'s' * (count != 1)} ({found.format} format)")
    shown = model.n_components if model is not None else (job.look.n_components if job.look else 3)
    if shown < 3:
        output.note(
            f"Warning: with {shown} component{'s' * (shown != 1)} the picture is not in colours; "
            "three make red, green and blue"
        )
    with output.progress("Drawing") as progress:
        return make_picture(
            found.rasters,
            job.output,
            look=job.look,
            model=model,
            crs=job.crs,
            resolution=job.resolution,
            region=job.region,
            clip=job.clip,
            method="nearest" if job.method == "nearest" else "bilinear",
            mask_water=job.mask_water,
            png=job.png,
            progress=progress,
        )
