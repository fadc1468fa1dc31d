"""Many tiles on one grid."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Target
from geotessera.benchmark.operations.calls import by_threads, pair

__all__ = ["OPERATIONS"]

TILES = ("tiles",)
RESULT = (Bound("touch_all", "result"),)
PIXELS = 3.3e6
"""Of four tiles."""


def _gdal(crs: str, resampling: str, quantized: bool) -> Call:
    options = {"crs": crs, "resampling": resampling, "quantized": quantized}
    return Call("gdal", "mosaics.gdal", options)


OPERATIONS = (
    Operation(
        "mosaic.small",
        "fetch_mosaic_for_region of a village (2 km), EPSG:4326",
        pair("mosaics.fetch", box="small", crs="EPSG:4326"),
        TILES,
        (3.2e4, "pixel"),
        rounds=3,
        bounds=RESULT,
    ),
    Operation(
        "mosaic.utm",
        "fetch_mosaic_for_region of four tiles, their own UTM zone",
        pair("mosaics.fetch", box="four", crs="EPSG:32631"),
        TILES,
        (PIXELS, "pixel"),
        rounds=1,
        patience=45,  # upstream needs 86 s
        bounds=RESULT,
        targets=(Target(4, "faster", 40), Target(4, "anonymous / result", 1.3)),
        memory=True,
        quick=False,
    ),
    Operation(
        "mosaic.4326",
        "the same in EPSG:4326, bilinear",
        pair("mosaics.fetch", box="four", crs="EPSG:4326"),
        TILES,
        (PIXELS, "pixel"),
        rounds=1,
        bounds=RESULT,
        targets=(Target(4, "faster", 80), Target(4, "anonymous / result", 1.3)),
        patience=62,  # upstream needs 150 s and more, which would be an eighth of all
        memory=True,
        quick=False,
    ),
    Operation(
        "mosaic.3035",
        "the same in EPSG:3035, bilinear, against GDAL's warp of dequantised arrays",
        (
            Call(OURS, "mosaics.fetch", {"box": "four", "crs": "EPSG:3035"}),
            _gdal("EPSG:3035", "bilinear", False),
        ),
        TILES,
        (PIXELS, "pixel"),
        rounds=1,
        bounds=RESULT,
        memory=True,
    ),
    Operation(
        "mosaic.quantized",
        "the same in EPSG:4326, nearest, int8 and scales, against GDAL's warp of the int8 alone",
        (
            Call(OURS, "mosaics.fetch", {"box": "four", "crs": "EPSG:4326", "quantized": True}),
            _gdal("EPSG:4326", "nearest", True),
        ),
        TILES,
        (PIXELS, "pixel"),
        rounds=3,
        bounds=RESULT,
        targets=(Target(4, "faster", 5, "gdal"),),
        memory=True,
    ),
    Operation(
        "mosaic.threads",
        "four tiles in EPSG:4326, bilinear, by number of threads",
        by_threads("mosaics.fetch", box="four", crs="EPSG:4326"),
        TILES,
        (PIXELS, "pixel"),
        rounds=1,
        axis="threads",
    ),
    Operation(
        "mosaic.cog",
        "geotessera mosaic --quantized --memory 2GB to a COG with overviews, by number of tiles",
        tuple(
            Call(
                OURS,
                "mosaics.streamed",
                {"side": side, "fmt": "cog"},
                at=side * side,
                work=side * side * PIXELS / 4,
                runs=1 if side > 2 else None,
            )
            for side in (1, 2, 3, 4, 6)
        ),
        TILES,
        (PIXELS / 4, "pixel"),
        rounds=1,
        targets=(Target(4, "peak", 2e9),),
        axis="tiles",
        quick=False,
    ),
    Operation(
        "mosaic.zarr",
        "the same to Zarr",
        tuple(
            Call(
                OURS,
                "mosaics.streamed",
                {"side": side, "fmt": "zarr"},
                at=side * side,
                work=side * side * PIXELS / 4,
                runs=1,
            )
            for side in (2, 6)
        ),
        TILES,
        (PIXELS / 4, "pixel"),
        rounds=1,
        targets=(Target(4, "peak", 2e9),),
        axis="tiles",
        quick=False,
    ),
    Operation(
        "mosaic.resumed",
        "nine tiles to a COG, killed half-way, and gone on with, against the whole run",
        (
            Call(OURS, "mosaics.resumed", {"side": 3, "fmt": "cog"}, runs=1),
            Call(f"{OURS} (whole run)", "mosaics.streamed", {"side": 3, "fmt": "cog"}, runs=1),
        ),
        TILES,
        (PIXELS * 9 / 4, "pixel"),
        rounds=1,
        quick=False,
    ),
)
