"""Registries as memory-mapped indexes: which cells have tiles in which years, and their sizes."""

from geotessera.index.file import WORLD, IndexIdentity, Section, TileIndex, write_index

__all__ = ["WORLD", "IndexIdentity", "Section", "TileIndex", "write_index"]
