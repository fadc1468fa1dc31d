"""The work of `geotessera download`: what is there is checked, what is missing is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.datasets import dataset_from_tags, normalize_version
from geotessera.errors import GeoTesseraError, InputError, UnwritableDestination
from geotessera.grid import tile_to_grid_name
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.remote.records import FileRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from geotessera.cli.output import Output
    from geotessera.core import GeoTessera
    from geotessera.download import DownloadReport
    from geotessera.registry import Registry
    from geotessera.types import TileId

__all__ = ["Fetching", "Outcome", "band_count", "stale_export", "wrong_sizes"]

BATCH = 8
"""Tiles whose arrays are on disk at once if they are not kept."""


@dataclass(slots=True)
class Outcome:
    """What a download did.

    Parameters
    ----------
    downloaded : list of Path
        Transferred files.
    downloaded_bytes : int
        Their size.
    exported : list of Path
        Written GeoTIFFs.
    skipped : int
        Files (npy) or GeoTIFFs (tiff) that were there and right.
    redone : list of str
        What was there and wrong, and why.
    failed : dict of TileId to Exception
        Tiles that are incomplete.
    """

    downloaded: list[Path] = field(default_factory=list)
    downloaded_bytes: int = 0
    exported: list[Path] = field(default_factory=list)
    skipped: int = 0
    redone: list[str] = field(default_factory=list)
    failed: dict[TileId, Exception] = field(default_factory=dict)

    @property
    def created(self) -> list[Path]:
        """New files that are for the user: GeoTIFFs, or else arrays."""
        return self.exported or self.downloaded

    def add(self, report: DownloadReport) -> None:
        """Add what a batch of transfers did."""
        self.downloaded += report.files
        self.downloaded_bytes += report.bytes
        self.failed |= report.failed


class Fetching:
    """One run over the tiles of a region.

    Parameters
    ----------
    client : GeoTessera
        The dataset; its `embeddings_dir` is `directory`.
    tiles : sequence of TileId
        Which tiles.
    directory : Path
        Where to.
    output : Output
        For progress.
    bands, compress, cog
        Of GeoTIFFs.
    keep_npy : bool
        Whether arrays stay beside their GeoTIFFs.
    """

    def __init__(
        self,
        client: GeoTessera,
        tiles: Sequence[TileId],
        directory: Path,
        output: Output,
        *,
        bands: Sequence[int] | None = None,
        compress: str = "lzw",
        cog: bool = False,
        keep_npy: bool = True,
    ) -> None:
        self._client = client
        self._tiles = tiles
        self._directory = directory
        self._output = output
        self._bands = bands
        self._compress = compress
        self._cog = cog
        self._keep_npy = keep_npy
        self._outcome = Outcome()

    def npy(self) -> Outcome:
        """Make every tile's three files complete."""
        existing = sum(
            path.exists()
            for tile in self._tiles
            for path in local_tile_files(self._directory, tile)
        )
        with self._output.progress("Downloading") as progress:
            damaged = self._transfer(self._tiles, progress)
        self._outcome.skipped = existing - 3 * damaged
        return self._outcome

    def tiff(self) -> Outcome:
        """Make every tile's GeoTIFF, from arrays that are fetched where they are missing."""
        wanted = [tile for tile in self._tiles if not self._is_exported(tile)]
        self._outcome.skipped = len(self._tiles) - len(wanted)
        size = max(len(wanted), 1) if self._keep_npy else BATCH
        with self._output.progress("Exporting") as progress:
            done = 0
            for batch in batched(wanted, size):
                before = len(self._outcome.downloaded)
                self._transfer(batch, _shifted(progress, done, len(wanted)))
                for tile in batch:
                    progress(done, len(wanted), tile_to_grid_name(tile.lon, tile.lat))
                    if tile not in self._outcome.failed:
                        self._export(tile)
                    done += 1
                if not self._keep_npy:
                    _remove(self._outcome.downloaded[before:])
            progress(done, len(wanted), "")
        return self._outcome

    def _transfer(self, tiles: Iterable[TileId], progress: Any) -> int:
        """Fetch what is missing, and again what has the wrong size; return how many again."""
        from geotessera.download import download_tiles

        registry = self._client.registry
        right: list[TileId] = []
        wrong: list[TileId] = []
        for tile in tiles:
            reasons = wrong_sizes(registry, tile, self._directory)
            self._outcome.redone += reasons
            (wrong if reasons else right).append(tile)
        for group, refresh in ((right, False), (wrong, True)):
            if group:
                self._outcome.add(
                    download_tiles(
                        registry, group, self._directory, refresh=refresh, progress=progress
                    )
                )
        return len(wrong)

    def _is_exported(self, tile: TileId) -> bool:
        path = geotiff_path(self._directory, tile)
        if not path.exists():
            return False
        registry = self._client.registry
        reason = stale_export(
            path,
            tile,
            dataset=(registry.version, registry.variant),
            bands=range(band_count(registry, tile)) if self._bands is None else self._bands,
            compress=self._compress,
            cog=self._cog,
        )
        if reason is not None:
            self._outcome.redone.append(f"{path.name}: {reason}")
        return reason is None

    def _export(self, tile: TileId) -> None:
        try:
            paths = self._client.export_embedding_geotiffs(
                [tile], self._directory, bands=self._bands, compress=self._compress, cog=self._cog
            )
        except (InputError, UnwritableDestination):
            raise  # no other tile would fare better
        except (GeoTesseraError, OSError, RuntimeError) as error:
            self._outcome.failed[tile] = error
            return
        written = [Path(path) for path in paths]
        self._outcome.exported += written
        # So that `verify` can tell later damage.
        FileRecords(self._directory).record_local(written)


