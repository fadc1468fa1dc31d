"""Objects on a web server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geotessera.errors import TruncatedError, UnreachableError
from geotessera.remote.byterange import NoRangesError
from geotessera.remote.failures import GONE_STATUSES
from geotessera.remote.light import open_light
from geotessera.remote.objects import too_short
from geotessera.remote.objects_remote import (
    WHOLE_BYTES,
    BrokenBodyError,
    Part,
    RemoteReader,
    Whole,
)
from geotessera.remote.ranges import answered_range

if TYPE_CHECKING:
    from geotessera.remote.byterange import RangeCosts
    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.light import LightReply

__all__ = ["HttpReader"]

_GONE = tuple(sorted(GONE_STATUSES))


class HttpReader(RemoteReader):
    """Reads objects below an ``http(s)://`` URL.

    Parameters
    ----------
    location : str
        The location's one spelling.
    base : str, optional
        Where the objects are asked for, by default at the location; what follows a ``?`` is
        added to each request.
    costs : RangeCosts, optional
        As for `RemoteReader`.
    policy : RetryPolicy, optional
        Timeouts and repetitions.
    """

    def __init__(
        self,
        location: str,
        base: str | None = None,
        costs: RangeCosts | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(location, costs, policy)
        self.base = location if base is None else base
        place, separator, query = self.base.partition("?")
        self._place, self._query = place.rstrip("/"), separator + query

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the location."""
        return HttpReader, (self.location, self.base, self.costs, self.policy)

    def url_of(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self._place}/{quote(key, safe='/~')}{self._query}"

    def _ask_range(
        self, key: str, start: int | None, length: int, policy: RetryPolicy
    ) -> Part | None:
        part = f"-{length}" if start is None else f"{start}-{start + length - 1}"
        with open_light(
            self.url_of(key),
            headers={"Range": f"bytes={part}"},
            accept=(200, 206, 416, *_GONE),
            policy=policy,
        ) as reply:
            self.traffic.add(1)
            match reply.status_code:
                case 206:
                    return self._part(reply, key, start, length)
                case 200:
                    return self._whole_instead(reply, key)
                case 416:
                    total = reply.headers.get("Content-Range", "").rpartition("/")[2]
                    raise too_short(
                        self.url_of(key),
                        f"has {total or 'no'} bytes, and none at {start or 0:,} (HTTP 416)",
                    )
            return None

    def _part(self, reply: LightReply, key: str, start: int | None, length: int) -> Part:
        url = self.url_of(key)
        found = answered_range(reply)
        if found is not None:
            begin, stop, total = found
            first = max(total - length, 0) if start is None else start
            if begin != first or stop != min(first + length, total):
                found = None
        if found is None:
            asked = f"the last {length}" if start is None else f"{start}-{start + length - 1}"
            wrong = NoRangesError(
                f"{url}: bytes {asked} were asked for, and answered by "
                f"{reply.headers.get('Content-Range', 'no range')!r}",
                url=url,
            )
            wrong.passing = True
            raise BrokenBodyError from wrong
        data = self._body(reply, stop - begin)
        return Part(data, begin, total, _version(reply, total))

    def _whole_instead(self, reply: LightReply, key: str) -> Part:
        announced = reply.headers.get("Content-Length", "")
        if not announced.isdecimal() or int(announced) > WHOLE_BYTES:
            raise self._no_ranges(key, announced or "an unknown number of")
        data = self._body(reply, int(announced))
        part = Part(data, 0, len(data), _version(reply, len(data)))
        return self._keep_whole(key, part)

    def _ask_whole(self, key: str, unless: str, policy: RetryPolicy) -> Whole | None:
        with open_light(
            self.url_of(key),
            headers=_unless(unless),
            accept=(200, 304, *_GONE),
            policy=policy,
        ) as reply:
            self.traffic.add(1)
            match reply.status_code:
                case 200:
                    data = self._body(reply)
                    version = _version(reply, len(data))
                    return Whole(data, version)
                case 304:
                    return Whole(None, unless)
            return None

    def _body(self, reply: LightReply, count: int | None = None) -> bytes:
        try:
            data = reply.read(count)
        except (TruncatedError, UnreachableError) as error:
            raise BrokenBodyError from error
        self.traffic.add(0, len(data))
        return data


def _version(reply: LightReply, length: int) -> str:
    """Return what tells an object's versions apart: its ETag, or else its date and length."""
    headers = reply.headers
    return headers.get("ETag") or f"{headers.get('Last-Modified', '')};{length}"


def _unless(version: str) -> dict[str, str]:
    """Return the headers that ask for an object only if it has not this version."""
    if not version:
        return {}
    if version.startswith(('"', "W/")):
        return {"If-None-Match": version}
    modified = version.rpartition(";")[0]
    return {"If-Modified-Since": modified} if modified else {}
