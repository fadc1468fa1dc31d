"""Stores of embeddings in Zarr: their metadata, and the zones they hold."""

from __future__ import annotations

import json
import math
import re
import threading
from typing import TYPE_CHECKING, Any, cast

from geotessera.datasets import is_icechunk_location
from geotessera.errors import FormatError, ZoneError
from geotessera.remote.objects import ObjectReader, open_reader
from geotessera.sources.zarr import ZarrZone
from geotessera.sources.zarr_array import read_values
from geotessera.sources.zarr_spec import ArraySpec, parse_array
from geotessera.types import GridSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


__all__ = ["EmbeddingStore", "open_embedding_store"]

_ZONE = re.compile(r"utm(\d\d)")
_EPSG = re.compile(r"EPSG:326(\d\d)")
_TOLERANCE = 1e-6
"""Pixels by which numbers that mean the same place may differ."""


def open_embedding_store(
    location: str | Path | ObjectReader | Any, **options: Any
) -> EmbeddingStore:
    """Open a store; its root metadata are read, and nothing else.

    Parameters
    ----------
    location : str, path, reader or zarr Store
        Where it is; an Icechunk repository's ends in ``.icechunk``.
    **options
        Of `geotessera.remote.objects.open_reader`: cache, gateway, connections. A repository
        takes those of the cache, ``branch`` and ``snapshot_id``.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if there is no Zarr v3 group.
    """
    if is_icechunk_location(location):
        from geotessera.sources.icechunk import open_repository_store

        return open_repository_store(cast("str", location), **options)
    reader = location if isinstance(location, ObjectReader) else open_reader(location, **options)
    return EmbeddingStore(reader)


