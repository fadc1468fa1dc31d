"""Tiles as GeoTIFFs, and checking what is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared import YEAR, Place, client, processors, tile_arrays, tile_frame

if TYPE_CHECKING:
    from collections.abc import Callable

TILES = [(YEAR, 0.15, 52.25), (YEAR, 0.05, 52.25)]


def geotiffs(place: Place, bands: int, **options: Any) -> Callable[[], object]:
    """Export two tiles."""
    gt = client(place)
    chosen = list(range(bands)) if bands < 128 else None

    def run() -> object:
        gt.export_embedding_geotiffs(TILES, place.fresh(), bands=chosen, **options)
        return None

    return run


def rasterio(place: Place, bands: int, compress: str) -> Callable[[], object]:
    """Write the same pixels with GDAL's driver, band by band in memory, on all processors."""
    import numpy as np
    import rasterio as gdal

    def run() -> object:
        directory = place.fresh()
        for _, lon, lat in TILES:
            values, scales = tile_arrays(place, lon, lat)
            crs, transform, (height, width) = tile_frame(place, lon, lat)
            pixels = np.moveaxis(values[..., :bands] * scales[..., None], 2, 0)
            profile = {"driver": "GTiff", "dtype": "float32", "count": bands, "height": height}
            profile |= {"width": width, "crs": crs, "transform": transform, "compress": compress}
            profile |= {"tiled": True, "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER"}
            with gdal.open(directory / f"{lon}.tif", "w", **profile) as dataset:
                dataset.write(pixels)
        return None

    return run


def verify(place: Place) -> Callable[[], object]:
    """Check nine downloaded tiles against what was recorded of them."""
    from geotessera.verify import verify_directory

    directory = place.world("tiles") / "downloaded"
    return lambda: {"files": verify_directory(directory).files}


def sha256sum(place: Place) -> Callable[[], object]:
    """Hash the same files with coreutils, a process for each processor."""
    import subprocess

    directory = place.world("tiles") / "downloaded"
    files = [str(path) for path in directory.rglob("*") if path.suffix in (".npy", ".tiff")]
    jobs = str(processors())
    line = ["xargs", "-0", "-n", "1", "-P", jobs, "sha256sum"]
    names = "\0".join(files)

    def run() -> object:
        subprocess.run(line, input=names, text=True, capture_output=True, check=True)
        return {"files": len(files)}

    return run
