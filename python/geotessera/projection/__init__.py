"""Principal components of tiles under upstream's names, and tiles of them as pictures.

`geotessera.pca` is the better place to begin with: its models can be saved and shared.
"""

from geotessera.projection.estimators import (
    Components,
    Scaler,
    fit_projection,
    transform_block,
)
from geotessera.projection.sources import blocks, metadata
from geotessera.projection.tiles import (
    export_tiles,
    project_embeddings,
    shared_model,
    write_pca_tiles,
)

__all__ = [
    "Components",
    "Scaler",
    "blocks",
    "export_tiles",
    "fit_projection",
    "metadata",
    "project_embeddings",
    "shared_model",
    "transform_block",
    "write_pca_tiles",
]
