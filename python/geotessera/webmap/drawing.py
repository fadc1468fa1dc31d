"""The pixels of units: drawn from the picture, or joined from tiles; and what tells them apart."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native
from geotessera.webmap.zooms import SIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geotessera.types import Method
    from geotessera.webmap.places import Square
    from geotessera.webmap.zooms import Unit

    type Pixels = NDArray[np.uint8]

__all__ = ["digest_of_files", "digest_of_pixels", "draw", "join"]

_ROUNDING = 3
"""Decimals of a position, in pixels, by which a unit is known again."""


def _number(hasher: _native.Hasher) -> int:
    # Not one of the numbers that mean something else.
    return int(hasher.hexdigest("xxh128"), 16) | 1 << 128


def digest_of_pixels(source: Pixels, squares: Sequence[Square], row: int, col: int) -> int:
    """Return what tells what a unit is made of."""
    hasher = _native.Hasher("xxh128")
    hasher.update(source)
    for one in squares:
        hasher.update(repr((source.shape, one.row, one.col, one.step)).encode())
        # From the window's corner: the same if the picture has grown elsewhere.
        hasher.update(np.round(one.nodes - (col, row), _ROUNDING) + 0.0)
    return _number(hasher)


def digest_of_files(files: Iterable[bytes | None]) -> int:
    """Return what tells files from others; None is one that is not there."""
    hasher = _native.Hasher("xxh128")
    for number, data in enumerate(files):
        if data is not None:
            hasher.update(number.to_bytes(4) + len(data).to_bytes(8))
            hasher.update(data)
    return _number(hasher)


def draw(
    source: Pixels,
    squares: Sequence[Square],
    origin: tuple[int, int],
    unit: Unit,
    method: Method,
) -> Pixels:
    """Return the pixels of a leaf."""
    side = SIDE << unit.levels
    pixels = np.zeros((side, side, 4), np.uint8)
    row, col = origin
    drawn: set[tuple[int, int]] = set()
    for one in squares:
        part = pixels[one.row : one.row + one.size, one.col : one.col + one.size]
        nodes = one.nodes - (col, row)
        again = (one.row, one.col) in drawn
        out = np.empty_like(part) if again else part
        _native.resample_picture(source, nodes, one.step, out, method=method)
        if again:  # the picture goes round the globe and further
            empty = part[..., 3] == 0
            part[empty] = out[empty]
        drawn.add((one.row, one.col))
    return pixels


def join(tiles: Sequence[bytes | None]) -> Pixels:
    """Return the pixels of a square of tiles, row by row."""
    from PIL import Image

    count = round(len(tiles) ** 0.5)
    pixels = np.zeros((count * SIDE, count * SIDE, 4), np.uint8)
    for number, data in enumerate(tiles):
        if data is not None:
            row, col = (at * SIDE for at in divmod(number, count))
            with Image.open(io.BytesIO(data)) as image:
                pixels[row : row + SIDE, col : col + SIDE] = np.asarray(image.convert("RGBA"))
    return pixels
