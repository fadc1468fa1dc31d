"""Import, dequantisation, one local tile."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Bound, Call, Operation, Target
from geotessera.benchmark.operations.calls import by_threads, pair

__all__ = ["OPERATIONS"]

VALUES = 1115 * 690 * 128
BANDS = [0, 1, 2, 7]


OPERATIONS = (
    Operation(
        "import.package",
        "import geotessera",
        pair("kernels.import_package"),
        rounds=1,
        targets=(Target(2, "faster", 8),),
    ),
    Operation(
        "import.client",
        "import it and make a client of local tiles",
        pair("kernels.import_and_construct"),
        worlds=("tiles",),
        rounds=1,
    ),
    Operation(
        "dequantize.fresh",
        "dequantise a tile of 1115 × 690 × 128 into fresh memory",
        (
            *pair("kernels.dequantize"),
            Call("numpy", "kernels.dequantize_numpy"),
            Call("numba", "kernels.dequantize_numba"),
        ),
        unit=(VALUES, "value"),
        bounds=(Bound("touch_all", "result"),),
        targets=(Target(2, "faster", 2.5),),
        agree=1e-9,
    ),
    Operation(
        "dequantize.out",
        "the same with out=, as loops should (upstream has none: fresh memory)",
        (
            *pair("kernels.dequantize", out=True),
            Call("numpy", "kernels.dequantize_numpy", {"out": True}),
            Call("numba", "kernels.dequantize_numba", {"out": True}),
        ),
        unit=(VALUES, "value"),
        rounds=20,
        bounds=(Bound("copy_all", 5 * VALUES),),
        targets=(Target(2, "faster", 5),),
        agree=1e-9,
    ),
    Operation(
        "dequantize.chw",
        "the same, bands first",
        (
            Call(OURS, "kernels.kernel", {"chw": True}),
            Call("upstream", "kernels.by_user", {"chw": True}),
        ),
        unit=(VALUES, "value"),
        bounds=(Bound("touch_all", "result"),),
        agree=1e-9,
    ),
    Operation(
        "dequantize.bands",
        "four bands of a tile",
        (
            Call(OURS, "kernels.kernel", {"bands": BANDS}),
            Call("upstream", "kernels.by_user", {"bands": BANDS}),
        ),
        unit=(VALUES / 32, "value"),
        # A cache line holds half a pixel: all of the tile is read.
        bounds=(Bound("copy_all", VALUES),),
        agree=1e-9,
    ),
    Operation(
        "dequantize.threads",
        "dequantise with out=, by number of threads",
        by_threads("kernels.dequantize", out=True),
        unit=(VALUES, "value"),
        rounds=20,
        axis="threads",
    ),
    Operation(
        "fetch.local",
        "fetch_embedding of a local tile",
        (*pair("kernels.fetch"), Call("numpy", "kernels.fetch_numpy")),
        worlds=("tiles",),
        unit=(1, "tile"),
        bounds=(Bound("touch_all", "result"),),
        targets=(Target(2, "faster", 3),),
        agree=1e-9,
    ),
)
