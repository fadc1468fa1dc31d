"""The vocabulary of the package: small frozen types for axis order and units."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, SupportsIndex

from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from affine import Affine
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from rasterio.crs import CRS

type Layout = Literal["hwc", "chw"]
"""Axis order of a pixel array: (row, column, band) or (band, row, column)."""

type Method = Literal["nearest", "bilinear"]
"""How a value between pixel centres is made."""

type PixelRule = Literal["floor", "nearest"]
"""Which pixel owns a position: tiles floor, Zarr stores take the nearest centre."""

type Algorithm = Literal["sha256", "md5", "xxh128"]
"""A digest that the kernels can make."""


type Compressor = Literal["blosc", "zstd", "none"]
"""How the kernels find the chunks of a store compressed."""


class ProgressCallback(Protocol):
    """What is called while something long runs: done, total and a short status text."""

    def __call__(self, current: int, total: int, status: str, /) -> object:
        """Report progress."""


class Status(IntEnum):
    """Why a sampled row holds what it holds (dtype uint8 in arrays).

    A row is finite only where its status is `VALID`.
    """

    VALID = 0
    """The pixel holds an embedding."""
    WATER = 1
    """The landmask says water and `mask_water` was asked for."""
    NODATA = 2
    """The pixel lies in a tile but holds no embedding."""
    OUTSIDE = 3
    """The point's tile was read but its raster does not cover the point."""
    NO_TILE = 4
    """The dataset has no tile for this place and year."""
    FAILED = 5
    """The tile exists but could not be had or read."""


class BBox(NamedTuple):
    """A box in WGS84 degrees (EPSG:4326); west > east crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


class TileId(NamedTuple):
    """A tile of one year: the year and the centre of its 0.1° cell in WGS84 degrees."""

    year: int
    lon: float
    lat: float

    @classmethod
    def of(cls, year: SupportsIndex | float, lon: float, lat: float) -> TileId:
        """Make a tile id of numbers of any type; a year read from a table may be a float.

        Raises
        ------
        InputError
            (a `ValueError`) if the year is not a whole number.
        """
        try:
            whole = int(year) if float(year) == int(year) else None
        except (TypeError, ValueError, OverflowError):
            whole = None
        if whole is None or isinstance(year, str | bytes | bool):
            raise InputError(f"year must be a whole number such as 2024, found {year!r}")
        return cls(whole, float(lon), float(lat))


class Window(NamedTuple):
    """A rectangle of whole pixels: first row and column, then height and width."""

    row: int
    col: int
    height: int
    width: int

    def overlap(self, other: Window) -> Window | None:
        """Return the pixels that both windows have, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row + self.height, other.row + other.height) - row
        width = min(self.col + self.width, other.col + other.width) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None


_crs_lock = threading.Lock()


@functools.cache
def _made_crs(epsg_or_wkt: int | str) -> CRS:
    from rasterio.crs import CRS

    if isinstance(epsg_or_wkt, int):
        return CRS.from_epsg(epsg_or_wkt)
    return CRS.from_wkt(epsg_or_wkt)


def _crs(epsg_or_wkt: int | str) -> CRS:
    # Threads that import rasterio together may use PROJ before it knows where its data are.
    with _crs_lock:
        return _made_crs(epsg_or_wkt)


