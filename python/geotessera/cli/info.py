"""`geotessera info`: what is published, or what is on disk."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import PROBLEMS, describe, kind
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    DatasetOptions,
    Json,
    Verbose,
)
from geotessera.cli.output import Output, format_bytes, to_json
from geotessera.cli.sources import Source, StoreUrl, choose_store, reads_store
from geotessera.cli.version import installed_version
from geotessera.datasets import (
    DATASETS,
    FORMATS,
    default_variant,
)
from geotessera.errors import GeoTesseraError, InputError

if TYPE_CHECKING:
    from geotessera.cli.inspect import LocalRaster

__all__ = ["info"]

SHOWN_TILES = 10
"""Tiles that ``--tiles -v`` lists."""


@takes_groups
def info(
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles", help="Describe a local file or directory instead of the published data."
        ),
    ] = None,
    geotiffs: Annotated[
        Path | None, typer.Option("--geotiffs", hidden=True, help="Retired name of --tiles.")
    ] = None,
    dataset: DatasetOptions = DatasetOptions(),
    source: Source = "auto",
    store_url: StoreUrl = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the datasets and their stores, or what local tiles hold.

    A dataset that has tiles is summed up by its registry, another one, or any with --source
    zarr or --store-url, by its Zarr store. With --tiles every raster's own header is read:
    bands, CRS and bounds are the file's.
    """
    output = Output(as_json=as_json, verbose=verbose)
    if geotiffs is not None:
        output.note("Warning: --geotiffs is retired: use --tiles")
        tiles = tiles or geotiffs
    if tiles is not None:
        _local(output, tiles)
        return
    _published(output, dataset, reads_store(source, dataset, store_url), store_url)


# --- Published ---------------------------------------------------------------------------


def _published(
    output: Output, dataset: DatasetOptions, by_store: bool, store_url: str | None
) -> None:
    document: dict[str, Any] = {"version": installed_version(), "datasets": _catalogue(dataset)}
    output.say(f"geotessera {installed_version()}")
    rows = [
        (
            row["version"],
            row["variant"] + (" *" if row["default"] else ""),
            *(row[fmt] or "-" for fmt in FORMATS),
            row["description"],
        )
        for row in document["datasets"]
    ]
    columns = ("Version", "Variant", "NPY", "Zarr", "Icechunk", "Description")
    output.table(columns, rows, title="Datasets (* = default of its version)")
    stores = [
        (f"{row['version']}-{row['variant']}", row["store_url"]) for row in document["datasets"]
    ]
    output.table(("Dataset", "Store"), stores, title="Stores")
    version, variant = dataset.identity_of("stream" if by_store else "npy")
    what = store_url or f"{'store' if by_store else 'registry'} of {version}-{variant}"
    try:
        if by_store:
            summary = _store_summary(output, dataset, store_url)
        else:
            summary = _summary(dataset, version, variant)
    except (GeoTesseraError, OSError) as error:
        # The catalogue is still worth having: one line more says what is missing.
        message = f"the {what} could not be read: {describe(error)}"
        if not output.as_json:
            output.note(f"Error: {message}")
        output.emit(document | {"error": {"type": kind(error), "message": message}})
        raise typer.Exit(PROBLEMS) from None
    (_show_store if by_store else _show_registry)(output, summary)
    output.emit(document | {"summary": summary})


def _show_registry(output: Output, summary: dict[str, Any]) -> None:
    output.pairs(
        {
            "Dataset": "{version}-{variant}".format(**summary["dataset"]),
            "Years": ", ".join(map(str, summary["years"])),
            "Tiles": f"{summary['tile_count']:,}",
            "Landmasks": f"{summary['landmasks']:,}",
            "Registry": summary["registry"],
            "Tile cache": _in_words(summary["tile_cache"]),
        },
        title="Summary",
    )
    if output.verbose:
        per_year = [(year, f"{count:,}") for year, count in summary["tiles_by_year"].items()]
        output.table(("Year", "Tiles"), per_year)


def _show_store(output: Output, summary: dict[str, Any]) -> None:
    known = summary["dataset"]
    output.pairs(
        {
            "Dataset": "{version}-{variant}".format(**known) if known else "unknown",
            "Store": summary["store"],
            "Years": ", ".join(map(str, summary["years"])),
            "Zones": f"{len(summary['zones'])}: {', '.join(map(str, summary['zones']))}",
            "Bands": summary["bands"],
            "Depths": ", ".join(map(str, summary["depths"])),
            "Model": summary["model"] or "unknown",
            "Made by": summary["build_version"] or "unknown",
        },
        title="Summary",
    )
    if output.verbose:
        rows = [(one["zone"], one["crs"], f"{one['height']:,} × {one['width']:,}",
                 ", ".join(map(str, one["years"]))) for one in summary["zone_grids"]]  # fmt: skip
        output.table(("Zone", "CRS", "Pixels", "Years"), rows)


