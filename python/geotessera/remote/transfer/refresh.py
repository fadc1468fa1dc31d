"""The cache of registries: refreshed when there is a network, used as it is when there is none."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.errors import RegistryError, TransferError, UnwritableDestination
from geotessera.remote.http import DEFAULT_POLICY, RetryPolicy
from geotessera.remote.transfer.request import FileRequest
from geotessera.remote.transfer.single import fetch_file

if TYPE_CHECKING:
    from geotessera.types import ProgressCallback

__all__ = ["cache_base", "refresh"]

logger = logging.getLogger(__name__)


def cache_base() -> Path:
    r"""Return the directory of this user's caches; it need not exist.

    ``$XDG_CACHE_HOME/geotessera`` or ``~/.cache/geotessera``; on Windows
    ``%LOCALAPPDATA%\geotessera``.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification tells to ignore relative paths.
        if not base.is_absolute():
            base = Path.home() / ".cache"
    return base / "geotessera"


def refresh(
    url: str,
    cached_path: str | os.PathLike[str],
    *,
    offline_ok: bool = True,
    force: bool = False,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    policy: RetryPolicy | None = None,
) -> Path:
    """Bring a cached file up to date and return its path.

    A cached copy is renewed only if the server's is newer, and is used as it is, with a
    logged warning, if that cannot be found out. Safe between processes: a reader sees the
    old file or the new one.

    Parameters
    ----------
    url : str
        ``http(s)://`` or ``file://`` URL, or a plain path.
    cached_path : path-like
        Where the copy is, or will be.
    offline_ok : bool
        Whether a cached copy that could not be compared with the server's will do.
    force : bool
        Download even if the cached copy looks current, because it is damaged (a
        conditional request would keep it).
    sha256 : str, optional
        Published digest.
    progress : callable, optional
        Called with (bytes done, bytes in all, text).
    policy : RetryPolicy, optional
        Timeouts and repetitions. With a cached copy to fall back on, at most one
        repetition is made.

    Returns
    -------
    Path
        `cached_path`.

    Raises
    ------
    RegistryError
        (a `RuntimeError`) if there is no copy that may be used; the cause is chained.
    """
    path = Path(cached_path)
    policy = policy or DEFAULT_POLICY
    fallback = offline_ok and path.is_file()
    if fallback:
        # Somebody on a train should not wait half a minute for what is already here.
        policy = replace(policy, retries=min(policy.retries, 1), body_pauses=policy.body_pauses[:1])
    try:
        fetch_file(
            FileRequest(url, path, sha256=sha256),
            progress=progress,
            conditional=not force,
            policy=policy,
        )
    except (TransferError, UnwritableDestination) as error:
        if not fallback:
            raise RegistryError(
                f"{url} could not be had ({error}), and there is no cached copy to use instead "
                f"at {path}: connect to the network, or give the path of a local registry"
            ) from error
        logger.warning("%s could not be refreshed (%s): using the copy at %s", url, error, path)
    return path
