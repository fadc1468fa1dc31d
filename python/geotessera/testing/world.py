"""The sample world: a few tiles with the layout, sizes and look of the published ones.

It serves demonstrations and tests, ours and yours::

    world = SampleWorld.build(tmp_path, size="tiny")
    client = GeoTessera(base_url=world.root("B"))

Land, water and embeddings come from fractal terrain and are the same for the same seed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from geotessera.datasets import Mirror, MirrorLayout, tile_to_embedding_paths
from geotessera.datasets import tile_to_landmask_filename as landmask_filename
from geotessera.errors import InputError
from geotessera.grid import tile_footprint, tile_from_world
from geotessera.layout import TileFiles, local_tile_files
from geotessera.testing.registries import write_registries
from geotessera.testing.terrain import Embedder, landscape
from geotessera.types import GridSpec, TileId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["Fault", "SampleWorld", "Size", "WorldTile"]

type Size = Literal["demo", "small", "tiny"]
"""How much of a world.

``"demo"``: four tiles of 128 bands at 71° N, 249 MB, where UTM zones 34 and 35 meet.
``"small"``: seven places of 8 bands near the poles: a zone seam, the southern hemisphere,
both sides of the antimeridian; two of them in 2023 too; 21 MB.
``"tiny"``: two tiles of 4 bands on a zone seam, 3 MB.
"""

type Fault = Literal["missing-file", "truncated", "corrupt-scales", "all-water"]
"""What can be wrong with a tile.

