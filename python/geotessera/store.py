"""TESSERA embeddings in cloud stores: Zarr, read where they are.

`GeoTesseraZarr` is the way in. Points, regions and patches are given in WGS84 degrees; what
is not asked for is not transferred.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from geotessera.datasets import dataset_for_location, zarr_store_url
from geotessera.sources.zarr_store import EmbeddingStore, open_embedding_store
from geotessera.stores.zones import SEAM_DEGREES, StoreZones
from geotessera.types import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import xarray as xr
    from affine import Affine
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geotessera.datasets import Dataset
    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.remote.http import enable_http_logging
    from geotessera.remote.objects.reader_store import zarr_store
    from geotessera.types import BBox, Method, ProgressCallback, Window
    from geotessera.xr.store import TesseraAccessor, open_dataarray, open_zone

    type Region = tuple[NDArray[np.float32], Affine, str]
    type QuantizedRegion = tuple[NDArray[np.int8], NDArray[np.float32], Affine, str]
    type Resolution = float | tuple[float, float]

__all__ = [
    "CLIENT_OPTIONS",
    "DEFAULT_STORE",
    "GATEWAY_ENV",
    "NODATA",
    "OUTSIDE",
    "POINT_CONCURRENCY",
    "RETRY_CONFIG",
    "SEAM_DEGREES",
    "SEAM_SEARCH_PX",
    "SHARD_CHUNKS",
    "VALID",
    "WATER",
    "GeoTesseraZarr",
    "TesseraAccessor",
    "enable_http_logging",
    "open_dataarray",
    "open_zone",
    "zarr_store",
]

logger = logging.getLogger("geotessera.store")

DEFAULT_STORE = zarr_store_url()
"""The store that is read where none is named."""

SHARD_CHUNKS: Mapping[str, int] = {"band": 128, "y": 4096, "x": 4096}
"""Size of a shard of the published stores."""

GATEWAY_ENV = "GEOTESSERA_VIA_GATEWAY"
"""Environment variable that keeps reads on the gateway's host."""

SEAM_SEARCH_PX = 1
"""How far round a pixel that was never written a valid one is looked for."""

# Upstream's, for programs that name them; requests follow `geotessera.remote`.
POINT_CONCURRENCY = 32
RETRY_CONFIG: Mapping[str, Any] = {
    "max_retries": 5,
    "backoff": {
        "init_backoff": timedelta(seconds=1),
        "max_backoff": timedelta(seconds=30),
        "base": 2,
    },
    "retry_timeout": timedelta(minutes=5),
}
CLIENT_OPTIONS: Mapping[str, Any] = {"timeout": timedelta(seconds=120)}

VALID, WATER, NODATA, OUTSIDE = "valid", "water", "nodata", "outside"

_NAMES = {
    Status.VALID: VALID,
    Status.WATER: WATER,
    Status.NODATA: NODATA,
    Status.OUTSIDE: OUTSIDE,
}


_HOMES = {
    "TesseraAccessor": "geotessera.xr.store",
    "open_dataarray": "geotessera.xr.store",
    "open_zone": "geotessera.xr.store",
    "enable_http_logging": "geotessera.remote.http",
    "zarr_store": "geotessera.remote.objects.reader_store",
}


