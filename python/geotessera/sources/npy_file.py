"""NPY files: checked when they are opened, then mapped, or read record by record."""

from __future__ import annotations

import math
import mmap
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotessera.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import Window

__all__ = ["NpyFile", "check_npy", "map_npy", "not_a_tile_file", "open_npy"]

MAX_HEADER = 4096
"""Bytes a header may claim; published ones have 128."""

# A mapping need not keep its file descriptor: a thousand open tiles would use up the
# usual limit of 1024.
_NO_FD: dict[str, Any] = {}
if sys.version_info >= (3, 13) and os.name == "posix":
    _NO_FD = {"trackfd": False}


@dataclass(frozen=True, slots=True)
class NpyFile:
    """An NPY file whose header and size were found to be in order; nothing is held open.

    Parameters
    ----------
    path : path
        The file.
    shape : tuple of int
        Shape of its array, in C order.
    dtype : numpy.dtype
        Of its elements, in this machine's byte order.
    offset : int
        Bytes before the first element.
    size : int
        Bytes in all.
    """

    path: str | Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    size: int

    def map(self) -> NDArray[Any]:
        """Map the file into memory, read-only; no element is read.

        Raises
        ------
        FileNotFoundError
            If the file is gone.
        FormatError
            (a `RuntimeError` and a `ValueError`) if its size has changed.
        """
        import numpy as np

        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - 5× faster
            size = os.fstat(file.fileno()).st_size
            if size != self.size:
                what = f"it changed while it was open: {size} bytes, not {self.size}"
                raise not_a_tile_file(self.path, what)
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, **_NO_FD)
        return np.ndarray(self.shape, self.dtype, buffer=mapped, offset=self.offset)

    def read(self, window: Window, out: NDArray[Any]) -> None:
        """Read a window of the first two axes into memory; nothing is mapped.

        Parameters
        ----------
        window : Window
            Within the array.
        out : ndarray
            C-contiguous, of the file's dtype and the window's shape.

        Raises
        ------
        OSError
            If the file is gone or cannot be read.
        FormatError
            (a `RuntimeError` and a `ValueError`) if its size has changed.
        """
        record = math.prod(self.shape[2:]) * self.dtype.itemsize
        target = memoryview(out.reshape(-1)).cast("B")
        run, stride = window.width * record, self.shape[1] * record
        start, rows = self.offset + window.row * stride + window.col * record, window.height
        if run == stride:  # whole rows lie one after the other
            run, rows = run * rows, 1
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - 5× faster
            size = os.fstat(file.fileno()).st_size
            if size != self.size:
                what = f"it changed while it was open: {size} bytes, not {self.size}"
                raise not_a_tile_file(self.path, what)
            for row in range(rows):
                file.seek(start + row * stride)
                done, part = 0, target[row * run : (row + 1) * run]
                while done < run:
                    count = file.readinto(part[done:])
                    if not count:
                        raise not_a_tile_file(self.path, "it changed while it was open")
                    done += count

    def pixels(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Read some pixels: the elements at flat numbers of the first two axes.

        Parameters
        ----------
        numbers : ndarray of int64, shape (n,)
            row * columns + column, strictly increasing.

        Returns
        -------
        ndarray, shape (n, ...)

        Raises
        ------
        OSError
            If the file is gone or cannot be read.
        FormatError
            (a `RuntimeError` and a `ValueError`) if its size has changed.
        """
        from geotessera import _native

        inner = self.shape[2:]
        record = math.prod(inner) * self.dtype.itemsize
        try:
            found = _native.read_records(self.path, self.offset, record, numbers, size=self.size)
        except OSError as error:
            if error.errno is None:  # no failure of the system: the file is not what it was
                raise not_a_tile_file(self.path, str(error)) from error
            raise
        return found.view(self.dtype).reshape(len(numbers), *inner)


def open_npy(path: str | Path, dtype: str, ndims: tuple[int, ...]) -> NpyFile:
    """Check an NPY file's header and size; no element is read.

    Parameters
    ----------
    path : path
        NPY file, format version 1.0 or 2.0, C order.
    dtype : {"int8", "float32"}
        The dtype it must have, in this machine's byte order.
    ndims : tuple of int
        The numbers of axes it may have.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        (a `RuntimeError` and a `ValueError`) if the file is anything else.
    """
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - 5× faster than Path.open
        return check_npy(path, file, os.fstat(file.fileno()).st_size, dtype, ndims)


def check_npy(
    path: str | Path, file: Any, size: int, dtype: str, ndims: tuple[int, ...]
) -> NpyFile:
    """Check a header that is read from a file object, and the size of the whole file.

    Parameters
    ----------
    path : path or str
        What errors call the file.
    file : file object
        At the first byte; the header is read from it, nothing else.
    size : int
        Bytes of the file.
    dtype, ndims
        As for `open_npy`.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) as `open_npy`.
    """
    import numpy as np

    shape, found, fortran = _read_header(path, file)
    wanted = np.dtype(dtype)
    if found != wanted:
        what = f"expected {wanted.name} values, found dtype {found.str!r}"
        raise not_a_tile_file(path, what)
    if fortran:
        what = "the array is in Fortran order; only C order is supported"
        raise not_a_tile_file(path, what)
    if len(shape) not in ndims:
        axes = " or ".join(map(str, ndims))
        raise not_a_tile_file(path, f"expected {axes} axes, found shape {shape}")
    if 0 in shape:
        raise not_a_tile_file(path, f"the array of shape {shape} holds no pixels")
    offset = file.tell()
    expected = offset + math.prod(shape) * wanted.itemsize
    if size != expected:
        what = "truncated" if size < expected else "longer than its header says"
        what = f"it is {what}: {size} bytes, while shape {shape} takes {expected}"
        raise not_a_tile_file(path, what)
    return NpyFile(path, shape, wanted, offset, size)


def map_npy(path: str | Path, dtype: str, ndims: tuple[int, ...]) -> NDArray[Any]:
    """Check an NPY file as `open_npy` does and map it into memory, read-only."""
    return open_npy(path, dtype, ndims).map()


# What NumPy itself writes for these two dtypes; anything else takes NumPy's own parser, which
# evaluates Python literals and costs ten times as much.
_PLAIN_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([|<]i1|<f4)', 'fortran_order': False, "
    rb"'shape': \((\d{1,9}(?:, \d{1,9}){1,2})\), \} *\n",
    re.DOTALL,
)


def _read_header(path: str | Path, file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    import numpy as np

    plain = _PLAIN_HEADER.match(file.read(192))
    if plain and plain.end() == 10 + int.from_bytes(plain[1], "little"):
        file.seek(plain.end())
        shape = tuple(int(size) for size in plain[3].split(b","))
        return shape, np.dtype(plain[2].decode()), False
    file.seek(0)
    return _read_any_header(path, file)


def _read_any_header(path: str | Path, file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        version = npy.read_magic(file)
        if version not in readers:
            raise not_a_tile_file(path, f"NPY format {version[0]}.{version[1]} is not supported")
        shape, fortran, dtype = readers[version](file, max_header_size=MAX_HEADER)
    except FormatError:
        raise
    except Exception as error:
        raise not_a_tile_file(
            path, f"its NPY header is damaged ({str(error).splitlines()[0]})"
        ) from error
    if dtype.hasobject:
        raise not_a_tile_file(path, "it holds pickled objects, which are never loaded")
    return shape, dtype, fortran


def not_a_tile_file(path: str | Path, what: str) -> FormatError:
    """Return the error for a damaged file."""
    remote = str(path).startswith(("http://", "https://"))
    advice = "Try again later" if remote else "Delete it and fetch it again"
    return FormatError(f"{path} is not a tile file: {what}. {advice}.")
