"""Pictures of embeddings: the names and import paths of earlier releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from geotessera.types import ProgressCallback

__all__ = ["create_rgb_mosaic"]


def create_rgb_mosaic(
    geotiff_paths: Iterable[str | os.PathLike[str]],
    output_path: str | os.PathLike[str],
    bands: Sequence[int] = (0, 1, 2),
    target_crs: Any = "EPSG:3857",
    progress_callback: ProgressCallback | None = None,
) -> str:
    """Write three bands of GeoTIFFs as one picture; see `geotessera.raster.create_rgb`."""
    from geotessera.raster import create_rgb

    return create_rgb(geotiff_paths, output_path, bands, target_crs, progress_callback)
