"""What makes pixels: the one interface that every operation reads through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, Self

from geotessera.errors import BandError, InputError
from geotessera.types import Block, GridSpec, Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import Method

__all__ = ["RasterSource", "SourceDescriptor", "check_bands", "check_window"]


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
    block_shape : tuple of int
        Height and width of the blocks in which it is best read.
    """

    grid: GridSpec
    block_shape: tuple[int, int]
    band_count: int
    provenance: Provenance
    block_shape: tuple[int, int] = (256, 256)

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

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask, 0 = water, shape (H, W), or None where there is none."""
        return None

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (longitude, latitude) points, shape (N, 2), as (x, y) in the raster's CRS.

        By PROJ, for any CRS; the kernels project to UTM themselves.
        """
        from geotessera.sources.points import lonlat_to_crs

        return lonlat_to_crs(points, self.grid)

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask, shape (height, width), 0 for water, or None without one."""
        return None

    def blocks_for(
        self,
        points: NDArray[np.float64],
        rows: NDArray[np.int64] | None = None,
        *,
        epsg: int | None = None,
        method: Method = "nearest",
    ) -> Iterator[tuple[Block, Window, NDArray[np.int64] | None]]:
        """Yield the pixels that a set of points needs.

        A memory-mapped raster is one block; of any other, only the stored blocks with
        points are read, one at a time.

        Parameters
        ----------
        points : ndarray of float64, shape (N, 2)
            Points in the raster's CRS, or (longitude, latitude) if `epsg` is given.
        rows : ndarray of int64, optional
            Which rows of `points` are meant; all by default.
        epsg : int, optional
            The raster's EPSG code, for points in degrees: one the kernels project to.
        method : {"nearest", "bilinear"}
            A bilinear value needs up to four pixels.

        Yields
        ------
        block : Block
            All bands of a part of the raster.
        window : Window
            Which part.
        rows : ndarray of int64 or None
            The rows of `points` for which it holds all that is needed, ascending. Points
            outside the raster come with a block that does not cover them.
        """
        import numpy as np

        from geotessera import _native
        from geotessera.sources.points import windows_of_points

        block = self.pixels()
        if block is not None:
            yield block, check_window(None, self.grid), rows
            return
        xy = points if rows is None else points[rows]
        if epsg is not None:
            lon, lat = np.ascontiguousarray(xy.T)
            xy = np.stack(_native.project(lon, lat, epsg), axis=1)
        for window, part in windows_of_points(xy, self.grid, self.block_shape, method):
            yield self.read(window), window, part if rows is None else rows[part]

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


def check_bands(bands: Sequence[int] | None, band_count: int) -> list[int] | None:
    """Return bands as Python ints, or None for all of them.

    Any integral type is taken, NumPy's too; order and duplicates are kept.

    Raises
    ------
    BandError
        (an `IndexError` and a `ValueError`) if a band is not a whole number, negative
        or not below `band_count`, or if the list is empty.
    """
    import operator

    if bands is None:
        return None
    checked = []
    for band in bands:
        try:
            index = operator.index(band)
        except TypeError:
            raise BandError(f"band {band!r} is not a whole number") from None
        if not 0 <= index < band_count or isinstance(band, bool):
            raise BandError(
                f"band {band!r} is out of range: the raster has bands 0 to {band_count - 1}"
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
