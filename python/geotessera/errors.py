"""Every error that GeoTessera raises on purpose.

One tree under `GeoTesseraError`; each class also derives from the builtin that
callers of earlier releases catch. A message says what was asked, what was found
and what to do.
"""

from __future__ import annotations

__all__ = [
    "BandError",
    "ChecksumMismatchError",
    "DatasetMismatchError",
    "EmptySelectionError",
    "FormatError",
    "GeoTesseraError",
    "HTTPStatusError",
    "InputError",
    "NotFoundError",
    "NotPublishedError",
    "RegistryError",
    "TileError",
    "TileNotFoundError",
    "TransferError",
    "TruncatedError",
    "UnreachableError",
    "UnwritableDestination",
    "YearNotAvailableError",
]


class GeoTesseraError(Exception):
    """Base of all errors raised by GeoTessera itself."""


class InputError(GeoTesseraError, ValueError):
    """An argument, a point, a region or an option that cannot be used."""


class BandError(InputError, IndexError):
    """A band outside the raster's bands, negative ones included."""


class NotPublishedError(InputError):
    """A dataset that is not published in the format that was asked for."""


class EmptySelectionError(InputError):
    """A selection that holds nothing, such as a registry scope without tiles."""


class YearNotAvailableError(InputError, KeyError):
    """A year that the dataset does not have."""

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


class DatasetMismatchError(InputError):
    """Data of different datasets that must not be mixed."""


class RegistryError(GeoTesseraError, RuntimeError):
    """A registry that could not be had or read."""


class RegistrySchemaError(RegistryError, ValueError):
    """A registry that lacks a column or holds a column of the wrong type."""


class FormatError(GeoTesseraError, RuntimeError, ValueError):
    """A local file that is not what its name says: damaged, truncated or foreign."""


class TileError(GeoTesseraError, RuntimeError):
    """A tile that could not be had or read; the cause is chained."""


class TileNotFoundError(TileError, FileNotFoundError):
    """A tile that is neither local nor allowed to be downloaded."""

    def __str__(self) -> str:
        """Return the message itself; `OSError` would look for an errno."""
        return str(self.args[0]) if self.args else ""


class TransferError(GeoTesseraError, OSError):
    """Bytes that could not be transferred.

    Attributes
    ----------
    url : str
        Where the bytes were to come from.
    """

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class HTTPStatusError(TransferError):
    """A server's answer other than success.

    Attributes
    ----------
    url : str
        What was asked for.
    status : int
        The HTTP status code.
    """

    def __init__(self, message: str, *, url: str = "", status: int = 0) -> None:
        super().__init__(message, url=url)
        self.status = status


class NotFoundError(HTTPStatusError):
    """A file that is not there: 404 or 410 from a server, or absent from a mirror on disk."""


class UnreachableError(TransferError):
    """A server that could not be reached, or that stopped answering."""


class TruncatedError(TransferError):
    """A body shorter or longer than announced."""


class ChecksumMismatchError(TransferError, ValueError):
    """Bytes whose digest is not the published one; they were thrown away."""


class UnwritableDestination(GeoTesseraError, OSError):  # noqa: N818 - upstream's name
    """A destination that cannot be written: read-only, forbidden, full or over quota.

    Attributes
    ----------
    errno : int
        The system's error number.
    """
