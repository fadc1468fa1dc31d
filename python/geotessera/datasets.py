"""The catalogue: which datasets exist, what they are called, and where their files are.

Every location that the package knows is in this module; a mirror replaces only the base.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geotessera.errors import InputError, NotPublishedError
from geotessera.grid import tile_to_grid_name

__all__ = [
    "BASE_URL",
    "BASE_URL_ENV",
    "DATASETS",
    "DEFAULT_VARIANT",
    "DEFAULT_VERSION",
    "EMBEDDINGS_DIR_NAME",
    "FORMATS",
    "LANDMASKS_DIR_NAME",
    "STREAM_FORMATS",
    "Dataset",
    "Mirror",
    "MirrorLayout",
    "base_url_from",
    "canonical_store_location",
    "check_variant",
    "dataset_for_location",
    "dataset_from_path",
    "dataset_from_tags",
    "dataset_label",
    "dataset_path",
    "dataset_tags",
    "default_variant",
    "find_dataset",
    "icechunk_dataset",
    "is_icechunk_location",
    "known_variants",
    "normalize_version",
    "published_datasets",
    "tile_to_embedding_paths",
    "tile_to_geotiff_path",
    "tile_to_landmask_filename",
    "variant_note",
    "version_path",
    "zarr_store_url",
]

DEFAULT_VERSION = "v1.1"
DEFAULT_VARIANT = "vultr"
FORMATS = ("npy", "zarr", "icechunk")
STREAM_FORMATS = ("zarr", "icechunk")

EMBEDDINGS_DIR_NAME = "global_0.1_degree_representation"
LANDMASKS_DIR_NAME = "global_0.1_degree_tiff_all"

TESSERA_MIRROR_ENDPOINT = "https://data.source.coop"
TESSERA_MIRROR_REPO = "tessera/tessera"
TESSERA_MIRROR_S3_BUCKET = "us-west-2.opendata.source.coop"
TESSERA_MIRROR_REGION = "us-west-2"
TESSERA_MIRROR_URL = f"{TESSERA_MIRROR_ENDPOINT}/{TESSERA_MIRROR_REPO}"
TESSERA_MIRROR_S3_HTTP_URL = (
    f"https://s3.{TESSERA_MIRROR_REGION}.amazonaws.com/"
    f"{TESSERA_MIRROR_S3_BUCKET}/{TESSERA_MIRROR_REPO}"
)
TESSERA_NPY_MIRROR_URL = f"{TESSERA_MIRROR_URL}/npy"
TESSERA_LANDMASKS_MIRROR_URL = f"{TESSERA_MIRROR_URL}/landmasks"

BASE_URL = TESSERA_MIRROR_URL
BASE_URL_ENV = "GEOTESSERA_BASE_URL"
RETIRED_BASE_URL_ENV = "TESSERA_BASE_URL"

type Format = Literal["npy", "zarr", "icechunk", "stream"]


@dataclass(frozen=True)
class Dataset:
    """A published run of a TESSERA model.

    Parameters
    ----------
    version, variant : str
        Normalised version (``"1.1"``) and the name of the run.
    description : str
        For people.
    npy, zarr : str, optional
        Directory below ``npy/`` and ``zarr/`` of the base URL.
    icechunk, tile_registry : str, optional
        URLs of an Icechunk repository and its tile registry.
    """

    version: str
    variant: str
    description: str = ""
    npy: str | None = None
    zarr: str | None = None
    icechunk: str | None = None
    tile_registry: str | None = None

    @property
    def name(self) -> str:
        """Version and variant, such as ``1.1-cambridge``."""
        return f"{self.version}-{self.variant}"

    def location(self, fmt: str) -> str | None:
        """Return the directory or URL of one of `FORMATS`, or None."""
        if fmt not in FORMATS:
            raise InputError(f"unknown format {fmt!r}: expected one of {', '.join(FORMATS)}")
        location: str | None = getattr(self, fmt)
        return location

    def formats(self) -> list[str]:
        """Return the formats in which the dataset is published."""
        return [fmt for fmt in FORMATS if self.location(fmt)]


# Order matters: the first row of a version is its default variant, the first row with a
# format is that format's default.
DATASETS = (
    Dataset("1.0", "vultr", "legacy model", npy="v1", zarr="v1"),
    Dataset(
        "1.1",
        "dclimate",
        "complete global run",
        zarr="v1.1-dclimate",
        icechunk="s3://tessera-embeddings/v1.1/dclimate.icechunk",
        tile_registry="s3://tessera-embeddings/v1.1/dclimate.registry/parts",
    ),
    Dataset("1.1", "cambridge", "Cambridge test run", npy="v1.1-cam", zarr="v1.1"),
    Dataset("2.0", "2B-L~beta1", "v2 beta", npy="v2-2B-L~beta1", zarr="v2-2B-L~beta1"),
    Dataset("2.0", "2B-L~beta2", "v2 beta", npy="v2-2B-L~beta2", zarr="v2-2B-L~beta2"),
)

_VERSION = re.compile(r"v?(\d{1,6})(?:\.(\d{1,6})(?:\..*)?)?", re.ASCII)
_VARIANT = re.compile(r"[A-Za-z0-9._~-]{1,100}", re.ASCII)
_DATASET_DIR = re.compile(r"v(\d+(?:\.\d+)?)(?:-(.+))?", re.ASCII)


def normalize_version(version: str) -> str:
    """Return ``major.minor`` of a version such as ``v1``, ``1.1`` or ``v1.1.3``."""
    match = _VERSION.fullmatch(str(version).strip())
    if match is None:
        known = ", ".join(sorted({version_path(dataset.version) for dataset in DATASETS}))
        raise InputError(f"unknown dataset version {version!r}: expected one like {known}")
    return f"{int(match[1])}.{int(match[2] or 0)}"


def check_variant(variant: object) -> str:
    """Return a variant that may be part of a path and a URL; it need not be published.

    Raises
    ------
    InputError
        (a `ValueError`) for anything but up to 100 letters, digits and ``.``, ``_``, ``~``, ``-``.
    """
    if not isinstance(variant, str) or not _VARIANT.fullmatch(variant) or not variant.strip("."):
        known = ", ".join(dict.fromkeys(dataset.variant for dataset in DATASETS))
        raise InputError(f"{variant!r:.100} is no variant of a dataset: expected one like {known}")
    return variant


def version_path(version: str) -> str:
    """Return a version as paths spell it: ``v1`` for 1.0, ``v1.1`` for 1.1."""
    major, minor = normalize_version(version).split(".")
    return f"v{major}" if minor == "0" else f"v{major}.{minor}"


def dataset_label(version: str, variant: str) -> str:
    """Return what people are told of a dataset: ``v1.1 cambridge``."""
    return f"{version_path(version)} {variant}"


def find_dataset(version_norm: str, variant: str) -> Dataset | None:
    """Return the catalogue's row for a normalised version and a variant, or None."""
    for dataset in DATASETS:
        if (dataset.version, dataset.variant) == (version_norm, variant):
            return dataset
    return None


