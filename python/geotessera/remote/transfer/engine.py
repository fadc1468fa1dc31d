"""The transfer engine: files in byte ranges, many at once, verified before they are named.

`transfer` takes groups of files and yields what became of each. Tasks (byte ranges) of all
files share a `Pool` of threads; a failed range is repeated alone, after a wait in which its
thread does other work. Ranges are put together only if they are of one version of the file
(`Remote.validator`, sent as ``If-Range``) or if a published digest vouches for the result.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from geotessera.errors import StalledError, TransferError, UnwritableDestination
from geotessera.remote import disk
from geotessera.remote.connections import allow, check_jobs, claim, release_claims
from geotessera.remote.http import DEFAULT_POLICY
from geotessera.remote.partfile import writing_to
from geotessera.remote.ranges import BLOCK_BYTES, SPAN_BYTES
from geotessera.remote.transfer.fetcher import Abandoned, Fetcher
from geotessera.remote.transfer.plan import Group, GroupResult, Task, WantedFile, WantedGroup
from geotessera.remote.transfer.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from geotessera.remote.http import RetryPolicy
    from geotessera.types import ProgressCallback

__all__ = ["STALL_ENV", "Group", "GroupResult", "transfer"]

STALL_ENV = "GEOTESSERA_STALL_TIMEOUT"
"""Seconds without a byte for a whole transfer; overrides the policy's."""

TICK = 0.1
"""Seconds between looks at progress, the stall clock and the caller's wish to stop."""


def transfer(
    groups: Iterable[Group],
    *,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
    total: int | None = None,
    policy: RetryPolicy | None = None,
    verify: bool = True,
    stop: threading.Event | None = None,
    block: int = BLOCK_BYTES,
    span: int = SPAN_BYTES,
) -> Generator[GroupResult]:
    """Fetch groups of files and yield each group's result, in order of completion.

    A group that fails does not end the others. Closing the generator, an exception in
    `progress` and Ctrl-C stop the transfer within a second; unfinished files stay, and
    the next transfer of the same files goes on with them.

    Parameters
    ----------
    groups : iterable of Group
        Taken as they are needed.
    jobs : int, optional
        Connections at once; see `connections.check_jobs`.
    progress : callable, optional
        Called in the caller's thread with (bytes done, bytes in all, text): with none done as
        soon as it is known how many there are, about ten times a second while results are
        waited for, and at the end. Never with none in all: callers divide by it.
    total : int, optional
        Bytes of all groups, if they are known before the groups are.
    policy : RetryPolicy, optional
        Timeouts and repetitions; by default `http.DEFAULT_POLICY`.
    verify : bool
        Check digests: the published SHA-256, else the MD5 in the server's ETag. Lengths
        are always checked.
    stop : threading.Event, optional
        Set it to end the transfer from another thread: no more results come.
    block, span : int
        Bytes that are recorded, and asked for, at a time.

    Yields
    ------
    GroupResult

    Raises
    ------
    UnwritableDestination
        A file cannot be written: nothing else is tried.
    StalledError
        No byte arrived for any file within the stall timeout.
    InputError
        `jobs` is no number of connections.
    """
    count = check_jobs(jobs)
    engine = _Engine(groups, count, progress, total, policy or _policy(), verify, stop, block, span)
    with allow(count):
        yield from engine.run()


def _policy() -> RetryPolicy:
    from dataclasses import replace

    try:
        return replace(DEFAULT_POLICY, stall_timeout=float(os.environ[STALL_ENV]))
    except (KeyError, ValueError):
        return DEFAULT_POLICY


