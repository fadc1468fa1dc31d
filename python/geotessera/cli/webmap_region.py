"""`geotessera webmap` of a region: the picture that the map is cut from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geotessera.cli.errors import PROBLEMS, UsageError, describe
from geotessera.cli.sources import SourceOptions, choose_store
from geotessera.datasets import find_dataset
from geotessera.errors import EmptySelectionError, IncompleteMosaicError

if TYPE_CHECKING:
    from geotessera.cli.options import DatasetOptions
    from geotessera.cli.output import Output
    from geotessera.regions import Region
    from geotessera.store import GeoTesseraZarr
    from geotessera.supply.mosaics import TileRasters
    from geotessera.webmap.region import RegionPicture

__all__ = ["RegionJob", "region_picture"]


@dataclass(frozen=True, slots=True)
class RegionJob:
    """What was asked for; see the options of ``webmap``."""

    region: Region
    directory: Path
    year: int
    bands: list[int] | None
    depth: int | None
    pca: bool
    force: bool
    embeddings_dir: Path | None
    dataset: DatasetOptions
    source: str
    store_url: str | None
    cache_size: str | None
    jobs: int

    def check(self) -> None:
        """Refuse what could only fail later."""
        from geotessera.webmap.region_plan import check_rgb

        check_rgb(self.bands)
        if self.pca and (self.bands is not None or self.depth is not None):
            raise UsageError("--pca takes all bands: leave out --bands and --depth")
        if self.reads_tiles:
            of_stores = ("--store-url", self.store_url), ("--depth", self.depth), (
                "--cache-size", self.cache_size)  # fmt: skip
            for name, value in of_stores:
                if value is not None:
                    raise UsageError(f"{name} belongs to Zarr stores, and tiles are read")
        elif self.names_tiles:
            raise UsageError(
                "--embeddings-dir and --registry-dir belong to tiles: leave them out, or "
                "--source zarr and --store-url"
            )

    @property
    def names_tiles(self) -> bool:
        """Whether a directory of tiles, or of their registry, was named."""
        return self.embeddings_dir is not None or self.dataset.registry_dir is not None

    @property
    def reads_tiles(self) -> bool:
        """Whether tiles are read: they are asked for, or named. Otherwise it is a store."""
        if self.source != "auto":
            return self.source == "tiles"
        known = find_dataset(*self.dataset.identity_of("stream"))
        without_store = known is not None and known.zarr is None
        return self.store_url is None and (self.names_tiles or without_store)

    @property
    def identity(self) -> tuple[str, str]:
        """Version and variant of the dataset that was asked for."""
        return self.dataset.identity_of("npy" if self.reads_tiles else "stream")

    @property
    def command(self) -> str:
        """The command that downloads a place of the map."""
        from geotessera.webmap.viewing import download_command

        return download_command(self.year, self.identity, _resolved(self.store_url))

    @property
    def facts(self) -> dict[str, object]:
        """What the page says of the map."""
        colours = "principal components" if self.pca else f"bands {self.bands or [0, 1, 2]}"
        return {
            "Region": self.region.name or tuple(self.region.bbox),
            "Year": self.year,
            "Colours": colours,
        }

    def request(self) -> dict[str, Any]:
        """Return what decides the picture; caches and directories do not."""
        region, dataset = self.region, self.dataset
        outline = None
        if region.geometry is not None:
            outline = hashlib.sha256(region.geometry.normalize().wkb).hexdigest()
        version, variant = self.identity
        return {
            "bounds": list(region.bbox),
            "outline": outline,
            "year": self.year,
            "version": version,
            "variant": variant,
            "bands": "pca" if self.pca else self.bands or [0, 1, 2],
            "depth": self.depth,
            "source": "tiles" if self.reads_tiles else "zarr",
            "store_url": _resolved(self.store_url),
            "base_url": _resolved(dataset.base_url),
        }


def _resolved(location: str | None) -> str | None:
    return location if location is None or "://" in location else str(Path(location).resolve())


def region_picture(output: Output, job: RegionJob) -> tuple[Path, str]:
    """Return the picture of a region, and whether it was "created" or "reused"."""
    from geotessera.webmap.region import RegionPicture

    picture = RegionPicture(job.directory, job.request())
    if not job.force and picture.is_there():
        return picture.path, "reused"
    try:
        store = None if job.reads_tiles else _open_store(output, job)
        if store is None:
            _from_tiles(output, job, {"source": "tiles"}, picture)
        elif job.pca:
            _from_tiles(output, job, {"source": "zarr", "store_url": job.store_url}, picture)
        else:
            _from_store(output, job, store, picture)
    except IncompleteMosaicError as error:
        _report_failures(output, error)
        raise typer.Exit(PROBLEMS) from error
    return picture.path, "created"


def _open_store(output: Output, job: RegionJob) -> GeoTesseraZarr | None:
    return choose_store(
        output,
        job.dataset,
        job.store_url,
        may_read_tiles=job.source == "auto" and job.depth is None and job.cache_size is None,
        cache_size=job.cache_size,
        jobs=job.jobs,
    )


def _from_store(
    output: Output, job: RegionJob, store: GeoTesseraZarr, picture: RegionPicture
) -> None:
    from geotessera.webmap.region_plan import check_rgb, plan_store

    plan = plan_store(
        store._zones,
        job.region,
        job.year,
        check_rgb(job.bands),
        depth=job.depth,
        dataset=store.dataset,
    )
    with output.progress("Reading the store") as progress:
        picture.write_bands(plan, progress=progress)


def _from_tiles(
    output: Output, job: RegionJob, where: dict[str, Any], picture: RegionPicture
) -> None:
    """Make the picture of tiles, or of a store's cells."""
    from geotessera.mosaic.record import work_path
    from geotessera.supply.mosaics import TileSupply
    from geotessera.webmap.region_plan import check_rgb, plan_tiles

    work = job.embeddings_dir or work_path(picture.path, "_tiles")
    rasters = _rasters(output, job, where, work)
    keeps = job.embeddings_dir is not None
    if job.pca:
        _fetch_all(output, job, rasters)
        with output.progress("Drawing") as progress:
            picture.write_components(list(rasters.tiles.values()), job.region, progress=progress)
        if not keeps:
            shutil.rmtree(work, ignore_errors=True)
        return
    plan = plan_tiles(rasters.tiles.values(), job.region, check_rgb(job.bands))
    supply = TileSupply(plan, rasters, keeps=keeps, jobs=job.jobs)
    with supply, output.progress("Mosaicking") as progress:
        picture.write_bands(plan, supply=supply, progress=progress)


