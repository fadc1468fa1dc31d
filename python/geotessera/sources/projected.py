"""Scores of a raster: K float32 bands that are linear in the bands of another source.

Projection and bilinear interpolation commute, so that a mosaic of scores, made as of any
float32 raster, is the scores of the mosaic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.strips import read_strips
from geotessera.types import Block, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate, SourceDescriptor

__all__ = ["ProjectedDescriptor", "ProjectedSource"]


@dataclass(frozen=True, slots=True)
class ProjectedDescriptor:
    """A source, and how its bands become scores.

    Parameters
    ----------
    descriptor : SourceDescriptor
        The source of embeddings.
    weights : sequence of sequences of float, or ndarray, shape (K, B)
        What each band contributes to each score; kept as tuples, so that descriptors are
        equal where their values are.
    offsets : sequence of float, or ndarray, shape (K,)
        What is added to each score.
    """

    descriptor: SourceDescriptor
    weights: Any
    offsets: Any

    def __post_init__(self) -> None:
        """Keep plain numbers, which compare, hash and travel."""
        weights = tuple(tuple(map(float, row)) for row in self.weights)
        offsets = tuple(map(float, self.offsets))
        if len(weights) != len(offsets) or not weights:
            raise InputError(f"{len(weights)} rows of weights and {len(offsets)} offsets")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "offsets", offsets)

    def open(self) -> ProjectedSource:
        """Open the source of embeddings and see it as scores."""
        return ProjectedSource(self.descriptor.open(), self.weights, self.offsets)


class ProjectedSource(RasterSource):
    """Scores of another source, made as they are read.

    Parameters
    ----------
    source : RasterSource
        Embeddings of B bands; closed with this source.
    weights : sequence of sequences of float, or ndarray, shape (K, B)
        What each band contributes to each score.
    offsets : sequence of float, or ndarray, shape (K,)
        What is added to each score.

    Raises
    ------
    InputError
        (a `ValueError`) if the source has another number of bands than the weights.
    """

    def __init__(self, source: RasterSource, weights: Any, offsets: Any) -> None:
        import numpy as np

        self._source = source
        self._weights = np.array(weights, np.float64)
        self._offsets = np.array(offsets, np.float64)
        if self._weights.ndim != 2 or self._weights.shape[1] != source.band_count:
            raise InputError(
                f"weights of shape {self._weights.shape} do not fit a raster of "
                f"{source.band_count} bands"
            )
        self.rule = source.rule
        self.grid = source.grid
        self.block_shape = source.block_shape
        self.band_count = len(self._weights)
        self.provenance = source.provenance

    @property
    def descriptor(self) -> ProjectedDescriptor:
        """What another process needs to open the same scores."""
        return ProjectedDescriptor(self._source.descriptor, self._weights, self._offsets)

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Read scores: float32, NaN where a band is not finite; see `RasterSource.read`."""
        import numpy as np

        part = check_window(window, self.grid)
        picked = check_bands(bands, self.band_count)
        weights = self._weights if picked is None else self._weights[picked]
        offsets = self._offsets if picked is None else self._offsets[picked]
        shape = (part.height, part.width, len(weights))
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise InputError(f"out must be float32 of shape {shape}, found {out.dtype} {out.shape}")
        self._fill(part, weights, offsets, out)
        return Block(out, None, self.grid.window(part), provenance=self.provenance)

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Read scores into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        shape = (part.height, part.width, self.band_count)
        return self.read(part, out=allocate(shape, "float32"))

    def _fill(
        self,
        part: Window,
        weights: NDArray[np.float64],
        offsets: NDArray[np.float64],
        out: NDArray[np.float32],
    ) -> None:
        """Write the scores of a window, some rows of embeddings in memory at a time."""
        from geotessera import _native

        for top, block in read_strips(self._source, part):
            _native.project_bands(
                block.values,
                block.scales,
                weights,
                offsets,
                nodata=block.nodata,
                layout=block.layout,
                out=out[top : top + block.grid.height],
            )

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask of the source of embeddings."""
        return self._source.land()

    def close(self) -> None:
        """Close the source of embeddings."""
        self._source.close()
