"""What people write as points, as an (N, 2) array of longitudes and latitudes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["parse_points", "read_points", "read_points_file"]

# Names of coordinate columns in lower case; the first pair that a table has is used.
_COLUMNS = (
    ("lon", "lat"),
    ("longitude", "latitude"),
    ("lng", "lat"),
    ("long", "lat"),
    ("x", "y"),
)

_WGS84_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326", "WGS84", "WGS 84")


def parse_points(points: Any) -> NDArray[np.float64]:
    """Return points as an array, checked.

    Parameters
    ----------
    points : iterable of (lon, lat), ndarray, GeoJSON dict, GeoDataFrame, GeoSeries or DataFrame
        Longitude and latitude in WGS84 degrees. Of GeoJSON, a FeatureCollection or a list of
        Features, of Points. A GeoDataFrame or GeoSeries in another CRS is reprojected; it must
        declare one. A DataFrame has columns lon and lat, longitude and latitude, or x and y.

    Returns
    -------
    ndarray of float64, shape (N, 2)
        Longitude and latitude in degrees, in input order.

    Raises
    ------
    InputError
        (a `ValueError`) naming the first point that is no pair of numbers, not finite or not
        on the globe, and for geometries other than Points.

    Examples
    --------
    >>> parse_points([(0.17, 52.23), (0.2, 52.3)]).shape
    (2, 2)
    """
    array = read_points(points)
    _check(array)
    return array


def read_points(points: Any) -> NDArray[np.float64]:
    """Return points as `parse_points` does, wherever they are: not finite, not on the globe."""
    if isinstance(points, dict):
        return _from_geojson(points)
    if _is_from(points, "geopandas"):
        return _from_geopandas(points)
    if _is_from(points, "pandas") and hasattr(points, "columns"):
        return _from_table(points)
    return _from_pairs(points)


def _is_from(value: Any, package: str) -> bool:
    """Whether a value is of a package's type or a subclass; the package is not imported."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def _from_geopandas(points: Any) -> NDArray[np.float64]:
    if not hasattr(points, "columns"):  # a GeoSeries, or the array within it
        return _from_geometries(points, points.crs)
    try:
        geometries = points.geometry
    except AttributeError as error:
        raise InputError(
            "the GeoDataFrame has no active geometry column: choose one with .set_geometry()"
        ) from error
    return _from_geometries(geometries, geometries.crs)


def _from_pairs(points: Any) -> NDArray[np.float64]:
    from geotessera import _native

    listed = isinstance(points, list | tuple) or (_is_from(points, "numpy") and points.ndim == 1)
    first = points[0] if listed and len(points) else None
    if isinstance(first, dict):
        return _from_geojson({"type": "FeatureCollection", "features": list(points)})
    if hasattr(first, "geom_type"):
        return _from_geometries(points, "EPSG:4326")
    try:
        return _native.points_array(points)
    except ValueError as error:
        raise InputError(str(error)) from error


def _from_geojson(collection: dict[str, Any]) -> NDArray[np.float64]:
    from geotessera import _native

    kind, features = collection.get("type"), collection.get("features")
    if kind != "FeatureCollection" or not isinstance(features, list):
        raise InputError(
            f"expected a GeoJSON FeatureCollection of Point features; found type {kind!r}"
        )
    pairs = []
    for row, feature in enumerate(features):
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        found = geometry.get("type") if isinstance(geometry, dict) else geometry
        position = geometry.get("coordinates") if found == "Point" and geometry else None
        if not isinstance(position, list | tuple) or len(position) < 2:
            raise InputError(
                f"feature {row} must be a Point with coordinates; found "
                + ("an empty Point" if found == "Point" else f"geometry {found!r}")
            )
        pairs.append((position[0], position[1]))  # a third number is a height
    try:
        array = _native.points_array(pairs)
    except ValueError as error:
        raise InputError(str(error)) from error
    return _from_declared_crs(array, collection.get("crs"))


def _from_declared_crs(array: NDArray[np.float64], crs: Any) -> NDArray[np.float64]:
    """Reproject coordinates with the `crs` member that GeoJSON had before RFC 7946."""
    if crs is None:
        return array
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str):
        raise InputError(
            f"the GeoJSON's crs {crs!r} does not name a CRS: leave it out for WGS84 degrees"
        )
    if name.endswith(_WGS84_NAMES):
        return array
    import numpy as np
    from pyproj import Transformer
    from pyproj.exceptions import CRSError

    try:
        transformer = Transformer.from_crs(name, "EPSG:4326", always_xy=True)
    except CRSError as error:
        raise InputError(f"the GeoJSON's crs {name!r} is not known: {error}") from error
    return np.column_stack(transformer.transform(array[:, 0], array[:, 1]))


