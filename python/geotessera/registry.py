"""What exists: the registry of a dataset's tiles, and where each file of a tile is.

`Registry` answers from a memory-mapped index (`geotessera.index`). The names that earlier
releases kept in this module are still found here.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cells import (
    CellRange,
    cell_of_centre,
    cells_around_box,
    cells_of_box,
    centre_of_column,
    centre_of_row,
    check_box,
)
from geotessera.datasets import (
    BASE_URL,
    DATASETS,
    DEFAULT_VARIANT,
    DEFAULT_VERSION,
    EMBEDDINGS_DIR_NAME,
    FORMATS,
    LANDMASKS_DIR_NAME,
    STREAM_FORMATS,
    TESSERA_LANDMASKS_MIRROR_URL,
    TESSERA_MIRROR_ENDPOINT,
    TESSERA_MIRROR_REGION,
    TESSERA_MIRROR_REPO,
    TESSERA_MIRROR_S3_BUCKET,
    TESSERA_MIRROR_S3_HTTP_URL,
    TESSERA_MIRROR_URL,
    TESSERA_NPY_MIRROR_URL,
    Dataset,
    Mirror,
    base_url_from,
    canonical_store_location,
    check_variant,
    dataset_for_location,
    dataset_from_path,
    dataset_from_tags,
    dataset_path,
    dataset_tags,
    default_variant,
    embedding_url,
    find_dataset,
    icechunk_dataset,
    known_variants,
    landmask_url,
    landmasks_parquet_url,
    manifest_url,
    normalize_version,
    published_datasets,
    tile_to_embedding_paths,
    tile_to_geotiff_path,
    tile_to_landmask_filename,
    variant_note,
    version_path,
    zarr_store_url,
)
from geotessera.errors import (
    EmptySelectionError,
    GeoTesseraError,
    HTTPStatusError,
    InputError,
    RegistryError,
    UnwritableDestination,
)
from geotessera.grid import (
    BLOCK_SIZE,
    block_from_world,
    coord_to_grid_int,
    parse_grid_name,
    tile_from_world,
    tile_to_bounds,
    tile_to_grid_name,
)
from geotessera.index import WORLD, TileIndex
from geotessera.remote.cache import cache_base
from geotessera.remote.transfer import download_file_to_temp
from geotessera.sidecar import (
    TESSERA_METADATA_FILENAME,
    check_dataset_dir,
    label_dataset_dir,
    recorded_dataset,
    s3_embeddings_subdir,
    write_tessera_metadata,
)
from geotessera.sizes import format_bytes
from geotessera.types import TileId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from geotessera.index import Payload
    from geotessera.parquet import Kind
    from geotessera.registry_files import StrPath
    from geotessera.remote.transfer import FileRequest
    from geotessera.types import ProgressCallback

__all__ = [
    "BLOCK_SIZE",
    "DATASETS",
    "DEFAULT_VARIANT",
    "DEFAULT_VERSION",
    "EMBEDDINGS_DIR_NAME",
    "FORMATS",
    "LANDMASKS_DIR_NAME",
    "STREAM_FORMATS",
    "TESSERA_BASE_URL",
    "TESSERA_LANDMASKS_MIRROR_URL",
    "TESSERA_METADATA_FILENAME",
    "TESSERA_MIRROR_ENDPOINT",
    "TESSERA_MIRROR_REGION",
    "TESSERA_MIRROR_REPO",
    "TESSERA_MIRROR_S3_BUCKET",
    "TESSERA_MIRROR_S3_HTTP_URL",
    "TESSERA_MIRROR_URL",
    "TESSERA_NPY_MIRROR_URL",
    "Dataset",
    "HTTPStatusError",
    "Registry",
    "UnwritableDestination",
    "block_from_world",
    "block_to_embeddings_registry_filename",
    "block_to_landmasks_registry_filename",
    "canonical_store_location",
    "check_dataset_dir",
    "coord_to_grid_int",
    "dataset_for_location",
    "dataset_from_path",
    "dataset_from_tags",
    "dataset_path",
    "dataset_tags",
    "default_variant",
    "download_file_to_temp",
    "embedding_url",
    "find_dataset",
    "format_bytes",
    "icechunk_dataset",
    "known_variants",
    "landmask_url",
    "landmasks_parquet_url",
    "manifest_url",
    "normalize_version",
    "parse_grid_name",
    "published_datasets",
    "recorded_dataset",
    "tile_from_world",
    "tile_to_bounds",
    "tile_to_embedding_paths",
    "tile_to_geotiff_path",
    "tile_to_grid_name",
    "tile_to_landmask_filename",
    "variant_note",
    "version_path",
    "write_tessera_metadata",
    "zarr_store_url",
]

TESSERA_BASE_URL = BASE_URL
"""Retired name of the default server's URL."""