def _of_version(version_norm: str, fmt: str | None = None) -> list[Dataset]:
    if fmt is not None and fmt not in (*FORMATS, "stream"):
        raise InputError(f"unknown format {fmt!r}: expected one of {', '.join(FORMATS)}, stream")
    wanted = STREAM_FORMATS if fmt == "stream" else (fmt,) if fmt else ()
    return [
        dataset
        for dataset in DATASETS
        if dataset.version == version_norm
        and (not wanted or any(dataset.location(one) for one in wanted))
    ]


def default_variant(version_norm: str, fmt: str | None = None) -> str:
    """Return a version's default variant, or its default among those with a format.

    An unknown version yields `DEFAULT_VARIANT`; a version without the format, its first.
    """
    rows = _of_version(version_norm, fmt) or _of_version(version_norm)
    return rows[0].variant if rows else DEFAULT_VARIANT


def variant_note(version_norm: str, fmt: str) -> str | None:
    """Return a warning if a format's default variant is not the version's, else None."""
    chosen, usual = default_variant(version_norm, fmt), default_variant(version_norm)
    if chosen == usual:
        return None
    return (
        f"{fmt} reads dataset {version_norm}-{chosen}, while the default variant of "
        f"{version_path(version_norm)} is {usual}; embeddings of the two do not interoperate. "
        f"Pass dataset_variant={chosen!r} (--dataset-variant {chosen}) to choose it explicitly."
    )


def known_variants(version_norm: str) -> list[str]:
    """Return the variants of a version, the default first."""
    return [dataset.variant for dataset in _of_version(version_norm)]


def published_datasets(fmt: str = "npy") -> list[tuple[str, str, str]]:
    """Return (version, variant, location) of every dataset published in a format."""
    return [
        (dataset.version, dataset.variant, location)
        for dataset in DATASETS
        if (location := dataset.location(fmt))
    ]


def icechunk_dataset(version: str, variant: str | None = None) -> tuple[str, str] | None:
    """Return (repository URL, tile registry URL) of an Icechunk dataset, or None."""
    norm = normalize_version(version)
    dataset = find_dataset(norm, variant or default_variant(norm, "icechunk"))
    if dataset is None or dataset.icechunk is None or dataset.tile_registry is None:
        return None
    return dataset.icechunk, dataset.tile_registry


