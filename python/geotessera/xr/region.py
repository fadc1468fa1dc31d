"""Regions of stores as lazy, georeferenced arrays: dask computes them block by block."""

from __future__ import annotations

import functools
import itertools
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geotessera.datasets import dataset_for_location, dataset_tags, zarr_store_url
from geotessera.errors import InputError
from geotessera.mosaic import MosaicPlan, grid_like, render
from geotessera.sources.zarr_store import EmbeddingStore, open_embedding_store
from geotessera.stores.mosaic import plan_zones, region_grid
from geotessera.stores.regions import box_of
from geotessera.stores.zones import StoreZones, centre_of, checked_year, natural_zones
from geotessera.types import Window
from geotessera.xr.zone import block_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from geotessera.types import GridSpec, Method, ProgressCallback

__all__ = ["open_dataarray", "store_at"]

logger = logging.getLogger("geotessera.store")

_SCALE_BYTES = 4


def store_at(location: Any = None, **options: Any) -> EmbeddingStore:
    """Return an open store: the given one, or what is at a location, or the default store."""
    if isinstance(location, EmbeddingStore):
        return location
    return open_embedding_store(zarr_store_url() if location is None else location, **options)


def open_dataarray(
    bbox: Any = None,
    year: int | None = None,
    *,
    store: Any = None,
    geobox: Any = None,
    crs: Any = None,
    like: Any = None,
    resolution: float | tuple[float, float] | None = None,
    chunks: int | Mapping[str, int] | str | None = "auto",
    resampling: Method = "nearest",
    bands: Sequence[int] | None = None,
    depth: int | None = None,
    progress: ProgressCallback | None = None,
    fail_on_error: bool = True,
    quantized: bool = False,
    **options: Any,
) -> xr.DataArray:
    """Open a region as a lazy, georeferenced DataArray.

    Nothing but metadata is read until dask computes; then each block is made of the chunks
    that cover it, by threads or in other processes. The names of arguments are those of
    ``odc.stac.load``.

    Parameters
    ----------
    bbox : sequence of 4 float, optional
        (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
    year : int
        Calendar year.
    store : str, path, zarr Store or EmbeddingStore, optional
        Where the store is; by default that of the default dataset.
    geobox, like : GeoBox, GridSpec, path or xarray object, optional
        What has the grid that is wanted, instead of `bbox`.
    crs : int, str or CRS, optional
        Of the grid; by default the store's own pixels in the UTM zone of the box's middle.
        Pixels of neighbouring zones are moved there.
    resolution : float or (float, float), optional
        Size of a pixel in units of `crs`; by default what the store's pixels measure.
    chunks : int, mapping or "auto"
        Side of the blocks in pixels, or ``{"y": …, "x": …}``; -1 is all of an axis. By default
        whole inner chunks of the store, about 128 MB together.
    resampling : {"nearest", "bilinear"}
        How a value between pixel centres is made.
    bands : sequence of int, optional
        Zero-based bands, in this order; all by default.
    depth : int, optional
        How many bands are read: one of the store's depths.
    progress : callable, optional
        Called with (blocks done, blocks in all, text) as blocks are computed in this process.
    fail_on_error : bool
        Whether a block that cannot be read raises; otherwise it is left empty, and logged.
    quantized : bool
        Whether to return int8 values with a coordinate ``scales`` (y, x), to multiply them by.
    **options
        Of the store: cache_dir, cache_max_size, via_gateway, offline.

    Returns
    -------
    xarray.DataArray
        (band, y, x), float32 with NaN where there is no embedding, or int8. With the
        coordinate ``spatial_ref`` and attributes by which rioxarray, odc-geo and rio-tiler
        know where it is.

    Raises
    ------
    InputError
        (a `ValueError`) for arguments that cannot be used.
    NoOverlapError
        (an `IndexError` and a `ValueError`) if no zone of the store meets the region.
    YearError
        (a `KeyError` and a `ValueError`) if one that does lacks the year.

    Examples
    --------
    >>> array = open_dataarray((0.1, 52.1, 0.2, 52.2), 2024)  # doctest: +SKIP
    >>> array.isel(band=0).mean().compute()  # doctest: +SKIP
    """
    if year is None:
        raise InputError("year= is needed")
    given = [value for value in (bbox, geobox, like) if value is not None]
    if len(given) != 1:
        raise InputError("give exactly one of bbox=, geobox= and like=")
    if bbox is None and (crs is not None or resolution is not None):
        raise InputError("geobox= and like= give the whole grid: leave out crs= and resolution=")
    opened = store_at(store, **options)
    zones = StoreZones(opened)
    grid = _grid(zones, bbox, crs, resolution) if bbox is not None else grid_like(given[0])
    known = dataset_for_location(opened.location)
    plan = plan_zones(
        zones,
        grid,
        checked_year(year),
        depth=depth,
        bands=bands,
        method=resampling,
        quantized=quantized,
        dataset=known,
    )
    blocks = _blocks(plan, chunks)
    packed = _lazy(plan, blocks, progress, fail_on_error)
    coords = _coords(plan, range(plan.rasters[0].band_count) if bands is None else bands)
    attrs = _attrs(plan)
    if opened.model_version:
        attrs["geoemb:model"] = opened.model_version
    if known is not None:
        attrs |= dataset_tags(known.version, known.variant)
    if quantized:
        coords["scales"] = (("y", "x"), _scales(packed[plan.band_count :]))
        packed = packed[: plan.band_count]
    array = xr.DataArray(packed, coords, ("band", "y", "x"), "embeddings", attrs)
    if not quantized:
        array.encoding["_FillValue"] = np.float32(np.nan)  # what rioxarray takes for nodata
    return array


