"""Tables of sampled points: their attributes as they came, and the embeddings beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import InputError
from geotessera.grid import tile_to_grid_name
from geotessera.remote.partfile import atomic_path
from geotessera.types import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Rows", "check_attributes", "write_rows"]

_STATUS_NAMES = np.array([status.name.lower() for status in Status], dtype=object)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Points, and what was found at them.

    Parameters
    ----------
    frame : DataFrame or GeoDataFrame
        The points as they came, with their attributes; one row a point.
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees.
    years : sequence of int
        Years that were sampled.
    values : sequence of ndarray of float32, shape (N, bands)
        Embeddings, a year each.
    status : sequence of ndarray of uint8, shape (N,)
        `geotessera.Status`, a year each.
    bands : sequence of int or None
        Which bands; None for all.
    """

    frame: pd.DataFrame
    points: NDArray[np.float64]
    years: Sequence[int]
    values: Sequence[NDArray[np.float32]]
    status: Sequence[NDArray[np.uint8]]
    bands: Sequence[int] | None

    @property
    def band_count(self) -> int:
        """Number of bands in each row."""
        return int(self.values[0].shape[1])

    def status_counts(self) -> dict[str, int]:
        """Return how many rows have each status; statuses without any are left out."""
        counts = np.bincount(np.concatenate(self.status), minlength=len(Status)).tolist()
        return {one.name.lower(): counts[one] for one in Status if counts[one]}

    def column_names(self) -> list[str]:
        """Return the names of the value columns: ``tessera_`` and the embedding's band."""
        bands = range(self.band_count) if self.bands is None else self.bands
        return [f"tessera_{band}" for band in bands]

    def result_names(self, *, geometry: bool) -> set[str]:
        """Return the names of all columns that the result adds."""
        names = {"status", "tile", *self.column_names()}
        if len(self.years) > 1:
            names.add("year")
        if geometry:
            names.add("geometry")
        return names

    def tiles(self) -> NDArray[np.object_]:
        """Return the grid name of the tile that owns each point."""
        from geotessera.sampling import group_points

        groups = group_points(self.points)
        names = np.empty(len(self.points), dtype=object)
        for (lon, lat), rows in zip(groups.tiles(), groups.rows(), strict=True):
            names[rows] = tile_to_grid_name(lon, lat)
        return names


def check_attributes(frame: pd.DataFrame, path: Path) -> None:
    """Refuse attributes that the result's format cannot hold, before anything is fetched.

    Raises
    ------
    InputError
        (a `ValueError`) that names the column.
    """
    if path.suffix.lower() != ".parquet":
        return
    import pyarrow as pa

    for name, column in frame.items():
        if column.dtype != object:
            continue
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"the points' column {name!r} cannot be written to Parquet ({error.args[0]}): "
                "leave it out, make it text, or write .csv"
            ) from error


def write_rows(rows: Rows, path: Path) -> dict[str, str]:
    """Write a table, by the suffix of its name; it appears whole or not at all.

    Returns
    -------
    dict of str to str
        Attributes of the points that had a result's name, and what they are called now.
    """
    suffix = path.suffix.lower()
    with atomic_path(path, suffix=suffix) as temporary:
        if suffix == ".npz":
            _write_npz(rows, temporary)
            return {}
        attributes, renamed = _attributes(rows, geometry=suffix == ".parquet")
        parts = [_table(rows, attributes, index) for index in range(len(rows.years))]
        table = parts[0] if len(parts) == 1 else _concat(parts)
        if suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
    return renamed


def _attributes(rows: Rows, *, geometry: bool) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the points' own columns, none of them named like a result's."""
    import geopandas as gpd
    import pandas as pd

    frame = rows.frame.reset_index(drop=True)
    is_geo = isinstance(frame, gpd.GeoDataFrame)
    if is_geo and not geometry:
        frame, is_geo = pd.DataFrame(frame.drop(columns=frame.geometry.name)), False
    frame, renamed = _free_names(frame, rows.result_names(geometry=geometry and not is_geo))
    if geometry and not is_geo:
        shapes = gpd.points_from_xy(rows.points[:, 0], rows.points[:, 1], crs="EPSG:4326")
        frame = gpd.GeoDataFrame(frame, geometry=shapes)
    elif not geometry and not {"lon", "lat"} & set(frame.columns):
        frame["lon"], frame["lat"] = rows.points[:, 0], rows.points[:, 1]
    return frame, renamed


def _free_names(frame: Any, wanted: set[str]) -> tuple[Any, dict[str, str]]:
    """Rename the columns of a frame that have a wanted name; return what became of them."""
    taken, renamed = set(map(str, frame.columns)) | wanted, {}
    for name in [str(name) for name in frame.columns if str(name) in wanted]:
        new = f"{name}_input"
        while new in taken:
            new += "_"
        taken.add(new)
        renamed[name] = new
    # Only so does a GeoDataFrame still know which column its geometry is.
    active = getattr(frame, "active_geometry_name", None)
    if active in renamed:
        frame = frame.rename_geometry(renamed[active])
    return frame.rename(columns=renamed), renamed


def _table(rows: Rows, attributes: pd.DataFrame, index: int) -> Any:
    import geopandas as gpd
    import pandas as pd

    found: dict[str, Any] = {}
    if len(rows.years) > 1:
        found["year"] = np.full(len(rows.points), rows.years[index], np.int32)
    found["tile"] = rows.tiles()
    found["status"] = _STATUS_NAMES[rows.status[index]]
    values = pd.DataFrame(rows.values[index], columns=rows.column_names(), copy=False)
    table = pd.concat([attributes, pd.DataFrame(found), values], axis=1)
    if isinstance(attributes, gpd.GeoDataFrame):
        return gpd.GeoDataFrame(table, geometry=attributes.geometry.name, crs=attributes.crs)
    return table


def _concat(parts: list[Any]) -> Any:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def _write_npz(rows: Rows, path: Path) -> None:
    count, years = len(rows.points), len(rows.years)
    arrays: dict[str, Any] = {
        "tessera": np.concatenate(rows.values),
        "bands": np.array(
            range(rows.band_count) if rows.bands is None else rows.bands, dtype=np.int32
        ),
        "lon": np.tile(rows.points[:, 0], years),
        "lat": np.tile(rows.points[:, 1], years),
        "year": np.repeat(np.array(rows.years, np.int32), count),
        "tile": np.tile(rows.tiles().astype(str), years),
        "status": _STATUS_NAMES[np.concatenate(rows.status)].astype(str),
    }
    # An open file: given a name, NumPy would append its own suffix.
    with path.open("wb") as file:
        np.savez(file, **arrays)
