"""The picture of a region: three bands, or principal components, made once and reused.

Beside the picture lies a marker with a digest of what was asked for. While it says the same,
and the picture is as it was left, nothing is read of the dataset.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotessera.mosaic.write import write_mosaic
from geotessera.raster import create_rgb
from geotessera.stages import file_identity, save_stage, stage_matches
from geotessera.webmap.region_plan import crs_of_region, resolution_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.mosaic.write import Supply
    from geotessera.regions import Region
    from geotessera.types import ProgressCallback

__all__ = ["PICTURE", "RegionPicture"]

PICTURE, MARKER = "rgb_mosaic.tif", "rgb_mosaic.json"

_SCHEMA = 3
"""Of what the digest is made; 2 is upstream's."""


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
            resolution=resolution_in(crs),
            region=region,
            clip=region.geometry is not None,
            progress=progress,
        )
        self.finish()
