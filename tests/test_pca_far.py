"""Components of pixels that are far from those that came first."""

from __future__ import annotations

import numpy as np
import pytest

from geotessera import pca


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("constant", [False, True])
def test_what_comes_first_spoils_no_variance(offset: float, constant: bool) -> None:
    rng = np.random.default_rng(1)
    first = np.zeros((1, 1, 4), np.float32)
    rest = (rng.normal(size=(200, 150, 4)) * 0.01 + offset).astype(np.float32)
    if constant:
        rest[..., 2] = offset
    flat = np.concatenate([first.reshape(-1, 4), rest.reshape(-1, 4)]).astype(np.float64)
    expected = np.linalg.eigvalsh(np.cov(flat.T))[::-1]
    model = pca.fit([first, rest], 4, standardize=False)
    np.testing.assert_allclose(model.explained_variance, expected, rtol=1e-4, atol=1e-9)


def test_numbers_at_the_end_of_float32_are_no_error() -> None:
    rest = np.full((20, 30, 2), np.finfo(np.float32).max, np.float32)
    rest[::2] *= -1
    model = pca.fit([np.zeros((1, 1, 2), np.float32), rest, rest[:1]], 1, standardize=False)
    assert np.isfinite(model.explained_variance).all()
