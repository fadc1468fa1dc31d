"""Whether bytes are those that were published: lengths and digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.errors import ChecksumMismatchError, SizeMismatchError, TruncatedError

if TYPE_CHECKING:
    from geotessera.remote.transfer.request import FileRequest

__all__ = ["REGISTRY", "check_digest", "check_length"]

REGISTRY = "the registry"


def check_length(request: FileRequest, found: int, expected: int | None, who: str) -> None:
    """Raise `TruncatedError` if a length is not the one that is known.

    It is a `SizeMismatchError` if it is the registry that says another one.
    """
    if expected is not None and found != expected:
        raise (SizeMismatchError if who == REGISTRY else TruncatedError)(
            f"{request.url} has {found:,} bytes where {who} says {expected:,}: "
            "try again; if it stays so, the server's copy or the registry is out of date",
            url=request.url,
        )


def check_digest(request: FileRequest, name: str, found: str, expected: str, who: str) -> None:
    """Raise `ChecksumMismatchError` if a digest is not the published one."""
    if found != expected.lower():
        raise ChecksumMismatchError(
            f"{request.url} does not verify: its {name} is {found}, {who} says {expected}; "
            "the bytes were thrown away. Try again; if it stays so, the server's copy is "
            "damaged or the registry is out of date",
            url=request.url,
        )
