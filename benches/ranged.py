"""A hundred points over nine remote tiles: seconds, requests and bytes, by ranges and whole.

    python benches/ranged.py [--peer PYTHON] [--latency 0.03] [--rate 100e6] [--points 100]

PYTHON is an interpreter that has the released geotessera: its server's URL is replaced by
that of ours. The server is a process of its own on this machine; each run is a fresh process
with an empty cache, and what is timed is the call that samples.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geotessera.testing import SampleWorld
from geotessera.testing.registries import write_registries
from geotessera.testing.server import LoopbackServer
from geotessera.testing.world import _npy_header

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CENTRES = [(2024, lon, lat) for lon in (0.05, 0.15, 0.25) for lat in (52.05, 52.15, 52.25)]

CLIENT = """
import json, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
url, manifest, count, how = sys.argv[1:5]
options = {}
if how == "peer":
    import geotessera.registry as names
    old = names.TESSERA_MIRROR_URL
    for name in dir(names):
        value = getattr(names, name)
        if isinstance(value, str) and value.startswith(old):
            setattr(names, name, value.replace(old, url))
    from geotessera import GeoTessera
    gt = GeoTessera(registry_path=manifest, cache_dir="cache", embeddings_dir="tiles")
else:
    from geotessera import GeoTessera
    gt = GeoTessera(base_url=url, registry_path=manifest, cache_dir="cache")
    options = {"fetch": how}
rng = np.random.default_rng(1)
points = list(zip(rng.uniform(0, 0.3, int(count)), rng.uniform(52, 52.3, int(count))))
seconds = []
for _ in range(2 if how == "ranges" else 1):
    began = time.perf_counter()
    values = gt.sample_embeddings_at_points(points, 2024, **options)
    seconds.append(time.perf_counter() - began)
print(json.dumps({"seconds": seconds, "sum": float(np.nansum(values)), "shape": values.shape}))
"""


def build(directory: Path) -> tuple[Path, Path, int]:
    """Write nine tiles of 128 bands, mostly holes; return root, manifest and their bytes."""
    world = SampleWorld.build(directory, bands=1, tiles=CENTRES)
    rng = np.random.default_rng(0)
    tiles = []
    for one in world.tiles:
        head = _npy_header((one.grid.height, one.grid.width, 128), "|i1")
        size = len(head) + one.grid.height * one.grid.width * 128
        with one.files.embedding.open("wb") as file:
            file.write(head + rng.integers(-127, 128, size - len(head), np.int8).tobytes())
        tiles.append(replace(one, sizes=(size, *one.sizes[1:])))
    mirror = world.mirror("B")
    write_registries(mirror, tiles)
    return world.root("B"), Path(mirror.registry_url), sum(sum(one.sizes) for one in tiles)


def serve(root: Path, latency: float, rate: float, pipe: Connection) -> None:
    """Serve until told to stop, and say how much was asked between two questions."""
    with LoopbackServer(root, latency=latency, bandwidth=rate) as server:
        for path in root.rglob("*.npy"):
            server._etag(path, path.stat())  # hashed before anybody waits for it
        pipe.send(server.url)
        while pipe.recv() == "report":
            pipe.send((len(server.requests), server.bytes_sent, server.peak))
            server.requests.clear()
            server.peak = 0


def run(python: str, arguments: list[str]) -> dict[str, object]:
    """Run the client in an empty directory; return what it says."""
    with tempfile.TemporaryDirectory() as directory:
        env = {**os.environ, "XDG_CACHE_HOME": f"{directory}/xdg", "PYTHONWARNINGS": "ignore"}
        command = [python, "-c", CLIENT, *arguments]
        done = subprocess.run(
            command, cwd=directory, env=env, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=os.environ.get("GEOTESSERA_PEER"))
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--rate", type=float, default=100e6)
    parser.add_argument("--points", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root, manifest, total = build(Path(directory) / "world")
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(root, options.latency, options.rate, there)
        )
        server.start()
        url = here.recv()
        print(f"{options.points} points, 9 tiles of {total / 1e6:.0f} MB together")
        ways = ["ranges", "auto", "tiles", *(["peer"] if options.peer else [])]
        for way in ways:
            python = options.peer if way == "peer" else sys.executable
            answer = run(python, [url, str(manifest), str(options.points), way])
            here.send("report")
            requests, sent, peak = here.recv()
            seconds = ", then ".join(f"{one:.3f} s" for one in answer["seconds"])  # type: ignore[attr-defined]
            print(
                f"{way:>8}: {seconds}; {requests} requests, {sent / 1e6:.2f} MB "
                f"({total / sent:.0f}× less than the tiles), {peak} at once; "
                f"checksum {answer['sum']:.3f}",
                flush=True,
            )
        here.send("stop")
        server.join()


if __name__ == "__main__":
    main()
