"""Zarr stores side by side with upstream: open, points, probe, region, over HTTP and cached.

    python benches/stores.py [--peer PYTHON] [--world DIR] [--runs 3] [--latency 0.03] [TASK …]

PYTHON is an interpreter that has the released geotessera. Both read the same store
(`store_world.py`), each run in a process of its own, in turn; what takes the peer longer than
10 s is timed once. The server of the HTTP tasks is a process of its own on this machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import store_world
from object_server import serve

LONG = 10.0
"""Seconds: what takes the peer longer is timed once."""

# Only what both packages offer, so that the same lines are timed on both sides.
CLIENT = """
import json, logging, resource, sys, time, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import numpy as np
import xarray, zarr, dask.array  # imports are not what is timed
from geotessera import GeoTesseraZarr
import geotessera.store
task, where, world, cache = sys.argv[1:5]
boxes = json.load(open(world + "/boxes.json"))
peer = not hasattr(geotessera.store, "open_dataarray")
if where.startswith("http") and peer:
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore
    where = ObjectStore(HTTPStore(where, client_options={"allow_http": True}), read_only=True)
start = time.perf_counter()
options = {"cache_dir": cache} if cache else {}
gt = GeoTesseraZarr(where, **options)
zone = gt.open_zone(zone=30)
opened = time.perf_counter() - start
load = lambda name: np.load(f"{world}/points-{name}.npy")
one = load("1k")[0]
work = {
    "open": None,
    "probe": lambda: gt.probe(*one, 2024)[0],
    "points_1k": lambda p=load("1k"): gt.sample_points(p, 2024),
    "points_spread": lambda p=load("spread"): gt.sample_points(p, 2024),
    "points_100k": lambda p=load("100k"): gt.sample_points(p, 2024),
    "region": lambda: zone.tessera.read_region(boxes["utm"], 2024)[0],
}[task]
peak_now = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
seconds, result, total, peak = [], None, 0.0, peak_now()
if work is None:
    seconds = [opened]
else:
    if task == "probe":
        work()  # warm
    # Over a network the first call is what counts; else calls are repeated.
    rounds = 1 if task == "region" or where is not sys.argv[2] or where.startswith("http") else 3
    for _ in range(20 if task == "probe" else rounds):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    peak = peak_now()
    total = float(np.nansum(result, dtype=np.float64))
print(json.dumps({
    "seconds": seconds, "peak_rss": peak, "bytes": getattr(result, "nbytes", 0), "sum": total,
}))
"""

LOCAL = ("open", "probe", "points_1k", "points_spread", "points_100k", "region")
REMOTE = ("points_1k", "points_spread")


def run(python: str, *arguments: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, "-c", CLIENT, *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(
    name: str, task: str, where: str, options: argparse.Namespace, report: Any = None
) -> None:
    """Time both sides in turn and print one row."""
    world = str(options.world)
    ours, theirs, traffic = [], [], {}
    for _ in range(options.runs):
        sides = [(sys.executable, ours, "ours")]
        once = theirs and min(theirs[0]["seconds"]) > LONG
        if options.peer and not once:
            sides.append((options.peer, theirs, "peer"))
        for python, answers, side in sides:
            answers.append(run(python, task, where, world, ""))
            if report:
                traffic[side] = report()
    median = statistics.median(second for one in ours for second in one["seconds"])
    cells = [name, f"{median * 1e3:.2f} ms"]
    peak = max(one["peak_rss"] for one in ours)
    if theirs:
        other = statistics.median(second for one in theirs for second in one["seconds"])
        same = abs(ours[0]["sum"] - theirs[0]["sum"]) <= 1e-6 * max(1, abs(theirs[0]["sum"]))
        cells += [f"{other * 1e3:.2f} ms", f"{other / median:.1f}×"]
        memory = f"{peak / 1e6:.0f} / {max(one['peak_rss'] for one in theirs) / 1e6:.0f} MB"
        cells += [memory, "same" if same else f"DIFFER {ours[0]['sum']} {theirs[0]['sum']}"]
    else:
        cells += ["", "", f"{peak / 1e6:.0f} MB", ""]
    if ours[0]["bytes"]:
        cells[4] += f" (result {ours[0]['bytes'] / 1e6:.0f})"
    for side, (requests, sent, _) in traffic.items():
        cells.append(f"{side}: {requests} requests, {sent / 1e6:.1f} MB")
    print("| " + " | ".join(cells) + " |", flush=True)


def compare_remote(options: argparse.Namespace, tasks: list[str]) -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.world / "store", options.latency, there)
    )
    server.start()
    url = here.recv()

    def report() -> tuple[int, int, int]:
        here.send("report")
        found: tuple[int, int, int] = here.recv()
        return found

    for task in tasks:
        compare(f"{task}, HTTP {options.latency * 1e3:.0f} ms", task, url, options, report)
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first run with cache_dir", "second run, new process"):
            answer = run(sys.executable, "points_1k", url, str(options.world), cache)
            requests, sent, data = report()
            took = statistics.median(answer["seconds"]) * 1e3
            print(
                f"| {name} | {took:.2f} ms | {requests} requests, {data} for data, "
                f"{sent / 1e6:.1f} MB |"
            )
    here.send("stop")
    server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join((*LOCAL, "http")))
    parser.add_argument("--peer", default=os.environ.get("GEOTESSERA_PEER"))
    parser.add_argument("--world", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.03)
    options = parser.parse_args()
    options.world = options.world or Path(tempfile.gettempdir()) / "geotessera-bench-store"
    store_world.build(options.world)
    print("| task | geotessera | upstream | ratio of medians | peak RSS | sums |")
    print("|---|---|---|---|---|---|")
    chosen = options.tasks or [*LOCAL, "http"]
    for task in LOCAL:
        if task in chosen:
            compare(task, task, str(options.world / "store"), options)
    if "http" in chosen:
        compare_remote(options, list(REMOTE))


if __name__ == "__main__":
    main()
