"""Registries with the columns of the published ones, for any number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_registries"]


def write_registries(
    root: Path,
    years: NDArray[np.int64],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> None:
    """Write ``manifest.parquet`` and ``landmasks.parquet``.

    Parameters
    ----------
    root : Path
        Directory, which exists.
    years, lon, lat : arrays of shape (N,)
        The tiles.
    sizes : array of shape (N, 2)
        Bytes of embeddings and scales.
    """
    count = len(years)
    stamp = pa.array(np.full(count, np.datetime64("2025-06-01", "us")), pa.timestamp("us", "UTC"))
    keys = [np.rint(axis * 100).astype(np.int32) for axis in (lon, lat)]
    names = _joined("grid_", _texts(keys[0]), "_", _texts(keys[1]))
    folders = _joined("s3://bucket/npy/v1.1-cam/", _integers(years), "/", names)
    table = pa.table(
        {
            "version": _constant("1.1", count),
            "variant": _constant("cambridge", count),
            "year": years,
            "lon": lon,
            "lat": lat,
            "directory": folders,
            "grid_path": _joined(folders, "/", names, ".npy"),
            "scales_path": _joined(folders, "/", names, "_scales.npy"),
            "grid_mtime": stamp,
            "scales_mtime": stamp,
            "grid_size": sizes[:, 0],
            "scales_size": sizes[:, 1],
            "lon_i": keys[0],
            "lat_i": keys[1],
        }
    )
    pq.write_table(table, root / "manifest.parquet", compression="zstd")
    place = keys[0].astype(np.int64) * 100_000 + keys[1]
    _, first = np.unique(place, return_index=True)
    table = pa.table(
        {
            "lon": lon[first],
            "lat": lat[first],
            "file_size": np.full(len(first), 9000),
            "mtime": stamp.take(pa.array(first)),
            "key": _joined("s3://bucket/landmasks/", names.take(pa.array(first)), ".tiff"),
            "lon_i": keys[0][first],
            "lat_i": keys[1][first],
        }
    )
    pq.write_table(table, root / "landmasks.parquet", compression="zstd")


def _constant(text: str, count: int) -> Any:
    return pa.repeat(pa.scalar(text), count)


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _integers(numbers: NDArray[np.int64]) -> Any:
    return pc.cast(pa.array(numbers), pa.string())


def _texts(hundredths: NDArray[np.int32]) -> Any:
    """Return degrees with two places, such as -0.05: few are distinct, so these are written."""
    distinct, index = np.unique(hundredths, return_inverse=True)
    texts = pa.array([f"{number / 100:.2f}" for number in distinct.tolist()])
    return texts.take(pa.array(index))
