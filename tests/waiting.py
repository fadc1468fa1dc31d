"""Waiting for what comes when the machine lets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 120.0
"""Seconds until a test that hangs is ended: never a claim about how fast something is."""


def until(met: Callable[[], object], alive: Callable[[], object] = lambda: True) -> None:
    """Wait until something is true; fail where it cannot become so any more."""
    end = time.monotonic() + PATIENCE
    while not met():
        assert alive() or met(), "what was waited for has ended"
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} seconds"
        time.sleep(0.01)
