"""Principal components of embeddings: exact, over every valid pixel, in bounded memory."""

from geotessera.pca.fit import fit
from geotessera.pca.model import PcaModel
from geotessera.pca.stretch import METHODS, Stretch, check_stretch, fit_stretch

__all__ = ["METHODS", "PcaModel", "Stretch", "check_stretch", "fit", "fit_stretch"]
