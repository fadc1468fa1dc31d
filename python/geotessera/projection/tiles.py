"""Tiles and arrays as scores of one model, and as pictures of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native
from geotessera.datasets import dataset_tags
from geotessera.errors import DatasetMismatchError, InputError
from geotessera.export import SOURCE_BANDS_TAG, check_export_options
from geotessera.pca import PcaModel, Stretch, check_stretch, fit, fit_stretch
from geotessera.pca.sources import each
from geotessera.pca.stretch import linear
from geotessera.pictures.geotiff import PictureFile
from geotessera.projection.sources import pixels_of
from geotessera.remote.partfile import atomic_path
from geotessera.sources.base import RasterSource
from geotessera.sources.geotiff_check import written_whole
from geotessera.sources.strips import read_strips
from geotessera.tiles import Tile
from geotessera.types import Window

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geotessera.projection.sources import Source
    from geotessera.types import ProgressCallback

__all__ = ["export_tiles", "project_embeddings", "shared_model", "write_pca_tiles"]


def project_embeddings(
    embeddings: Iterable[tuple[Any, ...]],
    n_components: int = 3,
    standardize: bool = True,
    progress: ProgressCallback | None = None,
    *,
    model: PcaModel | str | os.PathLike[str] | None = None,
) -> list[tuple[Any, ...]]:
    """Return arrays as scores; see `geotessera.GeoTessera.apply_pca_to_embeddings`."""
    listed = list(embeddings)
    if not listed:
        return []
    fitted = shared_model(model, [row[3] for row in listed], n_components, standardize)
    ratio = fitted.explained_variance_ratio
    made = []
    for done, (year, lon, lat, array, crs, transform) in enumerate(listed):
        info = {
            "explained_variance": ratio.tolist(),
            "total_variance": float(ratio.sum()),
            "n_components": fitted.n_components,
            "standardized": fitted.standardized if model is not None else bool(standardize),
        }
        made.append((year, lon, lat, fitted.project(array), crs, transform, info))
        if progress is not None:
            progress(done + 1, len(listed), "Applying shared PCA")
    return made


def export_tiles(
    tiles: Sequence[Tile],
    output_dir: str | os.PathLike[str],
    n_components: int = 3,
    standardize: bool = True,
    compress: str | None = "lzw",
    normalize: bool = True,
    progress: ProgressCallback | None = None,
    *,
    model: PcaModel | str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write tiles as pictures; see `geotessera.GeoTessera.export_pca_geotiffs`."""
    if not tiles:
        return []
    return write_pca_tiles(
        tiles,
        output_dir,
        n_components,
        standardize,
        percentile_range=(0, 100),
        compress=compress,
        progress_callback=progress,
        local_scaling=not normalize,
        model=model,
        names=[f"{tile.grid_name}_{tile.year}_pca.tiff" for tile in tiles],
    )


