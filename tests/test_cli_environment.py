"""What a process is started with: closed or full streams, odd encodings, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from geotessera.testing import SampleWorld

SCRIPT = str(Path(sys.executable).with_name("geotessera"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams and signals of POSIX")


@pytest.fixture
def environment(tmp_path: Path, tiny_world: SampleWorld) -> dict[str, str]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GEOTESSERA_BASE_URL": str(tiny_world.root()),
    }


def shell(line: str, environment: dict[str, str], **more: str) -> tuple[int, str, str]:
    """Run a line of bash, in which ``$GT`` is the installed script."""
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        env={**environment, "GT": SCRIPT, **more},
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# --- Directories --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["info", "coverage", "download --tile 23.95,83.65 -f npy -o out", "serve ."],
)
def test_a_directory_that_is_gone_is_said_to_be(
    environment: dict[str, str], tmp_path: Path, line: str
) -> None:
    (tmp_path / "gone").mkdir()
    code, _, errors = shell(
        f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && $GT {line}", environment
    )
    assert code == 1
    assert "the current directory does not exist any more" in errors.splitlines()[-1]
    assert shell(f"cd {tmp_path} && $GT version", environment)[0] == 0


# --- Streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("line", ["$GT info --json", "$GT info", "$GT --help", "$GT --version"])
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_results_that_cannot_be_written_are_one_line_and_a_failure(
    environment: dict[str, str], line: str, where: str, unbuffered: dict[str, str]
) -> None:
    if where == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code, _, errors = shell(f"{line} {where}", environment, **unbuffered)
    assert code == 1
    found = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(found) == 1
    assert "could not be written to stdout" in found[0]
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_notes_that_cannot_be_written_fail_nothing(environment: dict[str, str]) -> None:
    for where in ("2>&-", "2>/dev/full"):
        code, output, errors = shell(f"$GT info --json {where}", environment)
        assert (code, errors) == (0, "")
        assert json.loads(output)["summary"]["tile_count"] == 2
        assert shell(f"$GT info --base-url /nonexistent {where}", environment)[0] == 1


def test_a_file_never_takes_the_place_of_a_closed_stream(
    environment: dict[str, str], tmp_path: Path, tiny_world: SampleWorld
) -> None:
    points, out = tmp_path / "points.csv", tmp_path / "out.csv"
    points.write_text("lon,lat\n23.95,83.65\n")
    wanted = shell(f"$GT sample {points} -o {out}", environment)[0], out.read_bytes()
    assert shell(f"$GT sample {points} -o {out} <&- >&- 2>&-", environment)[0] == 1
    assert (0, out.read_bytes()) == wanted


def test_a_reader_that_goes_away_is_no_error(environment: dict[str, str]) -> None:
    for reader in ("true", "head -1"):
        _, output, errors = shell(f"$GT info | {reader}; echo ${{PIPESTATUS[0]}}", environment)
        # A reader that is slow to leave may have taken everything.
        assert output.splitlines()[-1] in ("141", "0")
        assert "Error" not in errors
        assert "Traceback" not in errors
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run(
        [SCRIPT, "info"], stdout=end, stderr=subprocess.DEVNULL, env=environment, timeout=PATIENCE
    )
    os.close(end)
    assert done.returncode == 141


# --- Encodings ---------------------------------------------------------------------------

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "ascii"}, C_LOCALE])
def test_an_encoding_that_lacks_a_character_fails_nothing(
    environment: dict[str, str], tmp_path: Path, encoding: dict[str, str]
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("lon,lat\n23.95,83.65\n")
    line = f"$GT sample {points} -o {tmp_path / 'out.csv'}"
    code, output, errors = shell(line, environment, **encoding)
    assert code == 0, errors
    assert "SUCCESS: 1 rows" in output
    assert shell("$GT sample --help", environment, **encoding)[0] == 0


def test_names_are_kept_where_the_locale_has_no_encoding(
    environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "sp ace 日本" / "ü"
    line = f"$GT download --tile 23.95,83.65 --bands 0 -o '{directory}'"
    code, output, errors = shell(line, environment, **C_LOCALE)
    assert code == 0, errors
    assert str(directory) in output
    assert len(list(directory.rglob("*_2024.tiff"))) == 1
    assert [path.name for path in tmp_path.iterdir() if "sp" in path.name] == ["sp ace 日本"]


# --- Signals -----------------------------------------------------------------------------


def stop(
    words: list[str],
    number: int,
    environment: dict[str, str],
    server: LoopbackServer,
    met: Callable[[], object] = lambda: True,
    **more: Any,
) -> tuple[int, str, str]:
    """Send a signal to a command once the server was asked for a tile, and something is met."""
    process = subprocess.Popen(
        [SCRIPT, *words, "--base-url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **more,
    )
    until(lambda: server.count("*.npy") and met(), lambda: process.poll() is None)
    time.sleep(0.2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.parametrize("command", ["sample", "download"])
def test_a_signal_leaves_nothing_behind(
    environment: dict[str, str],
    tmp_path: Path,
    tiny_world: SampleWorld,
    command: str,
    name: str,
    code: int,
) -> None:
    points, out = tmp_path / "points.csv", tmp_path / "out"
    points.write_text("lon,lat\n23.95,83.65\n24.05,83.65\n")
    words = {
        "sample": ["sample", str(points), "-o", str(out / "out.csv"), "--json"],
        "download": ["download", "--bbox", "23,83,25,84", "-o", str(out), "--json"],
    }
    met: dict[str, Callable[[], object]] = {
        "sample": lambda: True,
        "download": lambda: any(out.rglob("grid_23.95_83.65.npy")),  # the other one stalls
    }
    slow = Fault("stall", path="*grid_24.05*.npy", seconds=600)
    with LoopbackServer(tiny_world.root(), faults=[slow]) as server:
        found = stop(words[command], getattr(signal, name), environment, server, met[command])
    assert found[0] == code
    assert "error" in json.loads(found[1])
    assert "Traceback" not in found[2]
    assert "finished files are kept" in found[2]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path for path in out.rglob("*") if "_tmp_" in path.name] == []


def test_a_command_outlives_its_terminal_if_told_so(
    environment: dict[str, str], tmp_path: Path, tiny_world: SampleWorld
) -> None:
    slow = Fault("stall", path="*.npy", seconds=1, times=1)
    words = ["download", "--tile", "23.95,83.65", "--format", "npy", "-o", str(tmp_path / "out")]
    with LoopbackServer(tiny_world.root(), faults=[slow]) as server:
        found = stop(
            words,
            signal.SIGHUP,
            environment,
            server,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
    assert found[0] == 0
