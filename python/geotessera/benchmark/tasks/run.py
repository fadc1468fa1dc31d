"""Run one task in this process and say how long it took, as a line of JSON.

Usage: ``python -P run.py REQUEST``, where REQUEST is a JSON object: ``task``
(``"topic.function"``), ``options``, ``place`` (see `shared.Place`), ``rounds``, ``seconds``
(after them no further call begins), ``patience`` (seconds after which it is given up), ``memory``
and ``sum`` (whether these are wanted).

Nothing but the standard library is imported before the task is.
"""

import contextlib
import importlib
import json
import logging
import os
import resource
import sys
import threading
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE = 1 << 22
"""Values that are summed at a time."""


def main() -> None:
    """Do what the request says."""
    request = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    spare_others()
    run = prepare(request)
    seconds: list[float] = []
    cpu: list[float] = []
    result: Any = None
    began = time.perf_counter()

    def give_up() -> None:
        elapsed = time.perf_counter() - began
        answer = {"seconds": [elapsed], "cut": True, "peak_rss": peak_rss()}
        print(json.dumps(answer), flush=True)
        os._exit(0)

    timer = threading.Timer(request["patience"], give_up)
    timer.daemon = True
    timer.start()
    watched = peak_anonymous_memory() if request["memory"] else contextlib.nullcontext([0])
    with watched as peak:
        while len(seconds) < request["rounds"]:
            result = None  # its memory is free before the next call wants some
            cpu_start, start = processor_seconds(), time.perf_counter()
            result = run()
            seconds.append(time.perf_counter() - start)
            cpu.append(processor_seconds() - cpu_start)
            # The first of several calls is not typical: three, unless they are long.
            if sum(seconds) > request["seconds"] * (1 if len(seconds) > 2 else 2):
                break
    timer.cancel()
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_rss": peak_rss(),
        "peak_anonymous": peak[0],
        "result_bytes": bytes_of(result),
        "written": written(Path(request["place"]["scratch"])) // len(seconds),
    }
    if isinstance(result, dict):
        answer |= result
    if request["sum"]:
        answer["total"] = total_of(result)
    print(json.dumps(answer))


def spare_others() -> None:
    """Let the kernel end this process first where memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def prepare(request: dict[str, Any]) -> Any:
    """Return what is to be timed."""
    # Not imported through the package, which is the peer's where the peer runs this.
    tasks = types.ModuleType("bench_tasks")
    tasks.__path__ = [str(Path(__file__).parent)]
    sys.modules["bench_tasks"] = tasks
    topic, _, function = request["task"].partition(".")
    module = importlib.import_module(f"bench_tasks.{topic}")
    paths = {name: Path(request["place"][name]) for name in ("scratch", "cache")}
    place = importlib.import_module("bench_tasks.shared").Place(**request["place"] | paths)
    return getattr(module, function)(place, **request["options"])


def processor_seconds() -> float:
    """Return the processor seconds of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_rss() -> int:
    """Return the peak resident set in bytes: of the children, where those did the work."""
    factor = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * factor
    # Before exec a child is its parent's image: less than this much is no work.
    own = status("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor
    return max(children, own)


def status(field: str) -> int:
    """Return a field of the kernel's account of this process in bytes; 0 where it has none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def peak_anonymous_memory() -> Iterator[list[int]]:
    """Ask fifty times a second, from a thread that the work hardly notices."""
    peak = [status("RssAnon")]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], status("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def bytes_of(result: Any) -> int:
    """Return the size of the arrays in a result."""
    if isinstance(result, tuple | list):
        return sum(map(bytes_of, result))
    parts = [getattr(result, name, None) for name in ("values", "scales")]
    return sum(getattr(part, "nbytes", 0) for part in (result, *parts) if not callable(part))


def total_of(result: Any) -> float:
    """Return the sum of a result's first array; NaN is nothing."""
    import numpy as np

    array = result[0] if isinstance(result, tuple | list) else result
    flat = np.asarray(array).reshape(-1)
    pieces = (flat[at : at + PIECE] for at in range(0, flat.size, PIECE))
    return float(sum(np.nansum(piece, dtype=np.float64) for piece in pieces))


def written(scratch: Path) -> int:
    """Return the bytes of all files that were written."""
    return sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
