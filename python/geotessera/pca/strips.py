"""Pixels of any kind as blocks that the kernels take, strip by strip in bounded memory."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.sources.base import RasterSource
from geotessera.sources.floats import as_float32
from geotessera.sources.strips import read_strips
from geotessera.types import Block, GridSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    type Opened = RasterSource | Block

__all__ = ["as_block", "kernel_arguments", "strips"]

_SHORT = reprlib.Repr(maxlevel=1)
"""What messages say of things that may hold a million numbers."""


def strips(pixels: Opened) -> Iterator[Block]:
    """Yield blocks from the top; one is gone when the next one is asked for."""
    if isinstance(pixels, RasterSource):
        for _, strip in read_strips(pixels):
            yield strip
    else:
        yield as_block(pixels)


def as_block(pixels: Block | NDArray[np.float32]) -> Block:
    """Return an array (row, column, band) as a block that lies nowhere.

    What is masked, or no float32, makes no valid pixel.

    Raises
    ------
    InputError
        (a `ValueError`) for what is no such array.
    """
    import numpy as np

    if isinstance(pixels, Block):
        return pixels
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.dtype.kind not in "fiu":
        is_array = isinstance(pixels, np.ndarray)
        raise InputError(
            "expected a raster source, a block or an array of numbers (row, column, band), found "
            + (f"{pixels.dtype} of shape {pixels.shape}" if is_array else _SHORT.repr(pixels))
        )
    values = as_float32(pixels)
    if not values.flags.aligned or not values.dtype.isnative:
        values = np.array(values, np.float32)
    height, width, _ = values.shape
    return Block(values, None, GridSpec(4326, (1, 0, 0, 0, -1, 0), height, width))


def kernel_arguments(block: Block) -> dict[str, Any]:
    """Return what the kernels ask of a block, beside its values."""
    return {"scales": block.scales, "nodata": block.nodata, "layout": block.layout}
