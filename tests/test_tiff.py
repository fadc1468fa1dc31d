"""GeoTIFFs of our own making, classic and big, plain and cloud-optimised: GDAL reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio

from geotessera.tiff import BLOCK, Codec, MemoryBlocks, TiffFile, describe, row_major
from geotessera.tiff.fields import BIG, CLASSIC, Form, form_of
from geotessera.types import GridSpec

if TYPE_CHECKING:
    from pathlib import Path

FIRST = {CLASSIC: b"II*\0", BIG: b"II+\0"}


@pytest.mark.parametrize("form", [CLASSIC, BIG], ids=["classic", "big"])
@pytest.mark.parametrize("cog", [False, True], ids=["plain", "cog"])
@pytest.mark.parametrize("compress", ["zstd", "deflate", "lzw", "none"])
def test_gdal_reads_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form, cog: bool, compress: str
) -> None:
    monkeypatch.setattr("geotessera.tiff.file.form_of", lambda _: form)
    rng = np.random.default_rng(0)
    height, width, bands = 300, 530, 3
    pixels = rng.normal(size=(height, width, bands)).astype(np.float32)
    pixels[:BLOCK, :BLOCK] = np.nan  # a block that is left out
    grid = GridSpec(32631, (10.0, 0.0, 5e5, 0.0, -10.0, 6e6), height, width)
    work, target = tmp_path / "work.tif", tmp_path / "made.tif"
    codec = Codec.of(compress, np.dtype("float32"))
    file = TiffFile(
        0, target, work, pixels.shape, "float32", float("nan"), codec, MemoryBlocks(), overviews=cog
    )
    file.continue_after()
    for row, column in reversed(list(row_major(file.images[0]))):
        block = np.full((BLOCK, BLOCK, bands), np.nan, np.float32)
        part = pixels[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
        block[: part.shape[0], : part.shape[1]] = part
        file.write(0, row, column, block)
    base = describe(grid, bands, "float32", float("nan"), {"KEY": "text ü"}, ("a", "b", "c"))
    if cog:
        for image in file.images[1:]:
            for row, column in row_major(image):
                file.halve(image.level, row, column)
        target.touch()
        with ThreadPoolExecutor(2) as pool:
            file.assemble(target, base, pool)
    else:
        file.finish(base)
    file.close()
    made = target if cog else work
    assert made.read_bytes()[:4] == FIRST[form]
    with rasterio.open(made) as dataset:
        np.testing.assert_array_equal(dataset.read().transpose(1, 2, 0), pixels)
        assert dataset.crs == "EPSG:32631"
        assert dataset.transform == grid.affine
        assert dataset.tags()["KEY"] == "text ü"
        assert dataset.descriptions == ("a", "b", "c")
        assert dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == ("COG" if cog else None)
        assert dataset.overviews(1) == ([2, 4] if cog else [])
    if cog:
        with rasterio.open(made, overview_level=0) as overview:
            np.testing.assert_array_equal(overview.read().transpose(1, 2, 0), pixels[::2, ::2])


def test_what_32_bits_cannot_address_is_big() -> None:
    assert form_of(1 << 30) is CLASSIC
    assert form_of((1 << 32) - 1) is BIG
    assert form_of(1 << 40) is BIG
