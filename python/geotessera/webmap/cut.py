"""Cutting tiles: unit by unit, those alone whose pixels are not the same as before.

What a unit was made of is recorded as a digest of exactly what its kernel is given: the
picture's pixels below it, and where they lie. So a run that was killed is gone on with, a
picture of which a corner changed costs that corner, and neither names nor times of files
matter. Coarser zooms are made of the tiles of the finer ones, and follow them.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from geotessera import _native
from geotessera.errors import InputError
from geotessera.mosaic.record import Record
from geotessera.webmap.drawing import digest_of_files, digest_of_pixels, draw, join
from geotessera.webmap.places import Places, expected_tiles, touched_units
from geotessera.webmap.zooms import SIDE, Unit, check_zooms, zoom_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geotessera.types import Method, ProgressCallback
    from geotessera.webmap.picture import Picture
    from geotessera.webmap.tree import TileTree
    from geotessera.webmap.zooms import Tile

__all__ = ["CutReport", "cut", "remove_cut"]

_NOTHING, _UNKNOWN = 1, 0
"""Digests of a unit without a pixel, and of one that is being cut."""

_JOBS = 8
"""Units that are cut at once by default: the kernels use all processors for each of them, and
more would only take memory."""

_MOST_TILES = 400_000_000
"""Tiles that there may be: no file system has room for more, nor memory for their numbers."""


@dataclass(slots=True)
class CutReport:
    """What was done to cut tiles.

    Parameters
    ----------
    tiles : int
        Tiles that there are now.
    cut : int
        Those that were looked at because what they are made of had changed, or was new.
    written : int
        Those of them whose bytes are new.
    removed : int
        Tiles that are no more.
    packs : set of (zoom, column, row)
        Squares of 8 × 8 tiles, of the whole numbering, in which a tile was written or removed.
    """

    tiles: int = 0
    cut: int = 0
    written: int = 0
    removed: int = 0
    packs: set[tuple[int, int, int]] = field(default_factory=set)
    leaves: dict[Unit, int] = field(default_factory=dict, repr=False)
    others: dict[Unit, int] = field(default_factory=dict, repr=False)
    lowest: int = 0

    @property
    def changed(self) -> bool:
        """Whether any tile is not as it was."""
        return self.written > 0 or self.removed > 0

    def existing(self) -> Iterator[Tile]:
        """Yield every tile that there is, unit by unit."""
        for leaf, units in ((True, self.leaves), (False, self.others)):
            for unit, mask in units.items():
                yield from _chosen(unit.tiles(self.lowest, leaf=leaf), mask)


def cut(
    picture: Picture,
    tree: TileTree,
    zooms: tuple[int, int],
    *,
    method: Method = "bilinear",
    trusted: bool = False,
    force: bool = False,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> CutReport:
    """Cut a picture into tiles.

    Parameters
    ----------
    picture : Picture
        What is cut.
    tree : TileTree
        Where tiles go. Files there that are named like tiles, and were not made by this, are
        removed: another tool's numbering may be another.
    zooms : (int, int)
        The smallest and the largest.
    method : {"bilinear", "nearest"}
        How pixels of the largest zoom are made. Where they are larger than the picture's,
        they are made of means of these.
    trusted : bool
        Whether the picture is known to be the same as in the last run: then only tiles that
        are missing are cut.
    force : bool
        Whether to cut everything anew.
    jobs : int, optional
        Units that are cut at once; by default as many as there are threads, up to 8.
    progress : callable, optional
        Called with (units done, units in all, status text).

    Raises
    ------
    InputError
        (a `ValueError`) if another process cuts the same tiles now, or for more than 400
        million tiles.
    FormatError
        (a `RuntimeError`) if the picture cannot be read.
    UnwritableDestination
        (an `OSError`) if tiles cannot be written. What is finished is kept for the next run.
    """
    what = {"webmap": 2, "zooms": zooms, "method": method, "side": SIDE, "scheme": "xyz"}
    if (count := expected_tiles(picture.grid, zooms)) > _MOST_TILES:
        raise InputError(
            f"zooms {zooms[0]} to {zooms[1]} of {picture.path} are some {count:,} tiles: choose a "
            f"smaller largest zoom, {picture.finest_zoom} already shows each of its pixels"
        )
    leaves = touched_units(picture.grid, zooms[1])
    record = Record(
        tree.directory, json.dumps(what, sort_keys=True), resume=not force, path=tree.record
    )
    try:
        tree.begin()
        if record.fresh:
            tree.sweep()
        run = _Run(picture, tree, record, zooms, method, trusted, progress)
        return run.make(leaves, jobs or min(_native.num_threads(), _JOBS))
    finally:
        record.close()
        tree.finish()


def remove_cut(tree: TileTree) -> int:
    """Remove the tiles that were cut into a directory, as its record says, and nothing else.

    Returns
    -------
    int
        Tiles that were removed.

    Raises
    ------
    InputError
        (a `ValueError`) if another process cuts these tiles now.
    """
    try:
        with tree.record.open("rb") as file:
            [identity] = json.loads(file.readline())
        what = json.loads(identity)
        lowest, top = check_zooms(what["zooms"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    record = Record(tree.directory, identity, path=tree.record)
    try:
        count = 0
        for (_, zoom, y, x), entry in record.items():
            tiles = Unit(zoom, x, y).tiles(lowest, leaf=zoom == top)
            mask = entry[1] if len(entry) > 1 else 0
            count += sum(tree.remove(tile) for tile in _chosen(tiles, mask))
    finally:
        record.close()
    tree.record.unlink(missing_ok=True)
    tree.finish()
    return count


class _Run:
    """One call of `cut`."""

    def __init__(
        self,
        picture: Picture,
        tree: TileTree,
        record: Record,
        zooms: tuple[int, int],
        method: Method,
        trusted: bool,
        progress: ProgressCallback | None,
    ) -> None:
        self._picture = picture
        self._tree = tree
        self._record = record
        self._lowest, self._top = zooms
        self._method: Method = method
        self._trusted = trusted
        self._progress = progress
        self._times = picture.reduction(zoom_grid(self._top).transform[0])
        self._places = Places(picture.reduced(self._times), self._top)
        self._report = CutReport(lowest=self._lowest)
        self._done = 0

    def make(self, leaves: Sequence[Unit], jobs: int) -> CutReport:
        """Cut the leaves, then what is above them, stage by stage; then remove the rest."""
        stages: list[Sequence[Unit]] = [leaves]
        while stages[-1] and stages[-1][0].root.z > self._lowest:
            stages.append(sorted({unit.above for unit in stages[-1]}))
        total = sum(map(len, stages))
        self._tell(total)
        with ThreadPoolExecutor(jobs, thread_name_prefix="geotessera-tiles") as pool:
            try:
                for number, units in enumerate(stages):
                    self._stage(pool, units, total, leaf=number == 0)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._remove_others({(0, unit.top, unit.y, unit.x) for units in stages for unit in units})
        report = self._report
        report.tiles = sum(
            mask.bit_count() for units in (report.leaves, report.others) for mask in units.values()
        )
        return report

    def _stage(
        self, pool: ThreadPoolExecutor, units: Iterable[Unit], total: int, *, leaf: bool
    ) -> None:
        work: Callable[[Unit], _Made] = self._leaf if leaf else self._other
        found = self._report.leaves if leaf else self._report.others
        pending = {pool.submit(work, unit): unit for unit in units}
        masks: dict[Unit, int] = {}
        for future in as_completed(pending):
            made = future.result()
            masks[pending[future]] = made.mask
            self._count(made)
            self._done += 1
            self._tell(total)
        found.update(sorted(masks.items()))

    def _tell(self, total: int) -> None:
        if self._progress is not None:
            status = f"{self._report.written} tiles written" if self._report.written else ""
            self._progress(self._done, total, status)

    def _count(self, made: _Made) -> None:
        report = self._report
        report.cut += made.cut
        report.written += len(made.written)
        report.removed += len(made.removed)
        report.packs.update((z, x >> 3, y >> 3) for z, x, y in (*made.written, *made.removed))

    # --- Units ---------------------------------------------------------------------------

    def _leaf(self, unit: Unit) -> _Made:
        entry = self._entry(unit)
        tiles = list(unit.tiles(self._lowest, leaf=True))
        known = entry is not None and self._is_whole(unit, tiles, entry)
        if entry is not None and known and self._trusted and entry.digest != _UNKNOWN:
            return _Made(entry.mask)
        squares = self._places.squares(unit)
        window = self._places.window(squares)
        if window is None:
            return self._make(unit, tiles, entry, _NOTHING, None)
        source = self._picture.read(window, self._times, self._method)
        digest = digest_of_pixels(source, squares, window.row, window.col)
        if entry is not None and known and entry.digest == digest:
            return _Made(entry.mask)

        def levels() -> Iterator[list[bytes | None]]:
            if not source[..., 3].any():
                return
            pixels = draw(source, squares, (window.row, window.col), unit, self._method)
            for zoom in unit.zooms(self._lowest, leaf=True):
                if zoom < unit.top:
                    pixels = _native.halve_picture(pixels)
                yield _native.encode_tiles(pixels, SIDE)

        return self._make(unit, tiles, entry, digest, levels)

    def _other(self, unit: Unit) -> _Made:
        entry = self._entry(unit)
        tiles = list(unit.tiles(self._lowest, leaf=False))
        below = [self._tree.read(tile) for tile in unit.level(unit.top)]
        digest = digest_of_files(below) if any(below) else _NOTHING
        known = entry is not None and self._is_whole(unit, tiles, entry)
        if entry is not None and known and entry.digest == digest:
            return _Made(entry.mask)

        def levels() -> Iterator[list[bytes | None]]:
            if not any(below):
                return
            pixels = join(below)
            for _ in unit.zooms(self._lowest, leaf=False):
                pixels = _native.halve_picture(pixels)
                yield _native.encode_tiles(pixels, SIDE)

        return self._make(unit, tiles, entry, digest, levels)

    def _make(
        self,
        unit: Unit,
        tiles: Sequence[Tile],
        entry: _Entry | None,
        digest: int,
        levels: Callable[[], Iterator[list[bytes | None]]] | None,
    ) -> _Made:
        """Write the tiles of a unit, and remove those that it has no more."""
        before = 0 if entry is None else entry.mask
        # Until it is done any of its tiles may be there, and none is to be trusted.
        if levels is not None or before:
            self._keep(unit, _Entry(_UNKNOWN, (1 << len(tiles)) - 1))
        made = _Made(0)
        files: list[bytes] = []
        number = 0
        for level in levels() if levels is not None else ():
            for data in level:
                if data is not None:
                    made.mask |= 1 << number
                    made.cut += 1
                    files.append(data)
                    if self._tree.write(tiles[number], data):
                        made.written.append(tiles[number])
                number += 1
        gone = before & ~made.mask
        made.removed += [tile for tile in _chosen(tiles, gone) if self._tree.remove(tile)]
        state = self._tree.state(_chosen(tiles, made.mask))
        self._keep(unit, _Entry(digest, made.mask, state or 0, digest_of_files(files)))
        return made

    def _entry(self, unit: Unit) -> _Entry | None:
        place = 0, unit.top, unit.y, unit.x
        if place not in self._record:
            return None
        found = self._record[place]
        return _Entry(*found) if len(found) == len(_Entry._fields) else None

    def _keep(self, unit: Unit, entry: _Entry) -> None:
        self._record.add((0, unit.top, unit.y, unit.x), entry)

    def _is_whole(self, unit: Unit, tiles: Sequence[Tile], entry: _Entry) -> bool:
        """Whether a unit's tiles are there as they were written."""
        chosen = list(_chosen(tiles, entry.mask))
        state = self._tree.state(chosen)
        if state == entry.state:
            return True
        # Copies have other times: only then files are read.
        if state is None or digest_of_files(map(self._tree.read, chosen)) != entry.files:
            return False
        self._keep(unit, entry._replace(state=state))
        return True

    def _remove_others(self, wanted: set[tuple[int, int, int, int]]) -> None:
        """Remove the tiles of units that the picture does not touch any more."""
        for place, entry in self._record.items():
            if place in wanted or len(entry) < 2 or not entry[1]:
                continue
            _, top, y, x = place
            unit = Unit(top, x, y)
            tiles = unit.tiles(self._lowest, leaf=top == self._top)
            made = _Made(0)
            made.removed += [tile for tile in _chosen(tiles, entry[1]) if self._tree.remove(tile)]
            self._keep(unit, _Entry(_NOTHING, 0))
            self._count(made)


class _Entry(NamedTuple):
    """What is recorded of a unit."""

    digest: int
    """Of what it is made of."""
    mask: int
    """Which of its tiles there are."""
    state: int = 0
    """Sizes and times of their files, in one number."""
    files: int = 0
    """Digest of their bytes."""


@dataclass(slots=True)
class _Made:
    """What became of a unit: which of its tiles there are, and what was done."""

    mask: int
    cut: int = 0
    written: list[Tile] = field(default_factory=list)
    removed: list[Tile] = field(default_factory=list)


def _chosen(tiles: Iterable[Tile], mask: int) -> Iterator[Tile]:
    return (tile for number, tile in enumerate(tiles) if mask >> number & 1)
