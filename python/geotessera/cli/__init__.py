"""The `geotessera` command: parse, call, print.

Results go to stdout, everything else to stderr; ``--json`` makes stdout one JSON
document, for errors too. Exit codes: 0 done, 1 not (wholly) done, 2 wrong usage,
and as shells have them 129, 130 and 143 hung up, interrupted and terminated, 141 if
the reader of stdout went away.
"""

from __future__ import annotations

import os
import sys
from codecs import lookup
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cli.app import app
from geotessera.cli.errors import INTERRUPTED
from geotessera.cli.signals import Terminated, ignore_signals, unwind_on_signals
from geotessera.cli.streams import prepare

if TYPE_CHECKING:
    from geotessera.core import GeoTessera

__all__ = ["GeoTessera", "app", "main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    _use_utf8()
    prepare()
    unwind_on_signals()
    try:
        app(prog_name="geotessera")
    except (KeyboardInterrupt, Terminated) as stop:  # before or after the command itself
        sys.exit(getattr(stop, "exit_code", INTERRUPTED))
    finally:
        ignore_signals()


def _use_utf8() -> None:
    """Start again in UTF-8 mode where file names are in another encoding.

    The libraries beneath (GDAL, Arrow) take names as UTF-8, whatever the locale says.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    if len(sys.orig_argv) < 2 or Path(sys.orig_argv[1]).name != "geotessera":
        return  # not the installed script: whoever called us goes on after this
    if sys.stdout is not None and lookup(sys.stdout.encoding).name != "ascii":
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def __getattr__(name: str) -> Any:
    # Imported when a command needs it: `geotessera --help` loads no NumPy.
    if name == "GeoTessera":
        from geotessera.core import GeoTessera

        return GeoTessera
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
