"""A Zarr store of published size."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Server, Target
from geotessera.benchmark.operations.calls import pair

__all__ = ["OPERATIONS"]

STORE = ("store",)
RESULT = (Bound("touch_all", "result"),)
SENT = (Bound("request", "requests"), Bound("http", "sent"))
FAR = Server("store", "objects", latency=0.03)


OPERATIONS = (
    Operation(
        "store.open",
        "open a local store, and a zone as an xarray Dataset",
        pair("stores.open_store"),
        STORE,
        rounds=1,
        targets=(Target(5, "faster", 5),),
    ),
    Operation(
        "store.probe",
        "probe a place again",
        pair("stores.probe"),
        STORE,
        rounds=20,
        targets=(Target(5, "faster", 20),),
        agree=1e-6,
    ),
    Operation(
        "store.points.1k",
        "1,000 points in 4 shards",
        pair("stores.points", name="1k"),
        STORE,
        (1000, "point"),
        rounds=3,
        targets=(Target(5, "faster", 10),),
        agree=1e-6,
    ),
    Operation(
        "store.points.spread",
        "1,000 points in 40 shards",
        pair("stores.points", name="spread"),
        STORE,
        (1000, "point"),
        rounds=3,
        agree=1e-6,
    ),
    Operation(
        "store.points.100k",
        "100,000 points in 4 shards",
        pair("stores.points", name="100k"),
        STORE,
        (1e5, "point"),
        rounds=3,
        bounds=RESULT,
        targets=(Target(5, "faster", 8), Target(5, "less memory", 5)),
        agree=1e-6,
    ),
    Operation(
        "store.region",
        "read_region, 2000 × 2000 × 128",
        pair("stores.region"),
        STORE,
        (4e6, "pixel"),
        rounds=1,
        bounds=RESULT,
        targets=(Target(5, "faster", 4), Target(5, "peak / result", 1.3)),
        agree=1e-6,
    ),
    Operation(
        "store.http",
        "1,000 points in 4 shards over HTTP, 30 ms, the first call",
        pair("stores.points", name="1k"),
        STORE,
        (1000, "point"),
        rounds=1,
        server=FAR,
        bounds=SENT,
        targets=(Target(5, "faster", 2),),
        agree=1e-6,
    ),
    Operation(
        "store.http.spread",
        "1,000 points in 40 shards over HTTP",
        pair("stores.points", name="spread"),
        STORE,
        (1000, "point"),
        rounds=1,
        server=FAR,
        bounds=SENT,
        agree=1e-6,
    ),
    Operation(
        "store.http.cached",
        "1,000 points over HTTP with cache_dir, in a new process after a first one",
        (Call(OURS, "stores.points", {"name": "1k", "cached": True}),),
        STORE,
        (1000, "point"),
        rounds=1,
        setup=(Call(OURS, "stores.points", {"name": "1k", "cached": True}),),
        server=FAR,
        targets=(Target(5, "data requests", 0),),
    ),
)
