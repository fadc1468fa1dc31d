"""Mean and covariance of every valid pixel, strip by strip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native
from geotessera.pca.strips import kernel_arguments
from geotessera.sources.floats import as_float
from geotessera.types import Block, GridSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Moments"]

_SAMPLE = 64
"""Rows and columns of the sample that the origin is made of."""

_FAR = 10
"""How many standard deviations the mean of a block may be from the origin: squares are good to
1e-6, and the variance that is left of them to a hundred times that."""


class Moments:
    """Sums over pixels that are finite in every band, relative to an origin among them.

    The origin keeps what is summed small, so that float32 serves within a block. It is the
    median of a few pixels: a mean would follow the few that are absurdly large.

    Parameters
    ----------
    bands : int
        Number of bands.

    Attributes
    ----------
    count : int
        Pixels so far.
    """

    def __init__(self, bands: int) -> None:
        self.count = 0
        self._origin: NDArray[np.float32] | None = None
        self._mean = np.zeros(bands)
        self._scatter = np.zeros((bands, bands))

    def add(self, block: Block) -> None:
        """Add the pixels of a block."""
        if self._origin is None:
            self._origin = _median(block)
        origin = np.zeros_like(self._mean, np.float32) if self._origin is None else self._origin
        count, sums, products = _sums(block, origin)
        if not count:
            return
        with np.errstate(over="ignore"):
            nearer = (origin + sums / count).astype(np.float32)
        if _is_far(count, sums, products) and np.isfinite(nearer).all():
            origin = nearer
            count, sums, products = _sums(block, origin)
        # Chan, Golub and LeVeque (1979): two sets with means of their own become one.
        mean = sums / count
        scatter = products - np.outer(sums, mean)
        between = origin.astype(np.float64) + mean - self._mean
        total = self.count + count
        self._scatter += scatter + np.outer(between, between) * (self.count * count / total)
        self._mean += between * (count / total)
        self.count = total

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each band."""
        return self._mean

    @property
    def scatter(self) -> NDArray[np.float64]:
        """Sum of products of differences from the mean: (B, B), symmetric."""
        return self._scatter


def _sums(
    block: Block, origin: NDArray[np.float32]
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    return _native.moments(block.values, **kernel_arguments(block), origin=origin)


def _is_far(count: int, sums: NDArray[np.float64], products: NDArray[np.float64]) -> bool:
    """Whether pixels are so far from the origin that float32 squares hide how they differ."""
    from_origin = (sums / count) ** 2
    return bool((from_origin > _FAR**2 * (products.diagonal() / count - from_origin)).any())


def _median(block: Block) -> NDArray[np.float32] | None:
    """Return the median of some pixels of a block, or None if none of them is valid."""
    chw = block.layout == "chw"
    height, width = block.values.shape[1:] if chw else block.values.shape[:2]
    steps = (slice(None, None, -(-height // _SAMPLE) or 1), slice(None, None, -(-width // _SAMPLE)))
    if not block.values.size:
        return None
    index = (slice(None), *steps) if chw else steps
    scales = block.scales
    if scales is not None:
        scales = scales[index] if scales.ndim == 3 else scales[steps]
    sample = as_float(
        Block(block.values[index], scales, GridSpec(4326, (1, 0, 0, 0, 1, 0), 1, 1), block.layout)
    )
    if block.nodata is not None:
        sample = np.where(sample == np.float32(block.nodata), np.float32(np.nan), sample)
    valid = sample[np.isfinite(sample).all(axis=-1)]
    if not len(valid):
        return None
    middle: NDArray[np.float32] = np.partition(valid, len(valid) // 2, axis=0)[len(valid) // 2]
    return np.ascontiguousarray(middle)
