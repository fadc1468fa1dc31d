"""Every line of code in the README runs: Python, shell and `make` targets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geotessera.testing import SampleWorld
from geotessera.testing.stores import SampleStore

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = [(0.15, 52.05), (0.15, 52.15), (0.15, 52.25)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's places with a depth that keeps the test small."""
    directory = tmp_path_factory.mktemp("readme")
    world = SampleWorld.build(directory, tiles=[(2024, *place) for place in PLACES], bands=4)
    SampleStore.from_world(world, kind="dclimate", shard=512)
    return world.root()


@pytest.fixture
def home(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with the user's points and a mirror to read from."""
    (tmp_path / "fields.csv").write_text("name,lon,lat\na,0.15,52.05\nb,0.17,52.23\n")
    (tmp_path / "mirror").symlink_to(mirror)
    monkeypatch.setenv("GEOTESSERA_BASE_URL", str(mirror))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_the_python_quick_starts_run(home: Path) -> None:
    scripts = blocks("python")
    assert len(scripts) == 2
    written = []
    for script in scripts:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        written.append(done.stdout)
    assert written[0].count("2024 0.15") == len(PLACES)
    assert len(list((home / "tessera").rglob("*.tiff"))) == len(PLACES)


def test_the_shell_quick_start_runs(home: Path) -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line]
    assert len(commands) == 11
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command], cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (home / "samples.parquet").is_file()
    assert len(list((home / "geotiffs").rglob("*_2024.tiff"))) == 1
    assert [path.name for path in home.glob("zones/*.tif")] == ["tessera_2024_utm31.tif"]
    assert {path.name for path in home.glob("mosaic*")} == {"mosaic.tif", "mosaic_scales.tif"}
    for made in ("picture.tif", "map/viewer.html", "map/tiles.json", "coverage.png", "globe.html"):
        assert (home / made).is_file(), made


def test_the_targets_exist() -> None:
    assert shutil.which("make"), "the README's commands need make"
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make demo" in "".join(blocks("console"))
    for target in ("demo", "test", "lint", "bench", "build", "format", "clean"):
        assert f"make {target}" in listed
    for target in re.findall(r"`(lint|bench|build|format|clean)`", README):
        assert f"make {target}" in listed


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
