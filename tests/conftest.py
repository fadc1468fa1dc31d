"""Worlds that tests share; they are read only: build your own to change one."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from geotessera.remote.http import RetryPolicy
from geotessera.testing import SampleWorld

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser import Chromium


# In CI the same examples every time: what fails there fails here too. Elsewhere new ones.
# No deadlines anywhere: a busy machine is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", patient, derandomize=True)
settings.register_profile("elsewhere", patient)
settings.load_profile("ci" if os.environ.get("CI") else "elsewhere")

# Shells start what runs in the background without SIGINT, and nohup without SIGHUP: programs
# that tests start would inherit that, and outlive what is to stop them.
if threading.current_thread() is threading.main_thread():
    for _number, _handler in (
        (signal.SIGINT, signal.default_int_handler),
        (getattr(signal, "SIGHUP", None), lambda *_: None),
    ):
        if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
            signal.signal(_number, _handler)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Two tiles of 4 bands (2024) on a zone seam, in generation B: 3 MB."""
    return SampleWorld.build(tmp_path_factory.mktemp("tiny"), size="tiny")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Nine tiles of 8 bands (2023, 2024) in all generations: seam, south, antimeridian."""
    return SampleWorld.build(
        tmp_path_factory.mktemp("small"), size="small", generation=("B", "A", "A-simple")
    )


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat failed transfers at once: as often as usual, without the waits."""
    policy = RetryPolicy(
        backoff=0.001, longest_wait=0.01, body_pauses=(0.001, 0.001, 0.001), sleep=lambda _: None
    )
    for module in ("http", "transfer.engine", "transfer.refresh", "transfer.single"):
        monkeypatch.setattr(f"geotessera.remote.{module}.DEFAULT_POLICY", policy)


@pytest.fixture
def read_only_directory() -> Iterator[Path]:
    """A directory that this process may not write; root works as somebody else meanwhile."""
    # Not below tmp_path, which only its owner may enter.
    path = Path(tempfile.mkdtemp())
    path.chmod(0o555)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    elif os.access(path, os.W_OK):
        pytest.skip("this system ignores the modes of directories")
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o755)
        shutil.rmtree(path)


# Not for the session: while Playwright runs, nothing else in its thread may use asyncio.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser without a window and without a network; skips where there is none."""
    from tests import browser

    with browser.started() as running:
        yield running
