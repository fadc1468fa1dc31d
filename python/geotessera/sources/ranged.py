"""Tiles on a server of which only some pixels are wanted: headers and pixels by byte range."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from geotessera.errors import ChangedError, InputError
from geotessera.remote.byterange import RangeCosts, RangedObject, RangePool, first_failure, pieces
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.landmask import Georeference, read_georeference, read_mask
from geotessera.sources.npy import NpySource, NpyTile
from geotessera.sources.npy_file import MAX_HEADER, NpyFile, check_npy, not_a_tile_file
from geotessera.types import Block, Provenance, QuantizedRaster, SparsePixels, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.http import RetryPolicy

__all__ = ["MirroredSource", "MirroredTile", "RangedSource", "RangedTile"]

logger = logging.getLogger("geotessera")

_HEADER = 192
"""Bytes that hold the header of a published tile file, which has 128."""


@dataclass(frozen=True, slots=True)
class RangedTile:
    """A tile on a server, read range by range: a descriptor.

    Parameters
    ----------
    embedding, scales : str
        ``http(s)://`` URLs of the two NPY files.
    landmask : path
        The landmask GeoTIFF, on disk.
    sizes : tuple of (int or None)
        Published bytes of embedding and scales.
    georeference : {"landmask", "snapped"}
        See `geotessera.sources.landmask.read_georeference`.
    provenance : Provenance
        Dataset and year.
    costs : RangeCosts
        How near ranges are joined, and how many connections are used.
    """

    embedding: str
    scales: str
    landmask: str | Path
    sizes: tuple[int | None, int | None] = (None, None)
    georeference: Georeference = "landmask"
    provenance: Provenance = field(default_factory=Provenance)
    costs: RangeCosts = field(default_factory=RangeCosts)

    def open(self, policy: RetryPolicy | None = None) -> RangedSource:
        """Open the tile: its two headers are read.

        Raises
        ------
        NoRangesError
            (an `OSError`) if the server does not serve ranges.
        FormatError
            (a `RuntimeError` and a `ValueError`) if a file is no tile file, or the three do not
            fit each other.
        TransferError
            (an `OSError`) if the headers cannot be had.
        """
        source = RangedSource(self)
        source.load(None, policy)
        return source


class RangedSource(RasterSource):
    """A tile on a server, of which only the wanted pixels are fetched.

    Bytes of a range cannot be checked against the digest of a whole file. What is checked:
    both headers, both lengths (against headers, shapes and the registry), that all ranges of
    a file are of one version of it, and that scales are plausible.

    Made by `RangedTile.open`, or step by step by what reads many tiles together: wait for
    `begin`, call `check`, wait for `request`; then `gather` has its pixels.

    Attributes
    ----------
    implausible : int
        Scales read so far that are neither NaN nor between 0 and 1.
    """

    def __init__(self, descriptor: RangedTile) -> None:
        self._descriptor = descriptor
        self.provenance = descriptor.provenance
        self.implausible = 0
        urls = descriptor.embedding, descriptor.scales
        self._objects = tuple(map(RangedObject, urls, descriptor.sizes))
        self._headers: list[Future[bytes]] = []
        self._files: tuple[NpyFile, ...] = ()
        self._ready: SparsePixels | None = None
        self._land: NDArray[np.uint8] | None = None

    @property
    def descriptor(self) -> RangedTile:
        """The tile's files."""
        return self._descriptor

    # --- Step by step ------------------------------------------------------------------------

    def begin(self, pool: RangePool) -> list[Future[Any]]:
        """Ask for both headers."""
        self._headers = [pool.submit(_header, one, pool.policy) for one in self._objects]
        return list(self._headers)

    def check(self, landmask: Path | None = None) -> None:
        """Check the headers that have come, as those of local files are.

        Parameters
        ----------
        landmask : Path, optional
            Where the landmask was put, if not where the descriptor says.

        Raises
        ------
        FormatError
            (a `RuntimeError` and a `ValueError`) if a file is no tile file, or the three do
            not fit each other.
        """
        if landmask is not None:
            self._descriptor = replace(self._descriptor, landmask=landmask)
        self.grid = read_georeference(self._descriptor.landmask, self._descriptor.georeference)
        found = [
            check_npy(one.url, io.BytesIO(header.result()), one.length, *kind)
            for one, header, kind in zip(
                self._objects,
                self._headers,
                (("int8", (3,)), ("float32", (2, 3))),
                strict=True,
            )
        ]
        height, width, self.band_count = shape = found[0].shape
        size = self.block_shape = (height, width)
        if found[1].shape not in (shape, size):
            raise not_a_tile_file(
                self._descriptor.scales,
                f"shape {found[1].shape} does not fit the embedding's {shape}",
            )
        if size != (self.grid.height, self.grid.width):
            raise not_a_tile_file(
                self._descriptor.landmask,
                f"{self.grid.height} × {self.grid.width} pixels do not fit the embedding's "
                f"{size[0]} × {size[1]}",
            )
        self._files = tuple(found)

    def cost(self, numbers: NDArray[np.int64]) -> int:
        """Return what the ranges of some pixels cost, in bytes; see `RangeCosts`."""
        gap = self._descriptor.costs.gap
        plans = (pieces(numbers, one.offset, _record(one), gap) for one in self._files)
        return sum(piece.stop - piece.start + gap for plan in plans for piece in plan)

    @property
    def whole_cost(self) -> int:
        """What the whole tile costs, in the same measure."""
        return sum(one.length + self._descriptor.costs.gap for one in self._objects)

    def request(self, pool: RangePool, numbers: NDArray[np.int64]) -> list[Future[Any]]:
        """Ask for some pixels; when all is done, `gather` of the same numbers has them."""
        arrays: list[NDArray[Any]] = []
        futures: list[Future[Any]] = []
        for one, file in zip(self._objects, self._files, strict=True):
            out, work = pool.records(one, numbers, file.offset, _record(file))
            arrays.append(out.view(file.dtype).reshape(len(numbers), *file.shape[2:]))
            futures += work
        values, scales = arrays
        self._ready = SparsePixels(numbers, values, scales)
        return futures

    def load(
        self,
        numbers: NDArray[np.int64] | None,
        policy: RetryPolicy | None = None,
        *,
        attempts: int = 2,
    ) -> None:
        """Read the headers, and some pixels; again if a file changes meanwhile.

        Parameters
        ----------
        numbers : ndarray of int64, shape (n,), optional
            Which pixels.
        policy : RetryPolicy, optional
            Timeouts and repetitions.
        attempts : int
            How often in all.

        Raises
        ------
        NoRangesError, FormatError, TransferError
            As `RangedTile.open`.
        """
        for left in reversed(range(attempts)):
            with RangePool(self._descriptor.costs, policy) as pool:
                try:
                    _finish(self.begin(pool))
                    self.check()
                    if numbers is not None:
                        _finish(self.request(pool, numbers))
                    return
                except ChangedError as error:
                    self.forget()
                    if not left:
                        raise
                    logger.info("%s: reading it again", error)

    def forget(self) -> None:
        """Forget what was read: a file has changed."""
        self._ready = None
        for one in self._objects:
            one.forget()

    # --- As every source -----------------------------------------------------------------

    def prefers_gather(self, count: int) -> bool:
        """Return True: there is no other way."""
        return True

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Read some pixels and nothing else; see `RasterSource.gather`."""
        import numpy as np

        found = self._ready
        if found is None or not np.array_equal(found.numbers, numbers):
            self.load(numbers)
            found = self._ready
        assert found is not None
        self._ready = None
        assert found.scales is not None
        self.implausible += _implausible(found.scales, self._descriptor.scales)
        return found

    def land(self) -> NDArray[np.uint8]:
        """Return the landmask, read once: uint8 (height, width), 0 for water."""
        if self._land is None:
            self._land = read_mask(self._descriptor.landmask)
        return self._land

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> Block:
        """Read int8 pixels and their scales; see `RasterSource.read`."""
        import numpy as np

        picked = check_bands(bands, self.band_count)
        row, col, height, width = part = check_window(window, self.grid)
        rows = np.arange(row, row + height, dtype=np.int64)[:, None]
        columns = np.arange(col, col + width, dtype=np.int64)
        some = self.gather((rows * self.grid.width + columns).ravel())
        assert some.scales is not None
        values: NDArray[np.int8] = some.values.reshape(height, width, -1)  # type: ignore[assignment]
        scales = some.scales.reshape(height, width, *some.scales.shape[1:])
        if picked is not None:
            values = values[..., picked]
            scales = scales[..., picked] if scales.ndim == 3 else scales
        if out is not None:
            if out.shape != values.shape or out.dtype != values.dtype:
                raise InputError(
                    f"out must be int8 of shape {values.shape}, found {out.dtype} {out.shape}"
                )
            out[...] = values
            values = out
        return QuantizedRaster(values, scales, self.grid.window(part), provenance=self.provenance)


@dataclass(frozen=True, slots=True)
class MirroredTile(NpyTile):
    """A tile of a mirror on disk, read where it is: a descriptor."""

    def open(self) -> MirroredSource:
        """Open the tile."""
        return MirroredSource(self)


class MirroredSource(NpySource):
    """A tile of a mirror on disk, of which nothing is copied but the wanted pixels."""

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Read some pixels and nothing else; see `RasterSource.gather`."""
        found = super().gather(numbers)
        assert found.scales is not None
        _implausible(found.scales, str(self._descriptor.scales))
        return found


def _record(file: NpyFile) -> int:
    return math.prod(file.shape[2:]) * file.dtype.itemsize


def _finish(futures: list[Future[Any]]) -> None:
    error = first_failure(futures)
    if error is not None:
        raise error


def _header(source: RangedObject, policy: RetryPolicy) -> bytes:
    """Return the first bytes of an NPY file, its whole header among them."""
    head = source.read(0, _HEADER, policy)
    if head[:6] == b"\x93NUMPY" and len(head) == _HEADER:
        counter = 2 if head[6] == 1 else 4
        size = 8 + counter + int.from_bytes(head[8 : 8 + counter], "little")
        if _HEADER < size <= MAX_HEADER + 12:
            head += source.read(_HEADER, size, policy)
    return head


def _implausible(scales: NDArray[np.float32], name: str) -> int:
    """Return how many scales no published tile has, and say so."""
    import numpy as np

    count = int(np.count_nonzero(~(np.isnan(scales) | ((scales > 0) & (scales < 1)))))
    if count:
        logger.warning(
            "%s: %d of %d scales are not between 0 and 1. Ranges cannot be verified; "
            'fetch="tiles" reads the whole, verified file',
            name,
            count,
            scales.size,
        )
    return count
