"""Reading windows and single pixels of one array of a Zarr store, each chunk once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from os.path import exists
from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import ChangedError, FormatError
from geotessera.remote.objects import Later
from geotessera.sources.zarr_index import forget_indexes, local_path, shard_indexes
from geotessera.sources.zarr_python import ForeignArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader, Pending
    from geotessera.sources.zarr_spec import ArraySpec
    from geotessera.types import Window

__all__ = ["ZarrArray", "read_values"]

_BATCH = 32 * 2**20
"""Bytes of chunks that are fetched together."""

_AHEAD = 2
"""Batches that are fetched while one is decoded: one alone leaves connections idle at its end."""

_CONNECTIONS = 32
_ABSENT = 2**64 - 1
_FOREIGN = "unsupported: "


class _ForeignChunkError(Exception):
    """A chunk that is sound, but compressed in a way that only zarr-python knows."""


class _Chunks(NamedTuple):
    """Inner chunks, and where their bytes are."""

    keys: list[str]
    """Of the objects."""
    versions: dict[str, str]
    """Of the objects, where known."""
    spans: NDArray[np.int64]
    """(n, 3): object (-1: absent), first byte, length (-1: to the end)."""
    order: NDArray[np.int64]
    """The chunks in the order in which they lie: absent ones first."""


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
        self._directory = local_path(reader)
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
        chunks = self._locate(step, at_row, at_col, needed)

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
        chunks = self._locate(step, at_row, at_col, needed)
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
            first = int(rank[part[0]])
            begin = starts[first : first + len(part) + 1]
            points = slice(begin[0], begin[-1])
            return _native.decode_points(
                objects,
                spans,
                begin - begin[0],
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
        import numpy as np

        if self.spec.index is None:
            return []
        high, wide = self.spec.plane(self.spec.outer)
        across = -(-self.spec.size[1] // wide)
        numbers = np.unique(rows // high * across + cols // wide).tolist()
        return [self._key(step, *divmod(number, across)) for number in numbers]

    def written(
        self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return whether the chunks that hold some pixels were ever written.

        Shards' indexes say it; without shards, only a directory's files do, and any chunk of
        another store passes for written.

        Parameters
        ----------
        step : int
            Position on the time axis.
        rows, cols : ndarray of int64, shape (n,)
            Which pixels; inside the array.
        """
        import numpy as np

        high, wide = self.spec.plane(self.spec.inner)
        across = -(-self.spec.size[1] // wide)
        numbers, which = np.unique(rows // high * across + cols // wide, return_inverse=True)
        spans = self._locate(step, *np.divmod(numbers, across), None).spans
        found: NDArray[np.bool_] = spans[which, 0] >= 0
        return found

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
        if not self.spec.native:
            return foreign()
        for attempt in (1, 2):
            try:
                return native()
            except _ForeignChunkError:
                return foreign()
            except ChangedError:
                # `_decode` has dropped what was known of the objects.
                if attempt == 2:
                    raise
        return None

    def _key(self, step: int, row: int, col: int) -> str:
        """Return the key of the object at a row and column of the grid of objects."""
        place = [step // self.spec.outer[0], 0, 0, 0][: len(self.spec.shape)]
        first = 1 if self.spec.layout in ("hw", "hwc") else 2
        place[first : first + 2] = [row, col]
        return self.spec.key(place)

    def _locate(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        needed: NDArray[np.bool_] | None,
    ) -> _Chunks:
        """Find chunks, by row and column of their grid; those not needed pass for absent."""
        import numpy as np

        spans = np.zeros((len(rows), 3), np.int64)
        spans[:, 0] = -1
        wanted = np.arange(len(rows)) if needed is None else np.flatnonzero(needed)
        versions: dict[str, str] = {}
        if self.spec.index is None:
            keys: list[str] = []
            for at in wanted.tolist():
                key = self._key(step, int(rows[at]), int(cols[at]))
                if self._directory is None or exists(f"{self._directory}/{key}"):  # noqa: PTH110
                    spans[at] = len(keys), 0, -1
                    keys.append(key)
            return _Chunks(keys, versions, spans, np.arange(len(rows)))
        high, wide = self.spec.plane(self.spec.chunks_per_shard)
        across = -(-self.spec.size[1] // (wide * self.spec.plane(self.spec.inner)[1]))
        (shard_row, row), (shard_col, col) = np.divmod(rows, high), np.divmod(cols, wide)
        numbers, which = np.unique((shard_row * across + shard_col)[wanted], return_inverse=True)
        keys = [self._key(step, *divmod(number, across)) for number in numbers.tolist()]
        indexes = shard_indexes(self.reader, [(self.spec, key) for key in keys])
        place: list[Any] = [step % self.spec.outer[0], 0, 0, 0][: len(self.spec.shape)]
        first = 1 if self.spec.layout in ("hw", "hwc") else 2
        place[first : first + 2] = [row, col]
        flat = np.ravel_multi_index(np.broadcast_arrays(*place), self.spec.chunks_per_shard)
        # Points of few shards: grouped once, not compared with each shard.
        grouped = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[grouped], np.arange(len(keys) + 1))
        limit = self.spec.chunk_bytes + self.spec.chunk_bytes // 64 + 65_536
        present: list[str] = []
        for number, (key, index) in enumerate(zip(keys, indexes, strict=True)):
            if index.entries is None:
                continue
            versions[key] = index.version
            here = wanted[grouped[ends[number] : ends[number + 1]]]
            entries = index.entries[flat[here]]
            there = ~(entries == _ABSENT).all(axis=1)
            here, entries = here[there], entries[there]
            wrong = (entries[:, 1] > limit) | (entries[:, 0] > 2**62)
            if wrong.any():
                at = int(here[np.argmax(wrong)])
                raise self._damaged(
                    key, (rows[at], cols[at]), "its index names bytes that no chunk has"
                )
            spans[here, 0] = len(present)
            spans[here, 1:] = entries
            present.append(key)
        return _Chunks(present, versions, spans, np.lexsort((spans[:, 1], spans[:, 0])))

    def _decode(
        self,
        chunks: _Chunks,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        decode: Callable[..., tuple[int, str] | None],
    ) -> None:
        """Hand chunks to a kernel, in the order in which they lie."""
        try:
            for objects, part, spans in self._batches(chunks):
                failed = decode(objects, part, spans)
                if failed is None:
                    continue
                number, reason = failed
                if reason.startswith(_FOREIGN):
                    raise _ForeignChunkError
                at = int(part[number])
                key = chunks.keys[chunks.spans[at, 0]]
                raise self._damaged(
                    key, (rows[at], cols[at]), f"at byte {chunks.spans[at, 1]}: {reason}"
                )
        except (ChangedError, FormatError):
            forget_indexes(self.reader, chunks.keys)
            raise

    def _batches(
        self, chunks: _Chunks
    ) -> Iterator[tuple[Sequence[str | bytes], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield objects, chunks and their spans in those objects.

        Files are one batch, which the kernels read themselves. Other chunks come in batches of
        some megabytes, of which the next ones are fetched while one is decoded.
        """
        if self._directory is not None:
            paths = [f"{self._directory}/{key}" for key in chunks.keys]
            yield paths, chunks.order, chunks.spans[chunks.order]
            return
        yield from self._fetched(chunks)

    def _fetched(
        self, chunks: _Chunks
    ) -> Iterator[tuple[Sequence[str | bytes], NDArray[np.int64], NDArray[np.int64]]]:
        import numpy as np

        lengths = np.where(chunks.spans[:, 0] >= 0, chunks.spans[:, 2], 0)[chunks.order]
        lengths[lengths < 0] = self.spec.chunk_bytes
        cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // _BATCH)) + 1
        waiting: deque[tuple[NDArray[np.int64], Pending]] = deque()
        try:
            for part in np.split(chunks.order, cuts):
                waiting.append((part, self._begin(chunks, part)))
                if len(waiting) > _AHEAD:
                    yield self._arrived(chunks, *waiting.popleft())
            while waiting:
                yield self._arrived(chunks, *waiting.popleft())
        finally:
            for _, pending in waiting:
                pending.cancel()

    def _begin(self, chunks: _Chunks, part: NDArray[np.int64]) -> Pending:
        """Begin to fetch chunks that are there, in their order."""
        spans = chunks.spans[part]
        spans = spans[spans[:, 0] >= 0].tolist()
        if self.spec.index is None:
            keys = [chunks.keys[number] for number, _, _ in spans]
            return Later(lambda: self._whole(keys))
        ranges = [(chunks.keys[number], start, length) for number, start, length in spans]
        return self.reader.begin(ranges, chunks.versions)

    def _whole(self, keys: list[str]) -> list[bytes | None]:
        """Fetch chunks that are objects of their own."""
        with ThreadPoolExecutor(min(max(len(keys), 1), _CONNECTIONS)) as pool:
            return list(pool.map(self.reader.get, keys))

    def _arrived(
        self, chunks: _Chunks, part: NDArray[np.int64], fetched: Pending
    ) -> tuple[Sequence[str | bytes], NDArray[np.int64], NDArray[np.int64]]:
        """Return a batch as `_batches` does."""
        import numpy as np

        data = fetched.result()
        if self.spec.index is not None and None in data:
            there = part[chunks.spans[part, 0] >= 0]
            key = chunks.keys[chunks.spans[there[data.index(None)], 0]]
            url = f"{self.reader.location}/{key}"
            raise ChangedError(f"{url} was there, and is gone: try again", url=url)
        spans = np.zeros((len(part), 3), np.int64)
        spans[:, 0], spans[:, 2] = -1, -1
        there = chunks.spans[part, 0] >= 0
        got = np.array([one is not None for one in data], bool)
        numbers = np.where(got, np.cumsum(got) - 1, -1)
        spans[there, 0] = numbers
        return [one for one in data if one is not None], part, spans

    def _damaged(self, key: str, chunk: tuple[Any, Any], why: str) -> FormatError:
        row, col = map(int, chunk)
        return FormatError(
            f"{self.reader.location}/{key}: the chunk at row {row}, column {col} of the grid of "
            f"chunks: {why}; the store is damaged there, have it written or fetched again"
        )


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

    if spec.codec is None or spec.outer != spec.shape or spec.inner != spec.shape or spec.index:
        return ForeignArray(reader, spec).values()
    data = reader.get(spec.key([0] * len(spec.shape)))
    if data is None:
        return np.full(spec.shape, spec.fill, spec.dtype)
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    try:
        raw = _native.decode_chunk(data, spec.codec.compressor, spec.chunk_bytes)
    except ValueError as error:
        if str(error).startswith(_FOREIGN):
            return ForeignArray(reader, spec).values()
        raise FormatError(f"{reader.location}/{spec.path}: {error}") from error
    return np.frombuffer(raw, dtype).reshape(spec.shape)
