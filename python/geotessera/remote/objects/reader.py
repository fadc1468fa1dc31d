"""What every reader of a store's objects can do.

- What does not exist is None; whatever else goes wrong is an error, never missing bytes.
- A range has exactly the bytes that were asked for, or it is an error.
- All ranges of one object are of one version of it. An object that changed meanwhile raises
  `ChangedError`, until `ObjectReader.forget` is called.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from geotessera.errors import ChangedError, InputError, TruncatedError
from geotessera.remote.objects.arrivals import InBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from geotessera.remote.objects.arrivals import Arrivals

__all__ = ["KeyRange", "ObjectReader", "Pending", "Suffix", "Traffic"]

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
    identity : str
        Readers of one identity have the same objects: what is learnt through one holds for all.
    """

    def __init__(self, location: str) -> None:
        self.location = self.identity = location
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
    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        """Return the last bytes of objects, and their versions, read in parallel.

        Parameters
        ----------
        wanted : sequence of (str, int)
            Keys, and how many bytes of each.

        Returns
        -------
        list of Suffix or None
            In the same order; None for what does not exist.

        Raises
        ------
        TruncatedError
            An object is shorter.
        ChangedError
            An object changed since its first range was read.
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
        return Later(lambda: self.get_ranges(ranges, versions))

    def stream(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> Arrivals:
        """Begin to read what `get_ranges` returns, and return at once: to be taken as it comes.

        However much is asked for, it takes the memory of some megabytes.
        """
        return InBatches(lambda part: self.begin(part, versions), ranges)

    def forget(self, key: str) -> None:  # noqa: B027 - nothing to do for readers without memory
        """Take an object for another one from now on: it has changed."""

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return a range of an object; see `get_ranges`."""
        return self.get_ranges([(key, start, length)])[0]

    def get_suffix(self, key: str, length: int) -> bytes | None:
        """Return the last bytes of an object; see `read_suffixes`."""
        found = self.read_suffix(key, length)
        return None if found is None else found.data

    def read_suffix(self, key: str, length: int) -> Suffix | None:
        """Return the last bytes of an object, and its version; see `read_suffixes`."""
        return self.read_suffixes([(key, length)])[0]

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


class Later(Pending):
    """Ranges that one thread is reading."""

    def __init__(
        self,
        work: Callable[[], list[bytes | None]],
        cancel: Callable[[], object] = lambda: None,
    ) -> None:
        self._work, self._cancel = work, cancel
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
        self._cancel()


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
