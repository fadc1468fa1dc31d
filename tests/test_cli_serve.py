"""`geotessera serve`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from geotessera import cli, serving
from waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["serve", *words])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "map ü"
    root.mkdir()
    (root / "viewer.html").write_text("the map")
    (root / "other page.html").write_text("another")
    return root


class Process:
    """The command as its users start it."""

    def __init__(self, *words: str) -> None:
        line = [sys.executable, "-c", "from geotessera.cli import main; main()", "serve", *words]
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self.process.stdout is not None
        self.first, self.second = (self.process.stdout.readline() for _ in range(2))

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err


def test_a_map_is_served_until_ctrl_c(directory: Path) -> None:
    served = Process(str(directory), "--port", "0", "--no-open")
    found = re.search(r"http://localhost:\d+/viewer\.html", served.first)
    assert found is not None
    with urllib.request.urlopen(found[0]) as answer:
        assert answer.read() == b"the map"
    assert str(directory.resolve()) in served.second
    code, err = served.stop()
    assert code == 0
    assert "Stopped" in err
    assert "Warning" not in err
    assert "Traceback" not in err


def test_it_ends_with_open_connections(directory: Path) -> None:
    served = Process(str(directory), "-p", "0", "--no-open")
    port = int(re.findall(r":(\d+)/", served.first)[0])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(100)
        code, _ = served.stop(signal.SIGTERM)  # before the other side closes
    assert code == 143


def test_an_occupied_port(directory: Path) -> None:
    with serving.bind(port=0) as other:
        result = run(str(directory), "--no-open", "--port", str(other.port))
        assert result.exit_code == 2
        assert "Cannot bind web server" in result.stderr
        document = run(str(directory), "--no-open", "--json", "--port", str(other.port))
        assert document.exit_code == 2
        assert "Cannot bind web server" in json.loads(document.stdout)["error"]["message"]


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none(directory: Path, port: str) -> None:
    assert run(str(directory), "--no-open", "--port", port).exit_code == 2


def test_a_directory_that_is_none(directory: Path) -> None:
    for path in (directory / "none", directory / "viewer.html"):
        result = run(str(path), "--no-open", "--port", "0")
        assert result.exit_code == 1
        assert "no directory" in result.stderr
    assert run().exit_code == 2


def test_a_page_that_is_none(directory: Path) -> None:
    for page in ("none.html", "../x.html"):
        assert run(str(directory), "--no-open", "--port", "0", "--html", page).exit_code == 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the server return at once; return what was opened in a browser."""
    urls: list[str] = []
    monkeypatch.setattr(serving.Server, "serve", lambda *_: time.sleep(0.1))
    monkeypatch.setattr(webbrowser, "open", urls.append)
    monkeypatch.setenv("DISPLAY", ":0")
    return urls


def test_the_page_is_opened(directory: Path, opened: list[str]) -> None:
    result = run(str(directory), "--port", "0", "--html", "other page.html", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert opened == [document["url"]]
    assert document["url"] == f"http://localhost:{document['port']}/other%20page.html"
    assert document["directory"] == str(directory.resolve())


def test_nothing_is_opened_unasked(directory: Path, opened: list[str]) -> None:
    assert run(str(directory), "--port", "0", "--no-open").exit_code == 0
    assert opened == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others always have a screen")
def test_a_browser_in_the_terminal_is_not_opened(
    directory: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    result = run(str(directory), "--port", "0")
    assert result.exit_code == 0
    assert "open the address by hand" in result.stderr
    assert opened == []


def test_who_opens_it_to_others_is_told(directory: Path, opened: list[str]) -> None:
    result = run(str(directory), "--port", "0", "--no-open", "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "Warning" in result.stderr
    assert "without a password" in result.stderr


def test_an_interrupt_is_no_failure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving.Server, "serve", interrupt)
    result = run(str(directory), "--port", "0", "--no-open")
    assert result.exit_code == 0
    assert "Stopped" in result.stderr


def test_help_loads_no_server() -> None:
    code = (
        "import sys; from geotessera import cli\n"
        "sys.exit('http.server' in sys.modules or 'numpy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
