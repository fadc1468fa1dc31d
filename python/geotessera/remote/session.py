"""The connections of this process: kept alive, shared by its threads."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["abort", "is_loopback", "release", "session", "use"]

_users: dict[int, Any] = {}
"""The connection that a thread last asked something on, by the thread's ident."""


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine."""
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
    import urllib3
    from requests.adapters import HTTPAdapter

    from geotessera import _native

    class Recorded:
        """A connection that can be found, and cut, from another thread."""

        user = 0

        def request(self, *args: Any, **options: Any) -> None:
            use(self)
            super().request(*args, **options)  # type: ignore[misc]
            # http.client drops its own reference when the answer closes the connection.
            self.live: Any = self.sock  # type: ignore[attr-defined]

    class Connection(Recorded, urllib3.connection.HTTPConnection):
        pass

    class SecureConnection(Recorded, urllib3.connection.HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    pools = {"http": Pool, "https": SecurePool}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*args, **options)
            manager.pool_classes_by_scheme = pools
            return manager

    class Session(requests.Session):
        """A session that asks no proxy for this machine's own servers: none can reach them."""

        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
            if is_loopback(url):
                settings["proxies"] = {}
            return settings

        def rebuild_proxies(self, prepared_request: Any, proxies: Any) -> Any:
            if is_loopback(prepared_request.url):
                return {}
            return super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]

    made = Session()
    made.headers["User-Agent"] = f"geotessera/{_native.__version__}"
    # Lengths and digests are those of the file as it is stored.
    made.headers["Accept-Encoding"] = "identity"
    # The cookie jar is the one part of a session that threads would write to.
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = Adapter(pool_connections=16, pool_maxsize=64, max_retries=0)
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


def use(connection: Any) -> None:
    """Note that this thread waits on a connection from now on.

    Parameters
    ----------
    connection : object
        Its attribute `user` is set; `live` is its socket, or else `sock`.
    """
    connection.user = threading.get_ident()
    _users[connection.user] = connection


def release() -> None:
    """Forget the connection that this thread used: it is in the pool again."""
    _users.pop(threading.get_ident(), None)


def abort(thread: int) -> None:
    """Cut the connection that a thread waits on, so that it stops at once.

    Parameters
    ----------
    thread : int
        Its ident. Nothing happens if it does not use a connection.
    """
    connection = _users.get(thread)
    if connection is None or connection.user != thread:  # another thread has it by now
        return
    live = getattr(connection, "live", None) or connection.sock
    if live is not None:
        with suppress(OSError):
            # Not the method of an SSL socket, which would take the session from its reader.
            socket.socket.shutdown(live, socket.SHUT_RDWR)


def _forget_session() -> None:
    # A child must not speak on its parent's connections, nor wait for its parent's lock.
    global _session, _session_lock
    _session, _session_lock = None, threading.Lock()
    _users.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_session)
