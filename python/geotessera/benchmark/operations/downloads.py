"""Nine tiles from a server, each run a process of the command line into an empty directory."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Server, Target
from geotessera.benchmark.operations.calls import pair

__all__ = ["OPERATIONS"]

TILES = ("tiles",)
BYTES = 983e6
BOTH = (Bound("sha256_all+md5_all", "sent"), Bound("http", "sent"))
LISTED = (Call(OURS, "downloads.list_only"),)


OPERATIONS = (
    Operation(
        "download.tls",
        "download nine tiles over TLS, 30 ms and 100 MB/s a connection",
        pair("downloads.download"),
        TILES,
        (BYTES, "byte"),
        rounds=1,
        setup=pair("downloads.list_only"),
        server=Server("mirror", latency=0.03, bandwidth=100e6, tls=True),
        bounds=BOTH,
        targets=(Target(3, "faster", 4),),
        program="openssl",
    ),
    Operation(
        "download.plain",
        "the same without TLS, latency and cap, against curl, sha256sum and md5sum in turn",
        (
            Call(OURS, "downloads.download", {"jobs": 8}),
            Call("curl", "downloads.curl", {"jobs": 8, "digests": ["sha256sum", "md5sum"]}),
        ),
        TILES,
        (BYTES, "byte"),
        rounds=1,
        setup=LISTED,
        server=Server("mirror"),
        bounds=BOTH,
        targets=(Target(3, "faster", 1 / 1.3, "curl"),),
        program="md5sum",
    ),
    Operation(
        "download.capped",
        "the same with 30 ms and 100 MB/s a connection, by number of connections",
        tuple(
            Call(OURS, "downloads.download", {"jobs": jobs}, at=jobs, runs=1)
            for jobs in (1, 2, 4, 8, 16)
        ),
        TILES,
        (BYTES, "byte"),
        rounds=1,
        setup=LISTED,
        server=Server("mirror", latency=0.03, bandwidth=100e6),
        axis="connections",
        quick=False,
    ),
)
