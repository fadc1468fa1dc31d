"""What `geotessera mosaic` makes: of which tiles, and on which grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geotessera.cli.errors import UsageError
from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.cli.output import Output
    from geotessera.cli.selectors import RegionOptions
    from geotessera.mosaic import MosaicPlan
    from geotessera.mosaic.parts import RegionPart
    from geotessera.regions import Region
    from geotessera.registry import Registry
    from geotessera.supply.mosaics import TileRasters
    from geotessera.types import GridSpec, TileId

__all__ = [
    "Job",
    "check",
    "choose_part",
    "choose_region",
    "describe_part",
    "find_rasters",
    "parse_part",
    "plan_mosaic",
]

_ALIKE = 0.1
"""How much metres of a CRS may differ from those on the ground to be taken for them."""

_SAMPLE = 64
"""Tiles by which the pixels of all of them are estimated."""

_LISTED = 6
"""Parts that an error lists."""


@dataclass(frozen=True, slots=True)
class Job:
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
    part: int | Literal["all"] | None
    dry_run: bool

    def work_directory(self) -> Path:
        """Where tiles go: where the user keeps them, or beside the mosaic while it is made."""
        if self.directory is not None:
            return self.directory
        from geotessera.mosaic.record import work_path

        return work_path(self.path or Path("mosaic"), "_tiles")


def check(job: Job) -> None:
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
        from geotessera.mosaic.record import check_idle
        from geotessera.remote.partfile import check_target, check_writable

        if job.fmt == "zarr":
            check_writable(job.path.parent)  # a store that is there is replaced
        else:
            check_target(job.path)
        if not job.dry_run:
            check_idle(job.path)


def choose_region(job: Job, where: RegionOptions) -> tuple[Region, GridSpec | None]:
    """Return the region, and the grid if ``--like`` gives one."""
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


# --- Parts -------------------------------------------------------------------------------


def parse_part(text: str | None) -> int | Literal["all"] | None:
    """Return the part that ``--part`` names: a number from 1, all, or None if it is not given."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--part {text!r}: expected a number from 1, or 'all'")
    return int(text)


def choose_part(
    job: Job,
    region: Region,
    grid: GridSpec | None,
    tiles: Sequence[TileId],
    parts: Sequence[RegionPart],
) -> tuple[Region, Sequence[TileId]]:
    """Return the part of the region that was asked for, or all of it.

    Raises
    ------
    InputError
        (a `ValueError`) if there is no such part, or if none was asked for and hardly anything
        of one grid round all of them would be filled.
    """
    if isinstance(job.part, int):
        if job.part > len(parts):
            raise InputError(f"there is no --part {job.part}. {_listed(region, parts)}")
        return parts[job.part - 1].region, parts[job.part - 1].tiles
    if job.part is None and grid is None and not job.dry_run:
        _check_filled(job, region, parts, tiles)
    return region, tiles


def _check_filled(
    job: Job, region: Region, parts: Sequence[RegionPart], tiles: Sequence[TileId]
) -> None:
    """Refuse a grid that tiles hardly fill, before anything is fetched."""
    from geotessera.grid import tile_footprint
    from geotessera.mosaic.extent import is_nearly_empty
    from geotessera.mosaic.grids import grid_of_bounds, project_bbox
    from geotessera.mosaic.reach import reach_of

    # Where their cells are is near enough to where their landmasks say.
    some = [tile_footprint(tile.lon, tile.lat) for tile in tiles[:: -(-len(tiles) // _SAMPLE)]]
    crs, resolution = _usual_grid(job, some)
    try:
        bounds = project_bbox(region.bbox, crs)
    except InputError as error:
        raise InputError(f"{error}. {_listed(region, parts)}") from error
    grid = grid_of_bounds(crs, bounds, resolution, align=True)
    reaches = [reach for one in some if (reach := reach_of(grid, one)) is not None]
    area = sum(reach.height * reach.width for reach in reaches) / len(some) * len(tiles)
    pixels = grid.height * grid.width
    if is_nearly_empty(pixels, area):
        raise InputError(
            f"one grid round all tiles has {grid.width:,} × {grid.height:,} pixels in "
            f"{grid.crs_name[:80]}, of which they fill one in {pixels / max(area, 1):,.0f}. "
            f"{_listed(region, parts)}"
        )


def _listed(region: Region, parts: Sequence[RegionPart]) -> str:
    from geotessera.mosaic.parts import APART_KM

    texts = [f"{number}: {describe_part(part)}" for number, part in enumerate(parts, 1)]
    more = f"; … {len(parts)}" if len(parts) > _LISTED else ""
    apart = f"{len(parts)} parts {APART_KM} km apart or farther" if len(parts) > 1 else "one part"
    return (
        f"The tiles of {region.name or 'the region'} lie in {apart}: choose with --part "
        f"({'; '.join(texts[:_LISTED])}{more}; or 'all' for one grid round the whole region)"
    )


def describe_part(part: RegionPart) -> str:
    """Return how many tiles a part has, and where."""
    where = ",".join(f"{degrees:.6g}" for degrees in part.region.bbox)
    return f"{len(part.tiles):,} tiles in {where}"


# --- Tiles and grid ----------------------------------------------------------------------


def find_rasters(
    output: Output, job: Job, registry: Registry, tiles: Sequence[TileId]
) -> TileRasters:
    """Find the tiles on disk, and unless it is a dry run fetch the landmasks of the others."""
    from geotessera.supply.mosaics import TileRasters

    with output.progress("Locating tiles", unit="bytes") as progress:
        return TileRasters.find(
            registry,
            tiles,
            job.work_directory(),
            local=job.directory,
            quantized=job.quantized,
            georeference="landmask" if job.georeference == "landmask" else "snapped",
            fetch=not job.dry_run,
            jobs=job.jobs,
            progress=progress,
        )


def plan_mosaic(
    job: Job, region: Region, grid: GridSpec | None, rasters: TileRasters
) -> MosaicPlan:
    """Plan the mosaic."""
    from geotessera.mosaic import plan_region

    how: dict[str, Any] = {
        "method": job.method,
        "bands": job.bands,
        "quantized": job.quantized,
        "clip": job.clip,
    }
    made = rasters.tiles.values()
    if grid is not None:
        return plan_region(made, region, like=grid, **how)
    crs, resolution = _usual_grid(job, [raster.grid for raster in made])
    return plan_region(made, region, crs, resolution=resolution, align=True, **how)


def _usual_grid(
    job: Job, tiles: Sequence[GridSpec]
) -> tuple[int | str, float | tuple[float, float]]:
    """Return the CRS and resolution that were asked for, or those that are usual for tiles.

    The CRS is that of most of them, of equals the first one's; the resolution 10 m where its
    metres are about those on the ground, and else what GDAL gives the first of those tiles.
    """
    from geotessera.grid import PIXEL_METRES
    from geotessera.mosaic.grids import crs_code, default_resolution

    counts: dict[int | str, int] = {}
    for tile in tiles:
        counts[tile.epsg_or_wkt] = counts.get(tile.epsg_or_wkt, 0) + 1
    most = max(counts, key=lambda code: counts[code])
    code = crs_code(job.crs) if job.crs is not None else most
    if job.resolution is not None:
        return code, job.resolution
    first = next(tile for tile in tiles if tile.epsg_or_wkt == most)
    guess = default_resolution(first, code)
    return code, PIXEL_METRES if abs(min(guess) / PIXEL_METRES - 1) < _ALIKE else guess
