"""One run of the benchmark: data, limits, operations, reports; it goes on where it stopped."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from geotessera.benchmark.limits import limits, measure_limits
from geotessera.benchmark.machine import code_digest, describe
from geotessera.benchmark.model import OURS
from geotessera.benchmark.operations import OPERATIONS
from geotessera.benchmark.peers import find_peers
from geotessera.benchmark.report import report
from geotessera.benchmark.report_html import to_html
from geotessera.benchmark.report_markdown import to_markdown
from geotessera.benchmark.results import Results
from geotessera.benchmark.runner import Runner, obstacle
from geotessera.benchmark.units import seconds_text, times
from geotessera.benchmark.worlds import FULL, QUICK, Worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from geotessera.benchmark.model import Operation
    from geotessera.benchmark.peers import Installed
    from geotessera.benchmark.results import Outcome

__all__ = ["Session"]


@dataclass(slots=True)
class Session:
    """One run.

    Parameters
    ----------
    output : Path
        Directory of the reports.
    world : Path, optional
        Directory of the data; below `output` by default.
    peers : Path, optional
        Directory of the peers' environments; below `output` by default.
    no_peers : bool
        Measure the package alone.
    runs : int
        How many runs of everybody.
    quick : bool
        Small data, and as little of everything as shows that it works.
    say : callable
        Told what happens, a line at a time.
    results : Results
        What is there so far; empty before `run`.
    """

    output: Path
    world: Path | None = None
    peers: Path | None = None
    no_peers: bool = False
    runs: int = 3
    quick: bool = False
    say: Callable[[str], None] = print
    results: Results = field(default_factory=Results)

    @property
    def path(self) -> Path:
        """The JSON document, from which an interrupted run goes on."""
        return self.output / "report.json"

    def run(self, operations: Sequence[Operation], *, again: bool = False) -> Results:
        """Measure operations, and write the reports after each.

        Parameters
        ----------
        operations : sequence of Operation
            What to measure.
        again : bool
            Measure all of them, also those that are there already. Without it a run goes on
            with what the last one left, and begins anew where that left nothing.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        installed = find_peers(self.peers or self.output / "peers", none=self.no_peers)
        results = self._previous()
        results.peers = {
            one.name: {"title": one.title, "version": one.version} for one in installed.values()
        }
        left = [one for one in operations if again or not self._is_done(one, installed.keys())]
        if not left:
            self.say("All of it is measured: beginning anew")
            left, results.limits, results.took = list(operations), {}, 0.0
        elif len(left) < len(operations):
            self.say(f"Going on: {len(operations) - len(left)} operations are measured")
        began = time.monotonic()
        try:
            with _fresh(self.output / "work") as work:
                self._measure(left, work, installed)
        finally:
            results.took += time.monotonic() - began
            self._write()
        return results

    def _measure(
        self, operations: Sequence[Operation], work: Path, installed: Mapping[str, Installed]
    ) -> None:
        worlds = Worlds(self.world or self.output / "world", QUICK if self.quick else FULL)
        able = [one for one in operations if not obstacle(one)]
        for name in worlds.missing({world for one in able for world in one.worlds}):
            began = time.monotonic()
            worlds.build(name)
            self.say(f"Made the data '{name}' in {time.monotonic() - began:.0f} s")
        self._limits(operations, work)
        runner = Runner(worlds, work, installed, 1 if self.quick else self.runs)
        runner.seconds = 0.2 if self.quick else 1.0
        began = time.monotonic()
        for number, operation in enumerate(operations, 1):
            outcome = runner.run(operation)
            self.results.outcomes[operation.name] = outcome
            self._write()
            took = f"{outcome.took:.1f} s; {(time.monotonic() - began) / 60:.1f} min so far"
            line = f"[{number}/{len(operations)}] {operation.name}: {_summary(outcome)}"
            self.say(f"{line} ({took})")

    def _limits(self, operations: Sequence[Operation], work: Path) -> None:
        """Measure the limits that are not known yet: all of them, if all is measured."""
        needed = {part for one in operations for b in one.bounds for part in b.limit.split("+")}
        known = self.results.limits.keys()
        everything = len(operations) > len(OPERATIONS) // 2
        names = {one.name for one in limits()} - known if everything else needed - known
        if names:
            self.say("Measuring what the machine can do")
            measured, _ = measure_limits(
                sys.executable, work, names=names, quick=self.quick, say=self.say
            )
            self.results.limits |= measured

    def _previous(self) -> Results:
        """Return the results to go on from: of this machine, measured in this way."""
        machine = describe() | {"geotessera": version("geotessera")}
        options = {"quick": self.quick, "runs": self.runs}
        found = Results.load(self.path)
        if found is not None and (found.machine, found.options) != (machine, options):
            self.say(f"{self.path} is of another machine or other options: beginning anew")
            found = None
        self.results = found or Results(machine, options)
        return self.results

    def _is_done(self, operation: Operation, installed: Collection[str]) -> bool:
        """Whether an operation was measured with this code and all who are here now."""
        outcome = self.results.outcomes.get(operation.name)
        if outcome is None or outcome.code != code_digest():
            return False
        came = any(
            call.label in outcome.skipped and call.who in installed for call in operation.calls
        )
        skipped = operation.name in outcome.skipped and bool(obstacle(operation))
        return skipped or (outcome.finished and not came)

    def _write(self) -> None:
        self.results.save(self.path)
        blocks = report(self.results, OPERATIONS)
        (self.output / "report.md").write_text(to_markdown(blocks), encoding="utf-8")
        (self.output / "report.html").write_text(to_html(blocks), encoding="utf-8")


def _summary(outcome: Outcome) -> str:
    """Return one line's worth of an outcome."""
    if outcome.name in outcome.skipped:
        return f"left out: {outcome.skipped[outcome.name]}"
    words = []
    for label in outcome.runs:
        spread = outcome.times(label)
        ratio = outcome.ratio(label) if label != OURS else None
        if spread is not None:
            words.append(
                f"{label} {'> ' if outcome.cut(label) else ''}{seconds_text(spread.median)}"
                + (f" = {times(ratio.median)}" if ratio else "")
            )
    words += [f"{label} FAILED: {why}" for label, why in outcome.failures.items()]
    words += ["VALUES DIFFER"] if outcome.disagreement else []
    return ", ".join(words)


@contextmanager
def _fresh(path: Path) -> Iterator[Path]:
    """Make a directory that is empty now and gone afterwards."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
