"""What `--help` shows, and whether the commands of the documentation exist."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from geotessera import cli

ROOT = Path(__file__).parent.parent
GROUP: Any = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = dict(GROUP.commands)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown(*words: str, columns: int = 300) -> str:
    """Return the help as it is printed, without colours and boxes."""
    result = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", result.output)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_word_of_every_option_is_shown(name: str) -> None:
    """Words in brackets would be taken for markup, and vanish."""
    command = COMMANDS[name] if name else GROUP
    text = squeezed(shown(*filter(None, [name])))
    for param in command.params:
        if param.hidden:
            continue
        assert param.help, param.name
        assert squeezed(param.help) in text
        if isinstance(param.show_default, str):
            assert squeezed(f"[default: ({param.show_default})]") in text
    assert squeezed(command.help) in text


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_a_switch_has_no_type(name: str) -> None:
    assert "bool" not in shown(*filter(None, [name]))


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("serve", "serve [OPTIONS] DIRECTORY"),
        ("demo", "demo [OPTIONS] [DIR]"),
        ("webmap", "webmap [OPTIONS] [RGB_MOSAIC]"),
        ("visualize", "visualize [OPTIONS] [INPUT_PATH] OUTPUT_FILE"),
    ],
)
def test_usage_has_brackets_round_what_may_be_left_out(name: str, usage: str) -> None:
    (line,) = (line for line in shown(name).splitlines() if "Usage:" in line)
    assert line.strip().endswith(usage)


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_paragraphs_fill_the_terminal(name: str, columns: int) -> None:
    text = shown(name, columns=columns).partition("Usage:")[2]
    paragraphs = re.split(r"\n\s*\n", re.split(r"\n\s*(?:Options|Arguments) ?\n", text)[0])[1:]
    assert paragraphs
    for paragraph in paragraphs:
        lines = [line.strip() for line in paragraph.strip("\n").splitlines()]
        assert max(map(len, lines)) <= columns
        for line, following in pairwise(lines):
            # A space at each side of the line, and one before the next word.
            assert len(line) + 1 + len(following.split()[0]) > columns - 2


# --- The documentation ---------------------------------------------------------------------


def commands_in(text: str) -> list[list[str]]:
    """Return the words of all command lines in fences and in backticks."""
    fences = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
    found = []
    for line in lines:
        words = re.search(r"(?:^|[ $])(geotessera (?!-m)[a-z][^;|]*)", line)
        if words:
            found.append(shlex.split(words[1], comments=True))
    return found


def test_commands_are_found() -> None:
    fence = "A=1 geotessera info  # all\n$ geotessera a; b\ngeotessera c \\\n -o d"
    text = f"A `geotessera\nserve x --port 1`.\n```sh\n{fence}\n```"
    assert commands_in(text) == [
        ["geotessera", "info"],
        ["geotessera", "a"],
        ["geotessera", "c", "-o", "d"],
        ["geotessera", "serve", "x", "--port", "1"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_options_of_documented_commands_exist(page: Path) -> None:
    commands = commands_in(page.read_text(encoding="utf-8"))
    assert commands
    for _, name, *words in commands:
        assert name in COMMANDS, name
        params = COMMANDS[name].params
        known = {
            "--help",
            *(one for param in params for one in (*param.opts, *param.secondary_opts)),
        }
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known, (name, given - known)
