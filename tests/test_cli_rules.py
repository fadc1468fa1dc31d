"""What all commands have in common: exit codes, one clear line, one JSON document, a fast start."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from geotessera import cli
from geotessera.cli.output import format_bytes, to_json
from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from geotessera.testing import SampleWorld

SCRIPT = Path(sys.executable).with_name("geotessera")
COMMANDS = [
    "info", "coverage", "download", "mosaic", "sample", "serve", "verify", "visualize", "webmap",
    "bench", "demo", "version",
]  # fmt: skip


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed script, as a user does."""
    return subprocess.run(
        [SCRIPT, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "TERM": "dumb", **environment},
        check=False,
    )


def test_version_is_the_bare_string() -> None:
    from importlib.metadata import version

    for words in (["version"], ["--version"], ["--via-gateway", "version"]):
        done = run(*words)
        assert (done.returncode, done.stdout.strip()) == (0, version("geotessera"))
        assert done.stderr == ""


@pytest.mark.parametrize("words", [["version"], ["--help"], ["download", "--help"]])
def test_a_quick_answer_loads_no_heavy_library(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['geotessera', *{words!r}]\n"
        "from geotessera.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'rasterio', 'pyarrow', 'pyproj', 'requests', 'shapely'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output


def test_without_a_command_the_help_goes_to_stderr_and_the_code_is_2() -> None:
    result = CliRunner().invoke(cli.app, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "download" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["verson"],
        ["version", "--nonsense"],
        ["version", "--via-gateway"],
        ["download", "--year", "soon"],
        ["sample"],
        ["sample", "points.csv"],
        ["sample", "points.csv", "-o", "out.xlsx"],
        ["sample", "points.csv", "-o", "out.csv", "--method", "cubic"],
        ["sample", "points.csv", "-o", "out.csv", "--errors", "ignore"],
        ["serve"],
        ["serve", ".", "--port", "65536"],
        ["serve", ".", "--host", ""],
        ["verify"],
        ["download", "--source", "ftp"],
        ["download", "--source", "zarr", "--format", "npy"],
        ["download", "--source", "zarr", "--registry-dir", "."],
        ["download", "--source", "tiles", "--store-url", "https://example.org/store"],
        ["download", "--format", "npy", "--depth", "16"],
        ["download", "--registry-dir", ".", "--depth", "16"],
        ["download", "--source", "tiles", "--cache-size", "1GB"],
    ],
)
def test_wrong_usage_is_code_2_in_one_line(words: list[str]) -> None:
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    as_json = CliRunner().invoke(cli.app, [*words, "--json"])
    assert as_json.exit_code == 2
    error = json.loads(as_json.stdout)["error"]
    assert error["type"] == "UsageError"
    assert error["message"] in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", ".", "--port", "80a"], "'80a' should be a valid integer"),
        (["sample", "p.csv", "-o", "o.csv", "--year", "20x4"], "'20x4' should be a valid integer"),
        (["coverage", "--tile-alpha", "1.5"], "'1.5' should be less than or equal to 1"),
        (["visualize", "p.tif", "--balance", "b"], "'b' is not one of 'histogram', 'percentile'"),
    ],
)
def test_a_value_that_is_refused_is_named(words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 2
    assert f": {message}" in result.stderr
    assert words[-2] in result.stderr


def test_options_of_stores_say_what_they_need() -> None:
    for words in (["--store-url", "x"], ["--depth", "16"], ["--cache-size", "1GB"]):
        line = ["download", "--bbox", "0,0,1,1", "--source", "tiles", *words]
        result = CliRunner().invoke(cli.app, line)
        assert f"{words[0]} belongs to Zarr stores" in result.stderr
        assert result.exit_code == 2


def test_via_gateway_sets_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOTESSERA_VIA_GATEWAY", raising=False)
    monkeypatch.setenv("GEOTESSERA_VIA_GATEWAY", "0")
    assert CliRunner().invoke(cli.app, ["--via-gateway", "version"]).exit_code == 0
    assert os.environ["GEOTESSERA_VIA_GATEWAY"] == "1"


def test_an_unexpected_error_is_one_line_and_a_traceback_with_verbose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(cli, "GeoTessera", broken, raising=False)
    words = ["download", "-o", str(tmp_path), "--tile", "0,0", "--source", "tiles"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: RuntimeError: first line second line")
    assert "Traceback" not in result.output
    verbose = CliRunner().invoke(cli.app, [*words, "--verbose"])
    assert verbose.exit_code == 1
    assert "Traceback" in verbose.stderr
    as_json = CliRunner().invoke(cli.app, [*words, "--json"])
    assert json.loads(as_json.stdout)["error"]["type"] == "RuntimeError"


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=30), option=st.sampled_from(["--bbox", "--tile", "--bands"]))
def test_hostile_selectors_end_in_one_line(text: str, option: str) -> None:
    # No registry is at this place, so that even a good selector ends there.
    words = ["download", "--dry-run", f"{option}={text}", "--base-url", "/nonexistent"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_json_has_no_nan_and_no_foreign_types() -> None:
    import numpy as np

    document = to_json(
        {
            "path": Path("a/b"),
            "nan": float("nan"),
            "inf": np.float32(np.inf),
            "array": np.arange(3),
            2024: (np.int64(7), True, None, {"x"}),
        }
    )
    assert document == {
        "path": "a/b",
        "nan": None,
        "inf": None,
        "array": [0, 1, 2],
        "2024": [7, True, None, ["x"]],
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 B"),
        (1023, "1023.0 B"),
        (1536, "1.5 KB"),
        (3 << 30, "3.0 GB"),
        (5 << 50, "5120.0 TB"),
    ],
)
def test_sizes_are_binary_with_one_decimal(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_interrupt_is_a_short_notice_and_code_130(tiny_world: SampleWorld, tmp_path: Path) -> None:
    slow = Fault("stall", path="*.npy", seconds=600)
    with LoopbackServer(tiny_world.root(), faults=[slow]) as server:
        process = subprocess.Popen(
            [
                SCRIPT,
                *("download", "--format", "npy", "--bbox", "23,83,25,84"),
                *("-o", tmp_path / "out", "--cache-dir", tmp_path / "cache"),
                *("--base-url", server.url),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: server.count("*.npy"), lambda: process.poll() is None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    # Nothing unfinished is left, under any name.
    assert list((tmp_path / "out").rglob("*.npy*")) == []


def test_a_closed_pipe_ends_quietly() -> None:
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run(
        [SCRIPT, "info", "--offline"], stdout=end, stderr=subprocess.PIPE, timeout=PATIENCE
    )
    os.close(end)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_on_a_terminal_there_are_bars_and_tables_unless_it_is_dumb(
    tiny_world: SampleWorld, tmp_path: Path, term: str
) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    # Slow enough that progress is worth showing.
    with LoopbackServer(tiny_world.root(), bandwidth=5e5) as server:
        process = subprocess.Popen(
            [
                SCRIPT,
                *("download", "--format", "npy", "--bbox", "23,83,25,84"),
                *("-o", tmp_path / "out", "--cache-dir", tmp_path / "cache"),
                *("--base-url", server.url),
            ],
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": term, "COLUMNS": "100"},
        )
        os.close(slave)
        shown = bytearray()
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not chunk:
                break
            shown += chunk
        os.close(master)
    assert process.wait(timeout=PATIENCE) == 0
    text = shown.decode()
    assert "SUCCESS: 2 tiles" in text
    assert "Downloading" in text
    assert ("\x1b[" in text) == (term != "dumb")
    assert ("━" in text) == (term != "dumb")
    if term != "dumb":  # rate and time left
        assert re.search(r"[1-9][\d.]* [kM]B/s", text)
        assert re.search(r"\d:\d\d:\d\d", text)


@pytest.mark.parametrize(("columns", "boxed"), [("200", True), ("40", False)])
def test_a_table_that_does_not_fit_has_no_box_and_whole_names(
    monkeypatch: pytest.MonkeyPatch, columns: str, boxed: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    place = "s3://bucket/a-name-that-is-longer-than-the-terminal"
    cli.output.Output().table(("Dataset", "Store"), [("v1", place)], title="Stores")
    text = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert place in text
    assert ("┃" in text) == boxed


def test_one_long_step_without_news_is_shown_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geotessera.cli import output

    monkeypatch.setattr(output, "QUIET_SECONDS", 0.02)
    with output.Output().progress("Exporting") as progress:
        progress(0, 3, "grid_0.15_52.05")
        shown: list[str] = []
        until(lambda: shown.append(capsys.readouterr().err) or shown[-1])
    assert shown[-1] == "Exporting: 0 of 3, grid_0.15_52.05\n"


def test_short_work_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    from geotessera.cli.output import Output

    with Output().progress("Verifying", unit="bytes") as progress:
        progress(0, 100, "")
        progress(100, 100, "")
    assert capsys.readouterr().err == ""
