"""One UTM zone of a Zarr store, and one year of it as a source of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError, YearError
from geotessera.sources.base import RasterSource, check_bands, check_window
from geotessera.sources.zarr_array import ZarrArray
from geotessera.sources.zarr_index import local_path, shard_indexes
from geotessera.types import GridSpec, Layout, Provenance, QuantizedRaster, SparsePixels, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.remote.objects import ObjectReader
    from geotessera.sources.base import Allocate
    from geotessera.sources.zarr_spec import ArraySpec

__all__ = ["ZarrSource", "ZarrYear", "ZarrZone"]


@dataclass(frozen=True, eq=False)
class ZarrZone:
    """A UTM zone of a store: what all its years have in common.

    It holds no open file, may be used from any number of threads, and is pickled with its
    metadata, so that another process opens it without reading anything.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.
    number : int
        1 to 60.
    name : str
        The group's name in the store.
    grid : GridSpec
        EPSG:326zz in both hemispheres: southern northings are negative.
    years : tuple of int
        The zone's time axis.
    depths : mapping of int to str
        The array of each depth; the largest is the full embedding.
    mask_source : str or None
        ``"source_nodata"``: a NaN scale is nodata; otherwise it is water.
    attrs : mapping
        The group's attributes.
    arrays : mapping of str to ArraySpec
        All arrays of the group.
    """

    reader: ObjectReader
    number: int
    name: str
    grid: GridSpec
    years: tuple[int, ...]
    depths: Mapping[int, str]
    mask_source: str | None
    attrs: Mapping[str, Any]
    arrays: Mapping[str, ArraySpec]

    @property
    def n_bands(self) -> int:
        """Bands of the full embeddings."""
        return self.arrays["embeddings"].band_count

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in metres."""
        return self.grid.transform[0]

    @property
    def nan_is_water(self) -> bool:
        """Whether a NaN scale says water, rather than that nothing is known."""
        return self.mask_source != "source_nodata"

    def step(self, year: int) -> int:
        """Return a year's position on the time axis.

        Raises
        ------
        YearError
            (a `KeyError` and a `ValueError`) if the zone does not have the year.
        """
        try:
            return self.years.index(year)
        except ValueError:
            raise YearError(
                f"year {year} is not in {self.name} of {self.reader.location}; it has "
                f"{', '.join(map(str, self.years)) or 'none'}"
            ) from None

    def array(self, name: str) -> ZarrArray:
        """Return an array of pixels by its name.

        Raises
        ------
        InputError
            (a `ValueError`) if the zone has no such array.
        """
        spec = self.arrays.get(name)
        if spec is None or spec.layout is None:
            raise InputError(
                f"{self.name} of {self.reader.location} has no array {name!r} of pixels"
            )
        return ZarrArray(self.reader, spec)

    def source(self, year: int, depth: int | None = None) -> ZarrSource:
        """Return a year as a source of pixels.

        Parameters
        ----------
        year : int
            Which year.
        depth : int, optional
            How many bands: one of `depths`; all by default.

        Raises
        ------
        YearError
            (a `KeyError` and a `ValueError`) if the zone does not have the year.
        InputError
            (a `ValueError`) if it does not have the depth.
        """
        return ZarrYear(self, year, depth).open()


@dataclass(frozen=True, eq=False)
class ZarrYear:
    """A year of a zone: a descriptor.

    Parameters
    ----------
    zone : ZarrZone
        Its zone.
    year : int
        Which year.
    depth : int, optional
        How many bands; all by default.
    """

    zone: ZarrZone
    year: int
    depth: int | None = None

    def open(self) -> ZarrSource:
        """Open the year; nothing is read."""
        return ZarrSource(self)


