"""Runs operations: all who can do one, in turn, each run a process of its own."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geotessera.benchmark.machine import code_digest, load
from geotessera.benchmark.model import OURS
from geotessera.benchmark.peers import is_ours
from geotessera.benchmark.process import TaskError, run_task
from geotessera.benchmark.results import Outcome, Run
from geotessera.benchmark.servers import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from geotessera.benchmark.model import Call, Operation
    from geotessera.benchmark.peers import Installed
    from geotessera.benchmark.servers import Running
    from geotessera.benchmark.worlds import Worlds

__all__ = ["LONG", "Runner", "obstacle", "patience_for"]

LONG = 10.0
"""Seconds: what takes anybody longer is run once by them."""

_BEGIN = 15.0
"""Seconds that a process may need until its call begins."""

_SURE = 1.25
"""How far beyond a target it is waited for, as our next runs may be slower than the first."""


@dataclass(slots=True)
class Runner:
    """Runs operations.

    Parameters
    ----------
    worlds : Worlds
        The data; it is there.
    work : Path
        Directory to write to.
    peers : mapping of Installed
        Who is there, by name.
    runs : int
        How many runs of everybody.
    seconds : float
        A process begins no further call after these.
    launch : callable
        Runs a task; `geotessera.benchmark.process.run_task`.
    """

    worlds: Worlds
    work: Path
    peers: Mapping[str, Installed]
    runs: int = 3
    seconds: float = 1.0
    launch: Callable[..., dict[str, Any]] = field(default=run_task)

    def run(self, operation: Operation) -> Outcome:
        """Run an operation; what fails is in the outcome, and stops nobody else."""
        outcome = Outcome(operation.name, code_digest())
        began, before = time.monotonic(), load()
        reason = obstacle(operation)
        if reason:
            outcome.skipped[operation.name] = reason
        else:
            try:
                self._run(operation, outcome)
            except (OSError, RuntimeError) as error:  # of a server or a directory
                outcome.failures[OURS] = " ".join(str(error).split()) or type(error).__name__
        outcome.took = time.monotonic() - began
        outcome.load = (before, load())
        outcome.when = datetime.now(UTC).isoformat(timespec="seconds")
        return outcome

    def _run(self, operation: Operation, outcome: Outcome) -> None:
        calls = []
        for call in operation.calls:
            if is_ours(call.who) or call.who in self.peers:
                calls.append(call)
            else:
                outcome.skipped[call.label] = "not installed"
        with ExitStack() as stack:
            work = self.work / "operation"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            server = None
            if operation.server is not None:
                place = "tiles" if operation.server.root == "mirror" else "store"
                root = self.worlds.path(place) / operation.server.root
                server = stack.enter_context(serving(operation.server, root, work))
            for call in operation.setup:
                if is_ours(call.who) or call.who in self.peers:
                    self._one(operation, call, work, server, outcome)
            if server is not None:
                server.report()
            self._in_turn(operation, calls, work, server, outcome)
        _compare(operation, outcome)

    def _in_turn(
        self,
        operation: Operation,
        calls: list[Call],
        work: Path,
        server: Running | None,
        outcome: Outcome,
    ) -> None:
        """Let everybody run once, then everybody again, there and back."""
        for number in range(self.runs):
            for call in calls if number % 2 == 0 else calls[::-1]:
                done = outcome.runs.get(call.label, [])
                enough = min(self.runs, call.runs or self.runs)
                once = bool(done) and done[0].time > LONG
                if call.label in outcome.failures or once or len(done) >= enough:
                    continue
                run = self._one(operation, call, work, server, outcome)
                if run is not None:
                    outcome.runs.setdefault(call.label, []).append(run)

    def _one(
        self,
        operation: Operation,
        call: Call,
        work: Path,
        server: Running | None,
        outcome: Outcome,
    ) -> Run | None:
        """Run a process; note where it fails."""
        try:
            answer = self.launch(
                sys.executable if is_ours(call.who) else self.peers[call.who].python,
                call.task,
                call.options,
                worlds=self.worlds.paths(),
                work=work,
                cache=work / "caches" / call.who.replace(" ", "-"),
                url=server.url if server else "",
                certificate=server.certificate if server else "",
                env=call.env,
                rounds=operation.rounds,
                seconds=self.seconds,
                patience=patience_for(operation, call, outcome),
                memory=operation.memory,
                total=operation.agree is not None,
            )
        except TaskError as error:
            outcome.failures[call.label] = str(error)
            return None
        return Run.of(answer | (server.report() if server else {}))


def patience_for(operation: Operation, call: Call, outcome: Outcome) -> float:
    """Return the seconds after which a call is given up: not while a target is undecided.

    A machine that is slow, or busy, is so for everybody.
    """
    ours = outcome.runs.get(OURS)
    if not ours or is_ours(call.who):
        return operation.patience
    wanted = [
        target.value
        for target in operation.targets
        if target.metric == "faster" and target.peer == call.who
    ]
    return max(operation.patience, _BEGIN + _SURE * max(wanted, default=0.0) * ours[0].time)


def obstacle(operation: Operation) -> str:
    """Return why an operation cannot be run at all; empty if it can."""
    if operation.requires and not _is_there(operation.requires):
        return f"this version has no {operation.requires}"
    if operation.program and shutil.which(operation.program) is None:
        return f"{operation.program} is not installed"
    return ""


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _compare(operation: Operation, outcome: Outcome) -> None:
    """Note whose results are other ones than ours."""
    ours = outcome.runs.get(OURS)
    if operation.agree is None or not ours or ours[0].total is None:
        return
    for label, runs in outcome.runs.items():
        total = runs[0].total
        if total is None:
            continue
        if abs(total - ours[0].total) > operation.agree * max(1.0, abs(ours[0].total)):
            outcome.disagreement = (
                f"the values sum to {ours[0].total:.9g}, {label}'s to {total:.9g}"
            )
