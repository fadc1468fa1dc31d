"""Records of a tile directory: appended, never lost to a neighbour or a crash."""

from __future__ import annotations

import json
import multiprocessing
import os
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


def lines(records: FileRecords) -> int:
    return len(records.path.read_bytes().splitlines())


def test_lines_that_were_replaced_are_left_out(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    assert records.compact() is False
    for turn in range(3):
        newest = [records.record(name, turn, "aa") for name in ("a", "b")]
    records.record("c", 1, "cc")
    records.forget(["c"])
    with records.path.open("ab") as file:
        file.write(b'{"path":"d","size":1,"sha256":"dd","later":7}\ncut off')
    records.path.chmod(0o640)
    assert records.compact() is True
    found = records.load()
    assert (found["a"], found["b"]) == tuple(newest)
    assert found.keys() == {"a", "b", "d"}
    assert b'"later":7' in records.path.read_bytes()
    assert lines(records) == 3
    assert stat.S_IMODE(records.path.stat().st_mode) == 0o640
    for name in ("a", "b", "d"):
        records.record(name, 9, "99")
    assert records.compact() is False  # no more than twice as many
    assert [path.name for path in records.path.parent.iterdir()] == ["files.jsonl"]


def test_a_file_of_records_does_not_grow_for_ever(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    for turn in range(1500):
        records.record(f"{turn % 40}", turn, "f" * 64)
    assert lines(records) < 500
    assert {one.size for one in records.load().values()} == set(range(1460, 1500))
    many = FileRecords(tmp_path / "many")
    for turn in range(1500):
        many.record(f"{turn}", turn, "f" * 64)
    assert lines(many) == 1500


def test_another_that_compacts_is_left_alone_until_it_is_stale(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    for turn in range(5):
        records.record("a", turn, "aa")
    lock = records.path.with_name("files.jsonl.lock")
    lock.write_bytes(b"")
    assert records.compact() is False
    os.utime(lock, (0, 0))
    assert records.compact() is False
    assert records.compact() is True
    assert records.load()["a"].size == 4


@pytest.mark.parametrize("call", ["fsync", "fstat", "replace"])
def test_a_crash_while_compacting_loses_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = FileRecords(tmp_path)
    for turn in range(5):
        records.record("a", turn, "aa")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "replace" else os, call, die)
        with pytest.raises(KeyboardInterrupt):
            records.compact()
    assert records.load()["a"].size == 4
    assert records.compact() is True


def test_what_is_recorded_while_the_file_is_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = FileRecords(tmp_path)
    for turn in range(5):
        records.record("a", turn, "aa")
    late = records.path.open("ab", buffering=0)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        records.record("before", 1, "bb")
        found = real(self, target)
        records.record("both", 8, "88")
        for name, size in (("after", 2), ("both", 7), ("a", 5)):
            late.write(b'{"path":"%s","size":%d,"sha256":"cc"}\n' % (name.encode(), size))
        return found

    monkeypatch.setattr(Path, "replace", replace)
    assert records.compact() is True
    late.close()
    assert {one.path: one.size for one in records.load().values()} == {
        "a": 5,
        "before": 1,
        "both": 8,  # the newer one, though the other was carried over later
        "after": 2,
    }
    monkeypatch.undo()
    for size in range(6, 16):
        records.record("a", size, "aa")
    assert records.compact() is True
    assert {one.path: one.size for one in records.load().values()} == {
        "a": 15,
        "before": 1,
        "both": 8,
        "after": 2,
    }
    assert b'"after":' not in records.path.read_bytes().replace(b'"path":"after"', b"")


def test_who_appended_to_the_replaced_file_appends_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = FileRecords(tmp_path)
    records.record("a", 1, "aa")
    turns = iter([True, False])
    real = FileRecords._is

    def replaced(self: FileRecords, descriptor: int) -> bool:
        if next(turns):
            other = tmp_path / "other"
            other.write_bytes(b"")
            other.replace(self.path)
        return real(self, descriptor)

    monkeypatch.setattr(FileRecords, "_is", replaced)
    records.record("b", 2, "bb")
    assert records.load().keys() == {"b"}


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
        for turn in (0, 1, 2):
            records.record(f"{writer}/{i}", i + turn, "f" * 64, url="http://x/" + "y" * 200)
        if i % 5 == writer % 5:
            records.compact()


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
    found = FileRecords(tmp_path).load()
    assert {name: one.size for name, one in found.items()} == {
        f"{writer}/{i}": i + 2 for writer in range(6) for i in range(50)
    }
    assert lines(FileRecords(tmp_path)) < 6 * 50 * 3
