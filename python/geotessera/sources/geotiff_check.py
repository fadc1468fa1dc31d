"""Whether a GeoTIFF is whole: by its header alone, or by reading all of it."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geotessera.errors import FormatError
from geotessera.remote.partfile import writing_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["check_blocks", "lacks_blocks", "written_whole"]

_READ_BYTES = 64 * 2**20
"""Most that `check_blocks` holds, unless a single block is larger."""

_FULL = 2**20
"""Bytes that are free on a disk that GDAL has filled, at most."""


def lacks_blocks(dataset: Any) -> bool:
    """Return whether an open file ends before its last block, or never had all of them.

    Nothing but the header is read: where each block begins and how long it is. Overviews
    are not looked at.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
        A GeoTIFF on disk.
    """
    size = Path(dataset.name).stat().st_size
    return any(block is None or sum(block) > size for block in _blocks(dataset))


def _blocks(dataset: Any) -> Iterator[tuple[int, int] | None]:
    """Yield where each block begins and its length in bytes; None for one never written."""
    # With all bands of a pixel together, each band's blocks are the first one's.
    apart = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") != "PIXEL"
    for band in dataset.indexes if apart else [1]:
        height, width = dataset.block_shapes[band - 1]
        for row in range(-(-dataset.height // height)):
            for col in range(-(-dataset.width // width)):
                offset, length = (
                    dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)
                    for what in ("OFFSET", "SIZE")
                )
                yield None if offset is None or length is None else (int(offset), int(length))


def check_blocks(path: Path) -> None:
    """Decode every pixel of a GeoTIFF, overviews and an internal mask included.

    Compressions differ in what damage they show: most by LZW, all by deflate, none without.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError`) if a block cannot be decoded, or is not there.
    """
    import rasterio
    from rasterio.enums import MaskFlags
    from rasterio.errors import RasterioError

    if not path.is_file():
        raise FileNotFoundError(f"no GeoTIFF at {path}")
    try:
        with rasterio.open(path) as dataset:
            if dataset.driver == "GTiff" and lacks_blocks(dataset):
                raise FormatError(f"{path} is truncated: it ends before its last block")
            if dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION") == "DEFLATE":
                _check_sums(path, _blocks(dataset))
            levels = len(dataset.overviews(1))
        for level in [None, *range(levels)]:
            more = {} if level is None else {"overview_level": level}
            with rasterio.open(path, **more) as dataset:
                masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
                for window in _windows(dataset):
                    dataset.read(window=window)
                    if masked:
                        dataset.read_masks(1, window=window)
    except RasterioError as error:
        raise FormatError(f"{path} cannot be read as a GeoTIFF: {error}") from error


@contextmanager
def written_whole(path: Path, destination: Path) -> Iterator[None]:
    """Raise unless the GeoTIFF that the body writes by GDAL is all there in the end.

    Of blocks that it writes late, when a file is closed and by threads of its own, GDAL tells
    nobody but stderr that the disk was full, and leaves half a file.

    Parameters
    ----------
    path : Path
        What the body writes, and closes.
    destination : Path
        What it will be called, for messages.

    Raises
    ------
    UnwritableDestination
        (an `OSError`) if it could not be written; `DiskFullError` if there is no room.
    """
    import rasterio
    from rasterio.errors import RasterioError

    with rasterio.Env():  # what GDAL says goes to the log instead of stderr
        try:
            yield
        except RasterioError as error:
            raise _refusal(destination, error) from error
        try:
            _check_directories(path)
            check_blocks(path)
        except FormatError as error:
            raise _refusal(destination, error) from error


def _check_directories(path: Path) -> None:
    """Raise `FormatError` if a directory of a TIFF reaches beyond the file's end.

    GDAL reads what comes before it as if there was nothing more: no overviews, no mask.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        big = int.from_bytes(head[2:4], order) == 43
        place, entry, width, count = (slice(8, 16), 20, 8, 8) if big else (slice(4, 8), 12, 4, 2)
        at = int.from_bytes(head[place], order)
        while at:
            file.seek(at)
            entries = int.from_bytes(file.read(count), order)
            end = at + count + entries * entry
            file.seek(end)
            following = file.read(width)
            if end + width > size:
                raise FormatError(f"{path} is truncated: it ends before its last directory")
            at = int.from_bytes(following, order)


def _refusal(destination: Path, error: Exception) -> Exception:
    full = shutil.disk_usage(destination.parent).free < _FULL
    why = (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else OSError(errno.EIO, str(error))
    )
    try:
        with writing_to(destination):
            raise why
    except OSError as refusal:
        return refusal


def _check_sums(path: Path, blocks: Iterable[tuple[int, int] | None]) -> None:
    """Check the Adler-32 sums of deflated blocks, which GDAL passes over."""
    with path.open("rb") as file:
        for offset, length in filter(None, blocks):
            file.seek(offset)
            try:
                zlib.decompress(file.read(length))
            except zlib.error as error:
                raise FormatError(f"{path} is damaged at byte {offset}: {error}") from error


def _windows(dataset: Any) -> Iterator[Any]:
    """Yield windows of whole blocks that cover a raster, as large as may be held."""
    import numpy as np
    from rasterio.windows import Window

    height, width = dataset.block_shapes[0]
    pixel = sum(np.dtype(kind).itemsize for kind in dataset.dtypes)
    cols = width * max(1, min(-(-dataset.width // width), _READ_BYTES // (pixel * height * width)))
    rows = height * max(1, _READ_BYTES // (pixel * height * cols))
    for row in range(0, dataset.height, rows):
        for col in range(0, dataset.width, cols):
            yield Window(col, row, min(cols, dataset.width - col), min(rows, dataset.height - row))
