"""What the application does before and after its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geotessera import cli
from waiting import PATIENCE


@pytest.mark.parametrize(
    "words",
    [
        ["download", "--tile", "23.95,83.65", "-o", ""],
        ["download", "--tile", "23.95,83.65", "--output="],
        ["download", "--tile", "23.95,83.65", "-o", "out", "--cache-dir", ""],
        ["sample", "points.csv", "-o", ""],
        ["sample", "points.csv", "-o", "out.csv", "--tiles", ""],
        ["sample", "", "-o", "out.csv"],
        ["info", "--tiles", ""],
        ["verify", ""],
        ["demo", ""],
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, [*words, "--json"])
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "UsageError"
    assert "is empty: was a variable not set?" in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_dot_is_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["info", "--tiles", "."])
    assert "No tiles found in ." in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("step", ["1. Build", "3. Download"])
def test_a_demo_that_is_stopped_leaves_nothing(
    tmp_path: Path, name: str, code: int, step: str
) -> None:
    with subprocess.Popen(
        [Path(sys.executable).with_name("geotessera"), "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(step):
            assert process.poll() is None
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
