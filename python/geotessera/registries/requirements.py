"""What a download of tiles amounts to, by the sizes that the registry records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.datasets import (
    EMBEDDINGS_DIR_NAME,
    LANDMASKS_DIR_NAME,
    tile_to_embedding_paths,
    tile_to_landmask_filename,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.registries.files import StrPath
    from geotessera.registry import Registry

__all__ = ["download_requirements"]


def download_requirements(
    registry: Registry,
    tiles: Iterable[tuple[int, float, float]],
    output_dir: StrPath,
    format_type: str,
    check_existing: bool,
) -> tuple[int, int, dict[str, int]]:
    """Return (bytes, files, sizes); see `Registry.calculate_download_requirements`."""
    sizes: dict[str, int] = {}
    if format_type != "npy":
        wanted = list(tiles)
        total = sum(
            4 * registry.get_tile_file_size(*tile) + registry.get_landmask_file_size(*tile[1:])
            for tile in wanted
        )
        return total, len(wanted), sizes
    embeddings = Path(output_dir) / EMBEDDINGS_DIR_NAME
    landmasks = Path(output_dir) / LANDMASKS_DIR_NAME
    for year, lon, lat in tiles:
        paths = [embeddings / path for path in tile_to_embedding_paths(lon, lat, year)]
        landmask = landmasks / tile_to_landmask_filename(lon, lat)
        if not (check_existing and paths[0].exists()):
            sizes[f"embedding_{year}_{lon}_{lat}"] = registry.get_tile_file_size(year, lon, lat)
        if not (check_existing and paths[1].exists()):
            sizes[f"scales_{year}_{lon}_{lat}"] = registry.get_scales_file_size(year, lon, lat)
        key = f"landmask_{lon}_{lat}"
        if key not in sizes and not (check_existing and landmask.exists()):
            sizes[key] = registry.get_landmask_file_size(lon, lat)
    return sum(sizes.values()), len(sizes), sizes
