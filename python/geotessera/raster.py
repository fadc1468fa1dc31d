"""Mosaics of GeoTIFFs in files: all bands, or three of them as colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import IncompleteMosaicError, InputError
from geotessera.mosaic.build import plan_files
from geotessera.mosaic.execute import render
from geotessera.mosaic.extent import check_filled, check_room
from geotessera.mosaic.geotiffs import tags_of
from geotessera.mosaic.opener import Opener
from geotessera.mosaic.placement import on_whole_pixels
from geotessera.mosaic.rasters import check_output
from geotessera.mosaic.write import write_mosaic
from geotessera.remote.partfile import atomic_path
from geotessera.sources.base import check_bands
from geotessera.sources.geotiff_check import written_whole
from geotessera.tiff.codecs import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.types import ProgressCallback, Window

    type StrPath = str | os.PathLike[str]
    type Pieces = Callable[[], Iterator[tuple[Window, NDArray[np.float32]]]]

__all__ = ["create_rgb", "merge_geotiffs"]

WEB_CRS = "EPSG:3857"

_IN_MEMORY = 2**28
"""Bytes of the largest picture whose three bands are made once and not once for each pass."""


def merge_geotiffs(
    paths: Iterable[StrPath],
    output_path: StrPath,
    target_crs: Any = WEB_CRS,
    compress: str | None = "lzw",
    progress_callback: ProgressCallback | None = None,
    *,
    bands: Sequence[int] | None = None,
    bounds: tuple[float, float, float, float] | None = None,
) -> str:
    """Write GeoTIFFs as one float32 GeoTIFF.

    At each pixel the first file wins whose pixel there holds data (zero is data, nodata and
    what a file's mask hides is not); where none does the mosaic is NaN. Files that are in the
    target CRS with the mosaic's pixel size are copied pixel by pixel, moved by up to half a
    pixel; others are warped bilinearly. The mosaic is made and written block by block.

    Parameters
    ----------
    paths : iterable of path
        GeoTIFFs of any dtype, in order of precedence.
    output_path : path
        The file; parents are made. It appears whole or not at all.
    target_crs : CRS, int or str
        Of the mosaic. Its pixel size is the first file's, or what GDAL gives that file in
        the CRS.
    compress : {"lzw", "deflate", "zstd", "none"} or None
        The file's compression.
    progress_callback : callable, optional
        Called with (blocks done, blocks in all, status text).
    bands : sequence of int, optional
        Zero-based bands, in this order; all by default.
    bounds : tuple of 4 float, optional
        (left, bottom, right, top) in the target CRS; by default all that the files cover.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    InputError
        (a `ValueError`) if there is no file, for a CRS, bounds or compression that cannot be
        used, and for files that lie too far apart for one mosaic.
    DatasetMismatchError
        (a `ValueError`) if files are known to hold different datasets, years or bands.
    BandError
        (an `IndexError` and a `ValueError`) for a band that a file does not have.
    FileNotFoundError, FormatError
        If a file is missing, or cannot be read or has no CRS.
    UnwritableDestination
        (an `OSError`) if the mosaic cannot be written.
    """
    compress = compress or "none"
    Codec.of(compress, np.dtype(np.float32))  # refused before anything is read
    plan = _plan(paths, target_crs, bands, bounds)
    try:
        write_mosaic(
            plan,
            output_path,
            format="tiff",
            compress=compress,
            overviews=False,
            progress=progress_callback,
            resume=False,
            keep=False,
        )
    except IncompleteMosaicError as error:
        raise next(iter(error.failed.values())) from None  # there is nothing to go on from
    return str(output_path)


def create_rgb(
    paths: Iterable[StrPath],
    output_path: StrPath,
    bands: Sequence[int] = (0, 1, 2),
    target_crs: Any = WEB_CRS,
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Write three bands of GeoTIFFs as one picture: a uint8 GeoTIFF.

    Mosaicked as by `merge_geotiffs`; each band's range of values then becomes 0 to 255.
    Pixels that lack one of the bands are masked, and 0.

    Parameters
    ----------
    paths, target_crs
        As for `merge_geotiffs`.
    output_path : path
        The file; parents are made. It appears whole or not at all.
    bands : sequence of 3 int
        Zero-based bands for red, green and blue.
    progress_callback : callable, optional
        Called with (blocks done, blocks in all, status text); every block counts twice.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    InputError
        (a `ValueError`) for other than three bands, for a picture that the disk has no room for,
        and for one of the files as output; otherwise as `merge_geotiffs`.
    """
    chosen = check_bands(bands)
    if chosen is None or len(chosen) != 3:
        raise InputError(f"bands={bands!r}: expected three, for red, green and blue")
    plan = _plan(paths, target_crs, chosen, None)
    check_output(plan.rasters, output_path)
    check_room(plan.grid, Path(output_path))
    with (
        Opener() as opener,
        atomic_path(output_path, suffix=".tif") as temporary,
        written_whole(temporary, Path(output_path)),
    ):
        pieces = _pieces(plan, opener, progress_callback)
        low, high = _ranges(pieces)
        _write_picture(plan, temporary, pieces, low, high)
    return str(output_path)


def _plan(
    paths: Iterable[StrPath],
    crs: Any,
    bands: Sequence[int] | None,
    bounds: tuple[float, float, float, float] | None,
) -> MosaicPlan:
    if isinstance(paths, str | os.PathLike):
        raise InputError(f"{str(paths)!r} is one path: expected a list of paths")
    plan = plan_files(paths, crs, bounds=bounds, method="bilinear", bands=bands)
    if bounds is None:
        check_filled(plan.grid, plan.reaches)
    return on_whole_pixels(plan)


def _pieces(plan: MosaicPlan, opener: Opener, progress: ProgressCallback | None) -> Pieces:
    """Return what yields windows and their pixels, from the first block to the last."""
    total = 2 * plan.block_count
    kept: list[tuple[Window, NDArray[np.float32]]] = []
    done = 0

    def pieces() -> Iterator[tuple[Window, NDArray[np.float32]]]:
        nonlocal done
        if len(kept) == plan.block_count:
            yield from kept
            done = total
        else:
            for window in plan.blocks():
                values: NDArray[np.float32] = render(plan, window, opener=opener).values  # type: ignore[assignment]
                if plan.nbytes <= _IN_MEMORY:
                    kept.append((window, values))
                yield window, values
                done += 1
                if progress is not None:
                    progress(done, total, f"block {done} of {total}")
        if progress is not None and done == total:
            progress(total, total, "Complete")

    return pieces


def _ranges(pieces: Pieces) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return least and greatest finite value of each band; 0 and 0 of a band without any."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for _, values in pieces():
        finite = np.isfinite(values)
        np.minimum(low, values.min((0, 1), where=finite, initial=np.inf), out=low)
        np.maximum(high, values.max((0, 1), where=finite, initial=-np.inf), out=high)
    empty = low > high
    low[empty] = high[empty] = 0
    return low, high


def _write_picture(
    plan: MosaicPlan,
    path: Path,
    pieces: Pieces,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    import rasterio

    assert plan.bands is not None  # three of them
    span = np.where(high > low, high - low, np.inf)  # a band of one value is 0 everywhere
    grid = plan.grid
    profile = {
        "driver": "GTiff", "height": grid.height, "width": grid.width, "count": 3,
        "dtype": "uint8", "crs": grid.crs, "transform": grid.affine, "photometric": "RGB",
        "tiled": True, "blockxsize": plan.block, "blockysize": plan.block,
        "interleave": "pixel", "compress": "lzw", "BIGTIFF": "IF_SAFER",
        "num_threads": "ALL_CPUS",
    }  # fmt: skip
    # A mask in a file of its own would be left behind when the picture gets its name.
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        dataset.update_tags(
            **tags_of(plan),
            TIFFTAG_IMAGEDESCRIPTION=f"RGB visualization using bands {tuple(plan.bands)}",
        )
        for (row, col, height, width), values in pieces():
            where = ((row, row + height), (col, col + width))
            shown = np.isfinite(values).all(axis=2)
            scaled = (np.where(shown[..., None], values, low) - low) / span * 255
            dataset.write(scaled.astype(np.uint8).transpose(2, 0, 1), window=where)
            dataset.write_mask(shown, window=where)
