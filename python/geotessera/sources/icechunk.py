"""Icechunk repositories of embeddings, presented as stores in the native layout.

A repository has a group for each hemisphere of a UTM zone, ``31N`` and ``31S``, each in its own
CRS. Readers see one grid a zone: EPSG:326zz, with negative northings in the south.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from geotessera.errors import FormatError, InputError, ZoneError
from geotessera.sources.icechunk_session import RepositoryReader, open_repository
from geotessera.sources.merged import ArrayPart, MergedArray
from geotessera.sources.zarr import ZarrZone
from geotessera.sources.zarr_array import ZarrArray, read_values
from geotessera.sources.zarr_spec import ArraySpec, parse_array
from geotessera.sources.zarr_store import EmbeddingStore
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["RepositoryStore", "RepositoryZone", "open_repository_store"]

_GROUP = re.compile(r"(0[1-9]|[1-5]\d|60)([NS])")
_FALSE_NORTHING = 10_000_000.0
"""Metres that EPSG:327zz adds to northings."""

_PHASE = 1e-6
"""Pixels by which two grids may miss each other."""

_PLAIN_YEARS = range(1000, 10_000)
_NANOSECONDS = "nanoseconds since 1970-01-01"


def open_repository_store(location: str | os.PathLike[str], **options: Any) -> RepositoryStore:
    """Open a repository as a store of embeddings.

    Parameters
    ----------
    location : str or path
        ``s3://bucket/prefix``, or a directory.
    **options
        Of `geotessera.sources.icechunk_session.open_repository`: branch, snapshot_id,
        cache_dir, cache_max_size.
    """
    return RepositoryStore(open_repository(location, **options))


@dataclass(frozen=True, eq=False)
class HemisphereGroup:
    """A group of a repository: one hemisphere of a zone.

    Parameters
    ----------
    name : str
        ``"31N"`` and so on.
    grid : GridSpec
        The rows that lie in its hemisphere, in EPSG:326zz.
    first_row : int
        How many rows of its arrays come before those.
    incomplete : frozenset of int
        Years that it does not call complete.
    arrays : mapping of str to ArraySpec
        All of its arrays that have pixels.
    """

    name: str
    grid: GridSpec
    first_row: int
    incomplete: frozenset[int]
    arrays: Mapping[str, ArraySpec]

    def place(self, grid: GridSpec) -> Window:
        """Return where the group is in a zone's grid."""
        a, _, left, _, e, top = grid.transform
        row = round((self.grid.transform[5] - top) / e)
        col = round((self.grid.transform[2] - left) / a)
        return Window(row, col, self.grid.height, self.grid.width)


@dataclass(frozen=True, eq=False)
class RepositoryZone(ZarrZone):
    """A UTM zone of a repository: its two hemispheres on one grid."""

    groups: tuple[HemisphereGroup, ...] = ()

    def array(self, name: str) -> ZarrArray:
        """Return an array of pixels, both hemispheres of it, by its name.

        Raises
        ------
        InputError
            (a `ValueError`) if the zone has no such array.
        """
        spec = self.arrays.get(name)
        if spec is None:
            raise InputError(f"{self.name} of {self.reader.location} has no array {name!r}")
        parts = [
            ArrayPart(
                ZarrArray(self.reader, group.arrays[name]),
                group.first_row,
                group.place(self.grid),
                frozenset(self.years.index(year) for year in group.incomplete & {*self.years}),
            )
            for group in self.groups
            if name in group.arrays
        ]
        # It reads as one array does, which is all that sources ask of it.
        return cast("ZarrArray", MergedArray(spec, parts))


