"""Medians, quantiles, and ratios of runs that were made in turn."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ratio", "Spread", "quantile", "ratio_of", "spread_of"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample: its median, the quartiles round it, and its ends."""

    median: float
    lower: float
    upper: float
    least: float
    most: float
    count: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A peer's figure over ours: the median of pairs, and their least and most."""

    median: float
    least: float
    most: float
    pairs: int


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, interpolated linearly between the values as NumPy does by default.

    Raises
    ------
    ValueError
        For no values, or a share outside 0 to 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"there is no quantile {share} of {len(values)} values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(
        median(values),
        quantile(values, 0.25),
        quantile(values, 0.75),
        min(values),
        max(values),
        len(values),
    )


def ratio_of(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Compare runs that were made in turn: the first with the first, and so on.

    What was run once only is paired with every run of the other side: the machine was
    another one at each of them, which is what the spread is to show.
    """
    if len(theirs) == 1 or len(ours) == 1:
        pairs = [their / our for their in theirs for our in ours]
    else:
        pairs = [their / our for their, our in zip(theirs, ours, strict=False)]
    return Ratio(median(pairs), min(pairs), max(pairs), len(pairs))
