"""What `geotessera coverage` writes beside the map, and says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geotessera.cli.errors import describe
from geotessera.datasets import dataset_label, normalize_version
from geotessera.errors import GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geotessera.cli.output import Output
    from geotessera.coverage import Coverage, DatasetFiles
    from geotessera.regions import Region

__all__ = ["Request", "report"]


@dataclass
class Request:
    """What is to be drawn."""

    picture: Path
    year: int | None
    region: Region | None
    look: dict[str, Any]
    tile_color: Any
    tile_size: float
    by_years: bool
    selector: str = ""
    skipped: list[dict[str, str]] = field(default_factory=list)


def report(
    out: Output,
    request: Request,
    found: list[Coverage],
    colors: list[tuple[int, int, int]] | None = None,
    *,
    states: dict[str, int] | None = None,
    name: str = "",
) -> None:
    """Write what goes beside the map, and say what there is."""
    from geotessera.coverage.region import region_name

    out.say(f"Coverage map saved to: {request.picture}")
    documents = [_facts(one, request.region) for one in found]
    for document in documents:
        _say_facts(out, document, request.region)
    if states is not None:
        what = region_name(request.region) if request.region else name
        out.pairs({word: f"{count:,}" for word, count in states.items()}, title=f"Tiles in {what}")
    if request.year is not None and found and not any(request.year in one.years for one in found):
        years = sorted({year for one in found for year in one.years})
        out.note(f"Warning: there are no tiles of {request.year}, only of {_listed(years)}")
    files = _write_files(out, request.picture.parent, found, colors) if found else None
    out.say("Next step: download data of a region:")
    out.say(f"  {_download_command(request, documents, name)}")
    bbox = list(request.region.bbox) if request.region else None
    out.emit(
        {
            "map": request.picture,
            "year": request.year,
            "region": request.region and {"name": request.region.name, "bbox": bbox},
            "datasets": documents,
            "states": states,
            "skipped": request.skipped,
            **(files or {"index": None, "globe": None, "files": []}),
        }
    )


def _download_command(request: Request, documents: list[dict[str, Any]], name: str) -> str:
    """Return the command that downloads what the map shows, of the dataset that it shows."""
    words = ["geotessera download", request.selector or "--bbox 'west,south,east,north'"]
    years = {year for document in documents for year in document["years"]}
    if request.year is not None and (request.year in years or not documents):
        words.append(f"--year {request.year}")
    known = [dataset_label(one["version"], one["variant"]) for one in documents] or [name]
    if len(known) == 1:
        version, variant = known[0].split()
        words.append(f"--dataset-version {version} --dataset-variant {variant}")
    return " ".join([*words, "--output tiles/"])


def _facts(found: Coverage, region: Region | None) -> dict[str, Any]:
    import numpy as np

    from geotessera.coverage.region import region_cells

    totals = found.metadata()
    document: dict[str, Any] = {
        "id": found.id,
        "version": normalize_version(found.version),
        "variant": found.variant,
        "years": list(found.years),
        "tiles": totals["total_tiles"],
        "tiles_by_year": found.counts(),
        "landmasks": totals["total_landmasks"],
        "no_coverage": totals["total_no_coverage"],
        "region": None,
    }
    if region is not None:
        inside = region_cells(region, found.covered)
        document["region"] = {
            "tiles": int(np.count_nonzero(inside)),
            "tiles_by_year": found.counts(inside),
        }
    return document


def _say_facts(out: Output, document: dict[str, Any], region: Region | None) -> None:
    from geotessera.coverage.region import region_name

    out.say(f"Dataset {document['id']}:")
    inside = document["region"]
    if region is not None:
        out.say(f"  Unique tile locations in {region_name(region)}: {inside['tiles']:,}")
    where = "" if region is None else " in all"
    out.say(f"  Unique tile locations{where}: {document['tiles']:,}")
    out.say(f"  Years covered: {_listed(document['years'])}")
    if out.verbose:
        columns: dict[str, dict[int, int]] = {"Tiles": document["tiles_by_year"]}
        if inside is not None:
            columns["In the region"] = inside["tiles_by_year"]
        rows = [
            (year, *(f"{counts[year]:,}" for counts in columns.values()))
            for year in document["years"]
        ]
        out.table(("Year", *columns), rows)


def _listed(years: Iterable[int]) -> str:
    """Return years in words, runs of them as one: 2017-2019, 2021."""
    runs: list[list[int]] = []
    for year in years:
        if runs and runs[-1][-1] == year - 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    named = (str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return ", ".join(named) or "none"


def _write_files(
    out: Output,
    directory: Path,
    found: list[Coverage],
    colors: list[tuple[int, int, int]] | None,
) -> dict[str, Any]:
    from geotessera.coverage import write_coverage_files, write_index
    from geotessera.coverage.maps import source_color

    tints = colors or [source_color(number) for number in range(len(found))]
    several = len(found) > 1
    written = [
        write_coverage_files(one, directory, color, tint=several)
        for one, color in zip(found, tints, strict=True)
    ]
    index = directory / "coverage.json"
    write_index(written, index)
    out.say(f"Coverage index: {index} ({len(written)} dataset{'s' * several})")
    globe = _write_globe(out, directory / "globe.html", written, tint=several)
    if globe is not None:
        out.say(f"Globe viewer: {globe} (opens in a browser, from the disk or from a server)")
    paths = [path for one in written for path in one.paths]
    return {"index": index, "globe": globe, "files": paths}


def _write_globe(
    out: Output, target: Path, written: list[DatasetFiles], *, tint: bool
) -> Path | None:
    from geotessera.coverage import write_coverage_globe

    tinted = [(one.coverage, one.color if tint else None) for one in written]
    try:
        return write_coverage_globe(target, tinted)
    except (GeoTesseraError, OSError) as error:
        out.note(f"Warning: no globe was written: {describe(error)}")
        return None
