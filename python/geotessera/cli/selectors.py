"""Which tiles: the region options, and the tiles of a dataset that lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.cli.options import DatasetOptions
    from geotessera.core import GeoTessera
    from geotessera.registry import Registry
    from geotessera.types import TileId

__all__ = ["Selection", "select_tiles"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Tiles of a region.

    Parameters
    ----------
    client : GeoTessera
        The dataset.
    tiles : list of TileId
        By longitude, then latitude.
    name : str
        The region in words.
    is_point : bool
        Whether one point was given, whose tile is wanted.
    """

    client: GeoTessera
    tiles: list[TileId]
    name: str
    is_point: bool

    @property
    def registry(self) -> Registry:
        """The registry of the dataset."""
        return self.client.registry


def select_tiles(
    dataset: DatasetOptions,
    year: int,
    *,
    embeddings_dir: Path | None = None,
    bbox: str | None = None,
    tile: str | None = None,
    region_file: str | None = None,
    country: str | None = None,
) -> Selection:
    """Open a dataset and return its tiles of a year in a region.

    The region is checked before the dataset is opened, so that a slip costs no request.

    Raises
    ------
    InputError
        (a `ValueError`) unless exactly one region is given, and if it cannot be used.
    """
    from geotessera.regions import choose_region

    region = choose_region(bbox=bbox, tile=tile, region_file=region_file, country=country)
    point = tile if bbox is None else bbox
    client = dataset.client(embeddings_dir)
    # By the outline, not its box: a country's box may span the globe.
    tiles = region.select(client.registry.iter_tiles_in_region(region.bbox, year))
    is_point = point is not None and point.count(",") == 1
    return Selection(client, tiles, region.name, is_point)
