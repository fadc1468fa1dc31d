"""Where the real data sets are: beside the repository, on machines that have them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
"""The folder of real data sets."""


def path(relative: str) -> Path:
    """Return a real file or folder; the calling test is skipped where there is none."""
    found = ROOT / relative
    if not found.exists():
        pytest.skip(f"the real data are not here: no {relative} in ../shared/data/real")
    return found
