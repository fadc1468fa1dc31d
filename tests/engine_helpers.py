"""Small files, a server, and policies without long waits, for the tests of the engine."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from geotessera.remote.http import RetryPolicy
from geotessera.remote.temporary import is_temporary_name
from geotessera.remote.transfer.engine import Group, transfer
from geotessera.remote.transfer.request import FileRequest

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.remote.transfer.engine import GroupResult
    from geotessera.testing.server import Fault, LoopbackServer

BLOCK, SPAN = 256, 1024

FAST = RetryPolicy(
    connect_timeout=20, read_timeout=20, backoff=0.001, body_pauses=(0.001,) * 3, longest_wait=0.01
)


def policy_for(fault: Fault, policy: RetryPolicy = FAST) -> RetryPolicy:
    """Return a policy that waits for silence only where there is some: machines pause too."""
    return replace(policy, read_timeout=fault.seconds / 4) if fault.seconds else policy


NAMES = ("grid_0.15_52.05.tiff", "grid_0.15_52.05_scales.npy", "grid_0.15_52.05.npy")
SIZES = (100, 1500, 9000)


def publish(root: Path, seed: int = 0) -> dict[str, bytes]:
    """Write the three files of a "tile": less than a block, than a span, and many spans."""
    root.mkdir(parents=True, exist_ok=True)
    made = random.Random(seed)
    bodies = {name: made.randbytes(size) for name, size in zip(NAMES, SIZES, strict=True)}
    for name, body in bodies.items():
        (root / name).write_bytes(body)
    return bodies


def tile_group(
    server: LoopbackServer,
    bodies: dict[str, bytes],
    out: Path,
    *,
    hashed: bool = False,
    sized: bool = True,
    replace: bool = False,
    key: object = "tile",
) -> Group:
    requests = tuple(
        FileRequest(
            server.url_of(name),
            out / name,
            sha256=hashlib.sha256(body).hexdigest() if hashed else None,
            size=len(body) if sized else None,
        )
        for name, body in bodies.items()
    )
    return Group(key, requests, replace=replace)


def fetch(*groups: Group, jobs: int = 4, policy: RetryPolicy = FAST) -> list[GroupResult]:
    return list(transfer(groups, jobs=jobs, policy=policy, block=BLOCK, span=SPAN))


def litter(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.rglob("*") if is_temporary_name(p.name))


def files(directory: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and not is_temporary_name(p.name)
    }
