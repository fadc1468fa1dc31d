"""`geotessera download` from a Zarr store: a GeoTIFF for each UTM zone of the region."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cli.errors import UsageError
from geotessera.cli.options import parse_bands
from geotessera.cli.output import Output, counted, format_bytes
from geotessera.cli.sources import choose_store, name_of
from geotessera.errors import DatasetMismatchError, InputError

if TYPE_CHECKING:
    from geotessera.cli.options import DatasetOptions
    from geotessera.cli.selectors import RegionOptions
    from geotessera.regions import Region
    from geotessera.store import GeoTesseraZarr

__all__ = ["ZonesJob", "download_zones"]


@dataclass(frozen=True, slots=True)
class ZonesJob:
    """What was asked for; see the options of ``download``."""

    directory: Path | None
    year: int
    bands: str | None
    depth: int | None
    compress: str
    store_url: str | None
    resume: bool
    dry_run: bool
    cache_size: str | None
    jobs: int | None
    of_tiles: tuple[str, ...] = ()
    """Options that were given and belong to tiles."""


def download_zones(
    output: Output,
    dataset: DatasetOptions,
    selectors: RegionOptions,
    job: ZonesJob,
    *,
    may_read_tiles: bool,
) -> bool:
    """Download a region from a store; return False if tiles are to be read instead.

    Parameters
    ----------
    output : Output
        Where results go.
    dataset : DatasetOptions
        Which dataset.
    selectors : RegionOptions
        The region.
    job : ZonesJob
        What is wanted.
    may_read_tiles : bool
        Whether a mirror without a store is read by its tiles.
    """
    if not may_read_tiles:
        _check_options(job)
    chosen = selectors.region()
    _check_directory(job, dataset, may_read_tiles=may_read_tiles)
    client = choose_store(
        output,
        dataset,
        job.store_url,
        may_read_tiles=may_read_tiles,
        cache_size=job.cache_size,
        jobs=job.jobs,
    )
    if client is None:
        return False
    _check_options(job)
    bands = parse_bands(job.bands)
    how: dict[str, Any] = {"bands": bands, "depth": job.depth, "outline": chosen.geometry}
    where = job.directory
    if where is not None:
        _check_holds(where, client)
    planned = client.export_geotiffs(chosen.bbox, job.year, where or ".", dry_run=True, **how)
    size = sum(one["uncompressed_bytes"] for one in planned)
    document = _document(client, chosen, job, bands)
    if job.dry_run:
        _dry_run(output, planned, size, document)
        return True
    assert where is not None  # checked with the options
    output.pairs(
        {
            "Format": "tiff",
            "Year": job.year,
            "Output directory": where,
            "Compression": job.compress,
            "Dataset version": name_of(client.dataset),
            "Store": client.url,
            "Bands": "all" if bands is None else f"{len(bands)}: {', '.join(map(str, bands))}",
            "Zones": ", ".join(str(one["zone"]) for one in planned),
            "Size before compression": format_bytes(size),
        }
    )
    before = {path: _state(path) for path in where.glob("tessera_*.tif")}
    with output.progress("Downloading") as progress:
        names = client.export_geotiffs(
            chosen.bbox,
            job.year,
            where,
            compress=job.compress,
            progress_callback=progress,
            resume=job.resume,
            **how,
        )
    _conclude(output, where, names, before, client, document)
    return True


def _check_options(job: ZonesJob) -> None:
    if job.of_tiles:
        raise UsageError(f"{job.of_tiles[0]} belongs to tiles: leave it out, or use --source tiles")
    from geotessera.tiff.codecs import COMPRESSIONS

    if job.compress.lower() not in COMPRESSIONS:
        raise InputError(
            f"--compress {job.compress!r}: expected one of {', '.join(COMPRESSIONS)}, or more of "
            "GDAL's with --source tiles"
        )


def _check_directory(job: ZonesJob, dataset: DatasetOptions, *, may_read_tiles: bool) -> None:
    """Refuse a directory that holds neither dataset that may be meant, before any request."""
    if job.directory is None or job.store_url is not None:
        return
    from geotessera.sidecar import check_dataset_dir, recorded_dataset

    meant = [dataset.identity_of("stream")]
    if may_read_tiles:
        meant.append(dataset.identity)
    if recorded_dataset(job.directory) not in meant:
        check_dataset_dir(job.directory, *meant[0])


def _check_holds(directory: Path, client: GeoTesseraZarr) -> None:
    """Refuse a directory that holds another dataset than the store, as far as that is known."""
    from geotessera.sidecar import check_dataset_dir, recorded_dataset

    if client.dataset is not None:
        check_dataset_dir(directory, client.dataset.version, client.dataset.variant)
    elif (recorded := recorded_dataset(directory)) is not None:
        raise DatasetMismatchError(
            f"{directory} holds v{recorded[0]} {recorded[1]} embeddings, and nobody says what "
            f"{client.url} holds; datasets cannot be interchanged: use a separate directory, or "
            "name it with --dataset-version and --dataset-variant"
        )


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _document(
    client: GeoTesseraZarr, region: Region, job: ZonesJob, bands: list[int] | None
) -> dict[str, Any]:
    known = client.dataset
    return {
        "source": "zarr",
        "store": client.url,
        "directory": job.directory.absolute() if job.directory else None,
        "region": region.name,
        "format": "tiff",
        "year": job.year,
        "depth": job.depth or client.n_bands,
        "bands": bands,
        "dataset": known and {"version": known.version, "variant": known.variant},
    }


def _dry_run(
    output: Output, planned: list[dict[str, Any]], size: int, document: dict[str, Any]
) -> None:
    output.say(f"{_files(len(planned))}, {format_bytes(size)} before compression")
    output.say("What is transferred is less, and so are compressed files; nothing is written")
    output.emit(
        document | {"dry_run": True, "files": len(planned), "bytes": size, "zones": planned}
    )


def _files(count: int) -> str:
    return counted(count, "zone file")


def _conclude(
    output: Output,
    directory: Path,
    names: list[str],
    before: dict[Path, tuple[int, int, int]],
    client: GeoTesseraZarr,
    document: dict[str, Any],
) -> None:
    paths = [directory / Path(name).name for name in names]
    kept = [path for path in paths if before.get(path) == _state(path)]
    size = sum(path.stat().st_size for path in paths)
    there = f", {len(kept)} of them there already, as asked for" if kept else ""
    output.say(f"SUCCESS: {_files(len(paths))}, {format_bytes(size)}{there}")
    for path in paths:
        output.say(f"{path}")
    traffic = client.store.reader.traffic
    output.emit(
        document
        | {
            "files": paths,
            "bytes": size,
            "written": len(paths) - len(kept),
            "skipped": len(kept),
            "read": {"requests": traffic.requests, "bytes": traffic.bytes},
        }
    )
