"""From a registry file to its index: built once, kept in the cache, found again by identity.

The file is streamed: besides a batch of rows, memory holds eight bytes a row for the
order, and one column of the index at a time.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.cells import COLUMNS, ROWS
from geotessera.errors import EmptySelectionError, RegistryError, RegistrySchemaError
from geotessera.index import IndexIdentity, Section, TileIndex, write_index
from geotessera.parquet import RegistryFile
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geotessera.parquet import Kind

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
    index = TileIndex.open(place, identity)
    if index is not None:
        return index
    logger.info("Indexing %s", path)
    try:
        with atomic_path(place) as temporary:
            _build(path, identity, temporary, logger)
    except OSError as error:
        # The target may also be mapped by another process (Windows), which then made it.
        index = TileIndex.open(place, identity)
        if index is None:
            logger.warning("The registry's index cannot be kept in %s: %s", place.parent, error)
            index = _build_unnamed(path, identity, logger)
        return index
    for stale in place.parent.glob(f"{_stem(path, identity)}-*.index"):
        if stale != place:
            with suppress(OSError):
                stale.unlink()
    index = TileIndex.open(place, identity)
    return index if index is not None else _build_unnamed(path, identity, logger)


def _stem(path: Path, identity: IndexIdentity) -> str:
    return f"{path.name}-{_short(path, identity.version, identity.variant)}"


def _place(path: Path, identity: IndexIdentity, cache_dir: Path) -> Path:
    ours = path.is_relative_to(cache_dir.resolve())
    directory = path.parent if ours else cache_dir / "indexes"
    return directory / f"{_stem(path, identity)}-{_short(*identity)}.index"


def _short(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def _build_unnamed(path: Path, identity: IndexIdentity, logger: logging.Logger) -> TileIndex:
    """Build an index that is gone with the process: mapped, then unlinked."""
    with tempfile.TemporaryDirectory(
        prefix="geotessera-index-", ignore_cleanup_errors=True
    ) as directory:
        place = Path(directory) / "registry.index"
        _build(path, identity, place, logger)
        index = TileIndex.open(place, identity)
    assert index is not None  # just written
    return index


def _build(path: Path, identity: IndexIdentity, out: Path, logger: logging.Logger) -> None:
    file = RegistryFile(path, "landmasks" if identity.kind == "landmasks" else "embeddings")
    try:
        keys, position = _ordered(file, identity, logger)
        year_of = keys >> _CELL_BITS
        years, starts = np.unique(year_of, return_index=True)
        if len(years) > 64:
            raise RegistrySchemaError(
                f"registry {path}: column 'year' holds {len(years)} different years, at most 64"
            )
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
            sizes = _sizes(file, column, position, len(cells))
            sections.append(Section(f"{payload}_size", "<u4", cells.shape, sizes))
        for payload, column in file.hashes.items():
            digests = _hashes(file, column, position, len(cells), logger)
            sections.append(Section(f"{payload}_hash", "|u1", (len(cells), 32), digests))
        write_index(out, identity, facts, sections)
    finally:
        file.close()


def _ordered(
    file: RegistryFile, identity: IndexIdentity, logger: logging.Logger
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the ascending keys (year, cell), and each file row's place among them or -1."""
    keys = np.empty(file.rows, np.int64)
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
        keep = wanted & sound
        batch = keys[done : done + len(year)]
        batch[:] = -1
        cell = column[keep].astype(np.int64) * ROWS + row[keep].astype(np.int64)
        batch[keep] = year[keep] << _CELL_BITS | cell
        done += len(year)
    if strays:
        logger.warning(
            "registry %s: %d rows are no tiles of the 0.1° grid and are left out (the first: %s)",
            file.path, strays, stray,
        )  # fmt: skip
    kept = np.flatnonzero(keys >= 0).astype(np.int32)
    if not kept.size:
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
    chosen = keys[kept]
    if (np.diff(chosen) < 0).any():
        order = np.argsort(chosen, kind="stable")
        kept, chosen = kept[order], chosen[order]
    unique = np.concatenate([[True], np.diff(chosen) > 0])
    if not unique.all():
        logger.warning(
            "registry %s: %d duplicate rows (same year, lon and lat); the first of each is used",
            file.path, len(unique) - int(unique.sum()),
        )  # fmt: skip
        kept, chosen = kept[unique], chosen[unique]
    position = np.full(file.rows, -1, np.int32)
    position[kept] = np.arange(len(kept), dtype=np.int32)
    return chosen, position


def _grid(
    cells: NDArray[np.uint32], bounds: list[int], dtype: str
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    grid = np.zeros(COLUMNS * ROWS, dtype)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        grid[cells[start:stop]] |= grid.dtype.type(1 << number)
    yield grid


def _sizes(
    file: RegistryFile, column: str, position: NDArray[np.int32], count: int
) -> Iterator[NDArray[np.uint32]]:
    out = np.zeros(count, np.uint32)
    done = 0
    for values in file.size_column(column):
        if values.max(initial=0) > _LARGEST_SIZE:
            raise RegistrySchemaError(
                f"registry {file.path}: column {column!r} holds {values.max()} bytes, "
                "more than a tile's file can have"
            )
        place = position[done : done + len(values)]
        out[place[place >= 0]] = values[place >= 0]
        done += len(values)
    yield out


def _hashes(
    file: RegistryFile,
    column: str,
    position: NDArray[np.int32],
    count: int,
    logger: logging.Logger,
) -> Iterator[NDArray[np.uint8]]:
    out = np.zeros((count, 32), np.uint8)
    done = 0
    for values in file.hash_column(column):
        place = position[done : done + len(values)]
        out[place[place >= 0]] = values[place >= 0]
        done += len(values)
    missing = count - int(out.any(axis=1).sum())
    if missing:
        logger.warning(
            "registry %s: %d rows have no SHA-256 in column %r; such files are not verified by it",
            file.path, missing, column,
        )  # fmt: skip
    yield out
