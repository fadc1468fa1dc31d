"""Blocks as float32, whatever they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.types import Block

__all__ = ["as_float", "as_float32"]


def as_float(block: Block, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
    """Return a block's pixels as float32 (height, width, band), NaN where there is nothing.

    Parameters
    ----------
    block : Block
        Quantised or float32, in either layout.
    bands : sequence of int, optional
        Zero-based bands in the wanted order; all by default.
    """
    from geotessera import _native

    picked = None if bands is None else list(bands)
    if block.scales is not None:
        quantised: NDArray[np.int8] = block.values  # type: ignore[assignment]
        return _native.dequantize(
            quantised, block.scales, bands=picked, layout=block.layout, out_layout="hwc"
        )
    values: NDArray[np.float32] = block.values  # type: ignore[assignment]
    if block.layout == "chw":
        values = values.transpose(1, 2, 0)
    every = picked is None or picked == list(range(values.shape[2]))
    return values if every else values[..., picked]


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as float32: NaN where they are masked, infinite where they are too large.

    Parameters
    ----------
    values : ndarray
        Of any shape and dtype; not copied if it is plain float32.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        made = values.astype(np.float32, copy=False)
    if isinstance(made, np.ma.MaskedArray):
        return np.asarray(made.filled(np.float32(np.nan)))
    return np.asarray(made)
