"""Who is installed: upstream and libraries, each in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from geotessera.benchmark.model import OURS

__all__ = ["PEERS", "Installed", "find_peers", "is_ours"]


@dataclass(frozen=True, slots=True)
class _Peer:
    """Where a peer may be: an environment, what is imported, or a program."""

    name: str
    title: str
    environment: str = ""
    imports: str = ""
    program: str = ""
    version: str = ""


PEERS = (
    _Peer("upstream", "upstream geotessera", "upstream", "geotessera"),
    _Peer("numpy", "NumPy", "libraries", "numpy"),
    _Peer("numba", "numba", "libraries", "numba"),
    _Peer("scipy", "SciPy", "libraries", "scipy"),
    _Peer("xarray", "xarray", "libraries", "xarray"),
    _Peer("gdal", "GDAL (rasterio)", "libraries", "rasterio", version="__gdal_version__"),
    _Peer("curl", "curl", program="curl"),
    _Peer("coreutils", "sha256sum", program="sha256sum"),
    _Peer("gdal2tiles", "gdal2tiles", program="gdal2tiles.py"),
)
"""All that operations name; what is missing is skipped."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that can be run.

    Parameters
    ----------
    name, title : str
        As operations and as reports call it.
    version : str
        Its own word.
    python : str
        The interpreter that runs its tasks; it has no other package of ours in it.
    """

    name: str
    title: str
    version: str
    python: str


def is_ours(who: str) -> bool:
    """Return whether somebody is this package, maybe with other options."""
    return who.partition(" ")[0] == OURS


def find_peers(directory: Path | None, *, none: bool = False) -> dict[str, Installed]:
    """Return who can be run, by name.

    Parameters
    ----------
    directory : Path, optional
        Environments that ``benches/peers`` made. Libraries that this interpreter has are
        run with it where no environment has them.
    none : bool
        Look for nobody.
    """
    if none:
        return {}

    def look(peer: _Peer) -> Installed | None:
        return _program(peer) if peer.program else _library(peer, directory)

    with ThreadPoolExecutor() as pool:
        found = [one for one in pool.map(look, PEERS) if one is not None]
    return {one.name: one for one in found}


def _program(peer: _Peer) -> Installed | None:
    path = shutil.which(peer.program)
    if path is None:
        return None
    done = _ask([path, "--version"])
    first = (done or "").splitlines()[0] if done else ""
    words = [word for word in first.split() if word[:1].isdigit()]
    return Installed(peer.name, peer.title, words[0].strip(",") if words else "", sys.executable)


def _library(peer: _Peer, directory: Path | None) -> Installed | None:
    pythons = [] if directory is None else [_interpreter(directory / peer.environment)]
    if peer.environment == "libraries":
        pythons.append(Path(sys.executable))
    # Metadata knows the version of a package that does not say it; importing shows it works.
    code = (
        f"import json, importlib.metadata as m, {peer.imports} as p; "
        f"print(json.dumps(getattr(p, {peer.version!r}, '') or m.version({peer.imports!r})))"
    )
    for python in pythons:
        answer = _ask([str(python), "-P", "-c", code]) if python.exists() else None
        try:
            version = json.loads((answer or "").splitlines()[-1])
        except (LookupError, ValueError):  # half an environment says anything
            continue
        return Installed(peer.name, peer.title, str(version), str(python))
    return None


def _interpreter(environment: Path) -> Path:
    windows = environment / "Scripts" / "python.exe"
    return windows if windows.exists() else environment / "bin" / "python"


def _ask(line: list[str]) -> str | None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=120, env=env, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
