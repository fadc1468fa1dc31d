"""Embeddings at points."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Server, Target
from geotessera.benchmark.operations.calls import by_threads, pair

__all__ = ["OPERATIONS"]

TILES = ("tiles",)
RESULT = (Bound("touch_all", "result"),)


OPERATIONS = (
    Operation(
        "sampling.first",
        "the first call of a process: 1,000 points over nine local tiles",
        pair("sampling.local", count=1000, form="tuples"),
        TILES,
        (1000, "point"),
        rounds=1,
        targets=(Target(2, "faster", 10),),
        agree=1e-9,
    ),
    Operation(
        "sampling.metadata",
        "100,000 points over nine local tiles, with metadata",
        pair("sampling.local", count=100_000, form="tuples", metadata=True),
        TILES,
        (1e5, "point"),
        rounds=3,
        bounds=RESULT,
        targets=(Target(2, "faster", 15),),
        agree=1e-9,
    ),
    Operation(
        "sampling.tuples",
        "a million points over nine local tiles, as tuples",
        pair("sampling.local", count=1_000_000, form="tuples"),
        TILES,
        (1e6, "point"),
        rounds=3,
        bounds=RESULT,
        targets=(Target(2, "faster", 12),),
        agree=1e-9,
    ),
    Operation(
        "sampling.array",
        "the same points as an array",
        pair("sampling.local", count=1_000_000),
        TILES,
        (1e6, "point"),
        rounds=3,
        bounds=RESULT,
        targets=(Target(2, "faster", 15),),
        agree=1e-9,
    ),
    Operation(
        "sampling.nearest",
        "100,000 points in one local tile, against indexing a memory map (coordinates given)",
        (
            Call(OURS, "sampling.local", {"count": 100_000, "one_tile": True}),
            Call("numpy", "sampling.numpy_nearest", {"count": 100_000}),
        ),
        TILES,
        (1e5, "point"),
        bounds=RESULT,
        agree=1e-6,
    ),
    Operation(
        "sampling.bilinear",
        "the same, bilinear, against interpolating a dequantised tile (coordinates given)",
        (
            Call(
                OURS,
                "sampling.local",
                {"count": 100_000, "one_tile": True, "method": "bilinear"},
            ),
            Call("scipy", "sampling.scipy_bilinear", {"count": 100_000}),
            Call("xarray", "sampling.xarray_bilinear", {"count": 100_000}),
        ),
        TILES,
        (1e5, "point"),
        bounds=RESULT,
        agree=1e-3,
    ),
    Operation(
        "sampling.remote",
        "100 points over nine tiles of a server, 30 ms and 100 MB/s a connection",
        (
            Call(OURS, "sampling.remote", {"count": 100, "fetch": "ranges"}),
            Call("upstream", "sampling.remote", {"count": 100}),
            Call(f"{OURS} (whole tiles)", "sampling.remote", {"count": 100, "fetch": "tiles"}),
        ),
        TILES,
        (100, "point"),
        rounds=1,
        server=Server("mirror", latency=0.03, bandwidth=100e6),
        bounds=(Bound("request", "requests"),),
        targets=(Target(3, "faster", 20), Target(3, "fewer bytes", 300)),
        agree=1e-9,
    ),
    Operation(
        "sampling.threads",
        "a million points as an array, by number of threads",
        by_threads("sampling.local", count=1_000_000),
        TILES,
        (1e6, "point"),
        rounds=3,
        axis="threads",
    ),
)
