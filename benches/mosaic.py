"""Time `geotessera mosaic` of a world of 6 × 6 tiles, its memory, and a run that was killed.

    python benches/mosaic.py [--world DIR] [--memory 2GB] [FORMAT …]

Formats: ``cog`` and ``zarr``, both quantised. ``scaling``: cost per pixel from 1 to 36 tiles.
The world (3.8 GB of int8, 128 bands) is made on first use and stays in DIR; delete it
afterwards. Runs are processes of their own; their peak resident set is what the system says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import world as bench_world

LONS = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55]
LATS = [52.05, 52.15, 52.25, 52.35, 52.45, 52.55]


def build(root: Path) -> None:
    if (root / "complete").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    bench_world.CENTRES[:] = [(lon, lat) for lon in LONS for lat in LATS]
    bench_world._tiles(root / "tiles")
    (root / "complete").touch()


def command(root: Path, out: Path, side: int, fmt: str, memory: str) -> list[str]:
    # A hair inside the cells' edges: tiles that only touch the box are not wanted.
    box = f"0.0001,52.0001,{side / 10 - 0.0001:.4f},{52 + side / 10 - 0.0001:.4f}"
    tiles = root / "tiles"
    return [
        *(sys.executable, "-c", "from geotessera.cli import main; main()", "mosaic"),
        *("--bbox", box, "--embeddings-dir", str(tiles), "--registry-dir", str(tiles)),
        *("--offline", "--quantized", "--format", fmt, "--memory", memory, "--json"),
        *("-o", str(out / f"mosaic.{'zarr' if fmt == 'zarr' else 'tif'}")),
    ]


def measured(line: list[str], kill_after: float | None = None) -> tuple[dict[str, object], float]:
    """Run a command, maybe kill it; return its document and its peak resident set in bytes."""
    with tempfile.TemporaryFile() as captured:
        process = subprocess.Popen(line, stdout=captured, stderr=subprocess.DEVNULL)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process.pid, signal.SIGKILL)  # send_signal would wait for it
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if kill_after is None and process.returncode:
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
        captured.seek(0)
        text = captured.read()
    return (json.loads(text) if text else {}), usage.ru_maxrss * 1024


def show(name: str, document: dict[str, object], peak: float) -> None:
    pixels = document["height"] * document["width"]  # type: ignore[operator]
    seconds = document["seconds"]
    print(
        f"| {name} | {document['tiles']} | {pixels / 1e6:.1f} M | {seconds:.1f} s "
        f"| {seconds / pixels * 1e9:.0f} ns | {document['bytes'] / 1e9:.2f} GB "  # type: ignore[operator]
        f"| {peak / 1e6:.0f} MB | {document['blocks']['resumed']} |",  # type: ignore[index]
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["cog", "zarr", "scaling"])
    parser.add_argument("--world", type=Path)
    parser.add_argument("--memory", default="2GB")
    options = parser.parse_args()
    root = options.world or Path(tempfile.gettempdir()) / "geotessera-mosaic-bench"
    root.mkdir(parents=True, exist_ok=True)
    # In a process of its own: what a run's parent once had in memory counts as the run's peak.
    maker = multiprocessing.get_context("spawn").Process(target=build, args=(root.resolve(),))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit("the world could not be made")
    print("| run | tiles | pixels | time | a pixel | on disk | peak RSS | blocks that were there |")
    print("|---|---|---|---|---|---|---|---|")
    for what in options.what:
        for fmt, sides in (("cog", (1, 2, 3, 4, 6)),) if what == "scaling" else ((what, (6,)),):
            for side in sides:
                with tempfile.TemporaryDirectory(dir=root) as out:
                    line = command(root, Path(out), side, fmt, options.memory)
                    whole, peak = measured(line)
                    show(fmt, whole, peak)
                    if what == "scaling":
                        continue
                    shutil.rmtree(out)
                    Path(out).mkdir()
                    measured(line, kill_after=0.5 * float(whole["seconds"]))  # type: ignore[arg-type]
                    show(f"{fmt}, after a kill half-way", *measured(line))


if __name__ == "__main__":
    main()
