"""A mosaic as it is planned: everything that decides its pixels, before one is read."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from geotessera.errors import EmptySelectionError, InputError
from geotessera.mosaic.rasters import MosaicRaster, check_alike
from geotessera.mosaic.reach import reach_of
from geotessera.sizes import format_bytes
from geotessera.sources.base import check_bands
from geotessera.types import GridSpec, Method, Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

__all__ = ["BLOCK", "MosaicPlan"]

BLOCK = 512
"""Side of a block of the output in pixels."""

_METHODS = ("nearest", "bilinear")

_MOSTLY = 0.5
"""Share of a grid from which on it need not be said how much of it rasters fill."""


@dataclass(frozen=True)
class MosaicPlan:
    """What a mosaic is made of; make one with `of`, `plan_region`, `plan_like` or `plan_files`.

    A plan can be printed, compared, pickled and sent to another process; it holds what opens
    the rasters, not their pixels.

    Parameters
    ----------
    grid : GridSpec
        CRS, transform and size of the mosaic.
    rasters : tuple of MosaicRaster
        In order of precedence. At a pixel whose centre lies in the cell of one of them, that
        one comes first.
    reaches : tuple of Window
        Which pixels each raster may give, at most.
    method : {"nearest", "bilinear"}
        How a value between pixel centres is made.
    bands : tuple of int or None
        Zero-based bands in the mosaic's order; None for all.
    quantized : bool
        Whether the mosaic holds int8 values with scales, as the rasters do.
    block : int
        Side of a block in pixels. It does not change a bit of the result.
    clip : shapely geometry, optional
        In the grid's CRS: pixels whose centre is not in it are empty.
    provenance : Provenance
        Dataset and year of all rasters, where known.
    tags : tuple of (str, str)
        What files say of themselves besides; no part of the digest.
    exact : bool
        Whether places in UTM, EPSG:4326 and EPSG:3857 are computed for each pixel. Otherwise
        they are interpolated to a thousandth of a pixel as in any other CRS, which is a third
        faster for a few bands: good enough to look at.
    """

    grid: GridSpec
    rasters: tuple[MosaicRaster, ...]
    reaches: tuple[Window, ...]
    method: Method = "nearest"
    bands: tuple[int, ...] | None = None
    quantized: bool = False
    block: int = BLOCK
    clip: BaseGeometry | None = None
    provenance: Provenance = field(default_factory=Provenance)
    tags: tuple[tuple[str, str], ...] = ()
    exact: bool = True

    @classmethod
    def of(
        cls,
        grid: GridSpec,
        rasters: Iterable[MosaicRaster],
        *,
        method: Method = "nearest",
        bands: Sequence[int] | None = None,
        quantized: bool = False,
        block: int = BLOCK,
        clip: BaseGeometry | None = None,
    ) -> MosaicPlan:
        """Make a plan; rasters that do not touch the grid are left out.

        Parameters
        ----------
        grid, rasters, method, bands, quantized, block, clip
            As the plan's own.

        Raises
        ------
        EmptySelectionError
            (a `ValueError`) if no raster touches the grid.
        DatasetMismatchError
            (a `ValueError`) if rasters are of different datasets, years or lists of bands.
        BandError
            (an `IndexError` and a `ValueError`) for a band that they do not have.
        InputError
            (a `ValueError`) for an unknown method, and for a quantised mosaic that is bilinear
            or of float32 rasters.
        """
        rasters = tuple(rasters)
        if method not in _METHODS:
            raise InputError(f"unknown method {method!r}: expected one of {', '.join(_METHODS)}")
        if block < 1:
            raise InputError(f"block={block}: expected a positive number of pixels")
        provenance = check_alike(rasters)
        picked = check_bands(bands, rasters[0].band_count)
        if quantized:
            _check_quantized(rasters, method)
        reached = [(raster, reach_of(grid, raster.grid)) for raster in rasters]
        touching = [(raster, reach) for raster, reach in reached if reach is not None]
        if not touching:
            raise EmptySelectionError(
                f"none of {len(rasters)} rasters lies on the mosaic's grid {grid.bounds} in "
                f"{grid.crs_name[:80]}; the first covers {rasters[0].grid.bounds} in "
                f"{rasters[0].grid.crs_name[:80]}"
            )
        return cls(
            grid,
            tuple(raster for raster, _ in touching),
            tuple(reach for _, reach in touching),
            method,
            None if picked is None else tuple(picked),
            quantized,
            block,
            clip,
            provenance,
        )

    # --- What comes out ------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, bands) of the mosaic."""
        return self.grid.height, self.grid.width, self.band_count

    @property
    def band_count(self) -> int:
        """Number of bands of the mosaic."""
        return self.rasters[0].band_count if self.bands is None else len(self.bands)

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """What the mosaic's bands are called, or None where no raster says it."""
        names = next((one.band_names for one in self.rasters if one.band_names), None)
        if names is None or self.bands is None:
            return names
        return tuple(names[band] for band in self.bands)

    @property
    def scales_per_band(self) -> bool:
        """Whether a quantised mosaic has scales for each band: (rows, columns, bands)."""
        return any(raster.scales_per_band for raster in self.rasters)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of the mosaic, scales included."""
        if not self.quantized:
            return 4 * self.band_count
        return self.band_count + 4 * (self.band_count if self.scales_per_band else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole mosaic as arrays, scales included."""
        return self.grid.height * self.grid.width * self.pixel_bytes

    @property
    def filled_bytes(self) -> int:
        """Bytes of the pixels that rasters may give: at most that many are not empty."""
        size = self.grid.height * self.grid.width
        filled: float = sum(reach.height * reach.width for reach in self.reaches)
        if self.clip is not None:
            a, _, _, _, e, _ = self.grid.transform
            filled = min(filled, self.clip.area / abs(a * e))
        return int(min(filled, size)) * self.pixel_bytes

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal digits, of all that decides the pixels.

        The same in every process. The block size is no part of it.
        """
        digest = hashlib.sha256(b"geotessera mosaic 1\n")
        transform = tuple(float(value).hex() for value in self.grid.transform)
        size = self.grid.height, self.grid.width
        how = self.method, self.bands, self.quantized
        digest.update(repr((self.grid.crs_name, transform, size, how)).encode())
        digest.update(b"" if self.exact else b"interpolated")
        digest.update(b"" if self.clip is None else self.clip.wkb)
        for raster in self.rasters:
            digest.update(raster.signature())
        return digest.hexdigest()

    # --- Its parts -----------------------------------------------------------------------

    @property
    def block_count(self) -> int:
        """Number of blocks."""
        return -(-self.grid.height // self.block) * -(-self.grid.width // self.block)

    def blocks(self, window: Window | None = None) -> Iterator[Window]:
        """Yield the blocks row by row, cut at the edges of the grid, or of a window."""
        part = window or Window(0, 0, self.grid.height, self.grid.width)
        size = self.block
        for row in range(part.row // size * size, part.row + part.height, size):
            for col in range(part.col // size * size, part.col + part.width, size):
                cut = part.overlap(Window(row, col, size, size))
                assert cut is not None  # the ranges touch the window
                yield cut

    def rasters_of(self, window: Window) -> tuple[int, ...]:
        """Return which rasters may touch a window, in order of precedence."""
        import numpy as np

        top, left, bottom, right = self._edges
        touching = (top < window.row + window.height) & (bottom > window.row)
        touching &= (left < window.col + window.width) & (right > window.col)
        return tuple(np.flatnonzero(touching).tolist())

    @functools.cached_property
    def _edges(self) -> NDArray[np.int64]:
        """First and last row and column of the rasters' reaches: a block asks all of them."""
        import numpy as np

        row, col, height, width = np.array(self.reaches, np.int64).T
        return np.stack([row, col, row + height, col + width])

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what the plan is made of; the rest is computed again."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    # --- For people ----------------------------------------------------------------------

    def __str__(self) -> str:
        """Describe the plan in a few lines."""
        grid, (height, width, bands) = self.grid, self.shape
        left, bottom, right, top = grid.bounds
        kind = "int8 + scales" if self.quantized else "float32"
        known = self.provenance
        origin = [f"dataset {known.version} {known.variant}"] if known.version else []
        origin += [f"year {known.year}"] if known.year is not None else []
        chosen = "" if self.bands is None else f", chosen: {_few(self.bands)}"
        share, filled = self.filled_bytes / self.nbytes, format_bytes(self.filled_bytes)
        lines = {
            "CRS": _crs_text(grid),
            "bounds": f"{left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g}",
            "pixels": f"{width} × {height} of {grid.transform[0]:.10g} × {-grid.transform[4]:.10g}",
            "values": f"{kind}, {bands} bands{chosen}, {self.method}",
            "size": format_bytes(self.nbytes),
            "filled": "" if share > _MOSTLY else f"{100 * share:.2g} % at most, {filled}",
            "rasters": ", ".join([str(len(self.rasters)), *origin]),
            "blocks": f"{self.block_count} of {self.block} × {self.block}",
            "clip": "" if self.clip is None else f"to a {self.clip.geom_type}",
            "digest": self.digest[:16],
        }
        return "\n".join(
            ["Mosaic", *(f"  {name:8} {text}" for name, text in lines.items() if text)]
        )

    def __repr__(self) -> str:
        """Describe the plan in one line."""
        height, width, bands = self.shape
        kind = "int8 + scales" if self.quantized else "float32"
        return (
            f"<MosaicPlan {width} × {height} px × {bands} bands {kind}, {_crs_text(self.grid)}, "
            f"{len(self.rasters)} rasters, {self.method}, {format_bytes(self.nbytes)}>"
        )

    def _repr_html_(self) -> str:
        """Describe the plan in a notebook, with the rasters where they are."""
        from geotessera.mosaic.grids import period_of
        from geotessera.notebook import card, map_svg

        title, *lines = str(self).splitlines()
        a, _, left, _, e, top = self.grid.transform
        boxes = [
            (left + a * col, top + e * (row + height), left + a * (col + width), top + e * row)
            for row, col, height, width in self.reaches
        ]
        drawing = map_svg(
            boxes,
            label=f"{len(boxes)} rasters on the mosaic's grid",
            view=self.grid.bounds,
            degrees=period_of(self.grid.epsg_or_wkt) == 360,
        )
        return card(title, {line[2:10].strip(): line[11:] for line in lines}, drawing)

    def __hash__(self) -> int:
        """Hash by the digest."""
        return hash(self.digest)


def _check_quantized(rasters: Sequence[MosaicRaster], method: Method) -> None:
    if method != "nearest":
        raise InputError(
            f"a quantised mosaic copies pixels and cannot be {method}: choose nearest, or float32"
        )
    for raster in rasters:
        if not raster.quantized:
            raise InputError(
                f"{raster.name} holds float32 pixels, which a quantised mosaic cannot take: "
                "make a float32 mosaic, or use the NPY tiles"
            )


def _crs_text(grid: GridSpec) -> str:
    code = grid.epsg_or_wkt
    if isinstance(code, int):
        return f"EPSG:{code}"
    _, quote, name = code.partition('"')
    return name.partition('"')[0] if quote else code[:40]


def _few(bands: Sequence[int]) -> str:
    shown = ", ".join(map(str, bands[:8]))
    return f"{shown}, …" if len(bands) > 8 else shown
