"""Servers of an operation's files, in a process of their own, which count what they send.

``python -m geotessera.benchmark.servers REQUEST`` serves until its input ends; to a line
"report" it answers with what was asked since the last one.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geotessera.datasets import BASE_URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geotessera.benchmark.model import Server

__all__ = ["Running", "etags_of", "serving"]

ETAGS = "etags.json"
"""MD5 of the files below a root, by path; so that no timed request waits for a digest."""


@dataclass(slots=True)
class Running:
    """A server that runs.

    Parameters
    ----------
    url : str
        Base URL for clients; with TLS the public one's name and this one's port.
    certificate : str
        Path of the certificate to trust; empty without TLS.
    """

    url: str
    certificate: str
    process: subprocess.Popen[str]

    def report(self) -> dict[str, int]:
        """Return ``requests``, ``sent`` (bytes) and ``data_requests`` since the last report."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        counted: dict[str, int] = json.loads(self.process.stdout.readline())
        return counted


@contextmanager
def serving(server: Server, root: Path, scratch: Path) -> Iterator[Running]:
    """Serve a directory for as long as the context is open."""
    public = urlsplit(BASE_URL)
    certificate = _certificate(scratch, public.hostname or "") if server.tls else ("", "")
    request = {
        "root": str(root),
        "kind": server.kind,
        "latency": server.latency,
        "bandwidth": server.bandwidth,
        "certificate": certificate,
    }
    line = [sys.executable, "-m", "geotessera.benchmark.servers", json.dumps(request)]
    with subprocess.Popen(line, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the server did not start")
            if server.tls:
                url = f"https://{public.hostname}:{urlsplit(url).port}"
            if server.root == "mirror":
                url += public.path
            yield Running(url, certificate[0], process)
        finally:
            process.stdin.close()


def _certificate(scratch: Path, host: str) -> tuple[str, str]:
    """Make a certificate that only the processes of this benchmark will trust."""
    certificate, key = str(scratch / "certificate.pem"), str(scratch / "key.pem")
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    line += ["-keyout", key, "-out", certificate, "-subj", f"/CN={host}"]
    line += ["-addext", f"subjectAltName=DNS:{host}"]
    subprocess.run(line, check=True, capture_output=True)
    return certificate, key


def etags_of(root: Path) -> dict[str, str]:
    """Return the recorded MD5s of the files below a root, by relative path."""
    recorded = root / ETAGS
    found: dict[str, str] = json.loads(recorded.read_text()) if recorded.exists() else {}
    return found


def main() -> None:
    """Serve what the request says."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    root = Path(request["root"])
    if request["kind"] == "objects":
        from geotessera.benchmark.object_server import serve

        asyncio.run(serve(root, request["latency"]))
        return
    from geotessera.testing.server import LoopbackServer

    server = LoopbackServer(root, latency=request["latency"], bandwidth=request["bandwidth"])
    for name, digest in etags_of(root).items():
        state = (root / name).stat()
        server._etags[str(root / name), state.st_mtime_ns, state.st_size] = f'"{digest}"'
    if request["certificate"][0]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*request["certificate"])
        http = server._http
        # A handshake in the accepting thread would hold up all other connections.
        http.socket = context.wrap_socket(
            http.socket, server_side=True, do_handshake_on_connect=False
        )
    with server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            sent = {"requests": len(server.requests), "sent": server.bytes_sent}
            print(json.dumps(sent | {"data_requests": server.count("*.npy")}), flush=True)
            server.requests.clear()


if __name__ == "__main__":
    main()
