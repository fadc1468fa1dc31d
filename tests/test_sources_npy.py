"""NPY tiles: what is read, and what is refused."""

from __future__ import annotations

import pickle
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.lib import format as npy_format

from geotessera.errors import BandError, FormatError, InputError
from geotessera.sources import NpyTile
from geotessera.sources.npy import map_npy
from geotessera.types import Provenance, Window

if TYPE_CHECKING:
    from geotessera.testing import SampleWorld


@pytest.fixture
def tile(tiny_world: SampleWorld, tmp_path: Path) -> NpyTile:
    """A copy of a tile whose files a test may damage."""
    files = tiny_world.tiles[0].files
    copies = [shutil.copy(path, tmp_path / path.name) for path in files]
    return NpyTile(*map(Path, copies), provenance=Provenance("1.1", "cambridge", 2024))


def test_read_equals_numpy(tiny_world: SampleWorld) -> None:
    truth = tiny_world.tiles[0]
    values, scales = truth.values(), truth.scales()
    with NpyTile(*truth.files).open() as source:
        assert source.band_count == 4
        assert (source.grid.height, source.grid.width) == values.shape[:2]
        block = source.read()
        np.testing.assert_array_equal(block.values, values)
        np.testing.assert_array_equal(block.scales, scales)
        part = source.read(Window(100, 20, 7, 9), bands=[3, np.int64(0), 3])
        np.testing.assert_array_equal(part.values, values[100:107, 20:29][..., [3, 0, 3]])
        np.testing.assert_array_equal(part.scales, scales[100:107, 20:29])
        assert part.grid == source.grid.window(Window(100, 20, 7, 9))


def test_pixels_are_the_file_itself(tile: NpyTile) -> None:
    whole = tile.open().pixels()
    assert whole.quantized
    assert not whole.values.flags.owndata
    assert not whole.values.flags.writeable
    with Path(tile.embedding).open("r+b") as file:  # a mapping sees the change
        file.seek(128)
        file.write(b"\x55")
    assert whole.values.ravel()[0] == 0x55


def test_out(tile: NpyTile) -> None:
    source = tile.open()
    out = np.zeros((5, 6, 2), np.int8)
    block = source.read(Window(0, 0, 5, 6), bands=[1, 2], out=out)
    assert block.values is out
    np.testing.assert_array_equal(out, np.load(tile.embedding)[:5, :6, 1:3])
    with pytest.raises(InputError, match=r"int8 of shape \(5, 6, 2\)"):
        source.read(Window(0, 0, 5, 6), bands=[1, 2], out=np.zeros((5, 6, 2)))


def test_scales_for_each_band(tile: NpyTile) -> None:
    values = np.load(tile.embedding)
    scales = np.random.default_rng(1).random(values.shape, np.float32)
    np.save(tile.scales, scales)
    block = tile.open().read(Window(3, 4, 5, 6), bands=[2, 0])
    assert block.scales is not None
    np.testing.assert_array_equal(block.scales, scales[3:8, 4:10][..., [2, 0]])


def test_format_2_header(tile: NpyTile) -> None:
    values = np.load(tile.embedding)
    with Path(tile.embedding).open("wb") as file:
        npy_format.write_array(file, values, version=(2, 0))
    np.testing.assert_array_equal(tile.open().read().values, values)


def test_descriptor_travels(tile: NpyTile) -> None:
    source = pickle.loads(pickle.dumps(tile.open().descriptor)).open()
    assert source.provenance == Provenance("1.1", "cambridge", 2024)
    np.testing.assert_array_equal(source.read().values, np.load(tile.embedding))


def test_snapped_georeference(tile: NpyTile) -> None:
    import rasterio

    with rasterio.open(tile.landmask) as dataset:
        x, y = dataset.transform.c, dataset.transform.f
    grid = NpyTile(tile.embedding, tile.scales, tile.landmask, "snapped").open().grid
    # West and north, by less than a pixel: col = floor((x - x0) / 10), row = floor((y0 - y) / 10).
    assert grid.transform == (10, 0, x // 10 * 10, 0, -10, -(-y // 10) * 10)
    assert 0 <= x - grid.transform[2] < 10
    assert 0 <= grid.transform[5] - y < 10


def test_land(tiny_world: SampleWorld) -> None:
    truth = tiny_world.tiles[0]
    source = NpyTile(*truth.files).open()
    np.testing.assert_array_equal(source.land(), truth.mask())


@pytest.mark.parametrize("bands", [[4], [-1], [0, 9], [], [1.5], ["0"]])
def test_bad_bands(tile: NpyTile, bands: list[Any]) -> None:
    with pytest.raises(BandError) as caught:
        tile.open().read(bands=bands)
    assert isinstance(caught.value, IndexError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "window", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 0, 5), (1120, 0, 5, 5), (0, 179, 5, 5)]
)
def test_bad_window(tile: NpyTile, window: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="does not lie in"):
        tile.open().read(Window(*window))


