"""What came out: kept as JSON while it comes, and judged against limits and targets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, Self

from geotessera.benchmark.limits import Measured
from geotessera.benchmark.model import OURS
from geotessera.benchmark.peers import is_ours
from geotessera.benchmark.statistics import Ratio, Spread, ratio_of, spread_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geotessera.benchmark.model import Bound, Operation, Target

__all__ = [
    "FORMAT",
    "Outcome",
    "Results",
    "Run",
    "Verdict",
    "costs_of",
    "fraction_of_limit",
    "judge",
]

FORMAT = 1
"""Version of the JSON document."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process.

    Parameters
    ----------
    seconds, cpu_seconds : list of float
        Of each call.
    peak_rss, peak_anonymous, result_bytes, written : int
        Bytes; `written` a call.
    sent, requests, data_requests : int
        What the server counted.
    cut : bool
        Whether it was given up: its time is at least so much.
    total : float, optional
        Of the result's values, where results are compared.
    facts : dict
        What the task said beside it.
    """

    seconds: list[float]
    cpu_seconds: list[float] = field(default_factory=list)
    peak_rss: int = 0
    peak_anonymous: int = 0
    result_bytes: int = 0
    written: int = 0
    sent: int = 0
    requests: int = 0
    data_requests: int = 0
    cut: bool = False
    total: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Return a run of what a process and a server said."""
        known = {name: answer[name] for name in cls.__slots__ if name in answer}
        facts = {name: value for name, value in answer.items() if name not in known}
        return cls(**known | {"facts": facts | dict(answer.get("facts", {}))})

    @property
    def time(self) -> float:
        """Median of the calls."""
        return median(self.seconds)


@dataclass(slots=True)
class Outcome:
    """What came of an operation.

    Parameters
    ----------
    name : str
        Of the operation.
    code : str
        Digest of the package's code; see `machine.code_digest`.
    runs : dict of list of Run
        By `Call.label`.
    failures : dict of str
        By label: why there are no (further) runs.
    skipped : dict of str
        By label: why it was not tried. Under the name of the operation: why nothing was.
    disagreement : str
        In what the results differ though they should not.
    took : float
        Seconds, set-up included.
    load : (float, float)
        Load of the machine before and after.
    when : str
        Time of its end.
    """

    name: str
    code: str = ""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    disagreement: str = ""
    took: float = 0.0
    load: tuple[float, float] = (0.0, 0.0)
    when: str = ""

    @property
    def finished(self) -> bool:
        """Whether we ran; what failed is tried again by the next run."""
        return bool(self.runs) and not self.failed

    @property
    def failed(self) -> bool:
        """Whether we failed; peers may."""
        return any(is_ours(label) for label in self.failures)

    def times(self, label: str) -> Spread | None:
        """Return the spread of the runs' times."""
        runs = self.runs.get(label)
        return spread_of([run.time for run in runs]) if runs else None

    def cut(self, label: str) -> bool:
        """Return whether somebody was given up, so that times and ratios are at least these."""
        return any(run.cut for run in self.runs.get(label, []))

    def ratio(self, peer: str, what: str = "time", ours: str = OURS) -> Ratio | None:
        """Compare a peer with us, run by run; `what` is an attribute of `Run`."""
        theirs, mine = self.runs.get(peer), self.runs.get(ours)
        if not theirs or not mine:
            return None
        theirs_, mine_ = ([float(getattr(run, what)) for run in runs] for runs in (theirs, mine))
        return ratio_of(theirs_, mine_) if all(mine_) else None

    def most(self, label: str, what: str) -> float:
        """Return the largest of a figure over the runs; 0 where there are none."""
        return max((float(getattr(run, what)) for run in self.runs.get(label, [])), default=0.0)


