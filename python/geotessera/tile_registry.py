"""Which tiles of a repository were embedded: the registry that lies beside it, in Parquet."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from geotessera.errors import InputError, RegistryError, TransferError
from geotessera.remote.partfile import atomic_path
from geotessera.remote.transfer.refresh import cache_base
from geotessera.stores.zones import checked_year, zones_of_box
from geotessera.types import BBox

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

    from geotessera.types import ProgressCallback

__all__ = ["RegistryPart", "TileRegistry"]

logger = logging.getLogger("geotessera.icechunk")

_PART = re.compile(r"(?:.*/)?zone=(\d{2})([NS])/year=(\d{4})/[^/]+\.parquet")
_JOBS = 16
"""Parts that are fetched at once; one has 150 kB."""

_KEPT = 64
"""Zone-years kept in memory, of about 1 MB each: those of a country, all years."""

_TILE_METRES = 30_000.0
"""How far a tile reaches beyond its zone, at most: 2048 pixels of 10 m, and turned."""

_OVERRUN = 0.2
"""Degrees by which the grid of a zone overruns the zone itself, and the equator."""

_EMPTY = ("zone", "year", "tile")
_BOX = ("bbox_west", "bbox_south", "bbox_east", "bbox_north")


class RegistryPart(NamedTuple):
    """A file of the registry: one run's tiles of a zone and year."""

    zone: str
    """Two digits."""
    hemisphere: str
    """``"N"`` or ``"S"``."""
    year: int
    key: str
    """The object's key in its bucket, or the file's path."""

    @property
    def group(self) -> tuple[str, int]:
        """The repository's group, such as ``"31N"``, and the year."""
        return self.zone + self.hemisphere, self.year


