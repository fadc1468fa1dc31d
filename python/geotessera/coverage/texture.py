"""The globe as a picture of one pixel a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import InputError
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.coverage.grid import Coverage

__all__ = ["coverage_texture", "write_picture", "write_texture"]

# The colours of published textures; readers of them know what they mean.
ALL_YEARS = (0, 200, 0, 255)
LATEST_YEAR = (255, 200, 0, 255)
OLDER_YEAR = (200, 100, 0, 255)
NO_TILE = (100, 100, 100, 76)

# Codes of cells beyond the numbers of years, up to 64.
_LAND, _LATEST = 100, 101


def coverage_texture(coverage: Coverage, tint: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Return a texture of the globe.

    Parameters
    ----------
    coverage : Coverage
        What is shown.
    tint : sequence of 3 int, optional
        (red, green, blue): shades of one colour, the fuller the more years,
        and no land without tiles. By default the colours say which years there are: green all
        of them, yellow the latest alone, brown an older one alone, blue some, grey land that
        has no tile.

    Returns
    -------
    ndarray of uint8, shape (1800, 3600, 4)
        RGBA, a pixel for each 0.1° cell: rows from north to south, columns from -180° eastwards.
    """
    total = len(coverage.years)
    codes: NDArray[np.uint8] = np.bitwise_count(coverage.bits).astype(np.uint8, copy=False)
    table = np.zeros((256, 4), np.uint8)
    if tint is None:
        for number in range(2, total):
            share = number / total
            table[number] = (0, int(200 * share), int(100 + 155 * share), 255)
        table[1], table[_LATEST], table[_LAND] = OLDER_YEAR, LATEST_YEAR, NO_TILE
        if total > 1:
            table[total] = ALL_YEARS
        if total:  # a dataset's only year is the latest one
            latest = coverage.bits.dtype.type(1 << (total - 1))
            codes[coverage.bits == latest] = _LATEST
        if coverage.land is not None:
            codes[coverage.land & (codes == 0)] = _LAND
    else:
        colour = np.array(_colour(tint), np.float64)
        for number in range(1, total + 1):
            full = 1.0 if total == 1 else 0.5 + 0.5 * (number - 1) / (total - 1)
            shade = (colour * full + 255 * (1 - full)).astype(np.uint8)
            table[number] = (*shade, int(140 + 60 * number / total))
    packed = table.view(np.uint32)[:, 0]
    pixels = packed[np.ascontiguousarray(codes.T[::-1])]
    texture: NDArray[np.uint8] = pixels.view(np.uint8).reshape(*pixels.shape, 4)
    return texture


def _colour(tint: Sequence[int]) -> list[int]:
    try:
        colour = [int(part) for part in tint]
    except (TypeError, ValueError):
        colour = []
    if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
        raise InputError(f"a tint is (red, green, blue) in 0..255; found {tint!r}")
    return colour


def write_texture(
    coverage: Coverage,
    path: str | os.PathLike[str],
    tint: Sequence[int] | None = None,
) -> None:
    """Write a texture as PNG, 3600 × 1800 RGBA; see `coverage_texture`."""
    write_picture(coverage_texture(coverage, tint), path)


def write_picture(pixels: NDArray[np.uint8], path: str | os.PathLike[str], **options: Any) -> None:
    """Write RGBA pixels, shape (H, W, 4), as PNG, or as JPEG if the path ends so."""
    from PIL import Image

    name = str(path).lower()
    image = Image.fromarray(pixels)
    with atomic_path(path) as temporary:
        if name.endswith((".jpg", ".jpeg")):
            image.convert("RGB").save(temporary, "JPEG", quality=92, **options)
        else:
            # Level 6 takes twice as long for a fifth less: 0.7 s for a planet's texture.
            image.save(temporary, "PNG", compress_level=1, **options)
