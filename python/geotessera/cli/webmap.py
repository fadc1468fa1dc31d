"""`geotessera webmap`: a picture, or a region of a dataset, as a map for browsers."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import UsageError
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    DatasetOptions,
    Jobs,
    Json,
    Resampling,
    Verbose,
    Year,
    limit_gdal_cache,
    parse_bands,
)
from geotessera.cli.output import Output
from geotessera.cli.selectors import MapRegionOptions
from geotessera.cli.serve import bind_port, run_server
from geotessera.cli.sources import MapSourceOptions, check_source
from geotessera.cli.webmap_region import RegionJob, region_picture
from geotessera.errors import InputError
from geotessera.remote.connections import check_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geotessera.regions import Region
    from geotessera.webmap import BuildReport

__all__ = ["webmap"]

_TOOL = "Of earlier releases: no tool of GDAL is needed, and none is used."

_MANY = 200_000
"""Tiles of which it is said beforehand how many there will be."""

TILES, PACKS, ARCHIVE, RECORD, PAGE = (
    "tiles", "tiles.js", "tiles.pmtiles", "tiles.json", "viewer.html",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    mosaic: Path | None
    region: RegionJob | None
    outline: Region | None
    directory: Path
    zooms: tuple[int, int]
    initial_zoom: int
    method: str
    force: bool
    packs: bool
    archive: bool
    tiles: bool

    def name(self, picture: Path) -> str:
        """Return what the map is called."""
        return self.region.region.name if self.region is not None else picture.stem


@takes_groups
def webmap(
    mosaic: Annotated[
        Path | None,
        typer.Argument(
            metavar="RGB_MOSAIC",
            help="Picture to show: a GeoTIFF of 8-bit colours in any CRS. Without it, a region.",
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Directory of the map.",
            show_default="tessera_webmap, or the mosaic's name with _webmap",
        ),
    ] = None,
    min_zoom: Annotated[
        int, typer.Option("--min-zoom", min=0, max=24, help="Coarsest zoom level.")
    ] = 8,
    max_zoom: Annotated[
        int, typer.Option("--max-zoom", min=0, max=24, help="Finest zoom level.")
    ] = 15,
    initial_zoom: Annotated[
        int, typer.Option("--initial-zoom", min=0, max=24, help="Zoom that the page starts with.")
    ] = 10,
    method: Annotated[
        Resampling,
        typer.Option("--resampling", help="How pixels of the finest zoom are made."),
    ] = Resampling.bilinear,
    force: Annotated[
        bool, typer.Option("--force/--no-force", help="Make everything anew.")
    ] = False,
    packs: Annotated[
        bool,
        typer.Option(
            "--packs/--no-packs",
            help="Write the tiles as scripts, too, so that the page also works when it is opened "
            "from a disk.",
        ),
    ] = True,
    archive: Annotated[
        bool, typer.Option("--pmtiles", help="Write all tiles as one file, tiles.pmtiles, too.")
    ] = False,
    tiles: Annotated[
        bool,
        typer.Option(
            "--tiles/--no-tiles", help="Whether to keep the tiles, and a page, beside --pmtiles."
        ),
    ] = True,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the map afterwards, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", "-p", help="Port of --serve; an occupied one is an error.")
    ] = 8000,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="With --serve, open the page in a browser.")
    ] = True,
    _gdal: Annotated[
        bool, typer.Option("--use-gdal-raster/--use-gdal2tiles", hidden=True, help=_TOOL)
    ] = False,
    where: MapRegionOptions = MapRegionOptions(),
    year: Year = 2024,
    bands: Annotated[
        str | None,
        typer.Option(
            "--bands",
            metavar="R,G,B",
            help="Zero-based bands of a region for red, green and blue.",
            show_default="0,1,2",
        ),
    ] = None,
    pca: Annotated[
        bool,
        typer.Option("--pca", help="Show the first three principal components of a region."),
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", help="Bands of the store's embeddings to read.", show_default="all"
        ),
    ] = None,
    embeddings_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of tiles to read, and to keep what is fetched of a region."),
    ] = None,
    dataset: DatasetOptions = DatasetOptions(),
    pixels: MapSourceOptions = MapSourceOptions(),
    jobs: Jobs = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make a map for browsers: of a picture, or of a region of a dataset.

    A picture is a GeoTIFF of 8-bit colours, such as `geotessera visualize` makes. A region is
    chosen with one of --bbox, --tile, --region-file and --country; countries and files by
    their outline. Its embeddings are read from the dataset's Zarr store, or from tiles.

    The directory holds tiles/{z}/{x}/{y}.png in XYZ numbering and viewer.html, which needs no
    network. What is there and is made of the same pixels is left alone: a run that was stopped
    is gone on with, and a change costs what changed.
    """
    output = Output(as_json=as_json, verbose=verbose)
    # What is not said before GDAL is loaded it does not hear.
    limit_gdal_cache()
    began = time.perf_counter()
    if min_zoom > max_zoom:
        raise UsageError(f"--min-zoom {min_zoom} is more than --max-zoom {max_zoom}")
    if not tiles and not archive:
        raise UsageError("--no-tiles leaves nothing without --pmtiles")
    if not tiles and serve:
        raise UsageError("--serve needs the tiles and the page: leave out --no-tiles")
    if mosaic is not None:
        of_stores = {"--store-url": pixels.store_url, "--depth": depth, "--pca": pca}
        _check_mosaic(mosaic, {**where.given, **of_stores})
        if bands is not None:
            output.note("Warning: --bands does not apply to a mosaic: its colours are shown")
    if directory is None:
        directory = Path("tessera_webmap" if mosaic is None else f"{mosaic.stem}_webmap")
    region, outline = None, None
    if mosaic is None:
        check_source(pixels.source)
        outline = where.region()
        region = RegionJob(
            outline,
            directory,
            year,
            parse_bands(bands),
            depth,
            pca,
            force,
            embeddings_dir,
            dataset,
            pixels.source,
            pixels.store_url,
            pixels.cache_size,
            check_jobs(jobs),
        )
        region.check()
    elif where.region_file is not None:
        from geotessera.regions import Region

        outline = Region.from_file(where.region_file)
    job = _Job(
        mosaic,
        region,
        outline,
        directory,
        (min_zoom, max_zoom),
        initial_zoom,
        method.value,
        force,
        packs and tiles,
        archive,
        tiles,
    )
    from geotessera.remote.partfile import check_writable

    check_writable(job.directory)
    with ExitStack() as stack:
        # Before any work: nobody should wait for a map that then cannot be shown.
        server = stack.enter_context(bind_port(port)) if serve else None
        picture, status = mosaic, "given"
        if region is not None:
            picture, status = region_picture(output, region)
        assert picture is not None  # there is one or the other
        report = _cut(output, job, picture)
        page = _page(job, picture, report) if job.tiles else None
        seconds = time.perf_counter() - began
        # With a server the address is the result, as of `serve`; one document either way.
        document = _document(job, picture, status, report, page, seconds)
        _conclude(output, job, picture, status, report, page, seconds)
        if server is None:
            output.emit(document)
        else:
            run_server(output, server, job.directory, PAGE, open_page=open_page)


