"""Objects of a store, whole or in part, wherever they are: what every reader of one can do.

A location is a directory, an ``http(s)://`` or ``s3://`` URL, another URL that fsspec knows, or
a Zarr store object. `open_reader` makes the reader that fits; all of them behave alike:

- What does not exist is None; whatever else goes wrong is an error, never missing bytes.
- A range has exactly the bytes that were asked for, or it is an error.
- All ranges of one object are of one version of it. An object that changed meanwhile raises
  `ChangedError`, until `ObjectReader.forget` is called.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from geotessera.datasets import canonical_store_location
from geotessera.errors import ChangedError, InputError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from geotessera.remote.http import RetryPolicy

__all__ = ["KeyRange", "ObjectReader", "Pending", "Suffix", "Traffic", "open_reader"]

type KeyRange = tuple[str, int, int]
"""An object's key, the first byte, and how many."""


class Suffix(NamedTuple):
    """The last bytes of an object.

    Parameters
    ----------
    data : bytes
        They.
    version : str
        Of the object, as `ObjectReader.get_ranges` takes it; "" where it is not known.
    """

    data: bytes
    version: str


@dataclass(slots=True)
class Traffic:
    """What a reader asked for.

    Parameters
    ----------
    requests : int
        Requests that were answered; reads of files for a directory.
    bytes : int
        Bytes of their bodies.
    hits : int
        Objects and ranges that a cache on disk answered.
    """

    requests: int = 0
    bytes: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, requests: int = 0, size: int = 0, hits: int = 0) -> None:
        """Count more."""
        with self._lock:
            self.requests += requests
            self.bytes += size
            self.hits += hits

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.requests = self.bytes = self.hits = 0


class Pending(ABC):
    """Ranges that are being read."""

    @abstractmethod
    def result(self) -> list[bytes | None]:
        """Wait for them; returns and raises as `ObjectReader.get_ranges`."""

    @abstractmethod
    def cancel(self) -> None:
        """Give them up; nobody wants them any more."""


