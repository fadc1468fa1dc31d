"""How much happens at once in this process: a cap on connections, and one writer a file."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = [
    "DEFAULT_JOBS",
    "JOBS_ENV",
    "Slots",
    "allow",
    "check_jobs",
    "claim",
    "holds_slot",
    "release_claims",
    "slot",
]

JOBS_ENV = "GEOTESSERA_JOBS"

DEFAULT_JOBS = 8
"""Connections at once: enough for a fast link at 30 ms, few enough for a public server."""

MOST_JOBS = 256


def check_jobs(jobs: int | str | None = None) -> int:
    """Return how many connections are wanted.

    Parameters
    ----------
    jobs : int, optional
        By default the environment variable ``GEOTESSERA_JOBS``, else 8.

    Raises
    ------
    InputError
        (a `ValueError`) if that is not a number from 1 to 256.
    """
    name = "jobs"
    if jobs is None:
        name, jobs = JOBS_ENV, os.environ.get(JOBS_ENV, "").strip() or DEFAULT_JOBS
    try:
        count = int(jobs)
    except (TypeError, ValueError):
        count = 0
    if isinstance(jobs, float | bool) or not 1 <= count <= MOST_JOBS:
        raise InputError(
            f"{name}={jobs!r}: expected a number of connections from 1 to {MOST_JOBS}, such as "
            f"{DEFAULT_JOBS}"
        )
    return count


class _Connections:
    """Counts the connections in use, and holds back who would be one too many."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.used = 0
        self.allowed: list[int] = []


_connections = _Connections()
_own = threading.local()


@contextmanager
def allow(jobs: int) -> Iterator[None]:
    """Let this process have this many connections while the body runs.

    Calls at the same time share the greatest number that one of them allows, so sixteen
    threads that download with the default of 8 have 8 connections together.
    """
    shared = _connections
    with shared.condition:
        shared.allowed.append(jobs)
        shared.condition.notify_all()
    try:
        yield
    finally:
        with shared.condition:
            shared.allowed.remove(jobs)


@contextmanager
def slot(stopped: Callable[[], bool]) -> Iterator[bool]:
    """Wait for a connection that may be used, and yield whether there is one.

    A thread that has one already goes on with it.

    Parameters
    ----------
    stopped : callable
        Asked a few times a second; once it is true, waiting ends without one.
    """
    if holds_slot():
        yield not stopped()
        return
    shared = _connections
    with shared.condition:
        while shared.used >= max(shared.allowed, default=1):
            if stopped():
                break
            shared.condition.wait(0.2)
        got = not stopped()
        shared.used += got
    _own.slot = got
    try:
        yield got
    finally:
        _own.slot = False
        if got:
            with shared.condition:
                shared.used -= 1
                shared.condition.notify()


class Slots:
    """Connections that one thread uses at once; it does not wait for them.

    Attributes
    ----------
    held : int
        How many it has.
    """

    def __init__(self) -> None:
        self._shared = _connections
        self.held = 0

    def take(self, most: int) -> int:
        """Take up to so many that may be used, and return how many."""
        shared = self._shared
        with shared.condition:
            granted = max(0, min(most, max(shared.allowed, default=1) - shared.used))
            shared.used += granted
        self.held += granted
        return granted

    def give(self, count: int) -> None:
        """Give some back."""
        self.held -= count
        shared = self._shared
        with shared.condition:
            shared.used -= count
            shared.condition.notify(count)


def holds_slot() -> bool:
    """Return whether this thread is within `slot`, and so may not wait for others that need one."""
    return getattr(_own, "slot", False)


_claims: dict[Path, list[Callable[[], object]]] = {}
_claims_lock = threading.Lock()


def claim(paths: Iterable[Path], on_release: Callable[[], object]) -> bool:
    """Take some final names for one writer of this process: all of them, or none.

    Parameters
    ----------
    paths : iterable of Path
        Absolute paths.
    on_release : callable
        Called, from any thread, when a name that stood in the way is free again.

    Returns
    -------
    bool
        Whether they are taken now; if so, give them back with `release_claims`.
    """
    wanted = list(dict.fromkeys(paths))
    with _claims_lock:
        for path in wanted:
            if path in _claims:
                _claims[path].append(on_release)
                return False
        for path in wanted:
            _claims[path] = []
    return True


def release_claims(paths: Iterable[Path]) -> None:
    """Give names back, and tell who waits for them."""
    with _claims_lock:
        waiting = [call for path in dict.fromkeys(paths) for call in _claims.pop(path, [])]
    for call in waiting:
        call()


def _after_fork() -> None:
    # What the parent's threads do is not going on in a child.
    global _connections, _claims_lock
    _connections, _claims_lock = _Connections(), threading.Lock()
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
