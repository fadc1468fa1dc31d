"""Pictures that web maps are cut from: 8-bit GeoTIFFs, read as red, green, blue and alpha."""

from __future__ import annotations

import math
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

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

__all__ = ["Picture"]

_PLACES = 5
"""Places a side at which the size of a picture's pixels is measured."""


_SELF_CONTAINED = ("GTiff", "JPEG", "PNG", "WEBP")
"""GDAL's drivers whose pixels are in the file, and in those beside it."""


class Picture:
    """A raster of colours in 8 bits, in any CRS.

    One band is grey, three or more are red, green and blue, and alpha where the file says so.
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
        times = math.floor(pixel / side * (1 + 1e-9))
        return max(1, min(times, self.grid.height, self.grid.width))

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
        """Return the grid whose pixels are `times` × `times` of the picture's."""
        a, b, c, d, e, f = self.grid.transform
        shape = self.grid.height // times, self.grid.width // times
        return GridSpec(
            self.grid.epsg_or_wkt, (a * times, b * times, c, d * times, e * times, f), *shape
        )

    def read(
        self, window: Window, times: int = 1, method: Method = "bilinear"
    ) -> NDArray[np.uint8]:
        """Read pixels: (rows, columns, 4), red, green, blue and alpha; zero where transparent.

        Parameters
        ----------
        window : Window
            Which pixels of the grid `reduced` by `times`.
        times : int
            So many pixels a side become one: their mean, or for ``"nearest"`` one of them.
        method : {"bilinear", "nearest"}
        """
        from rasterio.enums import Resampling
        from rasterio.windows import Window as RasterioWindow

        row, col, height, width = window
        part = RasterioWindow(col * times, row * times, width * times, height * times)
        how = Resampling.nearest if method == "nearest" or times == 1 else Resampling.average
        pixels = np.empty((height, width, 4), np.uint8)
        with self._dataset() as dataset:
            # Into the picture itself; grey fills the first band, and is copied then.
            colours = pixels[..., : len(self._bands)].transpose(2, 0, 1)
            dataset.read(self._bands, window=part, out=colours, resampling=how)
            alpha = dataset.dataset_mask(window=part, out_shape=(height, width), resampling=how)
        if len(self._bands) == 1:
            pixels[..., 1:3] = pixels[..., :1]
        pixels[..., 3] = alpha
        pixels[alpha == 0] = 0
        return pixels

    def close(self) -> None:
        """Close the file."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
    shown = [band for band, kind in enumerate(dataset.colorinterp, 1) if kind != ColorInterp.alpha]
    if dataset.colorinterp[0] == ColorInterp.palette:
        raise InputError(f"{path} holds the numbers of a palette: expand it to colours first")
    if len(shown) not in (1, 3) and not len(shown) > 3:
        raise InputError(
            f"{path} has {len(shown)} bands of colour: expected one of grey, or red, green and blue"
        )
    return shown[:3]
