"""Runs a task in a fresh process and returns what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TaskError", "run_task"]

RUN = Path(__file__).parent / "tasks" / "run.py"
GRACE = 300.0
"""Seconds that a process has beside those of its work: to prepare, and to end."""


class TaskError(RuntimeError):
    """A task's process failed; the message is the last line that it wrote."""


def run_task(
    python: str,
    task: str,
    options: Mapping[str, Any],
    *,
    worlds: Mapping[str, str],
    work: Path,
    cache: Path,
    url: str = "",
    certificate: str = "",
    env: Mapping[str, str] | None = None,
    rounds: int = 1,
    seconds: float = 1.0,
    patience: float = 300.0,
    memory: bool = False,
    total: bool = False,
) -> dict[str, Any]:
    """Run one task.

    Parameters
    ----------
    python : str
        Interpreter: ours or a peer's.
    task, options
        As `geotessera.benchmark.model.Call` has them.
    worlds : mapping of str to str
        Directories of the data.
    work, cache : Path
        Directory for what is written and removed afterwards; and for what stays.
    url, certificate : str
        Of the server, if there is one.
    env : mapping
        Further environment variables.
    rounds, seconds, patience, memory, total
        As `tasks/run.py` describes them.

    Returns
    -------
    dict
        ``seconds`` and ``cpu_seconds`` (a list each), ``peak_rss``, ``peak_anonymous``,
        ``result_bytes``, ``written`` (bytes a call) and what the task says itself; or, where
        patience was lost, ``cut`` with the seconds until then.

    Raises
    ------
    TaskError
        If it fails or takes too long.
    """
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=work, prefix="run-"))
    place = {"worlds": dict(worlds), "scratch": str(scratch), "cache": str(cache)}
    request = {
        "task": task,
        "options": dict(options),
        "place": place | {"url": url, "certificate": certificate},
        "rounds": rounds,
        "seconds": seconds,
        "patience": patience,
        "memory": memory,
        "sum": total,
    }
    # A peer must not find our package, nor the one that somebody works on.
    around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [python, "-P", str(RUN), json.dumps(request)]
    try:
        done = _in_a_group(
            line,
            env=around | {"PYTHONWARNINGS": "ignore"} | dict(env or {}),
            cwd=scratch,
            timeout=patience + GRACE,
        )
    except subprocess.TimeoutExpired as late:
        raise TaskError(f"took more than {late.timeout:g} s") from None
    except OSError as error:  # the interpreter is gone
        raise TaskError(str(error)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise TaskError(lines[-1])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _in_a_group(
    line: list[str], *, env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a process with all that it starts; nothing of these is left afterwards."""
    # Files, not pipes: these would stay open as long as anything that it started.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            line, env=env, cwd=cwd, stdout=output, stderr=errors, start_new_session=True
        ) as process:
            try:
                process.wait(timeout)
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(line, process.returncode, output.read(), errors.read())
