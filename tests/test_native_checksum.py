"""`Hasher` and `hash_files` against `hashlib` and `xxhash`."""

from __future__ import annotations

import array
import errno
import hashlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from geotessera._native import Hasher, hash_files

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.binary(max_size=5000), max_size=8))
def test_any_pieces(pieces: list[bytes]) -> None:
    hasher = Hasher("md5", "sha256")
    blocks = Hasher("xxh128")
    for piece in pieces:
        hasher.update(piece)
        blocks.update(piece)
    whole = b"".join(pieces)
    assert blocks.hexdigest("xxh128") == xxhash.xxh3_128_hexdigest(whole)
    assert hasher.hexdigest("sha256") == hashlib.sha256(whole).hexdigest()
    assert hasher.hexdigest("md5") == hashlib.md5(whole).hexdigest()
    assert hasher.length == len(whole)
    assert hasher.algorithms == ("md5", "sha256")


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 2047, 2048, 16384, 16385, 3 << 20])
def test_lengths_round_the_blocks(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    for algorithms in (("sha256",), ("md5",), ("sha256", "md5"), ("md5", "md5")):
        hasher = Hasher(*algorithms)  # type: ignore[arg-type]
        hasher.update(data)
        for name in algorithms:
            assert hasher.hexdigest(name) == hashlib.new(name, data).hexdigest()  # type: ignore[arg-type]
    blocks = Hasher("xxh128")
    blocks.update(data)
    assert blocks.hexdigest("xxh128") == xxhash.xxh3_128_hexdigest(data)


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"abc"),
        memoryview(b"abcdef")[1:4],
        array.array("d", [1.5, 2.5]),
        np.arange(5000, dtype=np.float32).reshape(50, 100),
        np.arange(6, dtype=np.int8),
        np.empty(0),
    ],
)
def test_any_contiguous_buffer(data: Any) -> None:
    hasher = Hasher("sha256")
    hasher.update(data)
    raw = bytes(memoryview(data).cast("B")) if memoryview(data).nbytes else b""
    assert hasher.hexdigest("sha256") == hashlib.sha256(raw).hexdigest()


def test_ranges_of_a_file(tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes((1 << 20) + 70_001)
    path = tmp_path / "part"
    path.write_bytes(data)
    hasher = Hasher("sha256", "md5")
    assert hasher.update_file(path, 0, 33) == 33
    assert hasher.update_file(str(path), 33, 33) == 0
    assert hasher.update_file(path, 33, 1 << 20) == (1 << 20) - 33
    assert hasher.update_file(path, 1 << 20, 1 << 40) == 70_001
    assert hasher.update_file(path, 1 << 30, 1 << 31) == 0
    assert hasher.length == len(data)
    assert hasher.hexdigest("sha256") == hashlib.sha256(data).hexdigest()
    assert hasher.hexdigest("md5") == hashlib.md5(data).hexdigest()
    with pytest.raises(FileNotFoundError, match="missing"):
        hasher.update_file(tmp_path / "missing", 0, 1)
    with pytest.raises(OverflowError):
        hasher.update_file(path, -1, 5)


def test_a_copy_goes_its_own_way() -> None:
    first = Hasher("sha256", "md5")
    first.update(b"ab")
    second = first.copy()
    second.update(b"c")
    assert first.hexdigest("md5") == hashlib.md5(b"ab").hexdigest()
    assert second.hexdigest("sha256") == hashlib.sha256(b"abc").hexdigest()
    assert (first.length, second.length) == (2, 3)


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Hasher()
    with pytest.raises(ValueError, match="sha1"):
        Hasher("sha1")  # type: ignore[arg-type]
    hasher = Hasher("md5")
    with pytest.raises(ValueError, match="not made for"):
        hasher.hexdigest("sha256")
    with pytest.raises(ValueError, match="unknown"):
        hasher.hexdigest("crc")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hasher.update("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError, match="contiguous"):
        hasher.update(np.arange(10)[::2])
    assert hasher.length == 0


def test_one_hasher_in_many_threads() -> None:
    hasher = Hasher("sha256", "md5")
    piece = bytes(100_000)

    def work() -> None:
        for _ in range(20):
            hasher.update(piece)
            hasher.hexdigest("md5")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hasher.hexdigest("sha256") == hashlib.sha256(piece * 120).hexdigest()


def test_files_and_what_is_wrong_with_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths: list[str | Path] = []
    contents: list[bytes | int] = []
    for i, size in enumerate([0, 1, 1 << 20, (1 << 20) + 1, 2_500_000, 77]):
        data = rng.bytes(size)
        path = tmp_path / f"é{i}.npy"
        path.write_bytes(data)
        paths.append(path if i % 2 else str(path))
        contents.append(data)
    paths[2:2] = [tmp_path / "missing", str(tmp_path)]
    contents[2:2] = [errno.ENOENT, errno.EISDIR]
    for threads in (None, 1, 3, 50):
        results = hash_files(paths, ["md5", "sha256"], threads=threads)
        assert len(results) == len(paths)
        for path, content, result in zip(paths, contents, results, strict=True):
            if isinstance(content, int):
                assert isinstance(result, OSError)
                assert result.errno == content
                assert result.filename == os.fspath(path)
                assert result.strerror == os.strerror(content)
            else:
                expected = (hashlib.md5(content), hashlib.sha256(content))
                assert result == tuple(digest.hexdigest() for digest in expected)
    assert isinstance(results[2], FileNotFoundError)
    assert isinstance(results[3], IsADirectoryError)


def test_no_files_and_the_default_algorithm(tmp_path: Path) -> None:
    assert hash_files([]) == []
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert hash_files([path]) == [(hashlib.sha256(b"abc").hexdigest(),)]
    assert isinstance(hash_files(["a\0b"])[0], OSError)


def test_wrong_batches() -> None:
    with pytest.raises(ValueError, match="sha1"):
        hash_files(["x"], ["sha1"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one"):
        hash_files(["x"], [])
    with pytest.raises(ValueError, match="threads"):
        hash_files(["x"], threads=0)
    with pytest.raises(TypeError):
        hash_files([5])  # type: ignore[list-item]


def test_a_signal_ends_the_batch(tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(*_: object) -> None:
        raise Stop

    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3 << 30)

    def hash_for_long() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        hash_files([path] * 50)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(Stop):
            hash_for_long()
    finally:
        signal.signal(signal.SIGALRM, before)
