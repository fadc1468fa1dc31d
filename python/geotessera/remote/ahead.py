"""Work on the next things while the caller works on the current one."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = ["work_ahead"]

STOP_SECONDS = 1.5
"""How long work that was told to stop is waited for."""


class _Job[T]:
    """One item, and the thread that works on it."""

    def __init__(
        self, item: T, work: Callable[[T, threading.Event], object], stop: threading.Event
    ) -> None:
        self.item = item
        self.error: Exception | None = None
        self._work, self._stop = work, stop
        self.thread = threading.Thread(target=self._run, name="geotessera-ahead", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work(self.item, self._stop)
        except Exception as error:  # noqa: BLE001 - it is raised where the item is taken
            self.error = error


def work_ahead[T](
    items: Iterable[T], work: Callable[[T, threading.Event], object], depth: int = 2
) -> Generator[tuple[T, Exception | None]]:
    """Yield items in order, each after some work on it, and what that work raised.

    Nothing is done before the first item is asked for. Then `work` runs in threads, on the
    item that is asked for and up to `depth` after it. Closing the generator stops them.

    Parameters
    ----------
    items : iterable
        Taken in the caller's thread, at most `depth` ahead; what it raises is raised after
        the items before.
    work : callable
        Called with an item and an event that is set when its result is not needed any more.
    depth : int
        Items that are worked on ahead of need.

    Yields
    ------
    item : object
    error : Exception or None
        What `work` raised.
    """
    stop = threading.Event()
    source: Iterator[T] = iter(items)
    jobs: deque[_Job[T]] = deque()
    broken: BaseException | None = None
    ended = False
    try:
        while True:
            while not ended and len(jobs) <= depth:
                try:
                    jobs.append(_Job(next(source), work, stop))
                except StopIteration:
                    ended = True
                except Exception as error:  # noqa: BLE001 - raised after what comes first
                    broken, ended = error, True
            if not jobs:
                break
            job = jobs.popleft()
            job.thread.join()
            yield job.item, job.error
            if job.error is not None:
                break
        if broken is not None and not jobs:
            raise broken
    finally:
        stop.set()
        for job in jobs:
            job.thread.join(STOP_SECONDS)
