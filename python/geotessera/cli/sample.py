"""`geotessera sample`: the embedding at every point of a file."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import UsageError, describe
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    BandsText,
    CacheTiles,
    DatasetOptions,
    Json,
    Verbose,
    parse_bands,
)
from geotessera.cli.output import Output, format_bytes
from geotessera.cli.sources import SourceOptions
from geotessera.errors import InputError, RegistryError, TileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.cli.rows import Rows
    from geotessera.sources import RasterSource
    from geotessera.types import TileId

__all__ = ["sample"]

SUFFIXES = (".parquet", ".csv", ".npz")


class _Method(StrEnum):
    nearest = "nearest"
    bilinear = "bilinear"


class _Fetch(StrEnum):
    auto = "auto"
    ranges = "ranges"
    tiles = "tiles"


class _Errors(StrEnum):
    raise_ = "raise"
    coerce = "coerce"


@takes_groups
def sample(
    points: Annotated[
        Path,
        typer.Argument(
            metavar="POINTS",
            help="GeoJSON, GeoPackage, Shapefile or GeoParquet with points in any CRS, or CSV "
            "or Parquet with lon and lat columns.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Result: .parquet (GeoParquet), .csv or .npz; replaced if it exists.",
        ),
    ],
    year: Annotated[
        list[int] | None,
        typer.Option(
            "--year", help="Year; may be repeated: a row per point and year.", show_default="2024"
        ),
    ] = None,
    method: Annotated[
        _Method,
        typer.Option(
            "--method",
            "--resampling",
            help="The pixel under the point, or a weighted mean of four.",
        ),
    ] = _Method.nearest,
    bands: BandsText = None,
    mask_water: Annotated[
        bool, typer.Option("--mask-water", help="No values on water, by the landmask.")
    ] = False,
    errors: Annotated[
        _Errors,
        typer.Option(help="What a tile that cannot be had does: stop, or leave empty rows."),
    ] = _Errors.raise_,
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles",
            "--embeddings-dir",
            help="Directory of tiles to read, and to keep what is fetched; without it what "
            "is fetched is removed at the end.",
        ),
    ] = None,
    fetch: Annotated[
        _Fetch,
        typer.Option(
            help="What is fetched of tiles that are not local: the bytes of the pixels, whole "
            "verified tiles, or what is cheaper (with --tiles or a cache that has room for them: "
            "tiles, which are kept)."
        ),
    ] = _Fetch.auto,
    cache_tiles: CacheTiles = None,
    dataset: DatasetOptions = DatasetOptions(),
    pixels: SourceOptions = SourceOptions(),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Sample embeddings at points.

    The result keeps the attributes of the points and adds the columns tessera_0,
    tessera_1, …, status (valid, water, nodata, outside, no_tile or failed), tile and,
    with several years, year. Values are empty where the status is not valid.
    """
    output = Output(as_json=as_json, verbose=verbose)
    years = list(dict.fromkeys(year or [2024]))
    chosen = parse_bands(bands)
    _check(out, chosen, cache_tiles)
    options = pixels.client_options(dataset, tiles=tiles)
    if cache_tiles is not None:
        options.setdefault("cache_tiles", cache_tiles)
    began = time.perf_counter()
    from geotessera.cli.rows import check_attributes, write_rows
    from geotessera.points import read_points_file

    array, frame = read_points_file(points)
    check_attributes(frame, out)
    output.detail(f"{len(array):,} points in {points}")
    rows, dataset_read = _sample(
        output,
        dataset,
        frame,
        array,
        years,
        tiles,
        options,
        bands=chosen,
        method=method.value,
        mask_water=mask_water,
        errors=errors.value,
        fetch=fetch.value,
    )
    renamed = write_rows(rows, out)
    for old, new in renamed.items():
        output.note(f"Warning: the points' column {old!r} is kept as {new!r}")
    _conclude(output, rows, out, dataset_read, time.perf_counter() - began)


def _check(out: Path, bands: Sequence[int] | None, cache_tiles: str | None) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {out}: expected a name that ends in {', '.join(SUFFIXES)}")
    if bands is not None and len(set(bands)) != len(bands):
        raise InputError(f"--bands {bands} names a band twice: a table's columns differ")
    from geotessera.remote.partfile import check_target
    from geotessera.sizes import parse_size

    if cache_tiles is not None:
        parse_size(cache_tiles, "--cache-tiles")
    check_target(out)


