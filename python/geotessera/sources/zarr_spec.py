"""The metadata of one Zarr v3 array, and whether the kernels can decode its chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from geotessera.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geotessera.types import Compressor

__all__ = ["ArraySpec", "ChunkCodec", "ShardIndex", "parse_array"]

_LONGEST = 2**40
_MOST_ELEMENTS = 2**31
"""Of a chunk: blosc holds no more bytes. Damaged metadata must not ask for all memory."""
_MOST_ENTRIES = 2**24
"""Of a shard's index: 256 MiB, where published shards have 256 KiB."""


class ChunkCodec(NamedTuple):
    """What the kernels undo: bytes in little-endian order, then one compressor or none."""

    compressor: Compressor


class ShardIndex(NamedTuple):
    """Where the inner chunks of a shard are listed."""

    entries: int
    """Inner chunks of a shard; an entry is two 64-bit numbers, offset and length."""
    checked: bool
    """Whether a CRC32C follows the entries."""
    at_end: bool
    """Whether the index is at the end of the shard, else at its start."""

    @property
    def length(self) -> int:
        """Bytes of the index."""
        return 16 * self.entries + 4 * self.checked


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """What the metadata say about an array.

    Parameters
    ----------
    path : str
        Its name in the store, such as ``"utm30/embeddings"``.
    dtype : str
        NumPy's name of its type.
    shape : tuple of int
        Its size.
    dims : tuple of str or None
        Names of the axes, where the metadata have them.
    outer : tuple of int
        Size of what is stored as one object: a shard, or a chunk.
    inner : tuple of int
        Size of what is compressed as one; `outer` where there are no shards.
    fill : float or int
        What was never written.
    prefix, separator : str
        How an object's key is made of its place.
    index : ShardIndex or None
        None where there are no shards, or none that the kernels understand.
    codec : ChunkCodec or None
        None where zarr-python must decode.
    attributes : mapping
        The array's own.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...] | None
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    fill: float
    prefix: str
    separator: str
    index: ShardIndex | None
    codec: ChunkCodec | None
    attributes: Mapping[str, Any]

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        import numpy as np

        return np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an inner chunk, decoded."""
        return math.prod(self.inner) * self.itemsize

    @property
    def chunks_per_shard(self) -> tuple[int, ...]:
        """Inner chunks of an object along each axis."""
        return tuple(o // i for o, i in zip(self.outer, self.inner, strict=True))

    @property
    def layout(self) -> Literal["hwc", "chw", "hw"] | None:
        """How pixels lie after the time axis; None for an array that holds no pixels."""
        if len(self.shape) == 3:
            return "hw"
        if len(self.shape) != 4:
            return None
        rows_first = self.dims is not None and self.dims[1] in ("y", "northing")
        return "hwc" if rows_first else "chw"

    @property
    def band_count(self) -> int:
        """Bands of an array of pixels."""
        return {"hwc": self.shape[-1], "chw": self.shape[1]}.get(self.layout or "", 1)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of an array of pixels."""
        rows, cols = self.plane(self.shape)
        return rows, cols

    def plane(self, sizes: tuple[int, ...]) -> tuple[int, int]:
        """Return what a tuple with one number an axis says of rows and columns."""
        first = 1 if self.layout in ("hw", "hwc") else 2
        return sizes[first], sizes[first + 1]

    @property
    def native(self) -> bool:
        """Whether the kernels can read it: pixels, a year and all bands in each chunk."""
        whole = self.inner[:1] == (1,) and self.band_count == math.prod(self.inner) // math.prod(
            self.plane(self.inner)
        )
        kind = {"hw": "float32", "chw": "int8", "hwc": "int8"}.get(self.layout or "")
        return self.codec is not None and whole and self.dtype == kind

    def key(self, place: Sequence[int]) -> str:
        """Return the name of the object at a place of the grid of objects."""
        parts = [*([self.prefix] if self.prefix else []), *map(str, place)]
        return f"{self.path}/{self.separator.join(parts) or '0'}"


def parse_array(path: str, node: Mapping[str, Any]) -> ArraySpec:
    """Read an array's metadata, as they are in ``zarr.json``.

    Parameters
    ----------
    path : str
        The array's name in its store.
    node : mapping
        Its metadata document.

    Raises
    ------
    FormatError
        (a `RuntimeError` and a `ValueError`) if they are no Zarr v3 array's.
    """
    try:
        return _parse(path, node)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(
            f"{path}: its metadata are not those of a Zarr v3 array ({type(error).__name__}: "
            f"{error}); the store may be damaged or of another version"
        ) from error


def _parse(path: str, node: Mapping[str, Any]) -> ArraySpec:
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a name that leads elsewhere")
    if node["zarr_format"] != 3 or node["node_type"] != "array":
        raise ValueError(f"zarr_format {node['zarr_format']!r}, node_type {node['node_type']!r}")
    grid, keys = node["chunk_grid"], node.get("chunk_key_encoding", {"name": "default"})
    if grid["name"] != "regular" or keys["name"] not in ("default", "v2"):
        raise ValueError(f"chunk grid {grid['name']!r}, keys {keys['name']!r}")
    shape = _sizes(node["shape"], 0)
    outer = inner = _sizes(grid["configuration"]["chunk_shape"])
    dtype = _dtype(node["data_type"])
    codecs, index = list(node["codecs"]), None
    known = True
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        layout = codecs[0]["configuration"]
        inner = _sizes(layout["chunk_shape"])
        index = _shard_index(layout, outer, inner)
        codecs, known = list(layout["codecs"]), index is not None
    if len(outer) != len(shape) or len(inner) != len(shape):
        raise ValueError(f"shape {shape}, shards {outer} and chunks {inner} do not fit each other")
    if math.prod(inner) > _MOST_ELEMENTS or (index and index.entries > _MOST_ENTRIES):
        raise ValueError(f"shards {outer} of chunks {inner}, which no memory holds")
    dims = node.get("dimension_names")
    if dims is not None and len(dims) != len(shape):
        raise ValueError(f"{len(dims)} names of {len(shape)} axes")
    default = "/" if keys["name"] == "default" else "."
    separator = (keys.get("configuration") or {}).get("separator", default)
    if separator not in ("/", "."):
        raise ValueError(f"keys separated by {separator!r}")
    return ArraySpec(
        path=path,
        dtype=dtype,
        shape=shape,
        dims=None if dims is None or None in dims else tuple(map(str, dims)),
        outer=outer,
        inner=inner,
        fill=_fill(node["fill_value"], dtype),
        prefix="c" if keys["name"] == "default" else "",
        separator=separator,
        index=index,
        codec=_codec(codecs, dtype) if known else None,
        attributes=node.get("attributes", {}),
    )


def _sizes(values: Any, least: int = 1) -> tuple[int, ...]:
    """Return sizes along axes, which must be whole numbers."""
    sizes = tuple(values)
    if not all(type(size) is int and least <= size <= _LONGEST for size in sizes):
        raise ValueError(f"an array or chunks of shape {sizes!r:.100}")
    return sizes


def _dtype(name: Any) -> str:
    if isinstance(name, dict):
        # An extension type, such as a time with its unit: zarr-python's business.
        name = name["name"]
    if not isinstance(name, str):
        raise TypeError(f"data type {name!r:.100}")
    return name


def _fill(value: Any, dtype: str) -> float:
    """Return the fill value as a number; what is none is never asked for."""
    named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str):
        if value.startswith("0x") and dtype == "float32":
            import struct

            return float(struct.unpack(">f", bytes.fromhex(value[2:]))[0])
        return named.get(value, 0)
    return value if isinstance(value, int | float) else 0


def _shard_index(
    layout: Mapping[str, Any], outer: tuple[int, ...], inner: tuple[int, ...]
) -> ShardIndex | None:
    """Return where a shard's index is, or None for one that is coded unlike any other."""
    names = [codec["name"] for codec in layout["index_codecs"]]
    endian = layout["index_codecs"][0].get("configuration", {}).get("endian", "little")
    fits = len(outer) == len(inner) and all(
        i > 0 and o % i == 0 for o, i in zip(outer, inner, strict=True)
    )
    if names not in (["bytes", "crc32c"], ["bytes"]) or endian != "little" or not fits:
        return None
    entries = math.prod(o // i for o, i in zip(outer, inner, strict=True))
    return ShardIndex(entries, len(names) == 2, layout.get("index_location", "end") == "end")


def _codec(codecs: Sequence[Mapping[str, Any]], dtype: str) -> ChunkCodec | None:
    """Return what the kernels have to undo, or None where they cannot."""
    if not codecs or codecs[0]["name"] != "bytes":
        return None
    endian = (codecs[0].get("configuration") or {}).get("endian", "little")
    if endian != "little" or len(codecs) > 2:
        return None
    if len(codecs) == 1:
        return ChunkCodec("none")
    last = codecs[1]
    if last["name"] == "zstd":
        return ChunkCodec("zstd")
    if last["name"] == "blosc" and last["configuration"]["cname"] in ("zstd", "lz4", "lz4hc"):
        return ChunkCodec("blosc")
    return None
