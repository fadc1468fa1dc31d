"""A real-size store for the benchmarks: the published grids and metadata, sparsely written.

All 60 zones have 1.82 million rows and 9 years of metadata, as published; zone 30 holds, near
52° N in 2024, a square of 2304 × 2304 pixels where four shards meet and fields of 320 × 320
pixels in 40 other shards. About 1.3 GB; read by both packages from the same bytes.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from geotessera.testing import Pattern, SampleStore
from geotessera.testing.store_pixels import to_lonlat
from geotessera.testing.terrain import Embedder, landscape
from geotessera.types import GridSpec, Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["build"]

SHARD = 4096
ROWS, COLUMNS = 445 * SHARD, 18 * SHARD
YEARS = tuple(range(2017, 2026))
YEAR = 2024
ZONE = 30
TOP = 9_330_000.0
LEFT = 166_000.0

MEETING = (86 * SHARD, 9 * SHARD)
"""Row and column where the four shards of the square meet, near 2.7° W and 52.4° N."""

SQUARE = Window(MEETING[0] - 1152, MEETING[1] - 1152, 2304, 2304)
FIELDS = tuple(
    Window(MEETING[0] + (i - 5) * SHARD + 1000, MEETING[1] + (j - 2) * SHARD + 1600, 320, 320)
    for i in range(10)
    for j in (-1, 0, 3, 4)
)


class LandscapePixels:
    """Embeddings of an invented landscape, which compress as smooth ones do (about 1.5)."""

    def __init__(self) -> None:
        self.bands = 128
        self.embedder = Embedder(128)

    def read(self, grid: GridSpec, year: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return values, bands first, and scales of a grid."""
        view = landscape(grid, year, 0)
        values = np.empty((128, grid.height, grid.width), np.int8)
        scales = np.empty((grid.height, grid.width), np.float32)
        row = 0
        for strip, part in self.embedder.strips(view):
            values[:, row : row + len(part)] = strip.transpose(2, 0, 1)
            scales[row : row + len(part)] = part
            row += len(part)
        return values, scales


def build(root: Path, zones: int) -> None:
    """Write the store and, beside it, the points and boxes that are asked for."""
    root.mkdir(parents=True)
    numbers = range(1, zones + 1) if zones > 1 else (ZONE,)
    # Metadata and axes of all zones first, then the pixels of one year of one zone.
    store = SampleStore.build(
        root / "store",
        grids=[grid_of_zone(zone) for zone in numbers],
        years=YEARS,
        depths=(4, 16),
        pixels=Pattern(128),
        coverage=dict.fromkeys(range(1, 61), ()),
        chunk=32,
        shard=SHARD,
    )
    fill(store)
    for name, count, spread in (
        ("1k", 1000, False),
        ("100k", 100_000, False),
        ("spread", 1000, True),
    ):
        np.save(root / f"points-{name}.npy", points(count, spread=spread))
    (root / "boxes.json").write_text(json.dumps({"utm": box(), "year": YEAR}))


def grid_of_zone(zone: int) -> GridSpec:
    """Return a grid as published: rows from the pole to the equator."""
    return GridSpec(32600 + zone, (10.0, 0.0, LEFT, 0.0, -10.0, TOP), ROWS, COLUMNS)


def fill(store: SampleStore) -> None:
    """Write the pixels: each shard once, two at a time."""
    pixels = LandscapePixels()
    grid = store.grids[ZONE]
    quarters = [
        Window(MEETING[0] + y, MEETING[1] + x, 1152, 1152) for y in (-1152, 0) for x in (-1152, 0)
    ]
    group: Any = zarr.open_group(store.path, path=f"utm{ZONE}", mode="r+")
    step = YEARS.index(YEAR)

    def write(window: Window) -> None:
        values, scales = pixels.read(grid.window(window), YEAR)
        rows = slice(window.row, window.row + window.height)
        cols = slice(window.col, window.col + window.width)
        for depth in store.depths:
            group[f"embeddings_d{depth}"][step, :, rows, cols] = values[:depth]
        group["scales"][step, rows, cols] = scales
        group["embeddings"][step, :, rows, cols] = values

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (*quarters, *FIELDS)))


def points(count: int, *, spread: bool = False) -> NDArray[np.float64]:
    """Return places (lon, lat) in the square, or in the fields of 40 shards."""
    rng = np.random.default_rng(1)
    windows = np.array(FIELDS if spread else [SQUARE])[
        rng.integers(0, len(FIELDS) if spread else 1, count)
    ]
    row = windows[:, 0] + rng.uniform(0, 1, count) * windows[:, 2]
    col = windows[:, 1] + rng.uniform(0, 1, count) * windows[:, 3]
    grid = grid_of_zone(ZONE)
    lon, lat = to_lonlat(grid, LEFT + 10 * col, TOP - 10 * row)
    return np.column_stack([lon, lat])


def box(pixels: int = 2000) -> tuple[float, float, float, float]:
    """Return a box in the zone's eastings and northings, in the middle of the square."""
    half = 5.0 * pixels
    x, y = LEFT + 10 * MEETING[1], TOP - 10 * MEETING[0]
    return x - half + 1, y - half + 1, x + half - 1, y + half - 1
