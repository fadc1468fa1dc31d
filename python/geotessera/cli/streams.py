"""stdout and stderr as they come: closed, full, or unable to write what is said.

Results that cannot be written make the command fail, with one line; notes that cannot be
written make nothing fail.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

__all__ = ["StreamError", "finish", "prepare"]

BROKEN_PIPE = 141
"""Exit code if the reader of stdout went away, as shells have it: 128 + SIGPIPE."""


# No OSError: the parser would take a broken pipe for its own business.
class StreamError(Exception):
    """The results could not be written to stdout.

    Parameters
    ----------
    error : OSError
        What the system said.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the results could not be written to stdout: {error.strerror or error}")
        self.gone = error.errno == errno.EPIPE
        """Whether its reader went away, as ``head`` does: nothing is wrong then."""

    @property
    def exit_code(self) -> int:
        """The exit code that it stands for."""
        return BROKEN_PIPE if self.gone else 1


class _Results(io.FileIO):
    """stdout; after a failure it takes what is left and forgets it, as at the end of Python."""

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]
        if self.error is not None:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise StreamError(error) from error


class _Notes(io.FileIO):
    """stderr; what it cannot write is lost."""

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Replace the process's stdout and stderr by streams that do as this module says.

    Characters that a stream's encoding lacks are written as escapes.
    """
    # Closed ones first: the next file to be opened would get their number. As with the
    # system's own tools, a closed stdout is one that cannot be written.
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        _occupy(number, mode)
    sys.stdout = _stream(sys.stdout, 1, _Results)
    sys.stderr = _stream(sys.stderr, 2, _Notes)


def finish() -> None:
    """Write what is left of the results.

    Raises
    ------
    StreamError
        If they were not written, now or earlier.
    """
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    if isinstance(raw, _Results) and raw.error is not None:
        raise StreamError(raw.error)


def _occupy(number: int, mode: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def _raw(stream: TextIO | None) -> object:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is only one of them


def _stream(stream: TextIO | None, number: int, kind: Callable[..., io.FileIO]) -> TextIO:
    raw = _raw(stream)
    # A console of Windows is no file; it takes every character.
    if stream is not None and (not isinstance(raw, io.FileIO) or raw.fileno() != number):
        return stream
    # Opened for reading (see `prepare`), it is still a stream to write to.
    replaced = kind(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(replaced),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=number == 2 or replaced.isatty() or getattr(stream, "write_through", False),
    )
