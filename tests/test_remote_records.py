"""Records of a tile directory: appended, never lost to a neighbour or a crash."""

from __future__ import annotations

import json
import multiprocessing
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotessera.errors import InputError, UnwritableDestination
from geotessera.remote.records import FileRecord, FileRecords


def test_what_is_recorded_is_loaded(tmp_path: Path) -> None:
    records = FileRecords(tmp_path / "tiles")
    assert records.load() == {}
    records.record("2024/a.npy", 3, "aa")
    newest = records.record(Path("2024/a.npy"), 4, "bb", "m", '"m"', "http://x/a", 1.5)
    other = records.record("b ü.npy", 5, "cc")
    assert newest == FileRecord("2024/a.npy", 4, "bb", "m", '"m"', "http://x/a", 1.5)
    assert FileRecords(tmp_path / "tiles").load() == {"2024/a.npy": newest, "b ü.npy": other}
    path = tmp_path / "tiles" / ".geotessera" / "files.jsonl"
    assert [json.loads(line)["size"] for line in path.read_text().splitlines()] == [3, 4, 5]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_what_is_removed_is_forgotten_and_may_come_back(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    records.record("a", 1, "aa")
    kept = records.record("b", 2, "bb")
    records.forget(["a", "never recorded"])
    assert records.load() == {"b": kept}
    assert len(records.path.read_text().splitlines()) == 3
    again = records.record("a", 3, "cc")
    assert records.load() == {"b": kept, "a": again}
    with pytest.raises(InputError, match="below"):
        records.forget(["../x"])


@pytest.mark.parametrize("bad", ["/etc/passwd", "../x", "a/../../x", ""])
def test_only_paths_below_the_directory(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="below"):
        FileRecords(tmp_path).record(bad, 1, "aa")


def test_unwritable_directory(read_only_directory: Path) -> None:
    with pytest.raises(UnwritableDestination):
        FileRecords(read_only_directory).record("a", 1, "aa")


@given(garbage=st.binary(max_size=60).filter(lambda b: b"{" not in b))
def test_broken_lines_are_skipped(garbage: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    records = FileRecords(tmp_path_factory.mktemp("records"))
    one = records.record("a", 1, "aa")
    with records.path.open("ab") as file:
        file.write(garbage)
    two = records.record("b", 2, "bb")
    assert records.load() == {"a": one, "b": two}


@pytest.mark.parametrize(
    "line",
    ["[]", "null", '{"path": 1}', '{"path": "a", "size": "1", "sha256": "x"}', '{"size": 1}'],
)
def test_foreign_json_is_skipped(line: str, tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    one = records.record("a", 1, "aa")
    with records.path.open("a") as file:
        file.write(line + "\n")
    assert records.load() == {"a": one}


def test_fields_of_later_versions_are_ignored(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    records.record("a", 1, "aa")
    records.path.write_text('{"path":"a","size":2,"sha256":"bb","crc":7}\n')
    assert records.load() == {"a": FileRecord("a", 2, "bb")}


def test_line_cut_anywhere_costs_only_itself(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    one = records.record("a", 1, "aa")
    whole = records.path.read_bytes()
    records.record("b", 2, "bb")
    line = records.path.read_bytes()[len(whole) :]
    for cut in range(len(line) - 1):
        records.path.write_bytes(whole + line[:cut])
        three = records.record("c", 3, "cc")
        assert records.load() == {"a": one, "c": three}


def _append(directory: str, writer: int) -> None:
    records = FileRecords(directory)
    for i in range(50):
        records.record(f"{writer}/{i}", i, "f" * 64, url="http://x/" + "y" * 200)


def test_threads_and_processes_append_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_append, args=(str(tmp_path), n)) for n in range(2)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: _append(str(tmp_path), n), range(2, 6)))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(FileRecords(tmp_path).load()) == 6 * 50
