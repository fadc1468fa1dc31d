"""A zone of a store as a lazy xarray Dataset, and a Dataset as a zone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from geotessera import _native
from geotessera.errors import InputError, ZoneError
from geotessera.remote.objects_zarr import StoreReader
from geotessera.sources.zarr import ZarrZone
from geotessera.sources.zarr_array import ZarrArray, read_values
from geotessera.sources.zarr_spec import ArraySpec
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["block_side", "zone_dataset", "zone_of_dataset"]

_BLOCK_BYTES = 128 * 2**20
"""Of a block of a lazy array, at most: as much as dask itself aims at."""

_LARGEST_SIDE = 1024
"""Pixels: a block of few bands still takes whole chunks of all bands to read."""

_SPARSE = 4
"""Pixels that are so many times fewer than those of their window are read one by one."""

_MARK = "geotessera"
"""Where a variable's encoding names its zone."""


def block_side(chunk: int, pixel_bytes: int) -> int:
    """Return the side of a lazy array's blocks: whole inner chunks, of a size that dask likes.

    Parameters
    ----------
    chunk : int
        Side of the store's inner chunks in pixels.
    pixel_bytes : int
        Bytes of a pixel, all bands.
    """
    side = chunk
    while 2 * side <= _LARGEST_SIDE and (2 * side) ** 2 * pixel_bytes <= _BLOCK_BYTES:
        side *= 2
    return side


# --- A zone as a Dataset -----------------------------------------------------------------


def zone_dataset(zone: ZarrZone, **options: Any) -> xr.Dataset:
    """Return a zone as a lazy Dataset; neither pixels nor coordinates are read.

    Parameters
    ----------
    zone : ZarrZone
        The zone.
    **options
        Of `xarray.open_dataset`: ``chunks`` (by default blocks of whole inner chunks; None for
        arrays without dask), ``drop_variables`` and so on.

    Returns
    -------
    xarray.Dataset
        ``embeddings`` (time, band, y, x) int8, ``scales`` (time, y, x) float32 and what else
        the store holds, with the zone's attributes; ``x`` and ``y`` are pixel centres in
        metres of EPSG:326zz, northings south of the equator negative.
    """
    inner = zone.arrays["embeddings"].plane(zone.arrays["embeddings"].inner)
    side = block_side(max(inner), zone.n_bands)
    options.setdefault("chunks", {"time": 1, "y": side, "x": side})
    opened: xr.Dataset = xr.open_dataset(cast("Any", _Mark(zone)), engine=_ZoneBackend, **options)
    return opened


class _Mark:
    """Names the zone that a variable was read from."""

    def __init__(self, zone: ZarrZone) -> None:
        self.zone = zone

    def __deepcopy__(self, memo: object) -> _Mark:
        """Return itself: a copy of a Dataset is of the same zone."""
        return self

    def __dask_tokenize__(self) -> object:
        """Return what names its arrays in graphs."""
        return "geotessera", self.zone.reader.location, self.zone.name

    def __repr__(self) -> str:
        return f"{self.zone.reader.location}/{self.zone.name}"


class _ZoneBackend(BackendEntrypoint):
    """What xarray opens a zone with."""

    description = "A UTM zone of a store of TESSERA embeddings"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "consolidated")

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: _Mark,
        *,
        drop_variables: str | Iterable[str] | None = None,
        consolidated: bool | None = None,
    ) -> xr.Dataset:
        """Return a Dataset whose arrays are read when they are asked for."""
        zone = filename_or_obj.zone
        dropped = {drop_variables} if isinstance(drop_variables, str) else {*(drop_variables or ())}
        variables, coords = {}, _axes(zone)
        for name, spec in zone.arrays.items():
            if name in coords or name in dropped or _counts(name):
                continue
            if _has_pixels(zone, spec):
                variables[name] = _pixel_variable(filename_or_obj, name)
            elif spec.dims == (name,):
                coords[name] = xr.Variable(spec.dims, read_values(zone.reader, spec))
            elif spec.dims is not None:
                lazy = indexing.LazilyIndexedArray(_SmallArray(zone, name))
                variables[name] = xr.Variable(spec.dims, lazy, dict(spec.attributes))
        for variable in variables.values():
            for dim, size in zip(variable.dims, variable.shape, strict=True):
                if _counts(str(dim)):
                    first = 1 if dim == "month" else 0
                    kind = zone.arrays[str(dim)].dtype if dim in zone.arrays else "int64"
                    values = np.arange(first, first + size, dtype=kind)
                    coords.setdefault(str(dim), xr.Variable((dim,), values))
        kept = {name: one for name, one in coords.items() if name not in dropped}
        return xr.Dataset(variables, kept, dict(zone.attrs))


def _counts(dim: str) -> bool:
    """Return whether an axis has the coordinates 0, 1, 2 …, or the months, which start at 1."""
    return dim in ("band", "month") or dim.startswith("band_d")


