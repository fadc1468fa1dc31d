"""A picture as a GeoTIFF that every GIS shows as it is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import GridSpec, Window

__all__ = ["BLOCK", "PictureFile"]

BLOCK = 512
"""Side of a block of the file in pixels."""


class PictureFile:
    """A GeoTIFF of uint8 bands with a mask, written window by window; a context manager.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced.
    grid : GridSpec
        Where its pixels are.
    bands : int
        1 is shown in grey, 3 as red, green and blue.
    tags : mapping of str to str
        What it says of itself.
    names : sequence of str
        What its bands are called.
    compress : str
        GDAL's name of the compression.
    """

    def __init__(
        self,
        path: Path,
        grid: GridSpec,
        bands: int,
        tags: Mapping[str, str],
        names: tuple[str, ...],
        *,
        compress: str = "lzw",
    ) -> None:
        import rasterio

        self._path = path
        self._size = grid.height, grid.width
        self._stack = ExitStack()
        # A mask in a file of its own would be left behind when the picture gets its name.
        # GDAL's threads tell nobody that a disk is full, and crash at the overviews then.
        self._options = {"GDAL_TIFF_INTERNAL_MASK": True, "GDAL_NUM_THREADS": "1"}
        self._stack.enter_context(rasterio.Env(**self._options))
        colours = {"photometric": "RGB"} if bands == 3 else {"photometric": "MINISBLACK"}
        profile = {
            "driver": "GTiff", "height": grid.height, "width": grid.width, "count": bands,
            "dtype": "uint8", "crs": grid.crs, "transform": grid.affine, "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "pixel",
            "compress": compress, "BIGTIFF": "IF_SAFER", **colours,
        }  # fmt: skip
        try:
            self._dataset = self._stack.enter_context(rasterio.open(path, "w", **profile))
            self._dataset.update_tags(**tags)
            if names:
                self._dataset.descriptions = names
        except BaseException:
            self._stack.close()
            raise

    def write(self, window: Window, levels: NDArray[np.uint8], shown: NDArray[np.bool_]) -> None:
        """Write a window: uint8 (row, column, band), and which of its pixels there are."""
        import rasterio

        row, col, height, width = window
        where = ((row, row + height), (col, col + width))
        with rasterio.Env(**self._options):  # each thread has one of its own
            self._dataset.write(levels.transpose(2, 0, 1), window=where)
            self._dataset.write_mask(shown, window=where)

    def finish(self) -> None:
        """Add overviews, each pixel the mean of those that are shown."""
        from rasterio.enums import Resampling

        factors, factor = [], 2
        while max(self._size) > BLOCK * factor / 2:
            factors.append(factor)
            factor *= 2
        if factors:
            self._dataset.build_overviews(factors, Resampling.average)

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self._stack.close()
