"""From scores to colours: thresholds that cut each component into 256 levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.errors import InputError
from geotessera.pca.distribution import order_statistics
from geotessera.pca.moments import Moments
from geotessera.pca.sources import each
from geotessera.pca.strips import as_block, strips

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.pca.model import PcaModel
    from geotessera.pca.sources import Pixels
    from geotessera.types import Block, ProgressCallback

__all__ = ["METHODS", "Stretch", "check_stretch", "fit_stretch", "linear"]

METHODS = ("histogram", "percentile", "adaptive")
"""Ways to balance colours."""

_SIGMAS = 2.5
"""Half of the range of the adaptive balance, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """How scores become colours.

    Parameters
    ----------
    method : {"histogram", "percentile", "adaptive"}
        How the thresholds were chosen.
    thresholds : ndarray of float32, shape (K, 255)
        A score's level is how many of its component's thresholds it reaches.
    """

    method: str
    thresholds: NDArray[np.float32]

    def apply(
        self, scores: NDArray[np.float32], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return levels: uint8 of the scores' shape (row, column, component), 0 for NaN."""
        return _native.stretch_scores(scores, self.thresholds, out)


def check_stretch(method: str, percentile_range: tuple[float, float] = (2, 98)) -> None:
    """Raise `InputError` for a method that there is not, or percentiles in the wrong order."""
    if method not in METHODS:
        raise InputError(f"balance method {method!r}: choose one of {', '.join(METHODS)}")
    try:
        low, high = map(float, percentile_range)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 <= low < high <= 100:
        raise InputError(f"percentile_range={percentile_range}: expected 0 <= low < high <= 100")


def fit_stretch(
    model: PcaModel | None,
    sources: Iterable[Pixels],
    method: str = "histogram",
    percentile_range: tuple[float, float] = (2, 98),
    progress: ProgressCallback | None = None,
) -> Stretch:
    """Choose thresholds for the scores of every valid pixel of some sources.

    Parameters
    ----------
    model : PcaModel or None
        What makes scores; None if the sources hold scores already.
    sources : iterable
        As for `geotessera.pca.fit`; each is read twice, once for the adaptive method. Of scores,
        float32 blocks or arrays. A pixel of which a score is not finite is left out.
    method : {"histogram", "percentile", "adaptive"}
        Each level for as many pixels as any other; or in equal steps between two percentiles;
        or in equal steps between 2.5 standard deviations below and above the mean.
    percentile_range : tuple of 2 float
        For ``"percentile"``: (0, 100) is from the least to the greatest score.
    progress : callable, optional
        Called with (sources done, sources in all, status text).

    Returns
    -------
    Stretch
        The same for any number of threads. A component without any variation becomes grey.

    Raises
    ------
    InputError
        (a `ValueError`) for an unknown method, percentiles in the wrong order, or if no pixel
        is valid.
    """
    check_stretch(method, percentile_range)
    listed = list(sources)
    count = _scores_in(listed) if model is None else model.n_components

    def scores(report: ProgressCallback | None = None) -> Iterator[NDArray[np.float32]]:
        out: NDArray[np.float32] | None = None
        for pixels in each(listed, report, "Balancing colours"):
            for strip in strips(pixels):
                if model is None:
                    yield _whole(_present(strip))
                    continue
                shape = (strip.grid.height, strip.grid.width, count)
                out = out if out is not None and out.shape == shape else np.empty(shape, np.float32)
                yield _whole(model.project(strip, out))

    if method == "adaptive":
        moments = Moments(count)
        for part in scores(progress):
            moments.add(as_block(part))
        if not moments.count:
            raise _nothing()
        spread = _SIGMAS * np.sqrt(moments.scatter.diagonal().clip(0) / moments.count)
        return Stretch(method, linear(moments.mean - spread, moments.mean + spread))
    passes = iter((None, progress))

    def one_pass() -> Iterator[NDArray[np.float32]]:
        return scores(next(passes))

    if method == "histogram":
        found, _ = order_statistics(one_pass, count, _evenly)
        if not found.size:
            raise _nothing()
        # One value everywhere has no levels: grey, as with the other methods.
        flat = found[:, 0] == found[:, -1]
        found[flat] = linear(found[flat, 0], found[flat, 0])
        return Stretch(method, found)
    shares = np.array([float(percentile) / 100 for percentile in percentile_range])

    def beside(total: int) -> NDArray[np.int64]:
        at = np.floor(shares * (total - 1)).astype(np.int64)
        return np.minimum([at, at + 1], total - 1).ravel()

    found, total = order_statistics(one_pass, count, beside)
    if not total:
        raise _nothing()
    below, above = found[:, :2].astype(np.float64), found[:, 2:]
    low, high = (below + (above - below) * (shares * (total - 1) % 1)).T
    return Stretch(method, linear(low, high))


def _scores_in(sources: Sequence[Pixels]) -> int:
    """Return how many scores a pixel has, in blocks or arrays that hold them."""
    blocks = [as_block(one) for one in sources if not hasattr(one, "open")]  # type: ignore[arg-type]
    if len(blocks) < len(sources) or any(one.quantized or one.layout != "hwc" for one in blocks):
        raise InputError("scores are float32 blocks or arrays of shape (row, column, component)")
    return blocks[0].band_count if blocks else 1


def _present(block: Block) -> NDArray[np.float32]:
    """Return scores that are there already, NaN where the block says that there are none."""
    scores: NDArray[np.float32] = block.values  # type: ignore[assignment]  # checked before
    if block.nodata is None:
        return scores
    return np.where(scores == np.float32(block.nodata), np.float32(np.nan), scores)


def _whole(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores with nothing of a pixel of which one is not finite: it counts nowhere."""
    # As fast as memory, other than a look at each pixel's few scores; no sum of these is too large.
    sums = scores @ np.full(scores.shape[-1], 2.0**-20, np.float32)
    missing = ~np.isfinite(sums)
    if np.isnan(scores[missing]).all():
        return scores
    return np.where(missing[..., None], np.float32(np.nan), scores)


def _evenly(total: int) -> NDArray[np.int64]:
    """Return the places of 255 thresholds that part sorted scores into 256 equal parts."""
    if not total:
        return np.empty(0, np.int64)
    after = -(-np.arange(1, 256, dtype=np.int64) * total // 256)  # rounded up
    return np.minimum(after, total - 1)


def _nothing() -> InputError:
    return InputError("there is no valid pixel to balance colours by")


def linear(low: Any, high: Any) -> NDArray[np.float32]:
    """Return thresholds of equal steps: level floor(255 (x - low) / (high - low)).

    Parameters
    ----------
    low, high : array_like of float, shape (K,)
        What becomes 0 and 255. Where they are equal, all becomes 128.
    """
    low, high = np.asarray(low, np.float64)[:, None], np.asarray(high, np.float64)[:, None]
    made = low + (high - low) * (np.arange(1, 256) / 255)
    limit = np.finfo(np.float32).max
    made[:, -1:] = high  # reached by what equals it, however the line above is rounded
    made = np.where(high > low, made, np.where(np.arange(1, 256) <= 128, -limit, limit))
    return made.clip(-limit, limit).astype(np.float32)