SKIP_HASH_ENV = "GEOTESSERA_SKIP_HASH"


def block_to_embeddings_registry_filename(year: int, block_lon: int, block_lat: int) -> str:
    """Return the file name of a 5° block in the text registries of embeddings."""
    return f"embeddings_{year}_lon{block_lon}_lat{block_lat}.txt"


def block_to_landmasks_registry_filename(block_lon: int, block_lat: int) -> str:
    """Return the file name of a 5° block in the text registries of landmasks."""
    return f"landmasks_lon{block_lon}_lat{block_lat}.txt"


_LANDMASK_YEAR = 1  # the one year of a landmask index


def _scope_box(bbox: Sequence[float], margin: float) -> tuple[float, float, float, float]:
    if not margin >= 0:
        raise InputError(f"bbox_margin_deg must be non-negative; found {margin}")
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise InputError(f"bbox must be (west, south, east, north); found {bbox!r}") from error
    if not (west <= east and south <= north):
        raise InputError(
            f"bbox must be (west, south, east, north) with min <= max; found {tuple(bbox)}. A "
            "registry's own bbox cannot cross the antimeridian: leave it out, and ask for the box"
        )
    return check_box((west, south, east, north))


def _without_progressbar(
    callback: ProgressCallback | bool | None, progressbar: bool | None
) -> ProgressCallback | None:
    """Accept the retired ``progressbar=``, which also came in the callback's place."""
    if progressbar is not None or isinstance(callback, bool):
        warnings.warn(
            "progressbar= is retired: pass progress_callback", DeprecationWarning, stacklevel=3
        )
    return None if isinstance(callback, bool) else callback