def test_many_threads(tiny_world: SampleWorld) -> None:
    truth = tiny_world.tiles[0]
    values = truth.values()
    source = NpyTile(*truth.files).open()

    def read(row: int) -> bool:
        return bool(
            (source.read(Window(row, 0, 10, 50)).values == values[row : row + 10, :50]).all()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(0, 1000, 7)))


# --- Hostile files -----------------------------------------------------------------------


def _header(text: str, version: bytes = b"\x01\x00") -> bytes:
    body = text.encode()
    size = struct.pack("<H" if version[0] == 1 else "<I", len(body))
    return b"\x93NUMPY" + version + size + body


PLAIN = "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 3, 4)}\n"

HOSTILE = {
    "empty": (b"", "header is damaged"),
    "magic": (b"\x89HDF\r\n\x1a\n" * 8, "header is damaged"),
    "version 3": (_header(PLAIN, b"\x03\x00") + bytes(24), "format 3.0 is not supported"),
    "version 9": (_header(PLAIN, b"\x09\x00") + bytes(24), "not supported"),
    "cut header": (_header(PLAIN)[:30], "header is damaged"),
    "huge header": (_header(PLAIN + " " * 60_000) + bytes(24), "header is damaged"),
    "header bomb": (_header("(" * 4000), "header is damaged"),
    "claims 4 GB of header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header is damaged"),
    "code": (_header("__import__('os').abort()\n"), "header is damaged"),
    "pickle": (_header(PLAIN.replace("|i1", "|O")) + pickle.dumps([1]), "pickled objects"),
    "float64": (_header(PLAIN.replace("|i1", "<f8")) + bytes(192), "found dtype '<f8'"),
    "unsigned": (_header(PLAIN.replace("|i1", "|u1")) + bytes(24), "found dtype '|u1'"),
    "structured": (_header(PLAIN.replace("'|i1'", "[('a','|i1')]")) + bytes(24), "found dtype"),
    "fortran": (_header(PLAIN.replace("False", "True")) + bytes(24), "Fortran order"),
    "two axes": (_header(PLAIN.replace("2, 3, 4", "2, 12")) + bytes(24), "expected 3 axes"),
    "no pixels": (_header(PLAIN.replace("2, 3, 4", "0, 3, 4")), "holds no pixels"),
    "truncated": (_header(PLAIN) + bytes(23), "truncated"),
    "too long": (_header(PLAIN) + bytes(25), "longer than its header"),
    "negative": (_header(PLAIN.replace("2, 3, 4", "-2, 3, 4")) + bytes(24), "not a tile file"),
    "overflow": (_header(PLAIN.replace("2, 3, 4", "2**62, 3, 4")) + bytes(24), "damaged"),
    "astronomic": (_header(PLAIN.replace("2, 3, 4", f"{2**62}, 9, 4")) + bytes(24), "truncated"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_embedding(tile: NpyTile, name: str) -> None:
    content, message = HOSTILE[name]
    Path(tile.embedding).write_bytes(content)
    with pytest.raises(FormatError) as caught:
        tile.open()
    assert message in str(caught.value)
    assert str(tile.embedding) in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (np.ones((1121, 180), ">f4"), "found dtype '>f4'"),
        (np.ones((1121, 180), "<f8"), "found dtype '<f8'"),
        (np.ones((1121, 179), "<f4"), "does not fit the embedding's"),
        (np.ones((1121, 180, 3), "<f4"), "does not fit the embedding's"),
        (np.ones((4,), "<f4"), "expected 2 or 3 axes"),
        (np.ones((1121, 180), object), "pickled|dtype"),
    ],
)
def test_hostile_scales(tile: NpyTile, scales: np.ndarray[Any, Any], message: str) -> None:
    np.save(tile.scales, scales)
    with pytest.raises(FormatError, match=message):
        tile.open()


def test_landmask_of_another_size(small_world: SampleWorld, tile: NpyTile) -> None:
    other = small_world.tile(20.95, -79.95).files.landmask
    with pytest.raises(FormatError, match="do not fit the embedding's"):
        NpyTile(tile.embedding, tile.scales, other).open()


@pytest.mark.parametrize("which", ["embedding", "scales", "landmask"])
def test_missing_file(tile: NpyTile, which: str) -> None:
    Path(getattr(tile, which)).unlink()
    with pytest.raises(FileNotFoundError):
        tile.open()


def test_open_tiles_do_not_use_up_descriptors(tile: NpyTile) -> None:
    import resource
    import sys

    if sys.version_info < (3, 13):
        pytest.skip("mmap keeps a descriptor before Python 3.13")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(soft, 4096)
    kept = [map_npy(tile.scales, "float32", (2,)) for _ in range(count)]
    assert len(kept) == count
