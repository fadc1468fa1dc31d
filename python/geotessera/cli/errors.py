"""Errors of the command line: which exit code, and one clear line."""

from __future__ import annotations

import errno
from pathlib import Path

from geotessera.errors import GeoTesseraError, InputError

__all__ = ["INTERRUPTED", "PROBLEMS", "USAGE", "UsageError", "describe", "exit_code", "kind"]

PROBLEMS = 1
"""Exit code of work that could not be done, or not wholly."""

USAGE = 2
"""Exit code of an option that does not exist, or of options that do not go together."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class UsageError(InputError):
    """Options that do not go together, or that this version does not have."""


def _is_parser_error(error: BaseException) -> bool:
    # The parser is click, which typer brings along under one name or another.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, UsageError):
        return USAGE
    if _is_parser_error(error):
        return int(error.exit_code)  # type: ignore[attr-defined]
    return PROBLEMS


def kind(error: BaseException) -> str:
    """Return the name of an error's kind, as JSON results carry it."""
    return "UsageError" if _is_parser_error(error) else type(error).__name__


def describe(error: BaseException) -> str:
    """Return an error in one line, whatever its class writes."""
    if _is_parser_error(error):
        text = _parser_message(error)
    elif isinstance(error, OSError) and error.errno == errno.ENOENT and not _is_somewhere():
        text = "the current directory does not exist any more: change to another one"
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error}".rstrip(": ")
    elif isinstance(error, GeoTesseraError | OSError | ValueError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (--verbose shows where)"
    return " ".join(text.split()) or type(error).__name__


def _is_somewhere() -> bool:
    """Return whether the process's directory still exists: every relative path needs it."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _parser_message(error: BaseException) -> str:
    message = str(error.format_message())  # type: ignore[attr-defined]
    # Of a value that pydantic refused the parser names all but the value.
    refused = getattr(error.__cause__, "errors", None)
    for one in refused() if refused is not None else ():
        why = one["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
        reworded = why.replace("Input ", f"{one['input']!r} ", 1)
        message = message.replace(one["msg"], reworded)
    message = message.strip().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "geotessera"
    return f"{message} (see: {command} --help)"