class TileRegistry:
    """The tiles of an Icechunk repository, each with what became of it.

    Only the zones and years that are asked for are read. Parts never change once they are
    written, so those of a bucket are kept on disk for ever; where the bucket cannot be reached,
    what is kept there is used, with a warning. For any number of threads.

    Parameters
    ----------
    url : str or path
        ``s3://bucket/prefix``, or a directory: where ``zone=…`` lie.
    cache_dir : path, optional
        Below it, in ``tile-registry``, parts of a bucket are kept; by default below this
        user's cache directory.

    Raises
    ------
    InputError
        (a `ValueError`) for another kind of URL.

    Examples
    --------
    >>> registry = TileRegistry("path/to/parts")
    >>> registry.tiles(bbox=(0, 51, 1, 52), year=2024)  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.url = str(url).rstrip("/") or "/"
        self._files: _Directory | _Bucket
        if self.url.startswith("s3://"):
            base = cache_base() if cache_dir is None else Path(cache_dir).expanduser()
            self._files = _Bucket(self.url, base / "tile-registry")
        else:
            self._files = _Directory(_local(self.url))
        self._parts: list[RegistryPart] | None = None
        self._tables: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what was read: a copy, and another process, reads its own."""
        state = vars(self) | {"_tables": OrderedDict()}
        return {name: value for name, value in state.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TileRegistry({self.url!r})"

    def parts(self) -> list[RegistryPart]:
        """Return the registry's files, by zone, hemisphere and year; listed once."""
        with self._lock:
            if self._parts is None:
                found = (_part_of(key) for key in self._files.keys())  # noqa: SIM118 - no mapping
                self._parts = sorted(part for part in found if part is not None)
            return list(self._parts)

    def years(self) -> list[int]:
        """Return the years that the registry has tiles for, ascending."""
        return sorted({part.year for part in self.parts()})

    def tiles(
        self,
        bbox: Sequence[float] | None = None,
        year: int | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> pd.DataFrame:
        """Return the tiles of a box, a year, both or all of them.

        Parameters
        ----------
        bbox : sequence of 4 float, optional
            (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
            Tiles that touch it are included.
        year : int, optional
            Calendar year; all by default.
        progress_callback : callable, optional
            Called with (parts read, parts in all, text).

        Returns
        -------
        pandas.DataFrame
            The registry's columns, with ``zone`` (``"31N"``) and ``year``: of each tile the
            latest row, by ``assembled_at``, ordered by zone, year and tile. Without any tile
            it has the columns zone, year and tile, and no row.

        Raises
        ------
        InputError
            (a `ValueError`) for a box or a year that cannot be used.
        RegistryError
            (a `RuntimeError`) if a part is damaged.
        OSError
            If the registry or one of its parts cannot be had.
        """
        import pandas as pd
        import pyarrow as pa

        box = None if bbox is None else _checked(bbox)
        wanted = None if year is None else checked_year(year)
        near = None if box is None else _groups_near(box)
        groups: dict[tuple[str, int], list[RegistryPart]] = {}
        for part in self.parts():
            if wanted in (None, part.year) and (near is None or part.group[0] in near):
                groups.setdefault(part.group, []).append(part)
        tables = []
        for group, table in self._read(groups, progress_callback):
            kept = table if box is None else table.filter(pa.array(_touches(table, box)))
            if len(kept):
                tables.append(_named(kept, group))
        if not tables:
            return pd.DataFrame(columns=list(_EMPTY))
        found: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return found

    def _read(
        self,
        groups: dict[tuple[str, int], list[RegistryPart]],
        progress: ProgressCallback | None,
    ) -> Iterator[tuple[tuple[str, int], pa.Table]]:
        """Yield the latest rows of each group and year, while the next parts are fetched."""
        total, done = sum(map(len, groups.values())), 0
        with self._lock:
            kept = {group: self._tables[group] for group in groups if group in self._tables}
        with ThreadPoolExecutor(_JOBS, "geotessera-registry") as pool:
            coming = {
                group: [pool.submit(self._files.table, part) for part in parts]
                for group, parts in groups.items()
                if group not in kept
            }
            try:
                for group, parts in groups.items():
                    read = []
                    for at in range(len(parts)):
                        if group in coming:
                            read.append(coming[group][at].result())
                        done += 1
                        if progress is not None:
                            progress(done, total, f"Reading {group[0]} {group[1]}")
                    table = kept[group] if group in kept else _latest(read)
                    coming.pop(group, None)
                    self._keep(group, table)
                    yield group, table
            finally:
                for waiting in coming.values():
                    for one in waiting:
                        one.cancel()

    def _keep(self, group: tuple[str, int], table: pa.Table) -> None:
        with self._lock:
            self._tables[group] = table
            self._tables.move_to_end(group)
            while len(self._tables) > _KEPT:
                self._tables.popitem(last=False)


# --- Files -------------------------------------------------------------------------------


def _local(url: str) -> Path:
    parts = urlsplit(url)
    if "://" not in url:
        return Path(url).expanduser().absolute()
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    raise InputError(
        f"{url}: a tile registry is at s3://bucket/prefix, or in a directory: its files must be "
        "listed, which web servers do not do"
    )


def _part_of(key: str) -> RegistryPart | None:
    match = _PART.fullmatch(key)
    return None if match is None else RegistryPart(match[1], match[2], int(match[3]), key)


class _Directory:
    """A registry on disk, read where it is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self) -> list[str]:
        """Return the paths of its files."""
        if not self.path.is_dir():
            raise RegistryError(f"there is no tile registry at {self.path}")
        return [path.as_posix() for path in self.path.glob("zone=*/year=*/*.parquet")]

    def table(self, part: RegistryPart) -> pa.Table:
        """Read a part."""
        return _parsed(Path(part.key))


class _Bucket:
    """A registry in a bucket, whose parts are kept on disk."""

    def __init__(self, url: str, cache: Path) -> None:
        from geotessera.remote.objects.s3 import S3Reader

        self._reader = S3Reader(url)
        self._prefix = url.removeprefix("s3://").partition("/")[2]
        self._cache = cache / url.removeprefix("s3://")

    def keys(self) -> list[str]:
        """Return the keys of its objects in the bucket."""
        try:
            found = self._reader.keys()
        except TransferError as error:
            found = [
                path.relative_to(self._cache).as_posix()
                for path in self._cache.glob("zone=*/year=*/*.parquet")
            ]
            if not found:
                raise
            logger.warning("%s: the %d parts in %s are used", error, len(found), self._cache)
        return [f"{self._prefix}/{key}" if self._prefix else key for key in found]

    def table(self, part: RegistryPart) -> pa.Table:
        """Read a part, from disk where it is kept; a damaged copy is fetched again."""
        key = part.key.removeprefix(self._prefix).lstrip("/")
        path = self._cache / key
        if path.is_file():
            try:
                return _parsed(path)
            except RegistryError as error:
                logger.warning("%s: it is fetched again", error)
        data = self._reader.get(key)
        if data is None:
            raise RegistryError(f"{self._reader.url_of(key)} is not there any more: list again")
        table = _parsed(data, self._reader.url_of(key))
        try:
            with atomic_path(path) as fresh:
                fresh.write_bytes(data)
        except OSError as error:
            logger.warning("%s cannot be kept on disk: %s", path, error)
        return table


# --- Rows --------------------------------------------------------------------------------


def _parsed(content: Path | bytes, url: str = "") -> pa.Table:
    """Return a part's rows, or raise `RegistryError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = url or str(content)
    source: Any = pa.BufferReader(content) if isinstance(content, bytes) else content
    try:
        # Zone and year are in the path only: it must not be read as a partitioned data set.
        table = pq.ParquetFile(source).read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise RegistryError(f"{name} cannot be read: {reason}") from error
    missing = {"tile", "assembled_at", *_BOX} - set(table.schema.names)
    if missing:
        raise RegistryError(f"{name} has no column {', '.join(sorted(missing))}")
    return table


def _latest(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the latest row of each tile, ordered by the tiles' names."""
    import numpy as np
    import pyarrow as pa

    table = pa.concat_tables(tables, promote_options="permissive")
    ordered = table.sort_by([("tile", "ascending"), ("assembled_at", "ascending")])
    names = ordered["tile"].to_numpy(zero_copy_only=False)
    last = np.append(names[1:] != names[:-1], True) if len(names) else np.empty(0, np.bool_)
    return ordered.filter(pa.array(last))


def _named(table: pa.Table, group: tuple[str, int]) -> pa.Table:
    import pyarrow as pa

    zone, year = group
    for name, column in (
        ("zone", pa.array([zone] * len(table), pa.string())),
        ("year", pa.array([year] * len(table), pa.int64())),
    ):
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def _touches(table: pa.Table, box: BBox) -> Any:
    """Return which tiles share a place with a box, both also across the antimeridian."""
    import numpy as np

    west, south, east, north = (table[name].to_numpy() for name in _BOX)
    with np.errstate(invalid="ignore"):
        width = np.where(west > east, east + 360 - west, east - west)
        wide = (box.east - box.west) % 360 if box.west > box.east else box.east - box.west
        # From the box's west edge eastwards to the tile, or the other way round.
        ahead, behind = (west - box.west) % 360, (box.west - west) % 360
        return ((ahead <= wide) | (behind <= width)) & (south <= box.north) & (north >= box.south)


def _checked(bbox: Sequence[float]) -> BBox:
    try:
        box = BBox(*(float(one) for one in bbox))
    except (TypeError, ValueError):
        raise InputError(
            f"bbox {bbox!r} must be (west, south, east, north) in WGS84 degrees"
        ) from None
    if not all(map(math.isfinite, box)) or max(abs(box.west), abs(box.east)) > 360:
        raise InputError(f"bbox {tuple(bbox)} must be four longitudes and latitudes in degrees")
    if box.south > box.north:
        raise InputError(f"bbox {tuple(bbox)} has its south above its north")
    return box


def _groups_near(box: BBox) -> set[str]:
    """Return the groups whose tiles may reach into a box: the rest need not be read."""
    farthest = min(max(abs(box.south), abs(box.north)) + _OVERRUN, 89.9)
    more = _OVERRUN + math.degrees(_TILE_METRES / 6.37e6 / math.cos(math.radians(farthest)))
    wide = box.east + 360 - box.west if box.west > box.east else box.east - box.west
    zones: Iterable[int] = range(1, 61)
    if wide + 2 * more < 360:
        low, high = ((x + 180) % 360 - 180 for x in (box.west - more, box.east + more))
        zones = [zone for zone, _ in zones_of_box(BBox(low, box.south, high, box.north))]
    sides = "N" * (box.north >= -2 * _OVERRUN) + "S" * (box.south <= 2 * _OVERRUN)
    return {f"{zone:02d}{side}" for zone in zones for side in sides}
