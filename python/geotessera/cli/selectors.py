"""Which tiles: the region options, and the tiles of a dataset that lie in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import UsageError
from geotessera.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.cli.options import DatasetOptions
    from geotessera.core import GeoTessera
    from geotessera.regions import Region
    from geotessera.registry import Registry
    from geotessera.types import TileId

__all__ = [
    "MapRegionOptions",
    "RegionOptions",
    "Selection",
    "ShownRegionOptions",
    "select_tiles",
]


def _option(name: str, metavar: str, words: str, panel: str = "Region (exactly one)") -> Any:
    return typer.Option(name, metavar=metavar, help=words, rich_help_panel=panel)


_BBox = Annotated[
    str | None,
    _option(
        "--bbox",
        "W,S,E,N",
        "Box in WGS84 degrees as west,south,east,north (west > east crosses the antimeridian), "
        "or one tile as lon,lat.",
    ),
]
_Tile = Annotated[str | None, _option("--tile", "LON,LAT", "The 0.1° tile that holds a point.")]
_RegionFile = Annotated[
    str | None,
    _option(
        "--region-file",
        "PATH",
        "Shapes of a vector file or URL with a CRS; tiles are chosen by geometry.",
    ),
]
_Country = Annotated[
    str | None,
    _option("--country", "NAME", "A country's name or ISO code; tiles are chosen by its outline."),
]


@dataclass(frozen=True, slots=True)
class RegionOptions:
    """The region, as one of four options says; those that were not given are None."""

    bbox: _BBox = None
    tile: _Tile = None
    region_file: _RegionFile = None
    country: _Country = None

    @property
    def given(self) -> dict[str, str]:
        """What was given, by the option's name."""
        values = {f"--{name.replace('_', '-')}": value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    def region(self) -> Region:
        """Return the region that exactly one of the options selects.

        The one rule for all commands, with upstream's exit codes: a selector that is missing,
        doubled, or that cannot be used is a problem with what the command works on (1). Only
        ``coverage``, which draws the globe without one, takes it for wrong usage (2); see
        `optional`.

        Raises
        ------
        InputError
            (a `ValueError`; exit code 1)
        """
        from geotessera.regions import choose_region

        return choose_region(**asdict(self))

    def optional(self, *, usage: bool = False) -> Region | None:
        """Return the region that one of the options selects; None if none was given.

        Raises
        ------
        InputError
            (a `ValueError`; exit code 1), or with `usage` `UsageError` (2): as `region`.
        """
        if not self.given:
            return None
        try:
            return self.region()
        except InputError as error:
            if usage:
                raise UsageError(str(error)) from error
            raise


_ShapesOrOutline = Annotated[
    str | None,
    _option(
        "--region-file",
        "PATH",
        "Shapes of a vector file or URL with a CRS: the region, or with a mosaic an outline that "
        "is drawn.",
    ),
]


@dataclass(frozen=True, slots=True)
class MapRegionOptions(RegionOptions):
    """The region of a map; shapes may be an outline on one that is there."""

    region_file: _ShapesOrOutline = None


_SHOWN = "Region (at most one): what the map shows"
_ShownBBox = Annotated[
    str | None,
    _option(
        "--bbox",
        "W,S,E,N",
        "Box in WGS84 degrees (west > east crosses the antimeridian), or lon,lat.",
        _SHOWN,
    ),
]
_ShownTile = Annotated[
    str | None, _option("--tile", "LON,LAT", "The 0.1° tile that holds a point.", _SHOWN)
]
_ShownFile = Annotated[
    str | None,
    _option("--region-file", "PATH", "Shapes of a vector file or URL with a CRS.", _SHOWN),
]
_ShownCountry = Annotated[
    str | None, _option("--country", "NAME", "A country's name or ISO code.", _SHOWN)
]


@dataclass(frozen=True, slots=True)
class ShownRegionOptions(RegionOptions):
    """What a map of tiles shows: all of them, or a region."""

    bbox: _ShownBBox = None
    tile: _ShownTile = None
    region_file: _ShownFile = None
    country: _ShownCountry = None


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
    where: RegionOptions,
    *,
    embeddings_dir: Path | None = None,
) -> Selection:
    """Open a dataset and return its tiles of a year in a region.

    The region is checked before the dataset is opened, so that a slip costs no request.

    Raises
    ------
    InputError
        (a `ValueError`) unless exactly one region is given, and if it cannot be used.
    """
    region = where.region()
    point = where.tile if where.bbox is None else where.bbox
    client = dataset.client(embeddings_dir)
    # By the outline, not its box: a country's box may span the globe.
    tiles = region.select(client.registry.iter_tiles_in_region(region.bbox, year))
    is_point = point is not None and point.count(",") == 1
    return Selection(client, tiles, region.name, is_point)
