"""Registries of a sample world, with the columns and order of the published ones."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.datasets import TESSERA_MIRROR_REPO
from geotessera.grid import tile_key, tile_to_grid_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geotessera.datasets import Mirror
    from geotessera.testing.world import WorldTile

__all__ = ["write_registries"]


def write_registries(mirror: Mirror, tiles: Sequence[WorldTile]) -> None:
    """Write both registries of a mirror on disk.

    Parameters
    ----------
    mirror : Mirror
        Where, and of which generation.
    tiles : sequence of WorldTile
        What it holds. Landmasks without land are left out, as in the published lists.
    """
    places = {(one.tile.lon, one.tile.lat): one for one in tiles if one.land}
    embeddings, landmasks = Path(mirror.registry_url), Path(mirror.landmasks_registry_url)
    if mirror.layout == "B":
        _write(_manifest(mirror, tiles), embeddings)
        _write(_landmasks_b(mirror, [places[key] for key in sorted(places)]), landmasks)
        return
    by_lat = sorted(places, key=lambda place: place[::-1])
    _write_geo(_registry_a(tiles), embeddings)
    _write_geo(_landmasks_a([places[key] for key in by_lat]), landmasks)


def _keys(tiles: Iterable[WorldTile]) -> dict[str, Any]:
    import pyarrow as pa

    ids = [one.tile for one in tiles]
    return {
        "lon_i": pa.array([tile_key(tile.lon) for tile in ids], pa.int32()),
        "lat_i": pa.array([tile_key(tile.lat) for tile in ids], pa.int32()),
    }


def _times(tiles: Iterable[WorldTile], kind: Any) -> Any:
    import pyarrow as pa

    return pa.array([datetime.fromtimestamp(one.modified, UTC) for one in tiles], kind)


def _manifest(mirror: Mirror, tiles: Sequence[WorldTile]) -> dict[str, Any]:
    import pyarrow as pa

    ids = [one.tile for one in tiles]
    names = [tile_to_grid_name(tile.lon, tile.lat) for tile in ids]
    dataset = Path(mirror.registry_url).parent.name
    bucket = f"s3://us-west-2.opendata.source.coop/{TESSERA_MIRROR_REPO}/npy/{dataset}"
    places = [f"{bucket}/{tile.year}/{name}" for tile, name in zip(ids, names, strict=True)]
    times = _times(tiles, pa.timestamp("ms", "UTC"))
    return {
        "version": [mirror.version] * len(ids),
        "variant": [mirror.variant] * len(ids),
        "year": pa.array([tile.year for tile in ids], pa.int64()),
        "lon": [tile.lon for tile in ids],
        "lat": [tile.lat for tile in ids],
        "directory": places,
        "grid_path": [f"{at}/{name}.npy" for at, name in zip(places, names, strict=True)],
        "scales_path": [f"{at}/{name}_scales.npy" for at, name in zip(places, names, strict=True)],
        "grid_mtime": times,
        "scales_mtime": times,
        "grid_size": pa.array([one.sizes[0] for one in tiles], pa.int64()),
        "scales_size": pa.array([one.sizes[1] for one in tiles], pa.int64()),
        **_keys(tiles),
    }


def _landmasks_b(mirror: Mirror, tiles: Sequence[WorldTile]) -> dict[str, Any]:
    import pyarrow as pa

    version = Path(mirror.landmasks_registry_url).parent.name
    bucket = f"s3://us-west-2.opendata.source.coop/{TESSERA_MIRROR_REPO}/landmasks/{version}"
    return {
        "lon": [one.tile.lon for one in tiles],
        "lat": [one.tile.lat for one in tiles],
        "file_size": pa.array([one.sizes[2] for one in tiles], pa.int64()),
        "mtime": _times(tiles, pa.timestamp("ms", "UTC")),
        "key": [f"{bucket}/{one.files.landmask.name}" for one in tiles],
        **_keys(tiles),
    }


def _registry_a(tiles: Sequence[WorldTile]) -> dict[str, Any]:
    import pyarrow as pa

    tiles = sorted(tiles, key=lambda one: (one.tile.year, one.tile.lat, one.tile.lon))
    return {
        "lat": [one.tile.lat for one in tiles],
        "lon": [one.tile.lon for one in tiles],
        "year": pa.array([one.tile.year for one in tiles], pa.int64()),
        "hash": [one.hashes[0] for one in tiles],
        "scales_hash": [one.hashes[1] for one in tiles],
        "mtime": _times(tiles, pa.timestamp("ns")),
        "file_size": pa.array([one.sizes[0] for one in tiles], pa.int64()),
        "scales_size": pa.array([one.sizes[1] for one in tiles], pa.int64()),
        **_keys(tiles),
        "geometry": _points(tiles),
    }


def _landmasks_a(tiles: Sequence[WorldTile]) -> dict[str, Any]:
    import pyarrow as pa

    return {
        "lat": [one.tile.lat for one in tiles],
        "lon": [one.tile.lon for one in tiles],
        "hash": [one.hashes[2] for one in tiles],
        "file_size": pa.array([one.sizes[2] for one in tiles], pa.int64()),
        **_keys(tiles),
        "geometry": _points(tiles),
    }


def _points(tiles: Iterable[WorldTile]) -> Any:
    """Return the tiles' centres as well-known binary: little endian, type 1, x, y."""
    import pyarrow as pa

    return pa.array(
        [struct.pack("<BIdd", 1, 1, one.tile.lon, one.tile.lat) for one in tiles], pa.binary()
    )


def _write(columns: dict[str, Any], path: Path, metadata: dict[str, str] | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, compression="zstd")


def _write_geo(columns: dict[str, Any], path: Path) -> None:
    """Write GeoParquet 1.0 with points in EPSG:4326."""
    from pyproj import CRS

    geometry = {"encoding": "WKB", "geometry_types": ["Point"], "crs": CRS(4326).to_json_dict()}
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    _write(columns, path, {"geo": json.dumps(geo)})
