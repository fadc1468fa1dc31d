"""Rasters that GDAL writes, where there is no room for them: never half of one, never a crash.

The kernel refuses to let a file grow beyond a limit, as it refuses on a full disk.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("resource")

_SIDE = 1100
"""Two levels of overviews, and blocks that are written when the file is closed."""

_SHORT = """
import resource, sys
from geotessera.errors import UnwritableDestination

def picture(output):
    from geotessera.pictures import make_picture, rasters_below
    make_picture(rasters_below(sys.argv[2]).rasters, output, crs=32631)

def colours(output):
    from geotessera.visualization import create_rgb_mosaic
    create_rgb_mosaic([sys.argv[2]], output, target_crs="EPSG:32631")

def warp(output):
    from geotessera.web import prepare_mosaic_for_web
    prepare_mosaic_for_web(sys.argv[2], output)

def scores(output):
    from pathlib import Path
    from geotessera.projection.tiles import write_pca_tiles
    from geotessera.sources import GeoTiff
    name = Path(output).name
    write_pca_tiles([GeoTiff(Path(sys.argv[2]))], Path(output).parent, names=[name])

limit = int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    globals()[sys.argv[1]](sys.argv[3])
except UnwritableDestination as error:
    print(error)
    sys.exit(9)
"""


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raster") / "grid_0.15_52.25_2024.tif"
    values = np.random.default_rng(0).normal(size=(3, _SIDE, _SIDE)).astype(np.float32)
    place = rasterio.Affine(10, 0, 500000, 0, -10, 5800000)
    with rasterio.open(
        path, "w", driver="GTiff", height=_SIDE, width=_SIDE, count=3, dtype="float32",
        crs="EPSG:32631", transform=place, nodata=np.nan,
    ) as dataset:  # fmt: skip
        dataset.write(values)
    return path


def made(what: str, source: Path, output: Path, limit: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _SHORT, what, str(source), str(output), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", ["picture", "colours", "warp", "scores"])
def test_half_a_raster_never_gets_its_name(what: str, raster: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tif"
    assert made(what, raster, whole, 0).returncode == 0
    size = whole.stat().st_size
    output = tmp_path / "short.tif"
    # In the first blocks, in the overviews, and in the last bytes that are written.
    for share in (0.3, 0.85, 0.97, 1 - 1 / size):
        output.write_bytes(b"before")
        run = made(what, raster, output, int(size * share))
        assert run.returncode == 9, (share, run.returncode, run.stderr)
        assert "cannot write here" in run.stdout
        assert output.read_bytes() == b"before"
        assert sorted(one.name for one in tmp_path.iterdir()) == ["short.tif", "whole.tif"]
    assert made(what, raster, output, size).returncode == 0
    assert output.stat().st_size == size
