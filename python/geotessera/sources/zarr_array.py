"""Reading windows and single pixels of one array of a Zarr store, each chunk once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geotessera.errors import ChangedError, FormatError
from geotessera.sources.zarr_chunks import ChunkMap, Chunks
from geotessera.sources.zarr_index import forget_indexes
from geotessera.sources.zarr_python import ForeignArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader
    from geotessera.sources.zarr_spec import ArraySpec
    from geotessera.types import Window

__all__ = ["ZarrArray", "read_values"]

_FOREIGN = "unsupported: "
_MOST_VALUES = 2**26
"""Of a coordinate: the longest published axis has 2**21. Damaged metadata may name more."""


class _ForeignChunkError(Exception):
    """A chunk that is sound, but compressed in a way that only zarr-python knows."""


class ZarrArray:
    """An array of pixels with a time axis: embeddings or scales.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.
    spec : ArraySpec
        The array's metadata.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if the array is not one of pixels.
    """

    def __init__(self, reader: ObjectReader, spec: ArraySpec) -> None:
        self.reader = reader
        self.spec = spec
        self._chunks = ChunkMap(reader, spec)
        if spec.layout is None:
            raise FormatError(
                f"{reader.location}/{spec.path}: an array of pixels has three or four axes, "
                f"found shape {spec.shape}"
            )

    # --- Windows -------------------------------------------------------------------------

    def read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read a window of one year.

        Parameters
        ----------
        step : int
            Position on the time axis.
        window : Window
            Which pixels; inside the array.
        bands : list of int, optional
            Which bands, checked; all by default.
        out : ndarray, optional
            Where the pixels go; any strides.
        scales : ndarray of float32, shape (height, width), optional
            Factors to dequantise with; chunks in which none is finite are not read.

        Returns
        -------
        ndarray, shape (height, width, band), or (height, width) of an array without bands
            Of the array's dtype; float32 where `scales` are given.

        Raises
        ------
        FormatError
            (a `RuntimeError` and a `ValueError`) if a shard or a chunk is damaged.
        OSError
            If one cannot be had.
        """
        import numpy as np

        count = [] if self.spec.layout == "hw" else [self._count(bands)]
        if out is None:
            shape = (window.height, window.width, *count)
            out = np.empty(shape, np.float32 if scales is not None else self.spec.dtype)
        pixels = out if out.ndim == 3 else out[..., None]
        self._either(
            lambda: self._read(step, window, bands, pixels, scales),
            lambda: self._foreign.read(step, window, bands, pixels, scales),
        )
        return out

    def _read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None,
        out: NDArray[Any],
        scales: NDArray[np.float32] | None,
    ) -> None:
        import numpy as np

        from geotessera import _native

        row, col, height, width = window
        rows, cols = self.spec.plane(self.spec.inner)
        first_row, first_col = row // rows, col // cols
        down = (row + height - 1) // rows - first_row + 1
        right = (col + width - 1) // cols - first_col + 1
        cells = np.arange(down * right)
        at_row, at_col = first_row + cells // right, first_col + cells % right
        needed = None
        if scales is not None:
            needed = _any_finite(scales, (row % rows, col % cols), (rows, cols)).ravel()
        chunks = self._chunks.locate(step, at_row, at_col, needed)

        def decode(
            objects: Sequence[str | bytes], part: NDArray[np.int64], spans: NDArray[np.int64]
        ) -> tuple[int, str] | None:
            return _native.decode_window(
                objects,
                np.column_stack([cells[part], spans]),
                **self._form,
                origin=(row % rows, col % cols),
                out=out,
                bands=bands,
                scales=scales,
            )

        self._decode(chunks, at_row, at_col, decode)

    # --- Single pixels -------------------------------------------------------------------

    def gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read single pixels of one year, in any order.

        Parameters
        ----------
        step : int
            Position on the time axis.
        rows, cols : ndarray of int64, shape (n,)
            Which pixels; inside the array.
        bands, out, scales
            As in `read`; `scales` has shape (n,).

        Returns
        -------
        ndarray, shape (n, band), or (n,) of an array without bands

        Raises
        ------
        FormatError, OSError
            As `read`.
        """
        import numpy as np

        count = [] if self.spec.layout == "hw" else [self._count(bands)]
        if out is None:
            shape = (len(rows), *count)
            out = np.empty(shape, np.float32 if scales is not None else self.spec.dtype)
        if len(rows) == 0:
            return out
        pixels = out if out.ndim == 2 else out[:, None]
        self._either(
            lambda: self._gather(step, rows, cols, bands, pixels, scales),
            lambda: self._foreign.gather(step, rows, cols, bands, pixels, scales),
        )
        return out

    def _gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None,
        out: NDArray[Any],
        scales: NDArray[np.float32] | None,
    ) -> None:
        import numpy as np

        from geotessera import _native

        high, wide = self.spec.plane(self.spec.inner)
        across = -(-self.spec.size[1] // wide)
        (in_row, row), (in_col, col) = np.divmod(rows, high), np.divmod(cols, wide)
        numbers, which = np.unique(in_row * across + in_col, return_inverse=True)
        at_row, at_col = np.divmod(numbers, across)
        needed = None
        if scales is not None:
            needed = np.zeros(len(numbers), bool)
            needed[which[np.isfinite(scales)]] = True
        chunks = self._chunks.locate(step, at_row, at_col, needed)
        # Points in the order of their chunks, and those in the order in which they lie.
        rank = np.empty(len(numbers), np.int64)
        rank[chunks.order] = np.arange(len(numbers))
        order = np.argsort(rank[which], kind="stable")
        pixels = (row * wide + col)[order]
        starts = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(np.bincount(which, minlength=len(numbers))[chunks.order], out=starts[1:])

        def decode(
            objects: Sequence[str | bytes], part: NDArray[np.int64], spans: NDArray[np.int64]
        ) -> tuple[int, str] | None:
            at = rank[part]
            counts = starts[at + 1] - starts[at]
            begin = np.zeros(len(part) + 1, np.int64)
            np.cumsum(counts, out=begin[1:])
            points = np.arange(begin[-1]) + np.repeat(starts[at] - begin[:-1], counts)
            return _native.decode_points(
                objects,
                spans,
                begin,
                pixels[points],
                order[points],
                **self._form,
                out=out,
                bands=bands,
                scales=scales,
            )

        self._decode(chunks, at_row, at_col, decode)

    # --- Chunks --------------------------------------------------------------------------

    def shards(self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> list[str]:
        """Return the keys of the shards that hold some pixels; none without shards."""
        return self._chunks.shards(step, rows, cols)

    def written(
        self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return whether the chunks that hold some pixels were ever written; see `ChunkMap`."""
        return self._chunks.written(step, rows, cols)

    @property
    def _form(self) -> dict[str, Any]:
        """What the kernels must know of all chunks."""
        assert self.spec.codec is not None
        return {
            "shape": (*self.spec.plane(self.spec.inner), self.spec.band_count),
            "layout": "chw" if self.spec.layout == "hw" else self.spec.layout,
            "compressor": self.spec.codec.compressor,
            "fill": self.spec.fill,
        }

    @property
    def _foreign(self) -> ForeignArray:
        return ForeignArray(self.reader, self.spec)

    def _count(self, bands: list[int] | None) -> int:
        return self.spec.band_count if bands is None else len(bands)

    def _either(self, native: Callable[[], None], foreign: Callable[[], None]) -> None:
        """Read with the kernels, or with zarr-python what they do not know."""
        read = native if self.spec.native else foreign
        again = True
        while True:
            try:
                return read()
            except _ForeignChunkError:
                read = foreign
            except ChangedError:
                # What was known of the objects is dropped.
                if not again:
                    raise
                again = False

    def _decode(
        self,
        chunks: Chunks,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        decode: Callable[..., tuple[int, str] | None],
    ) -> None:
        """Hand chunks to a kernel, each once."""
        try:
            for objects, part, spans in self._chunks.batches(chunks):
                failed = decode(objects, part, spans)
                if failed is None:
                    continue
                number, reason = failed
                if reason.startswith(_FOREIGN):
                    raise _ForeignChunkError
                self._chunks.check(chunks)  # what changed meanwhile is not damaged
                at = int(part[number])
                key = chunks.keys[chunks.spans[at, 0]]
                raise self._chunks.damaged(
                    key, (rows[at], cols[at]), f"at byte {chunks.spans[at, 1]}: {reason}"
                )
            self._chunks.check(chunks)
        except (ChangedError, FormatError):
            forget_indexes(self.reader, chunks.keys)
            raise


