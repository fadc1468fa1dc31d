"""`geotessera download --jobs`, and what it says while it works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from geotessera import cli
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

BOX = "--bbox=23.9,83.6,24.1,83.7"


def words(base: str, directory: Path, *more: str) -> list[str]:
    where = ["--base-url", base, "--cache-dir", str(directory / "cache")]
    return ["download", *where, "-o", str(directory / "out"), BOX, "--format", "npy", *more]


@pytest.mark.parametrize(("option", "variable", "most"), [("2", "7", 2), (None, "3", 3)])
def test_jobs_cap_the_connections(
    option: str | None,
    variable: str,
    most: int,
    tiny_world: SampleWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEOTESSERA_JOBS", variable)
    with LoopbackServer(tiny_world.root(), faults=[Fault("latency", seconds=0.05)]) as server:
        line = words(server.url, tmp_path, *([] if option is None else ["--jobs", option]))
        assert CliRunner().invoke(cli.app, line).exit_code == 0
        assert server.peak == most


@pytest.mark.parametrize("jobs", ["0", "300", "-1"])
def test_wrong_jobs_are_one_line(jobs: str, tiny_world: SampleWorld, tmp_path: Path) -> None:
    line = words(str(tiny_world.root()), tmp_path, f"--jobs={jobs}")
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 1
    assert "1 to 256" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("as_json", [True, False])
def test_slow_downloads_say_how_far_they_are(
    as_json: bool, tiny_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotessera.cli.output.QUIET_SECONDS", 0.1)
    size = sum(sum(one.sizes) for one in tiny_world.tiles)
    with LoopbackServer(tiny_world.root()) as server:
        server.add(Fault("bandwidth", "*.npy", rate=size / 2))
        line = words(server.url, tmp_path, *(["--json"] if as_json else []))
        result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 0
    if as_json:
        lines = [json.loads(each) for each in result.stderr.splitlines() if each[:1] == "{"]
        assert lines
        assert all(each["progress"] == "Downloading" for each in lines)
        assert all(0 <= each["done"] <= each["total"] for each in lines)
        assert json.loads(result.stdout)["downloaded"]["files"] == 6
    else:
        assert "/s, 0:0" in result.stderr
