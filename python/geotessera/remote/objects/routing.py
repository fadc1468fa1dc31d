"""Where the objects of a published store are asked for: at its bucket, or at the gateway."""

from __future__ import annotations

import os

from geotessera.datasets import (
    TESSERA_MIRROR_S3_HTTP_URL,
    TESSERA_MIRROR_URL,
    canonical_store_location,
)

__all__ = ["GATEWAY_ENV", "base_of", "uses_gateway"]

GATEWAY_ENV = "GEOTESSERA_VIA_GATEWAY"


def uses_gateway(via_gateway: bool | None = None) -> bool:
    """Return whether published stores are read through the gateway.

    Parameters
    ----------
    via_gateway : bool, optional
        By default the environment variable ``GEOTESSERA_VIA_GATEWAY``: any value but none,
        ``0`` and ``false``.
    """
    if via_gateway is None:
        return os.environ.get(GATEWAY_ENV, "").strip().lower() not in ("", "0", "false")
    return bool(via_gateway)


def base_of(location: str, via_gateway: bool | None = None) -> str:
    """Return the URL at which a store's objects are asked for.

    Parameters
    ----------
    location : str
        The store, in either spelling.
    via_gateway : bool, optional
        As for `uses_gateway`.
    """
    canonical = canonical_store_location(location)
    if canonical.startswith(TESSERA_MIRROR_URL + "/") and not uses_gateway(via_gateway):
        return TESSERA_MIRROR_S3_HTTP_URL + canonical.removeprefix(TESSERA_MIRROR_URL)
    return canonical
