"""Mosaics that are refused before anything is made: too large for the disk, or nearly empty."""

from __future__ import annotations

import shutil
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest
from rasterio.transform import from_origin

from geotessera.errors import InputError
from geotessera.mosaic.extent import check_filled, check_room
from geotessera.raster import merge_geotiffs
from geotessera.types import GridSpec, Window
from geotessera.visualization import create_pca_mosaic, create_rgb_mosaic
from test_raster import noise, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Disk = namedtuple("Disk", "total used free")


def rgb(paths: list[Path], output: Path, crs: str) -> None:
    create_rgb_mosaic(paths, output, target_crs=crs)


def merged(paths: list[Path], output: Path, crs: str) -> None:
    merge_geotiffs(paths, output, crs)


def components(paths: list[Path], output: Path, crs: str) -> None:
    import rasterio

    tiles: list[dict[str, Any]] = []
    for path in paths:
        with rasterio.open(path) as dataset:
            data = dataset.read().transpose(1, 2, 0)
            tiles.append({"data": data, "crs": dataset.crs, "transform": dataset.transform})
    create_pca_mosaic(tiles, output, target_crs=crs)


EVERY = pytest.mark.parametrize("make", [rgb, merged, components])


@EVERY
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32631"])
def test_rasters_that_lie_far_apart_are_refused(
    make: Callable[..., None], crs: str, tmp_path: Path
) -> None:
    """Ireland and Slovenia, of 20 × 20 pixels: a million times what they fill."""
    west = write(tmp_path / "w.tif", noise(3, 20, 20), 470000, 5900000, crs="EPSG:32629")
    east = write(tmp_path / "e.tif", noise(3, 20, 20), 550000, 5100000, crs="EPSG:32633")
    out = tmp_path / "new" / "o.tif"
    with pytest.raises(InputError, match=r"2 rasters lie far apart.* pixels of .* one in \d+,"):
        make([west, east], out, crs)
    assert not out.parent.exists()


@EVERY
def test_rasters_that_lie_not_so_far_apart_are_drawn(
    make: Callable[..., None], tmp_path: Path
) -> None:
    """300 × 2 pixels are filled of 2000 × 4000, one in 13,000: soon made all the same."""
    paths = [
        write(tmp_path / f"{at}.tif", noise(3, 10, 30), 463000 + 10 * at, 9290000 - 5 * at)
        for at in (0, 2000)
    ]
    make(paths, tmp_path / "o.tif", "EPSG:32635")
    assert (tmp_path / "o.tif").exists()


def grid(width: int, height: int) -> GridSpec:
    return GridSpec(32631, tuple(from_origin(0, 0, 10, 10))[:6], height, width)


def test_only_what_is_large_and_nearly_empty_is_refused() -> None:
    check_filled(grid(2**15, 2**15), [])
    large = grid(2**16, 2**16)  # 4 G pixels: 43 M of them must be filled
    check_filled(large, [Window(0, 0, 2**14, 2**13)])
    check_filled(large, [Window(0, 0, 1024, 1024)] * 41)
    for few in ([], [None], [Window(0, 0, 1024, 1024)] * 40):
        with pytest.raises(InputError, match="far apart"):
            check_filled(large, few)


@pytest.mark.parametrize("make", [rgb, components])
def test_pictures_need_room(
    make: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "w.tif", noise(3, 200, 200), size=1000)
    far = write(tmp_path / "f.tif", noise(3, 20, 20), size=0.01)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**9, 10**9, 0))
    # The first one's pixels: 20 million in each direction, and all of them filled.
    with pytest.raises(InputError, match=r"no room in .*0\.0 B are free.* resolution of 0\.01"):
        make([far, whole], tmp_path / "o.tif", "EPSG:32635")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.tif", "w.tif"]


def test_room_is_looked_for_where_the_picture_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def disk_usage(place: Path) -> Disk:
        asked.append(place)
        return Disk(10**9, 0, 10**9)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    check_room(grid(2**18, 2**19), tmp_path / "not" / "yet" / "o.tif")
    with pytest.raises(InputError, match=f"524,288 × 524,288 pixels has no room in {tmp_path}"):
        check_room(grid(2**19, 2**19), tmp_path / "not" / "yet" / "o.tif")
    assert asked == [tmp_path, tmp_path]
