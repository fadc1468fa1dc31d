"""Synthetic Icechunk repositories and tile registries; the package ``icechunk`` is needed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from geotessera.testing.store_pixels import (
    FALSE_NORTHING,
    PIXEL,
    Pattern,
    Pixels,
    TilePixels,
    grid_of_tiles,
    intersection,
    zone_of,
)
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import zarr
    from numpy.typing import NDArray

    from geotessera.testing.world import SampleWorld

    type Quantised = tuple[NDArray[np.int8], NDArray[np.float32]]

__all__ = ["SampleRepository", "TimeEncoding"]

type TimeEncoding = Literal["nanoseconds", "years"]

_WRONG_SIDE = (99, 0.5)
"""Value and scale of a group's pixels beyond the equator, which readers must leave out."""


@dataclass(frozen=True)
class SampleRepository:
    """A synthetic Icechunk repository on disk, and what readers should make of it.

    Make one with `build` or `from_world`.

    Parameters
    ----------
    path : Path
        The repository's directory, which ends in ``.icechunk``.
    groups : mapping of str to GridSpec
        ``"31N"`` in EPSG:32631, ``"31S"`` in EPSG:32731 (with its false northing) and so on.
    years : tuple of int
        The years of every group.
    incomplete : mapping of str to tuple of int
        Years that a group has data for but does not call complete.
    bands : int
        Depth of the embeddings.
    pixels : Pixels
        Where pixels come from.
    snapshot : str
        Id of the commit on branch ``main``.
    """

    path: Path
    groups: Mapping[str, GridSpec]
    years: tuple[int, ...]
    incomplete: Mapping[str, tuple[int, ...]]
    bands: int
    pixels: Pixels = field(repr=False)
    snapshot: str = ""

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        *,
        groups: Mapping[str, GridSpec] | None = None,
        years: Iterable[int] = (2023, 2024),
        incomplete: Mapping[str, Iterable[int]] | None = None,
        pixels: Pixels | None = None,
        chunk: int = 16,
        shard: int | None = 32,
        time: TimeEncoding = "nanoseconds",
        pcodec: bool = True,
        years_complete: bool = True,
    ) -> Self:
        """Write a repository.

        Parameters
        ----------
        path : path
            Where; ends in ``.icechunk`` and must not exist.
        groups : mapping of str to GridSpec, optional
            By default zone 31 north (16 × 32 px) and south (32 × 16 px) of the equator, which
            overlap there: 40 rows and 32 columns when merged.
        years : iterable of int
            Time axis.
        incomplete : mapping of str to iterable of int, optional
            By default the first year of the default southern group.
        pixels : Pixels, optional
            By default a `Pattern` of 8 bands.
        chunk, shard : int
            Sides of inner chunks and shards; published ones have 256 and 2048.
        time : {"nanoseconds", "years"}
            How the time axis is stored.
        pcodec : bool
            Whether scales are compressed with PCodec (package ``pcodec``), as published.
        years_complete : bool
            Whether groups have the attribute; without it every year is complete.
        """
        years = tuple(years)
        if groups is None:
            north = GridSpec(32631, (PIXEL, 0.0, 500_000.0, 0.0, -PIXEL, 160.0), 16, 32)
            south = GridSpec(32731, (PIXEL, 0.0, 500_080.0, 0.0, -PIXEL, 10_000_080.0), 32, 16)
            groups = {"31N": north, "31S": south}
            incomplete = {"31S": years[:1]} if incomplete is None else incomplete
        missing = {name: tuple(some) for name, some in (incomplete or {}).items()}
        pixels = Pattern(8) if pixels is None else pixels
        draft = cls(Path(path).absolute(), dict(groups), years, missing, pixels.bands, pixels)
        writer = _Writer(draft, chunk, shard, time, pcodec, years_complete)
        incomplete_read = missing if years_complete else {}
        return cls(
            draft.path,
            draft.groups,
            draft.years,
            incomplete_read,
            draft.bands,
            pixels,
            writer.write(),
        )

    @classmethod
    def from_world(
        cls, world: SampleWorld, path: str | os.PathLike[str] | None = None, *, shard: int = 2048
    ) -> Self:
        """Write the repository of a sample world's tiles.

        By default below ``world.root("B")``, at the key that the published one has in its
        bucket: ``v1.1/dclimate.icechunk``.
        """
        path = world.root("B") / "v1.1" / "dclimate.icechunk" if path is None else path
        shutil.rmtree(path, ignore_errors=True)
        pixels = TilePixels(world.tiles, world.bands, masked=False)
        groups = {}
        for epsg in sorted({one.grid.epsg or 0 for one in world.tiles}):
            grid = grid_of_tiles([one for one in world.tiles if one.grid.epsg == epsg], shard)
            south = epsg > 32700
            groups[f"{epsg % 100:02d}{'S' if south else 'N'}"] = _moved(grid, epsg)
        years = sorted({one.tile.year for one in world.tiles})
        return cls.build(path, groups=groups, years=years, pixels=pixels, chunk=256, shard=shard)

    @property
    def zones(self) -> tuple[int, ...]:
        """UTM zones, ascending."""
        return tuple(sorted({int(name[:2]) for name in self.groups}))

    def merged(self, zone: int) -> GridSpec:
        """Return the grid that readers present for a zone: EPSG:326zz, both hemispheres."""
        halves = [_kept(name, grid) for name, grid in self.groups.items() if int(name[:2]) == zone]
        boxes = [half.bounds for half in halves]
        left, top = min(box[0] for box in boxes), max(box[3] for box in boxes)
        width = round((max(box[2] for box in boxes) - left) / PIXEL)
        height = round((top - min(box[1] for box in boxes)) / PIXEL)
        return GridSpec(32600 + zone, (PIXEL, 0.0, left, 0.0, -PIXEL, top), height, width)

    def read(self, zone: int, year: int, window: Window | None = None) -> Quantised:
        """Return int8 (B, h, w) and float32 (h, w) of a window of a zone's merged grid.

        What no group covers, and incomplete years, read as fill: 0 and NaN.
        """
        grid = self.merged(zone)
        if year not in self.years:
            raise KeyError(f"the repository has years {self.years}, not {year}")
        window = window or Window(0, 0, grid.height, grid.width)
        values = np.zeros((self.bands, window.height, window.width), np.int8)
        scales = np.full((window.height, window.width), np.nan, np.float32)
        for name, own in self.groups.items():
            if int(name[:2]) != zone or year in self.incomplete.get(name, ()):
                continue
            half = _kept(name, own)
            row = round((grid.transform[5] - half.transform[5]) / PIXEL)
            col = round((half.transform[2] - grid.transform[2]) / PIXEL)
            cut = intersection(Window(row, col, half.height, half.width), window)
            if cut is not None:
                top, left = cut.row - window.row, cut.col - window.col
                here = np.s_[top : top + cut.height, left : left + cut.width]
                values[:, *here], scales[here] = _finite_or_nan(
                    self.pixels.read(grid.window(cut), year)
                )
        return values, scales

    def embedding(self, zone: int, year: int, window: Window | None = None) -> NDArray[np.float32]:
        """Return float32 (h, w, B) of a window, by plain NumPy; NaN without a finite scale."""
        values, scales = self.read(zone, year, window)
        return (values.astype(np.float32) * scales).transpose(1, 2, 0)


