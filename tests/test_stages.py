"""Markers of finished stages."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from geotessera.stages import file_identity, read_stage, save_stage, stage_matches

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_told_from_another(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.tif"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    assert file_identity(path) == [str(path.resolve()), 5, 1_700_000_000_123_456_789]
    assert file_identity(path, tmp_path)[0] == "a/x.tif"
    assert file_identity(path, path.parent)[0] == "x.tif"
    assert file_identity(path, tmp_path / "b")[0] == "../a/x.tif"
    with pytest.raises(FileNotFoundError):
        file_identity(tmp_path / "none")


def test_a_moved_directory_is_known(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x").write_text("x")
    before = file_identity(tmp_path / "one" / "x", tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert file_identity(tmp_path / "two" / "x", tmp_path / "two") == before


def test_a_stage_matches_what_was_saved(tmp_path: Path) -> None:
    marker = tmp_path / "new" / "stage.json"
    state = {"a": 1, "b": [1, 2], "c": {"d": None}}
    assert not stage_matches(marker, state)
    save_stage(marker, state)
    assert json.loads(marker.read_text()) == state
    assert read_stage(marker) == state
    assert stage_matches(marker, {**state, "b": (1, 2)})
    assert not stage_matches(marker, {"a": 1})
    assert not stage_matches(marker, {**state, "e": 1})


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_damaged_marker_matches_nothing(tmp_path: Path, damaged: bytes) -> None:
    marker = tmp_path / "stage.json"
    marker.write_bytes(damaged)
    assert read_stage(marker) is None
    assert not stage_matches(marker, {})
