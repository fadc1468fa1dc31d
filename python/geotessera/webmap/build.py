"""The tiles of a web map and what goes with them: packs, an archive, and what they say."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import EmptySelectionError, InputError
from geotessera.region_mosaic import bbox_of
from geotessera.stages import file_identity
from geotessera.webmap.archive import is_archive, is_whole, write_archive
from geotessera.webmap.cut import CutReport, cut, remove_cut
from geotessera.webmap.note import RECORD, SCHEMA, Note
from geotessera.webmap.packs import remove_packs, write_packs
from geotessera.webmap.picture import Picture
from geotessera.webmap.tree import TileTree
from geotessera.webmap.zooms import MAX_LATITUDE, SIDE, check_zooms

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from geotessera.types import BBox, Method, ProgressCallback
    from geotessera.webmap.zooms import Tile

__all__ = ["BuildReport", "build_tiles"]

_METHODS = ("bilinear", "nearest")


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was made.

    Parameters
    ----------
    tiles : Path or None
        The directory of tiles; None where only the archive was wanted.
    packs, archive : Path or None
        The directory of packs, and the PMTiles archive.
    bounds : tuple of float
        (west, south, east, north) of the picture in WGS84 degrees, within what Web Mercator
        shows; west > east crosses the antimeridian.
    zooms : (int, int)
        The smallest and the largest.
    count : int
        Tiles that there are.
    cut, written, removed : int
        Tiles that were made anew, those of them that are not as they were before, and those
        that are gone.
    former : Path or None
        The directory of an earlier run's tiles, under another name, that were removed.
    """

    tiles: Path | None
    packs: Path | None
    archive: Path | None
    bounds: tuple[float, float, float, float]
    zooms: tuple[int, int]
    count: int
    cut: int
    written: int
    removed: int
    former: Path | None = None
    _cut: CutReport = field(default_factory=CutReport, repr=False)

    def existing(self) -> Iterator[Tile]:
        """Yield the tiles that there are; none if only an archive is known."""
        return self._cut.existing()

    @property
    def center(self) -> tuple[float, float]:
        """Longitude and latitude of the middle, in degrees."""
        west, south, east, north = self.bounds
        lon = (west + (east if west <= east else east + 360)) / 2
        return lon - 360 if lon > 180 else lon, (south + north) / 2


