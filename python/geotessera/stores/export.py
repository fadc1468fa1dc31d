"""Regions of a store as GeoTIFFs: one for each zone, or one for all on a grid of choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import NoOverlapError
from geotessera.mosaic.geotiffs import DIGEST_TAG
from geotessera.mosaic.write import write_mosaic
from geotessera.sidecar import check_dataset_dir, write_tessera_metadata
from geotessera.sources.base import check_bands
from geotessera.stores.mosaic import plan_zone, plan_zones, region_grid
from geotessera.stores.regions import box_of, check_own_grid, check_rows
from geotessera.stores.zones import (
    StoreZones,
    checked_year,
    pixels_of_bounds,
    zone_bounds,
    zones_of_box,
)
from geotessera.tiff.codecs import Codec
from geotessera.types import BBox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

    from geotessera.datasets import Dataset
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.types import Method, ProgressCallback

__all__ = ["ZoneExport", "plan_exports", "write_exports"]


@dataclass(frozen=True)
class ZoneExport:
    """A file that an export makes.

    Parameters
    ----------
    name : str
        Of the file.
    zone : int or None
        Its zone; None for all of them on one grid.
    plan : MosaicPlan
        What goes into it.
    """

    name: str
    zone: int | None
    plan: MosaicPlan

    def describe(self) -> dict[str, Any]:
        """Return what a dry run says of it."""
        height, width, bands = self.plan.shape
        return {
            "zone": self.zone,
            "width": width,
            "height": height,
            "uncompressed_bytes": height * width * bands * 4,
        }


def plan_exports(
    zones: StoreZones,
    bbox: Any,
    year: int,
    *,
    source: str,
    dataset: Dataset | None = None,
    bands: Sequence[int] | None = None,
    depth: int | None = None,
    strip_rows: int = 128,
    crs: Any = None,
    like: Any = None,
    resolution: float | tuple[float, float] | None = None,
    method: Method = "nearest",
    outline: BaseGeometry | None = None,
) -> list[ZoneExport]:
    """Return the files of an export; nothing but metadata is read.

    Parameters
    ----------
    zones : StoreZones
        The store's zones.
    bbox : sequence of 4 float
        West > east crosses the antimeridian; may be None with `like`.
    year, bands, depth, crs, like, resolution, method
        As for regions.
    source : str
        What files say they come from.
    dataset : Dataset, optional
        What the store holds.
    strip_rows : int
        Checked and not used: files are written in blocks, within a budget of memory.
    outline : shapely geometry, optional
        In WGS84 degrees, cut at the antimeridian: of each zone only the box is written that
        its part there needs, and no zone without one. Without an area, and with `crs` or
        `like`, it does nothing.

    Raises
    ------
    NoOverlapError
        (a `ValueError`) if the box lies outside the grids of all zones.
    InputError
        (a `ValueError`) for arguments that cannot be used.
    """
    box = None if bbox is None and like is not None else box_of(bbox)
    wanted = checked_year(year)
    count = zones.check_depth(depth)
    check_rows(strip_rows)
    picked = check_bands(bands, count)
    store = zones.store
    tags = {
        "TESSERA_DESCRIPTION": "GeoTessera satellite embeddings",
        "TESSERA_YEAR": str(wanted),
        "TESSERA_SOURCE": source,
        "TESSERA_MODEL": store.model_version,
        "TESSERA_BUILD_VERSION": store.build_version,
        "TESSERA_BANDS": ",".join(map(str, picked or range(count))),
    }
    if crs is None and like is None:
        assert box is not None  # there is no `like`
        check_own_grid(resolution, method)
        parts = list(zones_of_box(box))
        if outline is not None and outline.area:
            parts = [(number, near) for number, part in parts for near in _near(outline, part)]
        exports = _by_zone(zones, box, parts, wanted, depth, picked, dataset)
    else:
        grid = region_grid(zones, box, crs, like, resolution)
        plan = plan_zones(
            zones, grid, wanted, depth=depth, bands=picked, method=method, dataset=dataset
        )
        name = f"epsg{grid.epsg}" if grid.epsg is not None else "merged"
        exports = [ZoneExport(f"tessera_{wanted}_{name}.tif", None, plan)]
    return [replace(one, plan=replace(one.plan, tags=tuple(tags.items()))) for one in exports]


def _by_zone(
    zones: StoreZones,
    box: BBox,
    parts: Sequence[tuple[int, BBox]],
    year: int,
    depth: int | None,
    bands: Sequence[int] | None,
    dataset: Dataset | None,
) -> list[ZoneExport]:
    exports = []
    for number, part in parts:
        zone = zones.find(number)
        if zone is None:
            continue
        try:
            window = pixels_of_bounds(zone.grid, zone_bounds(part, number))
        except NoOverlapError:
            continue
        plan = plan_zone(zones, zone, window, year, depth=depth, bands=bands, dataset=dataset)
        exports.append(ZoneExport(f"tessera_{year}_utm{number:02d}.tif", number, plan))
    if not exports:
        held = ", ".join(map(str, sorted(zones.numbers))) or "none"
        edges = ", ".join(f"{edge:.10g}" for edge in box)
        raise NoOverlapError(
            f"the region ({edges}) does not intersect any zone grid of {zones.store.location}, "
            f"which holds zones {held}"
        )
    return exports


def write_exports(
    exports: Sequence[ZoneExport],
    directory: str | Path,
    *,
    dataset: Dataset | None = None,
    compress: str = "lzw",
    progress: ProgressCallback | None = None,
    resume: bool = False,
    memory: int | None = None,
) -> list[Path]:
    """Write the files of an export, one after another; each appears whole or not at all.

    A file that a run was killed in is gone on with by the next run.

    Parameters
    ----------
    exports : sequence of ZoneExport
        What to write.
    directory : path
        Where; made if missing.
    dataset : Dataset, optional
        What the directory is recorded to hold.
    compress : {"lzw", "zstd", "deflate", "none"}
        Of the files.
    progress : callable, optional
        Called with (blocks done, blocks in all, status text).
    resume : bool
        Whether to leave alone what an earlier run of the same request finished: same store,
        pixels, bands and compression, as the file's tags say. What was added to the store
        since is then not seen.
    memory : int, optional
        Bytes that the whole process may use.

    Returns
    -------
    list of Path
        Of all files, in the order of `exports`.

    Raises
    ------
    DatasetMismatchError
        (a `ValueError`) if the directory holds another dataset.
    InputError
        (a `ValueError`) for a compression that cannot be used.
    UnwritableDestination
        (an `OSError`) if a file cannot be written.
    """
    import numpy as np

    Codec.of(compress, np.dtype(np.float32))
    root = Path(directory)
    if dataset is not None:
        check_dataset_dir(root, dataset.version, dataset.variant)
    total = sum(one.plan.block_count for one in exports)
    done, paths = 0, []
    for one in exports:
        path = root / one.name
        if not (resume and _is_finished(path, one.plan, compress)):
            write_mosaic(
                one.plan,
                path,
                compress=compress,
                memory=memory,
                overviews=False,
                progress=_Part(progress, one, done, total) if progress else None,
            )
        done += one.plan.block_count
        if progress is not None:
            progress(done, total, f"{one.name} is complete")
        paths.append(path)
    if dataset is not None and exports:
        tags = dict(exports[0].plan.tags)
        extra = {"format": "tiff", "year": int(tags["TESSERA_YEAR"])}
        extra["source"] = tags["TESSERA_SOURCE"]
        write_tessera_metadata(root, dataset.version, dataset.variant, extra)
    return paths


def _near(outline: BaseGeometry, part: BBox) -> list[BBox]:
    """Return the box of what of an outline lies in a box, if it is an area: none or one."""
    import shapely

    found = shapely.intersection(outline, shapely.box(*part))
    return [BBox(*found.bounds)] if found.area else []


@dataclass(frozen=True)
class _Part:
    """Tells how far an export is, from how far one of its files is."""

    progress: ProgressCallback
    file: ZoneExport
    before: int
    total: int

    def __call__(self, current: int, total: int, status: str = "") -> None:
        # A file is written in other units than the plan's blocks.
        blocks = current * self.file.plan.block_count // total
        self.progress(self.before + blocks, self.total, status or self.file.name)


def _is_finished(path: Path, plan: MosaicPlan, compress: str) -> bool:
    """Return whether a file is what would be written: by what it says of itself."""
    import rasterio
    from rasterio.errors import RasterioError

    if not path.is_file():
        return False
    try:
        with rasterio.open(path) as found:
            tags = found.tags()
            kind = found.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
    except RasterioError:
        return False
    wanted = dict(plan.tags) | {DIGEST_TAG: plan.digest}
    same = all(tags.get(tag, "") == value for tag, value in wanted.items())
    return same and kind.lower() == compress.lower()