def _any_finite(
    scales: NDArray[np.float32], origin: tuple[int, int], chunk: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return for each chunk over a window whether a pixel of it has a finite scale."""
    import numpy as np

    valid = np.isfinite(scales)
    for axis in (0, 1):
        starts = np.arange(-origin[axis], valid.shape[axis], chunk[axis])
        valid = np.logical_or.reduceat(valid, np.maximum(starts, 0), axis=axis)
    return valid


def read_values(reader: ObjectReader, spec: ArraySpec) -> NDArray[Any]:
    """Read a small array whole, such as a coordinate.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if it is damaged.
    OSError
        If it cannot be had.
    """
    import numpy as np

    from geotessera import _native

    if math.prod(spec.shape) > _MOST_VALUES:
        raise FormatError(f"{reader.location}/{spec.path}: {spec.shape} is no coordinate's shape")
    if spec.codec is None or spec.outer != spec.shape or spec.inner != spec.shape or spec.index:
        return ForeignArray(reader, spec).values()
    data = reader.get(spec.key([0] * len(spec.shape)))
    try:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        if data is None:
            return np.full(spec.shape, spec.fill, spec.dtype)
        raw = _native.decode_chunk(data, spec.codec.compressor, spec.chunk_bytes)
    except (TypeError, ValueError, OverflowError) as error:
        if str(error).startswith(_FOREIGN):
            return ForeignArray(reader, spec).values()
        raise FormatError(f"{reader.location}/{spec.path}: {error}") from error
    return np.frombuffer(raw, dtype).reshape(spec.shape)
