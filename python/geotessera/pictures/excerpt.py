"""A part of another source, or all of it, without its water if that is not wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import InputError
from geotessera.sources.base import RasterSource, check_window
from geotessera.types import Block, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate, SourceDescriptor

__all__ = ["Excerpt", "ExcerptSource"]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A window of another raster: a descriptor.

    Parameters
    ----------
    descriptor : SourceDescriptor
        The raster.
    window : Window, optional
        Which pixels of it; all by default.
    mask_water : bool
        Whether pixels that its landmask calls water have no embedding.
    """

    descriptor: SourceDescriptor
    window: Window | None = None
    mask_water: bool = False

    @property
    def path(self) -> str:
        """What messages call the raster."""
        at = self.descriptor
        return str(getattr(at, "embedding", getattr(at, "path", at)))

    def open(self) -> ExcerptSource:
        """Open the raster."""
        return ExcerptSource(self)


class ExcerptSource(RasterSource):
    """A window of another source, read as a raster of its own.

    Parameters
    ----------
    descriptor : Excerpt
        Which raster, and what of it.

    Raises
    ------
    InputError
        (a `ValueError`) if water is not wanted and the raster has no landmask.
    """

    def __init__(self, descriptor: Excerpt) -> None:
        self._descriptor = descriptor
        self._source = source = descriptor.descriptor.open()
        self._place = check_window(descriptor.window, source.grid)
        self.grid = source.grid.window(self._place)
        self.band_count = source.band_count
        self.block_shape = (
            min(source.block_shape[0], self.grid.height),
            min(source.block_shape[1], self.grid.width),
        )
        self.provenance = source.provenance
        self.rule = source.rule
        self._land: NDArray[np.uint8] | None = None
        if descriptor.mask_water:
            self._land = self.land()
            if self._land is None:
                raise InputError(
                    f"{descriptor.path} has no landmask that says which pixels are water"
                )

    @property
    def descriptor(self) -> Excerpt:
        """The raster, and what of it."""
        return self._descriptor

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask of the window, 0 = water, or None where there is none."""
        if self._land is not None:
            return self._land
        row, col, height, width = self._place
        whole = self._source.land()
        return None if whole is None else whole[row : row + height, col : col + width]

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Read pixels of the window; see `RasterSource.read`."""
        part = check_window(window, self.grid)
        return self._dried(self._source.read(self._moved(part), bands, out), part)

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Read pixels into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        return self._dried(self._source.read_into(self._moved(part), allocate), part)

    def _moved(self, part: Window) -> Window:
        row, col, height, width = part
        return Window(row + self._place.row, col + self._place.col, height, width)

    def _dried(self, block: Block, part: Window) -> Block:
        if self._land is None:
            return block
        row, col, height, width = part
        water = self._land[row : row + height, col : col + width] == 0
        nothing = np.float32(np.nan)
        # The arrays may be the file itself: copies are changed.
        if block.scales is None:
            if block.layout == "hwc":
                water = water[..., None]
            return replace(block, values=np.where(water, nothing, block.values))
        if block.scales.ndim == 3 and block.layout == "hwc":
            water = water[..., None]
        return replace(block, scales=np.where(water, nothing, block.scales))

    def close(self) -> None:
        """Close the raster."""
        self._source.close()
