"""The picture of a region: three bands, or principal components, made once and reused.

Beside the picture lies a marker with a digest of what was asked for. While it says the same,
and the picture is as it was left, nothing is read of the dataset.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geotessera.errors import EmptySelectionError, InputError
from geotessera.mosaic.build import plan_region
from geotessera.mosaic.clip import outline_in
from geotessera.mosaic.write import write_mosaic
from geotessera.raster import create_rgb
from geotessera.stages import file_identity, save_stage, stage_matches
from geotessera.stores.mosaic import plan_zones, region_grid
from geotessera.stores.zones import checked_year

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from geotessera.datasets import Dataset
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.mosaic.write import Supply
    from geotessera.regions import Region
    from geotessera.stores.zones import StoreZones
    from geotessera.types import ProgressCallback

__all__ = ["PICTURE", "RegionPicture", "check_rgb", "crs_of_region", "plan_store", "plan_tiles"]

PICTURE, MARKER = "rgb_mosaic.tif", "rgb_mosaic.json"

_SCHEMA = 3
"""Of what the digest is made; 2 is upstream's."""

_ZONE_DEGREES = 12.0
"""Wider regions are made in Web Mercator, narrower ones on the pixels of their UTM zone."""

_METRES = 10.0


def check_rgb(bands: Sequence[int] | None) -> list[int]:
    """Return the three bands of red, green and blue, by default the first ones.

    Raises
    ------
    InputError
        (a `ValueError`) for another number of bands.
    """
    chosen = [0, 1, 2] if bands is None else list(bands)
    if len(chosen) != 3:
        raise InputError(
            f"--bands needs exactly three bands, for red, green and blue; found {len(chosen)}"
        )
    return chosen


@dataclass(frozen=True, slots=True)
class RegionPicture:
    """The picture of a region in a map's directory.

    Parameters
    ----------
    directory : Path
        The map's.
    request : mapping
        All that decides the picture, as JSON can have it.
    """

    directory: Path
    request: dict[str, Any]

    @property
    def path(self) -> Path:
        """The picture."""
        return self.directory / PICTURE

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal digits, of the request."""
        text = json.dumps(self.request | {"schema": _SCHEMA}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def is_there(self) -> bool:
        """Whether the picture is there, of this request, and as it was left."""
        try:
            state = self._state()
        except OSError:
            return False
        return stage_matches(self.directory / MARKER, state)

    def _state(self) -> dict[str, Any]:
        return {"request": self.digest, "artifact": file_identity(self.path, self.directory)}

    def begin(self) -> None:
        """Say that the picture is not this request's: it is about to be made."""
        (self.directory / MARKER).unlink(missing_ok=True)

    def finish(self) -> None:
        """Say that the picture is made."""
        save_stage(self.directory / MARKER, self._state())

    def write_bands(
        self,
        plan: MosaicPlan,
        *,
        supply: Supply | None = None,
        memory: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Make the picture of a plan of three bands: each band's range becomes 0 to 255.

        The bands are written as float32 first; what is there of them is gone on with.

        Raises
        ------
        IncompleteMosaicError
            (a `RuntimeError`) if tiles could not be had; what is there is kept.
        """
        values = self.directory / ".rgb_mosaic_values.tif"
        note = values.with_suffix(".json")
        self.begin()
        if not stage_matches(note, self._made(plan, values)):
            note.unlink(missing_ok=True)
            write_mosaic(
                plan, values, overviews=False, memory=memory, progress=progress, supply=supply
            )
            save_stage(note, self._made(plan, values))
        create_rgb([values], self.path, (0, 1, 2), plan.grid.epsg_or_wkt, progress)
        self.finish()
        for path in (note, values):
            path.unlink(missing_ok=True)

    def _made(self, plan: MosaicPlan, values: Path) -> dict[str, Any]:
        """Return what is said of the values when they are whole."""
        found = file_identity(values, self.directory) if values.is_file() else None
        return {"plan": plan.digest, "artifact": found}

    def write_components(
        self,
        rasters: Sequence[MosaicRaster],
        region: Region,
        *,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Make the picture of the first three principal components of rasters."""
        from geotessera.pictures import make_picture

        self.begin()
        crs = crs_of_region(region)
        make_picture(
            rasters,
            self.path,
            crs=crs,
            resolution=_METRES if crs != 3857 else None,
            region=region,
            clip=region.geometry is not None,
            progress=progress,
        )
        self.finish()


def crs_of_region(region: Region) -> int:
    """Return the EPSG code of a region's picture: its UTM zone, or Web Mercator if it is wide."""
    west, south, east, north = region.bbox
    width = east - west if west <= east else east + 360 - west
    if width > _ZONE_DEGREES:
        return 3857
    lon = (west + width / 2 + 180) % 360
    zone = min(int(lon // 6) + 1, 60)
    return (32600 if south + north >= 0 else 32700) + zone


def plan_store(
    zones: StoreZones,
    region: Region,
    year: int,
    bands: Sequence[int],
    *,
    depth: int | None = None,
    dataset: Dataset | None = None,
) -> MosaicPlan:
    """Plan the bands of a region from a Zarr store, on the store's own pixels where possible."""
    crs = crs_of_region(region)
    grid = region_grid(zones, region.bbox, crs)
    plan = plan_zones(
        zones,
        grid,
        checked_year(year),
        depth=depth,
        bands=bands,
        method="nearest" if crs != 3857 else "bilinear",
        dataset=dataset,
    )
    if region.geometry is None:
        return plan
    return replace(plan, clip=outline_in(region.geometry, grid))


def plan_tiles(rasters: Iterable[MosaicRaster], region: Region, bands: Sequence[int]) -> MosaicPlan:
    """Plan the bands of a region from tiles."""
    made = list(rasters)
    if not made:
        raise EmptySelectionError(f"no tiles in {region.name or tuple(region.bbox)}")
    crs = crs_of_region(region)
    return plan_region(
        made,
        region,
        crs,
        resolution=_METRES if crs != 3857 else None,
        align=True,
        clip=region.geometry is not None,
        method="nearest" if crs != 3857 else "bilinear",
        bands=bands,
    )
