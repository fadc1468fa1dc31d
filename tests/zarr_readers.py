"""A reader of the files of a store that the tests count and disturb."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


class CountingReader:
    """Objects in a directory, read through Python as if they came from a server.

    `directory` is set only where the kernels shall read the files themselves.
    """

    def __init__(self, root: str | Path, *, local: bool = False) -> None:
        self.root = Path(root)
        self.location = str(root)
        self.directory = self.root if local else None
        self.asked: list[tuple[str, int, int]] = []
        self.whole: Counter[str] = Counter()
        self.suffixes: Counter[str] = Counter()

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (str(self.root), self.directory is not None)

    def _open(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def get(self, key: str) -> bytes | None:
        self.whole[key] += 1
        return self._open(key)

    def get_suffix(self, key: str, length: int) -> bytes | None:
        self.suffixes[key] += 1
        data = self._open(key)
        return None if data is None else data[-length:]

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        return self.get_ranges([(key, start, length)])[0]

    def get_ranges(self, key_ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        self.asked += key_ranges
        found: list[bytes | None] = []
        for key, start, length in key_ranges:
            try:
                with (self.root / key).open("rb") as file:
                    file.seek(start)
                    found.append(file.read(length))
            except FileNotFoundError:
                found.append(None)
        return found


def _again(root: str, local: bool) -> CountingReader:
    return CountingReader(root, local=local)