class RepositoryStore(EmbeddingStore):
    """A repository as a store: what it was at one snapshot.

    Parameters
    ----------
    reader : RepositoryReader
        The snapshot's objects.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if it is no repository of embeddings.
    """

    reader: RepositoryReader

    def __init__(self, reader: RepositoryReader) -> None:
        super().__init__(reader)
        self.groups = [name for name in reader.names() if _GROUP.fullmatch(name)]
        """The groups' names, ascending."""
        self._common_years: tuple[int, ...] | None = None

    @property
    def location(self) -> str:
        """Where the repository is."""
        return self.reader.url

    @property
    def years(self) -> list[int]:
        """Years of all groups."""
        if self._common_years is None:
            self._common_years = self._years_of(self.groups[0]) if self.groups else ()
        return list(self._common_years)

    @property
    def zone_numbers(self) -> list[int]:
        """The zones that the repository has groups for, ascending."""
        return sorted({int(name[:2]) for name in self.groups})

    def incomplete_years(self) -> dict[str, list[int]]:
        """Return the years of each group that it does not call complete; most have none."""
        found = {name: self._incomplete(self._attrs(name)) for name in self.groups}
        return {name: sorted(years) for name, years in found.items() if years}

    def _attrs(self, name: str) -> Mapping[str, Any]:
        document = self._document(f"{name}/zarr.json") or {}
        return document.get("attributes") or {}

    def _incomplete(self, attrs: Mapping[str, Any]) -> frozenset[int]:
        complete = attrs.get("years_complete")
        if complete is None:
            return frozenset()
        return frozenset(self.years) - {int(year) for year in complete}

    def _spec(self, path: str) -> ArraySpec | None:
        node = self._document(f"{path}/zarr.json")
        return None if node is None or node["node_type"] != "array" else parse_array(path, node)

    def _years_of(self, name: str) -> tuple[int, ...]:
        spec = self._spec(f"{name}/time")
        if spec is None:
            raise ZoneError(f"{self.location}/{name}: array 'time' is missing")
        values = read_values(self.reader, spec)
        if values.dtype.kind == "M":
            return tuple(int(one) + 1970 for one in values.astype("datetime64[Y]").astype(int))
        years = [int(one) for one in values] if values.dtype.kind in "iu" else []
        units = str(spec.attributes.get("units", ""))
        if years and all(one in _PLAIN_YEARS for one in years) and not units.startswith("nano"):
            return tuple(years)
        # 1970 itself is 0, which needs the attribute; later years are far above any year's number.
        if units.startswith(_NANOSECONDS) or (years and min(years) > 10**15):
            whole = values.astype("datetime64[ns]").astype("datetime64[Y]").astype(int)
            return tuple(int(one) + 1970 for one in whole)
        raise FormatError(
            f"{self.location}/{name}/time holds {values.dtype} {values.ravel()[:3]} of units "
            f"{units!r}: expected years, or {_NANOSECONDS}"
        )

    def _open_zone(self, number: int) -> RepositoryZone:
        names = [name for name in self.groups if int(name[:2]) == number]
        if not names:
            raise ZoneError(
                f"zone {number} is not in {self.location}; it holds zones "
                f"{', '.join(map(str, self.zone_numbers)) or 'none'}"
            )
        groups = tuple(one for name in names if (one := self._open_group(name)) is not None)
        if not groups:
            raise ZoneError(
                f"{self.location}: {', '.join(names)} hold no pixel of their hemisphere"
            )
        grid = _merged(self.location, groups)
        years = tuple(self.years)
        arrays: dict[str, ArraySpec] = {}
        for group in groups:
            for name, spec in group.arrays.items():
                arrays.setdefault(name, _on_grid(spec, f"utm{number:02d}/{name}", grid))
        depth = arrays["embeddings"].band_count
        return RepositoryZone(
            reader=self.reader,
            number=number,
            name=f"utm{number:02d}",
            grid=grid,
            years=years,
            depths={depth: "embeddings"},
            mask_source="source_nodata",
            attrs={
                "proj:code": grid.crs_name,
                "spatial:dimensions": ["y", "x"],
                "spatial:transform": list(grid.transform),
                "spatial:shape": [grid.height, grid.width],
                "spatial:registration": "pixel",
                "geoemb:dimensions": depth,
                "geotessera:mask_source": "source_nodata",
                "geotessera:source_groups": names,
                "geotessera:years_incomplete": {
                    group.name: sorted(group.incomplete) for group in groups if group.incomplete
                },
            },
            arrays=dict(sorted(arrays.items())),
            groups=groups,
        )

    def _open_group(self, name: str) -> HemisphereGroup | None:
        """Return a group, or None for one without a row in its hemisphere."""
        years = self._years_of(name)
        if list(years) != self.years:
            raise FormatError(
                f"{self.location}/{name} has the years {years}, {self.groups[0]} has {self.years}"
            )
        arrays = {}
        for array in self.reader.names(name):
            spec = None if array == "zarr.json" else self._spec(f"{name}/{array}")
            if spec is not None and spec.dims is not None and _has_pixels(spec.dims):
                arrays[array] = spec
        for needed in ("embeddings", "scales"):
            if needed not in arrays:
                raise ZoneError(f"{self.location}/{name}: array {needed!r} is missing")
        size = arrays["embeddings"].size
        if any(spec.size != size for spec in arrays.values()):
            raise FormatError(f"{self.location}/{name}: its arrays have different sizes")
        attrs = self._attrs(name)
        a, left, top = self._georeference(name, attrs, size)
        south = name.endswith("S")
        top -= _FALSE_NORTHING if south else 0.0
        # Pixel centres on the other side of the equator, or on it, are left out.
        edge = top / a - 0.5
        first = min(max(math.floor(edge) + 1, 0), size[0]) if south else 0
        stop = size[0] if south else min(max(math.ceil(edge), 0), size[0])
        if first >= stop:
            return None
        transform = (a, 0.0, left, 0.0, -a, top)
        whole = GridSpec(32600 + int(name[:2]), transform, *size)
        grid = whole.window(Window(first, 0, stop - first, size[1]))
        return HemisphereGroup(name, grid, first, self._incomplete(attrs), arrays)

    def _georeference(
        self, name: str, attrs: Mapping[str, Any], size: tuple[int, int]
    ) -> tuple[float, float, float]:
        """Return pixel size, left and top of a group, in metres of its own CRS."""
        code = f"EPSG:{'327' if name.endswith('S') else '326'}{name[:2]}"
        if attrs.get("proj:code", code) != code:
            raise ZoneError(
                f"{self.location}/{name}: 'proj:code' must be {code}, found {attrs['proj:code']!r}"
            )
        try:
            a, b, left, d, e, top = map(float, attrs["spatial:transform"])
            shape = tuple(attrs.get("spatial:shape", size))
        except (KeyError, TypeError, ValueError):
            raise ZoneError(
                f"{self.location}/{name}: 'spatial:transform' is missing or no list of 6 numbers"
            ) from None
        if b or d or not (a > 0 and math.isclose(e, -a) and math.isfinite(left + top)):
            raise FormatError(f"{self.location}/{name}: pixels of {a} × {e} m are not supported")
        if shape != size:
            raise FormatError(
                f"{self.location}/{name}: 'spatial:shape' is {shape}, its arrays have {size} pixels"
            )
        return a, left, top


