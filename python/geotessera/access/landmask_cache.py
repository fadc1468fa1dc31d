"""Landmasks kept between runs: the parts of tiles that nearly never change."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from geotessera.errors import FormatError, TransferError, UnwritableDestination
from geotessera.remote.transfer import fetch_file
from geotessera.sources.landmask import read_georeference
from geotessera.tile_files import landmask_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geotessera.registry import Registry
    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.transfer.request import FileRequest
    from geotessera.types import TileId

__all__ = ["LANDMASK_DAYS", "LandmaskCache"]

logger = logging.getLogger("geotessera")

LANDMASK_DAYS = 30
"""After so many days a cached landmask is compared with the server's; they hardly ever change."""


class LandmaskCache:
    """Landmasks, kept for later processes beside the registry.

    Safe to use from many threads and processes.

    Parameters
    ----------
    registry : Registry
        Where they come from, and where its cache is.
    fallback : callable
        Returns the directory where they go if the cache cannot be written.
    policy : RetryPolicy, optional
        Timeouts and repetitions.
    """

    def __init__(
        self, registry: Registry, fallback: Callable[[], Path], policy: RetryPolicy | None
    ) -> None:
        self._registry = registry
        self._fallback = fallback
        self._policy = policy
        self._checked: set[Path] = set()

    def request(self, tile: TileId) -> FileRequest:
        """Return what to fetch for a tile, and where it is cached."""
        directory = self._registry.landmasks_cache
        made = landmask_request(self._registry, tile.lon, tile.lat, directory, tile.year)
        return replace(made, dest=directory / made.dest.name)

    def get(self, request: FileRequest) -> Path:
        """Return the path of a landmask, from the cache if it is there and sound.

        Raises
        ------
        TransferError
            (an `OSError`) if it is not cached and cannot be had.
        FormatError
            (a `RuntimeError` and a `ValueError`) if the server's is not the tile's landmask.
        """
        try:
            path = self._current(request)
        except UnwritableDestination as error:
            logger.info("Landmasks are not cached: %s", error)
            path = self._current(replace(request, dest=self._fallback() / request.dest.name))
        try:
            read_georeference(path)
        except FormatError:
            # Damaged in the cache, or on the server: the second time it is the server.
            path.unlink(missing_ok=True)
            read_georeference(self._current(replace(request, dest=path)))
        return path

    def _current(self, request: FileRequest) -> Path:
        path = request.dest
        try:
            known = path in self._checked or _age_days(path) < LANDMASK_DAYS
            present = path.is_file()
        except OSError:
            known = present = False
        if present and known:
            return path
        try:
            done = fetch_file(
                request,
                conditional=present,
                verify=self._registry.verifies,
                policy=self._policy,
            )
            if done.not_modified:
                os.utime(path, (time.time(), path.stat().st_mtime))
        except TransferError as error:
            if not present:
                raise
            logger.warning("%s could not be compared (%s): using the copy", path, error)
        self._checked.add(path)
        return path


def _age_days(path: Path) -> float:
    # When it was put there: its mtime is the server's.
    return (time.time() - path.stat().st_ctime) / 86400
