"""What the loopback server can do wrong, and what it writes down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fault", "FaultKind", "Request"]

type FaultKind = Literal[
    "bandwidth",
    "corrupt",
    "header",
    "latency",
    "no-range",
    "redirect",
    "reset",
    "stall",
    "status",
    "truncate",
    "wrong-length",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which the server misbehaves.

    Parameters
    ----------
    kind : str
        ``"status"``: answer with `status` (and `retry_after`), no body.
        ``"truncate"``: close the connection after `after` bytes of the body.
        ``"reset"``: the same, with a TCP reset.
        ``"stall"``: send nothing for `seconds` after `after` bytes, then go on.
        ``"corrupt"``: flip all bits of the body's byte `after`.
        ``"wrong-length"``: announce `extra` bytes more (or fewer) than are sent.
        ``"latency"``: wait `seconds` before the answer.
        ``"bandwidth"``: send at most `rate` bytes a second.
        ``"no-range"``: ignore ranges.
        ``"redirect"``: answer 302 with `location`; by default the same path with a query,
        which is not redirected again.
        ``"header"``: replace headers by `headers`; None removes one.
    path : str
        Pattern (as in `fnmatch`) of the decoded paths it applies to, such as
        ``"*_scales.npy"``.
    times : int, optional
        How many requests it applies to; by default all.
    skip : int
        How many matching requests are left alone first.
    status, retry_after, after, seconds, extra, rate, location, headers
        See `kind`. `retry_after` is sent as it is: seconds or a date. `after` None means
        the middle of the body.
    """

    kind: FaultKind
    path: str = "*"
    times: int | None = None
    skip: int = 0
    status: int = 503
    retry_after: str | int | None = None
    after: int | None = None
    seconds: float = 0.0
    extra: int = 16
    rate: float = float("inf")
    location: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """One line of the server's log.

    Parameters
    ----------
    method, path : str
        What was asked; the path is decoded and has no query.
    headers : dict
        Of the request; names in lower case.
    range : str or None
        The ``Range`` header.
    status : int
        Of the answer; 0 while there is none.
    sent : int
        Bytes of the body that were handed to the connection.
    """

    method: str
    path: str
    headers: dict[str, str]
    range: str | None = None
    status: int = 0
    sent: int = 0
