"""Which tiles a dataset has: opening its registry, and asking it."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cells import (
    CellRange,
    cell_of_centre,
    cells_around_box,
    cells_of_box,
    centre_of_column,
    centre_of_row,
    check_box,
)
from geotessera.datasets import (
    base_url_from,
    check_variant,
    default_variant,
    normalize_version,
    variant_note,
    version_path,
)
from geotessera.errors import EmptySelectionError, InputError, RegistryError
from geotessera.grid import tile_to_bounds
from geotessera.index import WORLD, TileIndex
from geotessera.remote.transfer.refresh import cache_base
from geotessera.sidecar import s3_embeddings_subdir

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from geotessera.index.parquet import Kind
    from geotessera.registries.files import StrPath

    type Tile = tuple[int, float, float]

__all__ = ["TileRegistry", "scope_box"]


def scope_box(bbox: Sequence[float], margin: float) -> tuple[float, float, float, float]:
    """Return a registry's own box, or raise `InputError` for one that it cannot have."""
    if not margin >= 0:
        raise InputError(f"bbox_margin_deg must be non-negative; found {margin}")
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise InputError(f"bbox must be (west, south, east, north); found {bbox!r}") from error
    if not (west <= east and south <= north):
        raise InputError(
            f"bbox must be (west, south, east, north) with min <= max; found {tuple(bbox)}. A "
            "registry's own bbox cannot cross the antimeridian: leave it out, and ask for the box"
        )
    return check_box((west, south, east, north))


