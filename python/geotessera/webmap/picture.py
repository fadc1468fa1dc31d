"""Pictures that web maps are cut from: 8-bit GeoTIFFs, read as red, green, blue and alpha."""

from __future__ import annotations

import math
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from geotessera import _native
from geotessera.errors import FormatError, InputError
from geotessera.mosaic.transforms import transform
from geotessera.sources.tiff import grid_of
from geotessera.types import GridSpec, Window
from geotessera.webmap.zooms import MAX_ZOOM, apply, zoom_grid

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geotessera.types import Method

    type Pixels = NDArray[np.uint8]

__all__ = ["Picture"]

_PLACES = 5
"""Places a side at which the size of a picture's pixels is measured."""

_GRAIN, _AT_ONCE = 512, 2048
"""Where a picture is finer than the map: sides of what is made at once, and of what is read for
it, in pixels; 8 MB and 16 MB."""

_SELF_CONTAINED = ("GTiff", "JPEG", "PNG", "WEBP")
"""GDAL's drivers whose pixels are in the file, and in those beside it."""


class Picture:
    """A raster of colours in 8 bits, in any CRS.

    One band is grey, three or more are red, green and blue, in the order that the file names
    them in, and alpha where the file says so.
    What the file's nodata value, its mask or its alpha hide is transparent.

    Parameters
    ----------
    path : path
        Any raster that GDAL reads.

    Attributes
    ----------
    path : Path
    grid : GridSpec
        CRS, transform and size.
    files : list of Path or None
        All that its pixels are made of, the picture itself first: a mask may lie beside it. None
        where files do not tell, as of a virtual raster, which shows the pixels of others.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError` and a `ValueError`) if it cannot be read or has no CRS.
    InputError
        (a `ValueError`) if it does not hold 8-bit colours: nothing is scaled here.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._idle: deque[Any] = deque()
        if not self.path.exists():
            raise FileNotFoundError(f"there is no picture {self.path}")
        with self._dataset() as dataset:
            self._bands = _colours(self.path, dataset)
            self.grid = grid_of(self.path, dataset)
            self.files = _files(self.path, dataset)
        _check_place(self.path, self.grid)

    @contextmanager
    def _dataset(self) -> Iterator[Any]:
        """Lend a dataset: each serves one thread at a time."""
        import rasterio
        from rasterio.errors import RasterioError

        try:
            dataset = self._idle.pop()
        except IndexError:
            dataset = None
        try:
            dataset = dataset or rasterio.open(self.path)
            yield dataset
        except BaseException as error:
            if dataset is not None:
                dataset.close()
            if isinstance(error, RasterioError):
                raise FormatError(f"{self.path} cannot be read: {error}") from error
            raise
        self._idle.append(dataset)

    def reduction(self, pixel: float) -> int:
        """Return how many pixels, in rows and in columns, one of Web Mercator covers.

        Parameters
        ----------
        pixel : float
            Side of the pixel in metres of EPSG:3857.
        """
        side = self._side()
        if side is None:
            return 1
        return max(1, math.floor(pixel / side * (1 + 1e-9)))

    @property
    def finest_zoom(self) -> int:
        """The first zoom whose pixels are no larger than the picture's."""
        side = self._side()
        if side is None:
            return MAX_ZOOM
        zoom = math.ceil(math.log2(zoom_grid(0).transform[0] / side) - 1e-9)
        return max(0, min(zoom, MAX_ZOOM))

    def _side(self) -> float | None:
        """Return the side of the picture's largest pixels, in metres of EPSG:3857."""
        at = (np.arange(_PLACES) + 0.5) / _PLACES
        col, row = np.meshgrid(at * self.grid.width, at * self.grid.height)
        (x, y), right, down = (
            transform(
                *apply(self.grid.transform, col + across, row + along), self.grid.epsg_or_wkt, 3857
            )
            for across, along in ((0, 0), (1, 0), (0, 1))
        )
        area = (right[0] - x) * (down[1] - y) - (right[1] - y) * (down[0] - x)
        sides = np.sqrt(np.abs(area[np.isfinite(area)]))
        # The largest, so that nothing is smoothed more than it has to be; those that a
        # picture's pixels measure across the antimeridian are none.
        sides = sides[sides < 1e6]
        if not len(sides) or not sides.max() > 0:
            return None
        return float(sides.max())

    def reduced(self, times: int) -> GridSpec:
        """Return the grid whose pixels are `times` × `times` of the picture's.

        Those of the last row and column may reach beyond the picture.
        """
        a, b, c, d, e, f = self.grid.transform
        shape = -(-self.grid.height // times), -(-self.grid.width // times)
        return GridSpec(
            self.grid.epsg_or_wkt, (a * times, b * times, c, d * times, e * times, f), *shape
        )

    def read(self, window: Window, times: int = 1, method: Method = "bilinear") -> Pixels:
        """Read pixels: (rows, columns, 4), red, green, blue and alpha; zero where transparent.

        Parameters
        ----------
        window : Window
            Which pixels of the grid `reduced` by `times`.
        times : int
            So many pixels a side become one: their mean, weighted by alpha, and as opaque as
            the share of them that is visible; for ``"nearest"`` the one in the middle.
        method : {"bilinear", "nearest"}
        """
        with self._dataset() as dataset:
            if times == 1:
                return self._pixels(dataset, window)
            # GDAL would take them from overviews, of which nobody knows how they were made,
            # and shows what is partly visible as opaque.
            make = self._middles if method == "nearest" else self._means
            pixels = np.empty((window.height, window.width, 4), np.uint8)
            for part in _grains(window, _GRAIN, striped=self._is_striped(dataset)):
                row, col = part.row - window.row, part.col - window.col
                pixels[row : row + part.height, col : col + part.width] = make(dataset, part, times)
            return pixels

    def _pixels(self, dataset: Any, window: Window) -> Pixels:
        from rasterio.windows import Window as RasterioWindow

        row, col, height, width = window
        part = RasterioWindow(col, row, width, height)
        pixels = np.empty((height, width, 4), np.uint8)
        # Into the picture itself; grey fills the first band, and is copied then.
        dataset.read(
            self._bands, window=part, out=pixels[..., : len(self._bands)].transpose(2, 0, 1)
        )
        alpha = dataset.dataset_mask(window=part)
        if len(self._bands) == 1:
            pixels[..., 1:3] = pixels[..., :1]
        pixels[..., 3] = alpha
        pixels[alpha == 0] = 0
        return pixels

    def _means(self, dataset: Any, window: Window, times: int) -> Pixels:
        sums = np.zeros((window.height, window.width, 4), np.uint64)
        for part in self._below(dataset, window, times):
            found = _native.sum_squares(
                self._pixels(dataset, part), times, part.row % times, part.col % times
            )
            row, col = part.row // times - window.row, part.col // times - window.col
            sums[row : row + found.shape[0], col : col + found.shape[1]] += found
        alpha = sums[..., 3:]
        # Rounded as coarser zooms are.
        pixels = np.empty(sums.shape, np.uint8)
        pixels[..., 3:] = (alpha + times**2 // 2) // times**2
        pixels[..., :3] = (sums[..., :3] + alpha // 2) // np.maximum(alpha, 1)
        pixels[pixels[..., 3] == 0] = 0
        return pixels

    def _middles(self, dataset: Any, window: Window, times: int) -> Pixels:
        rows, cols = (
            np.minimum(np.arange(first, first + count) * times + times // 2, size - 1)
            for first, count, size in (
                (window.row, window.height, self.grid.height),
                (window.col, window.width, self.grid.width),
            )
        )
        pixels = np.zeros((window.height, window.width, 4), np.uint8)
        for part in self._below(dataset, window, times):
            down = np.flatnonzero((rows >= part.row) & (rows < part.row + part.height))
            across = np.flatnonzero((cols >= part.col) & (cols < part.col + part.width))
            if len(down) and len(across):
                found = self._pixels(dataset, part)
                at = np.ix_(rows[down] - part.row, cols[across] - part.col)
                pixels[np.ix_(down, across)] = found[at]
        return pixels

    def _below(self, dataset: Any, window: Window, times: int) -> Iterator[Window]:
        """Yield the picture's pixels below a window of larger ones, as many as are read at once."""
        row, col = window.row * times, window.col * times
        bottom = min((window.row + window.height) * times, self.grid.height)
        right = min((window.col + window.width) * times, self.grid.width)
        whole = Window(row, col, bottom - row, right - col)
        return _grains(whole, _AT_ONCE, striped=self._is_striped(dataset))

    def _is_striped(self, dataset: Any) -> bool:
        return int(dataset.block_shapes[0][1]) >= self.grid.width

    def close(self) -> None:
        """Close the file."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _grains(window: Window, side: int, *, striped: bool) -> Iterator[Window]:
    """Yield parts of a window, of about `side` × `side` pixels, along the blocks of most files."""
    bottom, right = window.row + window.height, window.col + window.width
    high, wide = (max(1, side * side // window.width), right) if striped else (side, side)
    for top in range(window.row - window.row % high, bottom, high):
        for left in range(window.col - window.col % wide, right, wide):
            row, col = max(top, window.row), max(left, window.col)
            yield Window(row, col, min(top + high, bottom) - row, min(left + wide, right) - col)


def _check_place(path: Path, grid: GridSpec) -> None:
    """Refuse a picture of which nobody can say where on the globe it is."""
    from pyproj.exceptions import ProjError

    at = np.zeros(1)
    try:
        transform(at, at, grid.epsg_or_wkt, 4326)
    except ProjError as error:
        raise FormatError(f"{path} has a CRS that says no place on the globe: {error}") from error


def _files(path: Path, dataset: Any) -> list[Path] | None:
    if dataset.driver not in _SELF_CONTAINED:
        return None
    beside = {one for name in dataset.files if (one := Path(name)).is_file()}
    return [path, *sorted(one for one in beside if not one.samefile(path))]


def _colours(path: Path, dataset: Any) -> list[int]:
    """Return the bands of red, green and blue, or of grey, one-based."""
    from rasterio.enums import ColorInterp

    kinds = sorted(set(dataset.dtypes))
    if kinds != ["uint8"]:
        raise InputError(
            f"{path} holds {', '.join(kinds)}, and a web map is cut from uint8 colours: make a "
            "picture first, with `geotessera visualize` or create_rgb_mosaic"
        )
    meant = list(dataset.colorinterp)
    if meant[0] == ColorInterp.palette:
        raise InputError(f"{path} holds the numbers of a palette: expand it to colours first")
    rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(meant.count(one) == 1 for one in rgb):  # in any order
        return [meant.index(one) + 1 for one in rgb]
    shown = [band for band, kind in enumerate(meant, 1) if kind != ColorInterp.alpha]
    if len(shown) not in (1, 3) and not len(shown) > 3:
        raise InputError(
            f"{path} has {len(shown)} bands of colour: expected one of grey, or red, green and blue"
        )
    return shown[:3]
