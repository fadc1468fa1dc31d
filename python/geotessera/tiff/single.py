"""A GeoTIFF in one go: blocks are made by threads and written in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.remote.partfile import PartFile, atomic_path
from geotessera.tiff.codecs import Codec
from geotessera.tiff.file import BLOCK, MemoryBlocks, TiffFile, row_major
from geotessera.tiff.images import describe
from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from geotessera.types import GridSpec

__all__ = ["write_geotiff"]

_MOST_THREADS = 8
"""Each holds a block and its bytes: 70 MB of 128 float32 bands."""


def write_geotiff(
    target: Path,
    grid: GridSpec,
    read: Callable[[Window], NDArray[Any]],
    *,
    names: Sequence[str],
    tags: Mapping[str, str],
    compress: str,
    cog: bool = False,
) -> None:
    """Write float32 bands, NaN where there is nothing.

    The same pixels make the same bytes, whatever the number of threads.

    Parameters
    ----------
    target : Path
        The file; it appears whole or not at all.
    grid : GridSpec
        CRS, transform and size.
    read : callable
        Returns the float32 pixels of a window, shape (height, width, band); from any thread.
    names : sequence of str
        What each band is called.
    tags : mapping of str to str
        What the file says of itself.
    compress : {"zstd", "deflate", "lzw", "none"}
        Compression.
    cog : bool
        Make it cloud-optimised, with overviews by nearest neighbour.
    """
    base = describe(grid, len(names), "float32", float("nan"), tags, names)
    with atomic_path(target, suffix=".tif") as made:
        if not cog:
            with _Writing(target, made, grid, len(names), compress, cog=False) as writing:
                writing.blocks(read)
                writing.file.finish(base)
            return
        with (
            PartFile(target, suffix=".tif") as work,
            _Writing(target, work.path, grid, len(names), compress, cog=True) as writing,
        ):
            writing.blocks(read)
            writing.overviews()
            writing.file.assemble(made, base, writing.pool)


class _Writing:
    """A file on its way, and the threads that make its blocks."""

    def __init__(
        self, target: Path, path: Path, grid: GridSpec, bands: int, compress: str, *, cog: bool
    ) -> None:
        self.grid = grid
        codec = Codec.of(compress, np.dtype(np.float32))
        shape = grid.height, grid.width, bands
        self.file = TiffFile(
            0, target, path, shape, "float32", float("nan"), codec, MemoryBlocks(), overviews=cog
        )
        self.file.continue_after()
        self.threads = min(_MOST_THREADS, _native.num_threads())
        self.pool = ThreadPoolExecutor(self.threads, "geotessera-tiff")

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.file.close()

    def blocks(self, read: Callable[[Window], NDArray[Any]]) -> None:
        """Write the raster itself."""

        def made(row: int, column: int) -> memoryview | None:
            top, left = row * BLOCK, column * BLOCK
            height = min(BLOCK, self.grid.height - top)
            width = min(BLOCK, self.grid.width - left)
            return self.file.encode(self.file.pad(read(Window(top, left, height, width))))

        self._write(0, made)

    def overviews(self) -> None:
        """Write every overview from the one below."""
        for image in self.file.images[1:]:
            level = image.level

            def made(row: int, column: int, level: int = level) -> memoryview | None:
                return self.file.encode(self.file.halved(level, row, column))

            self._write(level, made)

    def _write(self, level: int, made: Callable[[int, int], memoryview | None]) -> None:
        for (row, column), future in self._ahead(level, made):
            self.file.append(level, row, column, future.result())

    def _ahead(
        self, level: int, made: Callable[[int, int], memoryview | None]
    ) -> Iterator[tuple[tuple[int, int], Future[memoryview | None]]]:
        """Yield blocks in order while the threads make the next ones."""
        waiting: deque[tuple[tuple[int, int], Future[memoryview | None]]] = deque()
        for place in row_major(self.file.images[level]):
            waiting.append((place, self.pool.submit(made, *place)))
            if len(waiting) > self.threads:
                yield waiting.popleft()
        yield from waiting
