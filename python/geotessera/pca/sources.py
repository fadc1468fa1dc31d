"""What can be fitted to, opened one after another; all of it must belong together."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geotessera.errors import DatasetMismatchError, InputError
from geotessera.pca.strips import as_block
from geotessera.sources.base import RasterSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.pca.strips import Opened
    from geotessera.sources.base import SourceDescriptor
    from geotessera.types import Block, ProgressCallback, Provenance

    type Pixels = RasterSource | SourceDescriptor | Block | NDArray[np.float32]

__all__ = ["each"]


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
