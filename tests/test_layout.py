"""Scans of directories of tiles: what counts as a file."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from geotessera import cli
from geotessera.layout import scan_geotiffs, scan_npy
from geotessera.verify import verify_directory

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld


@pytest.fixture
def with_pipes(tiny_world: SampleWorld, tmp_path: Path) -> Path:
    """Two whole tiles, and pipes with the names of others; an open would never return."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    root = tiny_world.checkout(tmp_path / "tiles")
    folder = root / "global_0.1_degree_representation/2024/grid_0.05_50.05"
    folder.mkdir(parents=True)
    for name in ("grid_0.05_50.05.npy", "grid_0.05_50.05_2024.tiff"):
        os.mkfifo(folder / name)
    return root


def test_pipes_are_no_tiles(with_pipes: Path) -> None:
    found = list(scan_npy(with_pipes))
    assert sorted(path.name for path in found) == ["grid_23.95_83.65.npy", "grid_24.05_83.65.npy"]
    assert list(scan_geotiffs(with_pipes)) == []
    link = with_pipes / "link.tiff"
    shutil.copy(next(with_pipes.rglob("*_all/*.tiff")), with_pipes / "one.tif")
    link.symlink_to("one.tif")
    assert [path.name for path in scan_geotiffs(with_pipes)] == ["link.tiff", "one.tif"]


def test_info_and_verify_do_not_wait_for_pipes(with_pipes: Path) -> None:
    done = CliRunner().invoke(cli.app, ["info", "--tiles", str(with_pipes)])
    assert done.exit_code == 0
    assert "grid_0.05" not in done.output
    problems = verify_directory(with_pipes).problems
    pipes = [one for one in problems if "not a regular file" in one.detail]
    assert sorted(one.path.rpartition("/")[2] for one in pipes) == [
        "grid_0.05_50.05.npy",
        "grid_0.05_50.05_2024.tiff",
    ]
    assert {one.problem for one in pipes} == {"unreadable"}