def _check_mosaic(mosaic: Path, options: Mapping[str, object]) -> None:
    named = [name for name, value in options.items() if value not in (None, False)]
    given = [name for name in named if name != "--region-file"]  # an outline that is drawn
    if given:
        raise UsageError(
            f"{', '.join(given)} chooses a region, and {mosaic} is there already: give one of both"
        )
    if mosaic.is_dir():
        raise InputError(
            f"{mosaic} is a directory, and no mosaic: make a picture of its tiles first, with "
            f"geotessera visualize {shlex.quote(str(mosaic))} picture.tif"
        )
    if not mosaic.is_file():
        raise InputError(f"there is no mosaic {mosaic}")
    if mosaic.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{mosaic} is no GeoTIFF: expected a name that ends in .tif or .tiff")


# --- Tiles and page --------------------------------------------------------------------------


def _cut(output: Output, job: _Job, picture: Path) -> BuildReport:
    from geotessera.webmap import build_tiles

    _warn_of_many(output, job, picture)
    directory, new = job.directory, not job.directory.exists()
    tiles = TILES if job.tiles else f".{TILES}_tmp"
    try:
        with output.progress("Cutting tiles") as progress:
            return build_tiles(
                picture,
                directory / tiles,
                zooms=job.zooms,
                method=job.method,  # type: ignore[arg-type]  # checked by the parser
                record=directory / RECORD,
                packs=directory / PACKS if job.packs else None,
                archive=directory / ARCHIVE if job.archive else None,
                keep_tiles=job.tiles,
                name=job.name(picture),
                force=job.force,
                progress=progress,
            )
    except BaseException:
        if new:
            with suppress(OSError):  # what is in it is gone on with
                directory.rmdir()
        raise