class EmbeddingStore:
    """A store of embeddings: years, depths and UTM zones.

    Opening reads the root's metadata document once; a zone costs one small read more, of its
    time axis. No coordinate is read where the attributes say where the pixels are.

    Parameters
    ----------
    reader : ObjectReader
        The store's bytes.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if there is no Zarr v3 group.
    """

    def __init__(self, reader: ObjectReader) -> None:
        self.reader = reader
        self._zones: dict[int, ZarrZone] = {}
        self._lock = threading.Lock()
        root = self._document("zarr.json")
        if root is None:
            raise FormatError(
                f"{self.location}: there is no Zarr v3 store (no zarr.json); see "
                "geotessera.registry.DATASETS for the published versions and where they are"
            )
        if root.get("node_type") != "group":
            raise FormatError(f"{self.location}: zarr.json is not that of a Zarr v3 group")
        self.attrs: Mapping[str, Any] = root.get("attributes") or {}
        inline = root.get("consolidated_metadata") or {}
        self._nodes: dict[str, Any] | None = inline.get("metadata")

    @property
    def location(self) -> str:
        """Where the store is."""
        return self.reader.location

    @property
    def n_bands(self) -> int:
        """Bands of the full embeddings: as the root says, 128 where it does not."""
        return int(self.attrs.get("geoemb:dimensions", 128))

    @property
    def depths(self) -> dict[int, str]:
        """The array of each depth, ascending."""
        listed = self.attrs.get("geoemb:depths")
        if not listed:
            return {self.n_bands: "embeddings"}
        return dict(sorted((int(one["dimensions"]), str(one["array"])) for one in listed))

    @property
    def model_version(self) -> str:
        """The model that made the embeddings, or ``""``."""
        return str(self.attrs.get("geoemb:model", ""))

    @property
    def build_version(self) -> str:
        """The program that made the store, or ``""``."""
        return str(self.attrs.get("geoemb:build_version", ""))

    @property
    def years(self) -> list[int]:
        """Years of the first zone; each zone has its own, see `zone`."""
        numbers = self.zone_numbers
        return list(self.zone(numbers[0]).years) if numbers else []

    @property
    def zone_numbers(self) -> list[int]:
        """The zones that the store holds, ascending."""
        if self._nodes is None:
            self._nodes = self._discovered()
        found = (_ZONE.fullmatch(name) for name in self._nodes)
        return sorted(int(match[1]) for match in found if match)

    def zone(self, number: int) -> ZarrZone:
        """Return a zone.

        Parameters
        ----------
        number : int
            1 to 60.

        Raises
        ------
        ZoneError
            (a `KeyError` and a `ValueError`) if the store does not hold it, or not all of it.
        FormatError
            (a `RuntimeError` and a `ValueError`) if its metadata are damaged.
        """
        with self._lock:
            found = self._zones.get(number)
            if found is None:
                found = self._zones[number] = self._open_zone(number)
            return found

    def _document(self, key: str) -> dict[str, Any] | None:
        """Return a metadata document, or None where there is none."""
        data = self.reader.get(key)
        if data is None:
            return None
        try:
            found = json.loads(data)
            if found["zarr_format"] != 3:
                raise ValueError(f"zarr_format {found['zarr_format']!r}")
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(f"{self.location}/{key}: no Zarr v3 metadata: {error}") from error
        return cast("dict[str, Any]", found)

    def _discovered(self) -> dict[str, Any]:
        """Return the zone groups of a store whose root does not list them."""
        from concurrent.futures import ThreadPoolExecutor

        names = [f"utm{number:02d}" for number in range(1, 61)]
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda name: self._document(f"{name}/zarr.json"), names))
        nodes: dict[str, Any] = {}
        for name, node in zip(names, found, strict=True):
            if node is not None:
                nodes[name] = node
        return nodes

    def _node(self, path: str) -> dict[str, Any] | None:
        found = (self._nodes or {}).get(path)
        consolidated = found is not None or any("/" in one for one in self._nodes or ())
        return found if consolidated else self._document(f"{path}/zarr.json")

    def _arrays(self, name: str) -> dict[str, ArraySpec]:
        """Return the arrays of a group."""
        prefix = f"{name}/"
        listed = {
            path[len(prefix) :]: node
            for path, node in (self._nodes or {}).items()
            if path.startswith(prefix) and node.get("node_type") == "array"
        }
        if not listed:
            wanted = ["embeddings", "scales", "time", "x", "y", *self.depths.values()]
            for array in dict.fromkeys(wanted):
                node = self._node(prefix + array)
                if node is not None:
                    listed[array] = node
        return {array: parse_array(prefix + array, node) for array, node in sorted(listed.items())}

    def _open_zone(self, number: int) -> ZarrZone:
        name = f"utm{number:02d}" if 0 <= number < 100 else f"utm{number}"
        group = self._node(name)
        if group is None:
            raise ZoneError(
                f"zone {number} is not in {self.location}; it holds zones "
                f"{', '.join(map(str, self.zone_numbers)) or 'none'}"
            )
        attrs = group.get("attributes") or {}
        arrays = self._arrays(name)
        for needed in ("embeddings", "scales", "time"):
            if needed not in arrays:
                raise ZoneError(f"{self.location}/{name}: array {needed!r} is missing")
        size = arrays["embeddings"].size
        for other in ("scales", *self.depths.values()):
            if other in arrays and arrays[other].size != size:
                raise FormatError(
                    f"{self.location}/{name}: {other} has {arrays[other].size} pixels, "
                    f"embeddings have {size}"
                )
        years = tuple(int(year) for year in read_values(self.reader, arrays["time"]))
        mask = attrs.get("geotessera:mask_source", self.attrs.get("geotessera:mask_source"))
        return ZarrZone(
            reader=self.reader,
            number=number,
            name=name,
            grid=self._grid(name, attrs, arrays, size),
            years=years,
            depths=self.depths,
            mask_source=mask,
            attrs=attrs,
            arrays=arrays,
        )

    def _grid(
        self,
        name: str,
        attrs: Mapping[str, Any],
        arrays: Mapping[str, ArraySpec],
        size: tuple[int, int],
    ) -> GridSpec:
        """Return where the pixels are: by the attributes, else by the coordinates."""
        code = attrs.get("proj:code")
        match = _EPSG.fullmatch(str(code))
        if code is None or match is None or not 1 <= int(match[1]) <= 60:
            raise ZoneError(
                f"{self.location}/{name}: 'proj:code' must be EPSG:32601 to EPSG:32660, found "
                f"{code!r}"
            )
        transform = _transform(attrs, size)
        if transform is None:
            transform = self._measured(name, arrays, size)
        return GridSpec(32600 + int(match[1]), transform, *size)

    def _measured(
        self, name: str, arrays: Mapping[str, ArraySpec], size: tuple[int, int]
    ) -> tuple[float, float, float, float, float, float]:
        """Return the transform that the coordinate arrays describe."""
        import numpy as np

        if "x" not in arrays or "y" not in arrays:
            raise ZoneError(
                f"{self.location}/{name}: neither 'spatial:transform' nor coordinates say where "
                "its pixels are"
            )
        x, y = (read_values(self.reader, arrays[axis]).astype(np.float64) for axis in "xy")
        steps = []
        for axis, values, count in (("x", x, size[1]), ("y", y, size[0])):
            step = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 0.0
            even = values[0] + step * np.arange(len(values))
            if len(values) != count or not np.abs(values - even).max() <= abs(step) * _TOLERANCE:
                raise FormatError(f"{self.location}/{name}/{axis}: not {count} even steps")
            steps.append(step)
        right, down = steps
        right, down = right or -down, down or -right  # a single row or column has no step
        if not (right > 0 > down and math.isclose(right, -down)):
            raise FormatError(f"{self.location}/{name}: pixels of {right} × {down} m")
        return right, 0.0, float(x[0] - right / 2), 0.0, down, float(y[0] - down / 2)


def _transform(
    attrs: Mapping[str, Any], size: tuple[int, int]
) -> tuple[float, float, float, float, float, float] | None:
    """Return the attributes' transform, or None where they lack it or contradict themselves."""
    listed = attrs.get("spatial:transform")
    try:
        a, b, c, d, e, f = map(float, listed or ())
    except (TypeError, ValueError):
        return None
    if b or d or not (a > 0 and math.isclose(e, -a) and math.isfinite(c) and math.isfinite(f)):
        return None
    shape, bbox = attrs.get("spatial:shape"), attrs.get("spatial:bbox")
    if shape is not None and tuple(shape) != size:
        return None
    if bbox is not None:
        bounds = c, f + e * size[0], c + a * size[1], f
        apart = (abs(found - here) for found, here in zip(bbox, bounds, strict=False))
        if len(bbox) != 4 or max(apart) > a * _TOLERANCE * max(size):
            return None
    return a, 0.0, c, 0.0, e, f
