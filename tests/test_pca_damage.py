"""Models whose files are damaged: a bad model, whatever the damage makes of their lengths."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from geotessera import pca
from geotessera.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1 << 10, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("at", [12, 16])
def test_a_directory_that_is_elsewhere(tmp_path: Path, at: int, size: int) -> None:
    pixels = np.random.default_rng(0).normal(size=(9, 9, 4)).astype(np.float32)
    path = pca.fit([pixels], 2).save(tmp_path / "model.npz")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")  # length and place of the archive's directory
    assert struct.unpack_from("<I", data, end + at)[0] not in (0, size)
    struct.pack_into("<I", data, end + at, size)
    path.write_bytes(data)
    with pytest.raises(FormatError):
        pca.PcaModel.load(path)


def test_no_damaged_byte_is_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(9, 9, 4)).astype(np.float32)
    path = pca.fit([pixels], 2).save(tmp_path / "model.npz")
    whole = np.fromfile(path, np.uint8)
    central = whole.tobytes().index(b"PK\1\2")
    for _ in range(300):
        data = whole.copy()
        data[rng.integers(central, len(data), 3)] = rng.integers(0, 256, 3)
        data.tofile(path)
        try:
            pca.PcaModel.load(path)
        except FormatError:
            continue