def _warn_of_many(output: Output, job: _Job, picture: Path) -> None:
    from geotessera.webmap import Picture
    from geotessera.webmap.places import expected_tiles

    with Picture(picture) as opened:
        count, finest = expected_tiles(opened.grid, job.zooms), opened.finest_zoom
    if count > _MANY:
        enough = f": --max-zoom {finest} already shows each pixel" if finest < job.zooms[1] else ""
        output.note(
            f"Warning: zooms {job.zooms[0]} to {job.zooms[1]} of {picture} are some {count:,} "
            f"tiles{enough}"
        )


def _page(job: _Job, picture: Path, report: BuildReport) -> Path:
    from geotessera.pages import write_viewer
    from geotessera.webmap.packs import TEMPLATE
    from geotessera.webmap.viewing import command_of_picture, outline_of

    meta: dict[str, object] = {} if job.region is None else dict(job.region.facts)
    meta |= {"Zooms": f"{job.zooms[0]} to {job.zooms[1]}", "Tiles": f"{report.count:,}"}
    return write_viewer(
        job.directory / PAGE,
        tiles=f"{TILES}/{{z}}/{{x}}/{{y}}.png",
        packs=f"{PACKS}/{TEMPLATE}" if job.packs else None,
        bounds=report.bounds,
        zooms=job.zooms,
        initial_zoom=job.initial_zoom,
        center=report.center,
        title=f"TESSERA: {job.name(picture)}",
        region=None if job.outline is None else outline_of(job.outline),
        meta=meta,
        command=command_of_picture(picture) if job.region is None else job.region.command,
    )


def _document(
    job: _Job,
    picture: Path,
    status: str,
    report: BuildReport,
    page: Path | None,
    seconds: float,
) -> dict[str, Any]:
    return {
        "directory": job.directory.absolute(),
        "mosaic": {"path": picture.absolute(), "status": status},
        "tiles": {
            "count": report.count,
            "cut": report.cut,
            "written": report.written,
            "removed": report.removed,
            "zooms": list(report.zooms),
            "scheme": "xyz",
            "directory": report.tiles.absolute() if report.tiles else None,
            "packs": report.packs.absolute() if report.packs else None,
            "pmtiles": report.archive.absolute() if report.archive else None,
        },
        "bounds": list(report.bounds),
        "viewer": page.absolute() if page else None,
        "seconds": round(seconds, 3),
    }


def _conclude(
    output: Output,
    job: _Job,
    picture: Path,
    status: str,
    report: BuildReport,
    page: Path | None,
    seconds: float,
) -> None:
    made = f"{report.written:,} written" if report.written else "all reused"
    if report.removed:
        made += f", {report.removed:,} removed"
    output.say(f"SUCCESS: {report.count:,} tiles ({made}) in {seconds:.1f} s")
    rows: dict[str, object] = {"Mosaic": f"{picture} ({status})"}
    if report.tiles is not None:
        rows["Tiles"] = f"{report.tiles}, zoom {report.zooms[0]} to {report.zooms[1]}"
    if report.archive is not None:
        rows["Archive"] = report.archive
    if page is not None:
        rows["Viewer"] = page
    output.pairs(rows)
    if page is not None:
        output.say(f"Show it: geotessera serve {shlex.quote(str(job.directory))}")
        if job.packs:
            output.say("or open the viewer's file in a browser")
