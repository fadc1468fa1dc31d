"""Who does an operation: the calls that many of them share."""

from __future__ import annotations

from geotessera.benchmark.model import OURS, Call
from geotessera.benchmark.tasks.shared import processors

__all__ = ["by_threads", "pair"]


def pair(task: str, **options: object) -> tuple[Call, Call]:
    """Return the calls of us and upstream, which do the same."""
    return Call(OURS, task, options), Call("upstream", task, options)


def by_threads(task: str, **options: object) -> tuple[Call, ...]:
    """Return our calls with 1, 2, 4 … threads, and as many as there are processors."""
    every = processors()
    return tuple(
        Call(OURS, task, options, {"GEOTESSERA_NUM_THREADS": str(count)}, at=count)
        for count in sorted({1 << k for k in range(every.bit_length())} | {every})
    )
