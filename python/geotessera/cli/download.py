"""`geotessera download`: a region of a Zarr store, or its tiles, as GeoTIFFs or as arrays."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import PROBLEMS, UsageError
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    BandsText,
    DatasetOptions,
    Jobs,
    Json,
    Verbose,
    Year,
    parse_bands,
)
from geotessera.cli.output import Output, counted, format_bytes
from geotessera.cli.selectors import RegionOptions, select_tiles
from geotessera.cli.sources import CacheSize, StoreUrl, check_source
from geotessera.cli.zones import ZonesJob, download_zones
from geotessera.errors import BandError, InputError
from geotessera.grid import tile_to_grid_name
from geotessera.remote.connections import check_jobs
from geotessera.remote.partfile import check_writable

if TYPE_CHECKING:
    from geotessera.cli.selectors import Selection
    from geotessera.registry import Registry
    from geotessera.supply.exports import CompletionReport

__all__ = ["download"]

SHOWN_FILES = 3
"""Created files that are listed without ``--list-files``."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    directory: Path | None
    fmt: str
    year: int
    bands: list[int] | None
    compress: str
    cog: bool
    keep_npy: bool
    list_files: bool
    jobs: int


@takes_groups
def download(
    output_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write to; needed unless --dry-run."),
    ] = None,
    where: RegionOptions = RegionOptions(),
    fmt: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="tiff|npy",
            help="GeoTIFFs of float32 values, or the published arrays (int8, scales, landmask).",
        ),
    ] = "tiff",
    year: Year = 2024,
    bands: BandsText = None,
    compress: Annotated[
        str, typer.Option(help="GeoTIFF compression, by GDAL's name.", metavar="NAME")
    ] = "lzw",
    cog: Annotated[
        bool, typer.Option("--cog", help="Write cloud-optimised GeoTIFFs; tiles only.")
    ] = False,
    keep_npy: Annotated[
        bool,
        typer.Option(
            "--keep-npy/--no-keep-npy",
            help="Keep the arrays of tiles beside the GeoTIFFs, or remove what this run fetched.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much it would be; write nothing.")
    ] = False,
    list_files: Annotated[
        bool, typer.Option("--list-files", help="List all created files with their sizes.")
    ] = False,
    dataset: DatasetOptions = DatasetOptions(),
    source: Annotated[
        str,
        typer.Option(
            metavar="auto|zarr|tiles",
            help="Read the dataset's Zarr store, or its tiles. auto: the store for GeoTIFFs, "
            "unless --registry-dir is given or a mirror has none.",
            rich_help_panel="Dataset",
        ),
    ] = "auto",
    store_url: StoreUrl = None,
    depth: Annotated[
        int | None,
        typer.Option(
            help="Bands to read of a store that has nested embeddings, such as 16.",
            show_default="all",
        ),
    ] = None,
    cache_size: CacheSize = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Leave alone what an earlier run of the same request finished of a store, and "
            "go on with what it began; or write everything again.",
        ),
    ] = True,
    jobs: Jobs = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Download a region.

    Choose the region with exactly one of --bbox, --tile, --region-file and --country.
    A rerun continues where the last one stopped, also in the middle of a file: finished files
    are checked (bands, compression, dataset) and kept.

    Of a Zarr store, each UTM zone of the region becomes tessera_YEAR_utmZZ.tif, which holds
    the box round the region's part there.

    Tiles go to global_0.1_degree_representation/YEAR/grid_LON_LAT/ below the output
    directory; `geotessera verify` re-checks them at any time. A tile that fails does not stop
    the others; what failed is listed at the end, with exit code 1.
    """
    output = Output(as_json=as_json, verbose=verbose)
    _check_format(fmt)
    stores = _check_source(source, fmt, dataset, store_url, depth, cache_size)
    if output_dir is None and not dry_run:
        raise InputError("--output is needed, or --dry-run to see how much it would be")
    if output_dir is not None and not dry_run:
        check_writable(output_dir)
    if stores:
        of_tiles = [name for name, on in (("--cog", cog), ("--no-keep-npy", not keep_npy)) if on]
        zones = ZonesJob(
            output_dir,
            year,
            bands,
            depth,
            compress,
            store_url,
            resume,
            dry_run,
            cache_size,
            jobs,
            tuple(of_tiles),
        )
        may_read_tiles = source == "auto" and store_url is None and depth is None
        if download_zones(output, dataset, where, zones, may_read_tiles=may_read_tiles):
            return
    job = _Job(
        output_dir,
        fmt,
        year,
        parse_bands(bands),
        compress,
        cog,
        keep_npy,
        list_files or verbose,
        check_jobs(jobs),
    )
    _check_export(job)
    if output_dir is not None:
        # Before a byte is fetched, and also if nothing would be: another dataset's
        # directory is never touched.
        _check_directory(output_dir, dataset)
    selection = select_tiles(dataset, year, where, embeddings_dir=output_dir)
    if not selection.tiles:
        _nothing(output, selection, job)
    elif dry_run:
        _dry_run(output, selection, job)
    else:
        _run(output, selection, job)


def _check_source(
    source: str,
    fmt: str,
    dataset: DatasetOptions,
    store_url: str | None,
    depth: int | None,
    cache_size: str | None,
) -> bool:
    """Return whether a store is to be read, or refuse options that do not go together."""
    check_source(source)
    if source == "zarr" and fmt == "npy":
        raise UsageError("--source zarr writes GeoTIFFs: leave out --format npy")
    if source == "zarr" and dataset.registry_dir is not None:
        raise UsageError("--source zarr reads no registry: leave out --registry-dir")
    if source == "zarr" or (source == "auto" and fmt == "tiff" and dataset.registry_dir is None):
        return True
    of_stores = {"--store-url": store_url, "--depth": depth, "--cache-size": cache_size}
    for name, value in of_stores.items():
        if value is not None:
            raise UsageError(
                f"{name} belongs to Zarr stores, and tiles are selected: leave it out, or leave "
                "out --source tiles, --format npy and --registry-dir"
            )
    return False


def _check_format(fmt: str) -> None:
    if fmt == "zarr":
        raise InputError(
            "--format zarr was removed: stores are built by the maintainers' commands "
            "`geotessera-registry zarr-init` and `zarr-fill`; use tiff or npy"
        )
    if fmt not in ("tiff", "npy"):
        raise InputError(f"--format {fmt!r}: expected tiff or npy")


def _check_export(job: _Job) -> None:
    """Refuse options that could only fail after the download."""
    if job.fmt != "tiff":
        return
    from geotessera.export import check_export_options

    check_export_options(bands=job.bands, compress=job.compress, cog=job.cog)


def _check_directory(directory: Path, dataset: DatasetOptions) -> None:
    from geotessera.sidecar import check_dataset_dir

    check_dataset_dir(directory, *dataset.identity)


def _nothing(output: Output, selection: Selection, job: _Job) -> None:
    years = selection.registry.get_available_years()
    hint = (
        f"the dataset has {', '.join(map(str, years))}"
        if job.year not in years
        else "the dataset has land only; the order is longitude, latitude"
    )
    output.say(f"No tiles of {job.year} in {selection.name}: {hint}")
    output.emit({"tiles": 0, "year": job.year, "format": job.fmt, "region": selection.name})


def _dry_run(output: Output, selection: Selection, job: _Job) -> None:
    directory = job.directory if job.directory is not None else Path()
    exists = job.directory is not None
    size, files, _ = selection.registry.calculate_download_requirements(
        selection.tiles, directory, job.fmt, check_existing=exists
    )
    output.pairs(
        {
            "Files to download": f"{files:,}",
            "Total download size": format_bytes(size),
            "Tiles in region": f"{len(selection.tiles):,}",
            "Year": job.year,
            "Format": job.fmt,
        },
        title="Dry run: nothing is written",
    )
    if job.fmt == "tiff":
        output.say("The size is an estimate: four times the arrays, before compression")
    output.emit(
        {
            "dry_run": True,
            "files": files,
            "bytes": size,
            "tiles": len(selection.tiles),
            "year": job.year,
            "format": job.fmt,
            "estimate": job.fmt == "tiff",
        }
    )


def _run(output: Output, selection: Selection, job: _Job) -> None:
    from geotessera.sidecar import is_unlabelled
    from geotessera.supply.exports import complete_arrays, complete_geotiffs
    from geotessera.supply.state import depth_of

    assert job.directory is not None  # checked with the options
    where = selection.registry, selection.tiles, job.directory
    depth = depth_of(selection.registry, selection.tiles[0], job.directory)
    if job.fmt == "tiff" and depth is not None and max(job.bands or [0]) >= depth:
        raise BandError(
            f"--bands: there is no band {max(job.bands or [0])}: the dataset has 0 to {depth - 1}"
        )
    unlabelled = is_unlabelled(job.directory)
    _introduce(output, selection, job)
    if job.fmt == "npy":
        with output.progress("Downloading", unit="bytes") as progress:
            outcome = complete_arrays(*where, progress=progress, jobs=job.jobs)
    else:
        with output.progress("Exporting") as progress:
            outcome = complete_geotiffs(
                *where,
                bands=job.bands,
                compress=job.compress,
                cog=job.cog,
                keep_npy=job.keep_npy,
                progress=progress,
                jobs=job.jobs,
            )
    document = _document(outcome, selection, job)
    if outcome.failed:
        count, whole = len(outcome.failed), len(selection.tiles)
        message = f"{count} of {whole} tiles are incomplete: run the same command again"
        for one, error in sorted(outcome.failed.items()):
            name = tile_to_grid_name(one.lon, one.lat)
            output.note(f"FAILED: {name}: {' '.join(str(error).split())}")
        if not output.as_json:
            output.note(f"Error: {message}")
        output.emit(document | {"error": {"type": "IncompleteDownload", "message": message}})
        raise typer.Exit(PROBLEMS)
    document["metadata"] = None
    if unlabelled:
        output.note(
            f"Warning: {job.directory} held tiles before and does not say of which dataset: it "
            "stays unlabelled, and mixing datasets in it would go unnoticed"
        )
    else:
        document["metadata"] = _write_sidecar(selection.registry, job, len(selection.tiles))
    _conclude(output, outcome, selection, job)
    output.emit(document)


def _introduce(output: Output, selection: Selection, job: _Job) -> None:
    registry = selection.registry
    if selection.is_point:
        only = selection.tiles[0]
        output.say(f"Tile {tile_to_grid_name(only.lon, only.lat)}")
    if job.fmt == "npy" and job.bands is not None:
        output.note("Warning: --bands does not apply to --format npy: all bands are downloaded")
    chosen = "all" if job.bands is None else f"{len(job.bands)}: {', '.join(map(str, job.bands))}"
    rows: dict[str, object] = {
        "Format": job.fmt,
        "Year": job.year,
        "Tiles": len(selection.tiles),
        "Output directory": job.directory,
        "Dataset version": f"{registry.version} ({registry.variant})",
    }
    if job.fmt == "tiff":
        rows["Bands"] = chosen
        rows["Compression"] = job.compress + (" (cloud-optimised)" if job.cog else "")
    output.pairs(rows)


def _document(outcome: CompletionReport, selection: Selection, job: _Job) -> dict[str, Any]:
    return {
        "directory": job.directory.absolute() if job.directory else None,
        "region": selection.name,
        "format": job.fmt,
        "year": job.year,
        "dataset": {
            "version": selection.registry.version,
            "variant": selection.registry.variant,
        },
        "tiles": len(selection.tiles),
        "downloaded": {"files": len(outcome.downloaded), "bytes": outcome.downloaded_bytes},
        "exported": len(outcome.exported),
        "skipped": outcome.skipped,
        "redone": outcome.redone,
        "files": outcome.created,
        "failed": [
            {"tile": tile_to_grid_name(one.lon, one.lat), "year": one.year, "message": str(error)}
            for one, error in sorted(outcome.failed.items())
        ],
    }


def _write_sidecar(registry: Registry, job: _Job, tile_count: int) -> Path:
    from geotessera.sidecar import write_tessera_metadata

    assert job.directory is not None
    extra = {"format": job.fmt, "year": job.year, "tile_count": tile_count}
    return write_tessera_metadata(job.directory, registry.version, registry.variant, extra)


def _conclude(output: Output, outcome: CompletionReport, selection: Selection, job: _Job) -> None:
    assert job.directory is not None
    total = len(selection.tiles)
    if job.fmt == "npy":
        output.say(
            f"SUCCESS: {counted(total, 'tile')}, {counted(len(outcome.downloaded), 'new file')}, "
            f"{format_bytes(outcome.downloaded_bytes)}; {outcome.skipped:,} were there"
        )
    elif outcome.exported:
        made = counted(len(outcome.exported), "GeoTIFF")
        output.say(f"SUCCESS: {made} exported, {outcome.skipped:,} skipped")
    else:
        there = "the GeoTIFF exists" if total == 1 else f"all {total:,} GeoTIFFs exist"
        output.say(f"SUCCESS: {there} already, as asked for")
    for reason in outcome.redone:
        output.detail(f"redone: {reason}")
    created = outcome.created
    shown = created if job.list_files else created[:SHOWN_FILES]
    if shown:
        rows = [
            (str(path.relative_to(job.directory)), format_bytes(path.stat().st_size))
            for path in shown
            if path.exists()
        ]
        title = "Created files" if len(shown) == len(created) else "Some of the created files"
        output.table(["File", "Size"], rows, title=title)
    output.say(f"Directory: {job.directory.absolute()}")
    output.say(f"Check it at any time: geotessera verify {shlex.quote(str(job.directory))}")