def _moved(grid: GridSpec, epsg: int) -> GridSpec:
    """Return a northern grid in a hemisphere's own CRS."""
    a, b, left, d, e, top = grid.transform
    shift = FALSE_NORTHING if epsg > 32700 else 0.0
    return GridSpec(epsg, (a, b, left, d, e, top + shift), grid.height, grid.width)


def _north(grid: GridSpec) -> GridSpec:
    """Return a hemisphere's grid in the northern CRS."""
    a, b, left, d, e, top = grid.transform
    shift = FALSE_NORTHING if (grid.epsg or 0) > 32700 else 0.0
    return GridSpec(32600 + zone_of(grid), (a, b, left, d, e, top - shift), grid.height, grid.width)


def _kept(name: str, grid: GridSpec) -> GridSpec:
    """Return the rows of a group that lie in its own hemisphere, in the northern CRS."""
    grid = _north(grid)
    centres = grid.transform[5] - (np.arange(grid.height) + 0.5) * PIXEL
    rows = np.flatnonzero(centres > 0 if name.endswith("N") else centres < 0)
    return grid.window(Window(int(rows[0]), 0, len(rows), grid.width))


def _finite_or_nan(pixels: Quantised) -> Quantised:
    values, scales = pixels
    scales[~np.isfinite(scales)] = np.nan
    return values, scales


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes a repository, as its recipe says."""

    repository: SampleRepository
    chunk: int
    shard: int | None
    time: TimeEncoding
    pcodec: bool
    years_complete: bool

    def write(self) -> str:
        """Write and commit; return the snapshot's id."""
        import icechunk
        import zarr

        one = self.repository
        storage = icechunk.local_filesystem_storage(str(one.path))
        session = icechunk.Repository.create(storage).writable_session("main")
        root = zarr.create_group(
            session.store,
            attributes={
                "geoemb:model": "https://geotessera.org/model/1.1",
                "geoemb:dimensions": one.bands,
                "geoemb:data_type": "int8",
                "geoemb:gsd": 10.0,
                "geoemb:source_data": ["Sentinel-1", "Sentinel-2"],
                "checkpoint_id": "synthetic",
                "optical_min_obs": 15,
            },
        )
        for name, grid in one.groups.items():
            self._write_group(root, name, grid)
        return session.commit("Write a synthetic repository")

    def _write_group(self, root: zarr.Group, name: str, grid: GridSpec) -> None:
        one = self.repository
        attributes: dict[str, Any] = {
            "proj:code": grid.crs_name,
            "crs": grid.crs_name,
            "spatial:transform": list(grid.transform),
            "spatial:shape": [grid.height, grid.width],
            "runs": ["synthetic"],
        }
        if self.years_complete:
            left_out = one.incomplete.get(name, ())
            attributes["years_complete"] = [year for year in one.years if year not in left_out]
        group = root.create_group(name, attributes=attributes)
        self._write_axes(group, grid)
        arrays = {
            "embeddings": self._create(group, "embeddings", grid, "int8", (one.bands, "band")),
            "scales": self._create(group, "scales", grid, "float32", fill=np.nan),
        }
        for kind in ("s2", "s1_asc", "s1_desc"):
            arrays[kind] = self._create(group, f"{kind}_obs_count", grid, "uint16")
            self._create(group, f"{kind}_month_covered", grid, "int8", (12, "month"))
        for window in self._blocks(grid):
            here = (
                slice(window.row, window.row + window.height),
                slice(window.col, window.col + window.width),
            )
            part = _north(grid.window(window))
            centres = part.transform[5] - (np.arange(part.height) + 0.5) * PIXEL
            beyond = centres < 0 if name.endswith("N") else centres > 0
            for step, year in enumerate(one.years):
                values, scales = _finite_or_nan(one.pixels.read(part, year))
                values[:, beyond], scales[beyond] = _WRONG_SIDE
                arrays["embeddings"][step, *here] = values.transpose(1, 2, 0)
                arrays["scales"][step, *here] = scales
                arrays["s2"][step, *here] = np.where(np.isnan(scales), 0, 20).astype(np.uint16)

    def _blocks(self, grid: GridSpec) -> list[Window]:
        """Return one window for each shard, of what has data."""
        side = self.shard or 8 * self.chunk
        pixels = self.repository.pixels
        whole = Window(0, 0, grid.height, grid.width)
        places = pixels.windows(_north(grid)) if isinstance(pixels, TilePixels) else (whole,)
        cells = {
            (row, col)
            for place in places
            for row in range(place.row // side, -(-(place.row + place.height) // side))
            for col in range(place.col // side, -(-(place.col + place.width) // side))
        }
        cuts = [intersection(Window(r * side, c * side, side, side), whole) for r, c in cells]
        return sorted(cut for cut in cuts if cut)

    def _create(
        self,
        group: zarr.Group,
        name: str,
        grid: GridSpec,
        dtype: str,
        last: tuple[int, str] | None = None,
        fill: float = 0,
    ) -> Any:
        from zarr.codecs import ZstdCodec

        size, dims = ((last[0],), (last[1],)) if last else ((), ())
        side = None if self.shard is None else (1, self.shard, self.shard, *size)
        more: dict[str, Any] = {"compressors": ZstdCodec(level=3)}
        if name == "scales" and self.pcodec:
            more = {"serializer": _pcodec(), "compressors": None}
        return group.create_array(
            name,
            shape=(len(self.repository.years), grid.height, grid.width, *size),
            dtype=dtype,
            chunks=(1, self.chunk, self.chunk, *size),
            shards=side,
            fill_value=fill,
            dimension_names=("time", "northing", "easting", *dims),
            **more,
        )

    def _write_axes(self, group: zarr.Group, grid: GridSpec) -> None:
        years = self.repository.years
        starts, ends = (
            np.array([f"{year + step}-01-01" for year in years], "datetime64[ns]").astype(np.int64)
            for step in (0, 1)
        )
        left, top = grid.transform[2], grid.transform[5]
        units: dict[str, Any] = {
            "units": "nanoseconds since 1970-01-01",
            "calendar": "proleptic_gregorian",
        }
        plain = self.time == "years"
        axes: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
            "time": (("time",), np.array(years, np.int64) if plain else starts),
            "time_bnds": (("time", "bnds"), np.stack([starts, ends], axis=1)),
            "northing": (("northing",), top - (np.arange(grid.height) + 0.5) * PIXEL),
            "easting": (("easting",), left + (np.arange(grid.width) + 0.5) * PIXEL),
            "band": (("band",), np.arange(self.repository.bands)),
            "month": (("month",), np.arange(1, 13)),
        }
        for name, (dims, values) in axes.items():
            dated = dims[0] == "time" and not (plain and name == "time")
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=values.shape,
                dimension_names=dims,
                attributes=units if dated else {},
            )
            array[...] = values


def _pcodec() -> Any:
    import warnings

    from zarr.registry import get_codec_class

    with warnings.catch_warnings():  # "not in the Zarr specification"
        warnings.simplefilter("ignore")
        return get_codec_class("numcodecs.pcodec")()
