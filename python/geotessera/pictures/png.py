"""A picture as a PNG, with its place in two files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from geotessera.remote.partfile import workplace, writing_to

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["png_files", "write_png"]


def png_files(path: Path) -> tuple[Path, Path, Path]:
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
        transform = ", ".join(repr(value) for value in (left, a, b, top, d, e))
        _, place, aside = png_files(made)
        with writing_to(path):
            place.write_text("".join(f"{value!r}\n" for value in world))
            aside.write_text(
                f"<PAMDataset>\n  <SRS>{escape(crs)}</SRS>\n"
                f"  <GeoTransform>{transform}</GeoTransform>\n</PAMDataset>\n"
            )
            for source, target in reversed(
                list(zip(png_files(made), png_files(path), strict=True))
            ):
                source.replace(target)
    return list(png_files(path))


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
