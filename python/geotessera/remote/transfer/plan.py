"""What the engine is to do: groups of files, and the state of each while it is done."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geotessera.remote.transfer.request import FileRequest, Transferred
    from geotessera.remote.transfer.resume import ResumableFile

__all__ = ["Group", "GroupResult", "Task", "WantedFile", "WantedGroup"]


@dataclass(frozen=True, slots=True)
class Group:
    """Files that belong together: none has its final name before all are verified.

    Parameters
    ----------
    key : object
        What the result is called by.
    files : tuple of FileRequest
        In the order in which they get their final names.
    replace : bool
        Fetch also what is there. It stays until all files are verified; then, of several, the
        last one is removed first and put in place last, so that nobody takes a mixture for a
        whole.
    """

    key: Any
    files: tuple[FileRequest, ...]
    replace: bool = False


@dataclass(slots=True)
class GroupResult:
    """What became of a group.

    Parameters
    ----------
    key : object
        Of the group.
    files : list of Transferred
        Files that were fetched; empty if all were there, or on failure.
    error : Exception or None
        Why the group failed.
    """

    key: Any
    files: list[Transferred] = field(default_factory=list)
    error: Exception | None = None


@dataclass(slots=True)
class WantedGroup:
    """A group that is worked on."""

    group: Group
    number: int
    claims: list[Path]
    files: list[WantedFile] = field(default_factory=list)
    active: int = 0
    error: Exception | None = None

    @classmethod
    def of(cls, group: Group, number: int) -> WantedGroup:
        """Return a group that nothing was done for yet."""
        claims = [Path(os.path.abspath(request.dest)) for request in group.files]  # noqa: PTH100
        return cls(group, number, claims)


@dataclass(slots=True, eq=False)
class WantedFile:
    """A file that is worked on.

    Parameters
    ----------
    request : FileRequest
        What is wanted.
    group : WantedGroup
        What it belongs to.
    number : int
        Its place in the group.
    part : ResumableFile or None
        The unfinished file. Another takes its place when the transfer starts again; tasks
        for the old one end without effect.
    whole : bool
        Ask for all of it at once from now on: ranges did not work.
    received : int
        Bytes of the current part that are there.
    expected : int
        Bytes in all, as far as they are known.
    restarts, free_restarts : int
        How often it was started again, and how often of that no attempt was spent.
    adopted : bool
        The part was begun by another run.
    open_tasks : int
        Tasks for the current part that are not done.
    done : Transferred or None
        The file is whole and verified.
    """

    request: FileRequest
    group: WantedGroup
    number: int
    part: ResumableFile | None = None
    whole: bool = False
    received: int = 0
    expected: int = 0
    restarts: int = 0
    free_restarts: int = 0
    adopted: bool = False
    open_tasks: int = 0
    done: Transferred | None = None


@dataclass(slots=True, eq=False)
class Task:
    """A byte range that is to be fetched by one request.

    Parameters
    ----------
    file : WantedFile
        Of which file.
    part : ResumableFile or None
        Where to; None for the task that opens the file.
    start : int
        First byte; moves on with every whole block.
    stop : int or None
        Last byte + 1; None until the server said how long the file is.
    refusals, breaks : int
        Requests that failed without and with an answer, since the last whole block.
    answered : bool
        Whether the last request had an answer.
    """

    file: WantedFile
    part: ResumableFile | None = None
    start: int = 0
    stop: int | None = None
    refusals: int = 0
    breaks: int = 0
    answered: bool = False

    @property
    def priority(self) -> tuple[int, int, int]:
        """Earlier groups first, so that tiles are finished rather than begun."""
        return self.file.group.number, self.file.number, self.start
