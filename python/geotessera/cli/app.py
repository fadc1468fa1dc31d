"""The application: its commands, and one place where errors become a line and a code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from geotessera.cli import (
    bench,
    coverage,
    demo,
    download,
    info,
    mosaic,
    sample,
    serve,
    verify,
    version,
    visualize,
    webmap,
)
from geotessera.cli.errors import INTERRUPTED, USAGE, UsageError, describe, exit_code, kind
from geotessera.cli.output import StderrHandler, write_json, write_note
from geotessera.cli.signals import Terminated
from geotessera.cli.streams import StreamError, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["app"]


def _plain(params: list[Any]) -> list[Any]:
    """Leave ``<bool>`` out of the help: a switch takes no value."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Group(TyperGroup):
    """Runs a command; what it raises becomes one line, or one JSON document."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, as the help shows them."""
        return _plain(super().get_params(ctx))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse, run and leave with the exit code."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return run(**extra)
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = _run(partial(run, **extra), words)
            finish()
        except StreamError as error:
            code = error.exit_code
            if not error.gone:
                write_note(f"Error: {error}")
        sys.exit(code)


_PATHS = (
    "--output", "-o", "--tiles", "--geotiffs", "--cache-dir", "--registry-dir", "--embeddings-dir",
    "--like",
)  # fmt: skip


class _Command(TyperCommand):
    """Refuses an empty path, which would be the current directory."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments, as the help shows them."""
        return _plain(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, its paragraphs as wide as the terminal is."""
        paragraphs = (self.help or "").split("\n\n")
        self.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
        super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: optional ones alone are in brackets."""
        return [
            piece.removesuffix("...").strip("{}") if piece.startswith("{") else piece
            for piece in super().collect_usage_pieces(ctx)
        ]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at the words as they were written, and parse them."""
        for before, word in pairwise(["", *args]):
            option, equals, value = word.partition("=") if word else (before, "=", "")
            # What follows no option is an argument: a path, too.
            is_path = option in _PATHS or (not word and not option.startswith("-"))
            if is_path and equals and not value:
                name = option if option in _PATHS else "a path"
                raise UsageError(f"{name} is empty: was a variable not set?")
        return super().parse_args(ctx, args)


def _run(run: Callable[[], object], words: Sequence[str]) -> int:
    """Run a command and report what it raises; return the exit code."""
    try:
        with _messages():
            code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Terminated as stop:
        _stopped("Terminated", str(stop), words)
        return stop.exit_code
    except StreamError:
        raise
    except Exception as error:  # noqa: BLE001 - the last stop of every error
        return _report(error, words)
    if code == INTERRUPTED:
        _stopped("KeyboardInterrupt", "interrupted", words)
    return code if isinstance(code, int) else 0


def _stopped(name: str, message: str, words: Sequence[str]) -> None:
    text = message[0].upper() + message[1:]
    write_note(f"{text}; finished files are kept, and a rerun continues from them.")
    if _asked("--json", "--json", words):
        write_json({"error": {"type": name, "message": message}})


def _asked(short: str, long: str, words: Sequence[str]) -> bool:
    """Return whether an option is on the line; parsing may have failed, so look at the words."""
    options = words[: words.index("--")] if "--" in words else words
    return short in options or long in options


def _report(error: Exception, words: Sequence[str]) -> int:
    if _asked("-v", "--verbose", words):
        sys.stderr.write("".join(traceback.format_exception(error)))
    if _asked("--json", "--json", words):
        write_json({"error": {"type": kind(error), "message": describe(error)}})
    else:
        write_note(f"Error: {describe(error)}")
    return exit_code(error)


@contextmanager
def _messages() -> Iterator[None]:
    """Send the package's log records and Python's warnings to stderr as plain lines."""
    logger = logging.getLogger("geotessera")
    handler, level, propagate = StderrHandler(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    shown = warnings.showwarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        write_note(f"Warning: {message}")

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(version.installed_version() + "\n")
        raise typer.Exit


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="TESSERA satellite embeddings: find, download, verify, sample and export them.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    via_gateway: Annotated[
        bool,
        typer.Option("--via-gateway", help="Read Zarr stores through the public gateway."),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if via_gateway:
        os.environ["GEOTESSERA_VIA_GATEWAY"] = "1"
    if context.invoked_subcommand is None:
        with redirect_stdout(sys.stderr):  # the help may print itself
            sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(USAGE)


app.command(cls=_Command)(info.info)
app.command(cls=_Command)(coverage.coverage)
app.command(cls=_Command)(download.download)
app.command(cls=_Command)(mosaic.mosaic)
app.command(cls=_Command)(sample.sample)
app.command(cls=_Command)(serve.serve)
app.command(cls=_Command)(verify.verify)
app.command(cls=_Command)(visualize.visualize)
app.command(cls=_Command)(webmap.webmap)
app.command(cls=_Command)(bench.bench)
app.command(cls=_Command)(demo.demo)
app.command(cls=_Command)(version.version)
