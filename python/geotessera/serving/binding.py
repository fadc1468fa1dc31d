"""Listening sockets: exclusive, and on IPv4 and IPv6 alike."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from ipaddress import ip_address

from geotessera.errors import GeoTesseraError, InputError

__all__ = ["LOOPBACK", "BindError", "is_loopback", "listen"]

LOOPBACK = "127.0.0.1"

_BACKLOG = 128

# Ports that the system chooses for IPv4 may be taken for IPv6: then another is asked for.
_ATTEMPTS = 16

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class BindError(GeoTesseraError, OSError):
    """A port or an address that a server cannot have: most often it is occupied."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine's own."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets of one port, on every family that a host stands for.

    Parameters
    ----------
    host : str
        A loopback name or address stands for 127.0.0.1 and ::1, as browsers try both for
        ``localhost``; ``0.0.0.0``, ``::`` or nothing for all interfaces.
    port : int
        0 lets the system choose.

    Raises
    ------
    BindError
        (an `OSError`) if the port is occupied, forbidden, or the host is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} must lie in 0..65535")
    for attempt in range(_ATTEMPTS):
        sockets: list[socket.socket] = []
        try:
            for family, address in _addresses(host):
                wanted = sockets[0].getsockname()[1] if sockets else port
                # An absent family is none to listen on, so long as there is another.
                with contextlib.suppress(_AbsentError):
                    sockets.append(_listening(family, address, wanted))
        except OSError as error:
            for one in sockets:
                one.close()
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < _ATTEMPTS - 1:
                continue
            raise BindError(_reason(host, port, error)) from error
        if sockets:
            return sockets
        break
    raise BindError(f"Cannot bind web server to {host}: this machine has no such address")


class _AbsentError(OSError):
    """A family of addresses that this machine does not have."""


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    v4, v6 = socket.AF_INET, socket.AF_INET6
    if host in ("localhost", LOOPBACK, "::1"):
        return [(v4, LOOPBACK), (v6, "::1")]
    if host in ("", "*", "0.0.0.0", "::"):
        return [(v4, "0.0.0.0"), (v6, "::")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name that IDNA has no form for
        raise OSError(errno.EINVAL, str(error)) from error
    return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))


def _listening(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        server = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _AbsentError(error.errno, error.strerror) from error
    try:
        if sys.platform == "win32":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # ports of connections just closed are free again; one listened on is not
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address, port))
        server.listen(_BACKLOG)
        server.setblocking(False)
    except OSError as error:
        server.close()
        if error.errno in _ABSENT:
            raise _AbsentError(error.errno, error.strerror) from error
        raise
    return server


def _reason(host: str, port: int, error: OSError) -> str:
    where = f"Cannot bind web server on port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: it is in use; choose another --port"
    if error.errno == errno.EACCES:
        return f"{where}: this user may not; choose a --port above 1023"
    return f"{where} of {host}: {error.strerror or error}"