class ObjectReader(ABC):
    """Reads the objects below a location; safe to use from many threads.

    Parameters
    ----------
    location : str
        The location's one spelling.

    Attributes
    ----------
    location : str
        As above.
    traffic : Traffic
        What was asked for so far.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.traffic = Traffic()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return a whole object, in its newest version; None if there is none.

        Parameters
        ----------
        key : str
            Its name below the location, with ``/``.

        Raises
        ------
        TransferError
            (an `OSError`) if it could not be had.
        """

    @abstractmethod
    def read_suffix(self, key: str, length: int) -> Suffix | None:
        """Return the last bytes of an object, and its version; None if there is none.

        Raises
        ------
        TruncatedError
            The object is shorter.
        ChangedError
            The object changed since its first range was read.
        TransferError
            (an `OSError`) if they could not be had.
        """

    @abstractmethod
    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        """Return ranges of objects, read in parallel.

        Parameters
        ----------
        ranges : sequence of (str, int, int)
            Keys, first bytes and lengths, in any order.
        versions : mapping of str to str, optional
            By key, the version that an object must have: the one in which the index that
            says where its ranges are was read.

        Returns
        -------
        list of bytes or None
            In the order of `ranges`; None for what does not exist.

        Raises
        ------
        TruncatedError
            An object ends before a range does.
        ChangedError
            An object has another version; call `forget`, and begin with its index.
        TransferError
            (an `OSError`) if they could not be had.
        """

    def begin(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> Pending:
        """Begin to read what `get_ranges` returns, and return at once."""
        return _Later(lambda: self.get_ranges(ranges, versions))

    def forget(self, key: str) -> None:  # noqa: B027 - nothing to do for readers without memory
        """Take an object for another one from now on: it has changed."""

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return a range of an object; see `get_ranges`."""
        return self.get_ranges([(key, start, length)])[0]

    def get_suffix(self, key: str, length: int) -> bytes | None:
        """Return the last bytes of an object; see `read_suffix`."""
        found = self.read_suffix(key, length)
        return None if found is None else found.data

    def get_ranges_ahead(
        self, batches: Iterable[Sequence[KeyRange]], ahead: int = 1
    ) -> Iterator[list[bytes | None]]:
        """Yield what `get_ranges` returns for each batch, while the next ones are read.

        Parameters
        ----------
        batches : iterable of sequence of (str, int, int)
            Taken one by one; its code runs in the caller's thread.
        ahead : int
            How many batches are read while the caller works on one.
        """
        waiting: deque[Pending] = deque()
        try:
            for batch in batches:
                waiting.append(self.begin(batch))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for pending in waiting:
                pending.cancel()

    def close(self) -> None:  # noqa: B027 - most readers hold nothing
        """Give up what is held open; the reader can still be used."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Later(Pending):
    """Ranges that one thread is reading."""

    def __init__(self, work: Callable[[], list[bytes | None]]) -> None:
        self._work = work
        self._found: list[bytes | None] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="geotessera-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            self._failure = error

    def result(self) -> list[bytes | None]:
        while self._thread.is_alive():
            self._thread.join(0.2)
        if self._failure is not None:
            raise self._failure
        return self._found

    def cancel(self) -> None:
        pass


def check_range(key: str, start: int, length: int) -> None:
    """Raise `InputError` (a `ValueError`) unless a range can exist."""
    if start < 0 or length < 0:
        raise InputError(f"{key}: {length} bytes at {start} are no range")


def too_short(url: str, what: str) -> TruncatedError:
    """Return the error of an object that ends before a range does."""
    error = TruncatedError(
        f"{url} {what}: try again; if it stays so, the store's copy is damaged", url=url
    )
    error.passing = False
    return error


def changed(url: str) -> ChangedError:
    """Return the error of an object that is not the one of which a range was read before."""
    return ChangedError(f"{url} changed while it was read: try again", url=url)


def open_reader(
    location: str | os.PathLike[str] | Any,
    *,
    via_gateway: bool | None = None,
    jobs: int | None = None,
    gap: int | None = None,
    policy: RetryPolicy | None = None,
) -> ObjectReader:
    """Return the reader of a location.

    Parameters
    ----------
    location : str, path or zarr.abc.store.Store
        A directory, a ``file://``, ``http(s)://`` or ``s3://`` URL, another URL that fsspec
        knows, or a Zarr store object, which is used as it is.
    via_gateway : bool, optional
        Whether a published store is read through the gateway instead of its bucket; by default
        as ``GEOTESSERA_VIA_GATEWAY`` says.
    jobs : int, optional
        Connections at once, by default ``GEOTESSERA_RANGE_JOBS`` or 128.
    gap : int, optional
        Bytes between ranges of an object for which they become one request, by default
        ``GEOTESSERA_RANGE_GAP`` or 0.
    policy : RetryPolicy, optional
        Timeouts and repetitions of HTTP.

    Raises
    ------
    StoreNotFoundError
        (a `FileNotFoundError`) if a directory does not exist.
    InputError
        (a `ValueError`) for what is no location, or options out of range.
    """
    if not isinstance(location, str | os.PathLike):
        from geotessera.remote.objects_zarr import StoreReader

        return StoreReader(location)
    text = os.fspath(location)
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme == "file":
        from geotessera.remote.objects_local import LocalReader

        return LocalReader(text)
    if scheme in ("http", "https"):
        from geotessera.remote.objects_http import HttpReader
        from geotessera.remote.objects_remote import costs_of
        from geotessera.remote.routing import base_of

        return HttpReader(
            canonical_store_location(text), base_of(text, via_gateway), costs_of(jobs, gap), policy
        )
    from geotessera.remote.objects_zarr import open_by_fsspec

    return open_by_fsspec(text)
