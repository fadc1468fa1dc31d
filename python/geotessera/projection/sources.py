"""What principal components are made of, in all forms that a tile can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.pca.sources import each
from geotessera.pictures.arrays import ArrayRaster
from geotessera.sources.base import RasterSource
from geotessera.sources.floats import as_float
from geotessera.sources.strips import read_strips
from geotessera.tiles import Tile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geotessera.sources.base import SourceDescriptor
    from geotessera.types import Block

    type Source = Tile | RasterSource | SourceDescriptor | Block | NDArray[Any] | Mapping[str, Any]

__all__ = ["blocks", "metadata", "pixels_of"]


def blocks(source: Source, rows: int = 128) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, float32 (h, width, band)) from the top, NaN where nothing is."""
    if isinstance(source, Tile):
        yield from source.iter_blocks(rows)
        return
    for pixels in each([pixels_of(source)]):
        if isinstance(pixels, RasterSource):
            for top, strip in read_strips(pixels, rows=rows):
                yield top, np.array(as_float(strip))  # the strip's memory is used again
        else:
            yield 0, as_float(pixels)


def metadata(source: Source) -> dict[str, Any]:
    """Return ``height``, ``width``, ``crs`` and ``transform`` of a source."""
    for pixels in each([pixels_of(source)]):
        grid = pixels.grid
    return {
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs,
        "transform": grid.affine,
    }


def pixels_of(source: Source) -> Any:
    """Return what can be fitted to."""
    if isinstance(source, Tile):
        return source.source()
    return ArrayRaster.of(source, "a source") if isinstance(source, Mapping) else source
