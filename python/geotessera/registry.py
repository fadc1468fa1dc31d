"""What exists: the registry of a dataset's tiles, and where each file of a tile is.

`Registry` answers from a memory-mapped index (`geotessera.index`). The names that earlier
releases kept in this module are still found here.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.cells import cell_of_centre
from geotessera.datasets import Mirror, tile_to_embedding_paths, tile_to_landmask_filename
from geotessera.errors import GeoTesseraError, InputError, TransferError
from geotessera.grid import parse_grid_name
from geotessera.index import WORLD
from geotessera.registries import names as registry_names
from geotessera.registries.names import *  # noqa: F403 - the facade of all these names
from geotessera.registries.tiles import TileRegistry
from geotessera.sidecar import check_dataset_dir, label_dataset_dir
from geotessera.types import TileId

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.index.file import Payload, TileIndex
    from geotessera.registries.files import StrPath
    from geotessera.remote.transfer import FileRequest
    from geotessera.types import ProgressCallback

__all__ = ["Registry"]
__all__ += registry_names.__all__

SKIP_HASH_ENV = "GEOTESSERA_SKIP_HASH"

_LANDMASK_YEAR = 1  # the one year of a landmask index

_LANDMASKS_PAUSE = 30.0
"""Seconds until the registry of landmasks is asked for again after its server failed."""


def _without_progressbar(
    callback: ProgressCallback | bool | None, progressbar: bool | None
) -> ProgressCallback | None:
    """Accept the retired ``progressbar=``, which also came in the callback's place."""
    if progressbar is not None or isinstance(callback, bool):
        warnings.warn(
            "progressbar= is retired: pass progress_callback", DeprecationWarning, stacklevel=3
        )
    return None if isinstance(callback, bool) else callback


