"""From a registry file to its index: built once, kept in the cache, found again by identity.

The file is streamed: besides a batch of rows, memory holds sixteen bytes a tile for the
order, a byte a cell and year, and one column of the index at a time.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geotessera.cells import COLUMNS, ROWS
from geotessera.errors import EmptySelectionError, RegistryError, RegistrySchemaError
from geotessera.index.file import IndexIdentity, Section, TileIndex, write_index
from geotessera.index.parquet import MOST_YEARS, RegistryFile
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from geotessera.index.parquet import Kind

__all__ = ["open_index"]

_LARGEST_SIZE = 2**32 - 1
_CELL_BITS = 23  # 3600 * 1800 < 2**23
_LAST_YEAR = 9999


def open_index(
    path: Path,
    kind: Kind,
    version: str,
    variant: str,
    cache_dir: Path,
    logger: logging.Logger,
) -> TileIndex:
    """Return the index of a registry file, building it where there is none yet.

    Parameters
    ----------
    path : Path
        The Parquet file.
    kind : {"embeddings", "landmasks"}
        What it lists.
    version, variant : str
        Rows to keep, where the file says to which dataset they belong.
    cache_dir : Path
        Where indexes are kept: beside the file if that lies below, else in a folder of its
        own. Where nothing can be written the index lives as long as the process uses it.

    Raises
    ------
    RegistryError
        If the file is missing, unreadable, or (a `RegistrySchemaError`) of a wrong schema.
    EmptySelectionError
        (a `ValueError`) if no row is left.
    """
    try:
        path = path.resolve(strict=True)
        state = path.stat()
    except OSError as error:
        raise RegistryError(f"registry {path} cannot be read: {error.strerror}") from error
    identity = IndexIdentity(state.st_size, state.st_mtime_ns, kind, version, variant)
    place = _place(path, identity, cache_dir)

    def renewed() -> TileIndex:
        now = path.stat() if path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != identity[:2]:
            raise RegistryError(
                f"registry {path} has changed, and its index was damaged: open it again"
            )
        logger.info("The index of %s was damaged: it is made anew", path)
        with suppress(OSError):
            place.unlink(missing_ok=True)
        if place.exists():  # not writable, or (on Windows) mapped
            return _built_unnamed(path, identity, renewed, logger)
        return _built(path, identity, place, renewed, logger)

    index = TileIndex.open(place, identity, renewed)
    return index if index is not None else _built(path, identity, place, renewed, logger)


def _built(
    path: Path,
    identity: IndexIdentity,
    place: Path,
    renewed: Callable[[], TileIndex],
    logger: logging.Logger,
) -> TileIndex:
    """Build an index and keep it, where that can be."""
    logger.info("Indexing %s", path)
    try:
        with atomic_path(place) as temporary:
            _build(path, identity, temporary, logger)
    except OSError as error:
        # The target may also be mapped by another process (Windows), which then made it.
        index = TileIndex.open(place, identity, renewed)
        if index is None:
            logger.warning("The registry's index cannot be kept in %s: %s", place.parent, error)
            index = _built_unnamed(path, identity, renewed, logger)
        return index
    for stale in place.parent.glob(f"{_stem(path, identity)}-*.index"):
        if stale != place:
            with suppress(OSError):
                stale.unlink()
    index = TileIndex.open(place, identity, renewed)
    return index if index is not None else _built_unnamed(path, identity, renewed, logger)


def _stem(path: Path, identity: IndexIdentity) -> str:
    return f"{path.name}-{_short(path, identity.version, identity.variant)}"


def _place(path: Path, identity: IndexIdentity, cache_dir: Path) -> Path:
    ours = path.is_relative_to(cache_dir.resolve())
    directory = path.parent if ours else cache_dir / "indexes"
    return directory / f"{_stem(path, identity)}-{_short(*identity)}.index"


def _short(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def _built_unnamed(
    path: Path,
    identity: IndexIdentity,
    renewed: Callable[[], TileIndex],
    logger: logging.Logger,
) -> TileIndex:
    """Build an index that is gone with the process: mapped, then unlinked."""
    with tempfile.TemporaryDirectory(
        prefix="geotessera-index-", ignore_cleanup_errors=True
    ) as directory:
        place = Path(directory) / "registry.index"
        _build(path, identity, place, logger)
        index = TileIndex.open(place, identity, renewed)
    assert index is not None  # just written
    return index


def _build(path: Path, identity: IndexIdentity, out: Path, logger: logging.Logger) -> None:
    file = RegistryFile(path, "landmasks" if identity.kind == "landmasks" else "embeddings")
    try:
        keys, order = _ordered(file, identity, logger)
        year_of = keys >> _CELL_BITS
        years, starts = np.unique(year_of, return_index=True)
        cells = (keys & ((1 << _CELL_BITS) - 1)).astype(np.uint32)
        del keys, year_of
        bounds = [*starts.tolist(), len(cells)]
        facts = {"generation": file.generation, "years": years.tolist(), "starts": bounds}
        kind = next(f"<u{width}" for width in (1, 2, 4, 8) if len(years) <= width * 8)
        grid = _grid(cells, bounds, kind)
        sections = [
            Section("grid", kind, (COLUMNS, ROWS), grid),
            Section("cells", "<u4", cells.shape, [cells]),
        ]
        for payload, column in file.sizes.items():
            sizes = _sizes(file, column, order)
            sections.append(Section(f"{payload}_size", "<u4", cells.shape, sizes))
        for payload, column in file.hashes.items():
            digests = _hashes(file, column, order, logger)
            sections.append(Section(f"{payload}_hash", "|u1", (len(cells), 32), digests))
        write_index(out, identity, facts, sections)
    finally:
        file.close()


class _Order(NamedTuple):
    """Where the rows of a file go in the index; the others are left out."""

    rows: NDArray[np.int32]
    """Numbers of the rows that are used, ascending."""
    places: NDArray[np.int32]
    """The place of each in the index."""

    def of(self, batches: Iterator[NDArray[Any]]) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Yield the (places, values) of a column that is read in batches."""
        done = 0
        for values in batches:
            first, last = np.searchsorted(self.rows, (done, done + len(values)))
            yield self.places[first:last], values[self.rows[first:last] - done]
            done += len(values)


