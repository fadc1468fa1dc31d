"""Blocks of pixels as something to look at: colours, axes of matplotlib, and in a notebook."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geotessera import _native
from geotessera.errors import BandError, InputError
from geotessera.notebook import card, picture
from geotessera.sizes import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from geotessera.types import Block, GridSpec

__all__ = ["html", "plot", "rgb"]

_LARGEST = 2000
"""Pixels a side that are drawn; a screen shows no more."""

_THUMBNAIL = 160
"""Pixels a side of what notebooks show."""

_UNREAD = 64_000_000
"""Bytes of a file's pixels beyond which nothing is shown: they would have to be read."""


class _Stretch(Protocol):
    def apply(self, scores: NDArray[np.float32], /) -> NDArray[np.uint8]: ...


class _Model(Protocol):
    """A `geotessera.pca.PcaModel`, as far as it is needed here."""

    @property
    def stretch(self) -> _Stretch | None: ...

    def project(self, block: Block, /) -> NDArray[np.float32]: ...


def rgb(
    block: Block,
    bands: Sequence[int] = (0, 1, 2),
    *,
    model: Any = None,
    percentiles: tuple[float, float] = (2, 98),
    limits: Sequence[tuple[float, float]] | None = None,
    alpha: bool = False,
) -> NDArray[np.uint8]:
    """Return a block as colours; see `geotessera.types.Block.rgb`."""
    if model is not None:
        colours, shown = _by_model(block, model)
    else:
        chosen = _bands(bands, block.band_count, 3)
        colours, shown = _stretched(planes(block, chosen), percentiles, limits)
    if not alpha:
        return colours
    return np.concatenate([colours, np.where(shown, 255, 0).astype(np.uint8)[..., None]], axis=2)


def _by_model(block: Block, model: _Model) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    if model.stretch is None:
        raise InputError(
            "the model does not say which scores become which colours: give it a stretch with "
            "geotessera.pca.fit_stretch, or use one that `visualize --save-model` wrote"
        )
    scores = model.project(block)
    if scores.shape[2] < 3:
        raise InputError(f"a picture needs three components, and the model has {scores.shape[2]}")
    shown = np.isfinite(scores[..., :3]).all(axis=2)
    colours = model.stretch.apply(scores)[..., :3]
    return np.where(shown[..., None], colours, np.uint8(0)), shown


def planes(block: Block, bands: Sequence[int]) -> NDArray[np.float32]:
    """Return some bands as float32 (row, column, band), NaN where there is nothing."""
    chosen = list(bands)
    if block.scales is not None:
        values: NDArray[np.int8] = block.values  # type: ignore[assignment]
        return _native.dequantize(
            values, block.scales, bands=chosen, layout=block.layout, out_layout="hwc"
        )
    pixels: NDArray[np.float32] = block.values  # type: ignore[assignment]
    picked = pixels[chosen].transpose(1, 2, 0) if block.layout == "chw" else pixels[..., chosen]
    if block.nodata is not None:
        picked = np.where(picked == np.float32(block.nodata), np.float32(np.nan), picked)
    return picked


