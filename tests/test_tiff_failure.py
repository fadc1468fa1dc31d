"""A file that cannot be finished leaves no thread that writes to it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from geotessera.tiff import Codec, MemoryBlocks, TiffFile, describe, row_major
from geotessera.types import GridSpec
from waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


def test_no_copy_outlives_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = 512, 512, 1
    grid = GridSpec(32630, (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), *shape[:2])
    base = describe(grid, 1, "float32", float("nan"), {}, [None])
    codec = Codec.of("none", np.dtype("f4"))
    work = tmp_path / "work"
    file = TiffFile(
        0, work, work, shape, "float32", float("nan"), codec, MemoryBlocks(), overviews=True
    )
    file.continue_after()
    for image in file.images:
        for row, column in row_major(image):
            # Backwards, so that no two ranges become one.
            place = image.rows - 1 - row, image.columns - 1 - column
            file.write(image.level, *place, np.ones((256, 256, 1), np.float32))
    first, started, ended = threading.Lock(), threading.Event(), threading.Event()

    def copy(_: TiffFile, target: int, *__: int) -> None:
        if first.acquire(blocking=False):
            assert started.wait(PATIENCE)
            raise OSError("the disk is full")
        started.set()
        time.sleep(0.2)
        os.fstat(target)  # fails where the descriptor is closed already
        ended.set()

    monkeypatch.setattr(TiffFile, "_copy", copy)
    (tmp_path / "target").touch()
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(OSError, match="full"):
            file.assemble(tmp_path / "target", base, pool)
        assert ended.is_set()
    file.close()
