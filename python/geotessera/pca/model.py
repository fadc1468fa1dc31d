"""The fitted model: what turns embeddings into scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera.errors import InputError
from geotessera.types import Block

if TYPE_CHECKING:

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.pca.stretch import Stretch

__all__ = ["PcaModel"]


@dataclass(frozen=True, slots=True, eq=False)
class PcaModel:
    """Principal components of embeddings.

    Parameters
    ----------
    mean : ndarray of float64, shape (B,)
        Mean of each band.
    scale : ndarray of float64, shape (B,)
        What each band is divided by: its standard deviation, or ones where not standardised.
    components : ndarray of float64, shape (K, B)
        Unit vectors, by descending variance.
    explained_variance : ndarray of float64, shape (K,)
        Variance along each component.
    total_variance : float
        Variance along all components there are.
    pixels : int
        Pixels that the model was fitted to.
    provenance : str
        What they came from.
    stretch : Stretch or None
        How scores become colours.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    total_variance: float
    pixels: int
    provenance: str = ""
    stretch: Stretch | None = None

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.components)

    @property
    def band_count(self) -> int:
        """Number of bands that an embedding must have."""
        return len(self.mean)

    @property
    def weights(self) -> NDArray[np.float64]:
        """What each band contributes to each score: (K, B)."""
        return self.components / self.scale

    @property
    def offsets(self) -> NDArray[np.float64]:
        """What is added to each score: (K,)."""
        return -(self.weights @ self.mean)

    def project(self, block: Block | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores: float32 (row, column, component), NaN where a band is not finite."""
        import numpy as np

        from geotessera.sources.floats import as_float

        values = as_float(block) if isinstance(block, Block) else block
        if values.shape[-1] != self.band_count:
            raise InputError(f"the model has {self.band_count} bands, found {values.shape[-1]}")
        scores = values @ self.weights.T + self.offsets
        scores[~np.isfinite(values).all(axis=-1)] = np.nan
        made: NDArray[np.float32] = scores.astype(np.float32)
        return made
