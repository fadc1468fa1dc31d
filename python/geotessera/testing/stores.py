"""Synthetic cloud stores: small or real-size, with pixels that are known in closed form.

They serve tests and demonstrations, ours and yours::

    store = SampleStore.build(tmp_path / "store", size="small")
    client = GeoTesseraZarr(store.path)
    lon, lat = store.lonlat(30, row=40, col=50)
    expected = store.embedding(30, 2024, Window(40, 50, 1, 1))[0, 0]

Icechunk repositories and their tile registry are in `geotessera.testing.repositories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from geotessera.datasets import find_dataset
from geotessera.errors import InputError
from geotessera.testing.store_pixels import (
    Pattern,
    Pixels,
    TilePixels,
    grid_of_tiles,
    intersection,
    to_lonlat,
    zone_grid,
    zone_of,
)
from geotessera.testing.store_writer import Compressor, StoreFormat, write_store
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from geotessera.testing.world import SampleWorld

    type Quantised = tuple[NDArray[np.int8], NDArray[np.float32]]

__all__ = ["Kind", "Paint", "PixelStatus", "SampleStore", "StoreSize"]

type Kind = Literal["native", "dclimate"]
"""``"native"``: NaN scales are water, unwritten ones +inf. ``"dclimate"``: both are NaN."""

type PixelStatus = Literal["valid", "water", "nodata"]

type Paint = tuple[int, Window, float]
"""A zone, a window of its grid, and the scale that all pixels there shall have."""

type StoreSize = Literal["tiny", "small", "real"]
"""Which zones, and how many bands.

``"tiny"``: zones 30 and 31, which meet at longitude 0; 8 bands, depth 4.
``"small"``: besides, zone 22 at 10° S, zone 37 on the equator, zones 60 and 1, which meet at
180° (17° S); 128 bands, depths 4 and 16.
``"real"``: zone 30, 2 × 2 shards of 4096 with inner chunks of 32, written only where they
meet; 128 bands, depths 4 and 16.
"""

_SEAM = ((0.0, 52.0, 30), (0.0, 52.0, 31))
_PLACES: dict[str, tuple[tuple[float, float, int], ...]] = {
    "tiny": _SEAM,
    "small": (
        *_SEAM,
        (-51.0, -10.0, 22),
        (39.0, 0.0, 37),
        (180.0, -17.0, 60),
        (180.0, -17.0, 1),
    ),
    "real": ((-3.0, 52.0, 30),),
}
_REAL_WRITTEN = Window(4096 - 80, 4096 - 112, 160, 160)
_SEAM_MARGIN = 0.0005
"""Degrees by which the data of a zone overrun its border, as tiles' corners do."""


