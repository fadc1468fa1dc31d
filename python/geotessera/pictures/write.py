"""Pictures as files: a GeoTIFF that every GIS shows as it is, and a PNG with its place."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from xml.sax.saxutils import escape

from geotessera.remote.partfile import temporary_stem, writing_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import GridSpec, Window

__all__ = ["BLOCK", "PictureFile", "workplace", "write_png"]

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


# --- PNG -----------------------------------------------------------------------------------


def _png_files(path: Path) -> tuple[Path, Path, Path]:
    """Return where a PNG is, its world file, and the file with its CRS."""
    return path, path.with_suffix(".pgw"), path.with_name(f"{path.name}.aux.xml")


def write_png(picture: Path, path: Path) -> list[Path]:
    """Write a GeoTIFF of `PictureFile` as a PNG whose alpha channel is its mask.

    GDAL copies it row by row, whatever its size. A world file and GDAL's ``.aux.xml`` beside
    it say where it is.

    Parameters
    ----------
    picture : Path
        The GeoTIFF.
    path : Path
        The PNG. It and its two companions appear whole or not at all.

    Returns
    -------
    list of Path
        The three files.
    """
    import rasterio
    import rasterio.shutil

    with workplace(path) as directory, rasterio.Env(GDAL_PAM_ENABLED=True):
        made = directory / path.name
        with rasterio.open(picture) as dataset:
            a, b, left, d, e, top = tuple(dataset.transform)[:6]
            crs = dataset.crs.to_wkt()
            virtual = _with_alpha(picture, dataset)
        rasterio.shutil.copy(virtual, made, driver="PNG", strict=False)
        # The centre of the first pixel; PNGs have no place of their own.
        world = [a, d, b, e, left + (a + b) / 2, top + (d + e) / 2]
        made.with_suffix(".pgw").write_text("".join(f"{value!r}\n" for value in world))
        transform = ", ".join(repr(value) for value in (left, a, b, top, d, e))
        _png_files(made)[2].write_text(
            f"<PAMDataset>\n  <SRS>{escape(crs)}</SRS>\n"
            f"  <GeoTransform>{transform}</GeoTransform>\n</PAMDataset>\n"
        )
        with writing_to(path):
            for source, target in reversed(
                list(zip(_png_files(made), _png_files(path), strict=True))
            ):
                source.replace(target)
    return list(_png_files(path))


@contextmanager
def workplace(path: Path) -> Iterator[Path]:
    """Yield a hidden directory beside a file that is to be made; it is removed afterwards."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{temporary_stem(path)}_tmp_"
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _with_alpha(picture: Path, dataset: Any) -> str:
    """Return a virtual raster of the picture's bands and its mask, as alpha."""
    width, height = dataset.width, dataset.height
    grey = dataset.count != 3
    colours = ["Gray"] if grey else ["Red", "Green", "Blue"]
    sources = [(str(at + 1), colour) for at, colour in enumerate(colours)] + [("mask,1", "Alpha")]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number + 1}"><ColorInterp>{colour}</ColorInterp>'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(str(picture.absolute()))}'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (band, colour) in enumerate(sources)
    )
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'
