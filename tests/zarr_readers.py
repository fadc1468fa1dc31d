"""A reader of files that passes for one of a server, and counts what it is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from geotessera.remote.objects import KeyRange, ObjectReader, Suffix
from geotessera.remote.objects.local import LocalReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class CountingReader(ObjectReader):
    """Objects in a directory; the kernels must not read them themselves."""

    def __init__(self, root: str | Path, name: str = "counted") -> None:
        super().__init__(f"{name}:{root}")
        self.files = LocalReader(root)
        self.ranges: list[KeyRange] = []
        self.whole: Counter[str] = Counter()
        self.suffixes: Counter[str] = Counter()

    def __reduce__(self) -> tuple[Any, ...]:
        return CountingReader, (self.files.location,)

    def get(self, key: str) -> bytes | None:
        self.whole[key] += 1
        return self.files.get(key)

    def read_suffixes(self, wanted: Sequence[tuple[str, int]]) -> list[Suffix | None]:
        self.suffixes.update(key for key, _ in wanted)
        return self.files.read_suffixes(wanted)

    def get_ranges(
        self, ranges: Sequence[KeyRange], versions: Mapping[str, str] | None = None
    ) -> list[bytes | None]:
        self.ranges += ranges
        return self.files.get_ranges(ranges, versions)

    def forget(self, key: str) -> None:
        self.files.forget(key)