def build_tiles(
    source: str | os.PathLike[str],
    tiles: str | os.PathLike[str],
    *,
    zooms: Sequence[int] = (8, 15),
    method: Method = "bilinear",
    record: str | os.PathLike[str] | None = None,
    packs: str | os.PathLike[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
    keep_tiles: bool = True,
    name: str = "",
    force: bool = False,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> BuildReport:
    """Cut a picture into Web Mercator tiles: PNG, 256 pixels, XYZ numbering.

    What is there already and is made of the same pixels is left alone, so that a run that was
    killed is gone on with, and a changed picture costs what changed. Empty tiles are not
    written.

    Parameters
    ----------
    source : path
        8-bit raster in any CRS; see `Picture`.
    tiles : path
        Directory for ``{z}/{x}/{y}.png``. Tiles of other tools in it are replaced.
    zooms : (int, int)
        Smallest and largest, 0 to 24.
    method : {"bilinear", "nearest"}
        How pixels of the largest zoom are made; smaller ones are means of 2 × 2 pixels,
        weighted by their alpha.
    record : path, optional
        Where it is said what was made; by default ``tiles.json`` in the directory of tiles.
    packs : path, optional
        Directory for tiles as scripts; see `geotessera.webmap.packs`.
    archive : path, optional
        PMTiles file to write.
    keep_tiles : bool
        Whether the directory stays; otherwise only the archive does. Tiles of an earlier run
        in another directory, as the record names it, are removed either way.
    name : str
        What the archive is called.
    force : bool
        Whether to cut everything anew.
    jobs : int, optional
        Units that are cut at once, by default as many as there are threads, up to 8; each
        takes up to 100 MB.
    progress : callable, optional
        Called with (done, in all, status text).

    Returns
    -------
    BuildReport

    Raises
    ------
    InputError
        (a `ValueError`) for zooms, methods and pictures that cannot be used, and if another
        process makes the same map now.
    EmptySelectionError
        (a `ValueError`) if the picture has no visible pixel.
    FileNotFoundError, FormatError
        If there is no picture, or it cannot be read.
    UnwritableDestination
        (an `OSError`) if tiles cannot be written.
    """
    chosen = check_zooms(zooms)
    if method not in _METHODS:
        raise InputError(f"unknown method {method!r}: expected one of {', '.join(_METHODS)}")
    if not keep_tiles and archive is None:
        raise InputError("without a directory of tiles an archive is needed")
    files = [Path(one).resolve() for one in (source, archive, record) if one is not None]
    if len(set(files)) < len(files):
        raise InputError(f"picture, archive and record are one file: {', '.join(map(str, files))}")
    tree = TileTree(tiles)
    note = Note(Path(record) if record is not None else tree.directory / RECORD)
    with Picture(source) as picture:
        build = _Build(picture, tree, note, chosen, method, progress)
        build.packs = Path(packs) if packs is not None else None
        build.archive = Path(archive) if archive is not None else None
        build.name = name or Path(source).stem
        return build.make(keep_tiles, force, jobs)


class _Build:
    """One call of `build_tiles`."""

    packs: Path | None = None
    archive: Path | None = None
    name = ""

    def __init__(
        self,
        picture: Picture,
        tree: TileTree,
        note: Note,
        zooms: tuple[int, int],
        method: Method,
        progress: ProgressCallback | None,
    ) -> None:
        self._picture = picture
        self._tree = tree
        self._note = note
        self._zooms = zooms
        self._method: Method = method
        self._progress = progress
        self._bounds = _shown(bbox_of(picture.grid))

    def make(self, keep_tiles: bool, force: bool, jobs: int | None) -> BuildReport:
        with self._note.alone():
            return self._make(keep_tiles, force, jobs)

    def _make(self, keep_tiles: bool, force: bool, jobs: int | None) -> BuildReport:
        what = self._what()
        note = self._note
        known = note.says(what) and note.complete and self._picture.files is not None
        trusted = known and not force
        if trusted and not keep_tiles and self._archive_is_there():
            return self._report(CutReport(tiles=int(note.before.get("tiles", 0))), keep_tiles)
        if not trusted:
            note.begin(what)
        try:
            report = cut(
                self._picture,
                self._tree,
                self._zooms,
                method=self._method,
                trusted=trusted,
                force=force,
                jobs=jobs,
                progress=self._progress,
            )
            if not report.tiles:
                raise EmptySelectionError(
                    f"no tile of zoom {self._zooms[1]} shows anything of {self._picture.path}: its "
                    "pixels are transparent, lie beyond 85.05°, where Web Mercator ends, or are "
                    f"too small for this zoom (zoom {self._picture.finest_zoom} shows all of them)"
                )
        except BaseException:
            if not self._tree.record.exists():  # there is nothing that the note could be about
                note.path.unlink(missing_ok=True)
                with suppress(OSError):
                    self._tree.directory.rmdir()
            raise
        self._pack(report, what)
        self._archive(report, trusted)
        self._clean(report, keep_tiles)
        former = self._remove_former()
        made = {
            "tiles": report.tiles,
            "packs": note.relative(self.packs),
            "pmtiles": note.relative(self.archive) or self._archive_kept(),
        }
        note.finish(what | made)
        return self._report(report, keep_tiles, former)

    def _what(self) -> dict[str, Any]:
        """Return what tiles are made from and how, as ``tiles.json`` has it."""
        return {
            "schema": SCHEMA,
            "scheme": "xyz",
            "directory": self._tree.directory.absolute().name,
            "source": file_identity(self._picture.path, self._note.path.parent),
            "beside": [
                file_identity(one, self._note.path.parent)
                for one in (self._picture.files or [])[1:]
            ],
            "zoom": list(self._zooms),
            "bounds": list(self._bounds),
            "tile_size": SIDE,
            "format": "png",
            "resampling": self._method,
        }

    def _archive_is_there(self) -> bool:
        """Whether the archive is there, whole, where the note says."""
        known = self._note.before.get("pmtiles") == self._note.relative(self.archive)
        return known and self.archive is not None and is_whole(self.archive)

    def _pack(self, report: CutReport, what: dict[str, Any]) -> None:
        note = self._note
        before = note.before.get("packs")
        if self.packs is not None:
            place = note.relative(self.packs)
            if before != place:
                note.begin(what, packs=place)
            # Only of a run that came to its end it is known that the others are right.
            whole = note.complete and before == place
            changed = report.packs if whole else None
            write_packs(self._tree, report.existing(), self.packs, changed, self._progress)
        elif isinstance(before, str):
            remove_packs(note.path.parent / before)

    def _archive(self, report: CutReport, trusted: bool) -> None:
        if self.archive is not None:
            if trusted and not report.changed and self._archive_is_there():
                return
            write_archive(
                self._tree,
                report.existing(),
                self.archive,
                bounds=self._bounds,
                center=self._report(report, True).center,
                zoom=self._zooms[0],
                name=self.name,
                progress=self._progress,
            )
        elif (before := self._archive_kept()) is not None and (
            report.changed or not self._note.complete
        ):
            # It would show what the tiles no longer do.
            (self._note.path.parent / before).unlink()

    def _archive_kept(self) -> str | None:
        """Return the name of the archive of an earlier run, if it is there."""
        before = self._note.before.get("pmtiles")
        known = isinstance(before, str) and is_archive(self._note.path.parent / before)
        return before if known else None

    def _clean(self, report: CutReport, keep_tiles: bool) -> None:
        if keep_tiles:
            return
        for tile in report.existing():
            self._tree.remove(tile)
        self._tree.finish()

    def _remove_former(self) -> Path | None:
        """Remove tiles that an earlier run left in another directory, and nothing else there."""
        found = [
            one
            for one in self._note.former(self._tree.directory.absolute().name)
            if remove_cut(TileTree(one))
        ]
        return found[-1] if found else None

    def _report(
        self, report: CutReport, keep_tiles: bool, former: Path | None = None
    ) -> BuildReport:
        return BuildReport(
            self._tree.directory if keep_tiles else None,
            self.packs,
            self.archive,
            self._bounds,
            self._zooms,
            report.tiles,
            report.cut,
            report.written,
            report.removed,
            former,
            report,
        )


def _shown(bbox: BBox) -> tuple[float, float, float, float]:
    """Return what Web Mercator shows of a box."""
    west, south, east, north = map(float, bbox)
    low, high = (max(-MAX_LATITUDE, min(lat, MAX_LATITUDE)) for lat in (south, north))
    return west, low, east, high
