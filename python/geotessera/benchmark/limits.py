"""The machine's limits: what no program can be faster than here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geotessera.benchmark.model import Server
from geotessera.benchmark.process import TaskError, run_task
from geotessera.benchmark.servers import serving
from geotessera.benchmark.tasks.shared import processors
from geotessera.benchmark.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

__all__ = ["Limit", "Measured", "limits", "measure_limits"]

MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that the machine does, and how much of it a call does.

    Parameters
    ----------
    name, title : str
        As bounds and as reports call it.
    task : str
        Function of ``tasks/limits.py``.
    work : float
        Units a call.
    options : mapping
        Of the function.
    unit : {"B", "page", "request", "start"}
        What is counted.
    served : bool
        Whether a server is needed.
    """

    name: str
    title: str
    task: str
    work: float
    options: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "B"
    served: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A limit as measured: units a second, at the best of a number of calls and in the middle."""

    name: str
    title: str
    unit: str
    best: float
    middle: float


def limits(quick: bool = False) -> tuple[Limit, ...]:
    """Return all limits, for one processor and for all that may be used."""
    size = (64 if quick else 512) * MB
    small = size // 8
    every = processors()
    found = []
    for suffix, threads in (("", 1), ("_all", every)):
        of = f"{threads} thread" + "s" * (threads > 1)
        both = {"size": size, "threads": threads}
        found += [
            Limit(f"copy{suffix}", f"Copy memory, {of}", "copy", 2 * size, both),
            Limit(f"add{suffix}", f"Add two arrays into a third, {of}", "add", size, both),
            Limit(f"fill{suffix}", f"Fill memory, {of}", "fill", size, both),
            Limit(f"touch{suffix}", f"Touch fresh memory, {of}", "touch", size, both),
        ]
        for algorithm in ("sha256", "md5"):
            options = {"algorithm": algorithm, "size": small, "threads": threads}
            # Each thread digests its share of `size`.
            title = f"{algorithm.upper().replace('SHA', 'SHA-')}, {of}"
            found.append(Limit(f"{algorithm}{suffix}", title, "digest", small, options))
        for how in ("lzw", "zstd"):
            options = {"how": how, "size": small, "threads": threads}
            title = f"Compress with GDAL: {how.upper()}, {of}"
            found.append(Limit(f"{how}{suffix}", title, "compress", small, options))
    pages = size // 8192
    requests = 200 if quick else 2000
    return (
        *found,
        Limit("fault", "Touch small fresh pages", "fault", pages, {"pages": pages}, "page"),
        Limit("disk_write", "Write to the disk", "disk_write", size, {"size": size}),
        Limit(
            "disk_read", "Read from the disk", "disk_read", size, {"size": size, "cached": False}
        ),
        Limit(
            "page_cache",
            "Read from the page cache",
            "disk_read",
            size,
            {"size": size, "cached": True},
        ),
        Limit("http", "HTTP on this machine", "http_rate", size, {"size": size}, "B", True),
        Limit(
            "request",
            "HTTP requests on this machine, one at a time",
            "http_requests",
            requests,
            {"count": requests},
            "request",
            True,
        ),
        Limit("start", "Start Python", "interpreter", 1, {"imports": "sys"}, "start"),
        Limit("numpy", "Start Python with NumPy", "interpreter", 1, {"imports": "numpy"}, "start"),
    )


def measure_limits(
    python: str,
    work: Path,
    *,
    names: Collection[str] | None = None,
    quick: bool = False,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measure limits, each in a process of its own.

    Parameters
    ----------
    python : str
        Interpreter.
    work : Path
        Directory to write to, whose disk is measured.
    names : collection of str, optional
        Which limits; all by default.
    quick : bool
        With little memory and few requests.
    say : callable
        Told what came out.

    Returns
    -------
    measured : dict of Measured
        By name.
    failed : dict of str
        Reasons, by name.
    """
    measured, failed = {}, {}
    served = work / "served"
    served.mkdir(parents=True, exist_ok=True)
    large = served / "large"
    size = (64 if quick else 512) * MB
    with large.open("wb") as file:
        file.truncate(size)
    with serving(Server("store", "files"), served, work) as server:
        for limit in limits(quick):
            if names is not None and limit.name not in names:
                continue
            try:
                answer = run_task(
                    python,
                    f"limits.{limit.task}",
                    limit.options,
                    worlds={},
                    work=work,
                    cache=work / "cache",
                    url=server.url if limit.served else "",
                    rounds=3 if quick else 9,
                    seconds=0.2 if quick else 0.5,
                )
            except TaskError as error:
                failed[limit.name] = str(error)
                say(f"limit {limit.name}: {error}")
                continue
            times = sorted(answer["seconds"])
            best, middle = limit.work / times[0], limit.work / times[len(times) // 2]
            measured[limit.name] = Measured(limit.name, limit.title, limit.unit, best, middle)
            say(f"{limit.title}: {rate_text(best, limit.unit)}")
    large.unlink()
    return measured, failed
