"""Fitting: the covariance of every valid pixel, and its eigenvectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geotessera.errors import InputError
from geotessera.pca.model import PcaModel
from geotessera.pca.strips import each, strips
from geotessera.sources.floats import as_float
from geotessera.types import Block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.pca.strips import Pixels
    from geotessera.types import ProgressCallback

__all__ = ["fit"]


def fit(
    sources: Iterable[Pixels],
    n_components: int = 3,
    standardize: bool = True,
    progress: ProgressCallback | None = None,
) -> PcaModel:
    """Fit principal components to every valid pixel of some sources."""
    count, sums, products = 0, np.zeros(0), np.zeros((0, 0))
    for pixels in each(sources, progress, "Fitting components"):
        for _, strip in strips(pixels):
            values = as_float(strip) if isinstance(strip, Block) else strip
            valid = values[np.isfinite(values).all(axis=-1)].astype(np.float64)
            count += len(valid)
            sums = sums + valid.sum(0) if len(sums) else valid.sum(0)
            products = products + valid.T @ valid if len(products) else valid.T @ valid
    if count < 2 or n_components > min(count, len(sums)) or n_components < 1:
        raise InputError(f"{n_components} components of {count} pixels of {len(sums)} bands")
    mean = sums / count
    covariance = (products - count * np.outer(mean, mean)) / (count - 1)
    scale = np.ones_like(mean)
    if standardize:
        scale = np.sqrt(covariance.diagonal() * (count - 1) / count)
        scale[scale == 0] = 1
    variances, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    components = vectors.T[::-1][:n_components]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
    return PcaModel(
        mean,
        scale,
        components,
        np.maximum(variances[::-1][:n_components], 0),
        float(np.maximum(variances, 0).sum()),
        count,
    )
