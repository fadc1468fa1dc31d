"""Temporary files: names, modes, clean-up."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EACCES, EISDIR, ENAMETOOLONG
from pathlib import Path

import pytest

from geotessera.errors import UnwritableDestination
from geotessera.remote.partfile import (
    PartFile,
    atomic_path,
    check_target,
    check_writable,
    create_with_parents,
    workplace,
)
from geotessera.remote.temporary import is_temporary_name


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


def test_workplace_goes_with_what_is_in_it_and_round_it(target: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), workplace(target) as directory:  # noqa: PT012
        assert directory.parent == target.parent
        assert is_temporary_name(directory.name)
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_bytes(b"x")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    with workplace(target) as directory:
        target.write_bytes(b"kept")
    assert list(target.parent.iterdir()) == [target]


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def assert_unwritable(directory: Path, errno: int) -> None:
    with pytest.raises(UnwritableDestination) as caught:
        check_writable(directory)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno
    assert caught.value.filename == str(directory)


def test_check_writable_finds_what_is_forbidden(read_only_directory: Path) -> None:
    assert_unwritable(read_only_directory, 13)
    assert_unwritable(read_only_directory / "below", 13)


def test_check_writable_finds_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert_unwritable(tmp_path / "file", 20)
    assert_unwritable(tmp_path / "file" / "below", 20)


def test_check_target_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    check_target(tmp_path / "there")
    check_target(tmp_path / "not" / "yet")
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("name", "number"),
    [("", EISDIR), ("n" * 300, ENAMETOOLONG), ("not/yet/" + "n" * 300, ENAMETOOLONG)],
)
def test_check_target_finds_names_that_no_file_can_have(
    tmp_path: Path, name: str, number: int
) -> None:
    with pytest.raises(UnwritableDestination) as caught:
        check_target(tmp_path / name)
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / name))


def test_check_target_finds_what_is_forbidden(read_only_directory: Path) -> None:
    with pytest.raises(UnwritableDestination) as caught:
        check_target(read_only_directory / "file")
    assert (caught.value.errno, caught.value.filename) == (EACCES, str(read_only_directory))


# --- Directories that come and go ---------------------------------------------------------


def test_directory_that_others_remove_is_made_again(target: Path) -> None:
    """Between our making a directory and our making the file, it may go any number of times."""
    calls = 0

    def create() -> str:
        nonlocal calls
        calls += 1
        if calls <= 20:
            if target.parent.exists():
                target.parent.rmdir()
            raise FileNotFoundError(target)
        target.touch()
        return "made"

    assert create_with_parents(target, create) == ("made", [target.parent])
    assert target.exists()


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_directory_that_goes_while_it_is_made(
    error: type[OSError], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir
    failures = iter(range(3))

    def mkdir(path: Path, *args: object, **kwargs: object) -> None:
        if next(failures, None) is not None:
            raise error(path)
        real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with PartFile(target) as part:
        part.path.write_text("whole")
        part.commit()
    assert target.read_text() == "whole"


def test_dangling_link_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnwritableDestination, match="cannot write here"):
        PartFile(tmp_path / "link" / "a.txt")


# --- Targets that are no plain files ------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    """As by whoever opens it; a link to another disk keeps leading there."""
    real = tmp_path / "disk" / "real.txt"
    real.parent.mkdir()
    (tmp_path / "link").symlink_to("disk/real.txt")
    for text in ("first", "second"):
        with atomic_path(tmp_path / "link") as path:
            assert path.parent == real.parent
            path.write_text(text)
        assert (tmp_path / "link").is_symlink()
        assert real.read_text() == text
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnwritableDestination), atomic_path(tmp_path / "loop"):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link", "loop"]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A process that may do anything would put a file in the place of a device."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(UnwritableDestination, match="a device or a pipe"):
            PartFile(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


def test_no_name_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnwritableDestination, match="directory"):
        PartFile("")


def test_discards_beside_creations(tmp_path: Path) -> None:
    """Threads that make and discard files in one new directory are not in each other's way."""
    barrier = threading.Barrier(4)
    directory = tmp_path / "new" / "deep"

    def work(thread: int) -> None:
        barrier.wait()
        for turn in range(300):
            PartFile(directory / f"{thread}-{turn}").discard()
            with suppress(OSError):
                directory.rmdir()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not directory.exists()