def _stretched(
    pixels: NDArray[np.float32],
    percentiles: tuple[float, float],
    limits: Sequence[tuple[float, float]] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    shown = np.isfinite(pixels).all(axis=2)
    if limits is None:
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise InputError(f"percentiles={percentiles!r}: expected 0 ≤ low < high ≤ 100")
        valid = pixels[shown]
        edges = np.percentile(valid, percentiles, axis=0) if len(valid) else np.zeros((2, 3))
    else:
        edges = np.array(limits, np.float64).T
        if edges.shape != (2, 3) or not (edges[0] < edges[1]).all():
            raise InputError(f"limits={limits!r}: expected three pairs (low, high), low < high")
    low_edge, span = edges[0], np.where(edges[1] > edges[0], edges[1] - edges[0], np.inf)
    # In float32: the colours are 256 steps, and a block may be large.
    scale, start = (255 / span).astype(np.float32), low_edge.astype(np.float32)
    scaled = np.where(shown[..., None], pixels, start)
    scaled -= start
    scaled *= scale
    return np.rint(np.clip(scaled, 0, 255, out=scaled)).astype(np.uint8), shown


def _bands(bands: Any, count: int, wanted: int | None = None) -> list[int]:
    try:
        chosen = [operator.index(band) for band in bands]
    except TypeError:
        raise BandError(f"bands={bands!r}: expected whole numbers") from None
    if wanted is not None and len(chosen) != wanted:
        raise InputError(f"bands={bands!r}: expected {wanted}, for red, green and blue")
    for band in chosen:
        if not 0 <= band < count:
            raise BandError(f"band {band} is out of range: the raster has bands 0 to {count - 1}")
    return chosen


def html(block: Block) -> str:
    """Describe a block in a notebook, with a thumbnail of what is in memory."""
    rows, columns = block.grid.height, block.grid.width
    left, bottom, right, top = block.grid.bounds
    known = block.provenance
    thumbnail = _thumbnail(block)
    return card(
        f"{type(block).__name__}: {rows} × {columns} pixels × {block.band_count} bands",
        {
            "values": f"{block.values.dtype}, {block.layout}",
            "scales": None if block.scales is None else " × ".join(map(str, block.scales.shape)),
            "CRS": block.grid.crs_name[:200],
            "bounds": f"{left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g}",
            "memory": format_bytes(block.values.nbytes + getattr(block.scales, "nbytes", 0)),
            "dataset": f"{known.version} {known.variant or ''}" if known.version else None,
            "year": known.year,
            "source": known.source,
        },
        picture(thumbnail, "the pixels") if thumbnail is not None else "",
    )


def _thumbnail(block: Block) -> NDArray[np.uint8] | None:
    """Return every n-th pixel as colours, or None where there is nothing to see."""
    base: object = block.values
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    if not block.values.size or (base is not None and block.values.nbytes > _UNREAD):
        return None
    small = _thinned(block, _THUMBNAIL, centred=False)
    return rgb(small, (0, 1, 2) if block.band_count >= 3 else (0, 0, 0), alpha=True)


def plot(
    block: Block,
    ax: Axes | None = None,
    *,
    bands: Sequence[int] | int = (0, 1, 2),
    model: Any = None,
    percentiles: tuple[float, float] = (2, 98),
    limits: Sequence[tuple[float, float]] | None = None,
    **imshow: Any,
) -> Axes:
    """Draw a block; see `geotessera.types.Block.plot`."""
    import matplotlib.pyplot as plt

    thin = _thinned(block, _LARGEST)
    image: NDArray[Any]
    if model is None and not isinstance(bands, tuple | list | np.ndarray | range):
        image = planes(thin, _bands([bands], block.band_count))[..., 0]
    else:
        three: Any = bands
        image = rgb(thin, three, model=model, percentiles=percentiles, limits=limits, alpha=True)
    left, right, bottom, top = _extent(thin.grid)
    if ax is None:
        _, ax = plt.subplots()
    aspect: float | str = "equal"
    across, down, name = "Easting (m)", "Northing (m)", block.grid.crs_name
    crs = block.grid.crs
    if crs.is_geographic:
        across, down = "Longitude (°)", "Latitude (°)"
        aspect = 1 / max(np.cos(np.radians((bottom + top) / 2)), 1e-3)
    elif (unit := str(crs.linear_units)) not in ("metre", "meter", "m"):
        across, down = f"x ({unit})", f"y ({unit})"
    drawn = {"extent": (left, right, bottom, top), "aspect": aspect, "interpolation": "nearest"}
    ax.imshow(image, **(drawn | imshow))
    ax.set_xlabel(across)
    ax.set_ylabel(down)
    ax.ticklabel_format(useOffset=False, style="plain")
    if len(name) <= 20:  # a code, not WKT
        ax.set_title(name)
    return ax


def _extent(grid: GridSpec) -> tuple[float, float, float, float]:
    a, b, left, d, e, top = grid.transform
    if b or d:
        raise InputError(f"a rotated raster cannot be drawn along its axes: {grid.transform}")
    return left, left + a * grid.width, top + e * grid.height, top


def _thinned(block: Block, most: int, *, centred: bool = True) -> Block:
    """Return every n-th pixel of a block that has more than so many a side."""
    from dataclasses import replace

    height, width = block.grid.height, block.grid.width
    step = -(-max(height, width) // most)
    if step == 1:
        return block
    rows = cols = slice(step // 2 if centred else 0, None, step)
    chw = block.layout == "chw"
    values = block.values[:, rows, cols] if chw else block.values[rows, cols]
    scales = block.scales
    if scales is not None:
        scales = scales[:, rows, cols] if chw and scales.ndim == 3 else scales[rows, cols]
    a, b, left, d, e, top = block.grid.transform
    size = values.shape[1:] if chw else values.shape[:2]
    transform = (a * step, b * step, left, d * step, e * step, top)
    grid = replace(block.grid, transform=transform, height=size[0], width=size[1])
    return replace(block, values=values, scales=scales, grid=grid)
