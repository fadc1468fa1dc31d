"""File names of the text registries that came before Parquet, by 5° blocks."""

from __future__ import annotations

__all__ = ["block_to_embeddings_registry_filename", "block_to_landmasks_registry_filename"]


def block_to_embeddings_registry_filename(year: int, block_lon: int, block_lat: int) -> str:
    """Return the file name of a 5° block in the text registries of embeddings."""
    return f"embeddings_{year}_lon{block_lon}_lat{block_lat}.txt"


def block_to_landmasks_registry_filename(block_lon: int, block_lat: int) -> str:
    """Return the file name of a 5° block in the text registries of landmasks."""
    return f"landmasks_lon{block_lon}_lat{block_lat}.txt"