def dataset_path(version_norm: str, variant: str) -> str:
    """Return the NPY directory name of a dataset.

    Raises
    ------
    NotPublishedError
        (a `ValueError`) if the catalogue knows the pair but it has no NPY tiles.
    """
    if version_norm == "1.0":
        return "v1"
    dataset = find_dataset(version_norm, variant)
    if dataset is None:
        return f"{version_path(version_norm)}-{variant}"
    if dataset.npy is None:
        tiles = ", ".join(row.variant for row in _of_version(version_norm, "npy"))
        hint = f"; {version_path(version_norm)} has them as {tiles}" if tiles else ""
        raise NotPublishedError(f"dataset {dataset.name} is not published as NPY tiles{hint}")
    return dataset.npy


def dataset_from_path(dirname: str) -> tuple[str, str] | None:
    """Return (version, variant) of an NPY or Zarr directory name, or None."""
    for dataset in DATASETS:
        if dataset.npy == dirname:
            return dataset.version, dataset.variant
    match = _DATASET_DIR.fullmatch(dirname)
    if match is None:
        return None
    try:
        norm = normalize_version(match[1])
    except InputError:
        return None
    return norm, match[2] or default_variant(norm, "npy")


def dataset_tags(version: str, variant: str) -> dict[str, str]:
    """Return the GeoTIFF tags that say which dataset a raster comes from."""
    return {
        "TESSERA_DATASET_VERSION": normalize_version(version),
        "TESSERA_DATASET_VERSION_PATH": version_path(version),
        "TESSERA_DATASET_VARIANT": variant,
    }


def dataset_from_tags(tags: dict[str, str]) -> tuple[str, str] | None:
    """Return (version, variant) from GeoTIFF tags, or None where they do not say."""
    version, variant = tags.get("TESSERA_DATASET_VERSION"), tags.get("TESSERA_DATASET_VARIANT")
    if version and variant:
        try:
            return normalize_version(version), variant
        except InputError:
            return None
    dataset = dataset_for_location(tags.get("TESSERA_SOURCE", ""))
    return (dataset.version, dataset.variant) if dataset else None


def zarr_store_url(version: str = DEFAULT_VERSION, variant: str | None = None) -> str:
    """Return the URL of a dataset's Zarr store, or of its Icechunk repository.

    A ``-`` in `version` names the store's directory itself.
    """
    if "-" in version:
        if variant is not None:
            raise InputError(
                f"{version!r} is an explicit store path and takes no variant (found {variant!r})"
            )
        return f"{TESSERA_MIRROR_URL}/zarr/{version}"
    norm = normalize_version(version)
    rows = _of_version(norm)
    if not rows and variant is None:
        return f"{TESSERA_MIRROR_URL}/zarr/{version_path(version)}"
    name = variant or default_variant(norm, "stream")
    dataset = find_dataset(norm, name)
    if dataset is None:
        return f"{TESSERA_MIRROR_URL}/zarr/{version_path(version)}-{name}"
    if dataset.zarr is not None:
        return f"{TESSERA_MIRROR_URL}/zarr/{dataset.zarr}"
    if dataset.icechunk is not None:
        return dataset.icechunk
    raise NotPublishedError(f"dataset {dataset.name} is not published as a Zarr store")


def canonical_store_location(location: str) -> str:
    """Return one spelling of a store's URL: no trailing slash, the gateway's host."""
    location = location.rstrip("/")
    if location.startswith(TESSERA_MIRROR_S3_HTTP_URL + "/"):
        return TESSERA_MIRROR_URL + location.removeprefix(TESSERA_MIRROR_S3_HTTP_URL)
    return location


def is_icechunk_location(location: object) -> bool:
    """Return whether a location is that of an Icechunk repository: it ends in ``.icechunk``."""
    if not isinstance(location, str | os.PathLike):
        return False
    return os.fspath(location).rstrip("/").endswith(".icechunk")


def dataset_for_location(location: object) -> Dataset | None:
    """Return the published dataset whose store is at a location, or None."""
    if not isinstance(location, str | Path):
        return None
    wanted = canonical_store_location(str(location))
    for dataset in DATASETS:
        zarr = f"{TESSERA_MIRROR_URL}/zarr/{dataset.zarr}" if dataset.zarr else None
        if wanted and wanted in (zarr, dataset.icechunk):
            return dataset
    return None


# --- Paths of one tile, the same on every server and disk -------------------------------


def tile_to_embedding_paths(lon: float, lat: float, year: int) -> tuple[Path, Path]:
    """Return the relative paths of a tile's embedding and scales files."""
    name = tile_to_grid_name(lon, lat)
    directory = Path(str(year)) / name
    return directory / f"{name}.npy", directory / f"{name}_scales.npy"


