"""Temporary files: names, modes, clean-up."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from geotessera.errors import UnwritableDestination
from geotessera.remote.partfile import PartFile, atomic_path, check_writable, is_temporary_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b" / "grid_0.15_52.25.npy"


def test_file_appears_only_when_it_is_whole(target: Path) -> None:
    with atomic_path(target) as path:
        assert path.parent == target.parent
        assert path.name.startswith(".grid_0.15_52.25.npy_tmp_")
        path.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_keeps_the_old_file(error: type[BaseException], target: Path) -> None:
    with atomic_path(target) as path:
        path.write_bytes(b"old")

    def fail() -> None:
        with atomic_path(target, suffix=".tif") as path:
            assert path.suffix == ".tif"
            path.write_bytes(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_directories_of_a_failure_are_taken_back(target: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="no"), atomic_path(target):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    assert list((tmp_path / "a").iterdir()) == []


def test_writer_may_replace_or_delete_the_temporary_file(target: Path) -> None:
    with atomic_path(target) as path:
        path.unlink()
        path.write_bytes(b"by another library")
    assert target.read_bytes() == b"by another library"
    with pytest.raises(UnwritableDestination), atomic_path(target) as path:
        path.unlink()
    assert target.read_bytes() == b"by another library"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_umask_is_honoured(umask: int, mode: int, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    target.chmod(0o400)  # of what is replaced: no matter
    before = os.umask(umask)
    try:
        with atomic_path(target) as path:
            path.write_bytes(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_temporary_names_are_unique_and_recognised(target: Path) -> None:
    with PartFile(target) as one, PartFile(target, suffix=".tiff") as two:
        assert one.path != two.path
        assert is_temporary_name(one.path.name)
        assert is_temporary_name(two.path.name)
    for name in (target.name, "grid_tmp_1.npy", ".hidden", "._tmp", "tessera_metadata.json"):
        assert not is_temporary_name(name)
    assert is_temporary_name(".grid_0.15_52.25.npy_tmp_x1b2_9z.npy")  # as upstream's look


def test_long_names_fit(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 127)
    with atomic_path(target) as path:
        path.write_bytes(b"x")
    assert target.read_bytes() == b"x"


def test_relative_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_path("x.bin") as path:
        path.write_bytes(b"x")
    with atomic_path("deep/x.bin") as path:
        path.write_bytes(b"y")
    assert (tmp_path / "x.bin").read_bytes() == b"x"
    assert (tmp_path / "deep" / "x.bin").read_bytes() == b"y"


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def assert_unwritable(directory: Path, errno: int) -> None:
    with pytest.raises(UnwritableDestination) as caught:
        check_writable(directory)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno


def test_check_writable_finds_what_is_forbidden(read_only_directory: Path) -> None:
    assert_unwritable(read_only_directory, 13)
    assert_unwritable(read_only_directory / "below", 13)


def test_check_writable_finds_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert_unwritable(tmp_path / "file", 20)
    assert_unwritable(tmp_path / "file" / "below", 20)