def write_pca_tiles(
    sources: Iterable[Source],
    output_dir: str | os.PathLike[str],
    n_components: int = 3,
    standardize: bool = True,
    balance_method: str = "percentile",
    percentile_range: tuple[float, float] = (2, 98),
    compress: str | None = "lzw",
    progress_callback: ProgressCallback | None = None,
    local_scaling: bool = False,
    *,
    model: PcaModel | str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Write tiles as pictures of their principal components, each on its own grid.

    Components and colours are shared and those of every valid pixel. Tiles are read again
    for each step, so that memory does not grow with their number.

    Parameters
    ----------
    sources : iterable
        As for `fit_projection`, but with a place: tiles, dictionaries, sources, descriptors.
    output_dir : path
        Where the files go, ``pca_0.tif`` and so on.
    n_components, standardize
        As for `geotessera.pca.fit`; not used with a model.
    balance_method : {"percentile", "histogram", "adaptive"}
        As for `geotessera.pca.fit_stretch`; not used with a model that has a stretch.
    percentile_range : tuple of 2 float
        For ``"percentile"``.
    compress : str or None
        One of `geotessera.export.compressions`.
    progress_callback : callable, optional
        Called with (tiles done, tiles in all, status text).
    local_scaling : bool
        Stretch each tile between its own least and greatest scores, but for ``"histogram"``.
    model : PcaModel or path, optional
        Components that were fitted before, for one colour space.
    names : sequence of str, optional
        Names of the files.

    Returns
    -------
    list of str
        Paths of the files: uint8, with a mask where there is no embedding.

    Raises
    ------
    InputError
        (a `ValueError`) for options or sources that cannot be used.
    UnwritableDestination
        (an `OSError`) if a file cannot be written.
    """
    check_stretch(balance_method, percentile_range)
    compress = compress or "none"
    check_export_options(compress=compress)
    listed = [(source, pixels_of(source)) for source in sources]
    rasters: list[Any] = [pixels for _, pixels in listed]
    shared = shared_model(model, rasters, n_components, standardize)
    stretch = None
    if not local_scaling or balance_method == "histogram":
        stretch = shared.stretch
        stretch = stretch or fit_stretch(shared, rasters, balance_method, percentile_range)
        shared = replace(shared, stretch=stretch)
    paths = []
    chosen = names or [f"pca_{number}.tif" for number in range(len(listed))]
    for done, (pixels, (source, _), name) in enumerate(
        zip(each(rasters), listed, chosen, strict=True)
    ):
        if not isinstance(pixels, RasterSource):
            raise InputError("a block or an array has no place: pass a dictionary or a tile")
        path = Path(output_dir) / name
        levels = stretch or Stretch("percentile", linear(*_extent(shared, pixels)))
        tags = _tags(shared, levels, pixels, source)
        with (
            atomic_path(path, suffix=".tif") as temporary,
            written_whole(temporary, path),
            PictureFile(
                temporary, pixels.grid, shared.n_components, tags, (), compress=compress
            ) as file,
        ):
            for top, strip in read_strips(pixels):
                scores = shared.project(strip)
                window = Window(top, 0, strip.grid.height, strip.grid.width)
                file.write(window, levels.apply(scores), ~np.isnan(scores[..., 0]))
        paths.append(str(path))
        if progress_callback is not None:
            progress_callback(done + 1, len(listed), "Writing PCA tiles")
    return paths


def shared_model(
    model: PcaModel | str | os.PathLike[str] | None,
    pixels: Iterable[Any],
    n_components: int,
    standardize: bool,
) -> PcaModel:
    """Return the model that was passed or named, or fit one.

    Raises
    ------
    InputError, FormatError
        (both a `ValueError`) for what is no model, or too little to fit one to.
    """
    if model is None:
        return fit(pixels, n_components, standardize)
    return model if isinstance(model, PcaModel) else PcaModel.load(model)


def _extent(model: PcaModel, pixels: RasterSource) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the greatest score of each component, zeros if there is none."""
    low = np.full(model.n_components, np.inf)
    high = -low
    for _, strip in read_strips(pixels):
        scores = model.project(strip)
        valid = scores[np.isfinite(scores).all(axis=-1)]
        if len(valid):
            low, high = np.minimum(low, valid.min(0)), np.maximum(high, valid.max(0))
    return np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0)


def _tags(
    model: PcaModel, stretch: Stretch, pixels: RasterSource, source: Source
) -> dict[str, str]:
    known = pixels.provenance
    name = f"{known.version} {known.variant}" if known.version and known.variant else ""
    if model.provenance and name and model.provenance != name:
        raise DatasetMismatchError(
            f"the model was fitted to dataset {model.provenance}, and the tile is of {name}: "
            "embeddings of different datasets do not compare"
        )
    tags = dataset_tags(known.version, known.variant) if known.version and known.variant else {}
    if isinstance(source, Tile):
        tags |= {
            "TESSERA_YEAR": str(source.year),
            "TESSERA_TILE_LAT": f"{source.lat:.2f}",
            "TESSERA_TILE_LON": f"{source.lon:.2f}",
        }
    ratio = model.explained_variance_ratio
    return tags | {
        SOURCE_BANDS_TAG: str(model.band_count),
        "GEOTESSERA_VERSION": _native.__version__,
        "PCA_COMPONENTS": str(model.n_components),
        "PCA_STANDARDIZED": str(model.standardized),
        "PCA_EXPLAINED_VARIANCE": str(ratio.tolist()),
        "PCA_TOTAL_VARIANCE": str(float(ratio.sum())),
        "PCA_BALANCE_METHOD": stretch.method,
        "PCA_PIXELS": str(model.pixels),
    }