def tile_to_geotiff_path(lon: float, lat: float, year: int) -> Path:
    """Return the relative path of a tile's exported GeoTIFF."""
    name = tile_to_grid_name(lon, lat)
    return Path(str(year)) / name / f"{name}_{year}.tiff"


def tile_to_landmask_filename(lon: float, lat: float) -> str:
    """Return the file name of a tile's landmask."""
    return f"{tile_to_grid_name(lon, lat)}.tiff"


# --- Mirrors -----------------------------------------------------------------------------

type MirrorLayout = Literal["B", "A", "A-simple"]
"""How a mirror's tree is laid out.

``"B"``: ``npy/{dataset}/…`` and ``landmasks/{version}/…`` with ``manifest.parquet``.
``"A"``: ``{version}/global_0.1_degree_representation/…`` with ``registry.parquet``.
``"A-simple"``: ``{version}/{year}/…`` and ``{version}/landmasks/…`` with ``registry.parquet``.
"""


@dataclass(frozen=True)
class Mirror:
    """A dataset on one server or disk.

    Parameters
    ----------
    base : str
        ``http(s)://`` or ``file://`` URL, or a plain path, without a trailing slash.
    version, variant : str
        Normalised version and variant.
    layout : {"B", "A", "A-simple"}
        The tree's layout.
    """

    base: str
    version: str
    variant: str
    layout: MirrorLayout = "B"

    @property
    def _root(self) -> str:
        if self.layout == "B":
            return f"{self.base}/npy/{dataset_path(self.version, self.variant)}"
        return f"{self.base}/{version_path(self.version)}"

    @property
    def registry_url(self) -> str:
        """URL of the registry of embeddings."""
        name = "manifest.parquet" if self.layout == "B" else "registry.parquet"
        return f"{self._root}/{name}"

    @property
    def landmasks_registry_url(self) -> str:
        """URL of the registry of landmasks."""
        if self.layout == "B":
            return f"{self.base}/landmasks/{version_path(self.version)}/landmasks.parquet"
        return f"{self._root}/landmasks.parquet"

    def tile_url(self, relative: str | Path) -> str:
        """Return the URL of an embedding or scales file, from its relative path."""
        middle = f"/{EMBEDDINGS_DIR_NAME}" if self.layout == "A" else ""
        return f"{self._root}{middle}/{Path(relative).as_posix()}"

    def landmask_url(self, filename: str) -> str:
        """Return the URL of a landmask, from its file name."""
        if self.layout == "B":
            return f"{self.base}/landmasks/{version_path(self.version)}/{filename}"
        directory = LANDMASKS_DIR_NAME if self.layout == "A" else "landmasks"
        return f"{self._root}/{directory}/{filename}"


def base_url_from(base_url: str | os.PathLike[str] | None) -> str:
    """Return the mirror to use: the argument, else the environment, else the default.

    `GEOTESSERA_BASE_URL` selects a mirror; the retired `TESSERA_BASE_URL` still does,
    with a `DeprecationWarning`.
    """
    value = os.fspath(base_url) if base_url else os.environ.get(BASE_URL_ENV, "")
    if not value and (value := os.environ.get(RETIRED_BASE_URL_ENV, "")):
        warnings.warn(
            f"the environment variable {RETIRED_BASE_URL_ENV} is retired: set {BASE_URL_ENV}",
            DeprecationWarning,
            stacklevel=3,
        )
    if not value:
        return BASE_URL
    scheme, separator, _ = value.partition("://")
    if separator and scheme.lower() not in ("http", "https", "file"):
        raise InputError(
            f"base URL {value!r} has scheme {scheme!r}: "
            "expected http://, https://, file:// or a path"
        )
    return value.rstrip("/") or "/"


def manifest_url(dataset_dir: str) -> str:
    """Return the URL of a dataset's manifest on the default server."""
    return f"{TESSERA_NPY_MIRROR_URL}/{dataset_dir}/manifest.parquet"


def landmasks_parquet_url(version_path: str) -> str:
    """Return the URL of a version's landmask registry on the default server."""
    return f"{TESSERA_LANDMASKS_MIRROR_URL}/{version_path}/landmasks.parquet"


def embedding_url(dataset_dir: str, path: str | Path) -> str:
    """Return the URL of an embedding or scales file on the default server."""
    return f"{TESSERA_NPY_MIRROR_URL}/{dataset_dir}/{Path(path).as_posix()}"


def landmask_url(version_path: str, filename: str) -> str:
    """Return the URL of a landmask on the default server."""
    return f"{TESSERA_LANDMASKS_MIRROR_URL}/{version_path}/{filename}"
