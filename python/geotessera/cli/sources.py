"""Where a command's pixels come from: tiles, or the Zarr store of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import UsageError
from geotessera.datasets import (
    BASE_URL,
    DEFAULT_VERSION,
    base_url_from,
    find_dataset,
    normalize_version,
    variant_note,
    version_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.cli.options import DatasetOptions
    from geotessera.cli.output import Output
    from geotessera.datasets import Dataset
    from geotessera.store import GeoTesseraZarr

__all__ = [
    "CacheSize",
    "MapSourceOptions",
    "Source",
    "SourceOptions",
    "StoreUrl",
    "check_source",
    "choose_store",
    "name_of",
    "reads_store",
]

_DATASET = "Dataset"


def _source(auto: str) -> Any:
    return typer.Option(
        "--source",
        metavar="auto|zarr|tiles",
        help=f"Read the dataset's Zarr store, or its tiles. auto: {auto}.",
        rich_help_panel=_DATASET,
    )


Source = Annotated[str, _source("tiles, if the dataset has any")]
_MapSource = Annotated[
    str, _source("the store, unless a directory of tiles is named or there is no store")
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store-url",
        metavar="URL",
        help="Zarr store to read: https://, http://, s3:// or a path.",
        rich_help_panel=_DATASET,
    ),
]
CacheSize = Annotated[
    str | None,
    typer.Option(
        "--cache-size",
        metavar="SIZE",
        help="Keep what is read of a store in the cache for later runs, up to this size, such "
        "as 10GB; --cache-dir alone keeps up to 20GB.",
        rich_help_panel=_DATASET,
    ),
]


def check_source(source: str) -> None:
    """Raise `UsageError` for a source that there is none of."""
    if source not in ("auto", "zarr", "tiles"):
        raise UsageError(f"--source {source!r}: expected auto, zarr or tiles")


def reads_store(source: str, dataset: DatasetOptions, store_url: str | None) -> bool:
    """Return whether a store is to be read: one is named, or the dataset has no tiles.

    Raises
    ------
    UsageError
        For a source that there is none of.
    """
    check_source(source)
    if source != "auto":
        return source == "zarr"
    known = find_dataset(*dataset.identity)
    return store_url is not None or (known is not None and known.npy is None)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where pixels come from: the options of a command that reads tiles or a store."""

    source: Source = "auto"
    store_url: StoreUrl = None
    cache_size: CacheSize = None

    def client_options(
        self, dataset: DatasetOptions, *, tiles: Path | None = None
    ) -> dict[str, Any]:
        """Return the keywords of `geotessera.GeoTessera` that choose where pixels come from.

        With ``auto`` a store is read if one is named, and where the dataset has no tiles.

        Parameters
        ----------
        dataset : DatasetOptions
            Which dataset.
        tiles : Path, optional
            Directory of tiles that was named; it belongs to tiles.

        Raises
        ------
        UsageError
            For options that do not go together.
        """
        if not reads_store(self.source, dataset, self.store_url):
            of_stores = {"--store-url": self.store_url, "--cache-size": self.cache_size}
            for name, value in of_stores.items():
                if value is not None:
                    raise UsageError(f"{name} belongs to Zarr stores: leave out --source tiles")
            return {}
        of_tiles = {"--registry-dir": dataset.registry_dir, "a directory of tiles": tiles}
        for name, path in of_tiles.items():
            if path is not None:
                raise UsageError(f"{name} belongs to tiles: leave it out, or use --source tiles")
        options: dict[str, Any] = {"source": "zarr", "store_url": self.store_url}
        if self.cache_size is not None:
            options["cache_tiles"] = self.cache_size
        return options


@dataclass(frozen=True, slots=True)
class MapSourceOptions(SourceOptions):
    """Where pixels come from: the options of a command that reads a store if there is one."""

    source: _MapSource = "auto"


@dataclass(frozen=True, slots=True)
class _Place:
    """A store, and what it is known to hold."""

    location: str
    dataset: Dataset | None
    on_mirror: bool


def choose_store(
    output: Output,
    dataset: DatasetOptions,
    store_url: str | None,
    *,
    may_read_tiles: bool,
    cache_size: str | None = None,
    jobs: int | None = None,
) -> GeoTesseraZarr | None:
    """Open the Zarr store that is to be read; return None if it is to be tiles.

    Parameters
    ----------
    output : Output
        Is told why tiles are read.
    dataset : DatasetOptions
        Which dataset; a store that is named wins over it.
    store_url : str, optional
        The store.
    may_read_tiles : bool
        Whether a mirror that has no store is read by its tiles: nobody named a source.
    cache_size, jobs
        Of the reader of the store.

    Raises
    ------
    InputError
        (a `ValueError`) for a dataset without a store.
    FileNotFoundError, FormatError
        If there is no store.
    """
    from geotessera.remote.objects import open_reader
    from geotessera.store import GeoTesseraZarr

    place = _place(dataset, store_url)
    given = {
        "cache_dir": _cache_dir(dataset, cache_size),
        "cache_max_size": cache_size,
        "jobs": jobs,
        "offline": dataset.offline or None,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if may_read_tiles and place.on_mirror and _has_tiles(dataset):
        try:
            there = open_reader(place.location, **options).get("zarr.json") is not None
        except FileNotFoundError:
            there = False
        if not there:
            output.note(
                f"There is no store {place.location}: tiles are read "
                "(--source tiles or zarr says which is wanted)"
            )
            return None
    version = normalize_version(dataset.version or DEFAULT_VERSION)
    if store_url is None and dataset.variant is None and (note := variant_note(version, "stream")):
        output.note(f"Warning: {note}")
    client = GeoTesseraZarr(place.location, **options)
    if client.dataset is None:
        # A mirror has what it is asked for; of another store only who names it knows.
        client.dataset = place.dataset
    return client


def _place(dataset: DatasetOptions, store_url: str | None) -> _Place:
    from geotessera.access.cell_store import store_location

    if store_url is not None:
        named = find_dataset(*dataset.identity_of("stream")) if dataset.variant else None
        return _Place(store_url, named, on_mirror=False)
    version, variant = dataset.identity_of("stream")
    location = store_location(version, variant, dataset.base_url)
    on_mirror = base_url_from(dataset.base_url) != BASE_URL
    return _Place(location, find_dataset(version, variant), on_mirror)


def _has_tiles(dataset: DatasetOptions) -> bool:
    known = find_dataset(*dataset.identity)
    return known is None or known.npy is not None


def _cache_dir(dataset: DatasetOptions, cache_size: str | None) -> Path | None:
    if dataset.cache_dir is None and (dataset.offline or cache_size is not None):
        from geotessera.remote.transfer.refresh import cache_base

        return cache_base()
    return dataset.cache_dir


def name_of(dataset: Dataset | None) -> str:
    """Return a dataset in words."""
    return "unknown" if dataset is None else f"{version_path(dataset.version)} ({dataset.variant})"
