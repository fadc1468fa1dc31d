"""Objects in a bucket: obstore signs and sends, our policy says how often and how long."""

from __future__ import annotations

import itertools
import logging
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from geotessera.errors import (
    ForbiddenError,
    InputError,
    TransferError,
    TruncatedError,
    UnreachableError,
)
from geotessera.remote.byterange import NoRangesError
from geotessera.remote.failures import RETRY_STATUSES, status_error
from geotessera.remote.objects.network import BrokenBodyError, RemoteReader
from geotessera.remote.objects.parts import Part, Whole
from geotessera.remote.objects.reader import too_short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore import GetResult
    from obstore.store import S3Store

    from geotessera.remote.byterange import RangeCosts
    from geotessera.remote.http import RetryPolicy

__all__ = ["PUBLIC_BUCKETS", "S3Reader"]

logger = logging.getLogger("geotessera.remote.http")

PUBLIC_BUCKETS = {
    "tessera-embeddings": "us-west-2",
    "us-west-2.opendata.source.coop": "us-west-2",
}
"""Buckets that are read without credentials, and their regions."""

_STATUS = re.compile(r"status(?: code)?:? (\d{3})")


class S3Reader(RemoteReader):
    """Reads objects below an ``s3://bucket/prefix`` URL.

    The published buckets are read anonymously; any other one with the environment's
    credentials, in the region of ``AWS_REGION``, at ``AWS_ENDPOINT_URL`` if it is set.
    ``Retry-After`` is not visible here: waits double each time.

    Parameters
    ----------
    location : str
        The URL.
    costs : RangeCosts, optional
        As for `RemoteReader`.
    policy : RetryPolicy, optional
        Timeouts and repetitions.

    Raises
    ------
    InputError
        (a `ValueError`) if it is no such URL.
    """

    def __init__(
        self,
        location: str,
        costs: RangeCosts | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        location = location.rstrip("/")
        super().__init__(location, costs, policy)
        self.bucket, _, prefix = location.partition("://")[2].partition("/")
        if not self.bucket or not location.lower().startswith("s3://"):
            raise InputError(
                f"{location!r} is no location in a bucket: expected s3://bucket/prefix"
            )
        self._prefix = prefix + "/" if prefix else ""
        self._store: S3Store | None = None
        self._store_lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the location."""
        return S3Reader, (self.location, self.costs, self.policy)

    def url_of(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.location}/{key}"

    def _opened(self) -> S3Store:
        with self._store_lock:
            if self._store is None:
                from obstore.store import S3Store

                region = PUBLIC_BUCKETS.get(self.bucket)
                public: Mapping[str, Any] = (
                    {} if region is None else {"region": region, "skip_signature": True}
                )
                self._store = S3Store(
                    self.bucket,
                    client_options={
                        "allow_http": True,  # an endpoint of one's own may be
                        "connect_timeout": timedelta(seconds=self.policy.connect_timeout),
                        # Of a silence, and not of a whole body, which may be slow and healthy.
                        "read_timeout": timedelta(seconds=self.policy.read_timeout),
                        "timeout": timedelta(days=1),
                        "pool_max_idle_per_host": str(self.costs.jobs),
                    },
                    retry_config={"max_retries": 0},
                    **public,
                )
            return self._store

    def _ask_range(
        self, key: str, start: int | None, length: int, policy: RetryPolicy
    ) -> Part | None:
        asked: Any = {"suffix": length} if start is None else (start, start + length)
        found = self._ask(key, {"range": asked}, policy)
        if found is None:
            return None
        total = found.meta["size"]
        begin, stop = found.range
        first = max(total - length, 0) if start is None else start
        if first >= total:
            raise too_short(self.url_of(key), f"has {total:,} bytes, and none at {first:,}")
        if begin != first or stop != min(first + length, total):
            raise NoRangesError(
                f"{self.url_of(key)}: bytes {first}-{first + length - 1} were asked for, and "
                f"answered by {begin}-{stop - 1} of {total}",
                url=self.url_of(key),
            )
        return Part(self._body(found, key, stop - begin), begin, total, _version(found))

    def _ask_whole(self, key: str, unless: str, policy: RetryPolicy) -> Whole | None:
        from obstore.exceptions import NotModifiedError

        options = {"if_none_match": unless} if unless.startswith(('"', "W/")) else {}
        try:
            found = self._ask(key, options, policy)
        except NotModifiedError:
            return Whole(None, unless)
        if found is None:
            return None
        data = self._body(found, key, found.meta["size"])
        return Whole(data, _version(found))

    def keys(self, prefix: str = "") -> list[str]:
        """Return the names of all objects below a prefix (whole names of folders), sorted.

        Raises
        ------
        TransferError
            (an `OSError`) if they could not be listed.
        """
        import obstore

        def listed(store: S3Store) -> list[str]:
            pages = obstore.list(store, prefix=self._prefix + prefix)
            return [one["path"] for page in pages for one in page]

        found = self._insist(prefix, "LIST", listed) or []
        return sorted(path.removeprefix(self._prefix) for path in found)

    def _ask(self, key: str, options: Any, policy: RetryPolicy) -> GetResult | None:
        """Ask until there is an answer; None if there is no such object."""
        import obstore

        def asked(store: S3Store) -> GetResult:
            return obstore.get(store, self._prefix + key, options=options)

        return self._insist(key, f"GET {options or 'whole'}", asked, policy)

    def _insist[T](
        self,
        key: str,
        what: str,
        work: Callable[[S3Store], T],
        policy: RetryPolicy | None = None,
    ) -> T | None:
        """Do something until it succeeds; None if there is no such object."""
        from obstore import exceptions as e

        policy = policy or self.policy
        store = self._opened()
        for retry in itertools.count():
            self.traffic.add(1)
            logger.debug("%s of %s", what, self.url_of(key))
            try:
                return work(store)
            except (e.NotFoundError, FileNotFoundError):
                return None
            except e.NotModifiedError:
                raise
            except (e.BaseError, OSError, ValueError) as error:
                wait = policy.wait_before(retry)
                failure = self._failure(key, error)
                if not failure.passing or retry >= policy.retries:
                    raise failure from error
                logger.info("%s; trying again in %.1f s", failure, wait)
                policy.sleep(wait)
        return None

    def _failure(self, key: str, error: Exception) -> TransferError:
        from obstore import exceptions as e

        url = self.url_of(key)
        if isinstance(error, (e.PermissionDeniedError, e.UnauthenticatedError, PermissionError)):
            return ForbiddenError(
                f"{url}: access is denied; check the bucket, credentials and AWS_REGION",
                url=url,
                status=403,
            )
        match = _STATUS.search(str(error))
        if match and match[1] == "416":
            return too_short(url, "ends before a range does (HTTP 416)")
        if match:
            failure = status_error(url, int(match[1]))
            failure.passing = int(match[1]) in RETRY_STATUSES
            return failure
        if isinstance(error, e.NotSupportedError) or "non-partial" in str(error):
            return NoRangesError(
                f"{url}: the endpoint ignores ranges, so nothing can be read from it: use another "
                "one, or a local copy",
                url=url,
            )
        return UnreachableError(
            f"{url} could not be reached: {_first_line(error)}; "
            "check the network, the bucket and the endpoint",
            url=url,
        )

    def _body(self, found: GetResult, key: str, count: int) -> bytes:
        from obstore import exceptions as e

        url = self.url_of(key)
        try:
            data = found.bytes().to_bytes()
        except (e.BaseError, OSError) as error:
            raise BrokenBodyError from TruncatedError(
                f"{url} broke off ({_first_line(error)}): try again", url=url
            )
        self.traffic.add(0, len(data))
        if len(data) != count:
            raise BrokenBodyError from TruncatedError(
                f"{url} sent {len(data):,} of {count:,} bytes: try again", url=url
            )
        return data


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _version(found: GetResult) -> str:
    meta = found.meta
    return meta["e_tag"] or f"{meta['last_modified']};{meta['size']}"
