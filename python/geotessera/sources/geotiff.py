"""GeoTIFF rasters: exported tiles and zones, float32 with NaN where there is nothing."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.datasets import dataset_from_tags
from geotessera.errors import FormatError, InputError
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.landmask import read_mask
from geotessera.sources.tiff import grid_of
from geotessera.types import Block, Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources.base import Allocate

__all__ = ["GeoTiff", "GeoTiffSource"]


@dataclass(frozen=True, slots=True)
class GeoTiff:
    """A GeoTIFF file: a descriptor.

    Parameters
    ----------
    path : path
        The file.
    landmask : path, optional
        The landmask of its tile, where there is one.
    """

    path: str | Path
    landmask: str | Path | None = None

    def open(self) -> GeoTiffSource:
        """Open the file."""
        return GeoTiffSource(self)


class GeoTiffSource(RasterSource):
    """A GeoTIFF on disk, read as float32; nodata is NaN.

    A GDAL dataset serves one thread at a time, so each read borrows one from a pool
    that grows to the number of threads reading at once.

    Parameters
    ----------
    descriptor : GeoTiff
        The file.

    Attributes
    ----------
    tags : dict of str to str
        The file's tags.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError` and a `ValueError`) if it is not a GeoTIFF or has no CRS.
    """

    def __init__(self, descriptor: GeoTiff) -> None:
        self._descriptor = descriptor
        self._idle: deque[Any] = deque()
        with self._dataset() as dataset:
            self.grid = grid_of(Path(descriptor.path), dataset)
            self.band_count = int(dataset.count)
            self.block_shape = dataset.block_shapes[0]
            self.tags: dict[str, str] = dataset.tags()
            self.descriptions: tuple[str | None, ...] = dataset.descriptions
            self._nodata: tuple[float | None, ...] = dataset.nodatavals
            self._masked = any(map(_is_mask, dataset.mask_flag_enums))
            self._wide = any(map(_is_wide, dataset.dtypes))
        version, variant = dataset_from_tags(self.tags) or (None, None)
        year = self.tags.get("TESSERA_YEAR", "")
        self.provenance = Provenance(
            version,
            variant,
            year=int(year) if year.isascii() and year.isdigit() else None,
            source=str(descriptor.path),
        )

    @contextmanager
    def _dataset(self) -> Iterator[Any]:
        import rasterio
        from rasterio.errors import RasterioError

        path = Path(self._descriptor.path)
        try:
            dataset = self._idle.pop() if self._idle else None
        except IndexError:  # another thread was faster
            dataset = None
        try:
            dataset = dataset or rasterio.open(path)
            yield dataset
        except RasterioError as error:
            if not path.exists():
                raise FileNotFoundError(f"no GeoTIFF at {path}") from error
            reason = error.__cause__ or error  # "Read failed. See previous exception for details."
            raise FormatError(f"{path} cannot be read as a GeoTIFF: {reason}") from error
        self._idle.append(dataset)

    @property
    def descriptor(self) -> GeoTiff:
        """The file."""
        return self._descriptor

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Read float32 pixels, nodata and what the file's mask hides as NaN.

        An alpha band is a band, not a mask. See `RasterSource.read`.
        """
        import numpy as np
        from rasterio.windows import Window as RasterioWindow

        picked = check_bands(bands, self.band_count)
        if picked is None:
            picked = list(range(self.band_count))
        row, col, height, width = part = check_window(window, self.grid)
        shape = (height, width, len(picked))
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise InputError(f"out must be float32 of shape {shape}, found {out.dtype} {out.shape}")
        part_of_file = RasterioWindow(col, row, width, height)
        with self._dataset() as dataset:
            # GDAL writes pixels in any order: a transposed view spares a second copy.
            dataset.read(
                [band + 1 for band in picked], window=part_of_file, out=out.transpose(2, 0, 1)
            )
            if self._masked:
                out[dataset.read_masks(1, window=part_of_file) == 0] = np.nan
            for at, band in enumerate(picked):
                nodata, plane = self._nodata[band], out[..., at]
                if nodata is None or nodata != nodata:
                    continue
                if self._wide and not self._masked:
                    plane[dataset.read_masks(band + 1, window=part_of_file) == 0] = np.nan
                    continue
                with np.errstate(over="ignore"):  # a float64 may be no float32: infinite in both
                    plane[plane == np.float32(nodata)] = np.nan
        return Block(out, None, self.grid.window(part), provenance=self.provenance)

    def read_into(self, window: Window, allocate: Allocate) -> Block:
        """Read a window into memory that is asked for; see `RasterSource.read_into`."""
        shape = (window.height, window.width, self.band_count)
        return self.read(window, out=allocate(shape, "float32"))

    def land(self) -> NDArray[np.uint8] | None:
        """Return the landmask, 0 = water, shape (H, W), or None where there is none.

        Raises
        ------
        FormatError
            (a `RuntimeError` and a `ValueError`) if the mask is not of the raster's size.
        """
        landmask = self._descriptor.landmask
        if landmask is None:
            return None
        mask = read_mask(landmask)
        if mask.shape != (self.grid.height, self.grid.width):
            raise FormatError(
                f"{landmask} of {mask.shape[0]} × {mask.shape[1]} pixels is not the landmask of "
                f"{self._descriptor.path} with {self.grid.height} × {self.grid.width}"
            )
        return mask

    def close(self) -> None:
        """Close the idle datasets."""
        while self._idle:
            self._idle.pop().close()


def _is_wide(dtype: str) -> bool:
    """Whether numbers that differ may be the same float32: then GDAL must say which are nodata."""
    import numpy as np

    return np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize > 2


def _is_mask(flags: Sequence[Any]) -> bool:
    """Whether a band's flags say that the file carries a mask of its pixels."""
    from rasterio.enums import MaskFlags

    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
