"""`geotessera webmap`: the map that is made of a picture, and what is said of it."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.cli.output import Output
    from geotessera.cli.webmap_region import RegionJob
    from geotessera.regions import Region
    from geotessera.webmap import BuildReport

__all__ = ["PAGE", "MadeMap", "MapJob", "conclude"]

_MANY = 200_000
"""Tiles of which it is said beforehand how many there will be."""

TILES, PACKS, ARCHIVE, RECORD, PAGE = (
    "tiles", "tiles.js", "tiles.pmtiles", "tiles.json", "viewer.html",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MadeMap:
    """What was made, and of what."""

    picture: Path
    status: str
    """Whether the picture was given, created or reused."""
    report: BuildReport
    page: Path | None


@dataclass(frozen=True, slots=True)
class MapJob:
    """What was asked for; see the options of ``webmap``."""

    region: RegionJob | None
    outline: Region | None
    directory: Path
    zooms: tuple[int, int]
    initial_zoom: int
    method: str
    force: bool
    packs: bool
    archive: bool
    tiles: bool

    def make(self, output: Output, picture: Path, status: str) -> MadeMap:
        """Make the map of a picture."""
        self._warn_of_many(output, picture)
        report = self._cut(output, picture)
        if self.tiles:
            return MadeMap(picture, status, report, self._write_page(picture, report))
        self._remove_page()
        return MadeMap(picture, status, report, None)

    def _name(self, picture: Path) -> str:
        return self.region.region.name if self.region is not None else picture.stem

    def _warn_of_many(self, output: Output, picture: Path) -> None:
        from geotessera.webmap import Picture
        from geotessera.webmap.places import expected_tiles

        with Picture(picture) as opened:
            count, finest = expected_tiles(opened.grid, self.zooms), opened.finest_zoom
        if count > _MANY:
            low, high = self.zooms
            enough = f": --max-zoom {finest} already shows each pixel" if finest < high else ""
            output.note(
                f"Warning: zooms {low} to {high} of {picture} are some {count:,} tiles{enough}"
            )

    def _cut(self, output: Output, picture: Path) -> BuildReport:
        from geotessera.webmap import build_tiles

        directory, new = self.directory, not self.directory.exists()
        tiles = TILES if self.tiles else f".{TILES}_tmp"
        try:
            with output.progress("Cutting tiles") as progress:
                return build_tiles(
                    picture,
                    directory / tiles,
                    zooms=self.zooms,
                    method=self.method,  # type: ignore[arg-type]  # checked by the parser
                    record=directory / RECORD,
                    packs=directory / PACKS if self.packs else None,
                    archive=directory / ARCHIVE if self.archive else None,
                    keep_tiles=self.tiles,
                    name=self._name(picture),
                    force=self.force,
                    progress=progress,
                )
        except BaseException:
            if new:
                with suppress(OSError):  # what is in it is gone on with
                    directory.rmdir()
            raise

    def _write_page(self, picture: Path, report: BuildReport) -> Path:
        from geotessera.pages import write_viewer
        from geotessera.webmap.packs import TEMPLATE
        from geotessera.webmap.viewing import command_of_picture, listing_of, outline_of

        meta: dict[str, object] = {} if self.region is None else dict(self.region.facts)
        low, high = self.zooms
        meta |= {"Zooms": f"{low} to {high}", "Tiles": f"{report.count:,}"}
        return write_viewer(
            self.directory / PAGE,
            tiles=f"{TILES}/{{z}}/{{x}}/{{y}}.png",
            packs=f"{PACKS}/{TEMPLATE}" if self.packs else None,
            listing=listing_of(report.existing()),
            bounds=report.bounds,
            zooms=self.zooms,
            initial_zoom=self.initial_zoom,
            center=report.center,
            title=f"TESSERA: {self._name(picture)}",
            region=None if self.outline is None else outline_of(self.outline),
            meta=meta,
            command=command_of_picture(picture) if self.region is None else self.region.command,
        )

    def _remove_page(self) -> None:
        """Remove the page of an earlier run, if there is nothing left that it could show."""
        from geotessera.pages.assemble import is_page
        from geotessera.remote.partfile import writing_to

        page = self.directory / PAGE
        if is_page(page) and not (self.directory / TILES).exists():
            with writing_to(page):
                page.unlink()


def conclude(output: Output, job: MapJob, made: MadeMap, seconds: float) -> dict[str, Any]:
    """Say what was made; return the same as a document."""
    report, page = made.report, made.page
    done = f"{report.written:,} written" if report.written else "all reused"
    if report.removed:
        done += f", {report.removed:,} removed"
    output.say(f"SUCCESS: {report.count:,} tiles ({done}) in {seconds:.1f} s")
    rows: dict[str, object] = {"Mosaic": f"{made.picture} ({made.status})"}
    if report.tiles is not None:
        rows["Tiles"] = f"{report.tiles}, zoom {report.zooms[0]} to {report.zooms[1]}"
    if report.archive is not None:
        rows["Archive"] = report.archive
    if report.former is not None:
        rows["Removed"] = f"{report.former}, of an earlier run"
    if page is not None:
        rows["Viewer"] = page
    output.pairs(rows)
    if page is not None:
        name = str(job.directory)
        shown = shlex.quote(f"./{name}" if name.startswith("-") else name)
        output.say(f"Show it: geotessera serve {shown}")
        if job.packs:
            output.say("or open the viewer's file in a browser")
    return _document(job, made, seconds)


def _document(job: MapJob, made: MadeMap, seconds: float) -> dict[str, Any]:
    report = made.report
    return {
        "directory": job.directory.absolute(),
        "mosaic": {"path": made.picture.absolute(), "status": made.status},
        "tiles": {
            "count": report.count,
            "cut": report.cut,
            "written": report.written,
            "removed": report.removed,
            "zooms": list(report.zooms),
            "scheme": "xyz",
            "directory": report.tiles.absolute() if report.tiles else None,
            "packs": report.packs.absolute() if report.packs else None,
            "pmtiles": report.archive.absolute() if report.archive else None,
        },
        "bounds": list(report.bounds),
        "viewer": made.page.absolute() if made.page else None,
        "seconds": round(seconds, 3),
    }