class TileRegistry:
    """What `geotessera.registry.Registry` knows of tiles: which there are, within its scope."""

    def __init__(
        self,
        version: str,
        variant: str | None = None,
        cache_dir: StrPath | None = None,
        embeddings_dir: StrPath | None = None,
        registry_url: str | None = None,
        registry_path: StrPath | None = None,
        registry_dir: StrPath | None = None,
        landmasks_registry_url: str | None = None,
        landmasks_registry_path: StrPath | None = None,
        bbox: Sequence[float] | None = None,
        bbox_margin_deg: float = 0.15,
        logger: logging.Logger | None = None,
        *,
        base_url: StrPath | None = None,
        verify_hashes: bool = True,
        offline: bool = False,
    ) -> None:
        from geotessera.registries.files import RegistryFiles

        self.logger = logger or logging.getLogger("geotessera.registry")
        self._version_norm = normalize_version(version)
        self.version = version_path(version)
        if variant is None:
            variant = default_variant(self._version_norm, "npy")
            if note := variant_note(self._version_norm, "npy"):
                self.logger.warning(note)
        self.variant = check_variant(variant)
        self.embeddings_subdir = s3_embeddings_subdir(variant)
        self.verify_hashes = verify_hashes
        self._bbox = None if bbox is None else scope_box(bbox, bbox_margin_deg)
        self._margin = bbox_margin_deg
        self._scope = WORLD if self._bbox is None else cells_around_box(self._bbox, bbox_margin_deg)
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir is not None else cache_base()
        self._embeddings_dir = Path.cwd() if embeddings_dir is None else Path(embeddings_dir)
        self._validated = False
        self._files = RegistryFiles(
            version=self._version_norm,
            variant=variant,
            base=base_url_from(base_url),
            cache_dir=self._cache_dir,
            registry_path=registry_path,
            registry_dir=registry_dir,
            registry_url=registry_url,
            landmasks_path=landmasks_registry_path,
            landmasks_url=landmasks_registry_url,
            offline=offline,
            logger=self.logger,
        )
        self.manifest_path = self._files.embeddings()
        self._index = self._opened(self.manifest_path, "embeddings", variant)
        self.generation = self._index.generation
        self._counts = self._index.counts(self._scope)
        if not self._counts:
            raise EmptySelectionError(
                f"registry {self.manifest_path} has no tiles within bbox {self._bbox} "
                f"(margin {bbox_margin_deg}°) for version {self._version_norm}, variant {variant}"
            )
        self._lock = threading.Lock()
        # The landmasks' index, opened when it is first asked for.
        self._landmask_index: TileIndex | None = None
        self._landmask_error: Exception | None = None
        self._landmasks_due = -math.inf
        self._table: Any = None

    def _opened(self, path: Path, kind: Kind, variant: str) -> TileIndex:
        """Open a registry file's index; a cached copy that cannot be read is fetched anew."""
        from geotessera.index.build import open_index

        def attempt() -> TileIndex:
            return open_index(path, kind, self._version_norm, variant, self._cache_dir, self.logger)

        try:
            return attempt()
        except RegistryError as error:
            if not self._files.renew(path):
                raise
            self.logger.warning("The cached registry was damaged (%s): fetched anew", error)
            return attempt()

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is open: a copy, and another process, opens its own."""
        state = vars(self) | {"_landmask_index": None, "_landmask_error": None, "_table": None}
        state["_landmasks_due"] = -math.inf
        if self.manifest_path.exists():  # whatever directory the other process works in
            state["manifest_path"] = self.manifest_path.absolute()
        return {name: value for name, value in state.items() if name not in ("_lock", "_index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self._reopen()

    def _reopen(self) -> None:
        """Open the index again, without asking a server for what is still there."""
        if not self.manifest_path.exists():  # another machine
            self.manifest_path = self._files.embeddings()
        self._index = self._opened(self.manifest_path, "embeddings", self.variant)

    def __repr__(self) -> str:
        return f"Registry({self.version!r}, {self.variant!r}, {str(self.manifest_path)!r})"

    def _repr_html_(self) -> str:
        """Describe the registry in a notebook, with the tiles that there are."""
        from geotessera.notebook import card

        facts, drawing = self.describe()
        return card("Registry", facts, drawing)

    def describe(self) -> tuple[dict[str, object], str]:
        """Return names and values for people, and a map as HTML; nothing is fetched."""
        from geotessera.notebook import map_svg

        counts = self._counts
        facts: dict[str, object] = {
            "dataset": f"{self.version} {self.variant}",
            "registry": self.manifest_path,
            "bbox": self._bbox and ", ".join(f"{value:g}" for value in self._bbox),
        }
        facts |= {str(year): f"{count:,} tiles" for year, count in counts.items()}
        cells, view = self._cells_there()
        return facts, map_svg(cells=cells, view=view, label=f"tiles of {self.version}")

    def _cells_there(self) -> tuple[NDArray[np.bool_], tuple[float, float, float, float]]:
        """Return where tiles are, coarse enough for a small map, and the box that this covers."""
        import numpy as np

        from geotessera.notebook import WIDTH, any_in_blocks

        within = self._scope
        bits = self._index.year_bits(within)
        part = np.concatenate([bits[start:stop] for start, stop in within.spans()])
        part = part[:, within.row : within.row + within.rows]
        ends = []  # of the columns and the rows that have any tile, and a margin
        for axis in (1, 0):
            there = np.flatnonzero(part.any(axis=axis))
            margin = 5 + int(np.ptp(there)) // 10
            last = part.shape[1 - axis]
            ends += [max(int(there[0]) - margin, 0), min(int(there[-1]) + margin, last - 1) + 1]
        first, end, bottom, top = ends
        part = part[first:end, bottom:top]
        west, south = (within.column + first) / 10 - 180, (within.row + bottom) / 10 - 90
        side = -(-max(part.shape) // WIDTH)
        # North first, as pictures have it.
        cells = any_in_blocks(part.T[::-1], side)
        rows, columns = cells.shape
        top_edge = south + part.shape[1] / 10
        return cells, (west, top_edge - rows * side / 10, west + columns * side / 10, top_edge)

    # --- Which tiles there are -----------------------------------------------------------

    def iter_tiles_in_region(self, bounds: Sequence[float], year: int) -> Generator[Tile]:
        """Yield the tiles of a year that share an area with a box.

        Parameters
        ----------
        bounds : sequence of 4 float
            (west, south, east, north) in WGS84 degrees. West > east crosses the
            antimeridian. A box that only touches a tile's edge does not overlap it; a point
            is in the one tile that owns it.
        year : int
            Calendar year; one that the dataset lacks yields nothing.

        Yields
        ------
        tuple of (int, float, float)
            Year, longitude and latitude of the centre; by longitude (from west to east across
            the antimeridian), then latitude.

        Raises
        ------
        InputError
            (a `ValueError`) for a box that is not in degrees or has south > north, or that
            leaves the registry's own `bbox`.
        """
        return (tile for tile in self.load_blocks_for_region(bounds, year))

    def load_blocks_for_region(self, bounds: Sequence[float], year: int) -> list[Tile]:
        """Return the tiles of a year that share an area with a box, as a list.

        See `iter_tiles_in_region`.
        """
        cells = cells_of_box(bounds)
        self._check_scope(cells, bounds)
        number = self._own_year(year)
        return [] if number is None else self._tiles(cells, number)

    def _tiles(self, cells: CellRange, year: int) -> list[Tile]:
        # No named tuples: pandas would name columns after their fields.
        found: list[Tile] = []
        for lon, lat in self._index.tiles(cells, year):
            found += zip(itertools.repeat(year, len(lon)), lon, lat, strict=True)
        return found

    def get_available_years(self) -> list[int]:
        """Return the years that have tiles, ascending."""
        return list(self._counts)

    def get_tile_counts_by_year(self) -> dict[int, int]:
        """Return the number of tiles of each year."""
        return dict(self._counts)

    def get_available_embeddings(self) -> list[Tile]:
        """Return all tiles, by year, longitude and latitude."""
        return [tile for year in self._counts for tile in self._tiles(self._scope, year)]

    @property
    def available_embeddings(self) -> list[Tile]:
        """All tiles, by year, longitude and latitude."""
        return self.get_available_embeddings()

    def has_tile(self, year: int, lon: float, lat: float) -> bool:
        """Whether the dataset has the tile with a centre in a year.

        Parameters
        ----------
        year : int
            Calendar year.
        lon, lat : float
            Centre of the tile in degrees, as `geotessera.grid.tile_from_world` gives it.
        """
        cell = self._cell(lon, lat)
        return cell is not None and self._index.contains(year, *cell)

    def has_tiles(self, lon_i: ArrayLike, lat_i: ArrayLike, year: int) -> NDArray[np.bool_]:
        """Whether the dataset has each of many tiles in a year.

        Parameters
        ----------
        lon_i, lat_i : array of int, shape (N,)
            Hundredths of a degree of the tiles' centres.
        year : int
            Calendar year.

        Returns
        -------
        ndarray of bool, shape (N,)
        """
        import numpy as np

        columns, off_lon = np.divmod(np.asarray(lon_i, np.int64) + 17995, 10)
        rows, off_lat = np.divmod(np.asarray(lat_i, np.int64) + 8995, 10)
        sound = (off_lon == 0) & (off_lat == 0)
        sound &= (columns >= 0) & (columns < WORLD.columns) & (rows >= 0) & (rows < WORLD.rows)
        found = np.zeros(sound.shape, bool)
        columns, rows = columns[sound], rows[sound]
        if self._scope != WORLD and columns.size:
            west, south, width, height = self._scope
            inside = (columns >= west) & (columns < west + width)
            inside &= (rows >= south) & (rows < south + height)
            if not inside.all():
                first = int(np.argmax(~inside))
                self._cell(centre_of_column(int(columns[first])), centre_of_row(int(rows[first])))
        found[sound] = self._index.contains_many(year, columns, rows)
        return found

    def year_bits(self) -> tuple[tuple[int, ...], NDArray[np.unsignedinteger[Any]]]:
        """Return which years each cell of the globe has a tile in.

        Returns
        -------
        years : tuple of int
            Ascending.
        bits : ndarray of unsigned int, shape (3600, 1800)
            Bit *k* of ``bits[column, row]`` is set if the cell has a tile in ``years[k]``.
            Columns go east from -180°, rows north from -90°. Read-only.
        """
        return self._index.years, self._index.year_bits(self._scope)

    def nearest_year(self, lon: float, lat: float, year: int) -> int | None:
        """Return the year nearest to one for which a tile exists, the later of two; or None."""
        cell = self._cell(lon, lat)
        years = self._index.years_of(*cell) if cell else []
        return min(years, key=lambda other: (abs(other - year), -other), default=None)

    @property
    def _registry_gdf(self) -> Any:
        """The tiles as a GeoDataFrame, for scripts that reach for it; made when touched.

        Rows by (year, lon_i, lat_i), their columns lon, lat and geometry.
        """
        if self._table is None:
            import geopandas
            import pandas as pd

            table = pd.DataFrame(self.get_available_embeddings(), columns=["year", "lon", "lat"])
            table["lon_i"] = (table["lon"] * 100).round().astype("int32")
            table["lat_i"] = (table["lat"] * 100).round().astype("int32")
            table["geometry"] = geopandas.points_from_xy(table["lon"], table["lat"])
            table = table.set_index(["year", "lon_i", "lat_i"])
            self._table = geopandas.GeoDataFrame(table, geometry="geometry", crs="EPSG:4326")
        return self._table

    # --- The registry's own bbox ---------------------------------------------------------

    def _own_year(self, year: int) -> int | None:
        """Return a year as a Python int, or None if the registry lacks it."""
        return next((own for own in self._counts if own == year), None)

    def _check_scope(self, cells: CellRange, bounds: Sequence[float]) -> None:
        if self._scope != WORLD and not self._scope.covers(cells):
            raise InputError(
                f"bounds {tuple(bounds)} extend outside the registry bbox {self._bbox} (margin "
                f"{self._margin}°): construct the registry with a larger bbox, or without one"
            )

    def _cell(self, lon: float, lat: float) -> tuple[int, int] | None:
        cell = cell_of_centre(lon, lat)
        if cell is not None and self._scope != WORLD:
            self._check_scope(CellRange(*cell, 1, 1), tile_to_bounds(lon, lat))
        return cell
