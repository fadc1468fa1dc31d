"""Threads that do many small things at once, and stop at once."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from geotessera.errors import UnreachableError
from geotessera.remote.connections import allow, holds_slot, slot
from geotessera.remote.http import DEFAULT_POLICY
from geotessera.remote.session import abort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geotessera.remote.http import RetryPolicy

__all__ = ["Crew"]


class Crew[T]:
    """Begins some work on threads of its own; `wait` ends it.

    Threads are daemons and keep their connection from one part to the next: a part costs no
    hand-over.

    Parameters
    ----------
    work : callable
        Does a part, with a policy whose waits end when the work is given up.
    parts : sequence
        What there is to do.
    jobs : int
        Threads at the most; each counts as a connection of this process.
    policy : RetryPolicy
        Timeouts and repetitions.
    stopped : threading.Event, optional
        Set when the work is given up.
    """

    def __init__(
        self,
        work: Callable[[T, RetryPolicy], object],
        parts: Sequence[T],
        jobs: int,
        policy: RetryPolicy,
        stopped: threading.Event | None = None,
    ) -> None:
        self._work = work
        self._jobs = jobs
        self._parts = deque(parts)
        self._stopped = stopped or threading.Event()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        if policy.sleep is DEFAULT_POLICY.sleep:
            policy = replace(policy, sleep=self._sleep)
        self._policy = policy
        self._left = self._inline = 0
        self._threads: list[threading.Thread] = []
        self._alone = len(parts) < 2 or holds_slot()
        if self._alone:
            return
        self._allowed = allow(jobs)
        self._allowed.__enter__()
        self._left = count = min(jobs, len(parts))
        for number in range(count):
            thread = threading.Thread(target=self._run, name=f"geotessera-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self) -> None:
        """Return when all is done.

        Raises
        ------
        Exception
            The first failure; then the rest is given up.
        """
        try:
            if self._alone and self._parts:
                self._inline = threading.get_ident()
                try:
                    with allow(self._jobs):
                        self._go_on()
                finally:
                    self._inline = 0
            while self._left and not self._done.wait(0.2):
                pass
        finally:
            self.cancel()
        if self._failure is not None:
            raise self._failure

    def cancel(self) -> None:
        """Give up what is not done; connections that are waited on are cut."""
        self._stopped.set()
        if self._inline not in (0, threading.get_ident()):
            abort(self._inline)
        with self._lock:
            waiting = self._left > 0
        if waiting:
            for thread in self._threads:
                if thread.is_alive():  # else another one, of other work, may have its ident
                    abort(thread.ident or 0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise UnreachableError("stopped")

    def _run(self) -> None:
        try:
            self._go_on()
        except BaseException as error:  # noqa: BLE001 - raised by `wait`
            with self._lock:
                # What fails after the end fails because of it.
                if self._failure is None and not self._stopped.is_set():
                    self._failure = error
            self._stopped.set()
            self._done.set()
        finally:
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self._allowed.__exit__(None, None, None)
                self._done.set()

    def _go_on(self) -> None:
        with slot(self._stopped.is_set) as got:
            while got and not self._stopped.is_set():
                try:
                    part = self._parts.popleft()
                except IndexError:
                    return
                self._work(part, self._policy)