def _grid(zones: StoreZones, bbox: Any, crs: Any, resolution: Any) -> GridSpec:
    box = box_of(bbox)
    if crs is None:
        crs = 32600 + int(natural_zones(np.array([centre_of(box)[0]]))[0])
    return region_grid(zones, box, crs, resolution=resolution)


# --- Blocks ------------------------------------------------------------------------------


def _blocks(plan: MosaicPlan, chunks: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the heights and widths of the blocks."""
    inner, first_row, first_col = _lattice(plan)
    auto = block_side(inner, plan.pixel_bytes)
    if isinstance(chunks, dict) or hasattr(chunks, "items"):
        wanted = {"y": "auto", "x": "auto"} | dict(chunks)
    else:
        wanted = {"y": chunks, "x": chunks}
    unknown = {*wanted} - {"y", "x", "band"}
    if unknown:
        raise InputError(f"chunks= has axes {sorted(unknown)}: expected y and x")
    height, width = plan.grid.height, plan.grid.width
    return (
        _pieces(height, wanted["y"], auto, first_row),
        _pieces(width, wanted["x"], auto, first_col),
    )


def _lattice(plan: MosaicPlan) -> tuple[int, int, int]:
    """Return the side of the store's inner chunks, and pixels of the first one before the grid."""
    part: Any = plan.rasters[0].descriptor
    inner = max(part.open().block_shape)
    own, grid = part.zone.grid, plan.grid
    a, _, left, _, e, top = own.transform
    if grid.epsg_or_wkt != own.epsg_or_wkt or (grid.transform[0], grid.transform[4]) != (a, e):
        return inner, 0, 0
    return inner, round((grid.transform[5] - top) / e), round((grid.transform[2] - left) / a)


def _pieces(size: int, wanted: Any, auto: int, first: int) -> tuple[int, ...]:
    """Return lengths that make up an axis; by default they end where chunks of the store end."""
    start = 0
    if wanted in ("auto", None):
        wanted, start = auto, first % auto
    if (
        isinstance(wanted, bool)
        or not isinstance(wanted, int | np.integer)
        or wanted < -1
        or not wanted
    ):
        raise InputError(f"chunks={wanted!r}: expected 'auto', or a number of pixels")
    if wanted == -1:
        return (size,)
    edges = [0, *range(int(wanted) - start, size, int(wanted)), size]
    return tuple(high - low for low, high in itertools.pairwise(edges))


def _lazy(
    plan: MosaicPlan,
    blocks: tuple[tuple[int, ...], tuple[int, ...]],
    progress: ProgressCallback | None,
    fail_on_error: bool,
) -> da.Array:
    """Return (band, y, x); of a quantised plan, each pixel's scale follows as four bands."""
    import dask.array as da
    from dask.base import tokenize

    rows, cols = blocks
    depth = plan.band_count + (_SCALE_BYTES if plan.quantized else 0)
    make = _Renderer(plan, blocks, fail_on_error, progress)
    kind = np.int8 if plan.quantized else np.float32
    name = f"tessera-{tokenize(plan.digest, blocks, fail_on_error)}"
    made: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        make,
        chunks=((depth,), rows, cols),
        dtype=kind,
        meta=np.empty((0, 0, 0), kind),
        name=name,
    )
    return made


