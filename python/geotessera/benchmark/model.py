"""What is measured, declared: operations, who runs them, what bounds them, what is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OURS", "Amount", "Bound", "Call", "Metric", "Operation", "Server", "Target"]

OURS = "geotessera"
"""Who we are among those who run an operation."""

type Amount = float | Literal["result", "sent", "requests", "written"]
"""How much of a limit an operation needs: a number, or what was counted while it ran."""

type Metric = Literal[
    "faster",
    "less memory",
    "fewer bytes",
    "peak",
    "peak / result",
    "anonymous / result",
    "data requests",
    "evenness",
]
"""What a target is about.

``"faster"``, ``"less memory"``, ``"fewer bytes"``: a peer's figure over ours, at least.
``"peak"``: our peak resident set in bytes, at most. ``"peak / result"`` and
``"anonymous / result"``: our peak (of what is no file's) over the size of the result, at
most. ``"data requests"``: requests for data, at most. ``"evenness"``: the dearest unit of
work along a curve over the cheapest, at most.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One way to do an operation: who, and what runs.

    Parameters
    ----------
    who : str
        `OURS` or a peer's name.
    task : str
        ``"topic.function"`` below `geotessera.benchmark.tasks`.
    options : mapping
        Keywords of that function, which go through JSON.
    env : mapping
        Environment variables of the process.
    at : float, optional
        The place on a curve.
    work : float, optional
        Units of work here, where they differ along a curve.
    runs : int, optional
        How many runs, if not as many as the others'.
    """

    who: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    at: float | None = None
    work: float | None = None
    runs: int | None = None

    @property
    def label(self) -> str:
        """Name within the operation."""
        return self.who if self.at is None else f"{self.who} @ {self.at:g}"


@dataclass(frozen=True, slots=True)
class Server:
    """A server on this machine, in a process of its own, that an operation reads from.

    Parameters
    ----------
    root : str
        What it serves: ``"mirror"`` (tiles) or ``"store"``.
    kind : {"files", "objects"}
        With a thread for each connection, latency and cap; or light, with latency only.
    latency : float
        Seconds before each answer.
    bandwidth : float
        Bytes a second of each connection.
    tls : bool
        Whether it passes for the public server, with a throw-away certificate.
    """

    root: Literal["mirror", "store"]
    kind: Literal["files", "objects"] = "files"
    latency: float = 0.0
    bandwidth: float = float("inf")
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of the machine that an operation cannot be faster than.

    Parameters
    ----------
    limit : str
        Name of a limit (`geotessera.benchmark.limits`), or several with ``+`` between them,
        which take the amount one after the other.
    amount : float or str
        How many of its units the operation needs; see `Amount`.
    """

    limit: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Target:
    """What an issue asks for.

    Parameters
    ----------
    issue : int
        Number of the issue.
    metric : str
        See `Metric`.
    value : float
        At least this for comparisons, at most this for the rest.
    peer : str
        Whom a comparison is with.
    """

    issue: int
    metric: Metric
    value: float
    peer: str = "upstream"

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.metric in ("faster", "less memory", "fewer bytes")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that users do, and all ways to do it.

    Parameters
    ----------
    name : str
        ``"topic.what"``; what ``--only`` matches.
    title : str
        The same for people.
    calls : tuple of Call
        Ours first.
    worlds : tuple of str
        Which data it needs: ``"tiles"``, ``"planet"``, ``"store"``.
    unit : (float, str)
        How many of what a call does.
    rounds : int
        The most calls in a process; there are fewer where they take long. 1 times the
        first call of a fresh process.
    setup : tuple of Call
        What runs once before, not timed, and leaves something in the cache of the one who
        runs it.
    server : Server, optional
        What it reads from.
    bounds : tuple of Bound
        What limits it; the slowest of them is the limit.
    targets : tuple of Target
        What was asked for.
    requires : str
        A module of the package without which there is no such operation.
    program : str
        A program on PATH that is needed beside it.
    patience : float
        Seconds after which a call is given up, more while a target is undecided; its time is
        then at least so much.
    agree : float, optional
        Relative difference that the sums of two results may have.
    memory : bool
        Whether memory that is no file's is watched; not where a call takes microseconds.
    axis : str
        What `Call.at` counts; such an operation is a curve.
    quick : bool
        Whether ``--quick`` includes it.
    """

    name: str
    title: str
    calls: tuple[Call, ...]
    worlds: tuple[str, ...] = ()
    unit: tuple[float, str] = (1, "call")
    rounds: int = 5
    setup: tuple[Call, ...] = ()
    server: Server | None = None
    bounds: tuple[Bound, ...] = ()
    targets: tuple[Target, ...] = ()
    requires: str = ""
    program: str = ""
    patience: float = 200.0
    agree: float | None = None
    memory: bool = False
    axis: str = ""
    quick: bool = True

    @property
    def topic(self) -> str:
        """First part of the name."""
        return self.name.partition(".")[0]
