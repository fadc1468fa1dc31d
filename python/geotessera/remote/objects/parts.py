"""Parts of objects: what is wanted, what is asked for, and what came."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.objects.reader import KeyRange

__all__ = ["LONGEST", "Left", "Merged", "Part", "Wanted", "Whole", "merge"]

LONGEST = 8 << 20
"""Bytes of a request, beyond which another one begins; a range is never split."""


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


class Wanted(NamedTuple):
    """A range to ask for.

    Parameters
    ----------
    key : str
        The object.
    start : int or None
        Its first byte; None for the object's last bytes.
    length : int
        Bytes.
    version : str
        The one that the object must have; "" for any.
    """

    key: str
    start: int | None
    length: int
    version: str


def _nothing() -> None:
    pass


class Left(NamedTuple):
    """A range that is still to be had.

    Parameters
    ----------
    number : int
        Which one.
    ask : callable, optional
        Asks as `RemoteReader._ask_range` does, for a request that was sent once already.
    close : callable
        Gives up what came of that request.
    """

    number: int
    ask: Callable[[RetryPolicy], Part | None] | None = None
    close: Callable[[], object] = _nothing


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