def _from_geometries(geometries: Any, crs: Any) -> NDArray[np.float64]:
    import numpy as np
    import shapely

    if crs is None:
        raise InputError(
            "points without a CRS cannot be placed: declare it, e.g. with .set_crs('EPSG:4326')"
        )
    array = np.fromiter(geometries, dtype=object, count=len(geometries))
    wrong = ~shapely.is_geometry(array)
    wrong[~wrong] = (shapely.get_type_id(array[~wrong]) != 0) | shapely.is_empty(array[~wrong])
    if wrong.any():
        row = int(np.argmax(wrong))
        found = "no geometry" if array[row] is None else f"{array[row]!s:.60}"
        raise InputError(f"geometry {row} must be a Point that is not empty; found {found}")
    if hasattr(geometries, "to_crs"):
        try:
            array = np.asarray(geometries.to_crs("EPSG:4326"), dtype=object)
        except (RuntimeError, ValueError) as error:  # pyproj's errors
            raise InputError(
                f"points in the CRS {crs.name!r} cannot be placed on the globe: {error}"
            ) from error
    return np.asarray(shapely.get_coordinates(array), np.float64).reshape(-1, 2)


def _from_table(table: Any) -> NDArray[np.float64]:
    import numpy as np

    lon, lat = coordinate_columns(table)
    try:
        return np.column_stack([np.asarray(table[name], np.float64) for name in (lon, lat)])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"columns {lon!r} and {lat!r} must hold numbers in degrees: {error}"
        ) from error


def coordinate_columns(table: Any) -> tuple[str, str]:
    """Return the names of a table's longitude and latitude columns."""
    names: dict[str, list[Any]] = {}
    for name in table.columns:
        names.setdefault(str(name).strip().lower(), []).append(name)
    for lon, lat in _COLUMNS:
        if lon in names and lat in names:
            if len(names[lon]) > 1 or len(names[lat]) > 1:
                raise InputError(
                    f"more than one column is called {lon} or {lat}: {names[lon] + names[lat]}"
                )
            return names[lon][0], names[lat][0]
    raise InputError(
        "the table needs columns lon and lat (or longitude and latitude) in WGS84 degrees; "
        f"found {', '.join(map(str, table.columns)) or 'none'}"
    )


def _check(array: NDArray[np.float64]) -> None:
    import numpy as np

    lon, lat = array[:, 0], array[:, 1]
    with np.errstate(invalid="ignore"):
        sound = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    if sound.all():
        return
    row = int(np.argmax(~sound))
    x, y = float(lon[row]), float(lat[row])
    if not np.isfinite([x, y]).all():
        advice = "leave such points out"
    elif abs(x) <= 90 and abs(y) <= 180:
        advice = "the order is longitude, latitude: are they swapped?"
    else:
        advice = "points are in WGS84 degrees (EPSG:4326): reproject them, or pass a GeoDataFrame"
    raise InputError(
        f"point {row} ({x}, {y}) is not on the globe: expected a longitude in -180..180 and a "
        f"latitude in -90..90; {advice}"
    )


def read_points_file(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], Any]:
    """Return the points of a file and its table.

    Parameters
    ----------
    path : path
        GeoJSON, GeoPackage, Shapefile or anything else that GDAL reads, CSV (``.csv``,
        ``.tsv``, ``.txt``) with coordinate columns, Parquet or GeoParquet.

    Returns
    -------
    points : ndarray of float64, shape (N, 2)
        Longitude and latitude in WGS84 degrees.
    table : DataFrame or GeoDataFrame
        All columns as they are in the file, a row a point.

    Raises
    ------
    InputError
        (a `ValueError`) if the file cannot be read or its points cannot be used.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"there is no file {file}")
    try:
        table = _read_table(file)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file may meet any error of four libraries
        raise InputError(f"{file} cannot be read as points: {error}") from error
    try:
        return parse_points(table), table
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _read_table(file: Path) -> Any:
    match file.suffix.lower():
        case ".csv":
            return _read_csv(file)
        case ".tsv" | ".txt":
            return _read_csv(file, sep=None, engine="python")  # finds the separator
        case ".parquet" | ".geoparquet" | ".pq":
            import geopandas
            import pandas as pd
            import pyarrow.parquet as pq

            metadata = pq.read_schema(file).metadata or {}
            return geopandas.read_parquet(file) if b"geo" in metadata else pd.read_parquet(file)
    import geopandas

    table = geopandas.read_file(file)
    if not hasattr(table, "geometry"):
        raise InputError(f"{file} holds no points: it has no geometry")
    return table


def _read_csv(file: Path, **options: Any) -> Any:
    import warnings

    import pandas as pd
    from pandas.errors import ParserWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        try:
            # By default a first row that is too long makes its first field the row's name,
            # and moves all others one column to the left. A separator at the end is fine.
            return pd.read_csv(file, index_col=False, **options)
        except ParserWarning as warning:
            raise InputError(
                f"{file}: {_longer_line(file, options.get('sep', ','))}: quote fields that hold a "
                "separator, and write decimals with a point"
            ) from warning


def _longer_line(file: Path, separator: str | None) -> str:
    """Say which line of a table has fields without a column."""
    import csv

    with file.open(newline="", encoding="utf-8-sig") as text:
        if separator is None:
            separator = csv.Sniffer().sniff(text.readline()).delimiter
            text.seek(0)
        rows = csv.reader(text, delimiter=separator)
        columns = len(next(row for row in rows if row))
        for row in rows:
            if any(row[columns:]) or len(row) > columns + 1:
                return (
                    f"line {rows.line_num} has {len(row)} fields, but there are {columns} columns"
                )
    return f"a line has more fields than the {columns} columns"