class _Renderer:
    """Makes blocks of a plan. It is pickled as a whole, and unpickled once a process."""

    def __init__(
        self,
        plan: MosaicPlan,
        blocks: tuple[tuple[int, ...], tuple[int, ...]],
        fail_on_error: bool,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.plan, self.blocks, self.fail_on_error = plan, blocks, fail_on_error
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the callback: another process cannot call it."""
        return _renderer, (pickle.dumps((self.plan, self.blocks, self.fail_on_error)),)

    def __call__(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        """Return the block at a place, shape (band, height, width)."""
        _, i, j = block_id
        rows, cols = self.blocks
        window = Window(sum(rows[:i]), sum(cols[:j]), rows[i], cols[j])
        try:
            block: Any = render(self.plan, window, layout="chw")
            values, scales = block.values, block.scales
        except (OSError, RuntimeError) as error:
            if self.fail_on_error:
                raise
            logger.warning("block %s of %s is left empty: %s", (i, j), self.plan, error)
            values, scales = self._empty(window)
        self._tell()
        if not self.plan.quantized:
            return np.asarray(values)
        factors = np.ascontiguousarray(scales, np.float32)[..., None].view(np.int8)
        return np.concatenate([values, factors.transpose(2, 0, 1)])

    def _empty(self, window: Window) -> tuple[NDArray[Any], NDArray[np.float32]]:
        size = window.height, window.width
        shape = self.plan.band_count, *size
        if self.plan.quantized:
            return np.zeros(shape, np.int8), np.full(size, np.inf, np.float32)
        return np.full(shape, np.nan, np.float32), np.empty(0, np.float32)

    def _tell(self) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += 1
                total = len(self.blocks[0]) * len(self.blocks[1])
                self._progress(self._done, total, "Reading blocks")


@functools.lru_cache(maxsize=4)
def _renderer(pickled: bytes) -> _Renderer:
    """Return the process's one renderer of a plan: each task of a graph brings it."""
    return _Renderer(*pickle.loads(pickled))


def _scales(packed: da.Array) -> da.Array:
    """Return (y, x) float32 of scales whose bytes are four bands."""
    import dask.array as da

    made: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _unpacked, packed, dtype=np.float32, drop_axis=0, meta=np.empty((0, 0), np.float32)
    )
    return made


def _unpacked(block: NDArray[np.int8]) -> NDArray[np.float32]:
    factors: NDArray[np.float32] = np.ascontiguousarray(block.transpose(1, 2, 0)).view(np.float32)
    return factors[..., 0]


# --- Where it is -------------------------------------------------------------------------


def _coords(plan: MosaicPlan, bands: Sequence[int]) -> dict[str, Any]:
    """Return the coordinates, and `spatial_ref` as CF, GDAL and rioxarray read it."""
    from pyproj import CRS

    grid = plan.grid
    a, b, left, d, e, top = grid.transform
    crs = CRS.from_user_input(grid.epsg_or_wkt)
    wkt = crs.to_wkt()
    mapping: dict[str, Any] = crs.to_cf()
    mapping |= {
        "crs_wkt": wkt,
        "spatial_ref": wkt,
        "GeoTransform": " ".join(map(repr, (left, a, b, top, d, e))),
    }
    if crs.is_geographic:
        names, units = ("longitude", "latitude"), ("degrees_east", "degrees_north")
    else:
        names, units = ("projection_x_coordinate", "projection_y_coordinate"), ("metre", "metre")
    x = left + a * (np.arange(grid.width) + 0.5)
    y = top + e * (np.arange(grid.height) + 0.5)
    return {
        "band": ("band", np.array([int(band) for band in bands])),
        "y": ("y", y, {"axis": "Y", "standard_name": names[1], "units": units[1]}),
        "x": ("x", x, {"axis": "X", "standard_name": names[0], "units": units[0]}),
        "spatial_ref": ((), np.int64(0), mapping),
    }


def _attrs(plan: MosaicPlan) -> dict[str, Any]:
    grid = plan.grid
    attrs: dict[str, Any] = {
        "grid_mapping": "spatial_ref",
        "proj:code" if grid.epsg is not None else "proj:wkt2": grid.crs_name,
        "spatial:transform": list(grid.transform),
        "spatial:bbox": list(grid.bounds),
        "spatial:shape": [grid.height, grid.width],
        "spatial:dimensions": ["y", "x"],
        "year": plan.provenance.year,
    }
    return attrs
