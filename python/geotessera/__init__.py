"""GeoTessera: TESSERA satellite embeddings, fast, light and reliable.

128 numbers for every 10 m pixel of the land surface, a year at a time. Start with
`GeoTessera` for tiles, or `GeoTesseraZarr` for the cloud stores; see `geotessera.registry` for
what exists and `geotessera.tiles` for tiles on disk.

Importing the package imports no NumPy: names are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geotessera import registry, store, visualization, web
    from geotessera.core import GeoTessera
    from geotessera.dequantize import dequantize_embedding
    from geotessera.errors import GeoTesseraError
    from geotessera.store import GeoTesseraZarr
    from geotessera.types import Status

    __version__: str

__all__ = [
    "GeoTessera",
    "GeoTesseraError",
    "GeoTesseraZarr",
    "Status",
    "dequantize_embedding",
    "registry",
    "store",
    "visualization",
    "web",
]

_HOMES = {
    "GeoTessera": "geotessera.core",
    "GeoTesseraError": "geotessera.errors",
    "GeoTesseraZarr": "geotessera.store",
    "Status": "geotessera.types",
    "dequantize_embedding": "geotessera.dequantize",
}
_SUBMODULES = frozenset(
    {"core", "country", "inputs", "raster", "registry", "store", "tiles", "visualization", "web"}
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"geotessera.{name}")
    elif name == "__version__":
        value = _installed_version()
    else:
        raise AttributeError(f"module 'geotessera' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted({*globals(), *__all__, *_SUBMODULES, "__version__"})


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("geotessera")
    except PackageNotFoundError:
        return "unknown"
