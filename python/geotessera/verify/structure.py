"""Whether tile files are what they should be, by themselves and beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from geotessera.errors import FormatError
from geotessera.grid import parse_grid_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geotessera.types import TileId

__all__ = ["Finding", "Kind", "LocalFile", "Problem", "Proof", "Structure", "check_structure"]

type Problem = Literal[
    "checksum",
    "size",
    "damaged",
    "unreadable",
    "missing",
    "incomplete",
    "shape",
    "scales",
]
"""What is wrong: bytes that differ, a wrong length, a damaged file, a file that cannot be
read, one that was recorded and is gone, a tile without all its files, arrays that do not fit,
implausible scales."""

type Kind = Literal["embedding", "scales", "landmask", "geotiff"]
"""What a file is."""

type Proof = Literal["published", "recorded", "nothing", "differs"]
"""What a file's digest equals, or that it does not."""

_WHOSE_FAULT = {
    "published": "; the bytes are as they are published",
    "recorded": "; the bytes are as they were recorded when the file was fetched",
}


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


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of a tile.

    Parameters
    ----------
    path : Path
        Where it is.
    relative : str
        The same, relative to the directory.
    kind : str
        One of `Kind`.
    size : int
        Bytes.
    tile : TileId or None
        Of an array or a landmask. A landmask's year is 0: it serves all years.
    """

    path: Path
    relative: str
    kind: Kind
    size: int
    tile: TileId | None


@dataclass(slots=True)
class Structure:
    """What the files of a directory are, beside their bytes.

    Parameters
    ----------
    tiles : int
        Complete tiles.
    problems : list of Finding
        What is wrong.
    unfinished : list of str
        Landmasks of tiles that were never finished.
    """

    tiles: int = 0
    problems: list[Finding] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Tile:
    files: dict[Kind, LocalFile] = field(default_factory=dict)


def check_structure(
    files: Sequence[LocalFile], proven: Mapping[str, Proof], *, check_scales: bool = True
) -> Structure:
    """Check headers, lengths, shapes, completeness and scales.

    Parameters
    ----------
    files : sequence of LocalFile
        What is there.
    proven : mapping of str to str
        By relative path, what is known of the bytes; files without an entry are left out.
    check_scales : bool
        Whether implausible scales are a problem.
    """
    report = Structure()
    tiles: dict[TileId, _Tile] = {}
    landmasks: dict[tuple[float, float], LocalFile] = {}
    files = [file for file in files if file.relative in proven]
    for file in files:
        if file.kind == "geotiff":
            _check_geotiff(file, report, proven[file.relative])
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
        _check_tile(found, report, proven if check_scales else None)
    report.unfinished = sorted(
        landmasks[place].relative
        for place in landmasks.keys() - used
        if _size_of(landmasks[place], report) is not None
    )
    return report


def _size_of(file: LocalFile, report: Structure) -> tuple[int, int] | None:
    """Return a landmask's height and width; None, reported, if it is none."""
    from geotessera.sources.landmask import read_georeference, read_mask

    try:
        read_georeference(file.path)  # a tile has its place from it
        height, width = read_mask(file.path).shape
    except (FormatError, OSError) as error:
        report.problems.append(Finding(file.relative, "damaged", _reason(error, file)))
        return None
    return height, width


def _check_geotiff(file: LocalFile, report: Structure, proof: Proof) -> None:
    from geotessera.sources import GeoTiff
    from geotessera.sources.geotiff_check import check_blocks

    try:
        GeoTiff(file.path).open().close()
        if proof == "nothing":
            check_blocks(file.path)
    except (FormatError, OSError) as error:
        report.problems.append(Finding(file.relative, "damaged", _reason(error, file)))


def _check_tile(tile: _Tile, report: Structure, proven: Mapping[str, Proof] | None) -> None:
    from geotessera.sources.npy import map_npy

    kinds: tuple[Kind, ...] = ("embedding", "scales", "landmask")
    missing = [kind for kind in kinds if kind not in tile.files]
    if missing:
        present = next(iter(tile.files.values()))
        detail = f"the tile has no {' and no '.join(missing)}: download it again"
        report.problems.append(Finding(present.relative, "incomplete", detail))
    shapes: dict[Kind, tuple[int, ...]] = {}
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
        if kind == "scales" and proven is not None:
            _check_scales(file, array, report, proven[file.relative])
    if "landmask" in tile.files and (size := _size_of(tile.files["landmask"], report)):
        shapes["landmask"] = size
    _check_shapes(tile, shapes, report)
    if not missing and len(shapes) == 3:
        report.tiles += 1


def _check_shapes(tile: _Tile, shapes: dict[Kind, tuple[int, ...]], report: Structure) -> None:
    """Report what does not fit the embedding, or the embedding if the two others agree."""
    wanted = shapes.get("embedding")
    if wanted is None:
        return
    others = {kind: shape for kind, shape in shapes.items() if kind != "embedding"}
    misfits = {kind: shape for kind, shape in others.items() if shape not in (wanted, wanted[:2])}
    details: dict[Kind, str] = {
        kind: f"shape {shape} does not fit the embedding's {wanted}"
        for kind, shape in misfits.items()
    }
    sizes = {shape[:2] for shape in others.values()}
    if len(others) == 2 and len(sizes) == 1 and wanted[:2] not in sizes:
        size = sizes.pop()
        details = {"embedding": f"shape {wanted} does not fit the scales' and landmask's {size}"}
    for kind, detail in details.items():
        report.problems.append(Finding(tile.files[kind].relative, "shape", detail))


def _check_scales(file: LocalFile, scales: object, report: Structure, proof: Proof) -> None:
    """Report scales that are neither NaN nor between 0 and 1.

    Real ones lie near 0.06; published files hold a few huge ones, which poison whatever
    is computed from them.
    """
    import numpy as np

    values = np.asarray(scales)
    bad = values.size - int(np.count_nonzero(((values > 0) & (values < 1)) | np.isnan(values)))
    if bad:
        detail = f"{bad:,} of {values.size:,} scales are implausible (not NaN, not between 0 and 1)"
        report.problems.append(
            Finding(file.relative, "scales", detail + _WHOSE_FAULT.get(proof, ""))
        )


def _reason(error: Exception, file: LocalFile) -> str:
    """Return an error's text without the path, which the finding has already."""
    text = " ".join(str(error).split())
    return text.removeprefix(f"{file.path} ").removeprefix("is not a tile file: ")
