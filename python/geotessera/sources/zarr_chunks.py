"""Finding and fetching the chunks of one array of a Zarr store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os.path import exists
from typing import TYPE_CHECKING, Any, NamedTuple

from geotessera.errors import ChangedError, FormatError
from geotessera.remote.objects.arrivals import InBatches
from geotessera.remote.objects.reader import Later, changed
from geotessera.sources.zarr_index import (
    file_version,
    forget_indexes,
    local_path,
    shard_indexes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader, Pending
    from geotessera.remote.objects.arrivals import Arrivals
    from geotessera.remote.objects.reader import KeyRange
    from geotessera.sources.zarr_spec import ArraySpec

    type Batch = tuple[Sequence[str | bytes], NDArray[np.int64], NDArray[np.int64]]

__all__ = ["ChunkMap", "Chunks"]

_CONNECTIONS = 32

_FILES = 128
"""Files that are open together: without shards there is one a chunk."""

_ABSENT = 2**64 - 1
_NOWHERE = (-1, 0, -1)


class Chunks(NamedTuple):
    """Inner chunks, and where their bytes are."""

    keys: list[str]
    """Of the objects."""
    versions: dict[str, str]
    """Of the objects, where known."""
    spans: NDArray[np.int64]
    """(n, 3): object (-1: absent), first byte, length (-1: to the end)."""
    order: NDArray[np.int64]
    """The chunks in the order in which they lie: absent ones first."""


class ChunkMap:
    """Where the chunks of an array are, and their bytes.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.
    spec : ArraySpec
        The array's metadata.
    """

    def __init__(self, reader: ObjectReader, spec: ArraySpec) -> None:
        self.reader = reader
        self.spec = spec
        self._directory = local_path(reader)

    def shards(self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> list[str]:
        """Return the keys of the shards that hold some pixels; none without shards."""
        import numpy as np

        if self.spec.index is None:
            return []
        high, wide = self.spec.plane(self.spec.outer)
        across = -(-self.spec.size[1] // wide)
        numbers = np.unique(rows // high * across + cols // wide).tolist()
        return [self.key(step, *divmod(number, across)) for number in numbers]

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
        spans = self.locate(step, *np.divmod(numbers, across), None).spans
        found: NDArray[np.bool_] = spans[which, 0] >= 0
        return found

    def key(self, step: int, row: int, col: int) -> str:
        """Return the key of the object at a row and column of the grid of objects."""
        place = [step // self.spec.outer[0], 0, 0, 0][: len(self.spec.shape)]
        first = 1 if self.spec.layout in ("hw", "hwc") else 2
        place[first : first + 2] = [row, col]
        return self.spec.key(place)

    def locate(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        needed: NDArray[np.bool_] | None,
    ) -> Chunks:
        """Find chunks, by row and column of their grid; those not needed pass for absent."""
        import numpy as np

        spans = np.zeros((len(rows), 3), np.int64)
        spans[:, 0] = -1
        wanted = np.arange(len(rows)) if needed is None else np.flatnonzero(needed)
        versions: dict[str, str] = {}
        if self.spec.index is None:
            keys: list[str] = []
            for at in wanted.tolist():
                key = self.key(step, int(rows[at]), int(cols[at]))
                if self._directory is None or exists(f"{self._directory}/{key}"):  # noqa: PTH110
                    spans[at] = len(keys), 0, -1
                    keys.append(key)
            return Chunks(keys, versions, spans, np.arange(len(rows)))
        high, wide = self.spec.plane(self.spec.chunks_per_shard)
        across = -(-self.spec.size[1] // (wide * self.spec.plane(self.spec.inner)[1]))
        (shard_row, row), (shard_col, col) = np.divmod(rows, high), np.divmod(cols, wide)
        numbers, which = np.unique((shard_row * across + shard_col)[wanted], return_inverse=True)
        keys = [self.key(step, *divmod(number, across)) for number in numbers.tolist()]
        try:
            indexes = shard_indexes(self.reader, [(self.spec, key) for key in keys])
        except ChangedError:
            forget_indexes(self.reader, keys)
            raise
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
            if not len(here):
                continue
            wrong = (entries[:, 1] > limit) | (entries[:, 0] > 2**62)
            if wrong.any():
                at = int(here[np.argmax(wrong)])
                raise self.damaged(
                    key, (rows[at], cols[at]), "its index names bytes that no chunk has"
                )
            spans[here, 0] = len(present)
            spans[here, 1:] = entries
            present.append(key)
        return Chunks(present, versions, spans, np.lexsort((spans[:, 1], spans[:, 0])))

    def batches(self, chunks: Chunks) -> Iterator[Batch]:
        """Yield objects, chunks and their spans in those objects.

        Files the kernels read themselves, so many together as may be open, in the order in which
        they lie. Other chunks come as they arrive, some megabytes together.
        """
        if self._directory is None:
            yield from self._fetched(chunks)
        else:
            yield from self._files(self._directory, chunks)

    def _files(self, directory: str, chunks: Chunks) -> Iterator[Batch]:
        import numpy as np

        paths = [f"{directory}/{key}" for key in chunks.keys]
        # Absent chunks go with those before them.
        numbers = np.maximum.accumulate(chunks.spans[chunks.order, 0])
        starts = range(0, max(len(paths), 1), _FILES)
        parts = np.split(chunks.order, np.searchsorted(numbers, starts[1:]))
        for start, part in zip(starts, parts, strict=True):
            spans = chunks.spans[part]
            spans[spans[:, 0] >= 0, 0] -= start
            yield paths[start : start + _FILES], part, spans

    def check(self, chunks: Chunks) -> None:
        """Raise `ChangedError` if a file is not the one any more whose index was read.

        Other objects' versions are compared as their bytes arrive.
        """
        if self._directory is None:
            return
        for key, version in chunks.versions.items():
            path = f"{self._directory}/{key}"
            if file_version(path) != version:
                raise changed(path)

    def _fetched(self, chunks: Chunks) -> Iterator[Batch]:
        import numpy as np

        is_there = chunks.spans[chunks.order, 0] >= 0
        there, absent = chunks.order[is_there], chunks.order[~is_there]
        fetched = self._begin(chunks, there) if len(there) else None
        try:
            if len(absent):
                yield [], absent, np.tile(_NOWHERE, (len(absent), 1))
            for numbers, data in fetched or ():
                yield self._arrived(chunks, there[numbers], data)
        finally:
            if fetched is not None:
                fetched.cancel()

    def _begin(self, chunks: Chunks, there: NDArray[np.int64]) -> Arrivals:
        """Begin to fetch chunks that are there."""
        spans = chunks.spans[there].tolist()
        if self.spec.index is None:
            whole = [(chunks.keys[number], 0, self.spec.chunk_bytes) for number, _, _ in spans]
            return InBatches(self._whole, whole)
        ranges = [(chunks.keys[number], start, length) for number, start, length in spans]
        return self.reader.stream(ranges, chunks.versions)

    def _whole(self, ranges: Sequence[KeyRange]) -> Pending:
        """Begin to fetch chunks that are objects of their own."""

        def fetch() -> list[bytes | None]:
            with ThreadPoolExecutor(min(max(len(ranges), 1), _CONNECTIONS)) as pool:
                return list(pool.map(self.reader.get, [key for key, _, _ in ranges]))

        return Later(fetch)

    def _arrived(
        self, chunks: Chunks, part: NDArray[np.int64], data: Sequence[bytes | None]
    ) -> Batch:
        """Return a batch as `batches` does."""
        import numpy as np

        if self.spec.index is not None and None in data:
            key = chunks.keys[chunks.spans[part[data.index(None)], 0]]
            url = f"{self.reader.location}/{key}"
            raise ChangedError(f"{url} was there, and is gone: try again", url=url)
        spans = np.tile(_NOWHERE, (len(part), 1))
        got = np.array([one is not None for one in data], bool)
        spans[got, 0] = np.arange(np.count_nonzero(got))
        return [one for one in data if one is not None], part, spans

    def damaged(self, key: str, chunk: tuple[Any, Any], why: str) -> FormatError:
        """Return the error of a chunk, by row and column of the grid of chunks."""
        row, col = map(int, chunk)
        return FormatError(
            f"{self.reader.location}/{key}: the chunk at row {row}, column {col} of the grid of "
            f"chunks: {why}; the store is damaged there, have it written or fetched again"
        )