def _store_summary(
    output: Output, dataset: DatasetOptions, store_url: str | None
) -> dict[str, Any]:
    client = choose_store(output, dataset, store_url, may_read_tiles=False)
    assert client is not None  # no tiles are asked for
    store = client.store
    summary: dict[str, Any] = {
        "dataset": client.dataset
        and {"version": client.dataset.version, "variant": client.dataset.variant},
        "store": client.url,
        "years": client.years,
        "zones": store.zone_numbers,
        "bands": client.n_bands,
        "depths": list(client.depths),
        "model": client.model_version,
        "build_version": client.build_version,
    }
    if output.verbose:
        zones = [store.zone(number) for number in store.zone_numbers]
        summary["zone_grids"] = [
            {
                "zone": zone.number,
                "crs": zone.grid.crs_name,
                "height": zone.grid.height,
                "width": zone.grid.width,
                "transform": zone.grid.transform,
                "years": zone.years,
            }
            for zone in zones
        ]
    return summary


def _catalogue(asked: DatasetOptions) -> list[dict[str, Any]]:
    from geotessera.access.cell_store import store_location

    return [
        {
            "version": dataset.version,
            "variant": dataset.variant,
            "default": dataset.variant == default_variant(dataset.version),
            "description": dataset.description,
            **{fmt: dataset.location(fmt) for fmt in FORMATS},
            "store_url": store_location(dataset.version, dataset.variant, asked.base_url),
        }
        for dataset in DATASETS
    ]


def _summary(dataset: DatasetOptions, version: str, variant: str) -> dict[str, Any]:
    from geotessera.access.tile_cache import tiles_cache
    from geotessera.remote.lru import FileCache

    registry = dataset.client().registry
    cache = tiles_cache(registry.cache_dir)
    used = FileCache(cache, 0).usage()
    counts = registry.get_tile_counts_by_year()
    return {
        "dataset": {"version": version, "variant": variant},
        "years": registry.get_available_years(),
        "tile_count": sum(counts.values()),
        "tiles_by_year": counts,
        "landmasks": registry.get_landmask_count(),
        "registry": registry.manifest_path,
        "tile_cache": {"path": cache, "bytes": used.bytes, "tiles": used.entries},
    }


def _in_words(cache: dict[str, Any]) -> str:
    if not cache["tiles"]:
        return "empty"
    return f"{cache['tiles']:,} tiles, {format_bytes(cache['bytes'])}, in {cache['path']}"


# --- On disk -----------------------------------------------------------------------------


def _local(output: Output, path: Path) -> None:
    from geotessera.cli.inspect import inspect_path

    if not path.exists():
        raise InputError(f"--tiles: there is no file or directory {path}")
    found, problems = inspect_path(path)
    for problem in problems:
        output.note(f"Warning: {problem}")
    if not found:
        raise InputError(
            f"No tiles found in {path}: expected GeoTIFFs (*.tif, *.tiff) or NPY tiles "
            "(global_0.1_degree_representation/YEAR/grid_LON_LAT/grid_LON_LAT.npy)"
        )
    summary = _local_summary(found)
    output.pairs(
        {
            "Total tiles": summary["tile_count"],
            "Format": " and ".join(fmt.upper() for fmt in summary["formats"]),
            "Years": ", ".join(map(str, summary["years"])) or "unknown",
            "Datasets": ", ".join(summary["datasets"]) or "unknown",
            "CRS": ", ".join(summary["crs"]),
            "Bands": ", ".join(f"{bands} ({n})" for bands, n in summary["band_counts"].items()),
            "Longitude": "{0:.6f} to {2:.6f}".format(*summary["bounds"]),
            "Latitude": "{1:.6f} to {3:.6f}".format(*summary["bounds"]),
        },
        title=f"Tiles in {path}",
    )
    if output.verbose:
        rows = [
            (
                one.path.name,
                "-" if one.lon is None else f"{one.lon:.2f}, {one.lat:.2f}",
                one.year or "-",
                one.bands,
                f"{one.height} × {one.width}",
                one.crs,
            )
            for one in found[:SHOWN_TILES]
        ]
        output.table(("File", "Centre", "Year", "Bands", "Pixels", "CRS"), rows)
        if len(found) > SHOWN_TILES:
            output.say(f"… and {len(found) - SHOWN_TILES} more")
    output.emit({"path": path, **summary, "tiles": to_json(found), "unreadable": problems})


def _local_summary(found: list[LocalRaster]) -> dict[str, Any]:
    from collections import Counter

    boxes = [one.bounds for one in found]
    return {
        "tile_count": len(found),
        "formats": sorted({one.format for one in found}, reverse=True),
        "years": sorted({one.year for one in found if one.year is not None}),
        "datasets": sorted({one.dataset for one in found if one.dataset}),
        "crs": sorted({one.crs for one in found}),
        "band_counts": dict(sorted(Counter(one.bands for one in found).items())),
        "bounds": [
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        ],
    }
