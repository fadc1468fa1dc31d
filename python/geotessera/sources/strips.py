"""Rasters strip by strip, in bounded memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geotessera.sources.base import check_window
from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import RasterSource
    from geotessera.types import Block

__all__ = ["Buffers", "read_strips"]

STRIP_VALUES = 2**24
"""Values of a strip: 16 MB of int8 or 64 MB of float32, work enough for many threads."""


class Buffers:
    """Memory that is used again: the n-th array that is asked for lies where the n-th lay."""

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []
        self._lent = 0

    def __call__(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array in C order; what it holds is undefined."""
        import numpy as np

        size = math.prod(shape) * np.dtype(dtype).itemsize
        at, self._lent = self._lent, self._lent + 1
        if at == len(self._kept):
            self._kept.append(np.empty(size, np.uint8))
        elif self._kept[at].size < size:
            self._kept[at] = np.empty(size, np.uint8)
        return self._kept[at][:size].view(dtype).reshape(shape)

    def restart(self) -> None:
        """Take all arrays back: they are used no more."""
        self._lent = 0


def read_strips(
    source: RasterSource, window: Window | None = None, rows: int | None = None
) -> Iterator[tuple[int, Block]]:
    """Yield (first row within the window, strip) from the top.

    A strip is gone when the next one is asked for. Files are read, not mapped: pages that
    are mapped count as the process's memory. A strip has `rows` rows, or what 16 M values fill.
    """
    row, col, height, width = check_window(window, source.grid)
    most = max(STRIP_VALUES // (width * source.band_count), 1)
    across = source.block_shape[0]
    if rows is not None:
        most = min(most, rows)
    elif across < most:
        most = most // across * across  # no block is decoded twice
    buffers = Buffers()
    for top in range(0, height, most):
        buffers.restart()
        part = Window(row + top, col, min(most, height - top), width)
        yield top, source.read_into(part, buffers)
