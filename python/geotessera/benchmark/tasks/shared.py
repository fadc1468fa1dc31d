"""What tasks are told, and what several of them need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

YEAR = 2024
NINE_TILES = (0.001, 52.101, 0.299, 52.399)
FOUR_TILES = (0.001, 52.201, 0.199, 52.399)


class Place(NamedTuple):
    """Where the data is, where to write, and the server if there is one.

    What is in `scratch` goes after the process, what is in `cache` after the operation.
    """

    worlds: dict[str, str]
    scratch: Path
    cache: Path
    url: str = ""
    certificate: str = ""

    def world(self, name: str) -> Path:
        """Return the directory of one kind of data."""
        return Path(self.worlds[name])

    def fresh(self) -> Path:
        """Return a new directory to write to."""
        directory = self.scratch / str(sum(1 for _ in self.scratch.iterdir()))
        directory.mkdir()
        return directory


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def client(place: Place) -> Any:
    """Return a client of the local tiles."""
    from geotessera import GeoTessera

    tiles = place.world("tiles")
    return GeoTessera(dataset_variant="cambridge", embeddings_dir=tiles, registry_dir=tiles)


def random_points(
    count: int, box: tuple[float, float, float, float] = NINE_TILES, seed: int = 1
) -> Any:
    """Return longitudes and latitudes, shape (count, 2)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    west, south, east, north = box
    return np.c_[rng.uniform(west, east, count), rng.uniform(south, north, count)]


def tile_arrays(place: Place, lon: float, lat: float) -> tuple[Any, Any]:
    """Return int8 values, shape (H, W, 128), and scales of a local tile, by NumPy alone."""
    import numpy as np

    name = f"grid_{lon:.2f}_{lat:.2f}"
    directory = place.world("tiles") / "global_0.1_degree_representation" / str(YEAR) / name
    return np.load(directory / f"{name}.npy"), np.load(directory / f"{name}_scales.npy")


def tile_frame(place: Place, lon: float, lat: float) -> tuple[Any, Any, tuple[int, int]]:
    """Return CRS, transform and (height, width) of a local tile, as its landmask has them."""
    import rasterio

    path = place.world("tiles") / "global_0.1_degree_tiff_all" / f"grid_{lon:.2f}_{lat:.2f}.tiff"
    with rasterio.open(path) as mask:
        return mask.crs, mask.transform, mask.shape
