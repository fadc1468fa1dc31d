"""Open sources, and memory for what is read of them: few of each, used again and again."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.sources import RasterSource, SourceDescriptor

__all__ = ["Loan", "Opener"]

_PAGE = 2**20
"""Buffers are whole MiB, so that windows of nearly one size share them."""

_IDLE = 6
"""Buffers kept for later: values and scales of the three tiles that a block usually meets."""


class Loan:
    """Memory on loan: call it for arrays, and give all of them back at once."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._lent: list[NDArray[np.uint8]] = []

    def __call__(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array in C order; what it holds is undefined."""
        import numpy as np

        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._lent.append(self._opener._take(size))
        return self._lent[-1][:size].view(dtype).reshape(shape)

    def give_back(self) -> None:
        """Let others use the memory; the arrays must not be used any more."""
        lent, self._lent = self._lent, []
        self._opener._keep(lent)


class Opener:
    """Opens sources and keeps the last ones open; any number of threads may use it.

    Parameters
    ----------
    limit : int
        How many sources stay open. A source that is closed is opened again when it is asked
        for; whoever reads one at that moment goes on undisturbed.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = max(limit, 1)
        self._open: OrderedDict[SourceDescriptor, RasterSource] = OrderedDict()
        self._idle: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def __call__(self, descriptor: SourceDescriptor) -> RasterSource:
        """Return the open source of a descriptor.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        FormatError
            (a `RuntimeError`) if one is not what it should be.
        """
        with self._lock:
            found = self._open.get(descriptor)
            if found is not None:
                self._open.move_to_end(descriptor)
                return found
        opened = descriptor.open()
        with self._lock:
            found = self._open.setdefault(descriptor, opened)
            self._open.move_to_end(descriptor)
            surplus = [] if found is opened else [opened]
            while len(self._open) > self._limit:
                surplus.append(self._open.popitem(last=False)[1])
        for source in surplus:
            source.close()
        return found

    def lend(self) -> Loan:
        """Return what lends memory, to be given back and used again."""
        return Loan(self)

    def _take(self, size: int) -> NDArray[np.uint8]:
        import numpy as np

        with self._lock:
            for at, buffer in enumerate(self._idle):  # the smallest first
                if len(buffer) >= size:
                    return self._idle.pop(at)
            if self._idle:
                self._idle.pop()  # too small, and soon replaced
        return np.empty(-(-size // _PAGE) * _PAGE, np.uint8)

    def _keep(self, buffers: list[NDArray[np.uint8]]) -> None:
        with self._lock:
            self._idle = sorted([*self._idle, *buffers], key=len)[-_IDLE:]

    def close(self) -> None:
        """Close every source and let go of the memory; the opener can still be used."""
        with self._lock:
            sources, self._open = list(self._open.values()), OrderedDict()
            self._idle = []
        for source in sources:
            source.close()

    def __enter__(self) -> Self:
        """Return the opener itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