def _rasters(output: Output, job: RegionJob, where: dict[str, Any], work: Path) -> TileRasters:
    from geotessera.supply.mosaics import TileRasters

    dataset = job.dataset
    if where["source"] == "zarr" and dataset.cache_dir is None and not dataset.offline:
        # Pixels are read three times, and should come once.
        dataset = replace(dataset, cache_dir=work / "cache")
    chosen = SourceOptions(where["source"], where.get("store_url"), job.cache_size)
    options = chosen.client_options(dataset, tiles=job.embeddings_dir)
    registry = dataset.client(job.embeddings_dir, **options).registry
    tiles = job.region.select(registry.iter_tiles_in_region(job.region.bbox, job.year))
    if not tiles:
        raise EmptySelectionError(
            f"no tiles of {job.year} in {job.region.name or tuple(job.region.bbox)}: the dataset "
            f"has the years {', '.join(map(str, registry.get_available_years()))}, and land only"
        )
    with output.progress("Locating tiles", unit="bytes") as progress:
        return TileRasters.find(
            registry, tiles, work, local=job.embeddings_dir, jobs=job.jobs, progress=progress
        )


def _fetch_all(output: Output, job: RegionJob, rasters: TileRasters) -> None:
    from geotessera.download import download_tiles
    from geotessera.grid import tile_to_grid_name

    if not rasters.missing:
        return
    with output.progress("Fetching tiles", unit="bytes") as progress:
        report = download_tiles(
            rasters.registry, rasters.missing, rasters.directory, jobs=job.jobs, progress=progress
        )
    if report.failed:
        raise IncompleteMosaicError(
            {tile_to_grid_name(at.lon, at.lat): why for at, why in report.failed.items()}
        )


def _report_failures(output: Output, error: IncompleteMosaicError) -> None:
    for name, reason in error.failed.items():
        output.note(f"FAILED: {Path(name).name}: {describe(reason)}")
    message = (
        f"{len(error.failed)} tiles are missing, so there is no map yet; what is finished is "
        "kept: run the same command again"
    )
    if not output.as_json:
        output.note(f"Error: {message}")
    failed = [{"tile": Path(name).stem, "message": str(why)} for name, why in error.failed.items()]
    output.emit({"failed": failed, "error": {"type": "IncompleteMosaicError", "message": message}})
