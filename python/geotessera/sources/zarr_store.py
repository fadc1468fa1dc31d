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
        name = f"{self.location}/zarr.json"
        self.attrs = _mapping(name, root.get("attributes"))
        inline = _mapping(name, root.get("consolidated_metadata")).get("metadata")
        self._nodes = None if inline is None else _mapping(name, inline)
        try:
            self._n_bands = int(self.attrs.get("geoemb:dimensions", 128))
            listed = self.attrs.get("geoemb:depths") or ()
            depths = sorted((int(one["dimensions"]), str(one["array"])) for one in listed)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise FormatError(
                f"{name}: 'geoemb:dimensions' and 'geoemb:depths' say nothing "
                f"({type(error).__name__}: {error})"
            ) from error
        self._depths = dict(depths) or {self._n_bands: "embeddings"}

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to other processes: the metadata, which need not be read again."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        """Where the store is."""
        return self.reader.location

    @property
    def n_bands(self) -> int:
        """Bands of the full embeddings: as the root says, 128 where it does not."""
        return self._n_bands

    @property
    def depths(self) -> dict[int, str]:
        """The array of each depth, ascending."""
        return dict(self._depths)

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
        if found is not None:
            _mapping(f"{self.location}/{path}", found)
        consolidated = found is not None or any("/" in one for one in self._nodes or ())
        return found if consolidated else self._document(f"{path}/zarr.json")

    def _arrays(self, name: str) -> dict[str, ArraySpec]:
        """Return the arrays of a group; those that nobody needs may be of any kind."""
        prefix = f"{name}/"
        listed = {
            path[len(prefix) :]: node
            for path, node in (self._nodes or {}).items()
            if path.startswith(prefix)
            and isinstance(node, dict)
            and node.get("node_type") == "array"
        }
        needed = dict.fromkeys(["embeddings", "scales", "time", "x", "y", *self._depths.values()])
        if not listed:
            for array in needed:
                node = self._node(prefix + array)
                if node is not None:
                    listed[array] = node
        arrays = {}
        for array, node in sorted(listed.items()):
            try:
                arrays[array] = parse_array(prefix + array, node)
            except FormatError as error:
                if array in needed:
                    raise FormatError(f"{self.location}/{error}") from error
        return arrays

    def _open_zone(self, number: int) -> ZarrZone:
        name = f"utm{number:02d}" if 0 <= number < 100 else f"utm{number}"
        group = self._node(name)
        if group is None:
            raise ZoneError(
                f"zone {number} is not in {self.location}; it holds zones "
                f"{', '.join(map(str, self.zone_numbers)) or 'none'}"
            )
        attrs = _mapping(f"{self.location}/{name}", group.get("attributes"))
        arrays = self._arrays(name)
        for needed in ("embeddings", "scales", "time"):
            if needed not in arrays:
                raise ZoneError(f"{self.location}/{name}: array {needed!r} is missing")
        size = self._check_pixels(name, arrays)
        years = self._years(name, arrays)
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

    def _check_pixels(self, name: str, arrays: Mapping[str, ArraySpec]) -> tuple[int, int]:
        """Return the rows and columns that all arrays of pixels have."""
        size = None
        for array in dict.fromkeys(("embeddings", "scales", *self._depths.values())):
            if (spec := arrays.get(array)) is None:
                continue
            dtype, layouts = ("float32", ("hw",)) if array == "scales" else ("int8", ("chw", "hwc"))
            if spec.layout not in layouts or spec.dtype != dtype or 0 in spec.shape[1:]:
                raise FormatError(
                    f"{self.location}/{name}/{array}: {spec.dtype} of shape {spec.shape}, where "
                    f"{dtype} with {len(layouts) + 2} axes was expected"
                )
            if size not in (None, spec.size):
                raise FormatError(
                    f"{self.location}/{name}: {array} has {spec.size} pixels, embeddings have "
                    f"{size}"
                )
            size = spec.size
        assert size is not None
        return size

    def _years(self, name: str, arrays: Mapping[str, ArraySpec]) -> tuple[int, ...]:
        """Return the years of a zone; not those that are only being appended."""
        try:
            years = [int(year) for year in read_values(self.reader, arrays["time"])]
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{self.location}/{name}/time: no years: {error}") from error
        return tuple(years[: min(arrays[array].shape[0] for array in ("embeddings", "scales"))])

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
        for axis, count in (("x", size[1]), ("y", size[0])):
            if arrays[axis].shape != (count,):
                raise FormatError(
                    f"{self.location}/{name}/{axis}: shape {arrays[axis].shape}, not {count} even "
                    "steps"
                )
        try:
            x, y = (read_values(self.reader, arrays[axis]).astype(np.float64) for axis in "xy")
        except (TypeError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{self.location}/{name}: no coordinates: {error}") from error
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


def _mapping(name: str, value: Any) -> dict[str, Any]:
    """Return a JSON object, or an empty one for null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FormatError(f"{name}: expected a JSON object, found {value!r:.100}")
    return value


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
    if shape is not None and not (isinstance(shape, list | tuple) and tuple(shape) == size):
        return None
    if bbox is not None:
        bounds = c, f + e * size[0], c + a * size[1], f
        try:
            apart = max(abs(found - here) for found, here in zip(bbox, bounds, strict=True))
        except (TypeError, ValueError):
            return None
        if not apart <= a * _TOLERANCE * max(size):
            return None
    return a, 0.0, c, 0.0, e, f
