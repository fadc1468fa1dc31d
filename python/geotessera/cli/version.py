"""`geotessera version`."""

from __future__ import annotations

from geotessera.cli.options import Json  # noqa: TC001 - typer reads it at run time
from geotessera.cli.output import Output

__all__ = ["installed_version", "version"]


def installed_version() -> str:
    """Return the version of the installed package, or ``unknown``."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as metadata_version

    try:
        return metadata_version("geotessera")
    except PackageNotFoundError:
        return "unknown"


def version(as_json: Json = False) -> None:
    """Print the version."""
    output = Output(as_json=as_json)
    output.say(installed_version())
    output.emit({"version": installed_version()})
