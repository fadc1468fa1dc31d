"""`geotessera serve`: a map directory over HTTP, for this machine."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from geotessera.cli.errors import UsageError
from geotessera.cli.options import Json, Verbose  # noqa: TC001 - typer reads them at run time
from geotessera.cli.output import Output
from geotessera.errors import InputError

if TYPE_CHECKING:
    from geotessera.serving import Server

__all__ = ["bind_port", "open_browser", "run_server", "serve"]


def serve(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="What to serve, such as a web map.")
    ],
    port: Annotated[
        int, typer.Option("--port", "-p", help="Port; an occupied one is an error.")
    ] = 8000,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Page to open, relative to DIRECTORY. Default: the first of index.html, "
            "viewer.html, map.html and coverage.html, else the list of files.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Whom to answer: this machine alone, or with 0.0.0.0 everybody on its networks.",
        ),
    ] = "127.0.0.1",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Serve a directory over HTTP until Ctrl-C: maps, pictures, GeoTIFFs, PMTiles.

    Only this machine is answered, unless --host says otherwise. Files can be read in parts, as
    viewers of large rasters do. Hidden files, and links that lead out of the directory, are
    not served.
    """
    from geotessera.serving import find_page

    output = Output(as_json=as_json, verbose=verbose)
    if not directory.is_dir():
        raise InputError(f"there is no directory {directory} to serve")
    page = find_page(directory, html)
    with bind_port(port, host) as server:
        run_server(output, server, directory, page, open_page=open_page)


def bind_port(port: int, host: str = "127.0.0.1") -> Server:
    """Take a port; an occupied one is an error of usage (exit code 2)."""
    from geotessera.serving import BindError, bind

    if not host:  # which would be all networks
        raise UsageError("--host is empty: was a variable not set?")
    try:
        return bind(port, host)
    except (BindError, InputError) as error:
        raise UsageError(str(error)) from error


def run_server(
    output: Output, server: Server, directory: Path, page: str, *, open_page: bool
) -> None:
    """Say where it is, open it, and serve until Ctrl-C."""
    url = server.url + page
    output.say(f"Web server running at: {url}")
    output.say(f"Serving directory: {directory.resolve()}")
    if not server.is_local:
        output.note(
            f"Warning: {server.host} lets every machine that can reach this one read these "
            "files, without a password"
        )
    output.note("Ctrl-C stops it")
    output.emit({"url": url, "directory": directory.resolve(), "port": server.port})
    sys.stdout.flush()
    if open_page:
        open_browser(output, url)
    try:
        server.serve(directory)
    except KeyboardInterrupt:
        output.note("Stopped")


def open_browser(output: Output, url: str) -> None:
    """Open a page in the user's browser, if there is a screen to show it on."""
    import webbrowser

    if sys.platform.startswith("linux") and not any(
        os.environ.get(name)
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME")
    ):
        # A browser that runs in the terminal would take it away from this command.
        output.note("There is no screen to open a browser on: open the address by hand")
        return
    # Some browsers return only when they are closed.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
