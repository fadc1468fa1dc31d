"""The server: who listens, how many are served at once, and how it ends."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geotessera.errors import InputError
from geotessera.serving.binding import LOOPBACK, is_loopback, listen
from geotessera.serving.handler import Connection

if TYPE_CHECKING:
    import os

__all__ = ["DEFAULT_PORT", "LOOPBACK", "Server", "bind"]

DEFAULT_PORT = 8000

CONNECTIONS = 128
"""Connections served at once; others wait until one of these is closed."""

# Beyond it, connections are closed after each answer instead of waiting for the next request.
_CROWDED = CONNECTIONS // 2

logger = logging.getLogger(__name__)


def bind(port: int = DEFAULT_PORT, host: str = LOOPBACK) -> Server:
    """Take a port, exclusively; files are served later, by `Server.serve` or `Server.start`.

    Parameters
    ----------
    port : int
        0 lets the system choose.
    host : str
        Whom to listen to: by default this machine alone (127.0.0.1 and ::1);
        ``"0.0.0.0"`` or ``"::"`` is every network that this machine is in.

    Raises
    ------
    BindError
        (an `OSError`) "Cannot bind web server": the port is occupied, or not allowed.

    Examples
    --------
    >>> with bind(port=0) as server:
    ...     server.url.startswith("http://localhost:")
    True
    """
    return Server(listen(host, port), host)


class Server:
    """A port that is taken, and the directory that is served there.

    A context manager, which closes it.

    Attributes
    ----------
    host : str
        As it was given.
    port : int
    url : str
        Of the directory: ``http://localhost:8000/``.
    is_local : bool
        Whether only this machine is listened to.
    directory : Path
        What is served, with links resolved.
    """

    def __init__(self, sockets: list[socket.socket], host: str) -> None:
        self.host = host
        self.port = int(sockets[0].getsockname()[1])
        self.is_local = is_loopback(host)
        self.directory = Path()
        self._sockets = sockets
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Of the directory, with a slash at its end."""
        everywhere = self.host in ("", "*", "0.0.0.0", "::")
        name = "localhost" if everywhere or self.host in (LOOPBACK, "::1") else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    @property
    def is_crowded(self) -> bool:
        """Whether connections should make room for others."""
        return len(self._open) > _CROWDED

    def serve(self, directory: str | os.PathLike[str], page: str | None = None) -> None:
        """Serve a directory until `close` is called, or Ctrl-C.

        Parameters
        ----------
        directory : path
            Its files and directories are served, but hidden ones, and links that lead out.
        page : str, optional
            A page that must exist in it.

        Raises
        ------
        InputError
            (a `ValueError`) if there is no such directory, or page.
        """
        self._take(directory, page)
        self._accept()

    def start(self, directory: str | os.PathLike[str], page: str | None = None) -> Self:
        """Serve a directory in the background, until `close`. See `serve`."""
        self._take(directory, page)
        self._thread = threading.Thread(target=self._accept, name="geotessera-serve", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Give the port back and end all connections."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if self._thread is not None:
            self._thread.join()
        for one in (*self._sockets, self._wake, self._woken):
            one.close()
        with self._lock:
            still = dict(self._open)
        for connection in still:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still.values():
            thread.join(2.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take(self, directory: str | os.PathLike[str], page: str | None) -> None:
        from geotessera.serving.files import find_page

        path = Path(directory)
        if not path.is_dir():
            raise InputError(f"there is no directory {path} to serve")
        if page is not None:
            find_page(path, page)
        self.directory = path.resolve()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for one in (*self._sockets, self._woken):
                selector.register(one, selectors.EVENT_READ)
            while not self._closing.is_set():
                # Ctrl-C does not end a wait without end everywhere.
                for key, _ in selector.select(1.0):
                    if key.fileobj is not self._woken:
                        self._admit(key.fileobj)  # type: ignore[arg-type]

    def _admit(self, listener: socket.socket) -> None:
        # Those who come while all places are taken wait in the system's queue.
        while not self._room.acquire(timeout=0.2):
            if self._closing.is_set():
                return
        try:
            connection, address = listener.accept()
        except OSError as error:
            self._room.release()
            if not isinstance(error, BlockingIOError | ConnectionError):
                logger.debug("no connection could be taken: %s", error)
                self._closing.wait(0.1)  # out of files: others have to be closed first
            return
        connection.setblocking(True)
        thread = threading.Thread(target=self._handle, args=(connection, address), daemon=True)
        with self._lock:
            self._open[connection] = thread
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            logger.debug("no thread for a connection: %s", error)
            self._forget(connection)

    def _handle(self, connection: socket.socket, address: Any) -> None:
        try:
            Connection(connection, address, self)  # type: ignore[arg-type] # see `Connection`
        except OSError as error:  # it broke off before anything was read
            logger.debug("connection of %s: %s", address, error)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
        connection.close()
        self._room.release()
