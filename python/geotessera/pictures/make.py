"""A picture of principal components: fitted, balanced and drawn, block by block.

Three passes over the embeddings, each in bounded memory: the covariance of every valid pixel,
the distribution of every pixel's scores, and the picture, a mosaic of scores cut into 256
levels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.errors import DatasetMismatchError, EmptySelectionError, InputError
from geotessera.mosaic.build import plan_like, region_grid
from geotessera.mosaic.extent import check_filled, check_room
from geotessera.mosaic.grids import crs_code, grid_around
from geotessera.mosaic.placement import on_whole_pixels
from geotessera.mosaic.rasters import check_alike, check_output
from geotessera.mosaic.reach import source_window
from geotessera.pca import PcaModel, check_stretch, fit, fit_stretch
from geotessera.pca.fit import check_components
from geotessera.pictures.arrays import ArrayRaster
from geotessera.pictures.draw import check_places, write_picture
from geotessera.pictures.excerpt import Excerpt
from geotessera.sources.projected import ProjectedDescriptor
from geotessera.types import Window

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geotessera.mosaic.plan import MosaicPlan
    from geotessera.mosaic.rasters import MosaicRaster
    from geotessera.regions import Region
    from geotessera.types import Block, GridSpec, Method, ProgressCallback, Provenance

__all__ = ["Look", "PictureReport", "make_picture"]

_SHOWN = 3
"""Components that a picture has room for."""

_KEPT = 192 * 2**20
"""Most that scores may take to be kept in memory from when they are balanced until they are
drawn: 18 tiles. What is more is projected again, which is slower."""

_SHARES = (0, 40, 60, 100)
"""Where each pass ends, in hundredths of the whole."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture looks like.

    Parameters
    ----------
    n_components : int
        Components to fit; the first three are shown.
    standardize : bool
        Whether bands are divided by their standard deviation first.
    balance : {"histogram", "percentile", "adaptive"}
        How scores become levels: each level for as many pixels, linearly between two
        percentiles, or linearly over 2.5 standard deviations each side of the mean.
    percentile_range : (float, float)
        For ``"percentile"``.
    """

    n_components: int = 3
    standardize: bool = True
    balance: str = "histogram"
    percentile_range: tuple[float, float] = (2, 98)

    def check(self) -> None:
        """Raise `InputError` for what cannot be."""
        check_components(self.n_components)
        check_stretch(self.balance, self.percentile_range)


@dataclass(slots=True)
class PictureReport:
    """What was made.

    Parameters
    ----------
    paths : list of Path
        The files, the picture first.
    plan : MosaicPlan
        The mosaic of scores that was drawn.
    model : PcaModel
        Components and stretch.
    bytes : int
        Size on disk.
    """

    plan: MosaicPlan
    model: PcaModel
    paths: list[Path] = field(default_factory=list)
    bytes: int = 0

    @property
    def bands(self) -> int:
        """Bands of the picture."""
        return self.plan.band_count


def make_picture(
    rasters: Sequence[MosaicRaster],
    output: str | os.PathLike[str],
    *,
    look: Look | None = None,
    model: PcaModel | None = None,
    crs: Any = "EPSG:3857",
    resolution: float | tuple[float, float] | None = None,
    region: Region | None = None,
    clip: bool = False,
    method: Method = "bilinear",
    mask_water: bool = False,
    png: bool = False,
    progress: ProgressCallback | None = None,
) -> PictureReport:
    """Draw the first principal components of rasters as one picture.

    Parameters
    ----------
    rasters : sequence of MosaicRaster
        Tiles or other rasters of one dataset and year.
    output : path
        A GeoTIFF, or a PNG if its name ends in ``.png``; parents are made. It appears whole or
        not at all.
    look : Look, optional
        Components and balance. With a model that has a stretch they are the model's, unless
        a look is given, by which its scores are balanced anew then.
    model : PcaModel, optional
        Components that were fitted before, for these or other pixels of the dataset.
    crs : CRS, int or str
        Of the picture.
    resolution : float or (float, float), optional
        Size of a pixel in units of the CRS; by default what GDAL gives the first raster.
    region : Region, optional
        Its box is the picture, and what lies in it is what the components are fitted to; by
        default all that the rasters cover.
    clip : bool
        Whether pixels outside the region's outline stay empty.
    method : {"bilinear", "nearest"}
        How a score between pixel centres is made.
    mask_water : bool
        Whether what the landmask calls water is left out, of the fit too.
    png : bool
        Whether a PNG is written beside a GeoTIFF.
    progress : callable, optional
        Called with (hundredths done, 100, status text).

    Returns
    -------
    PictureReport

    Raises
    ------
    InputError
        (a `ValueError`) for arguments that cannot be used, for more components than bands, for
        a model of other data, for rasters that lie too far apart for one picture, and for one of
        them as output.
    DatasetMismatchError
        (a `ValueError`) for rasters, or a model, of different datasets or years.
    EmptySelectionError
        (a `ValueError`) if no raster has anything in the region.
    FormatError, OSError
        If a raster cannot be read or the picture not be written.
    """
    chosen = look or Look()
    chosen.check()
    provenance = check_alike(rasters)
    check_output(rasters, output)
    check_places(Path(output), png=png)
    tell = _Steps(progress)
    grid = _grid(rasters, crs, resolution, region)
    check_room(grid, Path(output))
    parts = _parts(rasters, grid if region is not None else None, mask_water)
    planned = plan_like(parts, grid, clip=region if clip else None, method=method)
    if region is None:
        check_filled(grid, planned.reaches)
    if model is not None:
        check_model(model, rasters[0].band_count, provenance)
    else:
        _check_count(chosen.n_components, rasters[0].band_count)
        sources = [part.descriptor for part in parts]
        model = fit(sources, chosen.n_components, chosen.standardize, tell.step(0))
        model = replace(model, provenance=model.provenance or dataset_name(provenance))
    scores = [_projected(part, model) for part in parts]
    if model.stretch is None or look is not None:
        model, scores = _balanced(parts, scores, model, chosen, tell.step(1))
    drawn = dict(zip(map(id, parts), scores, strict=True))
    plan = replace(planned, rasters=tuple(drawn[id(part)] for part in planned.rasters))
    if method == "bilinear":
        plan = replace(on_whole_pixels(plan), exact=False)  # nobody sees a thousandth of a pixel
    report = PictureReport(plan, model)
    report.paths = write_picture(report, Path(output), png=png, progress=tell.step(2))
    report.bytes = sum(path.stat().st_size for path in report.paths)
    if progress is not None:
        progress(100, 100, "Complete")
    return report


def dataset_name(provenance: Provenance) -> str:
    """Return a dataset in words, empty if it is not known: what a model says of itself."""
    if provenance.version is None or provenance.variant is None:
        return ""
    return f"{provenance.version} {provenance.variant}"


def check_model(model: PcaModel, bands: int, provenance: Provenance) -> None:
    """Raise unless a model fits what it is to be used for.

    Raises
    ------
    InputError
        (a `ValueError`) if it was fitted to another number of bands.
    DatasetMismatchError
        (a `ValueError`) if it was fitted to another dataset.
    """
    if model.band_count != bands:
        raise InputError(
            f"the model was fitted to {model.band_count} bands, and the rasters have {bands}: "
            "a model serves the dataset and the bands that it was fitted to"
        )
    found = dataset_name(provenance)
    if model.provenance and found and model.provenance != found:
        raise DatasetMismatchError(
            f"the model was fitted to dataset {model.provenance}, and the rasters are of {found}: "
            "embeddings of different datasets do not compare, fit a model of their own"
        )


def _check_count(n_components: int, bands: int) -> None:
    if n_components > bands:
        raise InputError(
            f"{n_components} components were asked for, and the rasters have {bands} bands: "
            "there are no more components than bands"
        )


class _Steps:
    """Reports three passes as one whole."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress

    def step(self, number: int) -> ProgressCallback:
        """Return what reports one of the passes."""
        first, last = _SHARES[number : number + 2]

        def tell(done: int, total: int, status: str = "", /) -> None:
            if self._progress is not None:
                share = (last - first) * done // total if total else 0
                self._progress(min(first + share, 99), 100, status)

        return tell


