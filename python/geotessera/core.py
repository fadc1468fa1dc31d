"""`GeoTessera`: the client for tiles of one dataset, on a server, a mirror or a disk."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.access.ranged_tiles import RangedTiles
from geotessera.access.tile_cache import TileCache, cache_limit, tiles_cache
from geotessera.access.tile_store import TileStore
from geotessera.datasets import (
    DEFAULT_VERSION,
    base_url_from,
    default_variant,
    normalize_version,
    variant_note,
)
from geotessera.dequantize import dequantize_embedding
from geotessera.download import DownloadReport, download_tile, download_tiles
from geotessera.errors import (
    DatasetMismatchError,
    DownloadError,
    GeoTesseraError,
    InputError,
    TileError,
    UnwritableDestination,
)
from geotessera.grid import tile_from_world, tile_to_grid_name
from geotessera.points import parse_points
from geotessera.registry import Registry
from geotessera.remote.ahead import work_ahead
from geotessera.remote.lru import FileCache
from geotessera.sampling import PointGroups, check_method, group_points, sample_tiles
from geotessera.sidecar import check_dataset_dir
from geotessera.sources.base import check_bands
from geotessera.tiles import Tile
from geotessera.types import TileId

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.crs import CRS

    from geotessera.pca import PcaModel
    from geotessera.sources.local import LocalTile
    from geotessera.types import Method, ProgressCallback

    type StrPath = str | os.PathLike[str]
    type Coord = tuple[float, float]
    type Fetched = tuple[int, float, float, NDArray[np.float32], CRS, Affine]
    type Projected = tuple[Any, ...]

__all__ = ["GeoTessera", "dequantize_embedding"]

DEFAULT_YEAR = 2024

SOURCES = ("tiles", "zarr")
"""Where a client's pixels come from."""


