"""Kernels over NumPy arrays: the contract between the Rust core and the Python layers.

All functions take strided arrays without copying, release the GIL and run on a
thread pool of ``num_threads()`` threads. Errors are ``ValueError`` (shapes,
domains), ``TypeError`` (dtypes), ``geotessera.errors.BandError`` and ``OSError``.
"""

from collections.abc import Buffer, Iterable, Sequence
from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from geotessera.types import Algorithm, Compressor, Lattice, Layout, Method, MosaicSource, PixelRule

__all__ = [
    "Hasher",
    "__version__",
    "decode_chunk",
    "decode_points",
    "decode_window",
    "dequantize",
    "encode_lzw",
    "encode_tiles",
    "group_by_tile",
    "halve_picture",
    "hash_files",
    "moments",
    "mosaic",
    "needed_pixels",
    "num_threads",
    "points_array",
    "project",
    "project_bands",
    "read_records",
    "resample_picture",
    "sample",
    "set_num_threads",
    "shard_indexes",
    "simd_level",
    "stretch_scores",
    "sum_squares",
    "tally_scores",
    "unproject",
]

__version__: str

def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def simd_level() -> str: ...
def dequantize(
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    *,
    bands: Sequence[int] | None = None,
    layout: Layout = "hwc",
    out_layout: Layout | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def sample(
    values: NDArray[np.int8] | NDArray[np.float32],
    scales: NDArray[np.float32] | None,
    transform: tuple[float, float, float, float, float, float],
    points: NDArray[np.float64],
    *,
    epsg: int | None = None,
    index: NDArray[np.int64] | None = None,
    method: Method = "nearest",
    rule: PixelRule = "floor",
    layout: Layout = "hwc",
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    land: NDArray[np.uint8] | None = None,
    out: NDArray[np.float32] | None = None,
    status: NDArray[np.uint8] | None = None,
    pixels: NDArray[np.int32] | None = None,
    shape: tuple[int, int] | None = None,
    present: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]: ...
def needed_pixels(
    shape: tuple[int, int],
    transform: tuple[float, float, float, float, float, float],
    points: NDArray[np.float64],
    *,
    epsg: int | None = None,
    index: NDArray[np.int64] | None = None,
    method: Method = "nearest",
    rule: PixelRule = "floor",
) -> NDArray[np.int64]: ...
def read_records(
    path: str | PathLike[str],
    offset: int,
    record_bytes: int,
    numbers: NDArray[np.int64],
    *,
    size: int | None = None,
) -> NDArray[np.uint8]: ...
def mosaic(
    sources: Sequence[MosaicSource],
    transform: tuple[float, float, float, float, float, float],
    window: tuple[int, int, int, int],
    *,
    epsg: int | None,
    out: NDArray[np.float32] | NDArray[np.int8],
    lonlat: Lattice | None = None,
    method: Method = "nearest",
    bands: Sequence[int] | None = None,
    out_scales: NDArray[np.float32] | None = None,
    out_layout: Layout = "hwc",
    origin: NDArray[np.int16] | None = None,
) -> int: ...
def decode_chunk(data: bytes, compressor: Compressor, size: int) -> bytes: ...
def decode_points(
    objects: Sequence[str | PathLike[str] | bytes],
    spans: NDArray[np.int64],
    starts: NDArray[np.int64],
    pixels: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    shape: tuple[int, int, int],
    layout: Layout,
    compressor: Compressor,
    fill: float,
    out: NDArray[np.int8] | NDArray[np.float32],
    bands: Sequence[int] | None = None,
    scales: NDArray[np.float32] | None = None,
) -> tuple[int, str] | None: ...
def decode_window(
    objects: Sequence[str | PathLike[str] | bytes],
    spans: NDArray[np.int64],
    *,
    shape: tuple[int, int, int],
    layout: Layout,
    compressor: Compressor,
    fill: float,
    origin: tuple[int, int],
    out: NDArray[np.int8] | NDArray[np.float32],
    bands: Sequence[int] | None = None,
    scales: NDArray[np.float32] | None = None,
) -> tuple[int, str] | None: ...
def shard_indexes(
    objects: Sequence[str | PathLike[str] | bytes],
    entries: int,
    *,
    checked: bool,
    at_end: bool,
) -> list[NDArray[np.uint64] | str | None]: ...
def encode_lzw(data: Buffer, /) -> bytes: ...
def project(
    lon: NDArray[np.float64], lat: NDArray[np.float64], epsg: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def unproject(
    x: NDArray[np.float64], y: NDArray[np.float64], epsg: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def moments(
    values: NDArray[np.int8] | NDArray[np.float32],
    scales: NDArray[np.float32] | None = None,
    nodata: float | None = None,
    layout: Layout = "hwc",
    origin: NDArray[np.float32] | None = None,
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]: ...
def project_bands(
    values: NDArray[np.int8] | NDArray[np.float32],
    scales: NDArray[np.float32] | None,
    weights: NDArray[np.float64],
    offsets: NDArray[np.float64],
    nodata: float | None = None,
    layout: Layout = "hwc",
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def stretch_scores(
    scores: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]: ...
def tally_scores(
    scores: NDArray[np.float32],
    counts: NDArray[np.int64],
    rows: NDArray[np.int32] | None = None,
    dropped: int = 0,
) -> None: ...
def points_array(points: Iterable[Any]) -> NDArray[np.float64]: ...
def group_by_tile(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]: ...
def hash_files(
    paths: Sequence[str | PathLike[str]],
    algorithms: Sequence[Algorithm] = ...,
    *,
    threads: int | None = None,
) -> list[tuple[str, ...] | OSError]: ...
def resample_picture(
    source: NDArray[np.uint8],
    nodes: NDArray[np.float64],
    step: int,
    out: NDArray[np.uint8],
    *,
    method: Method = "bilinear",
) -> None: ...
def halve_picture(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
def sum_squares(
    pixels: NDArray[np.uint8], times: int, row: int = 0, col: int = 0
) -> NDArray[np.uint64]: ...
def encode_tiles(pixels: NDArray[np.uint8], side: int = 256) -> list[bytes | None]: ...

@final
class Hasher:
    def __new__(cls, *algorithms: Algorithm) -> Hasher: ...
    def update(self, data: Buffer, /) -> None: ...
    def update_file(self, path: str | PathLike[str], start: int, stop: int, /) -> int: ...
    def copy(self) -> Hasher: ...
    def hexdigest(self, algorithm: Algorithm) -> str: ...
    @property
    def algorithms(self) -> tuple[str, ...]: ...
    @property
    def length(self) -> int: ...
