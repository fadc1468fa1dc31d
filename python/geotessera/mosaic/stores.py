"""A mosaic as a Zarr store: version 3, sharded, with what xarray, rioxarray and GDAL look for."""

from __future__ import annotations

import shutil
import warnings
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.mosaic.geotiffs import tags_of
from geotessera.mosaic.record import work_path
from geotessera.remote.partfile import writing_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.record import Record
    from geotessera.types import Layout

__all__ = ["Store"]

CHUNK_BYTES = 1 << 19
"""What a reader fetches for one pixel: 64 × 64 pixels of 128 int8 bands."""

CHUNKS_PER_SHARD = 8
"""Along each axis."""

_CONVENTIONS = [
    {"uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "name": "spatial:"},
    {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f", "name": "proj:"},
]


class Store:
    """A mosaic on its way into a Zarr store.

    The group holds ``embeddings`` (band, y, x), int8 with ``scales`` (y, x) or float32,
    the coordinates ``band``, ``y`` and ``x`` (centres of pixels), and ``spatial_ref``. It is
    a hidden directory beside the target until it is whole.

    Parameters
    ----------
    plan : MosaicPlan
        What is made.
    target : Path
        The store's directory.
    record : Record
        What is finished.

    Attributes
    ----------
    side : int
        Height and width of a shard, which is written at once.
    layout : {"chw"}
        Axis order of what is written.
    block_copies : int
        How often a thread that writes a shard holds it.
    """

    layout: Layout = "chw"
    block_copies = 3

    def __init__(self, plan: MosaicPlan, target: Path, record: Record) -> None:
        self._plan = plan
        self._target = target
        self._record = record
        chunk = (CHUNK_BYTES / (plan.band_count * (1 if plan.quantized else 4))) ** 0.5
        self._chunk = int(min(512, max(16, 2 ** (int(chunk).bit_length() - 1))))
        self.side = self._chunk * CHUNKS_PER_SHARD
        self.rows = -(-plan.grid.height // self.side)
        self.columns = -(-plan.grid.width // self.side)
        self.tasks = self.rows * self.columns
        self._path = work_path(target, "")
        with writing_to(target):
            if record.fresh and self._path.exists():
                shutil.rmtree(self._path)
            self._path.mkdir(exist_ok=True)
            self._arrays = self._make()

    @property
    def paths(self) -> list[Path]:
        """The final name."""
        return [self._target]

    # --- Shards --------------------------------------------------------------------------

    def _make(self) -> list[Any]:
        """Make the arrays, empty; those of an earlier run keep their shards."""
        import zarr
        from zarr.codecs import BloscCodec

        plan = self._plan
        size = plan.grid.height, plan.grid.width
        group: Any = zarr.open_group(self._path, mode="a", zarr_format=3)
        common = {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
        cube: tuple[str, ...] = ("band", "y", "x")
        parts: list[tuple[str, tuple[str, ...], str, float]]
        parts = [("embeddings", cube, "float32", float("nan"))]
        if plan.quantized:
            dims = cube if plan.scales_per_band else cube[1:]
            parts = [("embeddings", cube, "int8", 0), ("scales", dims, "float32", float("inf"))]
        arrays = []
        for name, dims, dtype, fill in parts:
            front = (plan.band_count,) if len(dims) == 3 else ()
            if name not in group:
                group.create_array(
                    name,
                    shape=(*front, *size),
                    chunks=(*front, self._chunk, self._chunk),
                    shards=(*front, self.side, self.side),
                    dtype=dtype,
                    fill_value=fill,
                    # int8 embeddings shrink to 0.73 with bits shuffled, and to 0.83 without.
                    compressors=BloscCodec(
                        cname="zstd",
                        clevel=1,
                        shuffle="bitshuffle" if name == "embeddings" else "shuffle",
                    ),
                    dimension_names=dims,
                    attributes=common,
                )
            arrays.append(group[name])
        return arrays

    def _shard(self, number: int, row: int, column: int) -> Path:
        array = self._arrays[number]
        front = ("0",) if array.ndim == 3 else ()
        return self._path.joinpath(array.basename, "c", *front, str(row), str(column))

    def check(self, pool: Executor, progress: Callable[[int, int], object]) -> None:
        """Forget recorded shards that are not in the store any more."""
        items = self._record.items()
        jobs = [pool.submit(self._is_whole, place, entry) for place, entry in items]
        for number, ((place, _), job) in enumerate(zip(items, jobs, strict=True)):
            if not job.result():
                self._record.forget(place)
            progress(number + 1, len(items))

    def _is_whole(self, place: tuple[int, int, int, int], entry: tuple[int, ...]) -> bool:
        return _sum(self._shard(place[0], *place[2:])) == entry

    def is_done(self, row: int, column: int) -> bool:
        """Return whether a shard is finished in all arrays."""
        return all((number, 0, row, column) in self._record for number in range(len(self._arrays)))

    def write(
        self, row: int, column: int, values: NDArray[Any], scales: NDArray[Any] | None
    ) -> None:
        """Write a shard; at the right and lower edge it may be smaller than `side`."""
        rows = slice(row * self.side, row * self.side + values.shape[1])
        columns = slice(column * self.side, column * self.side + values.shape[2])
        for number, (array, part) in enumerate(zip(self._arrays, (values, scales), strict=False)):
            with writing_to(self._target):
                array[..., rows, columns] = part
                entry = _sum(self._shard(number, row, column))
            self._record.add((number, 0, row, column), entry)

    def write_empty(self, row: int, column: int) -> None:
        """Record a shard that no raster touches: it needs no file."""
        for number in range(len(self._arrays)):
            self._record.add((number, 0, row, column), (0, 0))

    # --- The whole store -----------------------------------------------------------------

    def finish(self, pool: Executor, progress: Callable[[int], object]) -> list[Path]:
        """Write coordinates and attributes, and give the store its name."""
        import zarr

        with writing_to(self._target), _quiet():
            group = zarr.open_group(self._path, mode="a", zarr_format=3)
            self._describe(group)
            zarr.consolidate_metadata(self._path, zarr_format=3)
        with writing_to(self._target):
            old = None
            if self._target.exists():
                old = work_path(self._target, "_old")
                shutil.rmtree(old, ignore_errors=True)
                self._target.rename(old)
            self._path.rename(self._target)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        return [self._target]

    def _describe(self, group: Any) -> None:
        plan, grid = self._plan, self._plan.grid
        across, b, left, d, down, top = grid.transform
        bands = plan.bands or range(plan.band_count)
        names = ("longitude", "latitude", "degrees_east", "degrees_north")
        if not grid.crs.is_geographic:
            names = ("projection_x_coordinate", "projection_y_coordinate", "metre", "metre")
        x = left + across * (np.arange(grid.width) + 0.5)
        y = top + down * (np.arange(grid.height) + 0.5)
        coordinates: tuple[tuple[str, Any, dict[str, str]], ...] = (
            ("x", x, {"axis": "X", "standard_name": names[0], "units": names[2]}),
            ("y", y, {"axis": "Y", "standard_name": names[1], "units": names[3]}),
            ("band", np.array(bands, np.int32), {"long_name": "zero-based embedding band"}),
        )
        for name, values, attributes in coordinates:
            array = group.create_array(
                name, data=values, chunks="auto", dimension_names=(name,), overwrite=True
            )
            array.attrs.update(attributes)
        wkt = grid.crs.to_wkt()
        place = group.create_array("spatial_ref", shape=(), dtype="int32", overwrite=True)
        transform = (left, across, b, top, d, down)
        place.attrs.update(
            {
                "crs_wkt": wkt,
                "spatial_ref": wkt,
                "GeoTransform": " ".join(format(value, ".17g") for value in transform),
            }
        )
        group.attrs.update(self._attributes(wkt))

    def _attributes(self, wkt: str) -> dict[str, Any]:
        plan, grid = self._plan, self._plan.grid
        code = {"proj:code": grid.crs_name} if grid.epsg else {"proj:wkt2": wkt}
        known = {tag.lower(): value for tag, value in tags_of(plan).items()}
        west, south, east, north = grid.bounds
        quantization = {
            "method": "per_pixel_scale",
            "original_dtype": "float32",
            "quantized_dtype": "int8",
            "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
        }
        return {
            **known,
            **code,
            "zarr_conventions": _CONVENTIONS,
            "spatial:dimensions": ["y", "x"],
            "spatial:transform_type": "affine",
            "spatial:transform": list(grid.transform),
            "spatial:shape": [grid.height, grid.width],
            "spatial:bbox": [west, south, east, north],
            "spatial:registration": "pixel",
            "geoemb:dimensions": plan.band_count,
            "geoemb:data_type": "int8" if plan.quantized else "float32",
            **({"geoemb:quantization": quantization} if plan.quantized else {}),
        }

    def close(self) -> None:
        """Let go of the unfinished store; it stays for the next run."""

    def discard(self) -> None:
        """Delete the unfinished store."""
        shutil.rmtree(self._path, ignore_errors=True)


def _sum(path: Path) -> tuple[int, ...]:
    """Return a file's size and CRC-32; zeros if there is none."""
    crc = size = 0
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 22):
                crc, size = zlib.crc32(data, crc), size + len(data)
    except FileNotFoundError:
        return 0, 0
    return size, crc


@contextmanager
def _quiet() -> Iterator[None]:
    """Zarr warns that other implementations may not know consolidated metadata yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield
