"""What readers over a network have in common: versions, merged ranges, many at once."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING

from geotessera.errors import TransferError
from geotessera.remote.byterange import NoRangesError, RangeCosts
from geotessera.remote.connections import allow, holds_slot, slot
from geotessera.remote.http import DEFAULT_POLICY, RetryPolicy
from geotessera.remote.objects.arrivals import Arriving
from geotessera.remote.objects.crew import Crew
from geotessera.remote.objects.parts import Left, Wanted, merge
from geotessera.remote.objects.reader import (
    Later,
    ObjectReader,
    Pending,
    Suffix,
    changed,
    check_range,
    too_short,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from geotessera.remote.objects.arrivals import Arrivals
    from geotessera.remote.objects.parts import Part, Whole
    from geotessera.remote.objects.reader import KeyRange

__all__ = [
    "OBJECT_GAP",
    "OBJECT_JOBS",
    "BrokenBodyError",
    "RemoteReader",
    "costs_of",
]

logger = logging.getLogger("geotessera")

OBJECT_GAP = 0
"""Only ranges that touch become one request: no byte is fetched that nobody asked for."""

OBJECT_JOBS = 256
"""Connections at once. 1,460 ranges of 60 kB at 30 ms take 0.4 s on 128 and 0.23 s on 256; more
than 128 are opened only where there are three ranges for each."""

CREW = 128
"""Threads at the most that ask for what did not arrive at the first attempt; more only hinder
each other."""

TOGETHER_BYTES = 96 << 20
"""Bytes on their way at once of what is taken as it comes: a long request is in memory whole."""

WHOLE_BYTES = 256 << 20
"""Objects of servers without ranges are read whole, and kept, up to so many bytes together."""


def costs_of(jobs: int | None = None, gap: int | None = None) -> RangeCosts:
    """Return what ranges of stores cost: the options, else the environment, else the defaults.

    Raises
    ------
    InputError
        (a `ValueError`) if one is out of range.
    """
    usual = RangeCosts.from_environment(OBJECT_GAP, OBJECT_JOBS)
    return RangeCosts(usual.gap if gap is None else gap, usual.jobs if jobs is None else jobs)


class RemoteReader(ObjectReader):
    """Reads objects over a network.

    Parameters
    ----------
    location : str
        The location's one spelling.
    costs : RangeCosts, optional
        Connections, and the gap between ranges that become one request. By default
        ``GEOTESSERA_RANGE_JOBS`` and ``GEOTESSERA_RANGE_GAP``, else `OBJECT_JOBS` and
        `OBJECT_GAP`.
    policy : RetryPolicy, optional
        Timeouts and repetitions.
    """

    def __init__(
        self,
        location: str,
        costs: RangeCosts | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(location)
        self.costs = costs or costs_of()
        self.policy = policy or DEFAULT_POLICY
        self._lock = threading.Lock()
        self._versions: dict[str, str] = {}
        self._kept: OrderedDict[str, Part] = OrderedDict()  # of servers without ranges

    # --- What a kind of server does --------------------------------------------------------

    @abstractmethod
    def _ask_range(
        self, key: str, start: int | None, length: int, policy: RetryPolicy
    ) -> Part | None:
        """Ask once for a range, or for the last bytes where `start` is None.

        Raises
        ------
        BrokenBodyError
            The answer began and did not arrive; the caller repeats.
        TransferError
            There was no answer, after all repetitions.
        """

    @abstractmethod
    def _ask_whole(self, key: str, unless: str, policy: RetryPolicy) -> Whole | None:
        """Ask once for an object, unless it has a version; repeats as `_ask_range`."""

    @abstractmethod
    def url_of(self, key: str) -> str:
        """Return what errors call an object."""

    def _sweep(
        self,
        wanted: Sequence[Wanted],
        arrived: Callable[[int, Part | None], object],
        jobs: int,
        stopped: threading.Event,
    ) -> list[Left]:
        """Ask for many ranges at once, each at most once, and return what did not arrive.

        What `arrived` raises ends it.
        """
        return [Left(index) for index in range(len(wanted))]

    # --- What all do -------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return a whole object; see `ObjectReader.get`."""
        found = self.read_whole(key)
        return None if found is None else found.data

    def read_whole(self, key: str, unless: str = "") -> Whole | None:
        """Return a whole object unless it has a version that is known; None if there is none."""
        return self._alone(lambda policy: self._ask_whole(key, unless, policy))

    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        """Return the last bytes of objects; see `ObjectReader.read_suffixes`."""
        found: list[Suffix | None] = [None] * len(wanted)

        def arrived(index: int, part: Part | None) -> None:
            if part is None:
                return
            key, length = wanted[index]
            start = part.length - length - part.start
            if start < 0:
                raise too_short(self.url_of(key), f"has only {part.length:,} of {length:,} bytes")
            found[index] = Suffix(part.data[start : start + length], part.version)

        for key, length in wanted:
            check_range(key, 0, length)
        _Batch(self, [Wanted(key, None, length, "") for key, length in wanted], arrived).run()
        return found

    def read_version(self, key: str) -> str:
        """Return the version that an object has now, "" if there is none; asks for a byte."""
        part = self._alone(lambda policy: self._ask_range(key, 0, 1, policy))
        return "" if part is None else part.version

    def begin(
        self,
        ranges: Sequence[KeyRange],
        versions: Mapping[str, str] | None = None,
        *,
        keep: Callable[[int, bytes | None, str], object] | None = None,
        waits: bool = False,
    ) -> Pending:
        """Begin to read ranges; see `ObjectReader.begin`.

        Parameters
        ----------
        ranges, versions
            As for `get_ranges`.
        keep : callable, optional
            Called with each index, its bytes and the object's version as they arrive, in
            several threads.
        waits : bool
            The caller waits at once.
        """
        asked = _Collected(self, ranges, versions or {}, keep)
        return asked if waits or holds_slot() else Later(asked.result, asked.cancel)

    def stream(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> Arrivals:
        """Begin to read ranges, to be taken as they come; see `ObjectReader.stream`."""
        if holds_slot():  # what another thread asks for might wait for this one
            return super().stream(ranges, versions)
        asked = _Asked(self, ranges, versions or {}, most=TOGETHER_BYTES)
        return Arriving(
            lambda take: asked.run(lambda number, data, version: take(number, data)), asked.cancel
        )

    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        """Return ranges of objects; see `ObjectReader.get_ranges`."""
        return self.begin(ranges, versions, waits=True).result()

    def forget(self, key: str) -> None:
        """Take an object for another one from now on; see `ObjectReader.forget`."""
        with self._lock:
            self._versions.pop(key, None)
            self._kept.pop(key, None)

    def _alone[T](self, work: Callable[[RetryPolicy], T]) -> T:
        with allow(self.costs.jobs), slot(lambda: False):
            return _repeat(work, self.policy)

    def _read(
        self,
        wanted: Wanted,
        policy: RetryPolicy,
        ask: Callable[[RetryPolicy], Part | None] | None = None,
    ) -> Part | None:
        """Ask once for a range of the object's one version; a part may be the whole object."""
        with self._lock:
            part = self._kept.get(wanted.key)
        if part is None and ask is not None:
            part = ask(policy)
        elif part is None:
            part = self._ask_range(wanted.key, wanted.start, wanted.length, policy)
        return self._checked(wanted, part)

    def _checked(self, wanted: Wanted, part: Part | None) -> Part | None:
        """Return an answer if it is of the object's one version, and long enough."""
        if part is None:
            return None
        key, start, length, version = wanted
        if version and part.version != version:
            raise changed(self.url_of(key))
        with self._lock:
            if self._versions.setdefault(key, part.version) != part.version:
                raise changed(self.url_of(key))
        if start is not None and start + length > part.start + len(part.data):
            missing = start + length - part.length
            raise too_short(self.url_of(key), f"ends {missing:,} bytes before a range does")
        return part

    def _keep_whole(self, key: str, part: Part) -> Part:
        """Keep an object of a server that ignores ranges, for the ranges to come."""
        with self._lock:
            first = not self._kept
            self._kept[key] = part
            while sum(each.length for each in self._kept.values()) > WHOLE_BYTES:
                self._kept.popitem(last=False)
        if first:
            logger.warning(
                "%s: the server ignores ranges, so whole objects are read", self.url_of(key)
            )
        return part

    def _no_ranges(self, key: str, length: object) -> NoRangesError:
        return NoRangesError(
            f"{self.url_of(key)}: the server ignores ranges, and the whole object has {length} "
            f"bytes, where at most {WHOLE_BYTES:,} are read: use another server, or a local copy",
            url=self.url_of(key),
        )


class BrokenBodyError(Exception):
    """A body that did not arrive whole; the cause says why. It is asked for again."""


def _repeat[T](work: Callable[[RetryPolicy], T], policy: RetryPolicy) -> T:
    """Do something until its body arrives whole; what was not answered repeats by itself."""
    for pause in (*policy.body_pauses, None):
        try:
            return work(policy)
        except BrokenBodyError as broken:
            error = broken.__cause__
            assert isinstance(error, TransferError)
            if pause is None or not error.passing:
                raise error from error.__cause__
            logger.info("%s; trying again in %g s", error, pause)
        policy.sleep(policy.jittered(pause))
    raise AssertionError("the last attempt returns or raises")


class _Batch:
    """Ranges that are asked for at once.

    Parameters
    ----------
    reader : RemoteReader
        Asks.
    wanted : sequence of Wanted
        What for.
    arrived : callable
        Called with a range's number and its part, in any thread.
    most : int, optional
        Bytes that may be on their way at once.
    """

    def __init__(
        self,
        reader: RemoteReader,
        wanted: Sequence[Wanted],
        arrived: Callable[[int, Part | None], object],
        most: int | None = None,
    ) -> None:
        self._reader, self._wanted, self._arrived = reader, wanted, arrived
        self._jobs = reader.costs.jobs
        if most is not None:
            longest = sorted((one.length for one in wanted), reverse=True)[: self._jobs]
            self._jobs = max(1, bisect_right(list(accumulate(longest)), most))
        self._stopped = threading.Event()
        self._crew: Crew[Left] | None = None

    def run(self) -> None:
        """Return when all have arrived; raises the first failure."""
        reader, wanted = self._reader, self._wanted
        jobs = self._jobs
        left = [Left(index) for index in range(len(wanted))]
        if len(wanted) > 1 and not holds_slot() and not reader._kept:
            with allow(jobs):
                left = reader._sweep(wanted, self._take, jobs, self._stopped)
        try:
            self._crew = Crew(
                self._fetch, left, min(jobs, CREW), reader.policy, stopped=self._stopped
            )
            self._crew.wait()
        finally:
            for one in left:
                one.close()

    def cancel(self) -> None:
        """Give up what has not arrived."""
        self._stopped.set()
        if self._crew is not None:
            self._crew.cancel()

    def _take(self, index: int, part: Part | None) -> None:
        self._arrived(index, self._reader._checked(self._wanted[index], part))

    def _fetch(self, left: Left, policy: RetryPolicy) -> None:
        wanted = self._wanted[left.number]
        part = _repeat(lambda policy: self._reader._read(wanted, policy, left.ask), policy)
        self._arrived(left.number, part)


class _Asked:
    """Ranges that are read when `run` is called."""

    def __init__(
        self,
        reader: RemoteReader,
        ranges: Sequence[KeyRange],
        versions: Mapping[str, str],
        most: int | None = None,
    ) -> None:
        for each in ranges:
            check_range(*each)
        self._ranges = ranges
        self._parts = merge(ranges, reader.costs.gap)
        self._asked = [one for one in self._parts if one.stop > one.start]
        wanted = [
            Wanted(key, start, stop - start, versions.get(key, ""))
            for key, start, stop, _ in self._asked
        ]
        self._batch = _Batch(reader, wanted, self._arrived, most)

    def run(self, take: Callable[[int, bytes | None, str], object]) -> None:
        """Call `take` with each range's number, bytes and version as they arrive."""
        self._take = take
        for part in self._parts:
            if part.stop == part.start:
                for index in part.indices:
                    take(index, b"", "")
        self._batch.run()

    def _arrived(self, number: int, part: Part | None) -> None:
        for index in self._asked[number].indices:
            _, begin, length = self._ranges[index]
            data = None
            if part is not None:
                at = begin - part.start
                data = part.data[at : at + length]
            self._take(index, data, "" if part is None else part.version)

    def cancel(self) -> None:
        """Give up what has not arrived."""
        self._batch.cancel()


class _Collected(Pending):
    """Ranges that are read when the result is asked for."""

    def __init__(
        self,
        reader: RemoteReader,
        ranges: Sequence[KeyRange],
        versions: Mapping[str, str],
        keep: Callable[[int, bytes | None, str], object] | None,
    ) -> None:
        self._asked = _Asked(reader, ranges, versions)
        self._keep = keep
        self._found: list[bytes | None] = [None] * len(ranges)

    def _take(self, number: int, data: bytes | None, version: str) -> None:
        self._found[number] = data
        if self._keep is not None:
            self._keep(number, data, version)

    def result(self) -> list[bytes | None]:
        self._asked.run(self._take)
        return self._found

    def cancel(self) -> None:
        self._asked.cancel()