@dataclass(frozen=True, slots=True)
class GridSpec:
    """Where the pixels of a raster are.

    Parameters
    ----------
    epsg_or_wkt : int or str
        EPSG code, or the WKT of a CRS that has none.
    transform : tuple of 6 float
        ``(a, b, c, d, e, f)`` of the affine transform from (column, row) pixel
        corners to CRS coordinates, as `affine.Affine` orders them.
    height, width : int
        Size in pixels.
    """

    epsg_or_wkt: int | str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @property
    def epsg(self) -> int | None:
        """EPSG code, or None where the CRS has none."""
        return self.epsg_or_wkt if isinstance(self.epsg_or_wkt, int) else None

    @property
    def crs(self) -> CRS:
        """The coordinate reference system as rasterio's object."""
        return _crs(self.epsg_or_wkt)

    @property
    def crs_name(self) -> str:
        """``"EPSG:…"``, or the WKT of a CRS that has no code."""
        return self.epsg_or_wkt if isinstance(self.epsg_or_wkt, str) else f"EPSG:{self.epsg_or_wkt}"

    @property
    def affine(self) -> Affine:
        """The transform as an `affine.Affine`."""
        from affine import Affine

        return Affine(*self.transform)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) of the pixel corners in CRS units."""
        a, b, c, d, e, f = self.transform
        xs = (c, c + a * self.width, c + b * self.height, c + a * self.width + b * self.height)
        ys = (f, f + d * self.width, f + e * self.height, f + d * self.width + e * self.height)
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, window: Window) -> GridSpec:
        """Return the grid of a window of this one."""
        a, b, c, d, e, f = self.transform
        left = c + a * window.col + b * window.row
        top = f + d * window.col + e * window.row
        return GridSpec(self.epsg_or_wkt, (a, b, left, d, e, top), window.height, window.width)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which dataset and year pixels come from; None where unknown."""

    version: str | None = None
    variant: str | None = None
    year: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Pixels on their way from a source to a kernel.

    Parameters
    ----------
    values : ndarray
        int8 (quantised) or float32 pixels, three axes in `layout` order.
    scales : ndarray or None
        float32 dequantisation factors, (row, column) or the shape of `values`;
        None for float32 values.
    grid : GridSpec
        Where the pixels are.
    layout : {"hwc", "chw"}
        Axis order of `values`.
    nodata : float or None
        The float32 value that means "no data" besides NaN.
    provenance : Provenance
        Dataset and year.
    """

    values: NDArray[np.int8] | NDArray[np.float32]
    scales: NDArray[np.float32] | None
    grid: GridSpec
    layout: Layout = "hwc"
    nodata: float | None = None
    provenance: Provenance = Provenance()

    @property
    def quantized(self) -> bool:
        """Whether the pixels are int8 values with scales."""
        return self.scales is not None

    @property
    def band_count(self) -> int:
        """Number of bands."""
        return int(self.values.shape[2 if self.layout == "hwc" else 0])

    def _repr_html_(self) -> str:
        """Describe the block in a notebook, with a thumbnail of what is in memory."""
        from geotessera.blockview import html

        return html(self)

    def rgb(
        self,
        bands: Sequence[int] = (0, 1, 2),
        *,
        model: Any = None,
        percentiles: tuple[float, float] = (2, 98),
        limits: Sequence[tuple[float, float]] | None = None,
        alpha: bool = False,
    ) -> NDArray[np.uint8]:
        """Return three bands, or three principal components, as colours.

        Parameters
        ----------
        bands : sequence of 3 int
            Zero-based bands for red, green and blue.
        model : geotessera.pca.PcaModel, optional
            Principal components with their stretch, as ``geotessera visualize --save-model``
            writes them, instead of bands: blocks of one model have one colour space.
        percentiles : (float, float)
            Of each band's values in this block; they become 0 and 255.
        limits : sequence of 3 (float, float), optional
            The values of each band that become 0 and 255, instead of percentiles.
        alpha : bool
            Whether there is a fourth channel, 0 where there is no embedding, else 255.

        Returns
        -------
        ndarray of uint8, shape (rows, columns, 3 or 4)
            0 where a band has no value.

        Raises
        ------
        BandError
            (an `IndexError` and a `ValueError`) for a band that the block does not have.
        InputError
            (a `ValueError`) for other than three bands, for percentiles or limits that are not
            in order, and for a model without a stretch or for other data.

        Examples
        --------
        >>> import numpy as np
        >>> grid = GridSpec(32631, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 4, 5)
        >>> Block(np.zeros((4, 5, 8), np.float32), None, grid).rgb((7, 3, 0), alpha=True).shape
        (4, 5, 4)
        """
        from geotessera.blockview import rgb

        return rgb(self, bands, model=model, percentiles=percentiles, limits=limits, alpha=alpha)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        bands: Sequence[int] | int = (0, 1, 2),
        model: Any = None,
        percentiles: tuple[float, float] = (2, 98),
        limits: Sequence[tuple[float, float]] | None = None,
        **imshow: Any,
    ) -> Axes:
        """Draw the block on axes of matplotlib, in coordinates of its CRS.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.
        bands : sequence of 3 int, or int
            Three zero-based bands as colours, or one by matplotlib's colour map.
        model, percentiles, limits
            As for `rgb`.
        **imshow
            For `matplotlib.axes.Axes.imshow`, such as ``cmap`` or ``alpha``.

        Returns
        -------
        matplotlib.axes.Axes
            A block of more than 2000 rows or columns is drawn by every n-th pixel.

        Raises
        ------
        InputError
            (a `ValueError`) for a rotated raster; otherwise as `rgb`.
        """
        from geotessera.blockview import plot

        return plot(
            self,
            ax,
            bands=bands,
            model=model,
            percentiles=percentiles,
            limits=limits,
            **imshow,
        )


@dataclass(frozen=True, slots=True, eq=False)
class SparsePixels:
    """Some pixels of a raster.

    Parameters
    ----------
    numbers : ndarray of int64, shape (n,)
        Which pixels: row * columns + column, strictly increasing.
    values : ndarray, shape (n, bands)
        int8 (quantised) or float32 pixels.
    scales : ndarray of float32, shape (n,) or (n, bands), or None
        Dequantisation factors; None for float32 values.
    nodata : float or None
        The float32 value that means "no data" besides NaN.
    """

    numbers: NDArray[np.int64]
    values: NDArray[np.int8] | NDArray[np.float32]
    scales: NDArray[np.float32] | None
    nodata: float | None = None


class Lattice(NamedTuple):
    """Coordinates at the nodes of a coarse grid over the pixels of a target grid.

    Node [i, j] lies at the pixel corner (row + i * step, col + j * step) of the whole
    target grid; between nodes, coordinates are interpolated bilinearly.
    """

    row: int
    """Row of the first nodes, a multiple of `step`."""
    col: int
    """Column of the first nodes, a multiple of `step`."""
    step: int
    """Pixels from one node to the next."""
    nodes: NDArray[np.float64]
    """x and y, or continuous longitude and latitude; shape (rows, columns, 2)."""


class MosaicSource(NamedTuple):
    """A raster that goes into a mosaic, or as much of it as is needed."""

    values: NDArray[np.int8] | NDArray[np.float32]
    """The pixels of `window`, three axes in `layout` order; any strides, memory maps too."""
    scales: NDArray[np.float32] | None
    """float32 factors, (row, column) or the shape of `values`; None for float32 values."""
    window: Window
    """Which pixels of the raster `values` holds."""
    shape: tuple[int, int]
    """Rows and columns of the whole raster."""
    transform: tuple[float, float, float, float, float, float]
    """North-up affine transform of the whole raster."""
    position: Literal["same"] | int | Lattice = "same"
    """How target pixels find their place: raster and target have one CRS; the raster's EPSG
    code (UTM on WGS84, 4326, 3857), exactly, through longitude and latitude; or interpolated
    x and y in the raster's CRS."""
    cell: tuple[int, int] | None = None
    """The 0.1° cell the raster was made for, (floor(10 lon), floor(10 lat)): there it is first."""
    layout: Layout = "hwc"
    """Axis order of `values` and of scales with three axes."""
    nodata: float | None = None
    """The float32 value that means "no data" besides NaN."""
    rule: PixelRule = "floor"
    """Which pixel owns a position."""


class QuantizedRaster(Block):
    """A block of int8 pixels with their scales: an embedding raster as it is published."""

    __slots__ = ()

    def dequantize(self) -> NDArray[np.float32]:
        """Return float32 values in the block's layout; pixels without a finite scale are NaN."""
        from geotessera import _native

        assert self.scales is not None  # what makes it a QuantizedRaster
        values: NDArray[np.int8] = self.values  # type: ignore[assignment]
        return _native.dequantize(values, self.scales, layout=self.layout)