class ZarrSource(RasterSource):
    """A year of a zone of a Zarr store.

    A position belongs to the nearest pixel centre (rule ``"nearest"``). Any number of threads
    may read.

    Parameters
    ----------
    descriptor : ZarrYear
        Which zone, year and depth.

    Raises
    ------
    YearError
        (a `KeyError` and a `ValueError`) if the zone does not have the year.
    InputError
        (a `ValueError`) if it does not have the depth.
    """

    def __init__(self, descriptor: ZarrYear) -> None:
        zone, year, depth = descriptor.zone, descriptor.year, descriptor.depth
        self._descriptor = descriptor
        self._step = zone.step(year)
        name = zone.depths.get(zone.n_bands if depth is None else depth, "")
        if not name and depth is None:
            name = "embeddings"
        if name not in zone.arrays:
            there = sorted(d for d, array in zone.depths.items() if array in zone.arrays)
            raise InputError(
                f"depth {depth} is not in {zone.name} of {zone.reader.location}; it has "
                f"{', '.join(map(str, there))}"
            )
        self._values = zone.array(name)
        self._scales = zone.array("scales")
        self.zone = zone
        self.grid = zone.grid
        self.band_count = self._values.spec.band_count
        self.block_shape = self._values.spec.plane(self._values.spec.inner)
        self.provenance = Provenance(year=year, source=f"{zone.reader.location}/{zone.name}")

    @property
    def descriptor(self) -> ZarrYear:
        """Zone, year and depth."""
        return self._descriptor

    def _find(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> None:
        """Fetch the indexes of scales and values together: one round trip, not two."""
        arrays = self._scales, self._values
        if local_path(self.zone.reader) is None:
            wanted = [
                (one.spec, key) for one in arrays for key in one.shards(self._step, rows, cols)
            ]
            shard_indexes(self.zone.reader, wanted)

    def _find_window(self, window: Window) -> None:
        import numpy as np

        row, col, height, width = window
        sizes = [one.spec.plane(one.spec.outer) for one in (self._scales, self._values)]
        high, wide = map(min, *sizes)
        rows = np.append(np.arange(row, row + height, high), row + height - 1)
        cols = np.append(np.arange(col, col + width, wide), col + width - 1)
        self._find(*(axis.ravel() for axis in np.meshgrid(rows, cols)))

    def scales(self, window: Window | None = None) -> NDArray[np.float32]:
        """Read the scales of a window: float32 (height, width), NaN or infinite where invalid."""
        return self._scales.read(self._step, check_window(window, self.grid))

    def read(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[Any] | None = None,
    ) -> QuantizedRaster:
        """Read int8 pixels and their scales; see `RasterSource.read`."""
        import numpy as np

        picked = check_bands(bands, self.band_count)
        part = check_window(window, self.grid)
        shape = part.height, part.width, self.band_count if picked is None else len(picked)
        if out is not None and (out.shape != shape or out.dtype != np.int8):
            raise InputError(f"out must be int8 of shape {shape}, found {out.dtype} {out.shape}")
        self._find_window(part)
        scales = self._scales.read(self._step, part)
        values = self._values.read(self._step, part, picked, out)
        return QuantizedRaster(values, scales, self.grid.window(part), provenance=self.provenance)

    def read_into(self, window: Window, allocate: Allocate) -> QuantizedRaster:
        """Read a window into memory that is asked for; see `RasterSource.read_into`."""
        part = check_window(window, self.grid)
        size = part.height, part.width
        values, scales = allocate((*size, self.band_count), "int8"), allocate(size, "float32")
        self._find_window(part)
        self._scales.read(self._step, part, out=scales)
        self._values.read(self._step, part, out=values)
        return QuantizedRaster(values, scales, self.grid.window(part), provenance=self.provenance)

    def read_float(
        self,
        window: Window | None = None,
        bands: Sequence[int] | None = None,
        out: NDArray[np.float32] | None = None,
        layout: Layout = "hwc",
    ) -> NDArray[np.float32]:
        """Read a window dequantised: beside the result, memory is needed for a few chunks.

        Parameters
        ----------
        window : Window, optional
            Which pixels; the whole zone by default.
        bands : sequence of int, optional
            Zero-based bands in the wanted order; all by default.
        out : ndarray of float32, optional
            Where the result goes.
        layout : {"hwc", "chw"}
            Axis order of the result.

        Returns
        -------
        ndarray of float32, shape (height, width, band) or (band, height, width)
            NaN where a pixel has no finite scale.
        """
        import numpy as np

        picked = check_bands(bands, self.band_count)
        part = check_window(window, self.grid)
        if layout not in ("hwc", "chw"):
            raise InputError(f"layout must be 'hwc' or 'chw', found {layout!r}")
        count = self.band_count if picked is None else len(picked)
        size = part.height, part.width
        shape = (*size, count) if layout == "hwc" else (count, *size)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise InputError(f"out must be float32 of shape {shape}, found {out.dtype} {out.shape}")
        self._find_window(part)
        scales = self._scales.read(self._step, part)
        pixels = out if layout == "hwc" else out.transpose(1, 2, 0)
        self._values.read(self._step, part, picked, pixels, scales)
        return out

    def prefers_gather(self, count: int) -> bool:
        """Return True: only the chunks that hold the pixels are read."""
        return True

    def gather(self, numbers: NDArray[np.int64]) -> SparsePixels:
        """Read some pixels: each chunk once, and none whose pixels are all invalid."""
        import numpy as np

        rows, cols = np.divmod(np.asarray(numbers, np.int64), self.grid.width)
        self._find(rows, cols)
        scales = self._scales.gather(self._step, rows, cols)
        values = np.zeros((len(rows), self.band_count), np.int8)
        self._gather_valid(rows, cols, scales, values)
        return SparsePixels(numbers, values, scales)

    def _gather_valid(
        self,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        scales: NDArray[np.float32],
        values: NDArray[np.int8],
    ) -> None:
        import numpy as np

        valid = np.flatnonzero(np.isfinite(scales))
        if len(valid) == len(rows):
            self._values.gather(self._step, rows, cols, out=values)
        elif len(valid):
            values[valid] = self._values.gather(self._step, rows[valid], cols[valid])

    def pixels_at(
        self,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        bands: Sequence[int] | None = None,
        out: NDArray[np.float32] | None = None,
        scales: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read single pixels, in any order and as often as they are asked for.

        Parameters
        ----------
        rows, cols : ndarray of int, shape (n,)
            Which pixels of the grid.
        bands : sequence of int, optional
            Zero-based bands in the wanted order; all by default.
        out : ndarray of float32, shape (n, band), optional
            Where the values go.
        scales : ndarray of float32, shape (n,), optional
            What `scales_at` returned for these pixels, so that it is not read again.

        Returns
        -------
        values : ndarray of float32, shape (n, band)
            Dequantised; NaN where a pixel has no finite scale.
        scales : ndarray of float32, shape (n,)
            What says why: NaN or infinite where a pixel is invalid.

        Raises
        ------
        InputError
            (a `ValueError`) if a pixel lies outside the grid.
        """
        import numpy as np

        picked = check_bands(bands, self.band_count)
        rows, cols = self._checked(rows, cols)
        shape = len(rows), self.band_count if picked is None else len(picked)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise InputError(f"out must be float32 of shape {shape}, found {out.dtype} {out.shape}")
        if scales is None:
            scales = self.scales_at(rows, cols)
        self._values.gather(self._step, rows, cols, picked, out, scales)
        return out, scales

    def scales_at(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the scales of single pixels: float32 (n,); as `pixels_at`, without the values."""
        rows, cols = self._checked(rows, cols)
        self._find(rows, cols)
        found: NDArray[np.float32] = self._scales.gather(self._step, rows, cols)
        return found

    def _checked(
        self, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pixels as int64, or raise `InputError` if one lies outside the grid."""
        import numpy as np

        rows, cols = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
        if rows.ndim != 1 or rows.shape != cols.shape:
            raise InputError(
                f"rows and cols must be lists of one length, found {rows.shape} and {cols.shape}"
            )
        inside = (rows >= 0) & (rows < self.grid.height) & (cols >= 0) & (cols < self.grid.width)
        if not inside.all():
            at = int(np.argmin(inside))
            raise InputError(
                f"pixel ({rows[at]}, {cols[at]}) does not lie in a raster of "
                f"{self.grid.height} × {self.grid.width} pixels"
            )
        return rows, cols