class Registry:
    """The tiles that a dataset has.

    Parameters
    ----------
    version : str
        Such as ``"v1.1"``.
    variant : str, optional
        Run of the model; by default the first one published as tiles.
    cache_dir : path, optional
        Where registries and their indexes are cached.
    embeddings_dir : path, optional
        Directory of tiles for `fetch`; by default the current one.
    registry_url, registry_path, registry_dir : str or path, optional
        Registry to use instead of the mirror's: a path wins over a directory
        (``manifest.parquet`` or ``registry.parquet``), a directory over a URL.
    landmasks_registry_url, landmasks_registry_path : str or path, optional
        Registry of landmasks; by default ``landmasks.parquet`` beside the other.
    bbox : tuple of 4 float, optional
        (west, south, east, north) in WGS84 degrees: only tiles there are looked at, and
        asking for others is an error.
    bbox_margin_deg : float
        Margin around `bbox`, in degrees.
    logger : logging.Logger, optional
        Takes messages.
    base_url : str or path, optional
        A mirror: URL or path. Default: ``GEOTESSERA_BASE_URL``, else the public server.
    verify_hashes : bool
        Verify published SHA-256 sums; ``GEOTESSERA_SKIP_HASH=1`` switches it off too.
    offline : bool
        Never use the network: registries come from the cache.

    Attributes
    ----------
    version : str
        As paths spell it, such as ``"v1.1"``.
    variant : str
        The variant that is used.
    embeddings_subdir : str
        Name of the dataset's directory in the retired S3 layout.
    manifest_path : Path
        The registry file that is read.
    generation : {"A", "B"}
        Kind of the registry file: "A" carries SHA-256 sums.

    Raises
    ------
    InputError
        (a `ValueError`) for an unknown version, a variant without tiles, a bad `bbox`.
    EmptySelectionError
        (a `ValueError`) if the registry has no tile of the dataset, or none within `bbox`.
    RegistryError
        (a `RuntimeError`) if the registry cannot be had or read; a `RegistrySchemaError` (also a
        `ValueError`) if a column is missing or of the wrong type.
    """

    def __init__(
        self,
        version: str,
        variant: str | None = None,
        cache_dir: StrPath | None = None,
        embeddings_dir: StrPath | None = None,
        registry_url: str | None = None,
        registry_path: StrPath | None = None,
        registry_dir: StrPath | None = None,
        landmasks_registry_url: str | None = None,
        landmasks_registry_path: StrPath | None = None,
        bbox: Sequence[float] | None = None,
        bbox_margin_deg: float = 0.15,
        logger: logging.Logger | None = None,
        *,
        base_url: StrPath | None = None,
        verify_hashes: bool = True,
        offline: bool = False,
    ) -> None:
        from geotessera.registry_files import RegistryFiles

        self.logger = logger or logging.getLogger(__name__)
        self._version_norm = normalize_version(version)
        self.version = version_path(version)
        if variant is None:
            variant = default_variant(self._version_norm, "npy")
            if note := variant_note(self._version_norm, "npy"):
                self.logger.warning(note)
        self.variant = check_variant(variant)
        self.embeddings_subdir = s3_embeddings_subdir(variant)
        self.verify_hashes = verify_hashes
        self._bbox = None if bbox is None else _scope_box(bbox, bbox_margin_deg)
        self._margin = bbox_margin_deg
        self._scope = WORLD if self._bbox is None else cells_around_box(self._bbox, bbox_margin_deg)
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir is not None else cache_base()
        self._embeddings_dir = Path.cwd() if embeddings_dir is None else Path(embeddings_dir)
        self._validated = False
        self._files = RegistryFiles(
            version=self._version_norm,
            variant=variant,
            base=base_url_from(base_url),
            cache_dir=self._cache_dir,
            registry_path=registry_path,
            registry_dir=registry_dir,
            registry_url=registry_url,
            landmasks_path=landmasks_registry_path,
            landmasks_url=landmasks_registry_url,
            offline=offline,
            logger=self.logger,
        )
        self.manifest_path = self._files.embeddings()
        self._index = self._opened(self.manifest_path, "embeddings", variant)
        self.generation = self._index.generation
        self._counts = self._index.counts(self._scope)
        if not self._counts:
            raise EmptySelectionError(
                f"registry {self.manifest_path} has no tiles within bbox {self._bbox} "
                f"(margin {bbox_margin_deg}°) for version {self._version_norm}, variant {variant}"
            )
        self._lock = threading.Lock()
        self._landmask_index: TileIndex | None = None
        self._landmasks_loaded = False
        self._table: Any = None

    def _opened(self, path: Path, kind: Kind, variant: str) -> TileIndex:
        """Open a registry file's index; a cached copy that cannot be read is fetched anew."""
        from geotessera.index_build import open_index

        def attempt() -> TileIndex:
            return open_index(path, kind, self._version_norm, variant, self._cache_dir, self.logger)

        try:
            return attempt()
        except RegistryError as error:
            if not self._files.renew(path):
                raise
            self.logger.warning("The cached registry was damaged (%s): fetched anew", error)
            return attempt()

    def __repr__(self) -> str:
        return f"Registry({self.version!r}, {self.variant!r}, {str(self.manifest_path)!r})"

    # --- Which tiles there are -----------------------------------------------------------

    def iter_tiles_in_region(self, bounds: Sequence[float], year: int) -> Iterator[TileId]:
        """Yield the tiles of a year that share an area with a box.

        Parameters
        ----------
        bounds : sequence of 4 float
            (west, south, east, north) in WGS84 degrees. West > east crosses the
            antimeridian. A box that only touches a tile's edge does not overlap it; a point
            is in the one tile that owns it.
        year : int
            Calendar year; one that the dataset lacks yields nothing.

        Yields
        ------
        TileId
            By longitude (from west to east across the antimeridian), then latitude.

        Raises
        ------
        InputError
            (a `ValueError`) for a box that is not in degrees or has south > north, or that
            leaves the registry's own `bbox`.
        """
        return iter(self.load_blocks_for_region(bounds, year))

    def load_blocks_for_region(self, bounds: Sequence[float], year: int) -> list[TileId]:
        """Return the tiles of a year that share an area with a box, as a list.

        See `iter_tiles_in_region`.
        """
        cells = cells_of_box(bounds)
        self._check_scope(cells, bounds)
        number = self._own_year(year)
        return [] if number is None else self._tiles(cells, number)

    def _tiles(self, cells: CellRange, year: int) -> list[TileId]:
        parts = self._index.tiles(cells, year)
        return [TileId(year, *pair) for lon, lat in parts for pair in zip(lon, lat, strict=True)]

    def get_available_years(self) -> list[int]:
        """Return the years that have tiles, ascending."""
        return list(self._counts)

    def get_tile_counts_by_year(self) -> dict[int, int]:
        """Return the number of tiles of each year."""
        return dict(self._counts)

    def get_available_embeddings(self) -> list[TileId]:
        """Return all tiles, by year, longitude and latitude."""
        return [tile for year in self._counts for tile in self._tiles(self._scope, year)]

    @property
    def available_embeddings(self) -> list[TileId]:
        """All tiles, by year, longitude and latitude."""
        return self.get_available_embeddings()

    def has_tile(self, year: int, lon: float, lat: float) -> bool:
        """Whether the dataset has the tile with a centre in a year.

        Parameters
        ----------
        year : int
            Calendar year.
        lon, lat : float
            Centre of the tile in degrees, as `geotessera.grid.tile_from_world` gives it.
        """
        cell = self._cell(lon, lat)
        return cell is not None and self._index.contains(year, *cell)

    def has_tiles(self, lon_i: ArrayLike, lat_i: ArrayLike, year: int) -> NDArray[np.bool_]:
        """Whether the dataset has each of many tiles in a year.

        Parameters
        ----------
        lon_i, lat_i : array of int, shape (N,)
            Hundredths of a degree of the tiles' centres.
        year : int
            Calendar year.

        Returns
        -------
        ndarray of bool, shape (N,)
        """
        import numpy as np

        columns, off_lon = np.divmod(np.asarray(lon_i, np.int64) + 17995, 10)
        rows, off_lat = np.divmod(np.asarray(lat_i, np.int64) + 8995, 10)
        sound = (off_lon == 0) & (off_lat == 0)
        sound &= (columns >= 0) & (columns < WORLD.columns) & (rows >= 0) & (rows < WORLD.rows)
        found = np.zeros(sound.shape, bool)
        columns, rows = columns[sound], rows[sound]
        if self._scope != WORLD and columns.size:
            west, south, width, height = self._scope
            inside = (columns >= west) & (columns < west + width)
            inside &= (rows >= south) & (rows < south + height)
            if not inside.all():
                first = int(np.argmax(~inside))
                self._cell(centre_of_column(int(columns[first])), centre_of_row(int(rows[first])))
        found[sound] = self._index.contains_many(year, columns, rows)
        return found

    def nearest_year(self, lon: float, lat: float, year: int) -> int | None:
        """Return the year nearest to one for which a tile exists, the later of two; or None."""
        cell = self._cell(lon, lat)
        years = self._index.years_of(*cell) if cell else []
        return min(years, key=lambda other: (abs(other - year), -other), default=None)

    @property
    def _registry_gdf(self) -> Any:
        """The tiles as a GeoDataFrame, for scripts that reach for it; made when touched.

        Rows by (year, lon_i, lat_i), their columns lon, lat and geometry.
        """
        if self._table is None:
            import geopandas
            import pandas as pd

            table = pd.DataFrame(self.get_available_embeddings(), columns=["year", "lon", "lat"])
            table["lon_i"] = (table["lon"] * 100).round().astype("int32")
            table["lat_i"] = (table["lat"] * 100).round().astype("int32")
            table["geometry"] = geopandas.points_from_xy(table["lon"], table["lat"])
            table = table.set_index(["year", "lon_i", "lat_i"])
            self._table = geopandas.GeoDataFrame(table, geometry="geometry", crs="EPSG:4326")
        return self._table

    # --- Landmasks -----------------------------------------------------------------------

    @property
    def _landmasks(self) -> TileIndex | None:
        """The index of landmasks, opened when it is first asked for."""
        with self._lock:
            if not self._landmasks_loaded:
                self._landmask_index = self._open_landmasks()
                self._landmasks_loaded = True
            return self._landmask_index

    def _open_landmasks(self) -> TileIndex | None:
        try:
            path = self._files.landmasks()
            if path is None:
                self.logger.warning("No registry of landmasks: their sizes are not known")
                return None
            return self._opened(path, "landmasks", "")
        except (GeoTesseraError, OSError) as error:
            self.logger.warning("The registry of landmasks is not used: %s", error)
            return None

    def get_landmask_count(self) -> int:
        """Return the number of landmasks, or of tiles where there is no registry of them."""
        landmasks = self._landmasks
        return sum(self._counts.values()) if landmasks is None else landmasks.count

    @property
    def available_landmasks(self) -> list[tuple[float, float]]:
        """(longitude, latitude) of all landmasks, or of all tiles without a registry of them."""
        landmasks = self._landmasks
        if landmasks is None:
            return list(dict.fromkeys((lon, lat) for _, lon, lat in self.available_embeddings))
        return [
            pair
            for lon, lat in landmasks.tiles(WORLD, _LANDMASK_YEAR)
            for pair in zip(lon, lat, strict=True)
        ]

    # --- Sizes ---------------------------------------------------------------------------

    def get_manifest_info(self) -> tuple[None, None]:
        """Return (None, None): registries are no longer kept in a repository."""
        return None, None

    def get_tile_file_size(self, year: int, lon: float, lat: float) -> int:
        """Return the bytes of a tile's embedding file.

        Raises
        ------
        InputError
            (a `ValueError`) if there is no such tile, or its size is not recorded.
        """
        return self._size("grid", year, lon, lat)

    def get_scales_file_size(self, year: int, lon: float, lat: float) -> int:
        """Return the bytes of a tile's scales file; errors as `get_tile_file_size`."""
        return self._size("scales", year, lon, lat)

    def _size(self, payload: Payload, year: int, lon: float, lat: float) -> int:
        cell = self._cell(lon, lat)
        if cell is None or not self._index.contains(year, *cell):
            raise InputError(
                f"Tile not found in registry: year={year}, lon={lon}, lat={lat}"
                + self._years_hint(lon, lat)
            )
        size = self._index.size(payload, year, *cell)
        if size is None:
            raise InputError(
                f"registry {self.manifest_path} does not record the size of the {payload} file "
                f"of year={year}, lon={lon}, lat={lat}"
            )
        return size

    def _years_hint(self, lon: float, lat: float) -> str:
        cell = cell_of_centre(lon, lat)
        years = self._index.years_of(*cell) if cell else []
        return f" (this place has {', '.join(map(str, years))})" if years else ""

    def get_landmask_file_size(self, lon: float, lat: float) -> int:
        """Return the bytes of a landmask.

        Raises
        ------
        InputError
            (a `ValueError`) if there is no registry of landmasks or it lacks this one.
        """
        landmasks = self._landmasks
        if landmasks is None:
            raise InputError(
                "the sizes of landmasks are not known: there is no registry of landmasks"
            )
        cell = self._cell(lon, lat)
        size = landmasks.size("grid", _LANDMASK_YEAR, *cell) if cell else None
        if size is None:
            raise InputError(f"Landmask not found in registry: lon={lon}, lat={lat}")
        return size

    def calculate_download_requirements(
        self,
        tiles: Iterable[tuple[int, float, float]],
        output_dir: StrPath,
        format_type: str,
        check_existing: bool = True,
    ) -> tuple[int, int, dict[str, int]]:
        """Return what a download of tiles amounts to.

        Parameters
        ----------
        tiles : iterable of (year, lon, lat)
            Tiles of the registry.
        output_dir : path
            Where they go.
        format_type : str
            ``"npy"``: three files a tile. Anything else: one float32 GeoTIFF a tile,
            estimated as four times its embedding and its landmask.
        check_existing : bool
            Leave out NPY files that are there already.

        Returns
        -------
        bytes, files : int
            In all.
        sizes : dict of str to int
            Bytes of each NPY file, by ``embedding_…``, ``scales_…`` and ``landmask_…``.
        """
        sizes: dict[str, int] = {}
        if format_type != "npy":
            wanted = list(tiles)
            total = sum(
                4 * self.get_tile_file_size(*tile) + self.get_landmask_file_size(*tile[1:])
                for tile in wanted
            )
            return total, len(wanted), sizes
        embeddings = Path(output_dir) / EMBEDDINGS_DIR_NAME
        landmasks = Path(output_dir) / LANDMASKS_DIR_NAME
        for year, lon, lat in tiles:
            paths = [embeddings / path for path in tile_to_embedding_paths(lon, lat, year)]
            landmask = landmasks / tile_to_landmask_filename(lon, lat)
            if not (check_existing and paths[0].exists()):
                sizes[f"embedding_{year}_{lon}_{lat}"] = self.get_tile_file_size(year, lon, lat)
            if not (check_existing and paths[1].exists()):
                sizes[f"scales_{year}_{lon}_{lat}"] = self.get_scales_file_size(year, lon, lat)
            key = f"landmask_{lon}_{lat}"
            if key not in sizes and not (check_existing and landmask.exists()):
                sizes[key] = self.get_landmask_file_size(lon, lat)
        return sum(sizes.values()), len(sizes), sizes

    # --- Where a tile's files are, and what they must be ---------------------------------

    @property
    def mirror(self) -> Mirror:
        """The dataset on its server or disk; may ask it for a tile to learn its layout."""
        return self._files.mirror(self.generation, self._first_tile())

    def _first_tile(self) -> TileId:
        year = next(iter(self._counts))
        lon, lat = next(part for part in self._index.tiles(self._scope, year) if part[0])
        return TileId(year, lon[0], lat[0])

    def tile_urls(self, year: int, lon: float, lat: float) -> tuple[str, str, str]:
        """Return the URLs of a tile's embedding, scales and landmask."""
        mirror = self._files.mirror(self.generation, TileId(year, lon, lat))
        embedding, scales = tile_to_embedding_paths(lon, lat, year)
        landmask = mirror.landmask_url(tile_to_landmask_filename(lon, lat))
        return mirror.tile_url(embedding), mirror.tile_url(scales), landmask

    @property
    def offline(self) -> bool:
        """Whether the network must not be used."""
        return self._files.offline

    @property
    def verifies(self) -> bool:
        """Whether published digests are checked now."""
        skip = os.environ.get(SKIP_HASH_ENV, "").strip().lower() in ("1", "true", "yes")
        return self.verify_hashes and not skip

    def expected_sha256(
        self, year: int, lon: float, lat: float
    ) -> tuple[str | None, str | None] | None:
        """Return the published SHA-256 of a tile's embedding and scales, hexadecimal.

        None where the registry has none, or verification is switched off.
        """
        cell = cell_of_centre(lon, lat)
        if cell is None or not self.verifies:
            return None
        digests = tuple(self._index.digest(payload, year, *cell) for payload in ("grid", "scales"))
        return digests if any(digests) else None  # type: ignore[return-value]

    def landmask_sha256(self, lon: float, lat: float) -> str | None:
        """Return the published SHA-256 of a landmask, or None as `expected_sha256` does."""
        cell = cell_of_centre(lon, lat)
        if cell is None or not self.verifies or self.generation == "B":
            return None
        landmasks = self._landmasks
        return landmasks.digest("grid", _LANDMASK_YEAR, *cell) if landmasks else None

    # --- The registry's own bbox ---------------------------------------------------------

    def _own_year(self, year: int) -> int | None:
        """Return a year as a Python int, or None if the registry lacks it."""
        return next((own for own in self._counts if own == year), None)

    def _check_scope(self, cells: CellRange, bounds: Sequence[float]) -> None:
        if self._scope != WORLD and not self._scope.covers(cells):
            raise InputError(
                f"bounds {tuple(bounds)} extend outside the registry bbox {self._bbox} (margin "
                f"{self._margin}°): construct the registry with a larger bbox, or without one"
            )

    def _cell(self, lon: float, lat: float) -> tuple[int, int] | None:
        cell = cell_of_centre(lon, lat)
        if cell is not None and self._scope != WORLD:
            self._check_scope(CellRange(*cell, 1, 1), tile_to_bounds(lon, lat))
        return cell

    # --- Fetching single files -----------------------------------------------------------

    def use_embeddings_dir(self, directory: StrPath) -> None:
        """Read and keep single files in another directory of tiles from now on."""
        self._embeddings_dir = Path(directory)
        self._validated = False

    def validate_embeddings_dir(self) -> None:
        """Raise `DatasetMismatchError` if the directory of tiles records another dataset."""
        if not self._validated:
            check_dataset_dir(self._embeddings_dir, self._version_norm, self.variant)
            self._validated = True

    def fetch(
        self,
        path: StrPath | None = None,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
        year: int | None = None,
        lon: float | None = None,
        lat: float | None = None,
        is_scales: bool = False,
        *,
        progressbar: bool | None = None,
    ) -> str:
        """Return the local path of an embedding or scales file, fetched if it is missing.

        Parameters
        ----------
        path : path, optional
            Relative path such as ``2024/grid_0.15_52.05/grid_0.15_52.05.npy``.
        progress_callback : callable, optional
            Called with (bytes done, bytes in all, status text).
        refresh : bool
            Fetch the file even if it is there.
        year, lon, lat : int, float, float, optional
            Tile, in place of `path`: a calendar year and the centre in degrees.
        is_scales : bool
            The scales file of that tile, not its embedding.
        progressbar : bool, optional
            Retired: pass `progress_callback`.

        Raises
        ------
        InputError
            (a `ValueError`) if neither `path` nor year, lon and lat are given; a
            `DatasetMismatchError` if the directory holds another dataset.
        TransferError, UnwritableDestination
            (an `OSError`) if the file could not be had or kept.
        """
        from geotessera.tile_files import embedding_request, tile_of_path

        progress_callback = _without_progressbar(progress_callback, progressbar)
        if path is not None:
            year, lon, lat, is_scales = tile_of_path(path)
        elif year is None or lon is None or lat is None:
            raise InputError("Must provide either 'path' or all of (year, lon, lat)")
        request = embedding_request(
            self, TileId.of(year, lon, lat), self._embeddings_dir, is_scales
        )
        return self._fetched(request, progress_callback, refresh)

    def fetch_landmask(
        self,
        filename: str | None = None,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
        lon: float | None = None,
        lat: float | None = None,
        *,
        progressbar: bool | None = None,
    ) -> str:
        """Return the local path of a landmask, fetched if it is missing.

        Parameters
        ----------
        filename : str, optional
            Such as ``grid_0.15_52.05.tiff``.
        lon, lat : float, optional
            Centre of the tile in degrees, in place of `filename`.

        The other parameters and the errors are those of `fetch`.
        """
        from geotessera.tile_files import landmask_request

        progress_callback = _without_progressbar(progress_callback, progressbar)
        if filename is not None:
            lon, lat = parse_grid_name(Path(filename).name)
        if lon is None or lat is None:
            raise InputError(
                "Must provide either 'filename' (grid_<lon>_<lat>.tiff) or both of (lon, lat)"
            )
        request = landmask_request(self, lon, lat, self._embeddings_dir)
        return self._fetched(request, progress_callback, refresh)

    def _fetched(
        self, request: FileRequest, progress: ProgressCallback | None, refresh: bool
    ) -> str:
        """Return the path of a request's file; the directory is checked before anything else."""
        from geotessera.tile_files import fetch_recorded

        self.validate_embeddings_dir()
        if refresh or not request.dest.is_file():
            label_dataset_dir(self._embeddings_dir, self.version, self.variant)
            fetch_recorded(self, request, self._embeddings_dir, progress)
        return str(request.dest)
