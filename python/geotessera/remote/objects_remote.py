"""What readers over a network have in common: versions, merged ranges, many at once."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from geotessera.errors import TransferError
from geotessera.remote.byterange import NoRangesError, RangeCosts
from geotessera.remote.connections import allow, slot
from geotessera.remote.crew import Crew
from geotessera.remote.http import DEFAULT_POLICY, RetryPolicy
from geotessera.remote.objects import (
    ObjectReader,
    Pending,
    Suffix,
    changed,
    check_range,
    too_short,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from geotessera.remote.objects import KeyRange

__all__ = [
    "OBJECT_GAP",
    "OBJECT_JOBS",
    "BrokenBodyError",
    "Part",
    "RemoteReader",
    "Whole",
    "costs_of",
    "merge",
]

logger = logging.getLogger("geotessera")

OBJECT_GAP = 0
"""Only ranges that touch become one request: no byte is fetched that nobody asked for."""

OBJECT_JOBS = 128
"""Connections at once. 1,480 ranges of 60 kB at 30 ms take 1.55 s on 32, 0.8 s on 64 and 0.6 s
on 128; they are opened only as there are ranges to ask for."""

LONGEST = 8 << 20
"""Bytes of a request, beyond which another one begins; a range is never split."""

WHOLE_BYTES = 256 << 20
"""Objects of servers without ranges are read whole, and kept, up to so many bytes together."""


class Part(NamedTuple):
    """Bytes of an object, as they were answered.

    Parameters
    ----------
    data : bytes
        Exactly what was asked for; more where `start` differs: a whole object.
    start : int
        Where they begin.
    length : int
        Bytes of the whole object.
    version : str
        Of the object.
    """

    data: bytes
    start: int
    length: int
    version: str


class Whole(NamedTuple):
    """A whole object.

    Parameters
    ----------
    data : bytes or None
        None if it is still of the version that was known.
    version : str
        Of the object.
    """

    data: bytes | None
    version: str


class Merged(NamedTuple):
    """One request: bytes [start, stop) of an object hold the ranges of some indices."""

    key: str
    start: int
    stop: int
    indices: tuple[int, ...]


def merge(ranges: Sequence[KeyRange], gap: int, longest: int = LONGEST) -> list[Merged]:
    """Plan the requests for some ranges.

    Parameters
    ----------
    ranges : sequence of (str, int, int)
        Keys, first bytes and lengths.
    gap : int
        Bytes between two ranges of an object for which they still become one request.
    longest : int
        Bytes of a request, beyond which another one begins; a range is never split.

    Returns
    -------
    list of Merged
        By key, ascending; together they hold every range once.
    """
    made: list[Merged] = []
    order = sorted(range(len(ranges)), key=ranges.__getitem__)
    for key, group in groupby(order, key=lambda index: ranges[index][0]):
        begin = end = -1
        held: list[int] = []
        for index in group:
            _, start, length = ranges[index]
            stop = start + length
            if held and (start - end > gap or max(end, stop) - begin > longest):
                made.append(Merged(key, begin, end, tuple(held)))
                held = []
            if not held:
                begin = end = start
            end = max(end, stop)
            held.append(index)
        if held:
            made.append(Merged(key, begin, end, tuple(held)))
    return made


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

        def read(index: int, policy: RetryPolicy) -> None:
            key, length = wanted[index]
            part = _repeat(lambda policy: self._read(key, None, length, "", policy), policy)
            if part is None:
                return
            start = part.length - length - part.start
            if start < 0:
                raise too_short(self.url_of(key), f"has only {part.length:,} of {length:,} bytes")
            found[index] = Suffix(part.data[start : start + length], part.version)

        for key, length in wanted:
            check_range(key, 0, length)
        Crew(read, range(len(wanted)), self.costs.jobs, self.policy).wait()
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
        for each in ranges:
            check_range(*each)
        return _Asked(self, ranges, versions or {}, keep, waits)

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
        self, key: str, start: int | None, length: int, version: str, policy: RetryPolicy
    ) -> Part | None:
        """Ask once for a range of the object's one version; a part may be the whole object."""
        with self._lock:
            part = self._kept.get(key)
        if part is None:
            part = self._ask_range(key, start, length, policy)
        if part is None:
            return None
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


class _Asked(Pending):
    """Ranges that threads are reading."""

    def __init__(
        self,
        reader: RemoteReader,
        ranges: Sequence[KeyRange],
        versions: Mapping[str, str],
        keep: Callable[[int, bytes | None, str], object] | None,
        waits: bool,
    ) -> None:
        self._reader, self._ranges = reader, ranges
        self._versions, self._keep = versions, keep
        self._found: list[bytes | None] = [b""] * len(ranges)
        parts = [one for one in merge(ranges, reader.costs.gap) if one.stop > one.start]
        self._crew = Crew(self._fetch, parts, reader.costs.jobs, reader.policy, waits=waits)

    def _fetch(self, one: Merged, policy: RetryPolicy) -> None:
        key, start, stop, indices = one
        version = self._versions.get(key, "")
        part = _repeat(
            lambda policy: self._reader._read(key, start, stop - start, version, policy), policy
        )
        for index in indices:
            _, begin, length = self._ranges[index]
            data = None
            if part is not None:
                at = begin - part.start
                data = part.data
                if at or length != len(data):
                    data = data[at : at + length]
            self._found[index] = data
            if self._keep is not None:
                self._keep(index, data, "" if part is None else part.version)

    def result(self) -> list[bytes | None]:
        self._crew.wait()
        return self._found

    def cancel(self) -> None:
        self._crew.cancel()