def _sample(
    output: Output,
    dataset: DatasetOptions,
    frame: Any,
    array: Any,
    years: Sequence[int],
    tiles: Path | None,
    options: dict[str, Any],
    **how: Any,
) -> tuple[Rows, dict[str, Any]]:
    from geotessera.cli.rows import Rows

    if tiles is not None and dataset.offline and not tiles.is_dir():
        raise InputError(f"--tiles: there is no directory {tiles}")
    try:
        client: Any = dataset.client(tiles, **options)
    except RegistryError as error:
        if tiles is None or not dataset.offline:
            raise
        output.note(f"Warning: {describe(error)}: only the tiles in {tiles} are known")
        client = _LocalTiles(tiles, dataset)
    _warn_of_years(output, client, years)
    values, status = [], []
    for year in years:
        with output.progress(f"Sampling {year}") as progress:
            found, why = client.sample_embeddings_at_points(
                array,
                year,
                auto_download=not dataset.offline,
                progress_callback=progress,
                return_status=True,
                **how,
            )
        values.append(found)
        status.append(why)
    rows = Rows(frame, array, years, _of_one_width(values), status, how["bands"])
    return rows, _identity(client)


def _of_one_width(values: list[Any]) -> list[Any]:
    """Return a year's rows each; a year of which nothing was found had to guess the bands."""
    import numpy as np

    found = [one for one in values if np.isfinite(one).any()]
    shape = found[0].shape if found else values[0].shape
    return [one if one.shape == shape else np.full(shape, np.nan, np.float32) for one in values]


def _warn_of_years(output: Output, client: Any, years: Sequence[int]) -> None:
    """Say which years there are, if others are asked for: their rows will be empty."""
    registry = getattr(client, "registry", None)
    there = [] if registry is None else registry.get_available_years()
    if there and (absent := [year for year in years if year not in there]):
        output.note(
            f"Warning: there is nothing of {', '.join(map(str, absent))}: the dataset has "
            f"{', '.join(map(str, there))}"
        )


def _identity(client: Any) -> dict[str, Any]:
    """Return which dataset was read, and from where."""
    registry = getattr(client, "registry", None)
    if registry is None:
        version, variant = client.dataset or (None, None)
        return {"version": version, "variant": variant, "source": "tiles"}
    store = client.source == "zarr"
    return {
        "version": registry.version.removeprefix("v"),
        "variant": registry.variant,
        "source": registry.store.location if store else "tiles",
    }


class _LocalTiles:
    """Tiles in a directory, without a registry: in the field there may be nothing else."""

    def __init__(self, directory: Path, asked: DatasetOptions) -> None:
        from geotessera.sidecar import check_dataset_dir, recorded_dataset

        self._directory = directory
        self._dataset = recorded_dataset(directory)
        if self._dataset is not None:
            version, variant = self._dataset
            check_dataset_dir(directory, asked.version or version, asked.variant or variant)
        elif asked.version is not None or asked.variant is not None:
            self._dataset = asked.identity

    @property
    def dataset(self) -> tuple[str, str] | None:
        """Version and variant of the tiles, where known."""
        return self._dataset

    def _find(self, tile: TileId) -> RasterSource | None:
        from geotessera.sources import GeoTiff, find_tile
        from geotessera.sources.local import stands_for

        found = find_tile(self._directory, tile, self._dataset)
        if found is None:
            return None
        if isinstance(found, GeoTiff) and self._dataset is not None:
            return found.open() if stands_for(found, tile, self._dataset, None) else None
        source = found.open()
        if source.provenance.version and source.provenance.variant:
            # Nobody says what the directory holds: the first tile that does speaks for all.
            self._dataset = source.provenance.version, source.provenance.variant
        return source

    def sample_embeddings_at_points(
        self, points: Any, year: int, *, progress_callback: Any, errors: str, **how: Any
    ) -> tuple[Any, Any]:
        """Sample as `GeoTessera` does; a tile that is not there is ``NO_TILE``."""
        from geotessera.sampling import group_points, sample_tiles

        sampled = sample_tiles(
            group_points(points),
            year,
            self._find,
            progress=progress_callback,
            **{name: how[name] for name in ("method", "bands", "mask_water")},
        )
        for tile, error in sampled.failures.items():
            if errors == "raise":
                raise TileError(f"tile {tile} could not be sampled: {error}") from error
        return sampled.values, sampled.status


def _conclude(
    output: Output, rows: Rows, out: Path, dataset: dict[str, Any], seconds: float
) -> None:
    counts = rows.status_counts()
    total = sum(counts.values())
    if dataset["version"] is not None:
        output.say(" dataset: {version}-{variant} ({source})".format(**dataset))
    for name, count in counts.items():
        output.say(f"{name:>8}: {count:,} ({100 * count / total:.1f} %)")
    output.say(
        f"SUCCESS: {total:,} rows × {rows.band_count} bands in {seconds:.1f} s: {out} "
        f"({format_bytes(out.stat().st_size)})"
    )
    output.emit(
        {
            "output": out.absolute(),
            "dataset": dataset,
            "points": len(rows.points),
            "years": rows.years,
            "rows": total,
            "bands": rows.band_count,
            "status": counts,
            "bytes": out.stat().st_size,
            "seconds": round(seconds, 3),
        }
    )
