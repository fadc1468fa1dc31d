"""The files of a directory: against the registry's hashes, our own records, and themselves."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.datasets import EMBEDDINGS_DIR_NAME, LANDMASKS_DIR_NAME
from geotessera.errors import InputError
from geotessera.grid import parse_grid_name, tile_to_grid_name
from geotessera.remote.records import FileRecords
from geotessera.remote.temporary import is_temporary_name
from geotessera.sidecar import check_dataset_dir
from geotessera.types import TileId
from geotessera.verify.structure import Finding, Kind, LocalFile, Proof, check_structure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geotessera.registry import Registry
    from geotessera.remote.records import FileRecord
    from geotessera.types import ProgressCallback

__all__ = ["VerifyReport", "verify_directory"]

HASH_BATCH_BYTES = 512 * 1024 * 1024
"""Bytes that are hashed between two progress reports."""


@dataclass(slots=True)
class VerifyReport:
    """What a verification found.

    Parameters
    ----------
    directory : Path
        What was verified.
    tiles : int
        Complete tiles: embedding, scales and landmask.
    files, bytes : int
        Files that were read, and their size.
    by_registry, by_record, by_size : int
        Files whose bytes equal the published hash, our own recorded hash, or of which only
        the length could be compared with the published one.
    problems : list of Finding
        Everything that is wrong.
    unchecked : list of str
        Files that nothing is known about: only their structure was checked.
    leftovers : list of str
        Unfinished files of interrupted runs; harmless.
    unfinished : list of str
        Landmasks of tiles that were never finished; harmless.
    seconds : float
        How long it took.
    """

    directory: Path
    tiles: int = 0
    files: int = 0
    bytes: int = 0
    by_registry: int = 0
    by_record: int = 0
    by_size: int = 0
    problems: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_directory(
    directory: str | os.PathLike[str],
    *,
    registry: Registry | None = None,
    progress: ProgressCallback | None = None,
    check_scales: bool = True,
    forget_missing: bool = False,
) -> VerifyReport:
    """Re-check every tile file, landmask and exported GeoTIFF below a directory.

    Files are hashed on all cores. A published SHA-256 (generation A registries) decides;
    else the one recorded in ``.geotessera/files.jsonl`` when the file was made; else the
    published size. Whatever is known, structure is checked: headers, lengths, shapes that
    fit, tiles that are complete, and scales that are NaN or between 0 and 1. A GeoTIFF
    that was never recorded is decoded as a whole. A file that was recorded must be there.

    Parameters
    ----------
    directory : path
        Directory of tiles.
    registry : Registry, optional
        The dataset's registry; without it only records and structure are checked.
    progress : callable, optional
        Called with (bytes done, bytes in all, status text).
    check_scales : bool
        Whether implausible scales are a problem; some are published like that.
    forget_missing : bool
        Take recorded files that are gone for removed on purpose, from now on.

    Returns
    -------
    VerifyReport
        What was checked, and everything that is wrong.

    Raises
    ------
    InputError
        (a `ValueError`) if there is no such directory.
    DatasetMismatchError
        (a `ValueError`) if the directory holds another dataset than the registry's.
    UnwritableDestination
        (an `OSError`) if what is missing cannot be forgotten.
    """
    began = time.perf_counter()
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"there is no directory {root} to verify")
    if registry is not None:
        check_dataset_dir(root, registry.version, registry.variant)
    report = VerifyReport(root)
    files = list(_files(root, report))
    report.files, report.bytes = len(files), sum(file.size for file in files)
    book = FileRecords(root)
    records = book.load()
    missing = [name for name in sorted(records) if not os.path.lexists(root / name)]
    if forget_missing:
        book.forget(missing)
    else:
        report.problems += [_missing(records[name]) for name in missing]
    proven = _check_bytes(files, registry, records, report, progress)
    structure = check_structure(files, proven, check_scales=check_scales)
    report.tiles, report.unfinished = structure.tiles, structure.unfinished
    report.problems += structure.problems
    # Years of a tile share its landmask, and each finds it damaged.
    report.problems = sorted(set(report.problems), key=lambda one: (one.path, one.problem))
    report.seconds = time.perf_counter() - began
    return report


def _missing(record: FileRecord) -> Finding:
    detail = f"{record.size:,} bytes were recorded, and the file is gone: make it again"
    return Finding(record.path, "missing", detail)


# --- What is there ---------------------------------------------------------------------


def _files(root: Path, report: VerifyReport) -> Iterator[LocalFile]:
    for folder, subfolders, names in os.walk(root):
        if ".geotessera" in subfolders:
            subfolders.remove(".geotessera")
            incoming = Path(folder, ".geotessera").glob("incoming-*")
            report.leftovers += sorted(path.relative_to(root).as_posix() for path in incoming)
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root)
            if is_temporary_name(name):
                report.leftovers.append(relative.as_posix())
                continue
            found = _classify(relative)
            if found is None:
                continue
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
                    raise OSError(errno.EINVAL, "not a regular file")
            except OSError as error:
                _unreadable(report, relative.as_posix(), error)
                continue
            kind, tile = found
            yield LocalFile(path, relative.as_posix(), kind, status.st_size, tile)


def _unreadable(report: VerifyReport, relative: str, error: OSError) -> None:
    report.problems.append(
        Finding(relative, "unreadable", f"cannot be read: {error.strerror or error}")
    )


def _classify(relative: Path) -> tuple[Kind, TileId | None] | None:
    """Return what a file is by its place and name; None for what is none of ours."""
    parts, name = relative.parts, relative.name
    lon, lat = parse_grid_name(name)
    suffix = relative.suffix.lower()
    if LANDMASKS_DIR_NAME in parts:
        if lon is None or lat is None or name != f"{tile_to_grid_name(lon, lat)}.tiff":
            return None
        return "landmask", TileId(0, lon, lat)
    if suffix in (".tif", ".tiff"):
        return "geotiff", None
    if suffix != ".npy" or EMBEDDINGS_DIR_NAME not in parts or len(parts) < 3:
        return None
    year = parts[-3]
    if lon is None or lat is None or not (len(year) == 4 and year.isascii() and year.isdigit()):
        return None
    tile, grid_name = TileId(int(year), lon, lat), tile_to_grid_name(lon, lat)
    if name == f"{grid_name}.npy":
        return "embedding", tile
    return ("scales", tile) if name == f"{grid_name}_scales.npy" else None


# --- Bytes -----------------------------------------------------------------------------


def _check_bytes(
    files: Sequence[LocalFile],
    registry: Registry | None,
    records: dict[str, FileRecord],
    report: VerifyReport,
    progress: ProgressCallback | None,
) -> dict[str, Proof]:
    """Compare lengths and digests; return what is proven of each file that could be read."""
    from geotessera import _native

    total, done = report.bytes, 0
    proven: dict[str, Proof] = {}
    for batch in _batches(files):
        if progress is not None:
            progress(done, total, batch[0].path.name)
        digests = _native.hash_files([file.path for file in batch], ["sha256"])
        for file, digest in zip(batch, digests, strict=True):
            if isinstance(digest, OSError):
                _unreadable(report, file.relative, digest)
                continue
            proven[file.relative] = _compare(
                file, digest[0], registry, records.get(file.relative), report
            )
        done += sum(file.size for file in batch)
    if progress is not None:
        progress(total, total, "")
    return proven


def _batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    batch: list[LocalFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if size >= HASH_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compare(
    file: LocalFile,
    digest: str,
    registry: Registry | None,
    record: FileRecord | None,
    report: VerifyReport,
) -> Proof:
    size, published = _published(file, registry)
    if size is not None and size != file.size:
        detail = f"{file.size:,} bytes, the registry says {size:,}"
        report.problems.append(Finding(file.relative, "size", detail))
        return "differs"
    recorded = record.sha256 if record is not None else None
    for expected, source in ((published, "the registry"), (recorded, "our record")):
        if expected is None:
            continue
        if digest != expected:
            detail = f"SHA-256 {digest[:12]}…, {source} says {expected[:12]}…"
            report.problems.append(Finding(file.relative, "checksum", detail))
            return "differs"
        if source == "the registry":
            report.by_registry += 1
            return "published"
        report.by_record += 1
        return "recorded"
    if size is not None:
        report.by_size += 1
    else:
        report.unchecked.append(file.relative)
    return "nothing"


def _published(file: LocalFile, registry: Registry | None) -> tuple[int | None, str | None]:
    """Return the size and the SHA-256 that the registry has for a file, None where unknown."""
    if registry is None or file.tile is None:
        return None, None
    year, lon, lat = file.tile
    try:
        if file.kind == "landmask":
            return registry.get_landmask_file_size(lon, lat), registry.landmask_sha256(lon, lat)
        digests = registry.expected_sha256(year, lon, lat) or (None, None)
        if file.kind == "embedding":
            return registry.get_tile_file_size(year, lon, lat), digests[0]
        return registry.get_scales_file_size(year, lon, lat), digests[1]
    except InputError:
        return None, None  # the registry does not know the tile, or no sizes
