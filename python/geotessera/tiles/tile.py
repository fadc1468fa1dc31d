"""A tile on disk: where it is, and its pixels; cells of stores pass for tiles too."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from geotessera.errors import InputError
from geotessera.grid import parse_grid_name, tile_from_world, tile_to_bounds, tile_to_grid_name
from geotessera.layout import geotiff_identity, local_tile_files, npy_identity
from geotessera.sources.cell import CellTile
from geotessera.sources.floats import as_float
from geotessera.sources.geotiff import GeoTiff
from geotessera.sources.npy import NpyTile
from geotessera.sources.tiff import TiffHeader, read_header
from geotessera.types import Provenance, TileId, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.coords import BoundingBox
    from rasterio.crs import CRS

    from geotessera.sources.base import RasterSource
    from geotessera.sources.local import LocalTile
    from geotessera.types import Method

__all__ = ["Tile"]

_STRIP_BYTES = 64 * 2**20
"""Most that one strip of `Tile.iter_blocks` holds."""


class Tile:
    """A tile on disk, as NPY files or as an exported GeoTIFF, or a cell of a Zarr store.

    Its files are opened when pixels or the georeference are first asked for. Two tiles
    are equal if year and centre are, whatever the format.

    Parameters
    ----------
    lon, lat : float
        Centre in WGS84 degrees.
    year : int
        Year of the embeddings.

    Attributes
    ----------
    crs : rasterio.crs.CRS or None
        CRS of the pixels; None (like all below) for a tile without files.
    transform : affine.Affine or None
        From (column, row) pixel corners to CRS coordinates.
    bounds : rasterio.coords.BoundingBox or None
        Of the raster, in CRS units.
    height, width, band_count : int or None
        Size in pixels, and number of bands.

    Examples
    --------
    >>> Tile(0.15, 52.25, 2024).grid_name
    'grid_0.15_52.25'
    """

    def __init__(self, lon: float, lat: float, year: int) -> None:
        self.lon = lon
        self.lat = lat
        self.year = year
        self._descriptor: LocalTile | CellTile | None = None

    @classmethod
    def from_descriptor(cls, tile: TileId, descriptor: LocalTile | CellTile) -> Self:
        """Make a tile of files, or of a store's cell, whose place and year are known."""
        made = cls(tile.lon, tile.lat, tile.year)
        made._descriptor = descriptor
        return made

    @classmethod
    def from_npy(cls, embedding_path: str | Path, base_dir: str | Path) -> Self:
        """Make a tile of an embedding file.

        Parameters
        ----------
        embedding_path : path
            ``…/{year}/grid_X_Y/grid_X_Y.npy``; the scales are expected beside it.
        base_dir : path
            Directory that holds ``global_0.1_degree_tiff_all`` with the landmask.

        Raises
        ------
        InputError
            (a `ValueError`) if the path tells no tile or no year.
        FileNotFoundError
            If there is no landmask, without which the tile has no place.
        """
        path = Path(embedding_path)
        lon, lat = parse_grid_name(path.name)
        if lon is None or lat is None:
            raise InputError(f"{path} is not named after a tile: expected grid_<lon>_<lat>.npy")
        tile = npy_identity(path)
        if tile is None:
            raise InputError(
                f"{path} is not an embedding of a known year: expected "
                "<year>/grid_<lon>_<lat>/grid_<lon>_<lat>.npy with a year of four digits"
            )
        landmask = local_tile_files(base_dir, tile).landmask
        if not landmask.exists():
            raise FileNotFoundError(
                f"no landmask at {landmask}: an NPY tile has its place from it, "
                "so download it beside the embeddings"
            )
        scales = path.with_name(f"{path.stem}_scales.npy")
        provenance = Provenance(year=tile.year)
        return cls.from_descriptor(tile, NpyTile(path, scales, landmask, provenance=provenance))

    @classmethod
    def from_geotiff(cls, geotiff_path: str | Path) -> Self:
        """Make a tile of an exported GeoTIFF.

        Place and year are those in its name, ``grid_<lon>_<lat>_<year>.tif[f]``; else
        the year is its tag ``TESSERA_YEAR`` and the place that of its centre pixel.

        Raises
        ------
        InputError
            (a `ValueError`) if neither tells a year.
        FileNotFoundError, FormatError
            If there is no such file, or if it is no GeoTIFF with a CRS.
        """
        path = Path(geotiff_path)
        tile = geotiff_identity(path)
        if tile is None:
            tile = _identity_of_centre(path)
        elif not path.exists():
            raise FileNotFoundError(f"no GeoTIFF at {path}")
        return cls.from_descriptor(tile, GeoTiff(path))

    # --- Where it is ---------------------------------------------------------------------

    @cached_property
    def _header(self) -> TiffHeader | None:
        """Grid and depth, from headers alone."""
        if self._descriptor is None:
            return None
        if isinstance(self._descriptor, CellTile):
            source = self.source()
            return TiffHeader(source.grid, source.band_count)
        if isinstance(self._descriptor, GeoTiff):
            return read_header(self._descriptor.path)
        return read_header(self._descriptor.landmask)

    @cached_property
    def crs(self) -> CRS | None:
        """CRS of the pixels."""
        return None if self._header is None else self._header.grid.crs

    @cached_property
    def transform(self) -> Affine | None:
        """Affine transform from pixel corners to CRS coordinates."""
        return None if self._header is None else self._header.grid.affine

    @cached_property
    def bounds(self) -> BoundingBox | None:
        """(left, bottom, right, top) of the raster in CRS units."""
        from rasterio.coords import BoundingBox

        return None if self._header is None else BoundingBox(*self._header.grid.bounds)

    @cached_property
    def height(self) -> int | None:
        """Rows of pixels."""
        return None if self._header is None else self._header.grid.height

    @cached_property
    def width(self) -> int | None:
        """Columns of pixels."""
        return None if self._header is None else self._header.grid.width

    @cached_property
    def band_count(self) -> int | None:
        """Number of bands."""
        if self._header is None:
            return None
        if isinstance(self._descriptor, GeoTiff | CellTile):
            return self._header.band_count
        return self.source().band_count

    @property
    def grid_name(self) -> str:
        """Name of the tile's cell, such as ``grid_0.15_52.25``."""
        return tile_to_grid_name(self.lon, self.lat)

    def contains_point(self, lon: float, lat: float) -> bool:
        """Return whether the tile's cell owns a point; west and south edges belong to it."""
        try:
            owner = tile_from_world(lon, lat)
        except InputError:
            return False
        if tile_from_world(self.lon, self.lat) == (self.lon, self.lat):
            return owner == (self.lon, self.lat)
        # A raster that is no cell, such as a zone export, has its box around its centre.
        west, south, east, north = tile_to_bounds(self.lon, self.lat)
        return west <= lon < east and south <= lat < north

    def is_available(self, require_landmask: bool = True) -> bool:
        """Return whether the tile's files are there, the landmask too unless told not to."""
        if self._descriptor is None:
            return False
        if isinstance(self._descriptor, CellTile):
            return True
        if isinstance(self._descriptor, GeoTiff):
            return Path(self._descriptor.path).is_file()
        files = [self._descriptor.embedding, self._descriptor.scales]
        if require_landmask:
            files.append(self._descriptor.landmask)
        return all(Path(path).is_file() for path in files)

    # --- Pixels --------------------------------------------------------------------------

    def source(self) -> RasterSource:
        """Return the tile's pixels, opened once.

        Raises
        ------
        InputError
            (a `ValueError`) for a tile without files.
        FileNotFoundError, FormatError
            If a file is missing or is not what it should be.
        """
        # Not a cached_property: an instance must pickle, and a race may open twice.
        opened: RasterSource | None = self.__dict__.get("_source")
        if opened is None:
            if self._descriptor is None:
                raise InputError(
                    f"{self!r} has no files: make it with Tile.from_npy, Tile.from_geotiff "
                    "or tile_for_coord"
                )
            opened = self.__dict__["_source"] = self._descriptor.open()
        return opened

    def load_embedding(self) -> NDArray[np.float32]:
        """Return the whole tile: float32 (height, width, band), NaN where there is nothing.

        Raises
        ------
        InputError
            (a `ValueError`) for a tile without files.
        FileNotFoundError, FormatError
            If a file is missing or is not what it should be.
        """
        return as_float(self.source().read())

    def iter_blocks(self, rows: int = 128) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, float32 (h, width, band)) from the top, NaN where nothing is.

        Parameters
        ----------
        rows : int
            Rows at a time; fewer where a strip would be larger than 64 MiB.

        Raises
        ------
        InputError
            (a `ValueError`) if `rows` is not positive.
        """
        if rows <= 0:
            raise InputError(f"rows must be positive, found {rows}")
        source = self.source()
        height, width = source.grid.height, source.grid.width
        rows = max(1, min(rows, _STRIP_BYTES // (width * source.band_count * 4)))
        for top in range(0, height, rows):
            window = Window(top, 0, min(rows, height - top), width)
            yield top, as_float(source.read(window))

    def sample_at_point(self, lon: float, lat: float) -> NDArray[np.float32]:
        """Return the embedding of the pixel at a point: float32 (band,), NaN outside."""
        sampled: NDArray[np.float32] = self.sample_points([(lon, lat)])[0]
        return sampled

    def sample_points(
        self,
        coords: Sequence[tuple[float, float]] | NDArray[np.float64],
        *,
        method: Method = "nearest",
    ) -> NDArray[np.float32]:
        """Return embeddings at points; only their pixels are read.

        Parameters
        ----------
        coords : sequence of (lon, lat) or ndarray of shape (N, 2)
            WGS84 degrees.
        method : {"nearest", "bilinear"}
            The pixel that contains the point, or between the centres of up to four.

        Returns
        -------
        ndarray of float32, shape (N, band)
            NaN for points outside the raster and pixels without an embedding.
        """
        import numpy as np

        from geotessera.sampling import sample_source

        points = np.array(coords, dtype=np.float64)
        if not points.size:
            return np.empty((0, self.source().band_count), np.float32)
        if points.ndim != 2 or points.shape[1] != 2:
            raise InputError(f"expected (lon, lat) pairs, found an array of shape {points.shape}")
        return sample_source(self.source(), points, method=method)[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the tile with its pixels as a dictionary."""
        return {
            "path": self.grid_name,
            "data": self.load_embedding(),
            "crs": self.crs,
            "transform": self.transform,
            "bounds": self.bounds,
            "height": self.height,
            "width": self.width,
        }

    def __eq__(self, other: object) -> bool:
        """Compare year and centre."""
        if not isinstance(other, Tile):
            return NotImplemented
        return (self.year, self.lon, self.lat) == (other.year, other.lon, other.lat)

    def __hash__(self) -> int:
        return hash((self.year, self.lon, self.lat))

    def __repr__(self) -> str:
        return f"Tile(lon={self.lon}, lat={self.lat}, year={self.year}, format={self._format})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_source"}

    @property
    def _format(self) -> Literal["npy", "geotiff", "zarr"] | None:
        if self._descriptor is None:
            return None
        if isinstance(self._descriptor, CellTile):
            return "zarr"
        return "geotiff" if isinstance(self._descriptor, GeoTiff) else "npy"


def _identity_of_centre(path: Path) -> TileId:
    """Return year and place of a GeoTIFF that is not named after a tile."""
    from pyproj import Transformer

    with GeoTiff(path).open() as source:
        year, grid = source.provenance.year, source.grid
    if year is None:
        raise InputError(
            f"{path} tells no tile: neither its name (grid_<lon>_<lat>_<year>.tiff) "
            "nor a tag TESSERA_YEAR says which year it is"
        )
    a, b, c, d, e, f = grid.transform
    # The middle of the pixel in the middle.
    col, row = grid.width // 2 + 0.5, grid.height // 2 + 0.5
    transformer = Transformer.from_crs(grid.epsg_or_wkt, 4326, always_xy=True)
    lon, lat = transformer.transform(a * col + b * row + c, d * col + e * row + f)
    return TileId(year, float(lon), float(lat))
