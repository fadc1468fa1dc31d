"""An answer whose headers have come: its body, still unread, and its connection afterwards."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from geotessera.errors import TransferError, TruncatedError, UnreachableError
from geotessera.remote.failures import said
from geotessera.remote.http import is_encoded
from geotessera.remote.session import release

if TYPE_CHECKING:
    from geotessera.remote.light.origins import Origin
    from geotessera.remote.light.wire import Connection, Headers

__all__ = ["REDIRECTS", "OpenReply", "wrong_length"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_DRAIN_BYTES = 64 << 10


class OpenReply:
    """An answer on a connection of an `Origin`, with its body unread.

    Parameters
    ----------
    origin, connection
        Where it came from.
    url : str
        What errors call it.
    status_code : int
        HTTP status.
    headers : Headers
        They.
    begun : bytes
        What came of the body with them.

    Attributes
    ----------
    left : int
        Bytes that the body has, or has left; -1 if it was not said.
    is_simple : bool
        Whether it is an answer that can be read here.
    keeps : bool
        Whether the connection can be used again after it.
    """

    def __init__(
        self,
        origin: Origin,
        connection: Connection,
        url: str,
        status_code: int,
        headers: Headers,
        begun: bytes,
    ) -> None:
        self._origin, self._connection, self._url = origin, connection, url
        self.status_code, self.headers, self.begun = status_code, headers, begun
        announced = headers.get("content-length", "")
        self.left = int(announced) if announced.isdecimal() and len(announced) < 19 else -1
        if status_code in (204, 304):
            self.left = 0
        self.is_simple = (
            self.left >= 0
            and status_code >= 200
            and status_code not in REDIRECTS
            and "transfer-encoding" not in headers
            and not is_encoded(self)
        )
        self.keeps = headers.get("connection", "").lower() != "close"

    def read(self, count: int | None = None) -> bytes:
        """Return the body; see `LightReply.read`."""
        length, self.keeps, keeps = self.left, False, self.keeps
        if count is not None and length != count:
            raise wrong_length(self._url, length, count)
        begun = self.begun
        if len(begun) < length:
            body = bytearray(length)
            body[: len(begun)] = begun
            self._fill(memoryview(body), len(begun))
            begun = bytes(body)
        elif len(begun) > length:
            raise wrong_length(self._url, len(begun), length)
        self.left, self.keeps = 0, keeps
        return begun

    def _fill(self, body: memoryview, got: int) -> None:
        receive = self._connection.sock.recv_into
        try:
            while got < len(body) and (more := receive(body[got:])):
                got += more
        except OSError as error:
            raise self.broken(got, len(body), error) from error
        if got < len(body):
            raise self.broken(got, len(body))

    def broken(self, got: int, length: int, error: OSError | None = None) -> TransferError:
        """Return the error of a body that did not arrive whole."""
        if isinstance(error, TimeoutError):
            return UnreachableError(
                f"{self._url} stalled after {got:,} bytes: nothing arrived for the read timeout; "
                "check the link and try again",
                url=self._url,
            )
        why = said(error) if error else "the connection was closed"
        return TruncatedError(
            f"{self._url} broke off after {got:,} of {length:,} bytes ({why}): try again",
            url=self._url,
        )

    def give_up(self) -> None:
        """Give the connection back if nothing is left of the body, else close it."""
        release()
        if self.keeps and 0 < self.left <= _DRAIN_BYTES and self.is_simple:
            with suppress(TransferError):
                self.read()
        self._origin.take_back(self._connection, reusable=self.keeps and self.left == 0)


def wrong_length(url: str, got: int, count: int) -> TruncatedError:
    """Return the error of a body that is not as long as it has to be."""
    return TruncatedError(
        f"{url} sent {got:,} bytes where {count:,} were asked for: try again", url=url
    )
