"""Nine tiles from a server by the command line, each run into an empty directory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shared import Place

BOX = "0.01,52.11,0.29,52.39"
TILES = 9
CLI = "import sys; from geotessera.cli import main; sys.argv[0] = 'geotessera'; main()"

REDIRECT = """
import os, socket, ssl
host, port = os.environ["BENCH_HOST"], int(os.environ["BENCH_PORT"])
resolve, verify = socket.getaddrinfo, ssl.SSLContext.load_verify_locations
def getaddrinfo(name, number, *rest, **options):
    if name in (host, host.encode()):
        name, number = "127.0.0.1", port
    return resolve(name, number, *rest, **options)
def load_verify_locations(self, *rest, **options):
    verify(self, os.environ["BENCH_CA"])
    return verify(self, *rest, **options)
socket.getaddrinfo = getaddrinfo
ssl.SSLContext.load_verify_locations = load_verify_locations
"""
"""As `sitecustomize`: the public server's name is this machine's, its certificate trusted."""


def _environment(place: Place) -> dict[str, str]:
    """Return the environment in which both packages take our server for the public one."""
    env = {**os.environ, "XDG_CACHE_HOME": str(place.cache)}
    if not place.certificate:
        return env
    server = urlsplit(place.url)
    site = place.cache / "site"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text(REDIRECT)
    env |= {"PYTHONPATH": str(site), "BENCH_HOST": server.hostname or ""}
    env |= {"BENCH_PORT": str(server.port), "BENCH_CA": place.certificate}
    env |= {"REQUESTS_CA_BUNDLE": place.certificate, "SSL_CERT_FILE": place.certificate}
    return env | {"NO_PROXY": server.hostname or ""}


def _line(place: Place, *more: str) -> list[str]:
    line = [sys.executable, "-c", CLI, "download", f"--bbox={BOX}", "--format", "npy"]
    line += ["--dataset-variant", "cambridge", *more]
    return line if place.certificate else [*line, "--base-url", place.url]


def list_only(place: Place) -> Callable[[], object]:
    """Fill the registry's cache, which is not what is timed."""
    line, env = _line(place, "--dry-run"), _environment(place)
    return lambda: subprocess.run(line, env=env, capture_output=True, check=True) and None


def download(place: Place, jobs: int = 0) -> Callable[[], object]:
    """Download nine tiles."""
    env = _environment(place)
    more = ["--jobs", str(jobs)] if jobs else []

    def run() -> object:
        out = place.fresh()
        line = _line(place, "-o", str(out), *more)
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found = len([*out.rglob("*.npy")])
        if found != 2 * TILES:
            raise RuntimeError(f"{found} of {2 * TILES} arrays arrived")
        return None

    return run


def curl(place: Place, jobs: int, digests: list[str]) -> Callable[[], object]:
    """Fetch the same files with curl, in parallel, and digest them afterwards."""
    root = place.world("tiles") / "mirror" / urlsplit(place.url).path.lstrip("/")
    wanted = [path for path in root.rglob("*") if path.suffix in (".npy", ".tiff")]

    def run() -> object:
        out = place.fresh()
        config = place.cache / "config"
        config.parent.mkdir(parents=True, exist_ok=True)
        pairs = [(path.relative_to(root).as_posix(), out / path.name) for path in wanted]
        text = "".join(f'url = "{place.url}/{a}"\noutput = "{b}"\n' for a, b in pairs)
        config.write_text(text)
        line = ["curl", "-sS", "--parallel", "--parallel-max", str(jobs), "-K", str(config)]
        subprocess.run(line, check=True)
        for digest in digests:
            files = [str(path) for _, path in pairs]
            subprocess.run([digest, *files], capture_output=True, check=True)
        return None

    return run
