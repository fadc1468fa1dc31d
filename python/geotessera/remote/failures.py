"""What failures of requests mean: which pass, and what the system said in the end."""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING

from geotessera.errors import ForbiddenError, HTTPStatusError, NotFoundError, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GONE_STATUSES", "RETRY_STATUSES", "chain", "said", "status_error"]

RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Answers that may be different a moment later."""

GONE_STATUSES = frozenset({404, 410})
_FORBIDDEN_STATUSES = frozenset({401, 403, 407})
_THROTTLED_STATUSES = frozenset({429, 503})


def status_error(url: str, status: int, wait: float | None = None) -> HTTPStatusError:
    """Return the error of a status that is no answer."""
    reason = responses.get(status, "unknown status")
    if status in GONE_STATUSES:
        return NotFoundError(
            f"{url} does not exist (HTTP {status} {reason}): "
            "check the dataset, the year, the place and the base URL",
            url=url,
            status=status,
        )
    kind = HTTPStatusError
    if status in RETRY_STATUSES:
        kind = ThrottledError if status in _THROTTLED_STATUSES else kind
        advice = "the server is overloaded or broken; try again later"
        if wait is not None:
            advice += f" (it asks to wait {wait:.0f} s)"
    elif status in _FORBIDDEN_STATUSES:
        kind = ForbiddenError
        advice = "access is denied; check the base URL, credentials and proxy"
    else:
        advice = "check the base URL and proxy"
    return kind(f"{url} was answered with HTTP {status} {reason}: {advice}", url=url, status=status)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, down to what the system said."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        wrapped = (getattr(inner, "reason", None), *reversed(inner.args))
        inner = next(
            (each for each in wrapped if isinstance(each, BaseException)),
            inner.__cause__ or inner.__context__,
        )


def said(error: BaseException) -> str:
    """Return the innermost text of an error: "Connection refused", not four layers round it."""
    return next(text for each in reversed([*chain(error)]) if (text := str(each) or repr(each)))
