"""Options that several commands share, and what they select."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.datasets import DEFAULT_VERSION, default_variant, normalize_version
from geotessera.errors import InputError

if TYPE_CHECKING:
    from geotessera.core import GeoTessera

__all__ = [
    "BandsText",
    "CacheTiles",
    "Clip",
    "DatasetOptions",
    "Georeference",
    "GeoreferenceOption",
    "Jobs",
    "Json",
    "Resampling",
    "Resolution",
    "Verbose",
    "Year",
    "limit_gdal_cache",
    "parse_bands",
]


class Resampling(StrEnum):
    """How pixels between pixels are made."""

    nearest = "nearest"
    bilinear = "bilinear"


class Georeference(StrEnum):
    """Where tiles are; see `geotessera.sources.landmask.read_georeference`."""

    snapped = "snapped"
    landmask = "landmask"


def limit_gdal_cache() -> None:
    """Let GDAL keep 64 MB of blocks; by default it takes a twentieth of the memory."""
    os.environ.setdefault("GDAL_CACHEMAX", "64")


_DATASET = "Dataset"

Year = Annotated[int, typer.Option("--year", help="Year of the embeddings.")]
BandsText = Annotated[
    str | None,
    typer.Option(
        "--bands", metavar="I,J,…", help="Zero-based bands, in this order.", show_default="all"
    ),
]
Resolution = Annotated[
    float | None,
    typer.Option(help="Side of a pixel in units of the CRS; about the tiles' 10 m."),
]
Clip = Annotated[
    bool, typer.Option("--clip", help="Leave pixels outside the region's outline empty.")
]
GeoreferenceOption = Annotated[
    Georeference,
    typer.Option(
        "--georeference",
        help="Tiles on the 10 m grid that they were made on, or where their landmask says.",
    ),
]
_Version = Annotated[
    str | None,
    typer.Option(
        "--dataset-version",
        help="Version of the dataset, such as v2.",
        show_default=f"{DEFAULT_VERSION}, or that of a directory to verify",
        rich_help_panel=_DATASET,
    ),
]
_Variant = Annotated[
    str | None,
    typer.Option(
        "--dataset-variant",
        help="Variant of the dataset; `geotessera info` lists them.",
        show_default="the version's first that is published as what is read: tiles or a store",
        rich_help_panel=_DATASET,
    ),
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Mirror to read from: http(s)://, file:// or a path.",
        show_default="GEOTESSERA_BASE_URL, else the public server",
        rich_help_panel=_DATASET,
    ),
]
_CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        help="Where registries are cached, and what is read of stores.",
        show_default="geotessera in the user's cache directory, for registries",
        rich_help_panel=_DATASET,
    ),
]
_RegistryDir = Annotated[
    Path | None,
    typer.Option(
        "--registry-dir",
        help="Directory with a local manifest.parquet or registry.parquet, and landmasks.parquet.",
        rich_help_panel=_DATASET,
    ),
]
_Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Use cached registries and local tiles only.", rich_help_panel=_DATASET
    ),
]
CacheTiles = Annotated[
    str | None,
    typer.Option(
        "--cache-tiles",
        metavar="SIZE",
        help="Keep whole tiles in the cache for later runs, up to this size, such as 10GB; what "
        "was not used for longest goes first.",
        show_default="GEOTESSERA_CACHE_TILES, else none are kept",
        rich_help_panel=_DATASET,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        help="Connections at once, 1 to 256.",
        show_default="GEOTESSERA_JOBS, else 8",
        rich_help_panel=_DATASET,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks of errors.")
]


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Which dataset, from where: the options every reading command has.

    `version` and `variant` are None where they were not given.
    """

    version: _Version = None
    variant: _Variant = None
    base_url: _BaseUrl = None
    cache_dir: _CacheDir = None
    registry_dir: _RegistryDir = None
    offline: _Offline = False

    @property
    def identity(self) -> tuple[str, str]:
        """Version, normalised, and variant of tiles; what was not given by default."""
        return self.identity_of("npy")

    def identity_of(self, fmt: str) -> tuple[str, str]:
        """Return version, normalised, and variant; what was not given by a format's default.

        Parameters
        ----------
        fmt : {"npy", "zarr", "icechunk", "stream"}
            As `geotessera.datasets.default_variant` takes it.
        """
        version = normalize_version(self.version or DEFAULT_VERSION)
        return version, self.variant or default_variant(version, fmt)

    def client(self, embeddings_dir: Path | None = None, **more: Any) -> GeoTessera:
        """Open the dataset.

        Parameters
        ----------
        embeddings_dir : Path, optional
            Where tiles are or go.
        **more
            Further keywords of `geotessera.GeoTessera`.
        """
        from geotessera import cli

        if self.registry_dir is not None and not self.registry_dir.is_dir():
            raise InputError(f"--registry-dir: there is no directory {self.registry_dir}")
        # Through the package's name, where tests and scripts replace it.
        client: GeoTessera = cli.GeoTessera(
            dataset_version=self.version or DEFAULT_VERSION,
            dataset_variant=self.variant,
            cache_dir=self.cache_dir,
            embeddings_dir=embeddings_dir,
            registry_dir=self.registry_dir,
            base_url=self.base_url,
            offline=self.offline,
            **more,
        )
        return client


def parse_bands(text: str | None) -> list[int] | None:
    """Return the bands of a comma-separated text, or None for all.

    Raises
    ------
    InputError
        (a `ValueError`) if the text is not a list of whole numbers from 0 up.
    """
    if text is None:
        return None
    try:
        bands = [int(part) for part in text.split(",")]
    except ValueError:
        bands = []
    if not bands or min(bands) < 0:
        raise InputError(
            f"--bands {text!r} is not a list of zero-based bands; an example: --bands 0,1,2"
        )
    return bands
