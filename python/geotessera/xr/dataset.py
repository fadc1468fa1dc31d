"""A Dataset of embeddings, wherever it comes from, read as a zone of a store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from geotessera import _native
from geotessera.errors import InputError, ZoneError
from geotessera.remote.objects.zarr import StoreReader
from geotessera.sources.zarr import ZarrZone
from geotessera.sources.zarr_spec import ArraySpec
from geotessera.types import GridSpec, Window
from geotessera.xr.zone import zone_opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geotessera.sources.zarr_array import ZarrArray

__all__ = ["zone_of_dataset"]


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
    whole = zone_opened(dataset)
    if whole is not None:
        return whole
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