def _shifted(progress: Any, done: int, total: int) -> Any:
    """Return a callback that keeps the bar of a whole run still while a batch is fetched."""

    def callback(current: int, count: int, status: str = "", /) -> None:
        progress(done, total, f"downloading {status} ({current} of {count})")

    return callback


def _remove(paths: Iterable[Path]) -> None:
    """Delete transferred files, and the directories that they leave empty."""
    from contextlib import suppress

    for path in paths:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


def band_count(registry: Registry, tile: TileId) -> int:
    """Return the number of bands of a tile, from the published size of its array."""
    from geotessera.grid import tile_footprint
    from geotessera.sampling import DEFAULT_BAND_COUNT

    try:
        size = registry.get_tile_file_size(*tile)
    except InputError:
        return DEFAULT_BAND_COUNT
    grid = tile_footprint(tile.lon, tile.lat)
    return round(size / (grid.height * grid.width))


def wrong_sizes(registry: Registry, tile: TileId, directory: Path) -> list[str]:
    """Return which of a tile's local files do not have the published size, and why.

    A file that does not exist, or whose size is not published, is not wrong.
    """
    embedding, scales, landmask = local_tile_files(directory, tile)
    year, lon, lat = tile
    sizes: tuple[tuple[Path, Callable[[], int]], ...] = (
        (embedding, lambda: registry.get_tile_file_size(year, lon, lat)),
        (scales, lambda: registry.get_scales_file_size(year, lon, lat)),
        (landmask, lambda: registry.get_landmask_file_size(lon, lat)),
    )
    reasons = []
    for path, published in sizes:
        try:
            found, expected = path.stat().st_size, published()
        except (FileNotFoundError, InputError):
            continue
        if found != expected:
            reasons.append(f"{path.name}: {found:,} bytes instead of {expected:,}")
    return reasons


def stale_export(
    path: Path,
    tile: TileId,
    *,
    dataset: tuple[str, str],
    bands: Sequence[int],
    compress: str,
    cog: bool,
) -> str | None:
    """Return why an existing GeoTIFF is not what is asked for, or None if it is.

    The file's own tags decide: a name says nothing about bands, compression or dataset.

    Parameters
    ----------
    path : Path
        The GeoTIFF.
    tile : TileId
        What its name says it holds.
    dataset : tuple of str
        Version and variant.
    bands, compress, cog
        What is asked for.
    """
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as raster:
            tags = raster.tags()
            descriptions = raster.descriptions
            structure = raster.tags(ns="IMAGE_STRUCTURE")
    except RasterioError as error:
        return f"it cannot be read ({error})"
    found = dataset_from_tags(tags)
    if found != (normalize_version(dataset[0]), dataset[1]):
        return "it was made from another dataset, or does not say which"
    if tags.get("TESSERA_YEAR") != str(tile.year):
        return f"it holds the year {tags.get('TESSERA_YEAR')}"
    if descriptions != tuple(f"Tessera_Band_{band}" for band in bands):
        return "it holds other bands"
    stored = structure.get("COMPRESSION", "none").lower()
    if stored != compress.lower():
        return f"its compression is {stored}"
    if (structure.get("LAYOUT") == "COG") != cog:
        return "it is no cloud-optimised GeoTIFF" if cog else "it is a cloud-optimised GeoTIFF"
    return None