class GeoTessera:
    """Read the embedding tiles of one dataset.

    Tiles that are already in `embeddings_dir` (by default the current directory) are
    read where they are. What a method fetches to answer a call is kept in
    `embeddings_dir` if one was given, else in a directory that is removed when the
    process ends.

    Parameters
    ----------
    dataset_version : str
        Such as ``"v1"``, ``"v1.1"`` or ``"v2"``.
    dataset_variant : str, optional
        Run of the model; by default the first one published as tiles.
    cache_dir : path, optional
        Where registries are cached; by default below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    embeddings_dir : path, optional
        Directory of tiles.
    registry_url, registry_path, registry_dir : str or path, optional
        Registry to use instead of the dataset's own; a path wins over a directory
        (``manifest.parquet`` or ``registry.parquet``), a directory over a URL.
    bbox : tuple of 4 float, optional
        (west, south, east, north) in WGS84 degrees: look at this region only.
    bbox_margin_deg : float
        Margin around `bbox`, in degrees.
    base_url : str or path, optional
        A mirror: ``http(s)://`` or ``file://`` URL, or a path. Default: the environment
        variable ``GEOTESSERA_BASE_URL``, else the public server.
    offline : bool
        Never use the network: registries come from the cache.
    verify_hashes : bool, optional
        Retired: published SHA-256 sums are always verified unless this is False or the
        environment variable ``GEOTESSERA_SKIP_HASH`` is ``1``.
    cache_tiles : str or int, optional
        Keep verified tiles for later processes, up to this size (such as ``"10GB"``,
        ``"500 MiB"`` or a number of bytes): those that were not used for longest go first.
        They are below `cache_dir`, in ``tiles``, and shared by all processes. Default: the
        environment variable ``GEOTESSERA_CACHE_TILES``, else none are kept. With
        `embeddings_dir` there is no such cache: all tiles are kept there. With
        ``source="zarr"``, bytes of the store are kept instead of tiles, also if only
        `cache_dir` is given.
    source : {"tiles", "zarr"}
        Read tiles, or the 0.1° cells of the dataset's Zarr store: all methods work the same,
        but for those whose purpose is to download tiles. Pixels are then on the store's 10 m
        grid, and those of water have no embedding. The default variant is the first one with
        a store, which may be another one than the default of tiles.
    store_url : str or path, optional
        Another place of the Zarr store, with ``source="zarr"``. If it is not a published one,
        name version and variant of what it holds.

    Attributes
    ----------
    dataset_version, dataset_variant : str
        As passed, and as resolved.
    registry : Registry
        What the dataset holds.

    Raises
    ------
    InputError
        (a `ValueError`) for an unknown version, a variant without tiles, a bad `bbox` or a
        `cache_tiles` that is no size.
    RegistryError
        (a `RuntimeError`) if the registry cannot be had or read.

    Examples
    --------
    >>> gt = GeoTessera()  # doctest: +SKIP
    >>> embedding, crs, transform = gt.fetch_embedding(0.15, 52.05, 2024)  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset_version: str = DEFAULT_VERSION,
        dataset_variant: str | None = None,
        cache_dir: StrPath | None = None,
        embeddings_dir: StrPath | None = None,
        registry_url: str | None = None,
        registry_path: StrPath | None = None,
        registry_dir: StrPath | None = None,
        bbox: tuple[float, float, float, float] | None = None,
        bbox_margin_deg: float = 0.15,
        *,
        base_url: StrPath | None = None,
        offline: bool = False,
        verify_hashes: bool | None = None,
        cache_tiles: str | float | None = None,
        source: str = "tiles",
        store_url: StrPath | None = None,
    ) -> None:
        if dataset_variant is not None and _is_path(dataset_variant):
            # Before 0.10 the cache directory was the second parameter.
            _retired("GeoTessera(version, cache_dir)", "pass cache_dir= by name")
            if cache_dir is not None:
                raise InputError(
                    f"dataset_variant={dataset_variant!r} is a path: pass cache_dir= by name"
                )
            dataset_variant, cache_dir = None, dataset_variant
        if verify_hashes is not None:
            _retired("verify_hashes=", "set GEOTESSERA_SKIP_HASH=1 to switch verification off")
        self.logger = logging.getLogger("geotessera.core")
        self._cache_limit = cache_limit(cache_tiles)
        if cache_tiles is not None and embeddings_dir is not None:
            self.logger.warning(
                "cache_tiles is not used: tiles are kept in embeddings_dir %s", embeddings_dir
            )
        if source not in SOURCES:
            raise InputError(f"source={source!r}: expected one of {', '.join(SOURCES)}")
        if store_url is not None and source != "zarr":
            raise InputError("store_url names a Zarr store: pass source='zarr' with it")
        self.source = source
        self._origin = base_url_from(base_url)
        if source == "zarr":
            registries = {"registry_url": registry_url, "registry_path": registry_path,
                          "registry_dir": registry_dir}  # fmt: skip
            if given := [name for name, value in registries.items() if value is not None]:
                raise InputError(f"{given[0]} is one of tiles: leave it out with source='zarr'")
            from geotessera.access.cell_store import open_cells

            self.registry: Registry = open_cells(
                dataset_version,
                dataset_variant,
                store_url=store_url,
                base_url=base_url,
                cache_dir=cache_dir,
                cache_size=self._cache_limit,
                offline=offline,
                bbox=bbox,
                bbox_margin_deg=bbox_margin_deg,
                logger=self.logger,
            )
            self.dataset_version = dataset_version
            self.dataset_variant = self.registry.variant
            self._choose_directory(embeddings_dir)
            return
        version = normalize_version(dataset_version)
        if dataset_variant is None:
            dataset_variant = default_variant(version, "npy")
            if note := variant_note(version, "npy"):
                self.logger.warning(note)
        self.dataset_version = dataset_version
        self.dataset_variant = dataset_variant
        self.registry = Registry(
            dataset_version,
            dataset_variant,
            cache_dir=cache_dir,
            embeddings_dir=embeddings_dir,
            registry_url=registry_url,
            registry_path=registry_path,
            registry_dir=registry_dir,
            bbox=bbox,
            bbox_margin_deg=bbox_margin_deg,
            logger=self.logger,
            base_url=base_url,
            offline=offline,
            verify_hashes=verify_hashes is not False,
        )
        self._choose_directory(embeddings_dir)

    def _choose_directory(self, directory: StrPath | None) -> None:
        self._embeddings_dir = Path.cwd() if directory is None else Path(directory)
        self._keeps = directory is not None
        self._open_stores()

    def _open_stores(self) -> None:
        if self.source == "zarr":
            from geotessera.access.cell_store import CellStore

            registry: Any = self.registry  # the one that `open_cells` returned
            cells: Any = CellStore(registry)
            self._store = self._ranged = cells
            return
        cache = None
        if not self._keeps and self._cache_limit is not None:
            files = FileCache(tiles_cache(self.registry.cache_dir), self._cache_limit)
            cache = TileCache(self.registry, files, origin=self._origin)
        self._store = TileStore(
            self.registry,
            self._embeddings_dir,
            origin=self._origin,
            keeps=self._keeps,
            cache=cache,
        )
        self._ranged = RangedTiles(self.registry, self._store)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is open: a copy, and another process, opens its own."""
        return {
            name: value for name, value in vars(self).items() if name not in ("_store", "_ranged")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open_stores()

    @property
    def embeddings_dir(self) -> Path:
        """Directory of tiles; may be set to another one."""
        return self._embeddings_dir

    @embeddings_dir.setter
    def embeddings_dir(self, directory: StrPath) -> None:
        self.registry.use_embeddings_dir(directory)
        self._choose_directory(directory)

    def __repr__(self) -> str:
        return (
            f"GeoTessera({self.dataset_version!r}, {self.dataset_variant!r}, "
            f"embeddings_dir={str(self.embeddings_dir)!r})"
        )

    def _repr_html_(self) -> str:
        """Describe the client in a notebook, with the tiles that there are."""
        from geotessera.notebook import card

        facts, drawing = self.registry.describe()
        mine = {
            "pixels from": "a Zarr store" if self.source == "zarr" else "tiles",
            "directory of tiles": None if self.source == "zarr" else self.embeddings_dir,
        }
        return card("GeoTessera", facts | mine, drawing)

    @property
    def version(self) -> str:
        """Version of this library."""
        import geotessera

        return geotessera.__version__

    @property
    def embeddings_subdir(self) -> str:
        """Name of the directory that holds embeddings below `embeddings_dir`."""
        return self.registry.embeddings_subdir

    # --- Whole tiles ---------------------------------------------------------------------

    def embeddings_count(
        self, bbox: tuple[float, float, float, float], year: int = DEFAULT_YEAR
    ) -> int:
        """Return how many tiles a region holds.

        Parameters
        ----------
        bbox : tuple of 4 float
            (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
        year : int
            Calendar year.
        """
        return len(self.registry.load_blocks_for_region(bbox, year))

    def fetch_embedding(
        self,
        lon: float,
        lat: float,
        year: int,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
    ) -> tuple[NDArray[np.float32], CRS, Affine]:
        """Return the tile that owns a point, dequantised.

        Parameters
        ----------
        lon, lat : float
            Any point of the tile, WGS84 degrees.
        year : int
            Calendar year.
        progress_callback : callable, optional
            Called with (bytes done, bytes in all, status text) while files are fetched.
        refresh : bool
            Fetch the files again even if they are local.

        Returns
        -------
        embedding : ndarray of float32, shape (H, W, 128)
            NaN where a pixel holds no embedding.
        crs : rasterio.crs.CRS
            UTM zone of the tile.
        transform : affine.Affine
            From (column, row) pixel corners to UTM metres.

        Raises
        ------
        InputError
            (a `ValueError`) if the point is not on the globe.
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if the dataset has no such tile.
        TransferError
            (an `OSError`) if a file could not be fetched.
        FormatError
            (a `RuntimeError`) if a file is damaged.
        """
        tile = self._tile(TileId.of(year, *tile_from_world(lon, lat)), progress_callback, refresh)
        grid = tile.source().grid
        return tile.load_embedding(), grid.crs, grid.affine

    def fetch_embeddings(
        self,
        tiles_to_fetch: Iterable[tuple[int, float, float]],
        progress_callback: ProgressCallback | None = None,
    ) -> Iterator[Fetched]:
        """Yield tiles one after another, dequantised.

        Nothing is fetched before the first tile is asked for. Then the files of the next two
        are fetched while the caller works on one; the memory is that of one tile.

        Parameters
        ----------
        tiles_to_fetch : iterable of (year, lon, lat)
            Such as ``registry.load_blocks_for_region(bbox, year)``.
        progress_callback : callable, optional
            Called with (percent done, 100, status text).

        Yields
        ------
        year : int
        lon, lat : float
            Centre of the tile, WGS84 degrees.
        embedding : ndarray of float32, shape (H, W, 128)
        crs : rasterio.crs.CRS
        transform : affine.Affine

        Raises
        ------
        TileError
            (a `RuntimeError`) at the first tile that cannot be had; its cause is chained.
        """
        tiles = self._tiles_or_region(tiles_to_fetch, progress_callback)
        if not callable(progress_callback):
            progress_callback = None
        if progress_callback is not None:
            tiles = list(tiles)
        # A client whose fetch_embedding was replaced is asked for nothing else.
        theirs = "fetch_embedding" in vars(self)
        theirs = theirs or type(self).fetch_embedding is not GeoTessera.fetch_embedding
        fetched = work_ahead(tiles, (lambda *_: None) if theirs else self._fetch_ahead)
        for done, (wanted, problem) in enumerate(fetched):
            year, lon, lat = TileId.of(*wanted)
            try:
                if problem is not None:
                    raise problem
                embedding, crs, transform = self.fetch_embedding(lon, lat, year)
            except UnwritableDestination:
                raise
            except Exception as error:
                raise TileError(
                    f"Failed to fetch tile {tile_to_grid_name(lon, lat)} of {year}: {error}"
                ) from error
            yield year, lon, lat, embedding, crs, transform
            if progress_callback is not None:
                count = len(tiles)  # type: ignore[arg-type]
                progress_callback(
                    (done + 1) * 100 // count, 100, f"Completed tile {done + 1}/{count}"
                )

    def _fetch_ahead(self, wanted: tuple[int, float, float], stop: threading.Event) -> None:
        year, lon, lat = TileId.of(*wanted)
        self._store.get(TileId(year, *tile_from_world(lon, lat)), stop=stop)

    def _tiles_or_region(
        self, tiles: Iterable[tuple[int, float, float]], year: object
    ) -> Iterable[tuple[int, float, float]]:
        """Accept the retired call form ``fetch_embeddings(bbox, year)``."""
        if isinstance(year, int) and not isinstance(year, bool):
            _retired(
                "fetch_embeddings(bbox, year)",
                "pass registry.load_blocks_for_region(bbox, year)",
                stacklevel=5,
            )
            bounds: Any = tuple(tiles)
            return self.registry.load_blocks_for_region(bounds, year)
        return tiles

    # --- Points --------------------------------------------------------------------------

    def sample_embeddings_at_points(
        self,
        points: Any,
        year: int = DEFAULT_YEAR,
        include_metadata: bool = False,
        auto_download: bool = True,
        progress_callback: ProgressCallback | None = None,
        *,
        errors: str = "raise",
        method: Method = "nearest",
        return_status: bool = False,
        bands: Sequence[int] | None = None,
        mask_water: bool = False,
        fetch: str = "auto",
    ) -> Any:
        """Return the embedding at every point.

        Parameters
        ----------
        points : iterable of (lon, lat), ndarray, GeoJSON dict, GeoDataFrame, GeoSeries or DataFrame
            WGS84 degrees; geometries in any CRS; frames without geometry by their
            ``lon`` and ``lat`` columns.
        year : int
            Calendar year.
        include_metadata : bool
            Also return, for every point, a dict with ``tile_lon``, ``tile_lat``,
            ``pixel_row``, ``pixel_col`` and ``crs``, and ``error`` where there is no pixel: the
            tile could not be read, or does not reach as far as its cell. None without a tile.
        auto_download : bool
            Fetch tiles that are not local.
        progress_callback : callable, optional
            Called with (tiles done, tiles in all, status text).
        errors : {"raise", "coerce"}
            What a tile that cannot be had or read does: raise, or leave NaN rows with
            status ``FAILED``.
        method : {"nearest", "bilinear"}
            The pixel that contains the point, or the weighted mean of the four nearest.
        return_status : bool
            Also return why each row holds what it holds.
        bands : sequence of int, optional
            Zero-based bands, in this order; all by default.
        mask_water : bool
            Treat water, by the tile's landmask, as no data (status ``WATER``).
        fetch : {"auto", "ranges", "tiles"}
            How tiles that are not local come: only the bytes of the wanted pixels
            (``"ranges"``), whole and verified (``"tiles"``), or pixels where that is
            cheaper and whole tiles would not be kept, neither in an `embeddings_dir` nor
            all in the cache of `cache_tiles` (``"auto"``).

        Returns
        -------
        values : ndarray of float32, shape (N, bands)
            One row per point, in order; NaN where there is no embedding.
        metadata : list of (dict or None)
            With `include_metadata`.
        status : ndarray of uint8, shape (N,)
            With `return_status`: `geotessera.Status` codes.

        Raises
        ------
        InputError
            (a `ValueError`) for points, bands or options that cannot be used.
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if tiles are missing and
            `auto_download` is False.
        TileError
            (a `RuntimeError`) if a tile cannot be had or read and `errors` is ``"raise"``.

        Examples
        --------
        >>> gt.sample_embeddings_at_points([(0.17, 52.23)], 2024)  # doctest: +SKIP
        """
        if errors not in ("raise", "coerce"):
            raise InputError(f"errors={errors!r}: expected 'raise' or 'coerce'")
        bands = check_bands(bands)  # before anything is fetched
        check_method(method)
        array = self._parse_points_input(points)
        year = TileId.of(year, 0, 0).year
        groups = self._group_points_by_tile(array, year)
        if not isinstance(groups, PointGroups):
            groups = PointGroups.from_mapping(array, groups)
        failures: dict[TileId, Exception] | None = {} if errors == "coerce" else None
        local: dict[TileId, LocalTile] = {}
        ranged = self._ranged.open(
            groups,
            year,
            method=method,
            fetch=fetch,
            auto_download=auto_download,
            progress=progress_callback,
            failures=failures,
            local=local,
        )
        here = {(at.lon, at.lat): Tile.from_descriptor(at, found) for at, found in local.items()}
        known = {*ranged, *here, *((at.lon, at.lat) for at in failures or ())}
        rest = [centre for centre in groups.tiles() if centre not in known]
        tiles = here | self._ensure_tiles_available(
            rest, year, auto_download, progress_callback, failures=failures
        )
        absent = groups.count_outside({**tiles, **ranged}, failures)
        if absent:
            self.logger.warning(
                "%d of %d points lie in tiles that the dataset does not have for %s: "
                "their rows are NaN",
                absent,
                len(array),
                year,
            )

        def open_tile(tile: TileId) -> Any:
            if failures and tile in failures:
                raise failures[tile]
            if (tile.lon, tile.lat) in ranged:
                return ranged.pop((tile.lon, tile.lat))  # with its pixels, once they are used
            found = tiles.get((tile.lon, tile.lat))
            return None if found is None else found.source()

        sampled = sample_tiles(
            groups,
            year,
            open_tile,
            method=method,
            bands=bands,
            mask_water=mask_water,
            with_pixels=include_metadata,
            progress=progress_callback,
        )
        if sampled.failures and errors == "raise":
            tile, error = next(iter(sampled.failures.items()))
            raise TileError(
                f"tile {tile_to_grid_name(tile.lon, tile.lat)} of {tile.year} could not be "
                f"sampled: {error}"
            ) from error
        result: list[Any] = [sampled.values]
        if include_metadata:
            result.append(sampled.metadata())
        if return_status:
            result.append(sampled.status)
        return result[0] if len(result) == 1 else tuple(result)

    # --- Mosaics -------------------------------------------------------------------------

    def fetch_mosaic_for_region(
        self,
        bbox: Any,
        year: int = DEFAULT_YEAR,
        target_crs: Any = "EPSG:4326",
        auto_download: bool = True,
        progress_callback: ProgressCallback | None = None,
        *,
        resolution: float | tuple[float, float] | None = None,
        resampling: Method = "bilinear",
        bands: Sequence[int] | None = None,
        like: Any = None,
        quantized: bool = False,
        clip: bool = False,
        errors: str = "raise",
        failures: dict[TileId, Exception] | None = None,
    ) -> Any:
        """Return the tiles of a region as one array, in any CRS.

        At each pixel the tile comes first whose cell owns the pixel's centre.

        Parameters
        ----------
        bbox : tuple of 4 float, str, shapely geometry, GeoDataFrame or path
            (west, south, east, north) in WGS84 degrees, west > east across the antimeridian;
            the name or ISO code of a country; an outline in WGS84 degrees; or a vector file.
            None means all of `like`.
        year : int
            Calendar year.
        target_crs : CRS, int or str
            Of the mosaic.
        auto_download : bool
            Fetch tiles that are not local, several at once.
        progress_callback : callable, optional
            Called with (tiles or rows done, in all, status text).
        resolution : float or (float, float), optional
            Pixel size in units of the CRS; by default what GDAL gives the first tile, by
            longitude and latitude, that shares an area with the region.
        resampling : {"bilinear", "nearest"}
            How a value between pixel centres is made. A tile that is in the target CRS with
            the mosaic's pixel size is copied as it is, moved by up to half a pixel.
        bands : sequence of int, optional
            Zero-based bands, in this order; all by default.
        like : GridSpec, path, xarray object, GeoBox or raster, optional
            What has the grid to make; `target_crs` is not used then.
        quantized : bool
            Return int8 pixels with their scales, by nearest neighbour, from tiles on the 10 m
            grid that they were made on.
        clip : bool
            Leave pixels empty whose centre is outside the region.
        errors : {"raise", "coerce"}
            What a tile that cannot be had or read does: raise, or leave a hole.
        failures : dict, optional
            Where ``errors="coerce"`` puts such tiles, with the reasons.

        Returns
        -------
        mosaic : ndarray of float32, shape (H, W, bands)
            NaN where there is no embedding.
        transform : affine.Affine
            From (column, row) pixel corners to the CRS.
        crs : str
            ``"EPSG:…"``, or the WKT of a CRS that has no code.

        A `QuantizedRaster` instead of the three with ``quantized=True``.

        Raises
        ------
        InputError
            (a `ValueError`) for arguments that cannot be used, or if the dataset has no tile
            of the region and year.
        TileNotFoundError
            (a `RuntimeError` and `FileNotFoundError`) if tiles are not local and
            `auto_download` is off.
        TileError
            (a `RuntimeError`) if a tile cannot be had or read.

        Examples
        --------
        >>> box = (0.05, 52.15, 0.25, 52.35)
        >>> mosaic, transform, crs = gt.fetch_mosaic_for_region(box)  # doctest: +SKIP
        """
        from geotessera.region_mosaic import make_mosaic, plan_region_mosaic

        plan = plan_region_mosaic(
            self.registry,
            lambda tiles, failed: self._ensure_tiles_available(
                [(tile.lon, tile.lat) for tile in tiles],
                year,
                auto_download,
                progress_callback,
                failures=failed,
            ),
            bbox,
            year,
            target_crs,
            resolution=resolution,
            method=resampling,
            bands=bands,
            like=like,
            quantized=quantized,
            clip=clip,
            errors=errors,
            failures=failures,
        )
        block = make_mosaic(plan, progress_callback)
        return block if quantized else (block.values, block.grid.affine, block.grid.crs_name)

    def merge_geotiffs_to_mosaic(
        self,
        geotiff_paths: Iterable[StrPath],
        output_path: StrPath,
        target_crs: Any = "EPSG:3857",
        compress: str | None = "lzw",
        progress_callback: ProgressCallback | None = None,
    ) -> str:
        """Write GeoTIFFs as one GeoTIFF; see `geotessera.raster.merge_geotiffs`."""
        from geotessera.raster import merge_geotiffs

        return merge_geotiffs(geotiff_paths, output_path, target_crs, compress, progress_callback)

    # --- Shared by points and mosaics ----------------------------------------------------

    def _parse_points_input(self, points: Any) -> NDArray[np.float64]:
        return parse_points(points)

    def _group_points_by_tile(
        self, points: NDArray[np.float64], year: int
    ) -> PointGroups | Mapping[Coord, Sequence[int]]:
        """Sort points into tiles."""
        return group_points(points)

    def _ensure_tiles_available(
        self,
        required_coords: Iterable[Coord],
        year: int,
        auto_download: bool = True,
        progress_callback: ProgressCallback | None = None,
        *,
        failures: dict[TileId, Exception] | None = None,
    ) -> dict[Coord, Tile]:
        """Return the tiles at the given centres that exist, fetching what is not local.

        With `failures`, tiles that cannot be had are put there instead of raised.
        """
        wanted = [TileId.of(year, lon, lat) for lon, lat in required_coords]
        found = self._store.ensure(
            wanted, auto_download=auto_download, progress=progress_callback, failures=failures
        )
        return {
            (tile.lon, tile.lat): Tile.from_descriptor(tile, local) for tile, local in found.items()
        }

    # --- Files ---------------------------------------------------------------------------

    def download_tile(
        self,
        lon: float,
        lat: float,
        year: int,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
    ) -> bool:
        """Download the tile that owns a point into `embeddings_dir`.

        Parameters
        ----------
        lon, lat : float
            Any point of the tile, WGS84 degrees.
        year : int
            Calendar year.
        progress_callback : callable, optional
            Called with (bytes done, bytes in all, status text).
        refresh : bool
            Fetch again even if the files are there.

        Returns
        -------
        bool
            Whether the tile is complete now; why not is logged.

        Raises
        ------
        UnwritableDestination
            (an `OSError`) if the directory cannot be written.
        """
        try:
            tile = TileId.of(year, *tile_from_world(lon, lat))
            download_tile(
                self.registry,
                tile,
                self.embeddings_dir,
                refresh=refresh,
                progress=progress_callback,
            )
        except UnwritableDestination:
            raise
        except (GeoTesseraError, OSError) as error:
            self.logger.error("tile of (%s, %s), %s: %s", lon, lat, year, error)
            return False
        return True

    def download_tiles_for_points(
        self,
        points: Any,
        year: int = DEFAULT_YEAR,
        progress_callback: ProgressCallback | None = None,
    ) -> dict[str, bool]:
        """Download the tiles that own some points into `embeddings_dir`.

        Parameters
        ----------
        points : as for `sample_embeddings_at_points`
        year : int
            Calendar year.
        progress_callback : callable, optional
            Called with (tiles done, tiles in all, status text).

        Returns
        -------
        dict of str to bool
            Grid name to success, for the tiles that the dataset has.
        """
        tiles = self._published_tiles_of(points, year)
        counts = itertools.count(1)

        def on_tile(tile: TileId, error: Exception | None) -> None:
            if progress_callback is not None:
                name = tile_to_grid_name(tile.lon, tile.lat)
                progress_callback(next(counts), len(tiles), name)

        if progress_callback is not None and tiles:
            progress_callback(0, len(tiles), "Downloading")
        try:
            report = download_tiles(self.registry, tiles, self.embeddings_dir, on_tile=on_tile)
        except DatasetMismatchError as error:
            self.logger.error("%s", error)
            report = DownloadReport()
        if progress_callback is not None and tiles:
            progress_callback(len(tiles), len(tiles), "Download complete")
        complete = set(report.complete)
        return {tile_to_grid_name(tile.lon, tile.lat): tile in complete for tile in tiles}

    def download_region(
        self,
        region: Any,
        year: int,
        output_dir: StrPath | None = None,
        *,
        jobs: int | None = None,
        refresh: bool = False,
        progress_callback: ProgressCallback | None = None,
    ) -> DownloadReport:
        """Download all tiles of a region, several at once.

        What was interrupted goes on where it stopped: call it again. A tile that fails does
        not stop the others.

        Parameters
        ----------
        region : tuple of 4 float, str, shapely geometry, GeoDataFrame or path
            (west, south, east, north) in WGS84 degrees; the name or ISO code of a country;
            an outline in WGS84 degrees; or a vector file.
        year : int
            Calendar year.
        output_dir : path, optional
            Where to; by default `embeddings_dir`.
        jobs : int, optional
            Connections at once; by default the environment variable ``GEOTESSERA_JOBS``,
            else 8.
        refresh : bool
            Fetch also what is there; it stays until its successor is verified.
        progress_callback : callable, optional
            Called with (bytes done, bytes in all, status text).

        Returns
        -------
        DownloadReport
            ``complete`` tiles, transferred ``files`` and their ``bytes``.

        Raises
        ------
        DownloadError
            (a `RuntimeError`) if tiles failed, after all others were finished; its
            ``report`` says which and why.
        InputError
            (a `ValueError`) for a region that cannot be used.
        UnwritableDestination
            (an `OSError`) if the directory cannot be written.

        Examples
        --------
        >>> gt.download_region("Rwanda", 2024, "rwanda")  # doctest: +SKIP
        """
        from geotessera.regions import Region

        chosen = Region.of(region)
        report = download_tiles(
            self.registry,
            chosen.select(self.registry.iter_tiles_in_region(chosen.bbox, year)),
            self.embeddings_dir if output_dir is None else Path(output_dir),
            refresh=refresh,
            progress=progress_callback,
            jobs=jobs,
        )
        if report.failed:
            raise DownloadError(report)
        return report

    def check_tiles_present(self, points: Any, year: int = DEFAULT_YEAR) -> dict[str, bool]:
        """Return which tiles of some points are complete on disk.

        Parameters
        ----------
        points : as for `sample_embeddings_at_points`
        year : int
            Calendar year.

        Returns
        -------
        dict of str to bool
            Grid name to presence, for the tiles that the dataset has.
        """
        return {
            tile_to_grid_name(tile.lon, tile.lat): self._store.local(tile) is not None
            for tile in self._published_tiles_of(points, year)
        }

    def _published_tiles_of(self, points: Any, year: int) -> list[TileId]:
        groups = group_points(self._parse_points_input(points))
        published = self.registry.has_tiles(groups.keys[:, 0], groups.keys[:, 1], year)
        return [
            TileId.of(year, *centre)
            for centre, exists in zip(groups.tiles(), published.tolist(), strict=True)
            if exists
        ]

    def export_embedding_geotiff(
        self,
        lon: float,
        lat: float,
        output_path: StrPath,
        year: int = DEFAULT_YEAR,
        bands: Sequence[int] | None = None,
        compress: str | None = "lzw",
        *,
        cog: bool = False,
    ) -> str:
        """Write the tile that owns a point as a float32 GeoTIFF in its UTM CRS.

        Parameters
        ----------
        lon, lat : float
            Any point of the tile, WGS84 degrees.
        output_path : path
            The file; its directory is made if need be.
        year : int
            Calendar year.
        bands : sequence of int, optional
            Zero-based bands, in this order; all by default.
        compress : str or None
            GDAL's name of the compression.
        cog : bool
            Write a cloud-optimised GeoTIFF.

        Returns
        -------
        str
            Path of the file.

        Raises
        ------
        BandError
            (an `IndexError` and a `ValueError`) for a band that the tile does not have.
        InputError
            (a `ValueError`) for a compression that GDAL does not offer.
        """
        from geotessera.export import check_export_options, export_tile, record_export

        compress = compress or "none"
        check_export_options(bands=bands, compress=compress, cog=cog)
        tile = self._tile(TileId.of(year, *tile_from_world(lon, lat)))
        path = Path(output_path)
        export_tile(
            tile.source(),
            path,
            tile=TileId(tile.year, tile.lon, tile.lat),
            dataset=self._dataset,
            bands=bands,
            compress=compress,
            cog=cog,
            tags={"TESSERA_SOURCE": self._place} if self.source == "zarr" else None,
        )
        record_export(path)
        return str(path)

    def export_embedding_geotiffs(
        self,
        tiles_to_fetch: Iterable[tuple[int, float, float]] | None = None,
        output_dir: StrPath | None = None,
        bands: Sequence[int] | None = None,
        compress: str | None = "lzw",
        progress_callback: ProgressCallback | None = None,
        *,
        cog: bool = False,
        bbox: tuple[float, float, float, float] | None = None,
        year: int = DEFAULT_YEAR,
    ) -> list[str]:
        """Write tiles as float32 GeoTIFFs, each in its UTM CRS.

        Parameters
        ----------
        tiles_to_fetch : iterable of (year, lon, lat)
            Which tiles.
        output_dir : path
            Files go to ``global_0.1_degree_representation/{year}/grid_X_Y/`` below it.
        bands, compress, cog
            As for `export_embedding_geotiff`.
        progress_callback : callable, optional
            Called with (tiles done, tiles in all, status text).
        bbox, year
            Retired: the region's tiles are exported.

        Returns
        -------
        list of str
            Paths of the files, in the order of the tiles.

        Raises
        ------
        TileError
            (a `RuntimeError`) at the first tile that cannot be had.
        """
        from geotessera.export import check_export_options
        from geotessera.layout import geotiff_path

        if bbox is not None:
            _retired(
                "export_embedding_geotiffs(bbox=…)",
                "pass registry.load_blocks_for_region(bbox, year)",
            )
            tiles_to_fetch = self.registry.load_blocks_for_region(bbox, year)
        if tiles_to_fetch is None or output_dir is None:
            raise TypeError("export_embedding_geotiffs needs tiles_to_fetch and output_dir")
        check_export_options(bands=bands, compress=compress or "none", cog=cog)
        check_dataset_dir(output_dir, *self._dataset)
        tiles = [TileId.of(*tile) for tile in tiles_to_fetch]
        paths: list[str] = []
        for done, tile in enumerate(tiles):
            if progress_callback is not None:
                progress_callback(done, len(tiles), tile_to_grid_name(tile.lon, tile.lat))
            path = geotiff_path(Path(output_dir), tile)
            paths.append(
                self.export_embedding_geotiff(
                    tile.lon, tile.lat, path, tile.year, bands, compress, cog=cog
                )
            )
        if progress_callback is not None and tiles:
            progress_callback(len(tiles), len(tiles), "Export complete")
        return paths

    # --- Principal components ------------------------------------------------------------

    def apply_pca_to_embeddings(
        self,
        embeddings: Iterable[Fetched],
        n_components: int = 3,
        standardize: bool = True,
        progress_callback: ProgressCallback | None = None,
        *,
        model: PcaModel | StrPath | None = None,
    ) -> list[Projected]:
        """Return embeddings as scores on their principal components.

        One model serves all of them; it is fitted to every pixel whose bands are all finite.

        Parameters
        ----------
        embeddings : iterable of (year, lon, lat, array, crs, transform)
            As `fetch_embeddings` yields them; arrays of shape (H, W, B).
        n_components : int
            How many components.
        standardize : bool
            Divide each band by its standard deviation first.
        progress_callback : callable, optional
            Called with (tiles done, tiles in all, status text).
        model : PcaModel or path, optional
            Components that were fitted before, such as to another year; `n_components` and
            `standardize` are its own then.

        Returns
        -------
        list of tuple
            (year, lon, lat, scores, crs, transform, info): scores are float32 of shape
            (H, W, n_components), NaN where a band is not finite. ``info`` has
            ``explained_variance`` (each component's share of the variance),
            ``total_variance`` (the sum of these shares), ``n_components`` and
            ``standardized``.

        Raises
        ------
        InputError
            (a `ValueError`) for fewer valid pixels, or fewer bands, than components.
        """
        from geotessera.projection import project_embeddings

        return project_embeddings(
            embeddings, n_components, standardize, progress_callback, model=model
        )

    def export_pca_geotiffs(
        self,
        tiles_to_fetch: Iterable[tuple[int, float, float]],
        output_dir: StrPath,
        n_components: int = 3,
        standardize: bool = True,
        compress: str | None = "lzw",
        normalize: bool = True,
        progress_callback: ProgressCallback | None = None,
        *,
        model: PcaModel | StrPath | None = None,
    ) -> list[str]:
        """Write tiles as pictures of their principal components, each in its UTM CRS.

        One model serves all tiles; it is fitted to every pixel of them. Tiles are read again
        rather than kept, so that memory does not grow with their number.

        Parameters
        ----------
        tiles_to_fetch : iterable of (year, lon, lat)
            Which tiles.
        output_dir : path
            Files are ``grid_<lon>_<lat>_<year>_pca.tiff`` in it.
        n_components : int
            How many bands; three are shown as red, green and blue.
        standardize : bool
            Divide each band by its standard deviation first.
        compress : str or None
            GDAL's name of the compression.
        normalize : bool
            Stretch all tiles from the least to the greatest score of all; else each between
            its own.
        progress_callback : callable, optional
            Called with (done, in all, status text): bytes while tiles are fetched, then tiles.
        model : PcaModel or path, optional
            Components that were fitted before, and the stretch if it has one: for one colour
            space over years and regions.

        Returns
        -------
        list of str
            Paths of the uint8 GeoTIFFs, with a mask, in the order of the tiles.

        Raises
        ------
        InputError
            (a `ValueError`) for fewer valid pixels, or fewer bands, than components.
        TileError
            (a `RuntimeError`) for a tile that cannot be had.
        """
        from geotessera.projection import export_tiles

        wanted = [TileId.of(*tile) for tile in tiles_to_fetch]
        tiles = [TileId(tile.year, *tile_from_world(tile.lon, tile.lat)) for tile in wanted]
        self._store.ensure(tiles, auto_download=True, progress=progress_callback)
        return export_tiles(
            [self._tile(tile) for tile in tiles],
            output_dir,
            n_components,
            standardize,
            compress,
            normalize,
            progress_callback,
            model=model,
        )

    # --- Shared --------------------------------------------------------------------------

    def export_coverage_map(
        self,
        output_file: StrPath | None = None,
        dataset_id: str | None = None,
    ) -> dict[str, Any]:
        """Return where the dataset has tiles, and write it as JSON if a file is given.

        Parameters
        ----------
        output_file : path, optional
            The summary: years and totals. Beside it the tiles of each year go to
            ``coverage_{year}.json``, or ``coverage_{dataset_id}_{year}.json``.
        dataset_id : str, optional
            Of the dataset among others, such as ``"v1.1_cambridge"``.

        Returns
        -------
        dict
            ``tiles``: the years of each tile, ``{"lon,lat": [years]}``; ``no_coverage``: land
            that has no tile; ``years``; ``metadata``: ``total_tiles``, ``total_landmasks``,
            ``total_no_coverage`` and ``version``. Of a client with a `bbox`, what is within it.

        Raises
        ------
        UnwritableDestination
            (an `OSError`) if a file cannot be written.
        """
        from geotessera.coverage.files import Listing, document, write_summary
        from geotessera.coverage.grid import Coverage

        coverage = Coverage.of_registry(self.registry)
        listing = Listing.of(coverage.bits)
        if output_file is not None:
            write_summary(coverage, output_file, dataset_id, listing)
        return document(coverage, listing)

    def generate_coverage_texture(
        self,
        coverage_data: Mapping[str, Any],
        output_file: StrPath | None = None,
        tint_color: Sequence[int] | None = None,
    ) -> str:
        """Write a texture of the globe, 3600 × 1800 RGBA pixels, one for each 0.1° cell.

        Parameters
        ----------
        coverage_data : mapping
            What `export_coverage_map` returns.
        output_file : path, optional
            A PNG; by default ``coverage_texture.png`` in the current directory.
        tint_color : sequence of 3 int, optional
            (red, green, blue): shades of one colour, the fuller the more years. By default green
            has all years, yellow the latest alone, brown an older one alone, blue some, and grey
            is land without a tile.

        Returns
        -------
        str
            Path of the picture.

        Raises
        ------
        InputError
            (a `ValueError`) for keys that are no tiles, or a tint that is no colour.
        UnwritableDestination
            (an `OSError`) if the file cannot be written.
        """
        from geotessera.coverage.grid import Coverage
        from geotessera.coverage.texture import write_texture

        target = Path("coverage_texture.png" if output_file is None else output_file)
        write_texture(Coverage.of_document(coverage_data), target, tint_color)
        return str(target)

    @property
    def _place(self) -> str:
        """Where the store is that is read."""
        return str(self.registry.store.location)  # type: ignore[attr-defined]

    @property
    def _dataset(self) -> tuple[str, str]:
        return normalize_version(self.dataset_version), self.dataset_variant

    def _tile(
        self,
        tile: TileId,
        progress: ProgressCallback | None = None,
        refresh: bool = False,
    ) -> Tile:
        """Return a tile, fetching it if it is not local."""
        local = self._store.get(tile, refresh=refresh, progress=progress)
        return Tile.from_descriptor(tile, local)

    def _get_utm_projection_from_landmask(
        self, lon: float, lat: float, refresh: bool = False
    ) -> tuple[CRS, Affine]:
        """Return CRS and transform of a tile."""
        grid = self._store.georeference(*tile_from_world(lon, lat), refresh=refresh)
        return grid.crs, grid.affine


def _retired(what: str, instead: str, *, stacklevel: int = 3) -> None:
    warnings.warn(f"{what} is retired: {instead}", DeprecationWarning, stacklevel=stacklevel)


def _is_path(value: object) -> bool:
    """Whether a value is a path rather than the name of a variant."""
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return isinstance(value, os.PathLike) or any(
        separator in str(value) for separator in separators
    )