@dataclass(frozen=True)
class SampleStore:
    """A synthetic Zarr store on disk, and what its pixels hold.

    Make one with `build` or `from_world`. What it says about pixels comes from the recipe,
    never from the files.

    Parameters
    ----------
    path : Path
        The store's directory.
    grids : mapping of int to GridSpec
        Each zone's grid: EPSG:326zz in both hemispheres, upper-left corner.
    years : mapping of int to tuple of int
        Each zone's years.
    bands : int
        Depth of the full embeddings.
    depths : tuple of int
        The prefixes that are stored besides, ascending.
    kind : {"native", "dclimate"}
        What a NaN scale means.
    pixels : Pixels
        Where pixels come from.
    coverage : mapping of int to tuple of Window
        Where each zone was written; the rest reads as fill.
    paint : tuple of Paint
        Scales that replace the pixels' own, in order.
    clip : bool
        Whether a zone has data only within its 6° (and 0.0005° more).
    """

    path: Path
    grids: Mapping[int, GridSpec]
    years: Mapping[int, tuple[int, ...]]
    bands: int
    depths: tuple[int, ...] = ()
    kind: Kind = "native"
    pixels: Pixels = field(default_factory=Pattern, repr=False)
    coverage: Mapping[int, tuple[Window, ...]] = field(default_factory=dict, repr=False)
    paint: tuple[Paint, ...] = ()
    clip: bool = True

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        *,
        size: StoreSize = "tiny",
        kind: Kind = "native",
        grids: Iterable[GridSpec] | None = None,
        years: Iterable[int] | Mapping[int, Iterable[int]] = (2023, 2024),
        depths: Iterable[int] | None = None,
        pixels: Pixels | None = None,
        coverage: Mapping[int, Iterable[Window]] | None = None,
        paint: Iterable[Paint] = (),
        clip: bool = True,
        chunk: int | None = None,
        shard: int | None = -1,
        compressor: Compressor = "blosc",
        consolidated: bool = True,
        attributes: Literal["full", "required"] = "full",
        root_attributes: Mapping[str, object] | None = None,
    ) -> Self:
        """Write a store.

        Parameters
        ----------
        path : path
            Where; must not exist.
        size : {"tiny", "small", "real"}
            What the other parameters are by default.
        kind : {"native", "dclimate"}
            The published family to resemble.
        grids : iterable of GridSpec, optional
            Zones, as `zone_grid` makes them.
        years : iterable of int, or mapping of zone to such
            Each zone's time axis.
        depths : iterable of int, optional
            Prefixes to store besides the full embeddings.
        pixels : Pixels, optional
            By default a `Pattern`.
        coverage : mapping of zone to iterable of Window, optional
            Where zones are written; by default (and for zones left out) everywhere.
        paint : iterable of (zone, Window, scale)
            Scales for single places: NaN, +inf, 0, negative or huge ones, in all years.
        clip : bool
            Leave out what lies in a neighbouring zone.
        chunk : int, optional
            Side of the inner chunks, 32 by default; depths have larger ones.
        shard : int or None
            Side of the shards; None stores every chunk as an object; default 64 (4096 when
            ``"real"``).
        compressor : {"blosc", "zstd"} or None
            Published stores have blosc.
        consolidated : bool
            Whether the root carries all metadata.
        attributes : {"full", "required"}
            All attributes and arrays that published stores have, or what readers need.
        root_attributes : mapping, optional
            Attributes to add to the root's, or replace.

        Returns
        -------
        SampleStore
        """
        if grids is None:
            side = (8192, 8192) if size == "real" else (96, 128)
            grids = [zone_grid(lon, lat, *side, zone=zone) for lon, lat, zone in _PLACES[size]]
            if size == "real" and coverage is None:
                coverage = {30: (_REAL_WRITTEN,)}
        by_zone = {zone_of(grid): grid for grid in grids}
        if pixels is None:
            pixels = Pattern(8 if size == "tiny" else 128)
        if depths is None:
            depths = (4,) if size == "tiny" else (4, 16)
        if not isinstance(years, Mapping):
            years = dict.fromkeys(by_zone, tuple(years))
        store = cls(
            Path(path).absolute(),
            by_zone,
            {zone: tuple(years[zone]) for zone in by_zone},
            pixels.bands,
            tuple(sorted(depths)),
            kind,
            pixels,
            {zone: tuple(windows) for zone, windows in (coverage or {}).items()},
            tuple(paint),
            clip,
        )
        form = StoreFormat(
            32 if chunk is None else chunk,
            (4096 if size == "real" else 64) if shard == -1 else shard,
            compressor,
            consolidated,
            attributes == "full",
            dict(root_attributes or {}),
        )
        write_store(store, form)
        return store

    @classmethod
    def from_world(
        cls,
        world: SampleWorld,
        path: str | os.PathLike[str] | None = None,
        *,
        kind: Kind | None = None,
        shard: int = 4096,
        depths: Iterable[int] = (),
    ) -> Self:
        """Write the store of a sample world's tiles, as published stores were made of tiles.

        Parameters
        ----------
        world : SampleWorld
            The tiles.
        path : path, optional
            Where; by default where a mirror has the dataset's store: ``zarr/…`` below
            ``world.root("B")`` (``zarr/v1.1`` for v1.1 cambridge; ``zarr/v1.1-dclimate``,
            the default of readers, where `kind` is ``"dclimate"``).
        kind : {"native", "dclimate"}, optional
            By default what the world passes for.
        shard : int
            Side of the shards.
        depths : iterable of int
            Prefixes to store besides the full embeddings.
        """
        if kind is None:
            kind = "dclimate" if world.variant == "dclimate" else "native"
        if path is None:
            variant = "dclimate" if kind == "dclimate" else world.variant
            dataset = find_dataset(world.version, variant)
            if dataset is None or dataset.zarr is None:
                raise InputError(
                    f"no store is published for {world.version} {variant}: give its path"
                )
            path = world.root("B") / "zarr" / dataset.zarr
        pixels = TilePixels(world.tiles, world.bands, masked=kind == "native")
        grids = {
            zone: grid_of_tiles([one for one in world.tiles if zone_of(one.grid) == zone], shard)
            for zone in sorted({zone_of(one.grid) for one in world.tiles})
        }
        return cls.build(
            path,
            kind=kind,
            grids=grids.values(),
            years=sorted({one.tile.year for one in world.tiles}),
            depths=depths,
            pixels=pixels,
            coverage={zone: pixels.windows(grid) for zone, grid in grids.items()},
            clip=False,
            shard=shard,
        )

    @property
    def fill(self) -> float:
        """The scale of what was never written."""
        return np.inf if self.kind == "native" else np.nan

    def windows(self, zone: int) -> tuple[Window, ...]:
        """Return where a zone was written."""
        grid = self.grids[zone]
        return self.coverage.get(zone, (Window(0, 0, grid.height, grid.width),))

    def read(self, zone: int, year: int, window: Window | None = None) -> Quantised:
        """Return int8 (B, h, w) and float32 (h, w) of a window of a zone's grid.

        Raises
        ------
        KeyError
            If the store lacks the zone or the zone the year.
        """
        grid = self.grids[zone]
        if year not in self.years[zone]:
            raise KeyError(f"zone {zone} has years {self.years[zone]}, not {year}")
        window = window or Window(0, 0, grid.height, grid.width)
        values = np.zeros((self.bands, window.height, window.width), np.int8)
        scales = np.full((window.height, window.width), self.fill, np.float32)
        for covered in self.windows(zone):
            if cut := intersection(covered, window):
                here = _slices(cut, window)
                values[:, *here], scales[here] = self._pixels(grid.window(cut), year)
        for where, place, scale in self.paint:
            if where == zone and (cut := intersection(place, window)):
                scales[_slices(cut, window)] = scale
        if self.kind == "dclimate":
            scales[np.isinf(scales)] = np.nan
        return values, scales

    def _pixels(self, grid: GridSpec, year: int) -> Quantised:
        values, scales = self.pixels.read(grid, year)
        if self.clip:
            foreign = _foreign(grid)
            if foreign is not None:
                scales[foreign] = np.inf
                values[:, foreign] = 0
        return values, scales

    def embedding(
        self, zone: int, year: int, window: Window | None = None, *, depth: int | None = None
    ) -> NDArray[np.float32]:
        """Return float32 (h, w, B) of a window, by plain NumPy; NaN without a finite scale."""
        values, scales = self.read(zone, year, window)
        scales = np.where(np.isfinite(scales), scales, np.float32(np.nan))
        return (values[:depth].astype(np.float32) * scales).transpose(1, 2, 0)

    def pixel(self, zone: int, year: int, row: int, col: int) -> tuple[NDArray[np.int8], float]:
        """Return the int8 values (B,) and the scale of one pixel."""
        values, scales = self.read(zone, year, Window(row, col, 1, 1))
        return values[:, 0, 0], float(scales[0, 0])

    def status(self, zone: int, year: int, row: int, col: int) -> PixelStatus:
        """Return what a pixel is by its own scale, without a search round it."""
        scale = self.pixel(zone, year, row, col)[1]
        if np.isfinite(scale):
            return "valid"
        return "water" if np.isnan(scale) and self.kind == "native" else "nodata"

    def lonlat(self, zone: int, row: float, col: float, offset: float = 0.5) -> tuple[float, float]:
        """Return the place (WGS84 degrees, by PROJ) of a pixel's centre.

        Parameters
        ----------
        zone : int
            UTM zone.
        row, col : float
            Pixel of the zone's grid.
        offset : float
            Position within the pixel on both axes, 0 the upper-left corner.
        """
        grid = self.grids[zone]
        x = grid.transform[2] + 10 * (col + offset)
        y = grid.transform[5] - 10 * (row + offset)
        lon, lat = to_lonlat(grid, np.array([x]), np.array([y]))
        return float(lon[0]), float(lat[0])


def _slices(cut: Window, window: Window) -> tuple[slice, slice]:
    """Return where in a window's arrays a part of it is."""
    top, left = cut.row - window.row, cut.col - window.col
    return slice(top, top + cut.height), slice(left, left + cut.width)


def _foreign(grid: GridSpec) -> NDArray[np.bool_] | None:
    """Return which pixels of a grid lie in a neighbouring zone, or None if none does."""
    left, bottom, right, top = grid.bounds
    middle = zone_of(grid) * 6 - 183

    def beyond(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        lon, _ = to_lonlat(grid, x, y)
        return np.abs((lon - middle + 180) % 360 - 180) > 3 + _SEAM_MARGIN

    # A border between zones bends towards the pole: corners and the equator bound it.
    ys = np.array([bottom, top, min(max(0.0, bottom), top)])
    if not beyond(np.repeat([left, right], 3), np.tile(ys, 2)).any():
        return None
    x, y = np.meshgrid(
        left + 10 * (np.arange(grid.width) + 0.5), top - 10 * (np.arange(grid.height) + 0.5)
    )
    return beyond(x.ravel(), y.ravel()).reshape(x.shape)
