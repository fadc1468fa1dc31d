"""A zone of a store as a lazy xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from geotessera.sources.zarr_array import read_values
from geotessera.xr.pixels import ZonePixels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.sources.zarr import ZarrZone
    from geotessera.sources.zarr_spec import ArraySpec

__all__ = ["block_side", "zone_dataset", "zone_opened"]

_BLOCK_BYTES = 128 * 2**20
"""Of a block of a lazy array, at most: as much as dask itself aims at."""

_LARGEST_SIDE = 1024
"""Pixels: a block of few bands still takes whole chunks of all bands to read."""

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
    # As large as they are when they have been dequantised: a single point reads one of them.
    side = block_side(max(inner), 4 * zone.n_bands)
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
    pixels = ZonePixels(mark.zone, name)
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


def zone_opened(dataset: xr.Dataset) -> ZarrZone | None:
    """Return the zone of which a Dataset holds everything, as it was opened, or None."""
    mark: Any = dataset["embeddings"].encoding.get(_MARK)
    if not isinstance(mark, _Mark):
        return None
    zone = mark.zone
    grid, years = zone.grid, zone.years
    names = ["scales", *(name for name in dataset.data_vars if str(name).startswith("embeddings"))]
    for name in names:
        variable = dataset[name].variable
        if variable.encoding.get(_MARK) is not mark or isinstance(variable._data, np.ndarray):
            return None
    if tuple(np.atleast_1d(dataset["time"].values).tolist()) != years:
        return None
    if (dataset.sizes.get("y"), dataset.sizes.get("x")) != (grid.height, grid.width):
        return None
    a, _, left, _, e, top = grid.transform
    corner = float(dataset["x"][0]), float(dataset["y"][0])
    return zone if corner == (left + a / 2, top + e / 2) else None
