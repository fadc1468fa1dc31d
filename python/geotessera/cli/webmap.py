"""`geotessera webmap`: a picture, or a region of a dataset, as a map for browsers."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from geotessera.cli.webmap_map import PAGE, MapJob, conclude
from geotessera.cli.webmap_region import RegionJob, region_picture
from geotessera.errors import InputError
from geotessera.remote.connections import check_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["webmap"]

_TOOL = "Of earlier releases: no tool of GDAL is needed, and none is used."


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
    job = MapJob(
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
        made = job.make(output, picture, status)
        # With a server the address is the result, as of `serve`; one document either way.
        document = conclude(output, job, made, time.perf_counter() - began)
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
