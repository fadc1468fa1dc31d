"""Many small requests to one server, all sent by one thread.

1,460 ranges of 60 kB over 256 connections cost 0.06 s of processor time so; with a thread for
each connection they cost 0.4 s, most of it for handing the interpreter's lock round.

Only answers that are plainly right end here. At the first other one, or the first connection
that fails, no more requests are sent; what became of each is handed to who knows how long to
wait, and how often to ask again.
"""

from __future__ import annotations

import http.client
import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from geotessera.errors import TransferError, UnreachableError
from geotessera.remote.connections import Slots
from geotessera.remote.failures import RETRY_STATUSES
from geotessera.remote.http import note_answer
from geotessera.remote.light.client import Begun
from geotessera.remote.light.replies import OpenReply
from geotessera.remote.light.steps import connect, receive_body, receive_head, send

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.light.origins import Origin
    from geotessera.remote.light.steps import Steps
    from geotessera.remote.light.wire import Connection

__all__ = ["FEW", "Question", "Sweep", "connections_for"]

FEW = 128
"""Connections that are opened although each gets only one request or two."""

_GULP = 16
"""Connections that are opened before those that are open are looked after."""

_TICK = 0.2
_HUNGRY_TICK = 0.02
_LOST = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Question(NamedTuple):
    """A request.

    Parameters
    ----------
    url : str
        What is asked for.
    headers : dict
        Further headers.
    """

    url: str
    headers: dict[str, str]


