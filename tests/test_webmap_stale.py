"""No tile, pack or archive of what a picture was before: what its own file does not tell."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin

from geotessera.errors import FormatError
from geotessera.webmap import build_tiles
from geotessera.webmap.tree import TileTree
from geotessera.webmap.zooms import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZOOMS = (11, 13)
SHAPE = 120, 100


def write(path: Path, seed: int = 0) -> Path:
    pixels: NDArray[np.uint8] = np.random.default_rng(seed).integers(1, 256, (3, *SHAPE), np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": SHAPE[0], "width": SHAPE[1]}
    place = from_origin(500_000, 5_150_000, 10, 10)
    with rasterio.open(
        path, "w", **profile, dtype="uint8", crs="EPSG:32633", transform=place
    ) as dataset:
        dataset.write(pixels)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    found = (one for one in directory.rglob("*") if one.suffix in (".png", ".js"))
    return {one.relative_to(directory).as_posix(): one.read_bytes() for one in found}


def check(picture: Path, tiles: Path, fresh: Path) -> None:
    build_tiles(picture, tiles, zooms=ZOOMS)
    build_tiles(picture, fresh, zooms=ZOOMS)
    assert contents(tiles) == contents(fresh)


def test_a_mask_beside_the_picture_counts(tmp_path: Path) -> None:
    picture = write(tmp_path / "picture.tif")
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
    before = picture.stat().st_mtime_ns
    mask = np.zeros(SHAPE, bool)
    mask[:50] = True
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(picture, "r+") as dataset,
    ):
        dataset.write_mask(mask)
    assert picture.stat().st_mtime_ns == before
    check(picture, tmp_path / "tiles", tmp_path / "with")
    report = build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
    assert report.cut == 0
    (tmp_path / "picture.tif.msk").unlink()
    check(picture, tmp_path / "tiles", tmp_path / "without")


def test_a_virtual_raster_shows_what_its_files_hold_now(tmp_path: Path) -> None:
    source, picture = write(tmp_path / "source.tif"), tmp_path / "picture.vrt"
    copy(source, picture, driver="VRT")
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
    write(source, seed=1)
    check(picture, tmp_path / "tiles", tmp_path / "fresh")


def test_what_a_stopped_run_outdated_goes_with_the_next(tmp_path: Path) -> None:
    picture, archive, packs = write(tmp_path / "a.tif"), tmp_path / "a.pmtiles", tmp_path / "packs"
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS, archive=archive, packs=packs)
    write(picture, seed=1)

    def stop(done: int, total: int, _: str) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS, progress=stop)
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
    assert not archive.exists()
    assert not packs.exists()


def test_packs_of_a_stopped_run_go_with_the_next(tmp_path: Path) -> None:
    picture, packs = write(tmp_path / "picture.tif"), tmp_path / "packs"
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)

    def stop(done: int, _: int, status: str) -> None:
        if "scripts" in status and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS, packs=packs, progress=stop)
    assert packs.exists()
    build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
    assert not packs.exists()


def test_threads_that_empty_a_directory_disturb_nobody(tmp_path: Path) -> None:
    tree = TileTree(tmp_path / "tiles")
    failures: list[Exception] = []

    def work(row: int) -> None:
        tile = Tile(3, 1, row)
        try:
            for number in range(600):
                assert tree.write(tile, b"%d" % number)
                assert tree.read(tile) == b"%d" % number
                assert tree.remove(tile)
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_damaged_picture_is_closed(tmp_path: Path) -> None:
    picture, handles = write(tmp_path / "picture.tif"), Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("nothing says which files this process has open")
    with picture.open("r+b") as file:
        file.truncate(picture.stat().st_size // 2)
    gc.disable()  # what is left to the collector may be left for long
    try:
        with pytest.raises(FormatError):
            build_tiles(picture, tmp_path / "tiles", zooms=ZOOMS)
        opened = [one for one in handles.iterdir() if one.is_symlink() and one.exists()]
        assert not any(one.resolve() == picture for one in opened)
    finally:
        gc.enable()
