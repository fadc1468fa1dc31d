"""The three files of a tile: what to ask for, where it goes, what is recorded of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from geotessera.datasets import (
    EMBEDDINGS_DIR_NAME,
    LANDMASKS_DIR_NAME,
    tile_to_embedding_paths,
    tile_to_landmask_filename,
)
from geotessera.errors import InputError, TileNotFoundError, UnwritableDestination
from geotessera.grid import parse_grid_name
from geotessera.remote.records import FileRecords
from geotessera.remote.transfer import FileRequest, fetch_file, local_path

if TYPE_CHECKING:
    import os

    from geotessera.remote.transfer import Transferred
    from geotessera.types import ProgressCallback, TileId

__all__ = [
    "check_online",
    "embedding_request",
    "fetch",
    "fetch_recorded",
    "landmask_request",
    "published_sizes",
    "record",
    "tile_of_path",
    "tile_requests",
]

logger = logging.getLogger("geotessera.registry")


class _Catalogue(Protocol):
    """What is needed of a `geotessera.registry.Registry`."""

    @property
    def offline(self) -> bool: ...
    @property
    def verifies(self) -> bool: ...
    def get_available_years(self) -> list[int]: ...
    def nearest_year(self, lon: float, lat: float, year: int) -> int | None: ...
    def tile_urls(self, year: int, lon: float, lat: float) -> tuple[str, str, str]: ...
    def get_tile_file_size(self, year: int, lon: float, lat: float) -> int: ...
    def get_scales_file_size(self, year: int, lon: float, lat: float) -> int: ...
    def expected_sha256(
        self, year: int, lon: float, lat: float
    ) -> tuple[str | None, str | None] | None: ...
    def landmask_sha256(self, lon: float, lat: float) -> str | None: ...


def tile_requests(registry: _Catalogue, tile: TileId, directory: Path) -> list[FileRequest]:
    """Return what to fetch for a tile: landmask, scales, embedding, in order of commit.

    Parameters
    ----------
    registry : Registry
        Knows URLs, sizes and digests.
    tile : TileId
        Centre in degrees; it need not be in the registry.
    directory : Path
        Directory of tiles.
    """
    return [
        landmask_request(registry, tile.lon, tile.lat, directory, tile.year),
        embedding_request(registry, tile, directory, is_scales=True),
        embedding_request(registry, tile, directory, is_scales=False),
    ]


def embedding_request(
    registry: _Catalogue, tile: TileId, directory: Path, is_scales: bool
) -> FileRequest:
    """Return what to fetch for a tile's embedding or scales file."""
    which = int(is_scales)
    year, lon, lat = tile
    relative = tile_to_embedding_paths(lon, lat, year)[which]
    digests = registry.expected_sha256(year, lon, lat)
    return FileRequest(
        registry.tile_urls(year, lon, lat)[which],
        directory / EMBEDDINGS_DIR_NAME / relative,
        sha256=digests[which] if digests else None,
        size=_published_size(registry, tile, is_scales),
        label=relative.name,
    )


def published_sizes(registry: _Catalogue, tile: TileId) -> tuple[int | None, int | None]:
    """Return the sizes of a tile's embedding and scales in bytes, None for what is not known."""
    return _published_size(registry, tile, False), _published_size(registry, tile, True)


def _published_size(registry: _Catalogue, tile: TileId, is_scales: bool) -> int | None:
    size = registry.get_scales_file_size if is_scales else registry.get_tile_file_size
    try:
        return size(*tile)
    except InputError:
        return None  # not recorded


def landmask_request(
    registry: _Catalogue, lon: float, lat: float, directory: Path, year: int | None = None
) -> FileRequest:
    """Return what to fetch for a tile's landmask; the year is one that the tile exists in."""
    filename = tile_to_landmask_filename(lon, lat)
    years = registry.get_available_years()
    if year is None:  # a mirror's layout is found out by a tile that it has
        year = registry.nearest_year(lon, lat, years[-1]) or years[-1]
    return FileRequest(
        registry.tile_urls(year, lon, lat)[2],
        directory / LANDMASKS_DIR_NAME / filename,
        sha256=registry.landmask_sha256(lon, lat),
        label=filename,
    )


def tile_of_path(path: str | os.PathLike[str]) -> tuple[int, float, float, bool]:
    """Return (year, lon, lat, whether it is a scales file) of a tile's relative path.

    Raises
    ------
    InputError
        (a `ValueError`) if the path is not one of a tile.
    """
    wanted = Path(path)
    lon, lat = parse_grid_name(wanted.name)
    year = wanted.parts[0] if len(wanted.parts) == 3 else ""
    if lon is not None and lat is not None and year.isdecimal():
        both = tile_to_embedding_paths(lon, lat, int(year))
        if wanted in both:
            return int(year), lon, lat, wanted == both[1]
    raise InputError(
        f"{str(path)!r} is no path of a tile: expected one like "
        f"{tile_to_embedding_paths(0.15, 52.05, 2024)[0].as_posix()}"
    )


def fetch_recorded(
    registry: _Catalogue,
    request: FileRequest,
    directory: Path,
    progress: ProgressCallback | None = None,
) -> Transferred:
    """Fetch a request's file into a directory of tiles and record it there.

    Raises
    ------
    TransferError, UnwritableDestination
        (an `OSError`) if the file could not be had or kept.
    """
    done = fetch(registry, request, progress)
    record(done, directory)
    return done


def fetch(
    registry: _Catalogue, request: FileRequest, progress: ProgressCallback | None = None
) -> Transferred:
    """Fetch a request's file as the registry allows: verified, and not over HTTP offline.

    Raises
    ------
    TileNotFoundError
        (a `RuntimeError` and `FileNotFoundError`) if the file is on a server and the
        registry is offline.
    TransferError, UnwritableDestination
        (an `OSError`) if the file could not be had or kept.
    """
    check_online(registry, request)
    return fetch_file(request, progress=progress, verify=registry.verifies)


def check_online(registry: _Catalogue, request: FileRequest) -> None:
    """Raise `TileNotFoundError` if a file is on a server and the registry is offline."""
    if registry.offline and local_path(request.url) is None:
        raise TileNotFoundError(
            f"{request.label} is not local and the client is offline: fetch it once without "
            f"offline, from {request.url}"
        )


def record(done: Transferred, directory: Path) -> None:
    """Record what is known of a fetched file in its directory; a failure is logged."""
    if done.sha256 is None:
        return
    relative = done.path.relative_to(directory)
    try:
        FileRecords(directory).record(
            relative, done.size, done.sha256, done.md5, done.etag, done.url, done.last_modified
        )
    except UnwritableDestination as error:
        logger.warning("What is known of %s could not be recorded: %s", relative, error)
