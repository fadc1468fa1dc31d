"""Re-check files on disk: against the registry's hashes, our own records, and themselves."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geotessera.datasets import EMBEDDINGS_DIR_NAME, LANDMASKS_DIR_NAME
from geotessera.errors import FormatError, InputError
from geotessera.grid import parse_grid_name, tile_to_grid_name
from geotessera.remote.partfile import is_temporary_name
from geotessera.remote.records import FileRecords
from geotessera.sidecar import check_dataset_dir
from geotessera.types import TileId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geotessera.registry import Registry
    from geotessera.remote.records import FileRecord
    from geotessera.types import ProgressCallback

__all__ = ["Finding", "Problem", "VerifyReport", "verify_directory"]

type Problem = Literal["checksum", "size", "damaged", "unreadable", "incomplete", "shape", "scales"]
"""What is wrong: bytes that differ, a wrong length, a damaged header, a file that cannot be
read, a tile without all its files, arrays that do not fit, implausible scales."""

type _Kind = Literal["embedding", "scales", "landmask", "geotiff"]

HASH_BATCH_BYTES = 512 * 1024 * 1024
"""Bytes that are hashed between two progress reports."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Parameters
    ----------
    path : str
        The file, relative to the directory.
    problem : str
        One of `Problem`.
    detail : str
        What was expected and what was found.
    """

    path: str
    problem: Problem
    detail: str


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


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    relative: str
    kind: _Kind
    size: int
    tile: TileId | None  # a landmask's year is 0: it serves all years


@dataclass(slots=True)
class _Tile:
    files: dict[_Kind, _File] = field(default_factory=dict)


def verify_directory(
    directory: str | os.PathLike[str],
    *,
    registry: Registry | None = None,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Re-check every tile file, landmask and exported GeoTIFF below a directory.

    Files are hashed on all cores. A published SHA-256 (generation A registries) decides;
    else the one recorded in ``.geotessera/files.jsonl`` when the file was made; else the
    published size. Whatever is known, structure is checked: headers, lengths, shapes that
    fit, tiles that are complete, and scales that are NaN or between 0 and 1.

    Parameters
    ----------
    directory : path
        Directory of tiles.
    registry : Registry, optional
        The dataset's registry; without it only records and structure are checked.
    progress : callable, optional
        Called with (bytes done, bytes in all, status text).

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
    readable = _check_bytes(files, registry, FileRecords(root).load(), report, progress)
    _check_tiles(readable, report)
    # Years of a tile share its landmask, and each finds it damaged.
    report.problems = sorted(set(report.problems), key=lambda one: (one.path, one.problem))
    report.seconds = time.perf_counter() - began
    return report


# --- What is there ---------------------------------------------------------------------


def _files(root: Path, report: VerifyReport) -> Iterator[_File]:
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
                size = path.stat().st_size
            except OSError as error:
                _unreadable(report, relative.as_posix(), error)
                continue
            kind, tile = found
            yield _File(path, relative.as_posix(), kind, size, tile)


def _unreadable(report: VerifyReport, relative: str, error: OSError) -> None:
    report.problems.append(
        Finding(relative, "unreadable", f"cannot be read: {error.strerror or error}")
    )


def _classify(relative: Path) -> tuple[_Kind, TileId | None] | None:
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
    files: Sequence[_File],
    registry: Registry | None,
    records: dict[str, FileRecord],
    report: VerifyReport,
    progress: ProgressCallback | None,
) -> list[_File]:
    """Compare lengths and digests; return the files that could be read."""
    from geotessera import _native

    total, done = report.bytes, 0
    readable = []
    for batch in _batches(files):
        if progress is not None:
            progress(done, total, batch[0].path.name)
        digests = _native.hash_files([file.path for file in batch], ["sha256"])
        for file, digest in zip(batch, digests, strict=True):
            if isinstance(digest, OSError):
                _unreadable(report, file.relative, digest)
                continue
            readable.append(file)
            _compare(file, digest[0], registry, records.get(file.relative), report)
        done += sum(file.size for file in batch)
    if progress is not None:
        progress(total, total, "")
    return readable


def _batches(files: Sequence[_File]) -> Iterator[list[_File]]:
    batch: list[_File] = []
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
    file: _File,
    digest: str,
    registry: Registry | None,
    record: FileRecord | None,
    report: VerifyReport,
) -> None:
    size, published = _published(file, registry)
    if size is not None and size != file.size:
        detail = f"{file.size:,} bytes, the registry says {size:,}"
        report.problems.append(Finding(file.relative, "size", detail))
        return
    recorded = record.sha256 if record is not None else None
    for expected, source in ((published, "the registry"), (recorded, "our record")):
        if expected is None:
            continue
        if digest != expected:
            detail = f"SHA-256 {digest[:12]}…, {source} says {expected[:12]}…"
            report.problems.append(Finding(file.relative, "checksum", detail))
        elif source == "the registry":
            report.by_registry += 1
        else:
            report.by_record += 1
        return
    if size is not None:
        report.by_size += 1
    else:
        report.unchecked.append(file.relative)


def _published(file: _File, registry: Registry | None) -> tuple[int | None, str | None]:
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


# --- Structure ---------------------------------------------------------------------------


def _check_tiles(files: Sequence[_File], report: VerifyReport) -> None:
    tiles: dict[TileId, _Tile] = {}
    landmasks: dict[tuple[float, float], _File] = {}
    for file in files:
        if file.kind == "geotiff":
            _check_geotiff(file, report)
        elif file.kind == "landmask":
            assert file.tile is not None
            landmasks[file.tile.lon, file.tile.lat] = file
        elif file.tile is not None:
            tiles.setdefault(file.tile, _Tile()).files[file.kind] = file
    used = {parse_grid_name(file.path.name) for file in files if file.kind == "geotiff"}
    for tile, found in sorted(tiles.items()):
        place = (tile.lon, tile.lat)
        if place in landmasks:
            found.files["landmask"] = landmasks[place]
            used.add(place)
        _check_tile(found, report)
    report.unfinished = sorted(
        landmasks[place].relative
        for place in landmasks.keys() - used
        if _size_of(landmasks[place], report) is not None
    )


def _size_of(file: _File, report: VerifyReport) -> tuple[int, int] | None:
    """Return a landmask's height and width; None, reported, if it is none."""
    from geotessera.sources.landmask import read_georeference, read_mask

    try:
        read_georeference(file.path)  # a tile has its place from it
        height, width = read_mask(file.path).shape
    except (FormatError, OSError) as error:
        report.problems.append(Finding(file.relative, "damaged", _reason(error, file)))
        return None
    return height, width


