"""What can be fitted to, one after another and strip by strip, in bounded memory."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geotessera.errors import DatasetMismatchError, InputError
from geotessera.sources.base import RasterSource
from geotessera.sources.strips import read_strips
from geotessera.types import Block, GridSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import SourceDescriptor
    from geotessera.types import ProgressCallback, Provenance

    type Pixels = RasterSource | SourceDescriptor | Block | NDArray[np.float32]
    type Opened = RasterSource | Block

__all__ = ["as_block", "each", "kernel_arguments", "strips"]


def strips(pixels: Opened) -> Iterator[Block]:
    """Yield blocks from the top; one is gone when the next one is asked for."""
    if isinstance(pixels, RasterSource):
        for _, strip in read_strips(pixels):
            yield strip
    else:
        yield as_block(pixels)


def as_block(pixels: Block | NDArray[np.float32]) -> Block:
    """Return an array (row, column, band) as a block that lies nowhere.

    Raises
    ------
    InputError
        (a `ValueError`) for what is no such array.
    """
    import numpy as np

    if isinstance(pixels, Block):
        return pixels
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.dtype.kind not in "fiu":
        raise InputError(
            "expected a raster source, a block or an array of numbers (row, column, band), found "
            + (f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else repr(pixels))
        )
    with np.errstate(over="ignore"):  # what is no float32 is infinite: no valid pixel
        values = pixels.astype(np.float32, copy=False)
    if not values.flags.aligned or not values.dtype.isnative:
        values = np.array(values, np.float32)
    height, width, _ = values.shape
    return Block(values, None, GridSpec(4326, (1, 0, 0, 0, -1, 0), height, width))


def kernel_arguments(block: Block) -> dict[str, Any]:
    """Return what the kernels ask of a block, beside its values."""
    return {"scales": block.scales, "nodata": block.nodata, "layout": block.layout}


def each(
    sources: Iterable[Pixels], progress: ProgressCallback | None = None, status: str = ""
) -> Iterator[Opened]:
    """Yield sources one after another, opened, and refuse what does not belong together.

    Raises
    ------
    DatasetMismatchError
        (a `ValueError`) for sources of different datasets.
    InputError
        (a `ValueError`) for sources of different numbers of bands.
    """
    total = len(sources) if isinstance(sources, Sized) else 0
    known: Provenance | None = None
    bands: int | None = None
    done = 0
    for done, item in enumerate(sources):
        if progress is not None:
            progress(done, max(total, done + 1), status)
        with _opened(item) as pixels:
            found = pixels.provenance
            if found.version is not None and found.variant is not None:
                known = known or found
                if (known.version, known.variant) != (found.version, found.variant):
                    raise DatasetMismatchError(
                        f"sources of different datasets, {known.version} {known.variant} and "
                        f"{found.version} {found.variant}: their embeddings do not compare"
                    )
            if bands is not None and pixels.band_count != bands:
                raise InputError(
                    f"sources of {bands} and of {pixels.band_count} bands: pass those of one depth"
                )
            bands = pixels.band_count
            yield pixels
    if progress is not None and bands is not None:
        progress(done + 1, done + 1, status)


@contextmanager
def _opened(pixels: Pixels) -> Iterator[Opened]:
    """Open a descriptor for a while; what is open already, or no file at all, stays as it is."""
    if isinstance(pixels, RasterSource):
        yield pixels
    elif hasattr(pixels, "open"):
        with pixels.open() as source:
            yield source
    else:
        yield as_block(pixels)
