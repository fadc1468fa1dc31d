"""Order statistics of every score, exact, in two passes and little memory.

float32 numbers in ascending order have ascending 32-bit ranks. The first pass counts the
scores by the upper half of their ranks; then it is known in which of those 65,536 bins the
wanted statistics lie, and the second pass counts these bins' scores by the lower half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = ["order_statistics"]

_BINS = 1 << 16

COUNTS_BYTES = 64 * 2**20
"""Memory for the second pass; what would need more loses the last bits of its ranks."""


def order_statistics(
    scores: Callable[[], Iterable[NDArray[np.float32]]],
    components: int,
    places: Callable[[int], NDArray[np.int64]],
) -> tuple[NDArray[np.float32], int]:
    """Return the scores at some places of the sorted scores of each component.

    Parameters
    ----------
    scores : callable
        Returns the scores part by part, float32 (H, W, K), NaN where invalid; called twice.
    components : int
        K.
    places : callable
        Returns the places, counted from 0, of so many scores; for none, none.

    Returns
    -------
    values : ndarray of float32, shape (K, places)
        Exact where their second pass fits into `COUNTS_BYTES`, as a few places do; else the
        greatest float32 with fewer bits below them: 255 places of three components are good to
        a relative 2⁻²⁰.
    total : int
        How many scores a component has.
    """
    upper = np.zeros((components, _BINS), np.int64)
    for part in scores():
        _native.tally_scores(part, upper)
    below = upper.cumsum(axis=1)
    wanted = [places(int(total)) for total in below[:, -1]]
    bins = [np.searchsorted(cum, at, side="right") for cum, at in zip(below, wanted, strict=True)]
    rows = np.full((components, _BINS), -1, np.int32)
    for k, found in enumerate(bins):
        unique = np.unique(found)
        rows[k, unique] = np.arange(len(unique))
    height = int(rows.max()) + 1
    dropped = 0
    while components * height * (_BINS >> dropped) * 8 > COUNTS_BYTES and dropped < 16:
        dropped += 1
    lower = np.zeros((components, max(height, 1), _BINS >> dropped), np.int64)
    for part in scores():
        _native.tally_scores(part, lower, rows, dropped)
    made = [
        _values(wanted[k] - (below[k] - upper[k])[found], found, lower[k], rows[k], dropped)
        for k, found in enumerate(bins)
    ]
    return np.array(made, np.float32), int(below[0, -1])


def _values(
    within: NDArray[np.int64],
    bins: NDArray[np.intp],
    lower: NDArray[np.int64],
    rows: NDArray[np.int32],
    dropped: int,
) -> NDArray[np.float32]:
    """Return the numbers at places within their bins."""
    ranks = np.empty(len(within), np.uint32)
    sums = lower.cumsum(axis=1)
    for i, (place, upper) in enumerate(zip(within, bins, strict=True)):
        low = int(np.searchsorted(sums[rows[upper]], place, side="right")) << dropped
        ranks[i] = int(upper) << 16 | low
    bits = np.where(ranks >> 31, ranks ^ np.uint32(1 << 31), ~ranks).astype(np.uint32)
    return bits.view(np.float32)