def connections_for(count: int, idle: int, jobs: int) -> int:
    """Return how many connections some requests are worth.

    To open one takes two or three round trips: beyond `FEW`, only for three requests each.

    Parameters
    ----------
    count : int
        Requests.
    idle : int
        Connections that are open already.
    jobs : int
        Connections that are allowed.
    """
    return min(jobs, count, max(FEW, idle, -(-count // 3)), _descriptors() // 4)


def _descriptors() -> int:
    """Return how many files this process may have open."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:
        return 1024
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return 1 << 20 if limit == RLIM_INFINITY else limit


class _Line:
    """A connection, and what is being said on it."""

    def __init__(self, connection: Connection, *, kept: bool) -> None:
        self.connection: Connection | None = connection
        self.kept = kept
        self.index = -1
        self.handle = -1
        self.waits_for = 0
        self.limit = self.since = 0.0
        self.steps: Steps[None]


class Sweep:
    """Sends some requests to a server, each once; call `run`.

    Parameters
    ----------
    origin : Origin
        The server.
    questions : sequence of Question
        What to ask.
    length_of : callable
        Called with a question's number and the head of its answer: returns how many bytes its
        body has to have if it is plainly right, else None.
    arrived : callable
        Called with a question's number, the head, and the body. What it raises ends all.
    jobs : int
        Connections at once.
    policy : RetryPolicy
        Timeouts.
    stopped : threading.Event
        Once it is set, all is given up.
    """

    def __init__(
        self,
        origin: Origin,
        questions: Sequence[Question],
        *,
        length_of: Callable[[int, OpenReply], int | None],
        arrived: Callable[[int, OpenReply, bytes], object],
        jobs: int,
        policy: RetryPolicy,
        stopped: threading.Event,
    ) -> None:
        self._origin, self._questions, self._policy = origin, questions, policy
        self._length_of, self._arrived, self._stopped = length_of, arrived, stopped
        self._jobs, self._most = jobs, 0
        self._queue = deque(range(len(questions)))
        self._lines: set[_Line] = set()
        self._left: list[tuple[int, Begun | None]] = []
        self._unsent: list[int] = []
        self._opening = 0
        self._held = 0.0
        self._over = self._has_turn = False

    def run(self) -> list[tuple[int, Begun | None]]:
        """Send the requests, and return the numbers of those that are still to be done.

        Returns
        -------
        list of (int, Begun or None)
            What became of a request if it was sent, first what was answered first. They are to
            be closed.

        Raises
        ------
        UnreachableError
            It was stopped.
        Exception
            As `arrived`.
        """
        self._slots = Slots()
        self._selector = selectors.DefaultSelector()
        try:
            self._await_turn()
            self._most = connections_for(len(self._queue), self._origin.idle, self._jobs)
            self._go_on()
        except BaseException:
            for _, begun in self._left:
                if begun is not None:
                    begun.close()
            raise
        finally:
            unfinished = [line.index for line in self._lines if line.index >= 0]
            for line in list(self._lines):
                self._end(line)
            self._slots.give(self._slots.held)
            self._selector.close()
            self._pass_turn()
        unsent = (*unfinished, *self._unsent, *self._queue)
        return [*self._left, *((index, None) for index in unsent)]

    def _await_turn(self) -> None:
        """Wait until all requests of those who came before are sent.

        One batch at a time is sooner whole, and threads that take turns hinder each other less.
        """
        while not self._origin.turn.acquire(timeout=_TICK):
            self._check_stopped()
        self._has_turn = True

    def _pass_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._origin.turn.release()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise UnreachableError("stopped")

    def _go_on(self) -> None:
        looked = self._now()
        while not self._over:
            self._check_stopped()
            if not self._queue:
                self._pass_turn()
            patience = self._open_more()
            if not self._lines:
                if patience == _TICK:
                    return
                self._stopped.wait(patience)
                continue
            for key, _ in self._selector.select(patience):
                self._advance(key.data)
            now = self._now()
            if now - looked > _TICK / 2:
                looked = now
                for line in [one for one in self._lines if now - one.since > one.limit]:
                    self._advance(line, TimeoutError("timed out"))

    def _now(self) -> float:
        """Return seconds of a clock that stands still while somebody takes an answer.

        That others take their time is no silence of the server's.
        """
        return time.monotonic() - self._held

    # --- Connections -------------------------------------------------------------------------

    def _open_more(self) -> float:
        """Take connections as there is work; return how long to wait for those there are."""
        wanted = min(self._most - len(self._lines), len(self._queue) - self._opening)
        if wanted <= 0:
            return _TICK
        granted = self._slots.take(min(wanted, _GULP))
        for number in range(granted):
            if not (self._queue and self._begin()):
                self._slots.give(granted - number)
                return _HUNGRY_TICK
        return 0.0 if granted == _GULP else _HUNGRY_TICK

    def _begin(self) -> bool:
        """Begin to use one more connection; return whether there is one."""
        origin = self._origin
        connection = origin.take()
        kept = connection is not None
        if connection is None:
            connection = origin.fresh()
            try:
                if origin.place is None:
                    origin.open(connection, self._policy)
                    connection.sock.setblocking(False)
                    kept = True
                else:
                    connection.begin(*origin.place)
            except OSError:
                connection.close()
                # No attempt of any request: those who are there go on, or else others try.
                self._most = len(self._lines)
                return False
        line = _Line(connection, kept=kept)
        self._lines.add(line)
        line.steps = self._talk(line, connection)
        self._advance(line)
        return True

    def _advance(self, line: _Line, error: Exception | None = None) -> None:
        """Let a connection go on until it has to wait."""
        line.since = self._now()
        try:
            wanted = line.steps.throw(error) if error else next(line.steps)
        except StopIteration:
            self._end(line)
            return
        if wanted != line.waits_for:
            assert line.connection is not None
            if line.waits_for:
                self._selector.modify(line.handle, wanted, line)
            else:
                line.handle = line.connection.sock.fileno()
                self._selector.register(line.handle, wanted, line)
            line.waits_for = wanted

    def _detach(self, line: _Line) -> None:
        """Leave a connection to somebody else."""
        line.connection = None
        if line.waits_for:
            self._selector.unregister(line.handle)
            line.waits_for = 0

    def _end(self, line: _Line) -> None:
        connection = line.connection
        self._detach(line)
        if connection is not None:
            connection.close()
        line.steps.close()
        self._lines.discard(line)
        self._slots.give(1)

    # --- What is said on one -----------------------------------------------------------------

    def _talk(self, line: _Line, connection: Connection) -> Steps[None]:
        line.limit = self._policy.connect_timeout
        if not line.kept:
            self._opening += 1
            try:
                yield from connect(connection)
            except OSError:
                self._most = len(self._lines) - 1  # as in `_begin`
                return
            finally:
                self._opening -= 1
        line.limit = self._policy.read_timeout
        while self._queue:
            index = line.index = self._queue.popleft()
            keeps = yield from self._ask(line, connection, index)
            line.index = -1
            if not keeps:
                return
            line.kept = True
        self._detach(line)
        self._origin.take_back(connection, reusable=True)

    def _ask(self, line: _Line, connection: Connection, index: int) -> Steps[bool]:
        """Ask once; return whether the connection can be used again."""
        url, headers = self._questions[index]
        began = time.monotonic()
        message = self._origin.message(
            "/" + url.partition("://")[2].partition("/")[2], headers, url
        )
        try:
            yield from send(connection, message)
            status, found, body = yield from receive_head(connection)
        except (OSError, http.client.HTTPException) as error:
            if line.kept and isinstance(error, _LOST):
                self._queue.appendleft(index)  # the same attempt, on another connection
            else:
                self._leave(index, error)
            return False
        reply = OpenReply(self._origin, connection, url, status, found, body)
        length = self._length_of(index, reply)
        if length is None or len(body) > length:
            self._detach(line)
            connection.sock.settimeout(self._policy.read_timeout)
            self._origin.heed(reply, self._policy)
            self._leave(index, reply)
            return False
        note_answer("GET", url, headers, reply, time.monotonic() - began)
        if len(body) < length:
            try:
                body = yield from receive_body(connection, reply, length)
            except TransferError as broken:
                self._leave(index, broken)
                return False
        reply.left = 0
        taken = time.monotonic()
        self._arrived(index, reply, body)
        self._held += time.monotonic() - taken
        return bool(reply.keeps)

    def _leave(self, index: int, outcome: OpenReply | Exception) -> None:
        """Leave a request to others, and send no more."""
        self._left.append((index, Begun(outcome)))
        self._unsent += self._queue
        self._queue.clear()
        self._most = 0
        if isinstance(outcome, OpenReply):
            status = outcome.status_code
            self._over |= status >= 400 and status not in RETRY_STATUSES
