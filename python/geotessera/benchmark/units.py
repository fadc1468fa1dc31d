"""Figures as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geotessera.benchmark.statistics import Ratio

__all__ = ["bytes_text", "digits", "percent", "rate_text", "ratio_text", "seconds_text", "times"]


def digits(value: float) -> str:
    """Return three significant digits, without an exponent: 0.0123, 4.42, 16.9, 195, 13678."""
    if value == 0:
        return "0"
    size = abs(float(f"{value:.2e}"))  # 9.999 is 10.0
    places = 0
    while size < 100 and places < 12:
        size *= 10
        places += 1
    return f"{value:.{places}f}"


def seconds_text(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{digits(seconds * factor)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def times(value: float) -> str:
    """Return a factor, such as 4.42×."""
    return f"{digits(value)}×"


def ratio_text(ratio: Ratio) -> str:
    """Return the median of pairs, and their ends where there are several."""
    if ratio.pairs == 1:
        return times(ratio.median)
    return f"{times(ratio.median)} ({digits(ratio.least)}–{digits(ratio.most)})"


def bytes_text(size: float) -> str:
    """Return a size in decimal units, as rates of memory and of links are given."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * factor:
            return f"{digits(size / factor)} {unit}"
    return f"{size:.0f} B"


def rate_text(rate: float, unit: str) -> str:
    """Return how much is done in a second, or how long one takes where few are."""
    if unit == "B":
        return f"{bytes_text(rate)}/s"
    return f"{seconds_text(1 / rate)} a {unit}"


def percent(share: float) -> str:
    """Return a share of one."""
    return f"{100 * share:.0f} %"
