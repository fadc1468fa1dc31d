"""Arrays of pixels of a zone, indexed in any way that NumPy knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.sources.zarr import ZarrZone

__all__ = ["ZonePixels"]

_SPARSE = 4
"""Pixels that are so many times fewer than those of their window are read one by one."""


class ZonePixels(BackendArray):
    """An array of pixels of a zone, as xarray indexes it: through our engine.

    Parameters
    ----------
    zone : ZarrZone
        The zone.
    name : str
        The array's name.
    """

    def __init__(self, zone: ZarrZone, name: str) -> None:
        self.zone, self.name = zone, name
        self.array = zone.array(name)
        self.spec = self.array.spec
        # Embeddings are presented band by band; other arrays as they are stored.
        self._moved = self.spec.layout == "hwc" and name.startswith("embeddings")
        default = ("time", "y", "x") if self.spec.layout == "hw" else ("time", "band", "y", "x")
        dims = self.spec.dims or default
        self.dims = self.ordered(dims)
        self.shape = self.ordered(self.spec.shape)
        self.dtype = np.dtype(self.spec.dtype)

    def ordered[T](self, axes: tuple[T, ...]) -> tuple[T, ...]:
        """Return a tuple with one item an axis in the order of the presented axes."""
        return (axes[0], axes[3], axes[1], axes[2]) if self._moved else axes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by zone and name."""
        return ZonePixels, (self.zone, self.name)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return pixels, a NumPy array."""
        points = isinstance(key, indexing.VectorizedIndexer)
        return indexing.explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            self.points if points else self.outer,
        )

    @property
    def _hwc(self) -> bool:
        """Whether bands, where there are any, are the last axis of what is presented."""
        return self.spec.layout == "hwc" and not self._moved

    def outer(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return the outer product of what each axis asks for."""
        axes = [np.arange(size)[one] for size, one in zip(self.shape, key, strict=True)]
        at = [np.atleast_1d(axis) for axis in axes]
        shape = tuple(len(axis) for axis in at)
        out = np.empty(shape, self.dtype)
        if out.size:
            steps, bands, rows, cols = self._named(at)
            for index, step in enumerate(steps):
                pixels = self._pixels(int(step), rows, cols, bands)
                out[index] = pixels if bands is None or self._hwc else pixels.transpose(2, 0, 1)
        kept = tuple(len(a) for a, axis in zip(at, axes, strict=True) if axis.ndim)
        return out.reshape(kept)

    def _named(self, at: Sequence[NDArray[Any]]) -> tuple[Any, Any, Any, Any]:
        """Return steps, bands or None, rows and columns of indices in the presented order."""
        if len(at) == 3:
            return at[0], None, at[1], at[2]
        if self._hwc:
            return at[0], at[3], at[1], at[2]
        return at[0], at[1], at[2], at[3]

    def _pixels(
        self, step: int, rows: NDArray[Any], cols: NDArray[Any], bands: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Return (row, column[, band]): a window, or single pixels where they are few."""
        picked = None if bands is None else _picked(bands, self.spec.band_count)
        top, left = int(rows.min()), int(cols.min())
        height, width = int(rows.max()) - top + 1, int(cols.max()) - left + 1
        if height * width > _SPARSE * len(rows) * len(cols):
            y, x = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
            found = self.array.gather(step, y, x, picked)
            return found.reshape(len(rows), len(cols), *found.shape[1:])
        block = self.array.read(step, Window(top, left, height, width), picked)
        if len(rows) == height and len(cols) == width and _rises(rows) and _rises(cols):
            return block
        return block[np.ix_(rows - top, cols - left)]

    def points(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return what arrays of indices, broadcast against each other, ask for."""
        at = np.broadcast_arrays(*key)  # arrays all: xarray expands slices
        steps, bands, rows, cols = self._named([axis.ravel() for axis in at])
        found = np.empty(len(steps), self.dtype)
        for step in np.unique(steps):
            here = np.flatnonzero(steps == step)
            if bands is None:
                found[here] = self.array.gather(int(step), rows[here], cols[here])
                continue
            wanted, which = np.unique(bands[here], return_inverse=True)
            places, where = np.unique(
                rows[here] * self.zone.grid.width + cols[here], return_inverse=True
            )
            row, col = np.divmod(places, self.zone.grid.width)
            pixels = self.array.gather(int(step), row, col, wanted.tolist())
            found[here] = pixels[where, which]
        return found.reshape(at[0].shape)


def _picked(bands: NDArray[Any], count: int) -> list[int] | None:
    wanted: list[int] = bands.tolist()
    return None if wanted == list(range(count)) else wanted


def _rises(axis: NDArray[Any]) -> bool:
    return len(axis) == 1 or bool((np.diff(axis) == 1).all())
