"""Many tiles on one grid: in memory, and streamed to disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from .shared import FOUR_TILES, YEAR, Place, client, processors, tile_arrays, tile_frame

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = (0.12, 52.22, 0.14, 52.24)
"""A village: a 25th of a tile, inside it."""

BOXES = {"four": FOUR_TILES, "small": SMALL}


def fetch(place: Place, box: str, crs: str, **options: Any) -> Callable[[], object]:
    """Fetch a mosaic of local tiles."""
    gt = client(place)
    return lambda: gt.fetch_mosaic_for_region(BOXES[box], YEAR, crs, **options)


def gdal(place: Place, crs: str, resampling: str, quantized: bool) -> Callable[[], object]:
    """Warp four tiles with GDAL on all processors, from arrays into an array.

    Quantised: the int8 bands alone, without their scales. Else float32, which is
    dequantised before it is timed.
    """
    import numpy as np
    from rasterio.transform import from_origin
    from rasterio.warp import Resampling, calculate_default_transform, reproject, transform_bounds

    sources, step = [], 0.0
    for lon in (0.05, 0.15):
        for lat in (52.25, 52.35):
            values, scales = tile_arrays(place, lon, lat)
            source_crs, transform, (height, width) = tile_frame(place, lon, lat)
            pixels = values if quantized else values * scales[..., None]
            bands = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
            sources.append((bands, source_crs, transform))
            if not step:
                bounds = _bounds(transform, height, width)
                step = calculate_default_transform(source_crs, crs, width, height, *bounds)[0].a
    west, south, east, north = transform_bounds("EPSG:4326", crs, *FOUR_TILES)
    size = (128, round((north - south) / step), round((east - west) / step))
    grid = from_origin(west, north, step, step)

    def run() -> object:
        out = np.zeros(size, np.int8) if quantized else np.full(size, np.nan, np.float32)
        for bands, source_crs, transform in sources:
            reproject(
                bands,
                out,
                src_transform=transform,
                src_crs=source_crs,
                dst_transform=grid,
                dst_crs=crs,
                resampling=Resampling[resampling],
                init_dest_nodata=False,
                num_threads=processors(),
            )
        return out

    return run


def _bounds(transform: Any, height: int, width: int) -> tuple[float, float, float, float]:
    west, north = transform * (0, 0)
    east, south = transform * (width, height)
    return west, south, east, north


def _line(place: Place, side: int, fmt: str, memory: str) -> list[str]:
    """Return `geotessera mosaic` for side × side tiles, quantised; its output is missing."""
    # A hair inside the cells' edges: tiles that only touch the box are not wanted.
    box = f"0.0001,52.1001,{side / 10 - 0.0001:.4f},{52.1 + side / 10 - 0.0001:.4f}"
    tiles = str(place.world("tiles"))
    words = ["mosaic", "--bbox", box, "--embeddings-dir", tiles, "--registry-dir", tiles]
    words += ["--offline", "--quantized", "--format", fmt, "--memory", memory, "--json"]
    return [sys.executable, "-c", "from geotessera.cli import main; main()", *words, "-o"]


def _name(place: Place, fmt: str) -> str:
    return str(place.fresh() / f"mosaic.{'zarr' if fmt == 'zarr' else 'tif'}")


def _run(line: list[str]) -> object:
    done = subprocess.run(line, capture_output=True, check=True, text=True)
    document = json.loads(done.stdout)
    return {name: document[name] for name in ("height", "width", "tiles", "blocks")}


def streamed(place: Place, side: int, fmt: str, memory: str = "2GB") -> Callable[[], object]:
    """Run `geotessera mosaic` to disk."""
    line = _line(place, side, fmt, memory)
    return lambda: _run([*line, _name(place, fmt)])


def resumed(place: Place, side: int, fmt: str, memory: str = "2GB") -> Callable[[], object]:
    """Go on with a run that was killed (``kill -9``) when half of its time had passed."""
    line = _line(place, side, fmt, memory)
    began = time.perf_counter()
    _run([*line, _name(place, fmt)])
    half = 0.5 * (time.perf_counter() - began)
    line.append(_name(place, fmt))
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(half)
        process.kill()
    return lambda: _run(line)
