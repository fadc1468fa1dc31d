"""Sizes for people."""

from __future__ import annotations

__all__ = ["format_bytes"]


def format_bytes(num_bytes: float) -> str:
    """Return a size with one decimal, in binary units from B to TB, such as ``1.5 MB``."""
    value = float(num_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"
