"""The registry of the planet."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Call, Operation, Target
from geotessera.benchmark.operations.calls import pair

__all__ = ["OPERATIONS"]

WARM = (Call(OURS, "registries.query", {"box": "city"}),)
"""The index is built by the first use, which is another operation."""


OPERATIONS = (
    Operation(
        "registry.open",
        "open a registry of 4.6 million rows",
        pair("registries.open_registry"),
        ("planet",),
        (4.6e6, "row"),
        rounds=1,
        setup=WARM,
        targets=(Target(2, "faster", 40), Target(2, "peak", 150e6)),
    ),
    Operation(
        "registry.city",
        "find the tiles of a city",
        pair("registries.query", box="city"),
        ("planet",),
        rounds=200,
        setup=WARM,
        targets=(Target(2, "faster", 500),),
    ),
    Operation(
        "registry.country",
        "find the tiles of a box round Britain",
        (Call(OURS, "registries.query", {"box": "country"}),),
        ("planet",),
        rounds=20,
        setup=WARM,
    ),
    Operation(
        "registry.index",
        "build the index, once for each registry",
        (Call(OURS, "registries.build_index"),),
        ("planet",),
        (4.6e6, "row"),
        rounds=1,
    ),
)