def _grid(
    rasters: Sequence[MosaicRaster],
    crs: Any,
    resolution: float | tuple[float, float] | None,
    region: Region | None,
) -> GridSpec:
    if region is not None:
        return region_grid(rasters, region, crs, resolution, align=True)
    return grid_around([raster.grid for raster in rasters], crs_code(crs), resolution)


def _parts(
    rasters: Sequence[MosaicRaster], grid: GridSpec | None, mask_water: bool
) -> list[MosaicRaster]:
    """Return rasters cut to what a grid needs of them, and without water."""
    parts = []
    for raster in rasters:
        whole = Window(0, 0, raster.grid.height, raster.grid.width)
        window: Window | None = whole
        if grid is not None:
            window = source_window(grid, Window(0, 0, grid.height, grid.width), raster.grid)
        if window is None:
            continue
        if window != whole or mask_water:
            excerpt = Excerpt(raster.descriptor, window, mask_water)
            raster = replace(
                raster,
                descriptor=excerpt,
                grid=raster.grid.window(window),
                identity=f"{raster.identity} {tuple(window)} {mask_water}",
            )
        parts.append(raster)
    if not parts:
        raise EmptySelectionError(
            f"none of the {len(rasters)} rasters has anything in the region; the first covers "
            f"{rasters[0].grid.bounds} in {rasters[0].grid.crs_name[:80]}"
        )
    return parts


def _projected(raster: MosaicRaster, model: PcaModel) -> MosaicRaster:
    """Return the scores of a raster, as many as are shown."""
    weights, offsets = model.weights[:_SHOWN], model.offsets[:_SHOWN]
    how = hashlib.sha256(weights.tobytes() + offsets.tobytes()).hexdigest()
    return replace(
        raster,
        descriptor=ProjectedDescriptor(raster.descriptor, weights, offsets),
        band_count=len(weights),
        quantized=False,
        scales_per_band=False,
        band_names=tuple(f"PC{number + 1}" for number in range(len(weights))),
        identity=f"{raster.identity} {how}",
    )


def _balanced(
    parts: Sequence[MosaicRaster],
    scores: Sequence[MosaicRaster],
    model: PcaModel,
    look: Look,
    progress: ProgressCallback,
) -> tuple[PcaModel, list[MosaicRaster]]:
    """Return the model with a stretch, and the scores, in memory now if they are few."""
    how = look.balance, look.percentile_range, progress
    pixels = sum(part.grid.height * part.grid.width for part in parts)
    if pixels * 4 * model.n_components > _KEPT:
        stretch = fit_stretch(model, [part.descriptor for part in parts], *how)
        return replace(model, stretch=stretch), list(scores)
    kept: list[Block] = []
    for done, part in enumerate(parts):
        progress(done, 2 * len(parts), "projecting")
        every = ProjectedDescriptor(part.descriptor, model.weights, model.offsets)
        with every.open() as source:
            kept.append(source.read())
    stretch = fit_stretch(None, kept, *how[:2])
    values: list[Any] = [block.values[..., :_SHOWN] for block in kept]
    in_memory = [
        replace(raster, descriptor=ArrayRaster(array, raster.grid, raster.name))
        for raster, array in zip(scores, values, strict=True)
    ]
    return replace(model, stretch=stretch), in_memory
