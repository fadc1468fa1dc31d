"""LZW: GDAL reads what the kernel writes."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from geotessera import _native
from geotessera.tiff.images import one_tile

SIDE = 16


def gdal_decoded(data: bytes, size: int) -> bytes:
    """Return what GDAL reads from a block of a TIFF."""
    width = size // SIDE
    assert width % 16 == 0
    with MemoryFile(one_tile(data, width, SIDE, 5)) as memory, memory.open() as dataset:
        assert dataset.compression is rasterio.enums.Compression.lzw
        return bytes(dataset.read(1).tobytes())


@given(st.integers(1, 40), st.sampled_from([1, 2, 17, 256]), st.integers(0, 2**32))
def test_gdal_reads_it(rows: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, kinds, rows * SIDE * SIDE).astype(np.uint8)
    assert gdal_decoded(_native.encode_lzw(data), data.size) == data.tobytes()


def test_embeddings() -> None:
    values = np.random.default_rng(0).normal(0, 3, (64, 64, 8)).astype(np.float32)
    made = _native.encode_lzw(values)
    assert isinstance(made, bytes)
    assert gdal_decoded(made, values.nbytes) == values.tobytes()


def test_any_contiguous_buffer() -> None:
    data = bytearray(range(256)) * 4
    made = _native.encode_lzw(bytes(data))
    assert _native.encode_lzw(data) == made
    assert _native.encode_lzw(memoryview(data)) == made
    with pytest.raises(BufferError, match="contiguous"):
        _native.encode_lzw(np.zeros((8, 8), np.uint8)[:, ::2])
    with pytest.raises(TypeError):
        _native.encode_lzw("text")  # type: ignore[arg-type]
