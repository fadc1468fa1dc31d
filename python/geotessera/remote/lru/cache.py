"""A cache of files on disk, bounded in size: what was not used for longest goes first.

::

    <directory>/entries/ab/<digest of the key>      bytes, see `entry`
    <directory>/entries/ab/<digest of the key>.d/   a group of files, and entry.json
    <directory>/tmp/<process>-<token>               what is being written or deleted
    <directory>/in-use/<process>/<token>/           hard links to files that somebody reads

Threads and processes, on several machines too, share it without a lock or a daemon: an entry
appears and disappears by one rename, its last use is its time stamp, and who deletes an entry
that somebody else deleted has lost nothing. What a process that was killed left in ``tmp`` and
``in-use`` is removed by the next one that looks at sizes.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.remote import disk
from geotessera.remote.lru.entry import RECORD_NAME, GroupFile, GroupRecord, pack_header, unpack
from geotessera.remote.lru.space import Space, Usage, block_size, remove_own, touch
from geotessera.remote.owner import boot_id
from geotessera.remote.partfile import writing_to

if TYPE_CHECKING:
    from collections.abc import Buffer, Iterator, Mapping

__all__ = ["FileCache", "Lease", "Usage"]

logger = logging.getLogger("geotessera")


class Lease:
    """Files of a group, which stay until this object is closed or forgotten.

    Parameters
    ----------
    files : dict of str to Path
        By name.
    directory : Path, optional
        What is removed then; without it the files are the cache's own.
    """

    def __init__(self, files: Mapping[str, Path], directory: Path | None = None) -> None:
        self.files = dict(files)
        self._end = None
        if directory is not None:
            self._end = weakref.finalize(self, remove_own, directory, os.getpid())

    def close(self) -> None:
        """Give the files up."""
        if self._end is not None:
            self._end()


class FileCache:
    """A cache of byte strings and of groups of files below a directory.

    Nothing that is damaged is ever returned: bytes carry a CRC-32 that every `get` checks.
    Groups carry the sizes and SHA-256 of their files; the digests are checked again when a
    time stamp changed, after a restart of the machine, and once a month.

    The limit holds within limit / 32 for every object (usually: process) that writes at the
    same time. What is written at the moment, and what is leased after it was evicted, comes
    on top. Where processes use different limits, each one keeps its own when it writes.

    If the directory cannot be written, or the disk is full, one warning is logged, and nothing
    is put any more; what is there is still found.

    Parameters
    ----------
    directory : path
        The cache's own directory; made when something is put.
    limit : int
        Bytes on disk.
    """

    def __init__(self, directory: str | os.PathLike[str], limit: int) -> None:
        self.directory = Path(directory)
        self.limit = limit
        self._space = Space(self.directory, limit, self._pinned)
        self._lock = threading.Lock()
        self._off = False
        self._checked: set[str] = set()
        self._direct: weakref.WeakSet[Lease] = weakref.WeakSet()

    @property
    def writable(self) -> bool:
        """Whether nothing spoke against putting things so far."""
        return not self._off

    def give_up(self, reason: object) -> None:
        """Put nothing any more, and say so once."""
        with self._lock:
            known, self._off = self._off, True
        if not known:
            logger.warning("The cache at %s is not used: %s", self.directory, reason)

    def _failed(self, error: OSError) -> None:
        # Somebody may delete the directory at any time: then it is made anew. An entry that others
        # replace all the time, or that Windows cannot replace while it is read, stays.
        if error.errno not in (errno.ENOENT, errno.EBUSY):
            self.give_up(error)

    # --- Bytes ---------------------------------------------------------------------------

    def get(self, key: str) -> memoryview | None:
        """Return the bytes of a key, or None."""
        path = self._place(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        data = unpack(key, content)
        if data is None:
            logger.info("%s is damaged: dropped", path)
            self._space.discard(path)
            return None
        touch(path)
        return data

    def put(self, key: str, data: Buffer) -> bool:
        """Keep bytes, in place of what the key had; return whether they are kept."""
        view = memoryview(data).cast("B")
        head = pack_header(key, view)
        size = block_size(len(head) + view.nbytes)
        if self._off or not self._space.admit(size):
            return False
        path = self._place(key)
        made = None
        try:
            made = self._space.fresh_name()
            descriptor = disk.create(made)
            try:
                disk.write_at(descriptor, memoryview(head), 0)
                disk.write_at(descriptor, view, len(head))
            finally:
                os.close(descriptor)
            touch(made)
            path.parent.mkdir(parents=True, exist_ok=True)
            disk.rename(made, path)
        except OSError as error:
            if made is not None:
                with suppress(OSError):
                    disk.remove(made)
            self._failed(error)
            return False
        finally:
            self._space.settle(size)
        return True

    def remove(self, key: str) -> None:
        """Forget a key, its bytes and its group of files."""
        self._space.discard(self._place(key))
        self._space.discard(self._group(key))

    # --- Groups of files -----------------------------------------------------------------

    def lease(
        self, key: str, expected: Mapping[str, tuple[int | None, str | None]] | None = None
    ) -> Lease | None:
        """Return the files of a key, or None.

        Parameters
        ----------
        key : str
            The key.
        expected : mapping of str to (int or None, str or None), optional
            Names, with sizes and SHA-256 where they are known; a group that differs is dropped.
        """
        place = self._group(key)
        record = _read_record(place)
        if record is None:
            if place.is_dir():
                self._drop(place, "it has no record")
            return None
        if record.key != key or (expected is not None and not record.is_expected(expected)):
            self._drop(place, "it is not what is published now")
            return None
        lease = self._link(place, record)
        if lease is None:
            return None
        if not self._is_sound(place, record, lease):
            lease.close()
            self._drop(place, "it is damaged")
            return None
        touch(place / RECORD_NAME)
        return lease

    def adopt(
        self, key: str, files: Mapping[str, Path], digests: Mapping[str, str] | None = None
    ) -> Lease:
        """Move files into the cache, in place of what the key had, and lease them.

        If they cannot be kept, the lease holds them all the same.

        Parameters
        ----------
        key : str
            The key.
        files : mapping of str to Path
            By the names that they get; best made in a `workspace`, whence they are renamed.
        digests : mapping of str to str, optional
            SHA-256 of the files, where they are known; those of others are computed.

        Raises
        ------
        UnwritableDestination
            (an `OSError`) if the files cannot be moved.
        """
        with writing_to(self.directory):
            held = self._space.own_place()
            lease = Lease({name: held / name for name in files}, held)
            for name, path in files.items():
                shutil.move(path, held / name)
        size = block_size(0) + sum(block_size(path.stat().st_size) for path in lease.files.values())
        if not self._off and self._space.admit(size):
            try:
                self._publish(key, lease, digests or {})
            except OSError as error:
                self._failed(error)
            finally:
                self._space.settle(size)
        return lease

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Make a directory on the cache's file system, and remove it at the end.

        Raises
        ------
        UnwritableDestination
            (an `OSError`) if it cannot be made.
        """
        with writing_to(self.directory):
            made = self._space.own_place()
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _publish(self, key: str, lease: Lease, digests: Mapping[str, str]) -> None:
        made = self._space.fresh_name()
        made.mkdir()
        try:
            try:
                for name, path in lease.files.items():
                    os.link(path, made / name)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # No hard links here, so a reader could not keep what another process evicts.
                raise OSError(
                    error.errno, f"this file system has no hard links ({error})"
                ) from None
            record = GroupRecord(
                secrets.token_hex(8), key, _describe(lease.files, digests), boot_id(), time.time()
            )
            if not boot_id():  # nobody could find out that the power failed
                for path in lease.files.values():
                    _flush(path)
            _write(made / RECORD_NAME, record.dump())
            touch(made / RECORD_NAME)
            self._move(made, self._group(key))
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def _move(self, made: Path, place: Path) -> None:
        """Give a group its final name; what has it goes."""
        place.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):  # others may be as quick
            try:
                made.rename(place)
            except OSError as error:
                # What was in the way may be gone by now.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not place.is_dir():
                    raise
                self._space.discard(place)
            else:
                return
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(place))

    def _link(self, place: Path, record: GroupRecord) -> Lease | None:
        """Lease a group's files; None if they went meanwhile."""
        files = {name: place / name for name in record.files}
        held = None
        try:
            held = self._space.own_place()
            lease = Lease({name: held / name for name in files}, held)
            for name, path in files.items():
                os.link(path, held / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A cache that others wrote and this process only reads: it evicts nothing.
            logger.debug("%s is read in place: %s", place, error)
            lease = Lease(files)
            self._direct.add(lease)
        again = _read_record(place)
        # Another group may have come between the first link and the last.
        return lease if again is not None and again.id == record.id else None

    def _is_sound(self, place: Path, record: GroupRecord, lease: Lease) -> bool:
        """Whether the files are what they were, by their digests where something speaks for it."""
        try:
            stats = {name: _state(path) for name, path in lease.files.items()}
        except OSError:
            return False
        seen = f"{record.id} {stats}"
        if record.is_fresh(stats) or seen in self._checked:
            return True
        if not record.have_sizes(stats):
            return False
        from geotessera import _native

        for (name, path), digest in zip(
            lease.files.items(),
            _native.hash_files(list(lease.files.values()), ["sha256"]),
            strict=True,
        ):
            if isinstance(digest, OSError) or digest[0] != record.files[name].sha256:
                logger.debug("%s does not verify", path)
                return False
        self._checked.add(seen)
        with suppress(OSError):
            new = place / f".{RECORD_NAME}.{secrets.token_hex(4)}"
            _write(new, record.checked_now(stats).dump())
            disk.rename(new, place / RECORD_NAME)
        return True

    def _drop(self, place: Path, why: str) -> None:
        logger.info("%s is dropped from the cache: %s", place, why)
        self._space.discard(place)

    def usage(self) -> Usage:
        """Return what the cache holds; looks at every entry."""
        return self._space.usage()

    def _pinned(self) -> set[Path]:
        """Return the groups that this process reads in place."""
        return {path.parent for lease in list(self._direct) for path in lease.files.values()}

    def _place(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self._space.entries / digest[:2] / digest[2:]

    def _group(self, key: str) -> Path:
        return self._place(key).with_suffix(".d")


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _read_record(place: Path) -> GroupRecord | None:
    try:
        return GroupRecord.parse((place / RECORD_NAME).read_bytes())
    except OSError:
        return None


def _describe(files: Mapping[str, Path], digests: Mapping[str, str]) -> dict[str, GroupFile]:
    from geotessera import _native

    unknown = [name for name in files if name not in digests]
    known = dict(digests)
    hashes = _native.hash_files([files[name] for name in unknown], ["sha256"])
    for name, digest in zip(unknown, hashes, strict=True):
        if isinstance(digest, OSError):
            raise digest
        known[name] = digest[0]
    made = {}
    for name, path in files.items():
        size, mtime_ns = _state(path)
        made[name] = GroupFile(size, known[name], mtime_ns)
    return made


def _write(path: Path, content: bytes) -> None:
    descriptor = disk.create(path)
    try:
        disk.write_at(descriptor, memoryview(content), 0)
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
