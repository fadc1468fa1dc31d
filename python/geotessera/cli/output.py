"""What a command says: results on stdout, notes and progress on stderr, or one JSON document."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Self

from geotessera.sizes import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from rich.console import Console

    from geotessera.types import ProgressCallback

__all__ = [
    "Output",
    "StderrHandler",
    "counted",
    "decorated",
    "format_bytes",
    "to_json",
    "write_json",
]

QUIET_SECONDS = 1.0
"""Work that takes less shows no progress."""

_live: Console | None = None  # the console whose progress bar is on the screen


def decorated(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that takes colours and bars."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def to_json(value: Any) -> Any:
    """Return a value as JSON has it: paths as text, NaN as null, arrays as lists."""
    if value is None or isinstance(value, str | bool):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    return str(value)


def write_json(document: Mapping[str, Any]) -> None:
    """Write the one document of a ``--json`` run to stdout."""
    # ASCII only, so that no locale can spoil it.
    sys.stdout.write(json.dumps(to_json(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def write_note(text: str) -> None:
    """Write a line to stderr, above the progress bar if there is one."""
    if _live is not None:
        _live.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def counted(count: int, noun: str) -> str:
    """Return a number of things, such as ``1 tile`` and ``1,200 tiles``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


class StderrHandler(logging.Handler):
    """Log records as plain lines on stderr, whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        prefix = f"{record.levelname.capitalize()}: " if record.levelno >= logging.WARNING else ""
        write_note(prefix + record.getMessage())


class Output:
    """The words of one run of a command.

    Parameters
    ----------
    as_json : bool
        Keep stdout for the one JSON document.
    verbose : bool
        Say more.
    """

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose

    def say(self, text: str = "") -> None:
        """Write a line of the result; nothing with ``--json``."""
        if not self.as_json:
            sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Write a line that is not part of the result to stderr."""
        write_note(text)

    def detail(self, text: str) -> None:
        """Write a note with ``--verbose`` only."""
        if self.verbose:
            write_note(text)

    def emit(self, document: Mapping[str, Any]) -> None:
        """Write the JSON document; nothing without ``--json``."""
        if self.as_json:
            write_json(document)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = ""
    ) -> None:
        """Write a table: boxed on a terminal that is wide enough, aligned columns elsewhere."""
        if self.as_json:
            return
        cells = [[str(cell) for cell in row] for row in rows]
        lines = [list(columns), *cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        # A box that does not fit would break names in the middle, so that none can be copied.
        fits = sum(widths) + 3 * len(widths) + 1 <= shutil.get_terminal_size().columns
        if decorated(sys.stdout) and fits:
            _rich_table(columns, cells, title)
            return
        if title:
            self.say(title)
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say("  ".join(padded).rstrip())

    def pairs(self, items: Mapping[str, object], *, title: str = "") -> None:
        """Write names and values, a line each, whole, so that paths can be copied."""
        if title:
            self.say(title)
        width = max(map(len, items), default=0)
        for name, value in items.items():
            self.say(f"  {name:<{width}}  {value}")

    @contextmanager
    def progress(self, title: str, *, unit: str = "") -> Iterator[ProgressCallback]:
        """Show how far something is: a bar on a terminal, now and then a line elsewhere.

        Yields the callback to hand to the work; calls may come from any thread. With
        ``unit="bytes"`` the numbers are sizes.
        """
        if decorated(sys.stderr):
            with _bar(title, unit) as callback:
                yield callback
        else:
            with _Lines(title, unit, as_json=self.as_json) as callback:
                yield callback


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[ProgressCallback]:
    global _live
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    console = Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        transient=True,
    )
    task = bar.add_task(title, total=None, status="")

    def show() -> None:
        global _live
        _live = console
        bar.start()

    def callback(current: int, total: int, status: str = "", /) -> None:
        bar.update(task, completed=current, total=total or None, status=status)

    # By the clock, not by calls: one long step is shown too.
    timer = threading.Timer(QUIET_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield callback
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
        _live = None


class _Lines:
    """Progress where nothing can be redrawn: a line a second at most, none for short work."""

    def __init__(self, title: str, unit: str, *, as_json: bool) -> None:
        self._title = title
        self._unit = unit
        self._as_json = as_json
        self._first: tuple[float, int] | None = None
        self._state = (0, 0, "")
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._timer = threading.Timer(QUIET_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def __call__(self, current: int, total: int, status: str = "", /) -> None:
        with self._lock:
            self._state = (current, total, status)
            if self._first is None:
                self._first = time.monotonic(), current
            due = time.monotonic() - self._last >= QUIET_SECONDS
        if due:
            self._show()

    def _show(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            current, total, status = self._state
            rate = self._rate(current)
        if self._as_json:
            fields: dict[str, Any] = {"progress": self._title, "done": current, "total": total}
            if self._unit == "bytes":
                fields |= {"unit": "bytes", "bytes_per_second": round(rate)}
            write_note(json.dumps(fields | {"status": status}))
            return
        words = []
        if total and self._unit == "bytes":
            words.append(f"{format_bytes(current)} of {format_bytes(total)}")
            if rate:
                left = round(max(total - current, 0) / rate)
                words += [f"{format_bytes(rate)}/s", f"{left // 60}:{left % 60:02} left"]
        elif total:
            words.append(f"{current} of {total}")
        write_note(f"{self._title}: " + (", ".join([*words, *filter(None, [status])]) or "…"))

    def _rate(self, current: int) -> float:
        """Return the mean per second since the first report."""
        if self._first is None:
            return 0.0
        seconds = time.monotonic() - self._first[0]
        return max(current - self._first[1], 0) / seconds if seconds > 0 else 0.0
