"""Count the instructions of the kernels and compare them with a committed baseline.

Usage: ``python benches/instructions.py [--update] [--only WORD]`` (``make bench-check``)

A count hardly changes from run to run, however busy the machine is, so that it can guard what a
timed test cannot. It sees no caches and no memory: a kernel may become slower with the same
count. Valgrind simulates no AVX-512, so what is counted is the reference and AVX2.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BASELINE = Path(__file__).with_suffix(".json")

TOLERANCE = 0.02
"""Part of a count by which it may grow: what a compiler's patch release may change."""


def built() -> str:
    """Build the bench and return the path of its executable."""
    command = ["cargo", "bench", "-p", "geotessera-core", "--bench", "instructions"]
    command += ["--no-run", "--message-format=json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(m["executable"] for m in reversed(messages) if m.get("executable"))


def cases(executable: str) -> list[str]:
    """Return the names of the cases that the simulator's CPU can run."""
    listed = subprocess.run([executable], stdout=subprocess.PIPE, text=True, check=True)
    names = [line.split("\t")[0] for line in listed.stdout.splitlines()]
    return [name for name in names if "/avx512/" not in name]


def count(executable: str, case: str) -> int:
    """Return how many instructions a case takes."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += ["--toggle-collect=counted", executable, case]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def compiler() -> str:
    """Return what the counts depend on besides the code."""
    version = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True)
    return f"{' '.join(version.stdout.split()[:2])}, {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="make these counts the baseline")
    parser.add_argument("--only", default="", help="count cases whose name holds this")
    wanted = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is missing: install it with your system's packages")
    executable = built()
    names = [name for name in cases(executable) if wanted.only in name]
    with ThreadPoolExecutor() as pool:
        counts = dict(
            zip(names, pool.map(lambda name: count(executable, name), names), strict=True)
        )
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"counts": {}}
    grown = []
    for name, found in counts.items():
        before = known["counts"].get(name)
        change = f"{found / before - 1:+8.2%}" if before else "     new"
        print(f"{name:55} {found:>12,} {change}")
        if before is None or found > before * (1 + TOLERANCE):
            grown.append(name)
    if wanted.update:
        kept = {} if not wanted.only else known["counts"]
        made = {"compiler": compiler(), "counts": dict(sorted((kept | counts).items()))}
        BASELINE.write_text(json.dumps(made, indent=1) + "\n")
        return
    if compiler() != known["compiler"]:
        print(f"The baseline is of {known['compiler']}, these counts are of {compiler()}.")
    if grown:
        sys.exit(
            f"more than {TOLERANCE:.0%} above the baseline, or not in it: {', '.join(grown)}. "
            "If that is wanted, say why in the commit and run with --update"
        )


if __name__ == "__main__":
    main()