def _axes(zone: ZarrZone) -> dict[str, xr.Variable]:
    """Return time, x and y; the latter two as the transform gives them."""
    a, _, left, _, e, top = zone.grid.transform
    kind = zone.arrays["time"].dtype if "time" in zone.arrays else "int64"
    return {
        "time": xr.Variable("time", np.array(zone.years, kind)),
        "y": xr.Variable("y", top + e * (np.arange(zone.grid.height) + 0.5)),
        "x": xr.Variable("x", left + a * (np.arange(zone.grid.width) + 0.5)),
    }


def _has_pixels(zone: ZarrZone, spec: ArraySpec) -> bool:
    size = zone.grid.height, zone.grid.width
    if spec.layout is None or spec.size != size or spec.shape[0] != len(zone.years):
        return False
    return spec.dims is None or {"y", "x"} <= set(spec.dims)


def _pixel_variable(mark: _Mark, name: str) -> xr.Variable:
    pixels = _ZonePixels(mark.zone, name)
    spec = pixels.spec
    sizes = dict(zip(pixels.dims, pixels.ordered(spec.inner), strict=True))
    encoding: dict[str, Any] = {
        "chunks": tuple(sizes.values()),
        "preferred_chunks": sizes,
        "dtype": np.dtype(spec.dtype),
        _MARK: mark,
    }
    if spec.outer != spec.inner:
        encoding["shards"] = pixels.ordered(spec.outer)
    lazy = indexing.LazilyIndexedArray(pixels)
    return xr.Variable(pixels.dims, lazy, dict(spec.attributes), encoding)


