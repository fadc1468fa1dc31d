"""Objects on a web server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geotessera.errors import TruncatedError, UnreachableError
from geotessera.remote.byterange import NoRangesError
from geotessera.remote.failures import GONE_STATUSES
from geotessera.remote.light import open_light
from geotessera.remote.light.origins import origin_of
from geotessera.remote.light.sweep import Question, Sweep
from geotessera.remote.objects.network import (
    WHOLE_BYTES,
    BrokenBodyError,
    RemoteReader,
)
from geotessera.remote.objects.parts import Left, Part, Whole
from geotessera.remote.objects.reader import too_short
from geotessera.remote.ranges import answered_range

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from geotessera.remote.byterange import RangeCosts
    from geotessera.remote.http import Reply, RetryPolicy
    from geotessera.remote.light import Begun, LightReply
    from geotessera.remote.light.replies import OpenReply
    from geotessera.remote.objects.parts import Wanted

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
        self,
        key: str,
        start: int | None,
        length: int,
        policy: RetryPolicy,
        begun: Begun | None = None,
    ) -> Part | None:
        if begun is not None:
            _raise_broken(begun)
        with open_light(
            self.url_of(key),
            headers=_range(start, length),
            accept=(200, 206, 416, *_GONE),
            policy=policy,
            begun=begun,
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
        found = _answered(reply, start, length)
        if found is None:
            asked = f"the last {length}" if start is None else f"{start}-{start + length - 1}"
            wrong = NoRangesError(
                f"{url}: bytes {asked} were asked for, and answered by "
                f"{reply.headers.get('Content-Range', 'no range')!r}",
                url=url,
            )
            wrong.passing = True
            raise BrokenBodyError from wrong
        begin, stop, total = found
        data = self._body(reply, stop - begin)
        return Part(data, begin, total, _version(reply, total))

    def _sweep(
        self,
        wanted: Sequence[Wanted],
        arrived: Callable[[int, Part | None], object],
        jobs: int,
        stopped: threading.Event,
    ) -> list[Left]:
        origin = origin_of(self.base)
        if origin is None or origin.quiet_seconds > 0:
            return super()._sweep(wanted, arrived, jobs, stopped)
        urls = {key: self.url_of(key) for key in {one.key for one in wanted}}
        places: dict[int, tuple[int, int, int]] = {}  # of answers whose bodies are on their way

        def length_of(index: int, reply: OpenReply) -> int | None:
            if not reply.is_simple:
                return None
            if reply.status_code in GONE_STATUSES:
                return reply.left
            one = wanted[index]
            found = _answered(reply, one.start, one.length)
            if reply.status_code != 206 or found is None:
                return None
            places[index] = found
            return found[1] - found[0]

        def take(index: int, reply: OpenReply, body: bytes) -> None:
            self.traffic.add(1, len(body) if reply.status_code == 206 else 0)
            if reply.status_code != 206:
                arrived(index, None)
                return
            begin, _, total = places.pop(index)
            arrived(index, Part(body, begin, total, _version(reply, total)))

        def left(index: int, begun: Begun | None) -> Left:
            if begun is None:
                return Left(index)
            key, start, length, _ = wanted[index]
            return Left(
                index,
                lambda policy: self._ask_range(key, start, length, policy, begun),
                begun.close,
            )

        sweep = Sweep(
            origin,
            [Question(urls[one.key], _range(one.start, one.length)) for one in wanted],
            length_of=length_of,
            arrived=take,
            jobs=jobs,
            policy=self.policy,
            stopped=stopped,
        )
        return [left(*one) for one in sweep.run()]

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


def _range(start: int | None, length: int) -> dict[str, str]:
    """Return the header that asks for a range, or for the last bytes."""
    part = f"-{length}" if start is None else f"{start}-{start + length - 1}"
    return {"Range": f"bytes={part}"}


def _answered(reply: Reply, start: int | None, length: int) -> tuple[int, int, int] | None:
    """Return what `answered_range` does if it is what was asked for."""
    found = answered_range(reply)
    if found is None:
        return None
    begin, stop, total = found
    first = max(total - length, 0) if start is None else start
    return found if (begin, stop) == (first, min(first + length, total)) else None


def _raise_broken(begun: Begun) -> None:
    """Raise `BrokenBodyError` if a request was sent whose body did not arrive."""
    broken = begun.take_broken()
    if broken is not None:
        raise BrokenBodyError from broken


def _version(reply: Reply, length: int) -> str:
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
