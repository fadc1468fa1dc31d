"""What killed processes leave beside their targets, and who takes it away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from geotessera.remote import temporary
from geotessera.remote.owner import this_process
from geotessera.remote.partfile import PartFile, atomic_path, workplace
from geotessera.remote.temporary import OwnedName, temporary_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the system for processes")

_WRITER = """
import sys
from pathlib import Path
from geotessera.remote.partfile import PartFile, workplace

part = PartFile(Path(sys.argv[1]), suffix=".tif")
place = workplace(Path(sys.argv[1]))
(place.__enter__() / "fetched").write_bytes(b"tiles")
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a process that has begun to write ``picture.tif``, and waits."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "picture.tif")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_what_a_killed_process_left_goes_with_the_next(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert len(names(tmp_path)) == 2
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    with atomic_path(tmp_path / "other.txt") as path:
        path.write_text("whole")
    assert names(tmp_path) == {"other.txt"}


def test_a_workplace_looks_round_too(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with workplace(tmp_path / "other.tif") as directory:
        assert names(tmp_path) == {directory.name}


def test_what_somebody_writes_stays(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    begun = names(tmp_path)
    with PartFile(tmp_path / "picture.tif") as own, PartFile(tmp_path / "picture.tif"):
        assert len(names(tmp_path)) == 4
        temporary._looked_through.cache_clear()
        with PartFile(tmp_path / "third"):
            assert own.path.exists()
    assert names(tmp_path) == begun
    assert writer.poll() is None


@pytest.mark.parametrize(("days", "stays"), [(0, True), (2, False)])
def test_of_another_machine_only_what_is_old_goes(days: int, stays: bool, tmp_path: Path) -> None:
    file, place = (
        tmp_path / f".{name}_tmp_{'0' * 8}_1_{'0' * 8}_{'0' * 12}" for name in ("a.tif", "b.tif")
    )
    file.write_bytes(b"half")
    place.mkdir()
    (place / "new").write_bytes(b"half")
    for path in (file, place):
        os.utime(path, times=(0, path.stat().st_mtime - days * 86400))
    with PartFile(tmp_path / "c"):
        assert file.exists() == stays
        assert place.exists()  # something in it is new
    os.utime(place / "new", times=(0, (place / "new").stat().st_mtime - days * 86400))
    os.utime(place, times=(0, place.stat().st_mtime - days * 86400))
    temporary._looked_through.cache_clear()
    with PartFile(tmp_path / "c"):
        assert place.exists() == stays


def test_what_downloads_go_on_with_and_what_others_made_stays(tmp_path: Path) -> None:
    dead = f"{this_process().host}_{2**30}_00000000_{'0' * 12}"
    kept = {
        f".grid.npy_tmp_{dead}.part",
        f".grid.npy_tmp_{dead}.part.json",
        ".grid.npy_tmp_ab12.npy",
        ".m.tif_tmp_mosaic.tif",
        f"m.tif_tmp_{dead}.tif",
    }
    gone = {f".m.tif_tmp_{dead}{end}" for end in ("", ".tif", ".tif.aux.xml", ".part.copy")}
    for name in kept | gone:
        (tmp_path / name).write_bytes(b"")
    PartFile(tmp_path / "x").discard()
    assert names(tmp_path) == kept


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "file").write_bytes(b"x")
    dead = f"{this_process().host}_{2**30}_00000000_{'0' * 12}"
    for number, name in enumerate((target, target / "file")):
        (tmp_path / f".{number}_tmp_{dead}").symlink_to(name)
    PartFile(tmp_path / "x").discard()
    assert names(tmp_path) == {"mine"}
    assert names(target) == {"file"}


@pytest.mark.parametrize("name", ["x.tif", "a_tmp_b", "line\nbreak.tif", "ü" * 130])
def test_names_say_whose_they_are(name: str, tmp_path: Path) -> None:
    found = OwnedName.parse(temporary_path(tmp_path / name, ".tif").name)
    assert found is not None
    assert found.owner == this_process()
    assert found.suffix == ".tif"
    assert name.startswith(found.stem)
