"""Time downloads of nine tiles from a server on this machine, in a process of its own.

    python benches/transfer.py [--peer PYTHON] [--runs N] [--world DIR]

``raw``: no latency, no cap: ours against ``curl --parallel`` and the digests after it.
``capped``: 30 ms before each answer and 100 MB/s for each connection: ours with 8
connections against ``--jobs 1``.
``peer``: the same over TLS against upstream in the environment of PYTHON. It knows one
server only, so that name is resolved to this machine in both packages' processes, and a
throw-away certificate is trusted: see `REDIRECT`. Linux also says how much processor time
one download of ours and the server's share of it took.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

import world as bench_world
from geotessera.datasets import (
    BASE_URL,
    EMBEDDINGS_DIR_NAME,
    LANDMASKS_DIR_NAME,
    Mirror,
)

SERVE = """
import ssl, sys
from geotessera.testing.server import LoopbackServer
root, latency, bandwidth, *certificate = sys.argv[1:]
server = LoopbackServer(root, latency=float(latency), bandwidth=float(bandwidth))
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    http = server._http
    http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
with server:
    print(server.url, flush=True)
    sys.stdin.read()
"""

# As `sitecustomize`: what both packages' processes see of the network.
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

CLI = """
import sys
from geotessera.cli import main
sys.argv[0] = "geotessera"
main()
"""

servers: dict[str, int] = {}
"""Process of each server, by its URL."""

BOX = "0.01,52.11,0.29,52.39"


@contextmanager
def serving(root: Path, latency: float, bandwidth: float, *certificate: Path):
    line = [sys.executable, "-c", SERVE, str(root), str(latency), str(bandwidth)]
    line += map(str, certificate)
    with subprocess.Popen(line, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        servers[url] = server.pid
        yield url
        server.stdin.close()


def seconds(line: list[str], **env: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(line, env=os.environ | env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def processor(url: str) -> tuple[float, float]:
    """Return the processor seconds of ended children, and of the server (0 where unknown)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        fields = Path(f"/proc/{servers[url]}/stat").read_text().rpartition(")")[2].split()
        of_server = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        of_server = 0.0
    return ended.ru_utime + ended.ru_stime, of_server


def download(python: str, out: Path, *more: str, **env: str) -> float:
    shutil.rmtree(out, ignore_errors=True)
    line = [python, "-c", CLI, "download", "-o", str(out), f"--bbox={BOX}", "--format", "npy"]
    spent = seconds([*line, "--dataset-variant", "cambridge", *more], **env)
    found = len([*out.rglob("*.npy")])
    if found != 18:
        raise SystemExit(f"{python}: {found} of 18 arrays arrived")
    return spent


def curl(url: str, root: Path, out: Path, jobs: int, digests: tuple[str, ...]) -> float:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    wanted = [p for p in root.rglob("*") if p.suffix in (".npy", ".tiff") and p.is_file()]
    config = out / "config"
    config.write_text(
        "".join(
            f'url = "{url}/{p.relative_to(root).as_posix()}"\noutput = "{out / p.name}"\n'
            for p in wanted
        )
    )
    fetch = ["curl", "-sS", "--parallel", "--parallel-max", str(jobs), "-K", str(config)]
    spent = seconds(fetch)
    files = [str(out / p.name) for p in wanted]
    return spent + sum(seconds([digest, *files]) for digest in digests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="interpreter with the released geotessera")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--world", type=Path)
    options = parser.parse_args()
    place = options.world or Path(tempfile.gettempdir()) / "geotessera-bench"
    place.mkdir(parents=True, exist_ok=True)
    bench_world.build(place.resolve())
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        root = Path(scratch) / "root"
        path = urlsplit(BASE_URL).path
        size = lay_out(place / "tiles", Path(f"{root}{path}"))
        print(f"9 tiles, {size / 1e6:.0f} MB", flush=True)
        measure(root, path, Path(scratch), options.runs, options.peer)


def measure(root: Path, path: str, scratch: Path, runs: int, peer: str | None) -> None:
    out = scratch / "out"

    def ours(url: str, jobs: int) -> float:
        where = ["--base-url", url + path, "--cache-dir", str(scratch / "cache")]
        return download(sys.executable, out, *where, "--jobs", str(jobs))

    with serving(root, 0.0, float("inf")) as url:
        ours(url, 8)  # registry and bytecode are cached from here on
        many, plain = [], []
        for _ in range(runs):
            many.append(ours(url, 8))
            plain.append(curl(url, root, out, 8, ("sha256sum", "md5sum")))
        report("raw", many, "curl, sha256sum, md5sum", plain)
    with serving(root, 0.03, 100e6) as url:
        ours(url, 8)
        report("capped", [ours(url, 8) for _ in range(runs)], "--jobs 1", [ours(url, 1)])
    if peer is not None:
        against_peer(root, scratch, runs, peer)


def against_peer(root: Path, scratch: Path, runs: int, peer: str) -> None:
    host, out = urlsplit(BASE_URL).hostname or "", scratch / "out"
    certificate, key = scratch / "certificate.pem", scratch / "key.pem"
    seconds(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={host}",
         "-addext", f"subjectAltName=DNS:{host}"]
    )  # fmt: skip
    (scratch / "site").mkdir()
    (scratch / "site" / "sitecustomize.py").write_text(REDIRECT)
    with serving(root, 0.03, 100e6, certificate, key) as url:
        port = str(urlsplit(url).port)
        env = {"PYTHONPATH": str(scratch / "site"), "BENCH_HOST": host, "BENCH_PORT": port}
        env |= {"BENCH_CA": str(certificate), "REQUESTS_CA_BUNDLE": str(certificate)}
        env |= {"SSL_CERT_FILE": str(certificate)}
        env |= {"XDG_CACHE_HOME": str(scratch / "xdg"), "NO_PROXY": host}
        many, theirs, spent = [], [], []
        for turn in range(runs + 1):
            before = processor(url)
            our_time = download(sys.executable, out, **env)
            after = processor(url)
            times = our_time, download(peer, out, **env)
            if turn:  # the first fills the caches
                many.append(times[0])
                theirs.append(times[1])
                spent.append([b - a for a, b in zip(before, after, strict=True)])
        report("peer", many, "upstream", theirs)
        client, server = (statistics.median(each) for each in zip(*spent, strict=True))
        print(f"      processor: ours {client:.2f} s, server {server:.2f} s", flush=True)


def lay_out(tiles: Path, base: Path) -> int:
    """Link the world's files where a mirror has them, and return the size of the tiles."""
    mirror = Mirror(str(base), "1.1", "cambridge")
    links = {
        tiles / "manifest.parquet": mirror.registry_url,
        tiles / "landmasks.parquet": mirror.landmasks_registry_url,
    }
    arrays = tiles / EMBEDDINGS_DIR_NAME
    links |= {p: mirror.tile_url(p.relative_to(arrays)) for p in arrays.rglob("*.npy")}
    masks = tiles / LANDMASKS_DIR_NAME
    links |= {p: mirror.landmask_url(p.name) for p in masks.glob("*.tiff")}
    for source, target in links.items():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).hardlink_to(source)
    return sum(p.stat().st_size for p in links if p.suffix != ".parquet")


def report(name: str, ours: list[float], other: str, theirs: list[float]) -> None:
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{name}: ours {a:.2f} s, {other} {b:.2f} s, {b / a:.2f}×", flush=True)


if __name__ == "__main__":
    main()
