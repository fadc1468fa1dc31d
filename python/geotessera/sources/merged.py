"""Arrays of pixels that lie on one grid together, read as one array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.sources.zarr_array import ZarrArray
    from geotessera.sources.zarr_spec import ArraySpec

__all__ = ["ArrayPart", "MergedArray"]


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """Some rows of an array, and where they are in the whole.

    Parameters
    ----------
    array : ZarrArray
        What is read.
    first_row : int
        Of the array: the rows before it are left out.
    place : Window
        Where the rest is in the merged array.
    missing : frozenset of int
        Steps of the time axis that read as fill.
    """

    array: ZarrArray
    first_row: int
    place: Window
    missing: frozenset[int] = frozenset()


class MergedArray:
    """Reads several arrays as one, as `ZarrArray` reads a single one.

    Parameters
    ----------
    spec : ArraySpec
        Of the whole; its fill is where no part is.
    parts : sequence of ArrayPart
        They do not overlap.
    """

    def __init__(self, spec: ArraySpec, parts: Sequence[ArrayPart]) -> None:
        self.spec = spec
        self.parts = tuple(parts)

    def read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read a window of one year; see `ZarrArray.read`."""
        if out is None:
            out = self._empty((window.height, window.width), bands, scales)
        cuts = [(part, cut) for part in self._of(step) if (cut := part.place.overlap(window))]
        if [cut for _, cut in cuts] != [window]:
            out[...] = self._fill(scales)
        for part, cut in cuts:
            top, left = cut.row - window.row, cut.col - window.col
            here = slice(top, top + cut.height), slice(left, left + cut.width)
            own = Window(
                cut.row - part.place.row + part.first_row,
                cut.col - part.place.col,
                cut.height,
                cut.width,
            )
            part.array.read(step, own, bands, out[here], None if scales is None else scales[here])
        return out

    def gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read single pixels of one year; see `ZarrArray.gather`."""
        if out is None:
            out = self._empty((len(rows),), bands, scales)
        out[...] = self._fill(scales)
        for part, at, row, col in self._split(step, rows, cols):
            factors = None if scales is None else scales[at]
            out[at] = part.array.gather(step, row, col, bands, None, factors)
        return out

    def shards(self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> list[str]:
        """Return the keys of the shards that hold some pixels; see `ZarrArray.shards`."""
        return [
            key
            for part, _, row, col in self._split(step, rows, cols)
            if part.array.spec.index == self.spec.index  # else it is read when it is needed
            for key in part.array.shards(step, row, col)
        ]

    def written(
        self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return whether the chunks that hold some pixels were written; see `ZarrArray.written`."""
        found = np.zeros(len(rows), np.bool_)
        for part, at, row, col in self._split(step, rows, cols):
            found[at] = part.array.written(step, row, col)
        return found

    def _split(
        self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> Iterator[tuple[ArrayPart, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the parts that hold some pixels, which they are, and their place in the array."""
        for part in self._of(step):
            row, col, height, width = part.place
            inside = (rows >= row) & (rows < row + height) & (cols >= col) & (cols < col + width)
            at = np.flatnonzero(inside)
            if len(at):
                yield part, at, rows[at] - row + part.first_row, cols[at] - col

    def _of(self, step: int) -> list[ArrayPart]:
        return [part for part in self.parts if step not in part.missing]

    def _empty(self, size: tuple[int, ...], bands: list[int] | None, scales: Any) -> NDArray[Any]:
        if self.spec.layout != "hw":
            size = (*size, self.spec.band_count if bands is None else len(bands))
        return np.empty(size, self.spec.dtype if scales is None else np.float32)

    def _fill(self, scales: Any) -> float:
        return self.spec.fill if scales is None else np.nan
