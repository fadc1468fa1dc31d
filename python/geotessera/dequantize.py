"""From int8 and scales to float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera import _native

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["dequantize_embedding"]


def dequantize_embedding(
    quantized_embedding: ArrayLike,
    scales: ArrayLike,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Multiply a quantised embedding by its scales.

    Parameters
    ----------
    quantized_embedding : array_like of int8, shape (H, W, B)
        Quantised values; other shapes that broadcast with `scales` work too.
    scales : array_like of float32
        Factors of shape (H, W), (H, W, B), (B,) or a scalar.
    out : ndarray of float32, optional
        Where to write the result; saves allocating it.

    Returns
    -------
    ndarray of float32
        Same shape as `quantized_embedding`; NaN wherever the scale is not finite.

    Raises
    ------
    ValueError
        If the shapes do not go together.

    Examples
    --------
    >>> import numpy as np
    >>> quantized = np.full((2, 3, 128), 10, np.int8)
    >>> scales = np.full((2, 3), 0.5, np.float32)
    >>> dequantize_embedding(quantized, scales)[0, 0, :2].tolist()
    [5.0, 5.0]
    """
    values = np.asarray(quantized_embedding)
    factors = np.asarray(scales)
    if values.dtype == np.int8 and values.ndim == 3:
        if factors.ndim < 2:
            factors = np.broadcast_to(factors, values.shape)
        if factors.ndim in (2, 3):
            if factors.dtype != np.float32:
                factors = factors.astype(np.float32)
            if factors.ndim == 3 and factors.shape != values.shape:
                factors = np.broadcast_to(factors, values.shape)
            return _native.dequantize(values, factors, out=out)
    return _by_numpy(values, factors, out)


def _by_numpy(
    values: NDArray[Any], factors: NDArray[Any], out: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Multiply shapes and dtypes that no published file has."""
    if factors.ndim == 2 and values.ndim == 3:
        factors = factors[..., np.newaxis]
    factors = factors.astype(np.float32)
    factors = np.where(np.isfinite(factors), factors, np.float32(np.nan))
    product: NDArray[np.float32] = np.multiply(values.astype(np.float32), factors, out=out)
    if product.shape != values.shape:
        raise ValueError(
            f"scales of shape {factors.shape} do not go with an embedding of shape {values.shape}"
        )
    return product
