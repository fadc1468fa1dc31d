"""The fitted model: what turns embeddings into scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geotessera import _native
from geotessera.errors import InputError
from geotessera.pca.strips import as_block, kernel_arguments

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geotessera.pca.stretch import Stretch
    from geotessera.types import Block

__all__ = ["PcaModel"]


@dataclass(frozen=True, slots=True, eq=False)
class PcaModel:
    """Principal components of embeddings.

    A model that is saved and used again gives several years or regions one colour space.

    Parameters
    ----------
    mean : ndarray of float64, shape (B,)
        Mean of each band.
    scale : ndarray of float64, shape (B,)
        What each band is divided by: its standard deviation, or ones where not standardised.
    components : ndarray of float64, shape (K, B)
        Unit vectors, by descending variance.
    explained_variance : ndarray of float64, shape (K,)
        Variance along each component, as scikit-learn has it (of the standardised bands, where
        they are; divided by one less than the pixels).
    total_variance : float
        Variance along all components that there are.
    pixels : int
        Pixels that the model was fitted to.
    provenance : str
        Version and variant of the dataset, empty where they are not known.
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

    def __repr__(self) -> str:
        """Say in a line what the model was fitted to."""
        colours = "" if self.stretch is None else f", {self.stretch.method} colours"
        return (
            f"<PcaModel {self.n_components} components of {self.band_count} bands, "
            f"{self.explained_variance_ratio.sum():.1%} of the variance of {self.pixels:,} pixels"
            f"{f' of {self.provenance}' if self.provenance else ''}{colours}>"
        )

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.components)

    @property
    def band_count(self) -> int:
        """Number of bands that an embedding must have."""
        return len(self.mean)

    @property
    def standardized(self) -> bool:
        """Whether bands are divided by something."""
        return not bool((self.scale == 1).all())

    @property
    def explained_variance_ratio(self) -> NDArray[np.float64]:
        """Each component's share of the total variance: (K,)."""
        ratio: NDArray[np.float64] = self.explained_variance / (self.total_variance or 1.0)
        return ratio

    @property
    def weights(self) -> NDArray[np.float64]:
        """What each band contributes to each score: (K, B)."""
        return self.components / self.scale

    @property
    def offsets(self) -> NDArray[np.float64]:
        """What is added to each score: (K,)."""
        return -(self.weights @ self.mean)

    def project(
        self, block: Block | NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the scores of pixels, dequantised on the way.

        Sums are float64, so that a score is exact but for its rounding to float32.

        Parameters
        ----------
        block : Block or ndarray of float32, shape (row, column, band)
            Embeddings.
        out : ndarray of float32, optional
            Where to write the result.

        Returns
        -------
        ndarray of float32, shape (row, column, component)
            NaN where a band is not finite.

        Raises
        ------
        InputError
            (a `ValueError`) for another number of bands than the model's.
        """
        found = as_block(block)
        if found.band_count != self.band_count:
            raise InputError(
                f"the model was fitted to {self.band_count} bands, and there are {found.band_count}"
            )
        return _native.project_bands(
            found.values,
            weights=self.weights,
            offsets=self.offsets,
            out=out,
            **kernel_arguments(found),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to a file, ``.npz`` (NumPy's archive) or ``.json``; both are exact.

        Raises
        ------
        InputError
            (a `ValueError`) for another suffix.
        UnwritableDestination
            (an `OSError`) if the file cannot be written.
        """
        from geotessera.pca.files import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PcaModel:
        """Read a model that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            (a `ValueError`) if it is no model; nothing in it is ever executed.
        """
        from geotessera.pca.files import load

        return load(path)
