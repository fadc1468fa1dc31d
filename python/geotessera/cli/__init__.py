"""The `geotessera` command: parse, call, print.

Results go to stdout, everything else to stderr; ``--json`` makes stdout one JSON
document, for errors too. Exit codes: 0 done, 1 not (wholly) done, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from geotessera.cli.app import app

if TYPE_CHECKING:
    from geotessera.core import GeoTessera

__all__ = ["GeoTessera", "app", "main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    app(prog_name="geotessera")
    sys.exit(0)


def __getattr__(name: str) -> Any:
    # Imported when a command needs it: `geotessera --help` loads no NumPy.
    if name == "GeoTessera":
        from geotessera.core import GeoTessera

        return GeoTessera
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
