"""Rasters that GDAL writes, where there is no room for them: never half of one, never a crash.

The kernel refuses to let a file grow beyond a limit, as it refuses on a full disk.
"""

from __future__ import annotations

import json
import os
import re
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
import json, os, resource, sys
import geotessera.pictures, geotessera.projection.tiles, geotessera.visualization, geotessera.web
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

# Each run is a process of its own; what all of them import is imported once.
for line in sys.stdin:
    limit, output = json.loads(line)
    child = os.fork()
    if child == 0:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            globals()[sys.argv[1]](output)
        except UnwritableDestination as error:
            print(error)
            sys.exit(9)
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ended with", status, flush=True)
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


class Runs:
    """Makes a raster again and again, under limits of the length of files."""

    def __init__(self, what: str, source: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-c", _SHORT, what, str(source)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def __call__(self, output: Path, limit: int) -> tuple[int, str]:
        """Return how a run ended, and what it said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([limit, str(output)]) + "\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if found := re.fullmatch(r"ended with (-?\d+)\n", line):
                return int(found[1]), said
            said += line
        raise AssertionError(said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("what", ["picture", "colours", "warp", "scores"])
def test_half_a_raster_never_gets_its_name(what: str, raster: Path, tmp_path: Path) -> None:
    made = Runs(what, raster)
    with made.process:
        whole = tmp_path / "whole.tif"
        assert made(whole, 0)[0] == 0
        size = whole.stat().st_size
        output = tmp_path / "short.tif"
        # In the first blocks, in the overviews, and in the last bytes that are written.
        for share in (0.3, 0.85, 0.97, 1 - 1 / size):
            output.write_bytes(b"before")
            status, said = made(output, int(size * share))
            assert status == 9, (share, said)
            assert "cannot write here" in said
            assert output.read_bytes() == b"before"
            assert sorted(one.name for one in tmp_path.iterdir()) == ["short.tif", "whole.tif"]
        assert made(output, size)[0] == 0
        assert output.stat().st_size == size
