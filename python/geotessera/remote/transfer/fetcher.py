"""What the engine's threads do with a task: ask, write, record, verify, start again."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING, Protocol

from geotessera.errors import (
    ChangedError,
    ChecksumMismatchError,
    HTTPStatusError,
    SizeMismatchError,
    TransferError,
    TruncatedError,
    UnwritableDestination,
)
from geotessera.remote.connections import slot
from geotessera.remote.ranges import spans
from geotessera.remote.temporary import temporary_stem
from geotessera.remote.transfer.answer import Answer, NotTheRangeError, ask
from geotessera.remote.transfer.checks import check_digest, check_length
from geotessera.remote.transfer.digests import read_into
from geotessera.remote.transfer.leftovers import (
    LeftOver,
    discard_certain,
    left_overs,
    take_over,
)
from geotessera.remote.transfer.plan import Task
from geotessera.remote.transfer.request import Transferred
from geotessera.remote.transfer.resume import BLOCK_ALGORITHM, ResumableFile

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from geotessera.remote.http import RetryPolicy
    from geotessera.remote.transfer.plan import WantedFile
    from geotessera.types import Algorithm

__all__ = ["Abandoned", "Fetcher"]

logger = logging.getLogger(__name__)


class Abandoned(Exception):  # noqa: N818 - no error: the task has become pointless
    """A task that is not wanted any more."""


class _Engine(Protocol):
    """What is needed of the engine."""

    lock: threading.Condition
    moved: float

    def put(self, task: Task, wait: float = 0.0) -> None: ...
    def keep_quiet(self, seconds: float) -> None: ...
    def is_stopped(self) -> bool: ...
    def expect(self, file: WantedFile, length: int) -> None: ...
    def show(self, label: str) -> None: ...


class Fetcher:
    """Does tasks.

    Parameters
    ----------
    engine : object
        Takes new tasks and is told of progress; its lock guards the state of files.
    policy : RetryPolicy
        Timeouts and repetitions.
    verify : bool
        Whether digests are compared.
    block, span : int
        Bytes that are recorded, and asked for, at a time.
    """

    def __init__(
        self, engine: _Engine, policy: RetryPolicy, *, verify: bool, block: int, span: int
    ) -> None:
        self._engine = engine
        self._lock = engine.lock
        self._policy = policy
        self._verify = verify
        self._block = block
        self._span = max(span // block, 1) * block
        self._left: dict[Path, dict[str, list[LeftOver]]] = {}

    def do(self, task: Task) -> None:
        """Open a file, or fetch a range of it; the last range verifies the file.

        Raises
        ------
        Abandoned
            The task has become pointless.
        TransferError
            The file cannot be had, after all attempts.
        UnwritableDestination
            It cannot be written.
        """
        if task.part is None and not self._begin(task):
            return
        part = task.part
        assert part is not None
        if self._is_pointless(task) or not part.hold():
            return
        failed: TransferError | None = None
        try:
            answered = self._fetch(task, part)
        except NotTheRangeError as error:
            failed, answered = error, True
        except TransferError as error:
            failed, answered = error, task.answered
        finally:
            part.release()
        if isinstance(failed, NotTheRangeError):
            self._start_again(task, failed, whole=failed.whole)
        elif failed is not None:
            self._repeat(task, failed, answered=answered)
        elif answered:
            self._end_task(task, part)

    def _is_pointless(self, task: Task) -> bool:
        file = task.file
        return (
            self._engine.is_stopped() or file.group.error is not None or file.part is not task.part
        )

    # --- Beginning ---------------------------------------------------------------------------

    def _begin(self, task: Task) -> bool:
        """Make or take over the unfinished file; return whether this task is to ask for it."""
        file, request = task.file, task.file.request
        part = None
        left = self._left_overs(request.dest)
        if not file.restarts and request.size is not None and request.size > self._block:
            part = take_over(request, left, self._block)
        else:
            discard_certain(left)
        if part is None:
            part = ResumableFile(request.dest, self._block)
            part.create()
        with self._lock:
            file.part, file.adopted = part, part.remote is not None
            file.received = 0
            file.open_tasks = 1
        task.part, task.start, task.stop = part, 0, None
        if part.remote is None:
            if request.size is not None and request.size > self._span and not file.whole:
                task.stop = self._span
            return True
        assert part.remote.length is not None
        file.received = part.remote.length - sum(stop - start for start, stop in part.missing())
        logger.info("%s: going on after %s bytes", request.url, f"{file.received:,}")
        self._schedule(file, part)
        self._end_task(task, part)
        return False

    def _left_overs(self, dest: Path) -> list[LeftOver]:
        with self._lock:  # once a directory: there may be a hundred thousand files in it
            if dest.parent not in self._left:
                self._left[dest.parent] = left_overs(dest.parent)
            return self._left[dest.parent].pop(temporary_stem(dest), [])

    def leave(self, part: ResumableFile) -> None:
        """Leave a file unfinished, for another group of this transfer too."""
        part.leave()
        dest = part.destination
        with self._lock:
            known = self._left.get(dest.parent)
            if known is not None and part.path.exists():
                known.setdefault(temporary_stem(dest), []).append(LeftOver(part.path, certain=True))

    def _schedule(self, file: WantedFile, part: ResumableFile, start: int = 0) -> None:
        """Put tasks for what is missing from a byte on."""
        tasks = [
            Task(file, part, *each)
            for run in part.missing()
            for each in spans(max(run[0], start), run[1], self._span)
        ]
        with self._lock:
            file.open_tasks += len(tasks)
            for task in tasks:
                self._engine.put(task)

    def _establish(self, task: Task, part: ResumableFile, answer: Answer) -> None:
        """Learn from the first answer how long the file is, and plan the rest of it."""
        file, request, remote = task.file, task.file.request, answer.remote
        if remote.length is not None:
            check_length(request, remote.length, request.size, "the registry")
        rest = remote.length is not None and answer.stop != remote.length
        if rest and remote.validator is None and request.sha256 is None:
            raise NotTheRangeError(
                f"{request.url} has neither ETag nor date, by which its parts would be known to "
                "belong together",
                url=request.url,
                whole=True,
            )
        with self._lock:
            if self._is_pointless(task):
                raise Abandoned
            if remote.length is not None:
                self._engine.expect(file, remote.length)
        part.establish(request, remote)
        task.stop = answer.stop
        if rest:
            assert answer.stop is not None
            self._schedule(file, part, answer.stop)

    # --- Receiving ---------------------------------------------------------------------------

    def _fetch(self, task: Task, part: ResumableFile) -> bool:
        """Ask for a task's bytes and write them; return False if there was no time for it."""
        file = task.file
        task.answered = False
        with slot(self._engine.is_stopped) as free:
            if not free:
                return False
            self._engine.show(file.request.label or file.request.dest.name)
            url = file.request.url
            with ask(url, task.start, task.stop, part.remote, self._policy) as answer:
                task.answered = True
                self._engine.moved = time.monotonic()
                if part.remote is None:
                    self._establish(task, part, answer)
                before = file.received
                try:
                    self._receive(task, part, answer)
                except BaseException:
                    with self._lock:
                        file.received = part.received if part.is_recorded else before
                    raise
        return True

    def _receive(self, task: Task, part: ResumableFile, answer: Answer) -> None:
        """Write what arrives, and record every block that is whole."""
        from geotessera import _native

        file, stop, offset = task.file, answer.stop, answer.start
        in_order = offset == 0 and stop == answer.remote.length
        stream = _native.Hasher(*self._algorithms(file, part)) if in_order else None
        block = _native.Hasher(BLOCK_ALGORITHM) if part.is_recorded else None
        for chunk in answer.chunks:
            if self._is_pointless(task):
                raise Abandoned
            self._engine.moved = time.monotonic()
            data = memoryview(chunk)
            if stream is not None:
                stream.update(data)
            while data:
                end = offset + len(data) if block is None else part.block_end(offset)
                piece, data = data[: end - offset], data[end - offset :]
                part.write(piece, offset)
                offset += len(piece)
                with self._lock:
                    file.received += len(piece)
                if block is None:
                    continue
                block.update(piece)
                if offset == end:
                    part.finish_block((end - 1) // part.block, block.hexdigest(BLOCK_ALGORITHM))
                    block = _native.Hasher(BLOCK_ALGORITHM)
                    task.start, task.refusals, task.breaks = offset, 0, 0
        if stop is not None and offset != stop:
            raise TruncatedError(
                f"{file.request.url} broke off after {offset:,} of {stop:,} bytes: try again",
                url=file.request.url,
            )
        if stop is None:
            check_length(file.request, offset, file.request.size, "the registry")
        if not part.is_recorded:
            part.finish_whole(offset)
        if stream is not None:
            part.hasher = stream

    # --- Failing -----------------------------------------------------------------------------

    def _repeat(self, task: Task, error: TransferError, *, answered: bool) -> None:
        """Put a task again, to be done after a wait; what it recorded is not asked for again."""
        part, policy = task.part, self._policy
        assert part is not None
        if self._is_pointless(task):
            raise Abandoned
        if not error.passing:
            raise error
        if answered:
            # A length that is not the registry's may be one bad answer, hardly two.
            pauses = (0.0,) if isinstance(error, SizeMismatchError) else policy.body_pauses
            if task.breaks >= len(pauses):
                raise error
            wait = policy.jittered(pauses[task.breaks])
            task.breaks += 1
        else:
            if task.refusals >= policy.retries:
                raise error
            asked = error.retry_after if isinstance(error, HTTPStatusError) else None
            wait = policy.wait_before(task.refusals, asked)
            task.refusals += 1
            if asked is not None:
                self._engine.keep_quiet(wait)
        logger.info("%s; trying again in %.1f s", error, wait)
        if answered and not part.is_recorded:
            # Nothing of it can be kept: a new file, so that an old writer cannot spoil it.
            self._replace(task, wait, breaks=task.breaks)
        else:
            self._engine.put(task, wait)

    def _start_again(self, task: Task, error: TransferError, *, whole: bool) -> None:
        """Throw away what is there of a file, and put a task that fetches it anew."""
        file, pauses = task.file, self._policy.body_pauses
        with self._lock:
            if self._is_pointless(task):
                raise Abandoned
            attempt = file.restarts - file.free_restarts
            if file.adopted:  # what another run left behind costs no attempt
                file.free_restarts += 1
                wait = 0.0
            elif attempt < len(pauses):
                wait = self._policy.jittered(pauses[attempt])
            elif isinstance(error, NotTheRangeError):
                raise ChangedError(
                    f"{error}, again and again: try later, or another mirror",
                    url=file.request.url,
                ) from error
            else:
                raise error
            # Who cannot be asked for ranges, or whose ranges do not fit, is asked for all.
            file.whole = file.whole or whole or attempt >= 1
        logger.info("%s; starting again in %.1f s", error, wait)
        self._replace(task, wait)

    def _replace(self, task: Task, wait: float, breaks: int = 0) -> None:
        file, old = task.file, task.part
        with self._lock:
            if file.part is not old:
                raise Abandoned
            file.part, file.received = None, 0
            file.restarts += 1 if not breaks else 0
            self._engine.put(Task(file, breaks=breaks), wait)
        assert old is not None
        old.discard()

    # --- Finishing ---------------------------------------------------------------------------

    def _end_task(self, task: Task, part: ResumableFile) -> None:
        """Digest what joins on to the start of a file by now; with the last task, verify it."""
        file = task.file
        with self._lock:
            if file.part is not part:
                return
            file.open_tasks -= 1
        while True:
            with self._lock:
                if part.is_read:  # who reads it looks again before it lets go
                    return
                done = part.hasher.length if part.hasher is not None else 0
                stop = part.joined(done) if file.open_tasks else part.size
                if done == stop and file.open_tasks:
                    return
                part.is_read = True
            if done == stop and part.hasher is not None:
                break
            self._digest(task, part, done, stop)
            part.is_read = False
        try:
            file.done = self._verified(file, part)
        except ChecksumMismatchError as error:
            self._start_again(task, error, whole=False)

    def _digest(self, task: Task, part: ResumableFile, start: int, stop: int) -> None:
        """Read again what was written, soon, while memory still has it."""
        from geotessera import _native

        if part.hasher is None:
            part.hasher = _native.Hasher(*self._algorithms(task.file, part))
        failed: OSError | None = None
        try:
            whole = read_into(
                part.hasher, part.path, start, stop, lambda: not self._is_pointless(task)
            )
        except OSError as error:
            failed, whole = error, False
        if self._is_pointless(task):
            raise Abandoned
        if not whole:
            reason = failed.strerror if failed is not None else "it is shorter"
            raise UnwritableDestination(
                failed.errno if failed is not None else errno.EIO,
                f"what was written cannot be read again ({reason}): check the disk",
                str(task.file.request.dest),
            ) from failed

    def _algorithms(self, file: WantedFile, part: ResumableFile) -> tuple[Algorithm, ...]:
        # A published SHA-256 says all that an MD5 could; MD5 is the slower of the two.
        md5 = part.remote.md5 if part.remote is not None else None
        needed = self._verify and file.request.sha256 is None and md5 is not None
        return ("sha256", "md5") if needed else ("sha256",)

    def _verified(self, file: WantedFile, part: ResumableFile) -> Transferred:
        """Compare the digests of a file that is whole."""
        request, remote = file.request, part.remote
        assert remote is not None
        assert part.hasher is not None
        sha256 = part.hasher.hexdigest("sha256")
        has_md5 = "md5" in part.hasher.algorithms
        md5 = part.hasher.hexdigest("md5") if has_md5 else None
        if self._verify and request.sha256 is not None:
            check_digest(request, "SHA-256", sha256, request.sha256, "the registry")
        if md5 is not None:
            assert remote.md5 is not None
            check_digest(request, "MD5", md5, remote.md5, "the server's ETag")
        logger.debug("%s is whole", request.url)
        return Transferred(
            path=request.dest,
            url=request.url,
            size=part.size,
            sha256=sha256,
            md5=md5,
            etag=remote.etag,
            last_modified=remote.mtime,
        )
