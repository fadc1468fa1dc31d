"""Files that appear whole or not at all: written beside the target, then renamed over it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from geotessera.errors import DiskFullError, ReadOnlyError, UnwritableDestination
from geotessera.remote.temporary import remove_left_overs, temporary_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "PartFile",
    "atomic_path",
    "check_target",
    "check_writable",
    "create_with_parents",
    "workplace",
    "writing_to",
]

_KINDS: dict[int | None, type[UnwritableDestination]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), DiskFullError),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ReadOnlyError),
}

# Others remove our directory only as often as they fail; a dangling link never becomes one.
_MOST_TRIES = 100


@contextmanager
def writing_to(destination: Path) -> Iterator[None]:
    """Turn the system's refusals to write into `UnwritableDestination`, errno kept.

    Put nothing but file operations on the destination inside.
    """
    try:
        yield
    except UnwritableDestination:
        raise
    except OSError as error:
        raise _KINDS.get(error.errno, UnwritableDestination)(
            error.errno,
            f"cannot write here ({error.strerror or error}): check that the directory exists, "
            "belongs to you, and has room, or choose another one",
            str(destination),
        ) from error


def create_with_parents[T](path: Path, create: Callable[[], T]) -> tuple[T, list[Path]]:
    """Create a file, and its parents where they are missing.

    Whoever discards a file removes the empty directories that were made for it, maybe between
    our making them and our making the file, so that both are tried again.

    Parameters
    ----------
    path : Path
        What is created.
    create : callable
        Creates it, and raises `FileNotFoundError` if its parent is missing.

    Returns
    -------
    object
        What `create` returns.
    list of Path
        Directories that were missing, innermost first.
    """
    parent = path.parent
    made: list[Path] = []
    for _ in range(_MOST_TRIES):
        try:
            return create(), made
        except FileNotFoundError:
            made = [p for p in (parent, *parent.parents) if not p.exists()]
            # Both are also what `mkdir` raises if a directory goes while it looks at it.
            with suppress(FileNotFoundError, FileExistsError):
                parent.mkdir(parents=True, exist_ok=True)
    return create(), made


def _target_of(destination: Path) -> Path:
    """Return what is to be replaced: what a link leads to, and nothing but a file.

    A device would be gone, for everybody, once a file had got its name.
    """
    with suppress(FileNotFoundError):
        mode = destination.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "the target is a directory")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "the target is a device or a pipe")
    return Path(os.path.realpath(destination)) if destination.is_symlink() else destination


class PartFile:
    """An unfinished file beside its target; a link leads to it.

    Created empty at once, so that an unwritable destination is found before any work
    is done; parents are made. Its mode is what the umask leaves of 0666, as for any
    file that a user makes. As a context manager it is discarded unless committed. What
    processes that were killed left in the directory goes.

    Parameters
    ----------
    destination : path-like
        The final name.
    suffix : str, optional
        End of the temporary name, for writers that look at it, such as ``".tif"``.

    Raises
    ------
    UnwritableDestination
        If the file cannot be created.

    Attributes
    ----------
    path : Path
        The temporary name.
    destination : Path
        The final name.
    """

    def __init__(self, destination: str | os.PathLike[str], *, suffix: str = "") -> None:
        self.destination = Path(destination)
        self._made: list[Path] = []
        self._open = True
        with writing_to(self.destination):
            self._target = _target_of(self.destination)
            self.path = temporary_path(self._target, suffix)
            self._create()
        remove_left_overs(self._target.parent)

    def _create(self) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        descriptor, self._made = create_with_parents(
            self.path, lambda: os.open(self.path, flags, 0o666)
        )
        os.close(descriptor)

    def commit(self) -> None:
        """Rename the file over its target."""
        with writing_to(self.destination):
            self.path.replace(self._target)
        self._open = False

    def discard(self) -> None:
        """Delete the file, and the directories that were made for it if they are empty."""
        self._open = False
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        for directory in self._made:
            with suppress(OSError):
                directory.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._open:
            self.discard()


@contextmanager
def atomic_path(destination: str | os.PathLike[str], *, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path that becomes `destination` if the body succeeds.

    On any exception, Ctrl-C included, the temporary file is deleted and what was at the
    destination stays as it was.

    Parameters
    ----------
    destination : path-like
        The final name; parents are made.
    suffix : str, optional
        End of the temporary name, for writers that look at it, such as ``".tif"``.

    Yields
    ------
    Path
        An empty file beside the destination.

    Raises
    ------
    UnwritableDestination
        If the destination cannot be written, before the body runs.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> target = Path(tempfile.mkdtemp()) / "report.txt"
    >>> with atomic_path(target) as path:
    ...     _ = path.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    with PartFile(destination, suffix=suffix) as part:
        yield part.path
        part.commit()


@contextmanager
def workplace(destination: Path) -> Iterator[Path]:
    """Yield a hidden directory beside a file that is to be made; it is removed afterwards.

    Parents are made; those that are empty then are removed too. What processes that were
    killed left beside it goes.

    Raises
    ------
    UnwritableDestination
        If the directory cannot be made.
    """
    directory = temporary_path(destination)
    with writing_to(destination):
        _, made = create_with_parents(directory, lambda: directory.mkdir(0o700))
    remove_left_overs(directory.parent)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Raise `UnwritableDestination` if files cannot be made in a directory.

    A directory that does not exist yet is tried by its nearest existing parent; nothing
    is left behind. Creating a file is the only test that is also right for root, for
    read-only mounts and for network file systems.
    """
    target = Path(directory)
    with writing_to(target):
        while not target.exists():
            target = target.parent
        if not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{target} is not a directory")
    try:
        PartFile(target / "probe").discard()
    except UnwritableDestination as error:
        error.filename = str(directory)  # what was asked for, and not what was tried
        raise


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise `UnwritableDestination` if no file can be made under a name.

    It cannot in a directory that cannot be written (see `check_writable`), where there is a
    directory or a device of that name, and if the name is too long.
    """
    target = Path(path)
    check_writable(target.parent)
    with writing_to(target):
        _target_of(target)
        there = next((one for one in target.parents if one.exists()), target.parent)
        with suppress(FileNotFoundError):
            (there / target.name).stat()  # its own directory may have to be made
