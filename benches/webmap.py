"""Web tiles of nine tiles' picture: this package and gdal2tiles, in turn, as processes.

    .venv/bin/python benches/webmap.py [--rounds N] [--processes N]

Wall and processor seconds, peak memory of the largest process, tiles and their size. Both cut
zooms 8 to 15 bilinearly of the same GeoTIFF, which is in Web Mercator already, as gdal2tiles
would warp it first. `geotessera bench` has the same pair among its operations.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, COLUMNS = 3348, 2331  # 0.3° × 0.3° at 46° N, 14.5 m of Web Mercator a pixel
CUT = "import sys; from geotessera.webmap import build_tiles; build_tiles(sys.argv[1], sys.argv[2])"


def make_picture(path: Path) -> None:
    """Noise at several scales: as hard to compress as components of embeddings are."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    bands = np.zeros((3, ROWS, COLUMNS), np.float32)
    for size in (2, 8, 32, 128):
        coarse = rng.normal(size=(3, ROWS // size + 1, COLUMNS // size + 1)).astype(np.float32)
        fine = coarse.repeat(size, axis=1).repeat(size, axis=2)
        bands += fine[:, :ROWS, :COLUMNS] * size**0.3
    bands += rng.normal(size=bands.shape).astype(np.float32)
    low, high = np.percentile(bands, [2, 98])
    pixels = np.clip((bands - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=ROWS, width=COLUMNS, dtype="uint8",
        crs="EPSG:3857", transform=from_origin(1_669_792, 5_863_000, 14.5, 14.5), tiled=True,
        blockxsize=512, blockysize=512, photometric="RGB", compress="lzw",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


def measure(line: list[str], out: Path) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and peak megabytes of a command."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{line[0]} failed")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make is not None:
        make_picture(given.make)
        return
    os.environ["GEOTESSERA_NUM_THREADS"] = str(given.processes)
    with tempfile.TemporaryDirectory() as directory:
        picture, out = Path(directory) / "picture.tif", Path(directory) / "tiles"
        # By another process: what this one holds would count as its children's peak.
        subprocess.run([sys.executable, __file__, "--make", str(picture)], check=True)
        lines = {"geotessera": [sys.executable, "-c", CUT, str(picture), str(out)]}
        if shutil.which("gdal2tiles.py"):
            lines["gdal2tiles"] = [
                "gdal2tiles.py", "--xyz", "-w", "none", "-z", "8-15", "-r", "bilinear", "-q",
                f"--processes={given.processes}", str(picture), str(out),
            ]  # fmt: skip
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in lines}
        made = {}
        for _ in range(given.rounds):
            for name, line in lines.items():
                found[name].append(measure(line, out))
                files = list(out.rglob("*.png"))
                made[name] = len(files), sum(one.stat().st_size for one in files) / 1e6
        for name, runs in found.items():
            wall, spent, peak = (statistics.median(column) for column in zip(*runs, strict=True))
            tiles, size = made[name]
            print(
                f"{name:11} {wall:7.2f} s wall {spent:7.2f} s of processors, peak "
                f"{peak:5.0f} MB, {tiles} tiles of {size:.1f} MB"
            )
        if len(found) == 2:
            for at, what in enumerate(("wall", "processors")):
                ours, theirs = (
                    statistics.median(one[at] for one in runs) for runs in found.values()
                )
                print(f"{theirs / ours:.1f} times faster by {what}")


if __name__ == "__main__":
    main()