class _Tiles:
    """The tiles of a file, each once: what is kept grows with the tiles, not with the rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.duplicates = 0
        self._seen: dict[int, NDArray[np.bool_]] = {}
        self._keys: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._rows: list[NDArray[np.int32]] = [np.empty(0, np.int32)]

    def add(self, year: NDArray[np.int64], cell: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        """Take the years and cells of the rows with these numbers."""
        new = np.zeros(len(year), bool)
        for one in np.unique(year).tolist():
            seen = self._seen.setdefault(one, np.zeros(COLUMNS * ROWS, bool))
            if len(self._seen) > MOST_YEARS:
                raise RegistrySchemaError(
                    f"registry {self.path}: column 'year' holds more than {MOST_YEARS} years"
                )
            mine = np.flatnonzero(year == one)
            mine = mine[~seen[cell[mine]]]
            if (np.diff(cell[mine]) <= 0).any():
                mine = mine[np.unique(cell[mine], return_index=True)[1]]
            seen[cell[mine]] = True
            new[mine] = True
        self.duplicates += len(new) - int(np.count_nonzero(new))
        self._keys.append(year[new] << _CELL_BITS | cell[new])
        self._rows.append(row[new].astype(np.int32))

    def ordered(self) -> tuple[NDArray[np.int64], _Order]:
        """Return the ascending keys (year, cell), and which rows they come from."""
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        places = np.arange(len(keys), dtype=np.int32)
        if (np.diff(keys) < 0).any():
            order = np.argsort(keys)
            keys = keys[order]
            places[order] = np.arange(len(keys), dtype=np.int32)
        return keys, _Order(rows, places)


def _ordered(
    file: RegistryFile, identity: IndexIdentity, logger: logging.Logger
) -> tuple[NDArray[np.int64], _Order]:
    """Return the ascending keys (year, cell), and which rows they come from."""
    tiles = _Tiles(file.path)
    done, strays, stray = 0, 0, ""
    for year, lon, lat in file.keys(identity.version, identity.variant):
        wanted = year != 0
        with np.errstate(invalid="ignore"):
            column, off_lon = np.divmod(np.rint(lon * 100) + 17995, 10)
            row, off_lat = np.divmod(np.rint(lat * 100) + 8995, 10)
            sound = (off_lon == 0) & (column >= 0) & (column < COLUMNS)
            sound &= (off_lat == 0) & (row >= 0) & (row < ROWS)
            sound &= (year > 0) & (year <= _LAST_YEAR)
        odd = wanted & ~sound
        if odd.any():
            first = int(np.argmax(odd))
            stray = stray or f"year {year[first]}, lon {lon[first]}, lat {lat[first]}"
            strays += int(odd.sum())
        keep = np.flatnonzero(wanted & sound)
        cell = column[keep].astype(np.int64) * ROWS + row[keep].astype(np.int64)
        tiles.add(year[keep], cell, keep + done)
        done += len(year)
    if strays:
        logger.warning(
            "registry %s: %d rows are no tiles of the 0.1° grid and are left out (the first: %s)",
            file.path, strays, stray,
        )  # fmt: skip
    keys, order = tiles.ordered()
    if not keys.size:
        if strays:
            raise RegistrySchemaError(
                f"registry {file.path}: columns 'lon' and 'lat' hold no tile centres "
                f"(the first row: {stray}); expected degrees such as 0.15"
            )
        dataset = f" for version {identity.version}, variant {identity.variant}"
        raise EmptySelectionError(
            f"registry {file.path} has no rows{dataset if file.rows else ''}: "
            "check the dataset's version and variant"
        )
    if tiles.duplicates:
        logger.warning(
            "registry %s: %d duplicate rows (same year, lon and lat); the first of each is used",
            file.path, tiles.duplicates,
        )  # fmt: skip
    return keys, order


def _grid(
    cells: NDArray[np.uint32], bounds: list[int], dtype: str
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    grid = np.zeros(COLUMNS * ROWS, dtype)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        grid[cells[start:stop]] |= grid.dtype.type(1 << number)
    yield grid


def _sizes(file: RegistryFile, column: str, order: _Order) -> Iterator[NDArray[np.uint32]]:
    out = np.zeros(len(order.places), np.uint32)
    for places, values in order.of(file.size_column(column)):
        if values.max(initial=0) > _LARGEST_SIZE:
            raise RegistrySchemaError(
                f"registry {file.path}: column {column!r} holds {values.max():.0f} bytes, "
                "more than a tile's file can have"
            )
        out[places] = values
    yield out


def _hashes(
    file: RegistryFile, column: str, order: _Order, logger: logging.Logger
) -> Iterator[NDArray[np.uint8]]:
    out = np.zeros((len(order.places), 32), np.uint8)
    for places, values in order.of(file.hash_column(column)):
        out[places] = values
    missing = len(out) - int(out.any(axis=1).sum())
    if missing:
        logger.warning(
            "registry %s: %d rows have no SHA-256 in column %r; such files are not verified by it",
            file.path, missing, column,
        )  # fmt: skip
    yield out
