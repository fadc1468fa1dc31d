"""From scores to colours: thresholds that cut each component into 256 levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotessera.errors import InputError
from geotessera.pca.strips import each, strips

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from geotessera.pca.model import PcaModel
    from geotessera.pca.strips import Pixels

__all__ = ["METHODS", "Stretch", "check_stretch", "fit_stretch"]

METHODS = ("histogram", "percentile", "adaptive")
"""Ways to balance colours."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """How scores become colours.

    Parameters
    ----------
    method : {"histogram", "percentile", "adaptive"}
        How the thresholds were chosen.
    thresholds : ndarray of float32, shape (K, 255)
        A score's level is the number of its component's thresholds that it reaches.
    """

    method: str
    thresholds: NDArray[np.float32]

    def apply(self, scores: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return levels: uint8 of the scores' shape (row, column, component), 0 for NaN."""
        levels = np.empty(scores.shape, np.uint8)
        for k, thresholds in enumerate(self.thresholds):
            plane = np.searchsorted(thresholds, scores[..., k], side="right")
            levels[..., k] = np.where(np.isnan(scores[..., k]), 0, plane)
        return levels


def check_stretch(method: str, percentile_range: tuple[float, float] = (2, 98)) -> None:
    """Raise `InputError` for a method that there is not, or percentiles in the wrong order."""
    if method not in METHODS:
        raise InputError(f"balance method {method!r}: choose one of {', '.join(METHODS)}")
    low, high = percentile_range
    if not 0 <= low < high <= 100:
        raise InputError(f"percentile_range={percentile_range}: expected 0 <= low < high <= 100")


def linear_thresholds(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return thresholds that cut [low, high] into 256 equal steps for each component."""
    steps = np.arange(1, 256) / 256
    low, high = np.asarray(low, np.float64)[:, None], np.asarray(high, np.float64)[:, None]
    made: NDArray[np.float32] = (low + (high - low) * steps).astype(np.float32)
    return made


def fit_stretch(
    model: PcaModel,
    sources: Iterable[Pixels],
    method: str = "histogram",
    percentile_range: tuple[float, float] = (2, 98),
) -> Stretch:
    """Choose thresholds for the scores of every valid pixel."""
    check_stretch(method, percentile_range)
    parts = [
        scores[np.isfinite(scores).all(axis=-1)]
        for pixels in each(sources)
        for _, strip in strips(pixels)
        for scores in [model.project(strip)]
    ]
    scores = np.concatenate(parts).astype(np.float64)
    if not len(scores):
        raise InputError("no valid pixel to balance colours by")
    if method == "histogram":
        thresholds = np.quantile(scores, np.arange(1, 256) / 256, axis=0).T.astype(np.float32)
        return Stretch(method, thresholds)
    if method == "percentile":
        low, high = np.percentile(scores, percentile_range, axis=0)
    else:
        mean, sigma = scores.mean(0), scores.std(0)
        low, high = mean - 2.5 * sigma, mean + 2.5 * sigma
    return Stretch(method, linear_thresholds(low, high))
