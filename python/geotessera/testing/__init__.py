"""For tests and demonstrations: small worlds of tiles and stores like the published ones."""

from geotessera.testing.repositories import SampleRepository
from geotessera.testing.store_pixels import Pattern, zone_grid
from geotessera.testing.stores import SampleStore
from geotessera.testing.tile_registry import write_tile_registry
from geotessera.testing.world import SampleWorld, WorldTile

__all__ = [
    "Pattern",
    "SampleRepository",
    "SampleStore",
    "SampleWorld",
    "WorldTile",
    "write_tile_registry",
    "zone_grid",
]