def _check_geotiff(file: _File, report: VerifyReport) -> None:
    from geotessera.sources import GeoTiff

    try:
        GeoTiff(file.path).open().close()
    except (FormatError, OSError) as error:
        report.problems.append(Finding(file.relative, "damaged", _reason(error, file)))


def _check_tile(tile: _Tile, report: VerifyReport) -> None:
    from geotessera.sources.npy import map_npy

    kinds: tuple[_Kind, ...] = ("embedding", "scales", "landmask")
    missing = [kind for kind in kinds if kind not in tile.files]
    if missing:
        present = next(iter(tile.files.values()))
        detail = f"the tile has no {' and no '.join(missing)}: download it again"
        report.problems.append(Finding(present.relative, "incomplete", detail))
    shapes: dict[_Kind, tuple[int, ...]] = {}
    for kind, dtype, ndims in (("embedding", "int8", (3,)), ("scales", "float32", (2, 3))):
        file = tile.files.get(kind)  # type: ignore[call-overload]
        if file is None:
            continue
        try:
            array = map_npy(file.path, dtype, ndims)
        except (FormatError, OSError) as error:
            report.problems.append(Finding(file.relative, "damaged", _reason(error, file)))
            continue
        shapes[kind] = array.shape  # type: ignore[index]
        if kind == "scales":
            _check_scales(file, array, report)
    if "landmask" in tile.files and (size := _size_of(tile.files["landmask"], report)):
        shapes["landmask"] = size
    _check_shapes(tile, shapes, report)
    if not missing and len(shapes) == 3:
        report.tiles += 1


def _check_shapes(tile: _Tile, shapes: dict[_Kind, tuple[int, ...]], report: VerifyReport) -> None:
    wanted = shapes.get("embedding")
    if wanted is None:
        return
    for kind in ("scales", "landmask"):
        found = shapes.get(kind)
        if found is not None and found not in (wanted, wanted[:2]):
            file = tile.files[kind]
            detail = f"shape {found} does not fit the embedding's {wanted}"
            report.problems.append(Finding(file.relative, "shape", detail))


def _check_scales(file: _File, scales: object, report: VerifyReport) -> None:
    """Report scales that are neither NaN nor between 0 and 1.

    Real ones lie near 0.06; published files hold a few huge ones, which poison whatever
    is computed from them.
    """
    import numpy as np

    values = np.asarray(scales)
    bad = values.size - int(np.count_nonzero(((values > 0) & (values < 1)) | np.isnan(values)))
    if bad:
        detail = f"{bad:,} of {values.size:,} scales are implausible (not NaN, not between 0 and 1)"
        report.problems.append(Finding(file.relative, "scales", detail))


def _reason(error: Exception, file: _File) -> str:
    """Return an error's text without the path, which the finding has already."""
    text = " ".join(str(error).split())
    return text.removeprefix(f"{file.path} ").removeprefix("is not a tile file: ")