@dataclass(slots=True)
class Results:
    """All that a report is made from.

    Parameters
    ----------
    machine : dict
        See `machine.describe`.
    options : dict
        Under which was measured: ``quick``, ``runs``.
    peers : dict of dict
        Who was there: ``title``, ``version``.
    limits : dict of Measured
        By name.
    outcomes : dict of Outcome
        By name of the operation.
    took : float
        Seconds that were measured, over all sessions that filled this.
    """

    machine: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, dict[str, str]] = field(default_factory=dict)
    limits: dict[str, Measured] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    took: float = 0.0

    def save(self, path: Path) -> None:
        """Write it as JSON; a reader never finds half of it."""
        temporary = path.with_name(f".{path.name}.tmp")
        text = json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read it back; None where there is nothing that can be read."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                return None
            return cls._of(document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _of(cls, document: dict[str, Any]) -> Self:
        results = cls(**document)
        results.limits = {name: Measured(**one) for name, one in document["limits"].items()}
        results.outcomes = {}
        for name, one in document["outcomes"].items():
            outcome = Outcome(**one)
            outcome.runs = {
                label: [Run(**run) for run in runs] for label, runs in one["runs"].items()
            }
            outcome.load = (one["load"][0], one["load"][1])
            results.outcomes[name] = outcome
        return results


type Status = Literal["met", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was asked for, and what came.

    Parameters
    ----------
    status : str
        ``"met"``, ``"missed"`` or ``"not measured"``.
    value : float, optional
        The median where it is a comparison, else the worst.
    more : bool
        Whether it is at least this, because the peer was given up.
    """

    operation: str
    target: Target
    status: Status
    value: float | None
    more: bool = False


def judge(operation: Operation, outcome: Outcome | None) -> list[Verdict]:
    """Hold an outcome against the targets of its operation."""
    verdicts = []
    for target in operation.targets:
        value = None if outcome is None else _value(operation, outcome, target)
        short = value is not None and target.at_least and value < target.value
        if value is None or (short and outcome is not None and outcome.cut(target.peer)):
            status: Status = "not measured"
        elif value >= target.value if target.at_least else value <= target.value:
            status = "met"
        else:
            status = "missed"
        more = target.at_least and outcome is not None and outcome.cut(target.peer)
        verdicts.append(Verdict(operation.name, target, status, value, more))
    return verdicts


_COMPARED = {"faster": "time", "less memory": "peak_rss", "fewer bytes": "sent"}


def _value(operation: Operation, outcome: Outcome, target: Target) -> float | None:
    if target.metric in _COMPARED:
        ratio = outcome.ratio(target.peer, _COMPARED[target.metric])
        return None if ratio is None else ratio.median
    if target.metric == "evenness":
        costs = [cost for _, cost in costs_of(operation, outcome)]
        return max(costs) / min(costs) if len(costs) > 1 else None
    labels = [call.label for call in operation.calls if call.who == OURS]
    if not any(outcome.runs.get(label) for label in labels):
        return None
    if target.metric == "data requests":
        return max(outcome.most(label, "data_requests") for label in labels)
    if target.metric == "peak":
        return max(outcome.most(label, "peak_rss") for label in labels)
    what = "peak_rss" if target.metric == "peak / result" else "peak_anonymous"
    size = outcome.most(OURS, "result_bytes")
    return outcome.most(OURS, what) / size if size else None


def costs_of(operation: Operation, outcome: Outcome, who: str = OURS) -> list[tuple[float, float]]:
    """Return place and seconds a unit of work along a curve."""
    found = []
    for call in operation.calls:
        spread = outcome.times(call.label)
        if call.who == who and call.at is not None and spread is not None:
            found.append((call.at, spread.median / (call.work or operation.unit[0])))
    return found


def fraction_of_limit(
    operation: Operation, outcome: Outcome, limits: Mapping[str, Measured]
) -> tuple[float, str] | None:
    """Return how much of the limit we reach, and the name of the limit that binds.

    Of several bounds the one that needs most time binds. None where none was measured.
    """
    times = outcome.times(OURS)
    if times is None:
        return None
    needed = []
    for bound in operation.bounds:
        # "a+b": the same bytes go through one after the other.
        parts = [limits.get(part) for part in bound.limit.split("+")]
        amount = _amount(bound, outcome)
        if amount and all(parts):
            needed.append((sum(amount / part.best for part in parts if part), bound.limit))
    if not needed:
        return None
    seconds, name = max(needed)
    return seconds / times.median, name


def _amount(bound: Bound, outcome: Outcome) -> float:
    if isinstance(bound.amount, str):
        return outcome.most(OURS, "result_bytes" if bound.amount == "result" else bound.amount)
    return bound.amount
