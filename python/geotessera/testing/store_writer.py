"""Writes synthetic stores with zarr-python, in the layout of the published ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geotessera.testing.store_pixels import intersection
from geotessera.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zarr
    from numpy.typing import NDArray

    from geotessera.testing.stores import SampleStore
    from geotessera.types import GridSpec

__all__ = ["Compressor", "StoreFormat", "depth_chunk", "write_store"]

type Compressor = Literal["blosc", "zstd"] | None

_FULL_CHUNK = 128 * 32 * 32
"""Bytes of a published inner chunk; those of the prefixes are at most as large."""

_SPATIAL = {
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial:",
    "description": "Spatial coordinate information",
}
_PROJ = {
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj:",
    "description": "Coordinate reference system information",
}
_GEOEMB = {
    "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
    "name": "geoemb:",
    "description": "Geospatial embeddings",
    "spec_url": "https://example.org/geoemb/v1",
    "schema_url": "https://example.org/geoemb/v1/schema.json",
}


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """How a store is laid out.

    Parameters
    ----------
    chunk : int
        Side of the inner chunks.
    shard : int or None
        Side of the shards; None stores each chunk as an object.
    compressor : {"blosc", "zstd"} or None
        Of the chunks.
    consolidated : bool
        Whether the root carries all metadata.
    full : bool
        Whether to write optional attributes and arrays.
    root_attributes : dict
        Added to the root's attributes last.
    """

    chunk: int = 32
    shard: int | None = 4096
    compressor: Compressor = "blosc"
    consolidated: bool = True
    full: bool = True
    root_attributes: dict[str, object] = field(default_factory=dict)

    def codecs(self, dtype: str) -> tuple[Any, ...]:
        """Return the compressors of an array."""
        from zarr.codecs import BloscCodec, ZstdCodec

        size = np.dtype(dtype).itemsize
        if self.compressor == "blosc":
            shuffle: Literal["bitshuffle", "shuffle"] = "bitshuffle" if size == 1 else "shuffle"
            return (BloscCodec(cname="zstd", clevel=3, shuffle=shuffle, typesize=size),)
        return (ZstdCodec(level=3),) if self.compressor == "zstd" else ()


def depth_chunk(depth: int, form: StoreFormat) -> int:
    """Return the side of the inner chunks of a prefix: a chunk holds at most 131,072 bytes."""
    side, most = form.chunk, form.shard or form.chunk
    while 2 * side <= min(most, 4096) and depth * (2 * side) ** 2 <= _FULL_CHUNK:
        side *= 2
    return side


def write_store(store: SampleStore, form: StoreFormat) -> None:
    """Write a store as its recipe says."""
    import zarr

    root = zarr.create_group(
        zarr.storage.LocalStore(store.path), attributes=_root_attributes(store, form)
    )
    for zone, grid in store.grids.items():
        group = root.create_group(f"utm{zone:02d}", attributes=_zone_attributes(store, grid, form))
        _create_arrays(store, zone, grid, group, form)
        _write_pixels(store, zone, group, form)
    if form.consolidated:
        with warnings.catch_warnings():  # "not part of the Zarr format 3 specification" yet
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(root.store)


def _root_attributes(store: SampleStore, form: StoreFormat) -> dict[str, Any]:
    attributes: dict[str, Any] = {"geoemb:dimensions": store.bands}
    if store.depths:
        named = [(depth, f"embeddings_d{depth}") for depth in store.depths]
        attributes["geoemb:depths"] = [
            {"dimensions": depth, "array": name}
            for depth, name in sorted([*named, (store.bands, "embeddings")])
        ]
    if store.kind == "dclimate":
        attributes["geotessera:mask_source"] = "source_nodata"
        attributes["geoemb:landmask"] = False
    if form.full:
        attributes |= {
            "zarr_conventions": [_GEOEMB],
            "geoemb:type": "pixel",
            "geoemb:model": "https://geotessera.org/model/1.1",
            "geoemb:build_version": "1.0.0+synthetic",
            "geoemb:source_data": [
                "https://sentinel.esa.int/web/sentinel/missions/sentinel-1",
                "https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
            ],
            "geoemb:data_type": "int8",
            "geoemb:gsd": 10.0,
            "geoemb:spatial_layout": "utm_zones",
            "geoemb:quantization": {
                "method": "per_pixel_scale",
                "original_dtype": "float32",
                "quantized_dtype": "int8",
                "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
            },
        }
    return attributes | form.root_attributes


def _zone_attributes(store: SampleStore, grid: GridSpec, form: StoreFormat) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "proj:code": grid.crs_name,
        "spatial:transform": list(grid.transform),
    }
    if store.kind == "dclimate":
        attributes["geotessera:mask_source"] = "source_nodata"
    if form.full:
        attributes |= {
            "spatial:dimensions": ["y", "x"],
            "spatial:bbox": list(grid.bounds),
            "spatial:shape": [grid.height, grid.width],
            "spatial:registration": "pixel",
            "spatial:transform_type": "affine",
            "zarr_conventions": [_SPATIAL, _PROJ],
        }
    return attributes


def _create_arrays(
    store: SampleStore, zone: int, grid: GridSpec, group: zarr.Group, form: StoreFormat
) -> None:
    size, steps = (grid.height, grid.width), len(store.years[zone])

    def create(
        name: str,
        dtype: str,
        dims: tuple[str, ...],
        lead: tuple[int, ...],
        side: int = form.chunk,
        fill: float = 0,
    ) -> None:
        """Create an array over y and x; `lead` is the size of the dims between."""
        shards = None if form.shard is None else (1, *lead, form.shard, form.shard)
        group.create_array(
            name,
            shape=(steps, *lead, *size),
            dtype=dtype,
            chunks=(1, *lead, side, side),
            shards=shards,
            compressors=form.codecs(dtype),
            fill_value=fill,
            dimension_names=("time", *dims, "y", "x"),
        )

    create("embeddings", "int8", ("band",), (store.bands,))
    for depth in store.depths:
        side = depth_chunk(depth, form)
        create(f"embeddings_d{depth}", "int8", (f"band_d{depth}",), (depth,), side)
    create("scales", "float32", (), (), fill=store.fill)
    if form.full and store.kind == "dclimate":
        create("s2_obs_count", "uint16", (), ())
        create("s2_month_covered", "int8", ("month",), (12,))
    _write_axes(store, zone, grid, group, form)
    if form.full and store.kind == "native":
        _create_statistics(store, zone, grid, group, form)


def _write_axes(
    store: SampleStore, zone: int, grid: GridSpec, group: zarr.Group, form: StoreFormat
) -> None:
    left, top = grid.transform[2], grid.transform[5]
    axes: dict[str, NDArray[Any]] = {
        "time": np.array(store.years[zone], np.int32),
        "x": left + (np.arange(grid.width) + 0.5) * 10,
        "y": top - (np.arange(grid.height) + 0.5) * 10,
    }
    if form.full:
        axes["band"] = np.arange(store.bands, dtype=np.int32)
        for depth in store.depths:
            axes[f"band_d{depth}"] = np.arange(depth, dtype=np.int32)
    for name, values in axes.items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=form.codecs(values.dtype.name),
            fill_value=0,
            dimension_names=(name,),
        )
        array[:] = values


def _create_statistics(
    store: SampleStore, zone: int, grid: GridSpec, group: zarr.Group, form: StoreFormat
) -> None:
    """Create the arrays for previews, empty: readers must not stumble over them."""
    steps, bands, samples, shard = len(store.years[zone]), store.bands, 20_000, form.shard or 4096
    shards = (-(-grid.height // shard), -(-grid.width // shard))
    for name, dtype, dims, shape, fill in (
        ("stretch_stats_count", "int64", (), (), 0),
        ("stretch_stats_sum", "float64", ("band",), (bands,), 0),
        ("stretch_stats_prod", "float64", ("band", "band2"), (bands, bands), 0),
        ("stretch_sample", "int8", ("sample", "band"), (samples, bands), 0),
        ("stretch_sample_scales", "float32", ("sample",), (samples,), np.inf),
        ("stretch_sample_count", "int64", (), (), 0),
        ("stretch_stats_shards", "uint8", ("shard_row", "shard_col"), shards, 0),
    ):
        group.create_array(
            name,
            shape=(steps, *shape),
            dtype=dtype,
            chunks=(1, *shape),
            compressors=form.codecs(dtype),
            fill_value=fill,
            dimension_names=("time", *dims),
        )


def _blocks(store: SampleStore, zone: int, form: StoreFormat) -> Iterator[Window]:
    """Yield one window of whole chunks for each shard that is written."""
    grid = store.grids[zone]
    shard = form.shard or 8 * form.chunk
    unit = max([form.chunk, *(depth_chunk(depth, form) for depth in store.depths)])
    for row in range(0, grid.height, shard):
        for col in range(0, grid.width, shard):
            whole = Window(row, col, min(shard, grid.height - row), min(shard, grid.width - col))
            cuts = [cut for one in store.windows(zone) if (cut := intersection(one, whole))]
            if not cuts:
                continue
            top = min(cut.row for cut in cuts) // unit * unit
            left = min(cut.col for cut in cuts) // unit * unit
            bottom = -(-max(cut.row + cut.height for cut in cuts) // unit) * unit
            right = -(-max(cut.col + cut.width for cut in cuts) // unit) * unit
            yield Window(
                top,
                left,
                min(bottom, row + whole.height) - top,
                min(right, col + whole.width) - left,
            )


def _write_pixels(store: SampleStore, zone: int, group: zarr.Group, form: StoreFormat) -> None:
    # Once a shard: another write to it would encode all of it again.
    for block in _blocks(store, zone, form):
        here = (
            slice(block.row, block.row + block.height),
            slice(block.col, block.col + block.width),
        )
        for step, year in enumerate(store.years[zone]):
            values, scales = store.read(zone, year, block)
            for depth in store.depths:
                group[f"embeddings_d{depth}"][step, :, *here] = values[:depth]  # type: ignore[index]
            group["scales"][step, *here] = scales  # type: ignore[index]
            group["embeddings"][step, :, *here] = values  # type: ignore[index]
