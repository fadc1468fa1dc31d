"""What this is measured on, and which code is measured."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import geotessera
from geotessera.benchmark.tasks.shared import processors

__all__ = ["code_digest", "describe", "load"]

PACKAGE = Path(geotessera.__file__).parent


def load() -> float:
    """Return the load of the last minute; what else runs on the machine shows here."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def describe() -> dict[str, Any]:
    """Return the machine and the interpreter as words and numbers."""
    huge = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": processors(),
        "caches": _caches(),
        "memory": _memory(),
        "huge_pages": huge[huge.find("[") + 1 : huge.find("]")] if "[" in huge else "",
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


@cache
def code_digest() -> str:
    """Return a digest of the package's code: results of other code are told apart by it."""
    digest = hashlib.sha256()
    native = Path(sys.modules["geotessera._native"].__file__ or "") if _has_native() else None
    files = sorted(PACKAGE.rglob("*.py")) + ([native] if native else [])
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _has_native() -> bool:
    import geotessera._native  # noqa: F401 - the compiled part

    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(path: str, name: str) -> str:
    for line in _read(path).splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def _memory() -> int:
    kilobytes = _field("/proc/meminfo", "MemTotal").partition(" ")[0]
    return int(kilobytes) * 1024 if kilobytes else 0


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _read(str(index / "level")).strip(), _read(str(index / "type")).strip()
        if kind != "Instruction":
            found[f"L{level}"] = _read(str(index / "size")).strip()
    return found
