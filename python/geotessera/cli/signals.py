"""SIGTERM and SIGHUP unwind the command as Ctrl-C does, so that nothing unfinished is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Terminated", "ignore_signals", "unwind_on_signals"]

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


# No Exception: what makes the best of errors must not go on.
class Terminated(BaseException):
    """The process was told to end.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that it stands for, as shells have it."""
        return 128 + self.number


def unwind_on_signals() -> None:
    """Raise `Terminated` in the main thread on the first of the signals; ignore the others.

    A signal that the process was started to ignore (``nohup``) stays ignored.
    """
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def ignore_signals() -> None:
    """Ignore the signals from now on: what is left to do is to clean up."""
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_IGN)


def _raise(number: int, _: FrameType | None) -> None:
    # A closed terminal sends several, and the second would break off the cleaning.
    ignore_signals()
    raise Terminated(number)
