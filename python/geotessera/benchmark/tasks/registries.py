"""The registry of the planet: opened, asked, indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared import YEAR, Place

if TYPE_CHECKING:
    from collections.abc import Callable

BOXES = {
    # Not aligned with the grid: all find the same tiles.
    "city": (0.02, 52.12, 0.28, 52.38),
    "country": (-8.68, 49.82, 1.82, 60.88),
}


def _open(place: Place) -> Any:
    from geotessera import GeoTessera

    return GeoTessera(dataset_variant="cambridge", registry_dir=place.world("planet"))


def open_registry(place: Place) -> Callable[[], object]:
    """Make a client; its index is there from an earlier process."""
    import geotessera.core  # noqa: F401 - only the opening is timed

    return lambda: _open(place) and None


def query(place: Place, box: str) -> Callable[[], object]:
    """Ask for the tiles in a box."""
    gt = _open(place)
    return lambda: {"tiles": len(gt.registry.load_blocks_for_region(BOXES[box], YEAR))}


def build_index(place: Place) -> Callable[[], object]:
    """Open the registry for the first time: its index is built."""
    from geotessera.registry import Registry

    manifest = place.world("planet") / "manifest.parquet"

    def run() -> object:
        registry = Registry(
            "v1.1", "cambridge", registry_path=str(manifest), cache_dir=place.fresh()
        )
        return {"tiles": len(registry.load_blocks_for_region(BOXES["city"], YEAR))}

    return run
