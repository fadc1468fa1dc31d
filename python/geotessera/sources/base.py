"""What makes pixels: the one interface that every operation reads through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self

from geotessera.errors import BandError, InputError
from geotessera.types import Block, GridSpec, PixelRule, Provenance, SparsePixels, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Allocate", "RasterSource", "SourceDescriptor", "check_bands", "check_window"]

type Allocate = Callable[[tuple[int, ...], str], NDArray[Any]]
"""Where a shape and the name of a dtype become an array, in C order."""


class SourceDescriptor(Protocol):
    """A small picklable value from which a source can be opened, also in another process."""

    def open(self) -> RasterSource:
        """Open the source."""
        ...


class RasterSource(ABC):
    """A raster that can be read window by window, from any number of threads.

    Attributes
    ----------
    grid : GridSpec
        CRS, transform and size of the whole raster.
    band_count : int
        Number of bands.
    block_shape : tuple of int
        Height and width of the blocks that a read touches whole.
    provenance : Provenance
        Dataset and year, where known.
    rule : {"floor", "nearest"}
        Which pixel owns a position: tiles floor, Zarr stores take the nearest centre.
    """

    rule: PixelRule = "floor"
    grid: GridSpec
    block_shape: tuple[int, int]
    band_count: int
    provenance: Provenance

    @property
    @abstractmethod
    def descriptor(self) -> SourceDescriptor:
        """What another process needs to open the same source."""

    @abstractmethod
    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[np.generic] | None = None,
    ) -> Block:
        """Read pixels, still quantised where they are stored so.

        Parameters
        ----------
        window : Window, optional
            Which pixels; the whole raster by default.
        bands : sequence of int, optional
            Zero-based bands in the wanted order; all by default.
        out : ndarray, optional
            Where the values go: the block's dtype, shape (height, width, band).

        Returns
        -------
        Block
            Values of shape (height, width, band), layout ``"hwc"``. They may be a
            read-only view of the file; copy them before changing anything.

        Raises
        ------
        BandError
            (an `IndexError` and a `ValueError`) for a band the raster does not have.
        InputError
            (a `ValueError`) for a window that is empty or leaves the raster.
        FormatError
            (a `RuntimeError`) if the file turns out to be damaged.
        """

    def pixels(self) -> Block | None:
        """Return the whole raster as a memory-mapped block, or None where that cannot be.

        Nothing is read until pixels are touched, and then only their pages.
        """
        return None

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Read a window, all bands of it, into memory that is asked for; no file is mapped.

        Parameters
        ----------
        window : Window
            Which pixels.
        allocate : callable
            Returns an array for a shape and a dtype ("int8" or "float32"), in C order. What
            a source allocates beside it is its own.
        """
        return self.read(window)

    def prefers_gather(self, count: int) -> bool:
        """Return whether `gather` is the cheaper way to the pixels of so many points."""
        return False

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels | None:
        """Read some pixels and nothing else, or return None where that cannot be.

        Parameters
        ----------
        numbers : ndarray of int64, shape (n,)
            row * columns + column, strictly increasing, as `_native.needed_pixels` names them.

        Raises
        ------
        OSError
            If the pixels cannot be read.
        FormatError
            (a `RuntimeError`) if the file turns out to be damaged.
        """
        return None

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask, 0 = water, shape (H, W), or None where there is none."""
        return None

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Let go of what the source holds; views that were handed out stay valid."""

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the source."""
        self.close()


def check_bands(bands: Sequence[int] | None, band_count: int | None = None) -> list[int] | None:
    """Return bands as Python ints, or None for all of them.

    Any integral type is taken, NumPy's too; order and duplicates are kept. Without
    `band_count`, what no raster has is still refused.

    Raises
    ------
    BandError
        (an `IndexError` and a `ValueError`) if a band is not a whole number, negative
        or not below `band_count`, or if the list is empty or none.
    """
    import operator

    if bands is None:
        return None
    checked = []
    try:
        listed = iter(bands)
    except TypeError:
        raise BandError(f"bands={bands!r}: expected a list of whole numbers, or None") from None
    for band in listed:
        try:
            index = operator.index(band)
        except TypeError:
            index = None
        if index is None or isinstance(band, bool):
            raise BandError(f"band {band!r} is not a whole number")
        if index < 0:
            raise BandError(f"band {index} is negative: bands are counted from 0")
        if band_count is not None and index >= band_count:
            raise BandError(
                f"band {index} is out of range: the raster has bands 0 to {band_count - 1}"
            )
        checked.append(index)
    if not checked:
        raise BandError("the list of bands is empty: name at least one, or None for all")
    return checked


def check_window(window: Window | None, grid: GridSpec) -> Window:
    """Return the window, the whole raster for None, or raise `InputError`."""
    if window is None:
        return Window(0, 0, grid.height, grid.width)
    row, col, height, width = window
    if (
        min(row, col) < 0
        or min(height, width) < 1
        or row + height > grid.height
        or col + width > grid.width
    ):
        raise InputError(
            f"window {tuple(window)} (row, column, height, width) does not lie in a raster of "
            f"{grid.height} × {grid.width} pixels"
        )
    return Window(row, col, height, width)
