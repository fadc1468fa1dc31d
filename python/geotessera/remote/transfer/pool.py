"""A bounded pool of threads that take tasks by priority, some of them not before a time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

from geotessera.remote.session import abort

if TYPE_CHECKING:
    from collections.abc import Callable

    from geotessera.remote.transfer.plan import Task

__all__ = ["Pool"]

STOP_SECONDS = 0.8
"""How long threads that were told to stop are waited for."""


class Pool:
    """Threads that work on tasks.

    They are made when there is something to do and end with the pool. They are daemons:
    one that hangs in the system never keeps a program from ending.

    Parameters
    ----------
    work : callable
        Does a task; it must not raise.
    size : int
        The most threads.

    Attributes
    ----------
    condition : threading.Condition
        Guards all state of the transfer; its lock may be entered again.
    stopping : bool
        Whether tasks should be left as they are.
    """

    def __init__(self, work: Callable[[Task], None], size: int) -> None:
        self.condition = threading.Condition()
        self.stopping = False
        self._work = work
        self._size = size
        self._numbers = itertools.count()
        self._ready: list[tuple[tuple[int, int, int], int, Task]] = []
        self._later: list[tuple[float, int, Task]] = []
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._quiet_until = 0.0

    def put(self, task: Task, wait: float = 0.0) -> None:
        """Add a task that is not to be started before some seconds have passed."""
        with self.condition:
            number = next(self._numbers)
            if wait > 0:
                heapq.heappush(self._later, (time.monotonic() + wait, number, task))
            else:
                heapq.heappush(self._ready, (task.priority, number, task))
            if not self._idle and len(self._threads) < self._size and not self.stopping:
                thread = threading.Thread(target=self._run, name="geotessera", daemon=True)
                self._threads.append(thread)
                thread.start()
            self.condition.notify()

    def hurry(self, is_wanted: Callable[[Task], bool]) -> None:
        """Make tasks that wait for their time ready now."""
        with self.condition:
            for entry in [entry for entry in self._later if is_wanted(entry[2])]:
                self._later.remove(entry)
                heapq.heappush(self._ready, (entry[2].priority, entry[1], entry[2]))
            heapq.heapify(self._later)
            self.condition.notify_all()

    def keep_quiet(self, seconds: float) -> None:
        """Start nothing for some seconds: a server asked for it."""
        with self.condition:
            self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    @property
    def has_room(self) -> bool:
        """Whether threads may soon have nothing to do."""
        return len(self._ready) < self._size

    def _take(self) -> Task | None:
        with self.condition:
            while not self.stopping:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    _, number, task = heapq.heappop(self._later)
                    heapq.heappush(self._ready, (task.priority, number, task))
                wait = self._quiet_until - now
                if self._ready and wait <= 0:
                    return heapq.heappop(self._ready)[2]
                if not self._ready:
                    wait = self._later[0][0] - now if self._later else 60.0
                self._idle += 1
                self.condition.wait(wait)
                self._idle -= 1
            return None

    def _run(self) -> None:
        while (task := self._take()) is not None:
            self._work(task)

    def stop(self, *, abruptly: bool) -> bool:
        """End the threads, and return whether all of them did.

        Parameters
        ----------
        abruptly : bool
            Cut the connections that they wait on.
        """
        with self.condition:
            self.stopping = True
            self.condition.notify_all()
        end = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            while thread.is_alive() and (left := end - time.monotonic()) > 0:
                if abruptly and thread.ident is not None:
                    # Again and again: it may just have been between two requests.
                    for each in self._threads:
                        abort(each.ident or 0)
                thread.join(min(left, 0.05))
        return not any(thread.is_alive() for thread in self._threads)
