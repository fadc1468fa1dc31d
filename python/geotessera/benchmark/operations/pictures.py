"""Pictures, web maps and coverage maps."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Call, Operation, Target
from geotessera.benchmark.operations.calls import pair

__all__ = ["OPERATIONS"]


OPERATIONS = (
    Operation(
        "picture.visualize",
        "geotessera visualize of nine local tiles (ours of every pixel, upstream's of 100,000)",
        pair("pictures.visualize"),
        ("tiles",),
        (7.4e6, "pixel"),
        rounds=1,
        targets=(Target(6, "faster", 5), Target(6, "peak", 500e6)),
        requires="geotessera.cli.visualize",
    ),
    Operation(
        "picture.webmap",
        "web map of that mosaic, zoom 8 to 15, against gdal2tiles with as many processes",
        (
            Call(OURS, "pictures.webmap"),
            Call("gdal2tiles", "pictures.gdal2tiles"),
        ),
        ("tiles",),
        rounds=1,
        setup=(Call(OURS, "pictures.mosaic"),),
        targets=(Target(6, "faster", 3, "gdal2tiles"),),
        patience=60,
        requires="geotessera.cli.webmap",
        quick=False,
    ),
    Operation(
        "picture.coverage",
        "coverage map of a registry of 4.6 million rows",
        pair("pictures.coverage"),
        ("planet",),
        (4.6e6, "row"),
        rounds=1,
        patience=25,  # upstream takes minutes and 10 GB
        setup=(Call(OURS, "registries.query", {"box": "city"}),),
        targets=(Target(6, "faster", 10),),
        requires="geotessera.coverage",
        quick=False,
    ),
    Operation(
        "picture.texture",
        "texture of the same for a globe",
        pair("pictures.texture"),
        ("planet",),
        (4.6e6, "row"),
        rounds=1,
        patience=40,  # upstream takes minutes and 10 GB
        setup=(Call(OURS, "registries.query", {"box": "city"}),),
        targets=(Target(6, "faster", 10),),
        requires="geotessera.coverage",
        quick=False,
    ),
)