def __getattr__(name: str) -> Any:
    """Import what needs more than reading does when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'geotessera.store' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


class GeoTesseraZarr:
    """A store of TESSERA embeddings, read by point, region or patch.

    Any number of threads may use a client.

    Parameters
    ----------
    store_url : str, path, zarr Store or EmbeddingStore
        Where the store is: an ``https://``, ``http://`` or ``s3://`` URL or a directory.
    cache_dir : path, optional
        Where data are kept between runs.
    cache_max_size : int, optional
        Bytes that they may take there.
    via_gateway : bool, optional
        Read through the gateway's host instead of the bucket itself; by default as the
        environment variable `GATEWAY_ENV` says.
    **options
        More for the reader of the store's bytes, such as ``offline=True``; see
        `geotessera.remote.objects.open_reader`.

    Attributes
    ----------
    url : str
        Where the store is.
    dataset : Dataset or None
        The published dataset that it holds.
    model_version, build_version : str
        What made the embeddings and the store, or "".
    n_bands : int
        Bands of the full embeddings.
    depths : dict of int to str
        Depths that can be read, and their arrays.
    years : list of int
        Calendar years of the store's first zone.

    Raises
    ------
    FileNotFoundError
        If a directory does not exist.
    FormatError
        (a `RuntimeError` and a `ValueError`) if there is no store.

    Examples
    --------
    >>> client = GeoTesseraZarr("path/to/store")  # doctest: +SKIP
    >>> client.sample_points([(0.17, 52.23)], 2024).shape  # doctest: +SKIP
    (1, 128)
    """

    def __init__(
        self,
        store_url: str | os.PathLike[str] | Any = DEFAULT_STORE,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_max_size: int | None = None,
        via_gateway: bool | None = None,
        **options: Any,
    ) -> None:
        given = {
            "cache_dir": cache_dir,
            "cache_max_size": cache_max_size,
            "via_gateway": via_gateway,
        }
        options |= {name: value for name, value in given.items() if value is not None}
        if isinstance(store_url, EmbeddingStore):
            self.store = store_url
        else:
            self.store = open_embedding_store(store_url, **options)
        self._zones = StoreZones(self.store)
        self._cache: dict[int, xr.Dataset] = {}
        self.url = _url(store_url, self.store)
        self.dataset: Dataset | None = dataset_for_location(self.url)
        self.model_version = self.store.model_version
        self.build_version = self.store.build_version
        self.n_bands = self.store.n_bands
        self.depths: dict[int, str] = dict(self.store.depths)
        self.years: list[int] = list(self.store.years)
        count = len(self._zones.numbers)
        logger.info(
            "Opened %s: %d zone%s, years %s, %d bands",
            self.url, count, "s" * (count != 1), self.years, self.n_bands,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"GeoTesseraZarr({self.url!r}, years={self.years})"

    def _repr_html_(self) -> str:
        """Describe the store in a notebook, with its zones; nothing is asked of the store."""
        from geotessera.notebook import card, few, map_svg

        zones = sorted(self._zones.numbers)
        strips = [(zone * 6 - 186, -80, zone * 6 - 180, 84) for zone in zones]
        known = self.dataset
        return card(
            "GeoTesseraZarr",
            {
                "store": self.url,
                "dataset": known and f"v{known.version} {known.variant}",
                "model, build": ", ".join(filter(None, (self.model_version, self.build_version))),
                "years": few(self.years),
                "bands": self.n_bands,
                "depths": few(list(self.depths)),
                "UTM zones": few(zones),
            },
            map_svg(strips, label=f"{len(zones)} UTM zones", view=(-180, -90, 180, 90)),
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_cache": {}}  # datasets are opened anew in another process

    # --- As xarray has it ----------------------------------------------------------------

    def open_zone(
        self, *, zone: int | None = None, lon: float | None = None, bbox: Any = None
    ) -> xr.Dataset:
        """Return a UTM zone as a lazy Dataset with the accessor ``.tessera``; the client keeps it.

        Parameters
        ----------
        zone, lon, bbox
            Which zone: its number, a longitude in it, or a box whose middle lies in it.

        Raises
        ------
        TypeError
            Unless exactly one is given.
        ZoneError
            (a `KeyError` and a `ValueError`) if the store does not hold the zone.
        """
        from geotessera.xr.store import zone_dataset, zone_number

        number = zone_number(zone=zone, lon=lon, bbox=bbox)
        found = self._cache.get(number)
        if found is None:
            opened = zone_dataset(self._zones.get(number))
            found = self._cache.setdefault(number, opened)  # one for all threads
        return found

    def open_dataarray(
        self, bbox: Any = None, year: int | None = None, **options: Any
    ) -> xr.DataArray:
        """Return a box as a lazy, georeferenced DataArray (band, y, x).

        Parameters are those of `geotessera.store.open_dataarray`, but for the store's own.
        """
        from geotessera.xr.store import open_dataarray

        return open_dataarray(bbox, year, store=self.store, **options)

    # --- Points --------------------------------------------------------------------------

    def probe(
        self,
        lon: float,
        lat: float,
        year: int,
        *,
        cross_zone: bool = True,
        search_px: int = SEAM_SEARCH_PX,
    ) -> tuple[NDArray[np.float32] | None, str]:
        """Return the embedding of a place, and why there is none where there is none.

        Parameters
        ----------
        lon, lat : float
            WGS84 degrees.
        year : int
            Calendar year.
        cross_zone, search_px
            As for `sample_points`.

        Returns
        -------
        vector : ndarray of float32, shape (n_bands,), or None
        status : {"valid", "water", "nodata", "outside"}

        Raises
        ------
        YearError
            (a `KeyError` and a `ValueError`) if the place's zone does not have the year.
        """
        vector, status = self._sample_one(lon, lat, year, cross_zone, search_px)
        return (vector if status is Status.VALID else None), _NAMES[status]

    def sample_at(
        self,
        lon: float,
        lat: float,
        year: int,
        *,
        cross_zone: bool = True,
        search_px: int = SEAM_SEARCH_PX,
    ) -> NDArray[np.float32]:
        """Return the embedding of a place: float32 (n_bands,), NaN where there is none.

        Parameters and errors are those of `probe`.
        """
        return self._sample_one(lon, lat, year, cross_zone, search_px)[0]

    def _sample_one(
        self, lon: float, lat: float, year: int, cross_zone: bool, search_px: int
    ) -> tuple[NDArray[np.float32], Status]:
        import numpy as np

        point = np.array([[float(lon), float(lat)]])  # None is no place, where NumPy has NaN
        values, status = self._sample(
            point, year, cross_zone=cross_zone, search_px=search_px, quiet=True
        )
        return values[0], Status(int(status[0]))

    @overload
    def sample_points(
        self,
        coords: Any,
        year: int,
        *,
        progress: bool = ...,
        cross_zone: bool = ...,
        search_px: int = ...,
        depth: int | None = ...,
        bands: Sequence[int] | None = ...,
        method: Method = ...,
        return_status: Literal[False] = ...,
    ) -> NDArray[np.float32]: ...
    @overload
    def sample_points(
        self,
        coords: Any,
        year: int,
        *,
        progress: bool = ...,
        cross_zone: bool = ...,
        search_px: int = ...,
        depth: int | None = ...,
        bands: Sequence[int] | None = ...,
        method: Method = ...,
        return_status: Literal[True],
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]: ...
    def sample_points(
        self,
        coords: Any,
        year: int,
        *,
        progress: bool = True,
        cross_zone: bool = True,
        search_px: int = SEAM_SEARCH_PX,
        depth: int | None = None,
        bands: Sequence[int] | None = None,
        method: Method = "nearest",
        return_status: bool = False,
    ) -> Any:
        """Return the embeddings of many places; each chunk that covers some is read once.

        Parameters
        ----------
        coords : iterable of (lon, lat), array, GeoJSON dict, GeoDataFrame or DataFrame
            WGS84 degrees, unless a frame says otherwise; further columns are ignored. Points
            that are not finite or not on the globe get no value.
        year : int
            Calendar year.
        progress : bool
            Not used: reading is too quick for a bar.
        cross_zone : bool
            Whether the neighbouring zone is asked for a point within 0.1° of the border that
            has no value in its own, be it water there.
        search_px : int
            How far round a pixel that was never written a valid one is looked for.
        depth : int, optional
            Bands to read: one of `depths`; all by default.
        bands : sequence of int, optional
            Which of them, in this order.
        method : {"nearest", "bilinear"}
            How a value between pixel centres is made.
        return_status : bool
            Whether to return why a row holds what it holds.

        Returns
        -------
        values : ndarray of float32, shape (N, bands)
            In the order of `coords`; NaN where there is none.
        status : ndarray of uint8, shape (N,)
            With `return_status`: codes of `geotessera.Status`.

        Raises
        ------
        YearError
            (a `KeyError` and a `ValueError`) if a zone that owns a point lacks the year.
        InputError
            (a `ValueError`) for a depth that the store does not have.
        """
        from geotessera.stores.points import point_array

        values, status = self._sample(
            point_array(coords),
            year,
            cross_zone=cross_zone,
            search_px=search_px,
            depth=depth,
            bands=bands,
            method=method,
        )
        return (values, status) if return_status else values

    def _sample(
        self,
        points: NDArray[np.float64],
        year: int,
        *,
        cross_zone: bool,
        quiet: bool = False,
        **query: Any,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        from geotessera.stores.points import PointQuery, sample_store

        asked = PointQuery.of(year, **query)
        return sample_store(self._zones, points, asked, cross_zone=cross_zone, quiet=quiet)

    # --- Regions -------------------------------------------------------------------------

    def read_region(
        self,
        bbox: str | Sequence[float] | None,
        year: int,
        *,
        depth: int | None = None,
        progress: bool = False,
        bands: Sequence[int] | None = None,
        crs: Any = None,
        like: Any = None,
        resolution: Resolution | None = None,
        method: Method = "nearest",
    ) -> Region:
        """Return the embeddings of a box.

        Parameters
        ----------
        bbox : sequence of 4 float
            (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
            May be None with `like`.
        year : int
            Calendar year.
        depth, bands
            As for `sample_points`.
        progress : bool
            Not used.
        crs : int, str or CRS, optional
            Of one grid for all zones that the box meets. By default only the zone is read in
            which the box has its middle, on its own grid.
        like : GridSpec, path, xarray object or GeoBox, optional
            Something that has the grid that is wanted, instead of `crs`.
        resolution : float or (float, float), optional
            With `crs`: pixel size in its units; by default the store's in the box's middle.
        method : {"nearest", "bilinear"}
            With `crs` or `like`: how a value between pixel centres is made.

        Returns
        -------
        values : ndarray of float32, shape (height, width, bands)
            NaN where there is no embedding.
        transform : Affine
            Of the upper-left pixel's corner.
        crs : str
            Such as ``"EPSG:32630"``: a zone's is the northern one in both hemispheres, with
            negative northings south of the equator.

        Raises
        ------
        ZoneError
            (a `KeyError` and a `ValueError`) if the store does not hold the zone.
        NoOverlapError
            (an `IndexError` and a `ValueError`) if the box has no pixel in it.
        YearError, InputError
            (a `ValueError`) for a year or a depth that it does not have.
        """
        if crs is not None or like is not None:
            plan = self._plan(bbox, year, depth, bands, crs, like, resolution, method)
            from geotessera.mosaic import render

            block: Any = render(plan)
            return block.values, block.grid.affine, block.grid.crs_name
        source, window = self._window(bbox, year, depth, "read_region", resolution, method)
        values = source.read_float(window, bands)
        grid = source.grid.window(window)
        return values, grid.affine, grid.crs_name

    def read_region_quantized(
        self,
        bbox: str | Sequence[float] | None,
        year: int,
        *,
        depth: int | None = None,
        progress: bool = False,
        bands: Sequence[int] | None = None,
        crs: Any = None,
        like: Any = None,
        resolution: Resolution | None = None,
    ) -> QuantizedRegion:
        """Return a box as it is stored: int8 values and the scales to multiply them by.

        Parameters and errors are those of `read_region`.

        Returns
        -------
        values : ndarray of int8, shape (height, width, bands)
        scales : ndarray of float32, shape (height, width)
            NaN or infinite where there is no embedding.
        transform : Affine
        crs : str
        """
        if crs is not None or like is not None:
            plan = self._plan(bbox, year, depth, bands, crs, like, resolution, quantized=True)
            from geotessera.mosaic import render

            block: Any = render(plan)
        else:
            source, window = self._window(bbox, year, depth, "read_region_quantized", resolution)
            block = source.read(window, bands)
        return block.values, block.scales, block.grid.affine, block.grid.crs_name

    def iter_region(
        self,
        bbox: str | Sequence[float] | None,
        year: int,
        *,
        depth: int | None = None,
        strip_rows: int = 512,
        progress: bool = False,
        bands: Sequence[int] | None = None,
        crs: Any = None,
        like: Any = None,
        resolution: Resolution | None = None,
        method: Method = "nearest",
    ) -> Iterator[Region]:
        """Yield a box in strips of rows, from north to south; the next one is read meanwhile.

        Memory is needed for three strips. Parameters and errors are those of `read_region`;
        errors are raised when the first strip is asked for.

        Parameters
        ----------
        strip_rows : int
            Rows of a strip; the last one may be lower.

        Yields
        ------
        values : ndarray of float32, shape (rows, width, bands)
        transform : Affine
            Of the strip.
        crs : str
        """
        from geotessera.stores.regions import check_rows, read_strips, render_strips

        rows = check_rows(strip_rows)
        if crs is not None or like is not None:
            plan = self._plan(bbox, year, depth, bands, crs, like, resolution, method)
            strips = render_strips(plan, rows)
        else:
            source, window = self._window(bbox, year, depth, "iter_region", resolution, method)
            strips = read_strips(source, window, rows, bands)
        for values, grid in strips:
            yield values, grid.affine, grid.crs_name

    def read_patch(
        self,
        lon: float,
        lat: float,
        year: int,
        size_px: int,
        *,
        depth: int | None = None,
        dst_crs: Any = None,
        resampling: str = "nearest",
        progress: bool = False,
        bands: Sequence[int] | None = None,
        resolution: float | None = None,
    ) -> Region:
        """Return a square of pixels round a place, also across the border of zones.

        The pixel [size_px // 2, size_px // 2] holds the place.

        Parameters
        ----------
        lon, lat : float
            WGS84 degrees.
        year : int
            Calendar year.
        size_px : int
            Pixels on a side.
        depth, bands
            As for `sample_points`.
        dst_crs : int, str or CRS, optional
            Projected, in metres. By default the pixels are the zone's, and those of a
            transverse Mercator projection round the place where the patch spans zones.
        resampling : str
            For pixels that are not the zone's: ``"nearest"``, ``"bilinear"``, or another name
            that rasterio knows.
        progress : bool
            Not used.
        resolution : float, optional
            Side of a pixel in metres of `dst_crs`; by default the store's, 10.

        Returns
        -------
        values : ndarray of float32, shape (size_px, size_px, bands)
            NaN where there is no embedding; the log says how much that is.
        transform : Affine
        crs : str
            ``"EPSG:…"``, or WKT.

        Raises
        ------
        InputError
            (a `ValueError`) for a place, a size, a CRS or a depth that cannot be used.
        ZoneError, YearError
            (a `KeyError` and a `ValueError`) if the store does not hold the place's zone, or
            the zone the year.
        ResamplingError
            (a `KeyError` and a `ValueError`) for an unknown `resampling`.
        """
        from geotessera.stores.patch import read_patch

        values, grid = read_patch(
            self._zones,
            lon,
            lat,
            year,
            size_px,
            depth=depth,
            bands=bands,
            crs=dst_crs,
            resolution=resolution,
            resampling=resampling,
        )
        return values, grid.affine, grid.crs_name

    def export_geotiffs(
        self,
        bbox: str | Sequence[float] | None,
        year: int,
        output_dir: str | os.PathLike[str],
        *,
        bands: Sequence[int] | None = None,
        depth: int | None = None,
        strip_rows: int = 128,
        compress: str | None = "lzw",
        progress_callback: ProgressCallback | None = None,
        dry_run: bool = False,
        crs: Any = None,
        like: Any = None,
        resolution: Resolution | None = None,
        method: Method = "nearest",
        resume: bool = False,
        outline: BaseGeometry | None = None,
    ) -> list[Any]:
        """Write a box as float32 GeoTIFFs: one for each zone, or with `crs` or `like` one in all.

        Files are written block by block within a budget of memory, appear whole or not at all,
        and say by tags what they come from. A run that was killed is gone on with.

        Parameters
        ----------
        bbox, year, depth, crs, like, resolution, method
            As for `read_region`.
        output_dir : path
            Where ``tessera_{year}_utm{zone}.tif`` go, or ``tessera_{year}_epsg{code}.tif``.
        bands : sequence of int, optional
            Zero-based bands in the wanted order, of any integral type.
        strip_rows : int
            Must be positive; the height of what is written at once is chosen by size.
        compress : {"lzw", "zstd", "deflate", "none"} or None
            Of the files.
        progress_callback : callable, optional
            Called with (blocks done, blocks in all, status text).
        dry_run : bool
            Write nothing, and return what would be.
        resume : bool
            Whether to leave files alone that an earlier run of the same request finished.
        outline : shapely geometry, optional
            In WGS84 degrees, such as that of a `geotessera.regions.Region`: of each zone only
            the box is written that its part there needs, and no zone without one. A country
            with islands far away has a box that goes round half of the globe.

        Returns
        -------
        list of str, or list of dict
            Paths; of a dry run zone, width, height and uncompressed_bytes of each file.

        Raises
        ------
        NoOverlapError
            (a `ValueError`) if no zone of the store has pixels in the box.
        InputError
            (a `ValueError`) for other arguments that cannot be used.
        DatasetMismatchError
            (a `ValueError`) if the directory holds another dataset.
        """
        from geotessera.stores.export import plan_exports, write_exports

        exports = plan_exports(
            self._zones,
            bbox,
            year,
            source=self.url,
            dataset=self.dataset,
            bands=bands,
            depth=depth,
            strip_rows=strip_rows,
            crs=crs,
            like=like,
            resolution=resolution,
            method=method,
            outline=outline,
        )
        if dry_run:
            return [one.describe() for one in exports]
        paths = write_exports(
            exports,
            Path(output_dir),
            dataset=self.dataset,
            compress=compress or "none",
            progress=progress_callback,
            resume=resume,
        )
        return [str(path) for path in paths]

    def _window(
        self,
        bbox: Any,
        year: int,
        depth: int | None,
        caller: str,
        resolution: Resolution | None,
        method: Method = "nearest",
    ) -> tuple[Any, Window]:
        """Return the zone's year of a box, and its pixels there."""
        from geotessera.stores.regions import box_of, check_own_grid, zone_of_region
        from geotessera.stores.zones import checked_year

        check_own_grid(resolution, method)
        box = box_of(bbox)
        wanted = checked_year(year)
        self._zones.check_depth(depth)
        zone, window = zone_of_region(self._zones, box, caller)
        return zone.source(wanted, depth), window

    def _plan(
        self,
        bbox: Any,
        year: int,
        depth: int | None,
        bands: Sequence[int] | None,
        crs: Any,
        like: Any,
        resolution: Resolution | None,
        method: Method = "nearest",
        *,
        quantized: bool = False,
    ) -> MosaicPlan:
        from geotessera.errors import InputError
        from geotessera.stores.mosaic import plan_zones, region_grid
        from geotessera.stores.regions import box_of
        from geotessera.stores.zones import checked_year

        if like is not None and (crs is not None or resolution is not None):
            raise InputError("like= gives the whole grid: leave out crs and resolution")
        box: BBox | None = None if bbox is None and like is not None else box_of(bbox)
        grid = region_grid(self._zones, box, crs, like, resolution)
        return plan_zones(
            self._zones,
            grid,
            checked_year(year),
            depth=depth,
            bands=bands,
            method=method,
            quantized=quantized,
            dataset=self.dataset,
        )


if "xarray" in sys.modules:
    # Programs that have it expect ``.tessera`` on its datasets from here on; others do not pay
    # for it, and get it with the first dataset of ours.
    from geotessera.xr import store as _xarray_store  # noqa: F401


def _url(given: Any, store: EmbeddingStore) -> str:
    """Return how a client calls its store: as it was given, without a slash at the end."""
    if isinstance(given, str | Path):
        return str(given).rstrip("/") or "/"
    return store.location