class Registry(TileRegistry):
    """The tiles that a dataset has.

    Parameters
    ----------
    version : str
        Such as ``"v1.1"``.
    variant : str, optional
        Run of the model; by default the first one published as tiles.
    cache_dir : path, optional
        Where registries and their indexes are cached.
    embeddings_dir : path, optional
        Directory of tiles for `fetch`; by default the current one.
    registry_url, registry_path, registry_dir : str or path, optional
        Registry to use instead of the mirror's: a path wins over a directory
        (``manifest.parquet`` or ``registry.parquet``), a directory over a URL.
    landmasks_registry_url, landmasks_registry_path : str or path, optional
        Registry of landmasks; by default ``landmasks.parquet`` beside the other.
    bbox : tuple of 4 float, optional
        (west, south, east, north) in WGS84 degrees: only tiles there are looked at, and
        asking for others is an error.
    bbox_margin_deg : float
        Margin around `bbox`, in degrees.
    logger : logging.Logger, optional
        Takes messages.
    base_url : str or path, optional
        A mirror: URL or path. Default: ``GEOTESSERA_BASE_URL``, else the public server.
    verify_hashes : bool
        Verify published SHA-256 sums; ``GEOTESSERA_SKIP_HASH=1`` switches it off too.
    offline : bool
        Never use the network: registries come from the cache.

    Attributes
    ----------
    version : str
        As paths spell it, such as ``"v1.1"``.
    variant : str
        The variant that is used.
    embeddings_subdir : str
        Name of the dataset's directory in the retired S3 layout.
    manifest_path : Path
        The registry file that is read.
    generation : {"A", "B"}
        Kind of the registry file: "A" carries SHA-256 sums.

    Raises
    ------
    InputError
        (a `ValueError`) for an unknown version, a variant without tiles, a bad `bbox`.
    EmptySelectionError
        (a `ValueError`) if the registry has no tile of the dataset, or none within `bbox`.
    RegistryError
        (a `RuntimeError`) if the registry cannot be had or read; a `RegistrySchemaError` (also a
        `ValueError`) if a column is missing or of the wrong type.
    """

    # --- Landmasks -----------------------------------------------------------------------

    @property
    def _landmasks(self) -> TileIndex | None:
        """The index of landmasks, opened when it is first asked for."""
        with self._lock:
            if time.monotonic() >= self._landmasks_due:
                self._landmasks_due = math.inf
                self._landmask_index, self._landmask_error = None, None
                self._open_landmasks()
            return self._landmask_index

    def _open_landmasks(self) -> None:
        try:
            path = self._files.landmasks()
            if path is None:
                self.logger.warning("No registry of landmasks: their sizes are not known")
            else:
                self._landmask_index = self._opened(path, "landmasks", "")
        except (GeoTesseraError, OSError) as error:
            self.logger.warning("The registry of landmasks is not used: %s", error)
            self._landmask_error = error
            if isinstance(error.__cause__, TransferError) and error.__cause__.passing:
                self._landmasks_due = time.monotonic() + _LANDMASKS_PAUSE

    def get_landmask_count(self) -> int:
        """Return the number of landmasks, or of tiles where there is no registry of them."""
        landmasks = self._landmasks
        return sum(self._counts.values()) if landmasks is None else landmasks.count

    @property
    def available_landmasks(self) -> list[tuple[float, float]]:
        """(longitude, latitude) of all landmasks, or of all tiles without a registry of them."""
        landmasks = self._landmasks
        if landmasks is None:
            return list(dict.fromkeys((lon, lat) for _, lon, lat in self.available_embeddings))
        return [
            pair
            for lon, lat in landmasks.tiles(WORLD, _LANDMASK_YEAR)
            for pair in zip(lon, lat, strict=True)
        ]

    def landmask_cells(self) -> NDArray[np.bool_] | None:
        """Return which cells have a landmask: bool, shape (3600, 1800), as in `year_bits`.

        None where there is no registry of landmasks.
        """
        landmasks = self._landmasks
        return None if landmasks is None else landmasks.year_bits() != 0

    # --- Sizes ---------------------------------------------------------------------------

    def get_manifest_info(self) -> tuple[None, None]:
        """Return (None, None): registries are no longer kept in a repository."""
        return None, None

    def get_tile_file_size(self, year: int, lon: float, lat: float) -> int:
        """Return the bytes of a tile's embedding file.

        Raises
        ------
        InputError
            (a `ValueError`) if there is no such tile, or its size is not recorded.
        """
        return self._size("grid", year, lon, lat)

    def get_scales_file_size(self, year: int, lon: float, lat: float) -> int:
        """Return the bytes of a tile's scales file; errors as `get_tile_file_size`."""
        return self._size("scales", year, lon, lat)

    def _size(self, payload: Payload, year: int, lon: float, lat: float) -> int:
        cell = self._cell(lon, lat)
        if cell is None or not self._index.contains(year, *cell):
            raise InputError(
                f"Tile not found in registry: year={year}, lon={lon}, lat={lat}"
                + self._years_hint(lon, lat)
            )
        size = self._index.size(payload, year, *cell)
        if size is None:
            raise InputError(
                f"registry {self.manifest_path} does not record the size of the {payload} file "
                f"of year={year}, lon={lon}, lat={lat}"
            )
        return size

    def _years_hint(self, lon: float, lat: float) -> str:
        cell = cell_of_centre(lon, lat)
        years = self._index.years_of(*cell) if cell else []
        return f" (this place has {', '.join(map(str, years))})" if years else ""

    def get_landmask_file_size(self, lon: float, lat: float) -> int:
        """Return the bytes of a landmask.

        Raises
        ------
        InputError
            (a `ValueError`) if there is no registry of landmasks or it lacks this one.
        """
        landmasks = self._landmasks
        if landmasks is None:
            why = self._landmask_error or "there is no registry of landmasks"
            raise InputError(
                f"the sizes of landmasks are not known: {why}"
            ) from self._landmask_error
        cell = self._cell(lon, lat)
        size = landmasks.size("grid", _LANDMASK_YEAR, *cell) if cell else None
        if size is None:
            raise InputError(f"Landmask not found in registry: lon={lon}, lat={lat}")
        return size

    def calculate_download_requirements(
        self,
        tiles: Iterable[tuple[int, float, float]],
        output_dir: StrPath,
        format_type: str,
        check_existing: bool = True,
    ) -> tuple[int, int, dict[str, int]]:
        """Return what a download of tiles amounts to.

        Parameters
        ----------
        tiles : iterable of (year, lon, lat)
            Tiles of the registry.
        output_dir : path
            Where they go.
        format_type : str
            ``"npy"``: three files a tile. Anything else: one float32 GeoTIFF a tile,
            estimated as four times its embedding and its landmask.
        check_existing : bool
            Leave out NPY files that are there already.

        Returns
        -------
        bytes, files : int
            In all.
        sizes : dict of str to int
            Bytes of each NPY file, by ``embedding_…``, ``scales_…`` and ``landmask_…``.
        """
        from geotessera.registries.requirements import download_requirements

        return download_requirements(self, tiles, output_dir, format_type, check_existing)

    # --- Where a tile's files are, and what they must be ---------------------------------

    @property
    def mirror(self) -> Mirror:
        """The dataset on its server or disk; may ask it for a tile to learn its layout."""
        return self._files.mirror(self.generation, self._first_tile())

    def _first_tile(self) -> TileId:
        year = next(iter(self._counts))
        lon, lat = next(part for part in self._index.tiles(self._scope, year) if part[0])
        return TileId(year, lon[0], lat[0])

    def tile_urls(self, year: int, lon: float, lat: float) -> tuple[str, str, str]:
        """Return the URLs of a tile's embedding, scales and landmask."""
        mirror = self._files.mirror(self.generation, TileId(year, lon, lat))
        embedding, scales = tile_to_embedding_paths(lon, lat, year)
        landmask = mirror.landmask_url(tile_to_landmask_filename(lon, lat))
        return mirror.tile_url(embedding), mirror.tile_url(scales), landmask

    @property
    def cache_dir(self) -> Path:
        """Directory of all that is cached; it need not exist."""
        return self._cache_dir

    @property
    def landmasks_cache(self) -> Path:
        """Directory where landmasks are cached beside the registry; it need not exist."""
        return self._files.landmasks_cache

    @property
    def offline(self) -> bool:
        """Whether the network must not be used."""
        return self._files.offline

    @property
    def verifies(self) -> bool:
        """Whether published digests are checked now."""
        skip = os.environ.get(SKIP_HASH_ENV, "").strip().lower() in ("1", "true", "yes")
        return self.verify_hashes and not skip

    def expected_sha256(
        self, year: int, lon: float, lat: float
    ) -> tuple[str | None, str | None] | None:
        """Return the published SHA-256 of a tile's embedding and scales, hexadecimal.

        None where the registry has none, or verification is switched off.
        """
        cell = cell_of_centre(lon, lat)
        if cell is None or not self.verifies:
            return None
        digests = tuple(self._index.digest(payload, year, *cell) for payload in ("grid", "scales"))
        return digests if any(digests) else None  # type: ignore[return-value]

    def landmask_sha256(self, lon: float, lat: float) -> str | None:
        """Return the published SHA-256 of a landmask, or None as `expected_sha256` does."""
        cell = cell_of_centre(lon, lat)
        if cell is None or not self.verifies or self.generation == "B":
            return None
        landmasks = self._landmasks
        return landmasks.digest("grid", _LANDMASK_YEAR, *cell) if landmasks else None

    # --- Fetching single files -----------------------------------------------------------

    def use_embeddings_dir(self, directory: StrPath) -> None:
        """Read and keep single files in another directory of tiles from now on."""
        self._embeddings_dir = Path(directory)
        self._validated = False

    def validate_embeddings_dir(self) -> None:
        """Raise `DatasetMismatchError` if the directory of tiles records another dataset."""
        if not self._validated:
            check_dataset_dir(self._embeddings_dir, self._version_norm, self.variant)
            self._validated = True

    def fetch(
        self,
        path: StrPath | None = None,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
        year: int | None = None,
        lon: float | None = None,
        lat: float | None = None,
        is_scales: bool = False,
        *,
        progressbar: bool | None = None,
    ) -> str:
        """Return the local path of an embedding or scales file, fetched if it is missing.

        Parameters
        ----------
        path : path, optional
            Relative path such as ``2024/grid_0.15_52.05/grid_0.15_52.05.npy``.
        progress_callback : callable, optional
            Called with (bytes done, bytes in all, status text).
        refresh : bool
            Fetch the file even if it is there.
        year, lon, lat : int, float, float, optional
            Tile, in place of `path`: a calendar year and the centre in degrees.
        is_scales : bool
            The scales file of that tile, not its embedding.
        progressbar : bool, optional
            Retired: pass `progress_callback`.

        Raises
        ------
        InputError
            (a `ValueError`) if neither `path` nor year, lon and lat are given; a
            `DatasetMismatchError` if the directory holds another dataset.
        TransferError, UnwritableDestination
            (an `OSError`) if the file could not be had or kept.
        """
        from geotessera.tile_files import embedding_request, tile_of_path

        progress_callback = _without_progressbar(progress_callback, progressbar)
        if path is not None:
            year, lon, lat, is_scales = tile_of_path(path)
        elif year is None or lon is None or lat is None:
            raise InputError("Must provide either 'path' or all of (year, lon, lat)")
        request = embedding_request(
            self, TileId.of(year, lon, lat), self._embeddings_dir, is_scales
        )
        return self._fetched(request, progress_callback, refresh)

    def fetch_landmask(
        self,
        filename: str | None = None,
        progress_callback: ProgressCallback | None = None,
        refresh: bool = False,
        lon: float | None = None,
        lat: float | None = None,
        *,
        progressbar: bool | None = None,
    ) -> str:
        """Return the local path of a landmask, fetched if it is missing.

        Parameters
        ----------
        filename : str, optional
            Such as ``grid_0.15_52.05.tiff``.
        lon, lat : float, optional
            Centre of the tile in degrees, in place of `filename`.

        The other parameters and the errors are those of `fetch`.
        """
        from geotessera.tile_files import landmask_request

        progress_callback = _without_progressbar(progress_callback, progressbar)
        if filename is not None:
            lon, lat = parse_grid_name(Path(filename).name)
        if lon is None or lat is None:
            raise InputError(
                "Must provide either 'filename' (grid_<lon>_<lat>.tiff) or both of (lon, lat)"
            )
        request = landmask_request(self, lon, lat, self._embeddings_dir)
        return self._fetched(request, progress_callback, refresh)

    def _fetched(
        self, request: FileRequest, progress: ProgressCallback | None, refresh: bool
    ) -> str:
        """Return the path of a request's file; the directory is checked before anything else."""
        from geotessera.tile_files import fetch_recorded

        self.validate_embeddings_dir()
        if refresh or not request.dest.is_file():
            label_dataset_dir(self._embeddings_dir, self.version, self.variant)
            fetch_recorded(self, request, self._embeddings_dir, progress)
        return str(request.dest)
