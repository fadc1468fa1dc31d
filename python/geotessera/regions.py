"""What is asked for: a box, a tile, the outlines of a file, a country."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cells import cell_of_centre
from geotessera.errors import InputError
from geotessera.globe import in_degrees, on_globe, parts_of_geometry
from geotessera.grid import tile_from_world, tile_to_bounds
from geotessera.types import BBox, TileId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

__all__ = ["Region", "choose_region", "parse_bbox", "read_region_file"]

# Degrees, a tenth of a millimetre: overlaps thinner than this are edges that touch.
_TOUCH = 1e-9

# A box that goes round more than half of the globe is rather one with swapped numbers.
_WIDEST_CROSSING = 180.0


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the globe.

    Parameters
    ----------
    bbox : BBox
        (west, south, east, north) in WGS84 degrees; west > east crosses the antimeridian.
    geometry : shapely geometry, optional
        Outline in WGS84 degrees, cut at the antimeridian; None if the box is the region.
    name : str
        For messages.

    Examples
    --------
    >>> Region.from_bbox("0.1,52.0,0.3,52.1").bbox
    BBox(west=0.1, south=52.0, east=0.3, north=52.1)
    """

    bbox: BBox
    geometry: BaseGeometry | None = None
    name: str = ""

    @classmethod
    def of(cls, region: object) -> Region:
        """Return the region that a value describes.

        Parameters
        ----------
        region : Region, str, sequence of float, shapely geometry, GeoDataFrame or path
            Text is a country, or a box ``west,south,east,north``; geometries are in WGS84
            degrees, frames and files in their own CRS.

        Raises
        ------
        InputError
            (a `ValueError`) for anything else, and for a country that is not known.
        """
        value: Any = region
        if isinstance(value, Region):
            return value
        if isinstance(value, str):
            first = value.partition(",")[0].strip()
            is_box = first.removeprefix("-").replace(".", "", 1).isdecimal()
            return cls.from_bbox(value) if is_box else cls.from_country(value)
        if hasattr(value, "geom_type") and hasattr(value, "is_empty") and hasattr(value, "wkb"):
            return cls.from_geometry(value)
        if isinstance(value, os.PathLike) or hasattr(value, "to_crs"):
            frame = value.to_frame("geometry") if hasattr(value, "to_frame") else value
            return cls.from_file(frame)
        try:
            return cls.from_bbox(value)
        except TypeError as error:
            raise InputError(
                f"region {value!r}: expected a box (west, south, east, north), a country, a "
                "geometry, a GeoDataFrame or the path of a vector file"
            ) from error

    @classmethod
    def from_bbox(cls, value: str | Sequence[float]) -> Region:
        """Return a box, from text or numbers as `parse_bbox` takes them."""
        bbox = parse_bbox(value)
        return cls(bbox, name=",".join(f"{degrees:g}" for degrees in bbox))

    @classmethod
    def from_geometry(cls, geometry: BaseGeometry, name: str = "") -> Region:
        """Return the region of an outline in WGS84 degrees.

        Parts beyond ±180 are taken round; invalid rings are repaired.

        Raises
        ------
        InputError
            (a `ValueError`) for an empty outline, or one that is not in degrees.
        """
        import shapely

        if geometry is None or geometry.is_empty:
            raise InputError(f"region {name or geometry!r} is empty")
        west, south, east, north = geometry.bounds
        if not (west >= -360 and east <= 360 and south >= -90 and north <= 90):
            raise InputError(
                f"region {name} ({west}, {south}, {east}, {north}) is not in WGS84 degrees"
            )
        try:
            geometry = on_globe(shapely.force_2d(shapely.make_valid(geometry)))
        except shapely.GEOSException as error:  # coordinates that are no numbers
            raise InputError(f"region {name} is no valid outline: {error}") from error
        return cls(_enclosing(geometry), geometry, name)

    @classmethod
    def from_file(cls, location: str | os.PathLike[str] | GeoDataFrame) -> Region:
        """Return the outlines of a vector file, URL or GeoDataFrame as one region."""
        name = "region" if hasattr(location, "geometry") else os.fspath(location)
        import shapely

        outlines = read_region_file(location).geometry.to_numpy()
        try:
            whole = shapely.union_all(shapely.make_valid(outlines))
        except shapely.GEOSException as error:
            raise InputError(f"region {name} has no valid outline: {error}") from error
        return cls.from_geometry(whole, str(name))

    @classmethod
    def from_country(cls, country: str) -> Region:
        """Return the outline of a country, by name or ISO code."""
        import shapely.geometry

        from geotessera.country import get_country_lookup

        lookup = get_country_lookup()
        outline = shapely.geometry.shape(lookup.get_outline(country))
        return cls.from_geometry(outline, lookup.find(country))

    def _repr_html_(self) -> str:
        """Describe the region in a notebook, with its outline."""
        from geotessera.notebook import card, map_svg

        west, south, east, north = self.bbox
        facts = {
            "west, south": f"{west:.6g}°, {south:.6g}°",
            "east, north": f"{east:.6g}°, {north:.6g}°",
            "outline": "its box" if self.geometry is None else self.geometry.geom_type,
        }
        rings = [] if self.geometry is None else _rings(self.geometry, self.bbox)
        name = self.name or "unnamed"
        # Points and lines have no rings; their box shows where they are.
        drawing = map_svg([] if rings else [self.bbox], rings=rings, label=f"map of {name}")
        return card(f"Region {name}", facts, drawing)

    def select(self, tiles: Iterable[tuple[int, float, float]]) -> list[TileId]:
        """Return those tiles that share an area with the region, in the same order.

        Parameters
        ----------
        tiles : iterable of (year, lon, lat)
            Such as the registry's tiles of the region's `bbox`: a region that is a box
            keeps all of them. Points and lines select the tiles that own them.
        """
        candidates = [TileId(*tile) for tile in tiles]
        if self.geometry is None or not candidates:
            return candidates
        mask = self.overlaps([(tile.lon, tile.lat) for tile in candidates])
        return [tile for tile, keep in zip(candidates, mask, strict=True) if keep]

    def overlaps(self, centres: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        """Whether each tile, by its centre in degrees, shares an area with the outline."""
        import numpy as np
        import shapely

        if self.geometry is None:
            raise InputError(f"region {self.name} is a box: ask the registry for its tiles")
        keys = [cell_of_centre(*centre) for centre in centres]
        if None in keys:
            raise InputError(f"{centres[keys.index(None)]} is not the centre of a tile")
        # Edges at exact tenths, drawn in by a hair, so that touching is not meeting.
        west, south = (np.array(keys, np.float64).reshape(-1, 2) - (1800, 900)).T
        cells = shapely.box(
            west / 10 + _TOUCH, south / 10 + _TOUCH,
            (west + 1) / 10 - _TOUCH, (south + 1) / 10 - _TOUCH,
        )  # fmt: skip
        found = np.zeros(len(cells), bool)
        for geometry in _by_dimension(self.geometry):
            shapely.prepare(geometry)
            found |= shapely.intersects(geometry, cells)
        return found


def _by_dimension(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Split a geometry into its areas, and its lines and points moved off the cells' edges.

    West and south edges belong to a cell, so a hair to the north-east is inside it.
    """
    import numpy as np
    import shapely

    parts = parts_of_geometry(geometry)
    flat = np.array([shapely.get_dimensions(part) < 2 for part in parts])
    groups = [shapely.union_all(parts[~flat])] if (~flat).any() else []
    if flat.any():
        limits = (180 - 2 * _TOUCH, 90 - 2 * _TOUCH)
        moved = shapely.transform(
            shapely.union_all(parts[flat]), lambda xy: np.minimum(xy + 2 * _TOUCH, limits)
        )
        groups.append(moved)
    return groups


def _enclosing(geometry: BaseGeometry) -> BBox:
    """Return the narrowest box round a geometry, across the antimeridian if that is narrower.

    Boxes that cross it are not wider than `parse_bbox` takes them.
    """
    import shapely

    bounds = shapely.bounds(parts_of_geometry(geometry))
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    spans = sorted((float(west), float(east)) for west, east in bounds[:, [0, 2]])
    # The widest gap between the parts' longitudes is what the box leaves out.
    reach, widest, west, east = spans[0][1], -1.0, spans[0][0], 0.0
    for start, stop in spans[1:]:
        if start - reach > widest:
            widest, west, east = start - reach, start, reach
        reach = max(reach, stop)
    if widest > spans[0][0] + 360 - reach and 360 - widest <= _WIDEST_CROSSING:
        return BBox(west, south, east, north)
    return BBox(spans[0][0], south, reach, north)


def _rings(geometry: BaseGeometry, bbox: BBox) -> list[list[tuple[float, float]]]:
    """Return the rings of an outline's areas, simplified to what a small map shows."""
    import shapely

    crosses = bbox.west > bbox.east
    width = bbox.east - bbox.west + 360 * crosses
    detail = max(width, bbox.north - bbox.south) / 500
    parts = [
        part
        for part in parts_of_geometry(shapely.simplify(geometry, detail))
        if part.geom_type == "Polygon"
    ]
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    # In continuous longitude: what is west of the box's west lies beyond the antimeridian.
    return [
        [(x + 360 if crosses and x < bbox.west else x, y) for x, y, *_ in ring.coords]
        for ring in rings
    ]


def parse_bbox(value: str | Sequence[float]) -> BBox:
    """Return a box from text or numbers.

    Parameters
    ----------
    value : str or sequence of float
        ``west,south,east,north`` in WGS84 degrees, or ``lon,lat`` for the 0.1° tile that
        owns the point. West > east crosses the antimeridian, by up to 180° in all.

    Raises
    ------
    InputError
        (a `ValueError`) for anything else, and for a box without area.

    Examples
    --------
    >>> parse_bbox("170,-20,-170,-10")
    BBox(west=170.0, south=-20.0, east=-170.0, north=-10.0)
    """
    parts = value.split(",") if isinstance(value, str) else list(value)
    if len(parts) not in (2, 4):
        raise InputError(
            f"bbox {value!r} must be 'west,south,east,north', or 'lon,lat' for a single tile"
        )
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError) as error:
        raise InputError(f"bbox {value!r} must hold numbers in degrees") from error
    if len(numbers) == 2:
        return BBox(*tile_to_bounds(*tile_from_world(*numbers)))
    west, south, east, north = numbers
    width = east - west if east >= west else east + 360 - west
    crosses = west > east and width <= _WIDEST_CROSSING
    if not (
        abs(west) <= 180 and abs(east) <= 180 and -90 <= south < north <= 90
        and (crosses or west < east)
    ):  # fmt: skip
        raise InputError(
            f"bbox {value!r} must have a positive area within WGS84 limits: west < east in "
            "-180..180 (west > east only across the antimeridian), south < north in -90..90"
        )
    return BBox(west, south, east, north)


def read_region_file(location: str | os.PathLike[str] | GeoDataFrame) -> GeoDataFrame:
    """Return the features of a vector file in WGS84 (EPSG:4326).

    Parameters
    ----------
    location : path, URL or GeoDataFrame
        Anything that GDAL reads, with a CRS and at least one feature.

    Raises
    ------
    InputError
        (a `ValueError`) if it cannot be read, is empty, or declares no CRS.
    """
    import geopandas
    import shapely

    frame: Any = location
    if isinstance(location, str | os.PathLike):
        name = os.fspath(location)
        if "://" not in name and not name.startswith("/vsi") and not Path(name).exists():
            raise InputError(f"there is no region file {name}")
        try:
            parquet = name.lower().endswith((".parquet", ".geoparquet"))
            frame = geopandas.read_parquet(name) if parquet else geopandas.read_file(name)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file may meet any error of three libraries
            raise InputError(f"region file {name} cannot be read: {error}") from error
    else:
        name = "GeoDataFrame"
    if not isinstance(frame, geopandas.GeoDataFrame) or not len(frame):
        raise InputError(f"region file {name} holds no features with geometry")
    if frame._geometry_column_name is None:
        raise InputError(f"region file {name} has no active geometry column: set one")
    if frame.crs is None:
        raise InputError(f"region file {name} declares no CRS: set one, such as EPSG:4326")
    empty = frame.geometry.isna() | frame.geometry.is_empty
    if empty.any():
        raise InputError(f"region file {name}: feature {int(empty.argmax())} has no geometry")
    try:
        return in_degrees(frame)
    except (RuntimeError, ValueError, shapely.GEOSException) as error:  # and pyproj's errors
        raise InputError(
            f"region file {name}: its CRS {frame.crs.name!r} cannot be placed on the globe: {error}"
        ) from error


def choose_region(
    *,
    bbox: str | Sequence[float] | None = None,
    tile: str | Sequence[float] | None = None,
    region_file: str | os.PathLike[str] | GeoDataFrame | None = None,
    country: str | None = None,
) -> Region:
    """Return the region that one of four selectors describes.

    Raises
    ------
    InputError
        (a `ValueError`) if none or several are given, or the one cannot be used.
    """
    given = [value is not None for value in (bbox, tile, region_file, country)]
    options = "--bbox, --tile, --region-file, --country"
    if not any(given):
        raise InputError(f"a region is required: give one of {options}")
    if sum(given) > 1:
        raise InputError(f"only one region may be given: choose one of {options}")
    if bbox is not None:
        return Region.from_bbox(bbox)
    if tile is not None:
        parts = tile.split(",") if isinstance(tile, str) else list(tile)
        if len(parts) != 2:
            raise InputError(f"tile {tile!r} must be 'lon,lat'")
        return Region.from_bbox(tile)
    if region_file is not None:
        return Region.from_file(region_file)
    assert country is not None
    return Region.from_country(country)