class _Engine:
    """One call of `transfer`."""

    def __init__(
        self,
        groups: Iterable[Group],
        jobs: int,
        progress: ProgressCallback | None,
        total: int | None,
        policy: RetryPolicy,
        verify: bool,
        stop: threading.Event | None,
        block: int,
        span: int,
    ) -> None:
        self._plan = enumerate(groups)
        self._planned_all = False
        self._progress = progress
        self._total_hint = total or 0
        self._policy = policy
        self._stop = stop or threading.Event()
        self._pool = Pool(self._do, jobs)
        self.lock = self._pool.condition
        self._fetcher = Fetcher(self, self._policy, verify=verify, block=block, span=span)
        self._open: dict[int, WantedGroup] = {}
        self._unclaimed: deque[WantedGroup] = deque()  # claims may be free again
        self._waiting = 0  # groups that wait for another thread's claims
        self._results: deque[GroupResult] = deque()
        self._fatal: BaseException | None = None
        self._finished_bytes = 0
        self._expected = 0
        self._label = ""
        self._next_report = 0.0
        self._has_reported = False
        self.moved = time.monotonic()

    # --- The caller's thread -----------------------------------------------------------------

    def run(self) -> Iterator[GroupResult]:
        whole = False
        try:
            self._report()
            while True:
                self._admit()
                with self.lock:
                    if self._fatal is not None:
                        raise self._fatal
                    if not self._results and self._is_finished():
                        break
                    if not self._results and not self._unclaimed:
                        self.lock.wait(TICK)
                    results = list(self._results)
                    self._results.clear()
                if self._stop.is_set():
                    return
                self._report()
                self._check_stall()
                yield from results
            whole = True
        finally:
            self._end(abruptly=not whole)
        self._report(at_end=True)

    def _is_finished(self) -> bool:
        return self._planned_all and not (self._open or self._unclaimed or self._waiting)

    def _admit(self) -> None:
        """Take groups from the plan while threads may run out of work."""
        while True:
            with self.lock:
                retried = self._unclaimed.popleft() if self._unclaimed else None
                if retried is None and (self._planned_all or not self._pool.has_room):
                    return
            if retried is None:
                try:
                    number, group = next(self._plan)
                except StopIteration:
                    self._planned_all = True
                    return
                retried = WantedGroup.of(group, number)
            self._claim(retried)

    def _claim(self, wanted: WantedGroup) -> None:
        def again() -> None:
            with self.lock:
                self._waiting -= 1
                self._unclaimed.append(wanted)
                self.lock.notify_all()

        with self.lock:
            self._waiting += 1
        if not claim(wanted.claims, again):
            return
        with self.lock:
            self._waiting -= 1
            self._open[wanted.number] = wanted
        for number, request in enumerate(wanted.group.files):
            # Another thread may have fetched it since the plan was made.
            if wanted.group.replace or not request.dest.is_file():
                file = WantedFile(request, wanted, number, expected=request.size or 0)
                wanted.files.append(file)
        with self.lock:
            self._expected += sum(file.expected for file in wanted.files)
            wanted.active = len(wanted.files)
        if not wanted.files:
            self._close_group(wanted)
        for file in wanted.files:
            self._pool.put(Task(file))

    def _report(self, *, at_end: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or (now < self._next_report and not at_end):
            return
        with self.lock:
            done = self._finished_bytes + sum(
                file.received for group in self._open.values() for file in group.files
            )
            total = done if at_end else max(self._total_hint, self._expected, done)
        if not total:
            return
        self._next_report = now + TICK
        if not self._has_reported:
            self._has_reported = True
            self._progress(0, total, self._label)
            if not at_end:
                return
        self._progress(done, total, self._label)

    def _check_stall(self) -> None:
        silent = time.monotonic() - self.moved
        if silent <= self._policy.stall_timeout:
            return
        with self.lock:
            urls = [file.request.url for group in self._open.values() for file in group.files]
        if urls:
            raise StalledError(
                f"nothing arrived for {silent:.0f} s, of {urls[0]} or any other file: check the "
                "network, then ask again: the transfer goes on where it stopped",
                url=urls[0],
            )
        self.moved = time.monotonic()

    def _end(self, *, abruptly: bool) -> None:
        all_ended = self._pool.stop(abruptly=abruptly)
        with self.lock:
            groups, self._open = list(self._open.values()), {}
        try:
            for part in (file.part for group in groups for file in group.files):
                if part is not None:
                    # What a thread that hangs still holds is for another process to go on with.
                    (part.leave if all_ended else part.close)()
        finally:
            for group in groups:
                release_claims(group.claims)

    # --- What the fetcher asks for -----------------------------------------------------------

    def put(self, task: Task, wait: float = 0.0) -> None:
        with self.lock:
            task.file.group.active += 1
            self._pool.put(task, wait)

    def keep_quiet(self, seconds: float) -> None:
        self._pool.keep_quiet(seconds)

    def is_stopped(self) -> bool:
        return self._pool.stopping or self._fatal is not None

    def expect(self, file: WantedFile, length: int) -> None:
        self._expected += length - file.expected
        file.expected = length

    def show(self, label: str) -> None:
        self._label = label

    # --- The threads of the pool -------------------------------------------------------------

    def _do(self, task: Task) -> None:
        group = task.file.group
        try:
            if group.error is None:
                self._fetcher.do(task)
        except Abandoned:
            pass
        except UnwritableDestination as error:
            self._abort(error)
        except TransferError as error:
            with self.lock:
                group.error = group.error or error
            self._pool.hurry(lambda other: other.file.group is group)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self._abort(error)
        with self.lock:
            group.active -= 1
            last = not group.active and not self.is_stopped()
        if last:
            try:
                self._close_group(group)
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                self._abort(error)

    def _abort(self, error: BaseException) -> None:
        with self.lock:
            self._fatal = self._fatal or error
            self.lock.notify_all()

    def _close_group(self, group: WantedGroup) -> None:
        """Give the files of a group their names, or leave them unfinished if one failed."""
        result = GroupResult(group.group.key, error=group.error)
        if group.error is None:
            _commit(group)
            result.files = [file.done for file in group.files if file.done is not None]
        else:
            keep = group.error.passing if isinstance(group.error, TransferError) else False
            for file in group.files:
                if file.part is not None and keep:
                    self._fetcher.leave(file.part)
                elif file.part is not None:
                    file.part.discard()
        with self.lock:
            self._finished_bytes += sum(file.received for file in group.files)
            # At once: between the two the transfer would look finished, without this result.
            del self._open[group.number]
            self._results.append(result)
            self.lock.notify_all()
        release_claims(group.claims)


def _commit(group: WantedGroup) -> None:
    if group.group.replace and len(group.files) > 1:
        last = group.files[-1].request.dest
        with writing_to(last):
            disk.remove(last)
    for file in group.files:
        assert file.part is not None
        assert file.done is not None
        file.part.commit()
