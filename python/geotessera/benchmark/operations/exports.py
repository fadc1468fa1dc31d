"""Tiles as GeoTIFFs, and checking what is on disk."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Target
from geotessera.benchmark.operations.calls import pair

__all__ = ["OPERATIONS"]

TILES = ("tiles",)
PIXELS = 1.65e6
"""Of two tiles."""
DOWNLOADED = 983e6
"""Bytes of nine tiles."""


def _written(bands: int, compress: str) -> tuple[Call, ...]:
    options = {"bands": bands, "compress": compress}
    return *pair("exports.geotiffs", **options), Call("gdal", "exports.rasterio", options)


OPERATIONS = (
    Operation(
        "export.3.lzw",
        "export_embedding_geotiffs of two tiles, 3 bands, LZW",
        _written(3, "lzw"),
        TILES,
        (2, "tile"),
        rounds=1,
        bounds=(Bound("lzw_all", PIXELS * 3 * 4),),
        targets=(Target(2, "faster", 3),),
    ),
    Operation(
        "export.3.zstd",
        "the same, zstd",
        _written(3, "zstd"),
        TILES,
        (2, "tile"),
        rounds=1,
        bounds=(Bound("zstd_all", PIXELS * 3 * 4),),
    ),
    Operation(
        "export.128.lzw",
        "the same, 128 bands, LZW",
        _written(128, "lzw"),
        TILES,
        (2, "tile"),
        rounds=1,
        bounds=(Bound("lzw_all", PIXELS * 128 * 4),),
        targets=(Target(2, "faster", 1.7),),
        quick=False,
    ),
    Operation(
        "export.128.zstd",
        "the same, zstd",
        (Call(OURS, "exports.geotiffs", {"bands": 128, "compress": "zstd"}),),
        TILES,
        (2, "tile"),
        rounds=1,
        bounds=(Bound("zstd_all", PIXELS * 128 * 4),),
        quick=False,
    ),
    Operation(
        "export.3.cog",
        "two tiles as COGs with overviews, 3 bands",
        (Call(OURS, "exports.geotiffs", {"bands": 3, "cog": True}),),
        TILES,
        (2, "tile"),
        rounds=3,
        bounds=(Bound("lzw_all", PIXELS * 3 * 4),),
    ),
    Operation(
        "verify.tiles",
        "verify nine downloaded tiles against their records, on all processors",
        (Call(OURS, "exports.verify"), Call("coreutils", "exports.sha256sum")),
        TILES,
        (DOWNLOADED, "byte"),
        rounds=3,
        bounds=(Bound("sha256_all", DOWNLOADED),),
    ),
)
