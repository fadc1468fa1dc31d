"""Rasters strip by strip, whatever they are, in bounded memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geotessera.errors import DatasetMismatchError, InputError
from geotessera.sources.base import RasterSource
from geotessera.types import Block, Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import SourceDescriptor
    from geotessera.types import ProgressCallback

    type Pixels = RasterSource | SourceDescriptor | Block | NDArray[np.float32]

__all__ = ["each", "opened", "strips"]

STRIP_BYTES = 16 * 2**20
"""Most that the float32 or int8 values of one strip take."""


@contextmanager
def opened(pixels: Pixels) -> Iterator[RasterSource | Block | NDArray[np.float32]]:
    """Open a descriptor for a while; what is open already, or no file at all, stays as it is."""
    if hasattr(pixels, "open"):
        with pixels.open() as source:
            yield source
    else:
        yield pixels


class _Memory:
    """Arrays that are used again for the next strip."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def __call__(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        import math

        import numpy as np

        size = math.prod(shape) * np.dtype(dtype).itemsize
        kept = self._kept.get(dtype)
        if kept is None or kept.size < size:
            kept = self._kept[dtype] = np.empty(size, np.uint8)
        return kept[:size].view(dtype).reshape(shape)


def strips(
    pixels: RasterSource | Block | NDArray[np.float32],
) -> Iterator[tuple[int, Block | NDArray[np.float32]]]:
    """Yield (first row, strip) from the top; a strip is gone when the next one is asked for."""
    if not isinstance(pixels, RasterSource):
        yield 0, pixels
        return
    grid = pixels.grid
    itemsize = 1 if pixels.block_shape == (grid.height, grid.width) else 4
    rows = STRIP_BYTES // (grid.width * pixels.band_count * itemsize)
    across = pixels.block_shape[0]
    rows = max(rows // across * across if rows >= across else rows, 1)
    memory = _Memory()
    for top in range(0, grid.height, rows):
        window = Window(top, 0, min(rows, grid.height - top), grid.width)
        yield top, pixels.read_into(window, memory)


def each(
    sources: Iterable[Pixels], progress: ProgressCallback | None = None, status: str = ""
) -> Iterator[RasterSource | Block | NDArray[np.float32]]:
    """Yield sources one after another, opened, and refuse what does not belong together.

    Raises
    ------
    DatasetMismatchError
        (a `ValueError`) for sources of different datasets.
    InputError
        (a `ValueError`) for sources of different numbers of bands.
    """
    listed = list(sources)
    first: Provenance | None = None
    bands: int | None = None
    for done, item in enumerate(listed):
        if progress is not None:
            progress(done, len(listed), status)
        with opened(item) as pixels:
            found = getattr(pixels, "provenance", Provenance())
            if found.version is not None or found.variant is not None:
                first = first or found
                if (first.version, first.variant) != (found.version, found.variant):
                    raise DatasetMismatchError(
                        f"sources of different datasets, {first.version} {first.variant} and "
                        f"{found.version} {found.variant}: components mean something only "
                        "within one dataset"
                    )
            count = band_count(pixels)
            if bands is not None and count != bands:
                raise InputError(f"sources of {bands} and of {count} bands: pass those of one kind")
            bands = count
            yield pixels
    if progress is not None and listed:
        progress(len(listed), len(listed), status)


def band_count(pixels: RasterSource | Block | NDArray[np.float32]) -> int:
    """Return how many bands there are."""
    if isinstance(pixels, RasterSource | Block):
        return pixels.band_count
    if getattr(pixels, "ndim", None) != 3:
        raise InputError(
            f"expected a raster source, a block or an array (row, column, band), found {pixels!r}"
        )
    return int(pixels.shape[2])
