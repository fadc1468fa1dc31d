"""Plots as inline SVG: bars on a logarithmic axis, shares, and curves. No library, no script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from geotessera.benchmark.units import digits

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STYLE", "Bar", "Curve", "bars", "curves", "shares"]

WIDTH, LEFT, RIGHT = 800, 160, 160
ROW, TOP, BOTTOM = 20, 8, 34

STYLE = """
svg { width: 100%; max-width: 800px; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .quiet { fill: var(--quiet); }
svg line { stroke: var(--line); }
svg .whisker, svg .one { stroke: var(--ink); }
.c0 { --c: #0b7a75; } .c1 { --c: #c2572f; } .c2 { --c: #4d6fb3; } .c3 { --c: #b98a00; }
.c4 { --c: #8a5fb0; } .c5 { --c: #5b8c3a; } .c6 { --c: #b8437a; } .c7 { --c: #7a7a7a; }
svg .bar, .key { fill: var(--c); background: var(--c); }
svg polyline { fill: none; stroke: var(--c); stroke-width: 2; }
svg circle { fill: var(--c); }
"""
"""Goes into the page once; the page sets --ink, --quiet and --line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: what it stands for, its length, its whisker, its colour and what is written."""

    label: str
    value: float
    low: float
    high: float
    color: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    color: int = 0


def bars(title: str, rows: Sequence[Bar], *, unit: str = "×") -> str:
    """Return horizontal bars from 1 on a logarithmic axis, with whiskers; a line marks 1."""
    if not rows:
        return ""
    most = max(max(row.high for row in rows), 10)
    least = min(min(row.low for row in rows), 1)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    inner = WIDTH - LEFT - RIGHT

    def x(value: float) -> float:
        return LEFT + inner * (math.log10(value) - low) / (high - low)

    height = TOP + ROW * len(rows) + BOTTOM
    parts = [
        _grid(x(10**power), height, f"{digits(10.0**power)}{unit}")
        for power in range(low, high + 1)
    ]
    parts.append(_line(x(1), TOP, x(1), height - BOTTOM, "one"))
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        start, stop = sorted((x(1), x(row.value)))
        parts.append(_label(row.label, y))
        parts.append(_rectangle(start, y + 4, stop - start, ROW - 8, row.color))
        if row.high > row.low:
            parts.append(_line(x(row.low), y + ROW / 2, x(row.high), y + ROW / 2, "whisker"))
        parts.append(_text(x(max(row.high, 1)) + 5, y + 14, row.text))
    return _svg(title, height, parts)


def shares(title: str, rows: Sequence[Bar]) -> str:
    """Return horizontal bars on an axis from 0 to 100 %."""
    if not rows:
        return ""
    inner = WIDTH - LEFT - RIGHT
    most = max(1.0, *(row.value for row in rows))
    height = TOP + ROW * len(rows) + BOTTOM
    steps = [step / 4 for step in range(math.floor(most * 4) + 1)]
    parts = [_grid(LEFT + inner * step / most, height, f"{100 * step:.0f} %") for step in steps]
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        width = inner * row.value / most
        parts.append(_label(row.label, y))
        parts.append(_rectangle(LEFT, y + 4, width, ROW - 8, row.color))
        parts.append(_text(LEFT + width + 5, y + 14, row.text))
    return _svg(title, height, parts)


def curves(title: str, lines: Sequence[Curve], x_name: str, y_name: str) -> str:
    """Return lines over a logarithmic axis; y begins at 0."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    xs = sorted({x for line in lines for x, _ in line.points})
    top = max(y for line in lines for _, y in line.points) * 1.1
    height, base = 240, 240 - 44
    inner = WIDTH - LEFT - RIGHT
    width = math.log(xs[-1] / xs[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + inner * math.log(x / xs[0]) / width, base - (base - 20) * y / top

    parts = [_line(LEFT, base, LEFT + inner, base, ""), _text(LEFT, 14, y_name, "quiet")]
    for x in xs:
        parts.append(_text(place(x, 0)[0], base + 16, digits_or_whole(x), "quiet", "middle"))
    parts.append(_text(LEFT + inner / 2, base + 34, x_name, "quiet", "middle"))
    for step in range(1, 5):
        y = top * step / 4
        at = place(xs[0], y)[1]
        parts.append(_line(LEFT, at, LEFT + inner, at, ""))
        parts.append(_text(LEFT - 6, at + 4, digits(y), "quiet", "end"))
    for line in lines:
        points = [place(*point) for point in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points)
        last = _text(points[-1][0] + 8, points[-1][1] + 4, line.label)
        parts.append(f'<g class="c{line.color}"><polyline points="{path}"/>{dots}</g>{last}')
    return _svg(title, height, parts)


def digits_or_whole(value: float) -> str:
    """Return a count as it is, and anything else with three digits."""
    return str(int(value)) if value == int(value) else digits(value)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    shown = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{shown}>{escape(text)}</text>'


def _label(text: str, y: float) -> str:
    return _text(LEFT - 8, y + 14, text, "", "end")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    shown = f' class="{style}"' if style else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{shown}/>'


def _grid(x: float, height: float, text: str) -> str:
    line = _line(x, TOP, x, height - BOTTOM, "")
    return line + _text(x, height - BOTTOM + 16, text, "quiet", "middle")


def _rectangle(x: float, y: float, width: float, height: float, color: int) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:g}" '
        f'class="bar c{color}"/>'
    )
