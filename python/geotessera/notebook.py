"""Small HTML for notebooks: tables, maps of boxes, thumbnails; nothing is loaded from elsewhere.

Colours follow the page's, so that light and dark themes are both readable.
"""

from __future__ import annotations

import html
import math
import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    type Box = Sequence[float]

__all__ = ["card", "escape", "few", "map_svg", "picture", "png"]

WIDTH, HEIGHT = 360, 240
"""Largest size of a map in CSS pixels."""

_BOXES = 1500
"""Boxes that are drawn one by one; more are drawn as the cells of a coarse grid."""

_DOTS = 200
"""Cells that are drawn one by one, large enough to be seen."""

_STEPS = (1.0, 2.0, 5.0)
_DEGREES = (10.0, 15.0, 30.0, 45.0, 60.0, 90.0)
_APART = 60  # pixels between two lines of the graticule, so that words fit

_INK = "#1f9e89"  # readable on white and on black


def escape(value: object) -> str:
    """Return text that stands for itself in HTML, in attributes too."""
    # What is no character of HTML would end the document's validity.
    text = "".join(c if c >= " " or c in "\n\t" else "�" for c in str(value))
    return html.escape(text.encode("utf-8", "replace").decode(), quote=True)


def few(items: Sequence[object], most: int = 12) -> str:
    """Return a list in words, with its middle left out if it is long."""
    if len(items) <= most:
        return ", ".join(map(str, items))
    head, tail = items[: most - 2], items[-1]
    return f"{', '.join(map(str, head))}, … {tail} ({len(items):,} in all)"


def card(title: str, facts: Mapping[str, object], *figures: str) -> str:
    """Return a title, a table of names and values, and figures beside it.

    Parameters
    ----------
    title : str
    facts : mapping of str to object
        Escaped; empty and None are left out.
    *figures : str
        HTML, as the functions here return it; empty ones are left out.
    """
    cell = "padding:1px 10px 1px 0;text-align:left;vertical-align:top;background:none"
    rows = "".join(
        f'<tr><th scope="row" style="{cell};font-weight:normal;opacity:.7">{escape(name)}</th>'
        f'<td style="{cell};overflow-wrap:anywhere">{escape(value)}</td></tr>'
        for name, value in facts.items()
        if value is not None and str(value)
    )
    table = f'<table style="border-collapse:collapse;margin:0;max-width:40em">{rows}</table>'
    parts = "".join(f"<div>{part}</div>" for part in (table if rows else "", *figures) if part)
    return (
        '<div style="font-size:13px;line-height:1.4">'
        f"<div><strong>{escape(title)}</strong></div>"
        f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{parts}</div>'
        "</div>"
    )


