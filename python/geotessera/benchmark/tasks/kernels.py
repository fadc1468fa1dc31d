"""Import, dequantisation, one local tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared import YEAR, Place, client

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (1115, 690, 128)


def import_package(place: Place) -> Callable[[], object]:
    """Import the package in this fresh process."""
    import importlib

    return lambda: importlib.import_module("geotessera") and None


def import_and_construct(place: Place) -> Callable[[], object]:
    """Import it and make a client, which is what a script begins with."""
    return lambda: client(place) and None


def _quantised() -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(2)
    values = rng.integers(-128, 128, SHAPE, dtype=np.int8)
    return values, rng.uniform(0.01, 0.1, SHAPE[:2]).astype(np.float32)


def dequantize(place: Place, out: bool = False) -> Callable[[], object]:
    """Dequantise a tile; a peer without ``out=`` makes a fresh result."""
    import inspect

    import numpy as np

    from geotessera import dequantize_embedding

    values, scales = _quantised()
    if out and "out" in inspect.signature(dequantize_embedding).parameters:
        target = np.zeros(SHAPE, np.float32)
        return lambda: dequantize_embedding(values, scales, out=target)
    return lambda: dequantize_embedding(values, scales)


def kernel(place: Place, bands: list[int] | None = None, chw: bool = False) -> Callable[[], object]:
    """Dequantise some bands, or to bands first, with the kernel."""
    from geotessera._native import dequantize

    values, scales = _quantised()
    return lambda: dequantize(values, scales, bands=bands, out_layout="chw" if chw else "hwc")


def by_user(
    place: Place, bands: list[int] | None = None, chw: bool = False
) -> Callable[[], object]:
    """Do the same as users of a package without it do: with NumPy before or after."""
    import numpy as np

    from geotessera import dequantize_embedding

    values, scales = _quantised()
    if chw:
        return lambda: np.ascontiguousarray(dequantize_embedding(values, scales).transpose(2, 0, 1))
    return lambda: dequantize_embedding(values[..., bands], scales)


def dequantize_numpy(place: Place, out: bool = False) -> Callable[[], object]:
    """Do the same with NumPy."""
    import numpy as np

    values, scales = _quantised()
    if not out:
        return lambda: np.multiply(values, scales[..., None], dtype=np.float32)
    target = np.zeros(SHAPE, np.float32)
    return lambda: np.multiply(values, scales[..., None], out=target)


def dequantize_numba(place: Place, out: bool = False) -> Callable[[], object]:
    """Do the same with numba, in parallel, compiled before it is timed."""
    import numba
    import numpy as np

    values, scales = _quantised()

    @numba.njit(parallel=True, fastmath=False)  # type: ignore[untyped-decorator, unused-ignore]
    def multiply(values: Any, scales: Any, out: Any) -> None:
        for row in numba.prange(values.shape[0]):
            for col in range(values.shape[1]):
                scale = scales[row, col]
                for band in range(values.shape[2]):
                    out[row, col, band] = np.float32(values[row, col, band]) * scale

    target = np.zeros(SHAPE, np.float32)
    multiply(values, scales, target)

    def run() -> object:
        result = target if out else np.empty(SHAPE, np.float32)
        multiply(values, scales, result)
        return result

    return run


def fetch(place: Place) -> Callable[[], object]:
    """Fetch one local tile: dequantised, with CRS and transform."""
    gt = client(place)
    return lambda: gt.fetch_embedding(0.15, 52.25, YEAR)[0]


def fetch_numpy(place: Place) -> Callable[[], object]:
    """Do the same with NumPy and rasterio."""
    import numpy as np

    from .shared import tile_arrays, tile_frame

    def run() -> object:
        values, scales = tile_arrays(place, 0.15, 52.25)
        tile_frame(place, 0.15, 52.25)
        return np.multiply(values, scales[..., None], dtype=np.float32)

    run()
    return run
