"""For tests and demonstrations: a small world of tiles that looks like the published one."""

from geotessera.testing.world import SampleWorld, WorldTile

__all__ = ["SampleWorld", "WorldTile"]
