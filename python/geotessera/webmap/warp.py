"""A raster in another CRS, as a GeoTIFF: what `geotessera.web.prepare_mosaic_for_web` makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError
from geotessera.mosaic.grids import crs_code
from geotessera.remote.partfile import atomic_path
from geotessera.sources.geotiff_check import written_whole
from geotessera.sources.tiff import grid_of

if TYPE_CHECKING:
    import os

    from geotessera.types import ProgressCallback

__all__ = ["warp_raster"]

_BLOCK = 512


def warp_raster(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    crs: Any,
    progress: ProgressCallback | None = None,
) -> Path:
    """Warp a raster bilinearly, block by block; return the source's path if it is in the CRS.

    Three bands of 8 bits without alpha get one, so that what lies outside is transparent; other
    rasters keep their bands and their nodata value.

    Raises
    ------
    InputError
        (a `ValueError`) for what is no CRS.
    FileNotFoundError, FormatError
        If there is no raster, or it cannot be read or has no place in the CRS.
    UnwritableDestination
        (an `OSError`) if the file cannot be written.
    """
    import rasterio
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.errors import RasterioError
    from rasterio.vrt import WarpedVRT

    path = Path(source)
    code = crs_code(crs)
    if not path.exists():
        raise FileNotFoundError(f"there is no raster {path}")
    try:
        with rasterio.open(path) as raster:
            if grid_of(path, raster).epsg_or_wkt == code:
                return path
            alpha = ColorInterp.alpha in raster.colorinterp
            wanted = raster.count == 3 and raster.dtypes[0] == "uint8" and not alpha
            options: dict[str, Any] = {"crs": crs, "resampling": Resampling.bilinear}
            if wanted:
                options["add_alpha"] = True
            with (
                WarpedVRT(raster, **options) as warped,
                atomic_path(output, suffix=".tif") as part,
                written_whole(part, Path(output)),
            ):
                _copy(warped, part, progress)
    except RasterioError as error:
        raise FormatError(f"{path} cannot be warped to {crs}: {error}") from error
    return Path(output)


def _copy(warped: Any, part: Path, progress: ProgressCallback | None) -> None:
    import rasterio
    from rasterio.windows import Window

    profile = {
        "driver": "GTiff", "height": warped.height, "width": warped.width,
        "count": warped.count, "dtype": warped.dtypes[0], "crs": warped.crs,
        "transform": warped.transform, "nodata": warped.nodata, "tiled": True,
        "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "lzw",
        "BIGTIFF": "IF_SAFER", "num_threads": "ALL_CPUS",
    }  # fmt: skip
    rows = range(0, warped.height, _BLOCK)
    with rasterio.open(part, "w", **profile) as target:
        target.colorinterp = warped.colorinterp
        for done, row in enumerate(rows):
            height = min(_BLOCK, warped.height - row)
            window = Window(0, row, warped.width, height)
            target.write(warped.read(window=window), window=window)
            if progress is not None:
                progress(done + 1, len(rows), "warping")
