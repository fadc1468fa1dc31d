"""Fitting: the covariance of every valid pixel, and its eigenvectors."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np

from geotessera.errors import InputError
from geotessera.pca.model import PcaModel
from geotessera.pca.moments import Moments
from geotessera.pca.sources import each
from geotessera.pca.strips import strips

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from geotessera.pca.sources import Pixels
    from geotessera.pca.strips import Opened
    from geotessera.types import ProgressCallback

__all__ = ["check_components", "fit"]


def fit(
    sources: Iterable[Pixels],
    n_components: int = 3,
    standardize: bool = True,
    progress: ProgressCallback | None = None,
) -> PcaModel:
    """Fit principal components to every valid pixel of some sources.

    The covariance is summed straight from the quantised pixels: nothing is sampled, and
    memory does not grow with the sources. A pixel is valid if all its bands are finite.

    Parameters
    ----------
    sources : iterable of RasterSource, SourceDescriptor, Block or ndarray
        What to fit to, each read once; descriptors are open only meanwhile. Arrays have the
        shape (row, column, band). Years may differ, datasets may not.
    n_components : int
        How many components.
    standardize : bool
        Divide each band by its standard deviation first, so that all count alike.
    progress : callable, optional
        Called with (sources done, sources in all, status text).

    Returns
    -------
    PcaModel
        The same for any number of threads. Of both directions that a component could have,
        it has the one in which its largest weight (the first of them) is positive.

    Raises
    ------
    InputError
        (a `ValueError`) for fewer valid pixels, or fewer bands, than components.
    DatasetMismatchError
        (a `ValueError`) for sources of different datasets.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.random.default_rng(0).normal(size=(20, 30, 8)).astype(np.float32)
    >>> model = fit([pixels], n_components=2)
    >>> model.project(pixels).shape
    (20, 30, 2)
    """
    check_components(n_components)
    moments: Moments | None = None
    names: set[str] = set()
    for pixels in _named(each(sources, progress, "Fitting components"), names):
        moments = moments or Moments(pixels.band_count)
        for strip in strips(pixels):
            moments.add(strip)
    if moments is None:
        raise InputError("there is nothing to fit components to: no source was passed")
    name = names.pop() if len(names) == 1 else ""
    return _solved(moments, operator.index(n_components), standardize, name)


def check_components(n_components: int, bands: int | None = None) -> None:
    """Raise `InputError` for what is no number of components of so many bands."""
    try:
        count = -1 if isinstance(n_components, bool) else operator.index(n_components)
    except TypeError:
        count = -1
    if count < 1 or (bands is not None and count > bands):
        most = f" and at most {bands}, the number of bands" if bands is not None else ""
        raise InputError(
            f"n_components={n_components!r}: expected a whole number, at least 1{most}"
        )


def _named(opened: Iterator[Opened], names: set[str]) -> Iterator[Opened]:
    """Pass sources on, and put the names of their datasets into a set."""
    for pixels in opened:
        known = pixels.provenance
        named = known.version is not None and known.variant is not None
        names.add(f"{known.version} {known.variant}" if named else "")
        yield pixels


def _solved(moments: Moments, n_components: int, standardize: bool, provenance: str) -> PcaModel:
    count, mean = moments.count, moments.mean
    check_components(n_components, len(mean))
    if count < max(n_components, 2):
        raise InputError(
            f"not enough valid pixels for {n_components} components: "
            f"{count} pixels have a finite number in every band and are not left out, as water is "
            "where it is masked"
        )
    scatter = moments.scatter
    scale = np.ones_like(mean)
    if standardize:
        # As scikit-learn's StandardScaler: what is divided by is the deviation of these pixels.
        deviation = np.sqrt(scatter.diagonal().clip(0) / count)
        scale = np.where(deviation > 0, deviation, 1.0)
    covariance = scatter / np.outer(scale, scale) / (count - 1)
    variances, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    variances = variances[::-1].clip(0)
    return PcaModel(
        mean=mean,
        scale=scale,
        components=_signed(vectors.T[::-1][:n_components]),
        explained_variance=variances[:n_components],
        total_variance=float(variances.sum()),
        pixels=count,
        provenance=provenance,
    )


def _signed(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return components whose largest weight, the first of them, is positive."""
    size = np.abs(components)
    # Weights that are equal but for rounding are equal.
    first = (size >= size.max(axis=1, keepdims=True) * (1 - 1e-9)).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), first])
    return np.ascontiguousarray(components * signs[:, None])