# --- Pictures ------------------------------------------------------------------------------


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 pixels (row, column, 3 or 4 channels) as a PNG."""
    height, width, channels = pixels.shape
    kind = {3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 6)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _data_url(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{b64encode(png(pixels)).decode()}"


def picture(pixels: NDArray[np.uint8], label: str, width: int = 0) -> str:
    """Return pixels (row, column, 3 or 4 channels) as an image in the page.

    Parameters
    ----------
    pixels : ndarray of uint8
    label : str
        Text for who does not see it.
    width : int
        In CSS pixels; by default one for each column.
    """
    height = round((width or pixels.shape[1]) * pixels.shape[0] / pixels.shape[1])
    return (
        f'<img alt="{escape(label)}" src="{_data_url(pixels)}" width="{width or pixels.shape[1]}" '
        f'height="{max(height, 1)}" style="image-rendering:pixelated">'
    )


# --- Maps ----------------------------------------------------------------------------------


def map_svg(
    boxes: Iterable[Box] = (),
    *,
    label: str,
    view: Box | None = None,
    rings: Iterable[Sequence[tuple[float, float]]] = (),
    cells: NDArray[np.bool_] | None = None,
    degrees: bool = True,
) -> str:
    """Return a small map with a graticule; "" where there is nothing to draw.

    Parameters
    ----------
    boxes : iterable of (west, south, east, north)
        Drawn as they are; west > east crosses the antimeridian.
    label : str
        Text for who does not see it.
    view : (west, south, east, north), optional
        What is shown; by default all boxes and a margin.
    rings : iterable of sequences of (x, y)
        Outlines; where they overlap is outside again, as in GeoJSON's polygons.
    cells : ndarray of bool, shape (rows, columns), optional
        Which cells of a grid over the whole view are filled; the first row is the north.
    degrees : bool
        Whether coordinates are longitudes and latitudes, or metres.
    """
    drawn = [_continuous(box) for box in boxes if _is_box(box)]
    lines = [list(ring) for ring in rings]
    shown = _view(drawn, lines, view, degrees)
    if shown is None:
        return ""
    sheet = _Sheet(shown, degrees)
    parts = []
    if cells is not None:
        parts.append(sheet.cells(cells))
    if drawn:
        parts.append(sheet.boxes(drawn))
    if lines:
        parts.append(sheet.rings(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sheet.width}" height="{sheet.height}" '
        f'viewBox="0 0 {sheet.width} {sheet.height}" role="img" aria-label="{escape(label)}" '
        f'font-family="sans-serif" font-size="9"><title>{escape(label)}</title>'
        f"{''.join(parts)}{sheet.graticule()}</svg>"
    )


def _is_box(box: Box) -> bool:
    return len(box) == 4 and all(math.isfinite(value) for value in box) and box[1] <= box[3]


def _continuous(box: Box) -> tuple[float, float, float, float]:
    west, south, east, north = map(float, box)
    return west, south, (east if east >= west else east + 360), north


def _view(
    boxes: list[tuple[float, float, float, float]],
    rings: list[list[tuple[float, float]]],
    view: Box | None,
    degrees: bool,
) -> tuple[float, float, float, float] | None:
    if view is not None:
        return _continuous(view) if _is_box(view) else None
    points = [(box[i], box[j]) for box in boxes for i, j in ((0, 1), (2, 3))]
    points += [point for ring in rings for point in ring]
    if not points:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    margin = 0.15 * max(width, height) or (0.05 if degrees else 50.0)
    south, north = min(ys) - margin, max(ys) + margin
    if degrees:
        south, north = max(south, -90.0), min(north, 90.0)
    return min(xs) - margin, south, max(xs) + margin, north


class _Sheet:
    """A view of the plane on a sheet of pixels."""

    def __init__(self, view: tuple[float, float, float, float], degrees: bool) -> None:
        self.west, self.south, self.east, self.north = view
        self.degrees = degrees
        # A degree of longitude is shorter away from the equator.
        middle = math.radians((self.south + self.north) / 2)
        narrow = max(math.cos(middle), 0.2) if degrees else 1.0
        across = max(self.east - self.west, 1e-9) * narrow
        up = max(self.north - self.south, 1e-9)
        scale = min(WIDTH / across, HEIGHT / up)
        self.width = min(max(round(across * scale), 40), WIDTH)
        self.height = min(max(round(up * scale), 40), HEIGHT)

    def x(self, value: float) -> float:
        return (value - self.west) / max(self.east - self.west, 1e-9) * self.width

    def y(self, value: float) -> float:
        return (self.north - value) / max(self.north - self.south, 1e-9) * self.height

    def boxes(self, boxes: list[tuple[float, float, float, float]]) -> str:
        placed = [
            (self.x(west), self.y(north), self.x(east), self.y(south))
            for west, south, east, north in boxes
        ]
        if len(placed) > _BOXES:
            placed = [tuple(map(float, one)) for one in _coarse(placed)]  # type: ignore[misc]
        path = "".join(
            f"M{left:.1f} {top:.1f}H{max(right, left + 2):.1f}V{max(bottom, top + 2):.1f}"
            f"H{left:.1f}Z"
            for left, top, right, bottom in placed
        )
        return f'<path d="{path}" fill="{_INK}" fill-opacity=".4" stroke="{_INK}"/>'

    def rings(self, rings: list[list[tuple[float, float]]]) -> str:
        path = "".join(
            "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in ring) + "Z"
            for ring in rings
            if ring
        )
        return (
            f'<path d="{path}" fill="{_INK}" fill-opacity=".3" fill-rule="evenodd" '
            f'stroke="{_INK}"/>'
        )

    def cells(self, cells: NDArray[np.bool_]) -> str:
        import numpy as np

        rows, columns = cells.shape
        found = np.argwhere(cells).tolist()
        if len(found) <= _DOTS:
            wide, high = (self.east - self.west) / columns, (self.north - self.south) / rows
            return self.boxes(
                [
                    (
                        self.west + col * wide,
                        self.north - (row + 1) * high,
                        self.west + (col + 1) * wide,
                        self.north - row * high,
                    )
                    for row, col in found
                ]
            )
        pixels = np.zeros((*cells.shape, 4), np.uint8)
        pixels[cells] = (*bytes.fromhex(_INK[1:]), 220)
        return (
            f'<image href="{_data_url(pixels)}" width="{self.width}" height="{self.height}" '
            'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
        )

    def graticule(self) -> str:
        lines, words = [], []
        for value in _ticks(self.west, self.east, self.degrees, self.width):
            at = self.x(value)
            lines.append(f"M{at:.1f} 0V{self.height}")
            if 12 < at < self.width - 12:
                text = self._text(value, "E", "W")
                words.append(f'<text x="{at + 2:.1f}" y="{self.height - 3}">{text}</text>')
        for value in _ticks(self.south, self.north, self.degrees, self.height):
            at = self.y(value)
            lines.append(f"M0 {at:.1f}H{self.width}")
            if 10 < at < self.height - 14:
                words.append(f'<text x="2" y="{at - 2:.1f}">{self._text(value, "N", "S")}</text>')
        frame = f"M.5 .5H{self.width - 0.5}V{self.height - 0.5}H.5Z"
        return (
            f'<path d="{"".join(lines)}" fill="none" stroke="currentColor" stroke-opacity=".25"/>'
            f'<path d="{frame}" fill="none" stroke="currentColor" stroke-opacity=".6"/>'
            f'<g fill="currentColor" fill-opacity=".8">{"".join(words)}</g>'
        )

    def _text(self, value: float, positive: str, negative: str) -> str:
        if not self.degrees:
            return f"{value:,.10g}"
        if positive == "E":
            value = (value + 180) % 360 - 180
        value = round(value, 6)
        side = "" if value in (0, -180) else positive if value > 0 else negative
        return f"{abs(value):g}°{side}"


def _ticks(first: float, last: float, degrees: bool, pixels: int) -> Iterator[float]:
    """Yield round values between two that lie so many pixels apart."""
    least = max((last - first) * _APART / pixels, 1e-9)
    power = 10.0 ** math.floor(math.log10(least))
    step = next((power * one for one in (*_STEPS, 10.0) if power * one >= least), least)
    if degrees and step > 5:
        step = next((one for one in _DEGREES if one >= least), 90.0)
    for number in range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1):
        yield number * step


def _coarse(boxes: list[tuple[float, float, float, float]]) -> list[tuple[int, int, int, int]]:
    """Return boxes on a sheet as runs of cells of 3 × 3 pixels that they touch."""
    side, columns, rows = 3, WIDTH // 3 + 1, HEIGHT // 3 + 1
    touched = [[False] * columns for _ in range(rows)]
    for left, top, right, bottom in boxes:
        for row in range(max(int(top / side), 0), min(math.ceil(bottom / side), rows)):
            for col in range(max(int(left / side), 0), min(math.ceil(right / side), columns)):
                touched[row][col] = True
    runs = []
    for row, line in enumerate(touched):
        start: int | None = None
        for col, on in enumerate([*line, False]):
            if on and start is None:
                start = col
            elif not on and start is not None:
                runs.append((start * side, row * side, col * side, (row + 1) * side))
                start = None
    return runs


def any_in_blocks(cells: NDArray[Any], side: int) -> NDArray[np.bool_]:
    """Return which blocks of side × side cells hold one that is not zero."""
    import numpy as np

    rows, columns = cells.shape
    padded = np.zeros((-(-rows // side) * side, -(-columns // side) * side), np.bool_)
    padded[:rows, :columns] = cells != 0
    blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    return np.asarray(blocks.any(axis=(1, 3)))