``"missing-file"``: the registry lists an embedding that is not there.
``"truncated"``: the embedding ends early; size and hash in the registry are the whole one's.
``"corrupt-scales"``: the first scales are huge, negative, zero and infinite.
``"all-water"``: the landmask holds no land, so its registry leaves it out.
"""

_SEAM = ((23.95, 83.65), (24.05, 83.65))
_SIZES: dict[str, tuple[int, tuple[TileId, ...]]] = {
    "demo": (
        128,
        tuple(TileId(2024, lon, lat) for lon in (23.95, 24.05) for lat in (70.95, 71.05)),
    ),
    "small": (
        8,
        (
            *(TileId(2023, *place) for place in _SEAM),
            *(TileId(2024, *place) for place in _SEAM),
            *(TileId(2024, lon, 83.75) for lon in (23.95, 24.05)),
            *(TileId(2024, lon, 83.65) for lon in (-179.95, 179.95)),
            TileId(2024, 20.95, -79.95),
        ),
    ),
    "tiny": (4, tuple(TileId(2024, *place) for place in _SEAM)),
}

_MODIFIED = 1_748_736_000
"""Time stamp of the first file: 2025-06-01T00:00:00Z; each tile is a minute later."""


@dataclass(frozen=True, slots=True)
class WorldTile:
    """A tile of a sample world.

    Parameters
    ----------
    tile : TileId
        Year and centre.
    grid : GridSpec
        Its raster, as the landmask carries it.
    files : TileFiles
        Where its three files are.
    sizes, hashes : tuple
        Bytes and SHA-256 of embedding, scales and landmask, as the registries state them.
    modified : int
        Time stamp of the files, in seconds since 1970.
    land : bool
        Whether the landmask holds any land.
    """

    tile: TileId
    grid: GridSpec
    files: TileFiles
    sizes: tuple[int, int, int]
    hashes: tuple[str, str, str]
    modified: int
    land: bool = True

    def values(self) -> NDArray[np.int8]:
        """Return the int8 values, shape (H, W, B), as NumPy reads them."""
        values: NDArray[np.int8] = np.load(self.files.embedding)
        return values

    def scales(self) -> NDArray[np.float32]:
        """Return the float32 scales, shape (H, W), as NumPy reads them."""
        scales: NDArray[np.float32] = np.load(self.files.scales)
        return scales

    def mask(self) -> NDArray[np.uint8]:
        """Return the landmask, shape (H, W), as rasterio reads it; 0 is water."""
        import rasterio

        with rasterio.open(self.files.landmask) as dataset:
            mask: NDArray[np.uint8] = dataset.read(1)
        return mask

    def embedding(self) -> NDArray[np.float32]:
        """Return the float32 embedding, shape (H, W, B), by plain NumPy."""
        scales = np.where(np.isfinite(scales := self.scales()), scales, np.float32(np.nan))
        return self.values().astype(np.float32) * scales[..., None]


@dataclass(frozen=True)
class SampleWorld:
    """A world of tiles on disk, in the layout of one or more server generations.

    Make one with `build`.

    Parameters
    ----------
    directory : Path
        Where it is.
    generations : tuple of {"B", "A", "A-simple"}
        Its layouts; each is a whole mirror below `root`. They share their bytes.
    version, variant : str
        The dataset it passes for.
    bands : int
        Depth of the embeddings.
    tiles : tuple of WorldTile
        Its tiles, sorted by year, longitude and latitude.
    """

    directory: Path
    generations: tuple[MirrorLayout, ...]
    version: str
    variant: str
    bands: int
    tiles: tuple[WorldTile, ...] = field(repr=False)

    @classmethod
    def build(
        cls,
        directory: str | os.PathLike[str],
        *,
        generation: MirrorLayout | Iterable[MirrorLayout] = "B",
        size: Size = "demo",
        seed: int = 0,
        bands: int | None = None,
        tiles: Iterable[tuple[int, float, float]] | None = None,
        faults: Mapping[tuple[float, float], Fault] | None = None,
        version: str = "1.1",
        variant: str = "cambridge",
    ) -> Self:
        """Write a world.

        Parameters
        ----------
        directory : path
            Where to write; made if missing.
        generation : {"B", "A", "A-simple"} or several of them
            Which layouts, as `geotessera.datasets.Mirror` describes them.
        size : {"demo", "small", "tiny"}
            Which tiles, and how many bands.
        seed : int
            Another seed is another landscape.
        bands : int, optional
            Number of bands, instead of the size's.
        tiles : iterable of (year, lon, lat), optional
            Tiles, instead of the size's.
        faults : mapping of (lon, lat) to fault, optional
            What is wrong with some of the tiles, in every year.
        version, variant : str
            The dataset to pass for.

        Returns
        -------
        SampleWorld
        """
        generations = (generation,) if isinstance(generation, str) else tuple(generation)
        usual_bands, usual_tiles = _SIZES[size]
        bands = usual_bands if bands is None else bands
        wanted = sorted({TileId(*tile) for tile in (usual_tiles if tiles is None else tiles)})
        flaws = dict(faults or {})
        if unknown := set(flaws) - {(tile.lon, tile.lat) for tile in wanted}:
            raise InputError(f"faults name places without a tile: {sorted(unknown)}")
        directory = Path(directory).absolute()
        mirrors = [
            Mirror(str(directory / one), version, variant, layout=one) for one in generations
        ]
        embedder = Embedder(bands, seed)

        def write(number: int) -> WorldTile:
            tile = wanted[number]
            return _write_tile(
                tile,
                _mirror_files(mirrors[0], tile),
                embedder,
                seed,
                flaws.get((tile.lon, tile.lat)),
                _MODIFIED + 60 * number,
            )

        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            made = tuple(pool.map(write, range(len(wanted))))
        for mirror in mirrors[1:]:
            for one in made:
                _link_files(one.files, _mirror_files(mirror, one.tile))
        for mirror in mirrors:
            write_registries(mirror, made)
        for one in made:
            _spoil(one, [_mirror_files(mirror, one.tile) for mirror in mirrors], flaws)
        return cls(directory, generations, version, variant, bands, made)

    def root(self, generation: MirrorLayout | None = None) -> Path:
        """Return a mirror's base directory: serve it, or use it as a base URL."""
        return self.directory / (generation or self.generations[0])

    def mirror(self, generation: MirrorLayout | None = None) -> Mirror:
        """Return a mirror as the package's own description of it."""
        generation = generation or self.generations[0]
        return Mirror(str(self.root(generation)), self.version, self.variant, layout=generation)

    def tile(self, lon: float, lat: float, year: int = 2024) -> WorldTile:
        """Return the tile that owns a point.

        Raises
        ------
        KeyError
            If the world has none there.
        """
        wanted = TileId(year, *tile_from_world(lon, lat))
        for one in self.tiles:
            if one.tile == wanted:
                return one
        raise KeyError(f"the world has no tile {tuple(wanted)}")

    def checkout(
        self,
        directory: str | os.PathLike[str],
        tiles: Iterable[tuple[int, float, float]] | None = None,
    ) -> Path:
        """Put tiles into a directory as downloads leave them there, by hard links."""
        wanted = None if tiles is None else {TileId(*tile) for tile in tiles}
        for one in self.tiles:
            if wanted is None or one.tile in wanted:
                _link_files(one.files, local_tile_files(directory, one.tile))
        return Path(directory)


