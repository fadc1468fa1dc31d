"""Time the package side by side with upstream, task by task, in fresh processes.

Usage: ``python benches/run.py [--peer PYTHON] [--world DIR] [--runs N] [--json FILE] [TASK …]``

``--peer`` is the interpreter of an environment that holds upstream ``geotessera``; without it
only this package is timed. Each run is a process of its own, package and peer in turn, so that
both meet the same state of the machine; figures are medians over all timings of a task.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import tasks
import world as bench_world

HERE = Path(__file__).parent

LONG = 10.0
"""Seconds: what takes the peer longer is timed once."""


def timed(python: str, task: str, world: Path) -> dict[str, object]:
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [python, str(HERE / "tasks.py"), task, str(world)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=world, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def seconds_of(answers: list[dict[str, object]]) -> list[float]:
    return [second for answer in answers for second in answer["seconds"]]  # type: ignore[attr-defined]


def human(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def memory(answer: dict[str, Any]) -> str:
    """Peak RSS; for mosaics also anonymous memory, in multiples of the result."""
    text = f"{answer['peak_rss'] / 1e6:.0f} MB"
    if answer["peak_anonymous"]:
        text += f" (anonymous {answer['peak_anonymous'] / answer['result_bytes']:.2f} × result)"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(tasks.TASKS))
    parser.add_argument("--peer", default=os.environ.get("GEOTESSERA_PEER"))
    parser.add_argument("--world", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world = options.world or Path(tempfile.gettempdir()) / "geotessera-bench"
    world.mkdir(parents=True, exist_ok=True)
    bench_world.build(world.resolve())
    timed(sys.executable, "city_query", world)  # builds the registry's index, as a first use does
    print("| task | geotessera | upstream | ratio of medians | peak RSS |")
    print("|---|---|---|---|---|")
    results = {}
    for task in options.tasks or tasks.TASKS:
        ours, theirs = [], []
        for _ in range(options.runs):
            ours.append(timed(sys.executable, task, world))
            once = theirs and min(seconds_of(theirs)) > LONG
            if options.peer and task not in tasks.WITHOUT_PEER and not once:
                theirs.append(timed(options.peer, task, world))
        row = {"ours": ours, "peer": theirs}
        median = statistics.median(seconds_of(ours))
        cells = [task, human(median), "", "", memory(ours[-1])]
        if theirs:
            other = statistics.median(seconds_of(theirs))
            cells[2:4] = [human(other), f"{other / median:.1f}×"]
            cells[4] += f" / {memory(theirs[-1])}"
        print(f"| {' | '.join(cells)} |", flush=True)
        results[task] = row
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