class _ZonePixels(BackendArray):
    """An array of pixels of a zone, read through the same engine as everything else."""

    def __init__(self, zone: ZarrZone, name: str) -> None:
        self.zone, self.name = zone, name
        self.array = zone.array(name)
        self.spec = self.array.spec
        # Embeddings are presented band by band; other arrays as they are stored.
        self._moved = self.spec.layout == "hwc" and name.startswith("embeddings")
        default = ("time", "y", "x") if self.spec.layout == "hw" else ("time", "band", "y", "x")
        dims = self.spec.dims or default
        self.dims = self.ordered(dims)
        self.shape = self.ordered(self.spec.shape)
        self.dtype = np.dtype(self.spec.dtype)

    def ordered[T](self, axes: tuple[T, ...]) -> tuple[T, ...]:
        """Return a tuple with one item an axis in the order of the presented axes."""
        return (axes[0], axes[3], axes[1], axes[2]) if self._moved else axes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by zone and name."""
        return _ZonePixels, (self.zone, self.name)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return pixels, a NumPy array."""
        points = isinstance(key, indexing.VectorizedIndexer)
        return indexing.explicit_indexing_adapter(
            key,
            self.shape,
            indexing.IndexingSupport.VECTORIZED,
            self._points if points else self._outer,
        )

    @property
    def _hwc(self) -> bool:
        """Whether bands, where there are any, are the last axis of what is presented."""
        return self.spec.layout == "hwc" and not self._moved

    def _outer(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return the outer product of what each axis asks for."""
        axes = [np.arange(size)[one] for size, one in zip(self.shape, key, strict=True)]
        at = [np.atleast_1d(axis) for axis in axes]
        shape = tuple(len(axis) for axis in at)
        out = np.empty(shape, self.dtype)
        if out.size:
            steps, bands, rows, cols = self._named(at)
            for index, step in enumerate(steps):
                pixels = self._pixels(int(step), rows, cols, bands)
                out[index] = pixels if bands is None or self._hwc else pixels.transpose(2, 0, 1)
        kept = tuple(len(a) for a, axis in zip(at, axes, strict=True) if axis.ndim)
        return out.reshape(kept)

    def _named(self, at: Sequence[NDArray[Any]]) -> tuple[Any, Any, Any, Any]:
        """Return steps, bands or None, rows and columns of indices in the presented order."""
        if len(at) == 3:
            return at[0], None, at[1], at[2]
        if self._hwc:
            return at[0], at[3], at[1], at[2]
        return at[0], at[1], at[2], at[3]

    def _pixels(
        self, step: int, rows: NDArray[Any], cols: NDArray[Any], bands: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Return (row, column[, band]): a window, or single pixels where they are few."""
        picked = None if bands is None else _picked(bands, self.spec.band_count)
        top, left = int(rows.min()), int(cols.min())
        height, width = int(rows.max()) - top + 1, int(cols.max()) - left + 1
        if height * width > _SPARSE * len(rows) * len(cols):
            y, x = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
            found = self.array.gather(step, y, x, picked)
            return found.reshape(len(rows), len(cols), *found.shape[1:])
        block = self.array.read(step, Window(top, left, height, width), picked)
        if len(rows) == height and len(cols) == width and _rises(rows) and _rises(cols):
            return block
        return block[np.ix_(rows - top, cols - left)]

    def _points(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return what arrays of indices, broadcast against each other, ask for."""
        at = [
            np.arange(size)[one] if isinstance(one, slice) else np.asarray(one)
            for size, one in zip(self.shape, key, strict=True)
        ]
        if any(isinstance(one, slice) for one in key):
            raise NotImplementedError("vectorised indexing with slices")  # xarray expands them
        at = list(np.broadcast_arrays(*at))
        steps, bands, rows, cols = self._named([axis.ravel() for axis in at])
        found = np.empty(len(steps), self.dtype)
        for step in np.unique(steps):
            here = np.flatnonzero(steps == step)
            if bands is None:
                found[here] = self.array.gather(int(step), rows[here], cols[here])
                continue
            wanted, which = np.unique(bands[here], return_inverse=True)
            places, where = np.unique(
                rows[here] * self.zone.grid.width + cols[here], return_inverse=True
            )
            row, col = np.divmod(places, self.zone.grid.width)
            pixels = self.array.gather(int(step), row, col, wanted.tolist())
            found[here] = pixels[where, which]
        return found.reshape(at[0].shape)


def _picked(bands: NDArray[Any], count: int) -> list[int] | None:
    wanted: list[int] = bands.tolist()
    return None if wanted == list(range(count)) else wanted


def _rises(axis: NDArray[Any]) -> bool:
    return len(axis) == 1 or bool((np.diff(axis) == 1).all())


class _SmallArray(BackendArray):
    """An array without pixels, read whole."""

    def __init__(self, zone: ZarrZone, name: str) -> None:
        self.zone, self.name = zone, name
        spec = zone.arrays[name]
        self.shape, self.dtype = spec.shape, np.dtype(spec.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return a part of it."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._part
        )

    def _part(self, key: tuple[Any, ...]) -> Any:
        return read_values(self.zone.reader, self.zone.arrays[self.name])[key]


# --- A Dataset as a zone -----------------------------------------------------------------


def zone_of_dataset(dataset: xr.Dataset) -> ZarrZone:
    """Return the zone that a Dataset is, or one that reads the Dataset's own arrays.

    Whatever holds ``embeddings`` and ``scales`` over time, y and x can be read as a zone: also
    a part of one, and what `xarray.open_zarr` opened.

    Raises
    ------
    ZoneError
        (a `KeyError` and a `ValueError`) if something is missing.
    """
    for name in ("embeddings", "scales"):
        if name not in dataset:
            raise ZoneError(f"the Dataset has no variable {name!r}: open a zone with open_zone()")
    mark = dataset["embeddings"].encoding.get(_MARK)
    if isinstance(mark, _Mark) and _is_untouched(dataset, mark):
        return mark.zone
    if "time" not in dataset.dims and "time" in dataset.coords:
        dataset = dataset.expand_dims("time")
    missing = {"time", "y", "x"} - {str(name) for name in dataset.coords}
    code = str(dataset.attrs.get("proj:code"))
    number = code.removeprefix("EPSG:326")
    if missing or not number.isdecimal() or not 1 <= int(number) <= 60:
        raise ZoneError(
            "the Dataset is not a zone of a store: it needs the coordinates time, y and x, found "
            f"{sorted(map(str, dataset.coords))}, and an attribute 'proj:code', found {code!r}"
        )
    return _DatasetZone.of(dataset, int(number))


def _is_untouched(dataset: xr.Dataset, mark: _Mark) -> bool:
    """Return whether a Dataset holds all of a zone, as it was opened."""
    grid, years = mark.zone.grid, mark.zone.years
    names = ["scales", *(name for name in dataset.data_vars if str(name).startswith("embeddings"))]
    for name in names:
        variable = dataset[name].variable
        if variable.encoding.get(_MARK) is not mark or isinstance(variable._data, np.ndarray):
            return False
    if tuple(np.atleast_1d(dataset["time"].values).tolist()) != years:
        return False
    if (dataset.sizes.get("y"), dataset.sizes.get("x")) != (grid.height, grid.width):
        return False
    a, _, left, _, e, top = grid.transform
    corner = float(dataset["x"][0]), float(dataset["y"][0])
    return corner == (left + a / 2, top + e / 2)


@dataclass(frozen=True, eq=False)
class _DatasetZone(ZarrZone):
    """A Dataset that is read as a zone."""

    dataset: Any = None

    @classmethod
    def of(cls, dataset: xr.Dataset, number: int) -> _DatasetZone:
        from zarr.storage import MemoryStore

        reader = StoreReader(MemoryStore(), "the Dataset")
        arrays = {
            str(name): _spec_of(str(name), _in_order(variable))
            for name, variable in dataset.data_vars.items()
            if {"time", "y", "x"} <= set(variable.dims) and variable.ndim in (3, 4)
        }
        depths = {
            spec.band_count: name for name, spec in arrays.items() if name.startswith("embeddings_")
        }
        depths[arrays["embeddings"].band_count] = "embeddings"
        return cls(
            reader=reader,
            number=number,
            name=f"utm{number:02d}",
            grid=_grid_of(dataset, number),
            years=tuple(int(year) for year in dataset["time"].values),
            depths=dict(sorted(depths.items())),
            mask_source=dataset.attrs.get("geotessera:mask_source"),
            attrs=dict(dataset.attrs),
            arrays=arrays,
            dataset=dataset,
        )

    def array(self, name: str) -> ZarrArray:
        """Return an array of pixels by its name."""
        found = _DatasetArray(self.arrays[name], _in_order(self.dataset[name]))
        # It reads as an array of a store does, which is all that sources ask of it.
        return cast("ZarrArray", found)


def _in_order(variable: xr.DataArray) -> xr.DataArray:
    return variable.transpose("time", ..., "y", "x")


def _spec_of(name: str, variable: xr.DataArray) -> ArraySpec:
    shape = tuple(int(size) for size in variable.shape)
    pixel = (1, *shape[1:-2], 1, 1)
    return ArraySpec(
        path=name,
        dtype=variable.dtype.name,
        shape=shape,
        dims=tuple(str(dim) for dim in variable.dims),
        outer=pixel,
        inner=pixel,
        fill=0,
        prefix="",
        separator="/",
        index=None,
        codec=None,
        attributes={},
    )


def _grid_of(dataset: xr.Dataset, number: int) -> GridSpec:
    """Return where a Dataset's pixels are, by its coordinates."""
    x, y = (np.asarray(dataset[axis].values, np.float64) for axis in "xy")
    if not (len(x) and len(y)):
        raise ZoneError("the Dataset has no pixel: its coordinates x or y are empty")
    size = float(dataset.attrs.get("spatial:transform", (0.0,))[0])
    steps = [
        abs(float(axis[-1] - axis[0])) / (len(axis) - 1) for axis in (x, y) if len(axis) > 1
    ] or [size]
    a = steps[0]
    even = all(
        np.allclose(axis, axis[0] + way * a * np.arange(len(axis)), rtol=0, atol=1e-3 * a)
        for axis, way in ((x, 1), (y, -1))
    )
    if not (a > 0 and even and all(math.isclose(step, a, rel_tol=1e-6) for step in steps)):
        raise InputError(
            "the Dataset's pixels are not square and evenly spaced, with x rising and y falling: "
            "select parts of a zone by slices"
        )
    transform = (a, 0.0, float(x[0]) - a / 2, 0.0, -a, float(y[0]) + a / 2)
    return GridSpec(32600 + number, transform, len(y), len(x))


class _DatasetArray:
    """Reads a variable of a Dataset as `ZarrArray` reads an array of a store."""

    def __init__(self, spec: ArraySpec, variable: xr.DataArray) -> None:
        self.spec = spec
        self._variable = variable

    def read(
        self,
        step: int,
        window: Window,
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read a window of one year; see `ZarrArray.read`."""
        row, col, height, width = window
        rows, cols = slice(row, row + height), slice(col, col + width)
        found = self._variable.isel(time=step, y=rows, x=cols)
        return self._finished(np.moveaxis(found.values, 0, -1) if found.ndim == 3 else found.values,
                              bands, out, scales)  # fmt: skip

    def gather(
        self,
        step: int,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: list[int] | None = None,
        out: NDArray[Any] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Read single pixels of one year; see `ZarrArray.gather`."""
        at = {"y": xr.DataArray(rows, dims="pixel"), "x": xr.DataArray(cols, dims="pixel")}
        found = self._variable.isel(time=step).isel(at).transpose("pixel", ...)
        return self._finished(found.values, bands, out, scales)

    def shards(self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> list[str]:
        """Return nothing: what lies below the Dataset is not known."""
        return []

    def written(
        self, step: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return True for all pixels: what lies below the Dataset is not known."""
        return np.ones(len(rows), np.bool_)

    def _finished(
        self,
        values: NDArray[Any],
        bands: list[int] | None,
        out: NDArray[Any] | None,
        scales: NDArray[np.float32] | None,
    ) -> NDArray[Any]:
        if bands is not None:
            values = values[..., bands]
        if scales is not None:
            flat = values if values.ndim == 3 else values[:, None]
            factors = scales if scales.ndim == 2 else scales[:, None]
            made = _native.dequantize(np.ascontiguousarray(flat), np.ascontiguousarray(factors))
            values = made.reshape(values.shape)
        if out is None:
            return values
        out[...] = values
        return out
