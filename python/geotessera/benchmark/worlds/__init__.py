"""The data that is measured on: made once in the work directory, in processes of their own.

::

    tiles    NPY tiles near 52° N with their registry, a mirror of them, and a checked download
    planet   a registry of 4.6 million rows
    store    a Zarr store of published size, sparsely written

Both packages read the same bytes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.errors import GeoTesseraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["FULL", "QUICK", "Worlds"]

FULL = {"tiles": 6, "planet": 4_600_000, "store": 60}
"""Tiles a side, rows, zones."""

QUICK = {"tiles": 3, "planet": 460_000, "store": 1}

SIZES = {"tiles": 125e6, "planet": 2e1, "store": 2e7}
"""Bytes on disk for each tile, row and zone; a store has 1.3 GB of pixels beside them."""


@dataclass(frozen=True, slots=True)
class Worlds:
    """Where the worlds are, and how large.

    Parameters
    ----------
    directory : Path
        Holds one directory for each world and size.
    sizes : mapping
        `FULL` or `QUICK`.
    """

    directory: Path
    sizes: Mapping[str, int]

    def path(self, name: str) -> Path:
        """Return the directory of a world."""
        return self.directory / f"{name}-{self.sizes[name]}"

    def paths(self) -> dict[str, str]:
        """Return all directories, as tasks get them."""
        return {name: str(self.path(name)) for name in self.sizes}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the named worlds that are not complete, in a fixed order."""
        wanted = set(names)
        return [
            name
            for name in self.sizes
            if name in wanted and not (self.path(name) / "complete").exists()
        ]

    def build(self, name: str) -> None:
        """Make a world.

        Raises
        ------
        GeoTesseraError
            If the disk is too small, or the process that makes it fails.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        count = self.sizes[name]
        needed = SIZES[name] * (count * count if name == "tiles" else count)
        needed += 1.4e9 if name == "store" else 0
        free = shutil.disk_usage(self.directory).free
        if free < 1.2 * needed + 2e9:
            raise GeoTesseraError(
                f"the benchmark's data ({name}) takes {needed / 1e9:.1f} GB and its results up to "
                f"2 GB, and {self.directory} has {free / 1e9:.1f} GB left: choose another place "
                "with --world, or --quick"
            )
        path = self.path(name)
        shutil.rmtree(path, ignore_errors=True)
        # In a process of its own: what a parent had in memory would count as its children's.
        code = (
            "import json, sys; from importlib import import_module; from pathlib import Path; "
            f"import_module('geotessera.benchmark.worlds.{name}').build(Path(sys.argv[1]), {count})"
        )
        line = [sys.executable, "-W", "ignore", "-c", code, str(path)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GeoTesseraError(f"the benchmark's data ({name}): {done.stderr[-2000:].strip()}")
        (path / "complete").write_text(json.dumps({"size": count}) + "\n")