def _has_pixels(dims: tuple[str, ...]) -> bool:
    return dims[:3] == ("time", "northing", "easting") and len(dims) in (3, 4)


def _merged(location: str, groups: tuple[HemisphereGroup, ...]) -> GridSpec:
    """Return the grid that encloses the groups of a zone."""
    a, _, left, _, _, top = groups[0].grid.transform
    for group in groups[1:]:
        other = group.grid.transform
        apart = ((other[2] - left) / a, (other[5] - top) / a)
        if not math.isclose(other[0], a) or any(abs(x - round(x)) > _PHASE for x in apart):
            names = " and ".join(one.name for one in groups)
            raise FormatError(f"{location}: the pixels of {names} do not lie on one grid")
    boxes = [group.grid.bounds for group in groups]
    west, south, east, north = (
        pick(side)
        for pick, side in zip((min, min, max, max), zip(*boxes, strict=True), strict=True)
    )
    size = round((north - south) / a), round((east - west) / a)
    return GridSpec(groups[0].grid.epsg_or_wkt, (a, 0.0, west, 0.0, -a, north), *size)


def _on_grid(spec: ArraySpec, path: str, grid: GridSpec) -> ArraySpec:
    """Return what an array of a group is, on a zone's grid."""
    assert spec.dims is not None  # checked where it was opened
    shape = (spec.shape[0], grid.height, grid.width, *spec.shape[3:])
    return replace(spec, path=path, shape=shape, dims=("time", "y", "x", *spec.dims[3:]))
