"""Embeddings at points, from tiles that are here or on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shared import YEAR, Place, client, random_points, tile_arrays, tile_frame

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_TILE = (0.11, 52.21, 0.19, 52.29)
"""Well inside a tile, for peers that know no tiles."""


def local(
    place: Place,
    count: int,
    form: str = "array",
    metadata: bool = False,
    method: str = "",
    one_tile: bool = False,
) -> Callable[[], object]:
    """Sample local tiles."""
    gt = client(place)
    points = random_points(count, ONE_TILE) if one_tile else random_points(count)
    given = [tuple(row) for row in points.tolist()] if form == "tuples" else points
    options: dict[str, Any] = {"year": YEAR}
    if metadata:
        options["include_metadata"] = True
    if method:
        options["method"] = method
    return lambda: gt.sample_embeddings_at_points(given, **options)


def _pixels(place: Place, count: int) -> tuple[Any, Any, Any, Any]:
    """Return a tile as CHW int8, its scales, and rows and columns of points in it."""
    import numpy as np
    from pyproj import Transformer

    values, scales = tile_arrays(place, 0.15, 52.25)
    crs, transform, _ = tile_frame(place, 0.15, 52.25)
    lon, lat = random_points(count, ONE_TILE).T
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    cols, rows = ~transform * (np.asarray(x), np.asarray(y))
    return values, scales, rows - 0.5, cols - 0.5


def scipy_bilinear(place: Place, count: int) -> Callable[[], object]:
    """Interpolate a dequantised tile with SciPy, band by band; coordinates are not timed."""
    import numpy as np
    from scipy.ndimage import map_coordinates

    values, scales, rows, cols = _pixels(place, count)
    bands = np.moveaxis(values * scales[..., None], 2, 0)

    def run() -> object:
        out = np.empty((count, len(bands)), np.float32)
        for number, band in enumerate(bands):
            map_coordinates(band, [rows, cols], out[:, number], order=1, mode="nearest")
        return out

    return run


def xarray_bilinear(place: Place, count: int) -> Callable[[], object]:
    """Interpolate a dequantised tile with xarray; coordinates are not timed."""
    import numpy as np
    import xarray

    values, scales, rows, cols = _pixels(place, count)
    height, width = scales.shape
    array = xarray.DataArray(
        values * scales[..., None],
        dims=("y", "x", "band"),
        coords={"y": np.arange(height), "x": np.arange(width)},
    )
    at = {"y": xarray.DataArray(rows, dims="point"), "x": xarray.DataArray(cols, dims="point")}
    return lambda: array.interp(at, method="linear").to_numpy()


def numpy_nearest(place: Place, count: int) -> Callable[[], object]:
    """Pick the pixels of a memory-mapped tile with NumPy; coordinates are not timed."""
    import numpy as np

    _, _, rows, cols = _pixels(place, count)
    rows, cols = np.rint(rows).astype(int), np.rint(cols).astype(int)
    name = "grid_0.15_52.25"
    directory = place.world("tiles") / "global_0.1_degree_representation" / str(YEAR) / name

    def run() -> object:
        values = np.load(directory / f"{name}.npy", mmap_mode="r")
        scales = np.load(directory / f"{name}_scales.npy", mmap_mode="r")
        return values[rows, cols] * scales[rows, cols, None]

    return run


def remote(place: Place, count: int, fetch: str = "") -> Callable[[], object]:
    """Sample tiles of a server, with empty caches."""
    import os

    manifest = next((place.world("tiles") / "mirror").rglob("manifest.parquet"))
    points = [tuple(row) for row in random_points(count).tolist()]
    home = place.fresh()
    os.chdir(home)
    os.environ["XDG_CACHE_HOME"] = str(home / "xdg")
    options: dict[str, Any] = {}
    if fetch:
        from geotessera import GeoTessera

        gt: Any = GeoTessera(base_url=place.url, registry_path=manifest, cache_dir="cache")
        options["fetch"] = fetch
    else:
        gt = _upstream(place.url, str(manifest))
    return lambda: gt.sample_embeddings_at_points(points, YEAR, **options)


def _upstream(url: str, manifest: str) -> Any:
    """Return a client of upstream's, which knows one server: its URL is replaced."""
    import geotessera.registry as names
    from geotessera import GeoTessera

    old = vars(names)["TESSERA_MIRROR_URL"]
    for name, value in list(vars(names).items()):
        if isinstance(value, str) and value.startswith(old):
            setattr(names, name, value.replace(old, url))
    return GeoTessera(registry_path=manifest, cache_dir="cache", embeddings_dir="tiles")
