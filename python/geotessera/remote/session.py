"""The connections of this process: kept alive, shared by its threads."""

from __future__ import annotations

import ipaddress
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["session"]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _new_session() -> requests.Session:
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    from geotessera import _native

    class Session(requests.Session):
        """A session that asks no proxy for this machine's own servers: none can reach them."""

        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
            if _is_loopback(url):
                settings["proxies"] = {}
            return settings

        def rebuild_proxies(self, prepared_request: Any, proxies: Any) -> Any:
            if _is_loopback(prepared_request.url):
                return {}
            return super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]

    made = Session()
    made.headers["User-Agent"] = f"geotessera/{_native.__version__}"
    # Lengths and digests are those of the file as it is stored.
    made.headers["Accept-Encoding"] = "identity"
    # The cookie jar is the one part of a session that threads would write to.
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_connections=16, pool_maxsize=64, max_retries=0)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


_session: requests.Session | None = None
_session_lock = threading.Lock()


def session() -> requests.Session:
    """Return the session of this process: connections kept alive, shared by all threads."""
    global _session
    with _session_lock:
        if _session is None:
            _session = _new_session()
        return _session


def _forget_session() -> None:
    # A child must not speak on its parent's connections, nor wait for its parent's lock.
    global _session, _session_lock
    _session, _session_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_session)