def _mirror_files(mirror: Mirror, tile: TileId) -> TileFiles:
    embedding, scales = tile_to_embedding_paths(tile.lon, tile.lat, tile.year)
    return TileFiles(
        Path(mirror.tile_url(embedding)),
        Path(mirror.tile_url(scales)),
        Path(mirror.landmask_url(landmask_filename(tile.lon, tile.lat))),
    )


def _link_files(sources: TileFiles, targets: TileFiles) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if not source.exists():
            continue
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)


def _write_tile(
    tile: TileId, files: TileFiles, embedder: Embedder, seed: int, fault: Fault | None, time: int
) -> WorldTile:
    grid = tile_footprint(tile.lon, tile.lat)
    view = landscape(grid, tile.year, seed)
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    size = (grid.height, grid.width)
    scales = np.empty(size, np.float32)
    digest = hashlib.sha256()
    # A new file each time: what is hard-linked to the old one keeps its bytes.
    files.embedding.unlink(missing_ok=True)
    with files.embedding.open("wb") as file:
        head = _npy_header((*size, embedder.bands), "|i1")
        digest.update(head)
        file.write(head)
        row = 0
        for values, part in embedder.strips(view):
            digest.update(values)
            file.write(values.data)
            scales[row : row + len(part)] = part
            row += len(part)
    if fault == "corrupt-scales":
        scales[0, :4] = 1e30, -0.05, 0, np.inf
    _replace(files.scales, _npy_header(size, "<f4") + scales.tobytes())
    land = np.zeros(size, bool) if fault == "all-water" else ~view.water
    landmask = _landmask_bytes(grid, land)
    _replace(files.landmask, landmask)
    for path in files:
        os.utime(path, (time, time))
    return WorldTile(
        tile,
        grid,
        files,
        (files.embedding.stat().st_size, files.scales.stat().st_size, len(landmask)),
        (
            digest.hexdigest(),
            hashlib.sha256(files.scales.read_bytes()).hexdigest(),
            hashlib.sha256(landmask).hexdigest(),
        ),
        time,
        bool(land.any()),
    )


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    from io import BytesIO

    from numpy.lib import format as npy

    buffer = BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    # Years of one place share a landmask, and threads write them at the same time.
    import tempfile

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}_tmp_")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).chmod(0o644)
    Path(name).replace(path)


def _landmask_bytes(grid: GridSpec, land: NDArray[np.bool_]) -> bytes:
    import rasterio

    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=grid.height,
            width=grid.width,
            count=1,
            dtype="uint8",
            crs=grid.crs,
            transform=grid.affine,
            compress="lzw",
        ) as dataset:
            dataset.write(land.astype(np.uint8), 1)
        return bytes(memory.read())


def _spoil(
    one: WorldTile, copies: list[TileFiles], flaws: Mapping[tuple[float, float], Fault]
) -> None:
    """Damage a tile's files after the registries have been written."""
    fault = flaws.get((one.tile.lon, one.tile.lat))
    for files in copies:
        if fault == "missing-file":
            files.embedding.unlink()
        elif fault == "truncated":  # once is enough where the copies are links
            os.truncate(files.embedding, one.sizes[0] // 2)
