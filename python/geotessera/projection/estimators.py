"""Components and scores under the names of scikit-learn, which is not needed for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import InputError
from geotessera.pca import fit
from geotessera.pca.sources import each
from geotessera.pca.strips import as_block, kernel_arguments, strips
from geotessera.projection.sources import pixels_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from geotessera.projection.sources import Source
    from geotessera.types import Block

__all__ = ["Components", "Scaler", "fit_projection", "transform_block"]


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Mean and deviation of bands, under the names of scikit-learn's ``StandardScaler``.

    Parameters
    ----------
    mean_, scale_ : ndarray of float64, shape (B,)
        What is subtracted, and what is divided by then.
    n_samples_seen_ : int
        Pixels that they were made of.
    """

    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    n_samples_seen_: int

    def transform(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return (n, B) values, standardised."""
        made: NDArray[np.float64] = (np.asarray(values) - self.mean_) / self.scale_
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Principal components, under the names of scikit-learn's ``PCA``.

    Parameters
    ----------
    components_ : ndarray of float64, shape (K, B)
        Unit vectors, by descending variance.
    mean_ : ndarray of float64, shape (B,)
        What is subtracted first.
    explained_variance_, explained_variance_ratio_ : ndarray of float64, shape (K,)
        Variance along each component, and its share of all.
    """

    components_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    explained_variance_: NDArray[np.float64]
    explained_variance_ratio_: NDArray[np.float64]

    @property
    def n_components_(self) -> int:
        """Number of components."""
        return len(self.components_)

    def transform(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the scores, (n, K), of (n, B) values."""
        made: NDArray[np.float64] = (np.asarray(values) - self.mean_) @ self.components_.T
        return made


def fit_projection(
    sources: Iterable[Source],
    n_components: int = 3,
    standardize: bool = True,
    max_samples: int = 100_000,
) -> tuple[Scaler | None, Components, NDArray[np.float32]]:
    """Fit principal components to every valid pixel of some tiles.

    Parameters
    ----------
    sources : iterable of Tile, dict, RasterSource, SourceDescriptor, Block or ndarray
        Dictionaries have ``data`` (row, column, band), ``crs`` and ``transform``.
    n_components : int
        How many components.
    standardize : bool
        Divide each band by its standard deviation first.
    max_samples : int
        Most scores that are returned; the fit leaves no pixel out.

    Returns
    -------
    scaler : Scaler or None
        None where bands are not standardised.
    pca : Components
    scores : ndarray of float32, shape (n, K)
        Of every valid pixel, or of each m-th of them where there are more than
        `max_samples`.

    Raises
    ------
    InputError
        (a `ValueError`) for fewer valid pixels, or fewer bands, than components.
    """
    if max_samples < 1:
        raise InputError(f"max_samples={max_samples}: expected at least 1")
    listed = [pixels_of(source) for source in sources]
    model = fit(listed, n_components, standardize)
    step = -(-model.pixels // max_samples)
    picked, seen = [], 0
    for pixels in each(listed):
        for strip in strips(pixels):
            scores = model.project(strip)
            valid = scores[~np.isnan(scores[..., 0])]
            picked.append(valid[-seen % step :: step])
            seen += len(valid)
    pca = Components(
        model.components,
        np.zeros_like(model.mean) if standardize else model.mean,
        model.explained_variance,
        model.explained_variance_ratio,
    )
    scaler = Scaler(model.mean, model.scale, model.pixels) if standardize else None
    return scaler, pca, np.concatenate(picked)


def transform_block(block: Block | NDArray[Any], scaler: Any, pca: Any) -> NDArray[np.float32]:
    """Return the scores of pixels.

    Parameters
    ----------
    block : Block or ndarray, shape (row, column, band)
        Embeddings.
    scaler : Scaler, or scikit-learn's StandardScaler, or None
        What standardises bands.
    pca : Components, or scikit-learn's PCA
        What makes scores.

    Returns
    -------
    ndarray of float32, shape (row, column, component)
        NaN where a band is not finite.
    """
    weights = np.asarray(pca.components_, np.float64)
    if getattr(pca, "whiten", False):
        weights = weights / np.sqrt(pca.explained_variance_)[:, None]
    offsets = -(weights @ np.asarray(pca.mean_, np.float64))
    if scaler is not None:
        # scikit-learn's may leave out either.
        if scaler.scale_ is not None:
            weights = weights / scaler.scale_
        if getattr(scaler, "with_mean", True):
            offsets = offsets - weights @ np.asarray(scaler.mean_, np.float64)
    found = as_block(block)
    if found.band_count != weights.shape[1]:
        raise InputError(f"{found.band_count} bands, expected {weights.shape[1]}")
    return _native.project_bands(
        found.values, weights=weights, offsets=offsets, **kernel_arguments(found)
    )
