"""`geotessera coverage`: where there are embeddings, as a map, a globe and lists."""

from __future__ import annotations

import dataclasses
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.coverage_icechunk import draw_icechunk, identity_of
from geotessera.cli.coverage_report import Request, report
from geotessera.cli.errors import UsageError, describe
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import DatasetOptions, Json, Verbose
from geotessera.cli.output import Output
from geotessera.cli.selectors import ShownRegionOptions
from geotessera.datasets import (
    BASE_URL,
    base_url_from,
    find_dataset,
    normalize_version,
    published_datasets,
    version_path,
)
from geotessera.errors import EmptySelectionError, GeoTesseraError, InputError, RegistryError

if TYPE_CHECKING:
    from geotessera.coverage import Coverage
    from geotessera.regions import Region

__all__ = ["coverage"]

MAP_NAME = "tessera_coverage.png"

_PICTURES = (".png", ".jpg", ".jpeg")
_ALL = "all"

_LOOK = "Look"


@takes_groups
def coverage(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The map, .png or .jpg; anything else is a directory that gets "
            f"{MAP_NAME}. The other files go beside it.",
        ),
    ] = Path(MAP_NAME),
    year: Annotated[int | None, typer.Option("--year", help="Map one year only.")] = None,
    where: ShownRegionOptions = ShownRegionOptions(),
    tile_color: Annotated[
        str,
        typer.Option(help="Of one year, or of --no-multi-year-colors.", rich_help_panel=_LOOK),
    ] = "red",
    tile_alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Opacity of tiles.", rich_help_panel=_LOOK)
    ] = 0.6,
    tile_size: Annotated[
        float,
        typer.Option(
            min=0.01, max=100, help="Side of a tile's square, in tiles.", rich_help_panel=_LOOK
        ),
    ] = 1.0,
    width: Annotated[
        int,
        typer.Option(
            min=200, max=20_000, help="Width of the map in pixels.", rich_help_panel=_LOOK
        ),
    ] = 2000,
    no_countries: Annotated[
        bool,
        typer.Option(
            "--no-countries",
            help="Draw no borders; --country and --region-file draw their own outline instead.",
            rich_help_panel=_LOOK,
        ),
    ] = False,
    no_multi_year_colors: Annotated[
        bool,
        typer.Option(
            "--no-multi-year-colors", help="Use one colour for all years.", rich_help_panel=_LOOK
        ),
    ] = False,
    by_source: Annotated[
        bool,
        typer.Option(
            "--by-source",
            help="One colour for each dataset with tiles: all of them, or those of "
            "--dataset-version and --dataset-variant (either may be 'all').",
            rich_help_panel=_LOOK,
        ),
    ] = False,
    dataset: DatasetOptions = DatasetOptions(),
    tile_registry: Annotated[
        str | None,
        typer.Option(
            "--tile-registry",
            metavar="URL",
            help="Registry of an Icechunk repository's tiles: s3:// or a directory.",
            rich_help_panel="Dataset",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Map where there are embeddings.

    Beside the map go lists of tiles (coverage.json and its parts), a texture of the globe, and
    globe.html, which opens in any browser without a network. They are of the whole dataset,
    whatever the map shows. The default dataset is published in an Icechunk repository: without a
    region or year its whole tile registry is read, of about 140 MB.
    """
    out = Output(as_json=as_json, verbose=verbose)
    request = Request(
        picture=_picture_path(output),
        year=year,
        region=_region(out, where),
        look={
            "tile_alpha": tile_alpha,
            "width": width,
            "show_countries": not (no_countries or where.region_file or where.country),
        },
        tile_color=_color(tile_color),
        tile_size=tile_size,
        by_years=not no_multi_year_colors,
    )
    request.selector = next(
        (f"{name} {shlex.quote(value)}" for name, value in where.given.items()), ""
    )
    _check_target(request.picture)
    if by_source or _ALL in (dataset.version, dataset.variant):
        if tile_registry is not None:
            raise UsageError("--tile-registry is of one dataset: leave out --by-source and 'all'")
        _several(out, request, dataset)
    elif tile_registry is not None or _is_icechunk(dataset):
        draw_icechunk(out, request, dataset, tile_registry)
    else:
        found = _read(out, dataset)
        _draw_one(request, found)
        report(out, request, [found])


def _picture_path(output: Path) -> Path:
    if output.is_dir() or output.suffix.lower() not in _PICTURES:
        return output / MAP_NAME
    return output


def _check_target(picture: Path) -> None:
    from geotessera.remote.partfile import check_target

    # Before anything is read, which may take a while.
    check_target(picture)


def _color(text: str) -> Any:
    from geotessera.coverage.figure import checked_color

    try:
        return checked_color(text)
    except InputError as error:
        raise UsageError(f"--tile-color: {error}") from error


def _region(out: Output, where: ShownRegionOptions) -> Region | None:
    region = where.optional(usage=True)
    if region is None:
        return None
    if where.country is not None:
        out.say(f"Country: {region.name}")
    west, south, east, north = region.bbox
    out.detail(f"Region: {west:.6g}, {south:.6g} to {east:.6g}, {north:.6g}")
    return region


# --- Tiles -------------------------------------------------------------------------------


def _read(out: Output, dataset: DatasetOptions) -> Coverage:
    from geotessera.coverage import Coverage

    with out.progress("Reading the registry"):
        return Coverage.of_registry(dataset.client().registry)


def _draw_one(request: Request, found: Coverage) -> None:
    from geotessera.coverage import draw_coverage

    draw_coverage(
        found,
        request.picture,
        year=request.year,
        region=request.region,
        tile_color=request.tile_color,
        tile_size=request.tile_size,
        multi_year_colors=request.by_years,
        **request.look,
    )


def _several(out: Output, request: Request, dataset: DatasetOptions) -> None:
    from geotessera.coverage import draw_sources
    from geotessera.coverage.maps import source_color

    found: dict[int, Coverage] = {}
    for number, ((version, variant), read) in enumerate(_read_each(out, dataset)):
        if not isinstance(read, Exception):
            found[number] = read
            continue
        name = f"{version_path(version)}-{variant}"
        out.note(f"Warning: {name} is left out: {describe(read)}")
        request.skipped.append({"dataset": name, "reason": describe(read)})
    if not found:
        raise RegistryError("none of the datasets could be read: there is nothing to draw")
    sources = {(normalize_version(one.version), one.variant): one for one in found.values()}
    colors = [source_color(number) for number in found]
    draw_sources(
        sources,
        request.picture,
        year=request.year,
        region=request.region,
        tile_size=request.tile_size,
        colors=colors,
        **request.look,
    )
    report(out, request, list(found.values()), colors)


def _read_each(
    out: Output, dataset: DatasetOptions
) -> list[tuple[tuple[str, str], Coverage | Exception]]:
    """Return the datasets that are to be drawn, and what each has, or why it cannot be read."""
    from geotessera.coverage import Coverage

    def attempt(identity: tuple[str, str]) -> Coverage | Exception:
        one = dataclasses.replace(dataset, version=identity[0], variant=identity[1])
        try:
            return Coverage.of_registry(one.client().registry)
        except (GeoTesseraError, OSError) as error:
            return error

    asked = _asked(dataset)
    # At once: a server that does not answer is given half a minute.
    with out.progress("Reading the registries"), ThreadPoolExecutor(len(asked)) as pool:
        return list(zip(asked, pool.map(attempt, asked), strict=True))


def _asked(dataset: DatasetOptions) -> list[tuple[str, str]]:
    """Return (version, variant) of the datasets that are to be drawn."""
    version = None if dataset.version in (None, _ALL) else normalize_version(dataset.version)
    variant = None if dataset.variant in (None, _ALL) else dataset.variant
    asked = [
        (own, name)
        for own, name, _ in published_datasets("npy")
        if version in (None, own) and variant in (None, name)
    ]
    if asked:
        return asked
    if version is not None and variant is not None:
        return [(version, variant)]  # a mirror's own dataset
    raise EmptySelectionError(
        f"no dataset of version {dataset.version or _ALL} and variant {dataset.variant or _ALL} is "
        "published as tiles"
    )


def _is_icechunk(dataset: DatasetOptions) -> bool:
    known = find_dataset(*identity_of(dataset))
    if known is None or known.tile_registry is None:
        return False
    # Who names a registry of tiles, or a mirror, means its tiles.
    tiles = dataset.registry_dir is not None or base_url_from(dataset.base_url) != BASE_URL
    return dataset.variant is not None or not tiles
