"""Which tiles: the region options, and the tiles of a dataset that lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.cli.errors import UsageError
from geotessera.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geotessera.cli.options import DatasetOptions
    from geotessera.core import GeoTessera
    from geotessera.regions import Region
    from geotessera.registry import Registry
    from geotessera.types import TileId

__all__ = ["Selection", "optional_region", "region_from", "select_tiles"]


def region_from(selectors: Mapping[str, str | None]) -> Region:
    """Return the region that exactly one of a command's options selects.

    The one rule for all commands, with upstream's exit codes: a selector that is missing,
    doubled, or that cannot be used is a problem with what the command works on (1). Only
    ``coverage``, which draws the globe without one, takes it for wrong usage (2); see
    `optional_region`.

    Parameters
    ----------
    selectors : mapping
        ``bbox``, ``tile``, ``region_file`` and ``country`` as they were given; None for those
        that were not.

    Raises
    ------
    InputError
        (a `ValueError`; exit code 1)
    """
    from geotessera.regions import choose_region

    return choose_region(**selectors)


def optional_region(selectors: Mapping[str, str | None], *, usage: bool = False) -> Region | None:
    """Return the region that one of a command's options selects; None if none was given.

    Raises
    ------
    InputError
        (a `ValueError`; exit code 1), or with `usage` `UsageError` (2): as `region_from`.
    """
    if all(value is None for value in selectors.values()):
        return None
    try:
        return region_from(selectors)
    except InputError as error:
        if usage:
            raise UsageError(str(error)) from error
        raise


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
    selectors = {"bbox": bbox, "tile": tile, "region_file": region_file, "country": country}
    region = region_from(selectors)
    point = tile if bbox is None else bbox
    client = dataset.client(embeddings_dir)
    # By the outline, not its box: a country's box may span the globe.
    tiles = region.select(client.registry.iter_tiles_in_region(region.bbox, year))
    is_point = point is not None and point.count(",") == 1
    return Selection(client, tiles, region.name, is_point)
