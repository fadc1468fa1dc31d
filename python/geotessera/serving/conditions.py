"""What a request asks of a file: its parts, or only whether it has changed (RFC 9110)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from email.message import Message

__all__ = ["UNSATISFIABLE", "State", "is_unchanged", "must_refuse", "wanted_range"]

UNSATISFIABLE = slice(0, 0)
"""A range that lies behind the end of the file."""

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)-(\d*)\s*", re.ASCII | re.IGNORECASE)
_DIGITS = 19  # more are past the end of every file, and int() would take its time


class State(NamedTuple):
    """Which state of a file is served."""

    size: int
    etag: str
    modified: int
    """Whole seconds since 1970, as HTTP has them."""

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        """Return the state of an open file: another size, time or place is another state."""
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"'
        return cls(found.st_size, tag, int(found.st_mtime))

    @property
    def last_modified(self) -> str:
        """The date as headers carry it."""
        return formatdate(self.modified, usegmt=True)


def _tags(header: str) -> list[str]:
    return re.findall(r'(?:W/)?"[^"]*"', header)


def _seconds(header: str) -> float | None:
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    # Dates without a zone are in universal time.
    zoned: datetime = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return zoned.timestamp()


def must_refuse(headers: Message, state: State) -> bool:
    """Whether a request holds only for a state that the file is not in (412)."""
    match, since = headers.get("If-Match"), headers.get("If-Unmodified-Since")
    if match is not None:
        return match.strip() != "*" and state.etag not in _tags(match)
    if since is not None:
        seconds = _seconds(since)
        return seconds is not None and state.modified > seconds
    return False


def is_unchanged(headers: Message, state: State) -> bool:
    """Whether the client has this state already (304)."""
    match, since = headers.get("If-None-Match"), headers.get("If-Modified-Since")
    if match is not None:
        return match.strip() == "*" or state.etag in [t.removeprefix("W/") for t in _tags(match)]
    if since is not None:
        seconds = _seconds(since)
        return seconds is not None and state.modified <= seconds
    return False


def _number(digits: str) -> int:
    return int(digits or 0) if len(digits) <= _DIGITS else 10**_DIGITS


def wanted_range(headers: Message, state: State) -> slice | None:
    """Return the bytes that a request asks for; None for all of them.

    Several ranges at once, and what is not understood, get the whole file, as the
    standard has it; `UNSATISFIABLE` is a range that begins behind the end.
    """
    found = _RANGE.fullmatch(headers.get("Range", ""))
    if found is None or not any(found.groups()):
        return None
    condition = headers.get("If-Range")
    if condition is not None and condition.strip() not in (state.etag, state.last_modified):
        return None
    first, last = map(_number, found.groups())
    if not found[1]:  # the last bytes
        return (
            slice(max(state.size - last, 0), state.size) if last and state.size else UNSATISFIABLE
        )
    if found[2] and last < first:
        return None
    if first >= state.size:
        return UNSATISFIABLE
    return slice(first, min(last + 1, state.size) if found[2] else state.size)
