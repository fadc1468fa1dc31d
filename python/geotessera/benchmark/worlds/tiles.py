"""Real-size tiles near 52° N: a directory of them, a mirror, and a download that is recorded."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from geotessera.benchmark.servers import ETAGS
from geotessera.benchmark.worlds.registries import write_registries
from geotessera.datasets import BASE_URL, EMBEDDINGS_DIR_NAME, LANDMASKS_DIR_NAME, Mirror
from geotessera.grid import tile_footprint
from geotessera.layout import local_tile_files
from geotessera.types import TileId

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["build"]

YEAR, BANDS = 2024, 128
WEST, SOUTH = 0.05, 52.15
"""Centre of the first tile; nine from here are in every world."""

NINE = (0.0, 52.1, 0.3, 52.4)


def build(root: Path, side: int) -> None:
    """Write side × side tiles."""
    root.mkdir(parents=True)
    steps = range(side)
    places = [(round(WEST + i / 10, 2), round(SOUTH + j / 10, 2)) for i in steps for j in steps]
    grids = [tile_footprint(lon, lat) for lon, lat in places]
    pattern = _pattern(max(g.height for g in grids), max(g.width for g in grids))
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda k: _tile(root, *places[k], pattern, k), range(len(places))))
    lon, lat = (np.array(axis) for axis in zip(*places, strict=True))
    write_registries(root, np.full(len(lon), YEAR), lon, lat, np.array(sizes))
    _mirror(root)
    _download(root)


def _pattern(height: int, width: int) -> NDArray[np.int8]:
    """Return a random walk along rows: neighbouring pixels resemble each other, as real ones do.

    Twice as high as a tile, which is a stretch of it.
    """
    rng = np.random.default_rng(0)
    walk = np.empty((2 * height, width, BANDS), np.int8)
    for row in range(len(walk)):
        steps = rng.integers(-2, 3, (width, BANDS), dtype=np.int8)
        walk[row] = np.clip(np.cumsum(steps, axis=0, dtype=np.int16) // 4, -127, 127)
    return walk


def _tile(
    root: Path, lon: float, lat: float, pattern: NDArray[np.int8], number: int
) -> tuple[int, int]:
    import rasterio

    grid = tile_footprint(lon, lat)
    files = local_tile_files(root, TileId(YEAR, lon, lat))
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    start = number * 31 % (len(pattern) - grid.height + 1)
    np.save(files.embedding, pattern[start : start + grid.height, : grid.width])
    rng = np.random.default_rng(number)
    scales = 0.04 + 0.03 * rng.random((grid.height, grid.width), np.float32)
    np.save(files.scales, scales)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "lzw"}
    profile |= {"height": grid.height, "width": grid.width, "crs": grid.crs}
    with rasterio.open(files.landmask, "w", transform=grid.affine, **profile) as mask:
        mask.write(np.ones((1, grid.height, grid.width), np.uint8))
    return files.embedding.stat().st_size, files.scales.stat().st_size


def _mirror(root: Path) -> None:
    """Link nine tiles where the public server has them, and write down the MD5s."""
    base = root / "mirror" / urlsplit(BASE_URL).path.strip("/")
    mirror = Mirror(str(base), "1.1", "cambridge")
    links = {
        root / "manifest.parquet": mirror.registry_url,
        root / "landmasks.parquet": mirror.landmasks_registry_url,
    }
    west, south, east, north = NINE
    arrays, masks = root / EMBEDDINGS_DIR_NAME, root / LANDMASKS_DIR_NAME
    for path in [*arrays.rglob("*.npy"), *masks.glob("*.tiff")]:
        lon, lat = (float(part) for part in path.stem.split("_")[1:3])
        if not (west < lon < east and south < lat < north):
            continue
        if path.suffix == ".npy":
            links[path] = mirror.tile_url(path.relative_to(arrays))
        else:
            links[path] = mirror.landmask_url(path.name)
    for source, target in links.items():
        place = root.joinpath(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(source)

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()

    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, links))
    names = [root.joinpath(link).relative_to(root / "mirror").as_posix() for link in links.values()]
    tags = dict(zip(names, digests, strict=True))
    (root / "mirror" / ETAGS).write_text(json.dumps(tags))


def _download(root: Path) -> None:
    """Download nine tiles, so that there are records to verify against."""
    from geotessera import GeoTessera
    from geotessera.supply.exports import complete_arrays

    base = root / "mirror" / urlsplit(BASE_URL).path.strip("/")
    client = GeoTessera(
        dataset_variant="cambridge",
        base_url=str(base),
        cache_dir=root / "cache",
        embeddings_dir=root / "downloaded",
    )
    west, south, east, north = NINE
    inside = (west + 0.01, south + 0.01, east - 0.01, north - 0.01)
    wanted = [TileId(*tile) for tile in client.registry.load_blocks_for_region(inside, YEAR)]
    outcome = complete_arrays(client.registry, wanted, root / "downloaded")
    for error in outcome.failed.values():
        raise error
