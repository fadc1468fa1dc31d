"""Sizes for people."""

from __future__ import annotations

import math
import re

from geotessera.errors import InputError

__all__ = ["format_bytes", "parse_size"]

_SIZE = re.compile(
    r"\s*(\d+(?:_\d+)*(?:\.\d*)?|\.\d+)\s*(?:([KMGTP])(I?)B?|B|BYTES?)?\s*", re.ASCII
)


def format_bytes(num_bytes: float) -> str:
    """Return a size with one decimal, in binary units from B to TB, such as ``1.5 MB``."""
    value = float(num_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def parse_size(size: str | float, name: str = "size") -> int:
    """Return a size in bytes.

    Parameters
    ----------
    size : str, int or float
        Bytes, or a number with a unit in any case: KB, MB, GB, TB and PB are powers of 1000
        (the B may be left out); KiB, MiB, GiB, TiB and PiB are powers of 1024.
    name : str
        What an error calls it.

    Raises
    ------
    InputError
        (a `ValueError`) unless it is a positive number of bytes.

    Examples
    --------
    >>> parse_size("10GB"), parse_size("1.5 KiB"), parse_size(4096)
    (10000000000, 1536, 4096)
    """
    value = math.nan
    if isinstance(size, str):
        if match := _SIZE.fullmatch(size.upper()):
            number, unit, binary = match.groups()
            power = "KMGTP".index(unit) + 1 if unit else 0
            value = float(number) * (1024 if binary else 1000) ** power
    elif isinstance(size, (int, float)) and not isinstance(size, bool):
        value = size
    if not 1 <= value < 2**63:
        raise InputError(
            f"{name}={size!r} is not a size: expected a positive number of bytes, such as "
            "'10GB', '500 MiB' or 10_000_000_000"
        )
    return int(value)
