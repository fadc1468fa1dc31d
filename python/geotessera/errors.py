"""Every error that GeoTessera raises on purpose.

One tree under `GeoTesseraError`; each class also derives from the builtin that
callers of earlier releases catch. A message says what was asked, what was found
and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geotessera.download import DownloadReport

__all__ = [
    "BandError",
    "BoxError",
    "ChangedError",
    "ChecksumMismatchError",
    "DatasetMismatchError",
    "DiskFullError",
    "DownloadError",
    "EmptySelectionError",
    "ForbiddenError",
    "FormatError",
    "GeoTesseraError",
    "HTTPStatusError",
    "IncompleteMosaicError",
    "InputError",
    "MissingExtraError",
    "NoOverlapError",
    "NotFoundError",
    "NotPublishedError",
    "OfflineError",
    "PointsError",
    "ReadOnlyError",
    "RegistryError",
    "ResamplingError",
    "SizeMismatchError",
    "StalledError",
    "StoreNotFoundError",
    "ThrottledError",
    "TileError",
    "TileNotFoundError",
    "TransferError",
    "TruncatedError",
    "UnreachableError",
    "UnwritableDestination",
    "YearError",
    "ZoneError",
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


class NoOverlapError(EmptySelectionError, IndexError):
    """A region that lies outside the grid of what was to be read."""


class BoxError(InputError, RuntimeError, IndexError):
    """A box of degrees that is none, such as one whose south is north of its north.

    Upstream raises what PROJ does, or for one without area that nothing is there.
    """


class PointsError(InputError, IndexError):
    """Points for a store that are no pairs of numbers; upstream indexes them."""


class ResamplingError(InputError, KeyError):
    """A name that is none of a way to resample."""

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


class DatasetMismatchError(InputError):
    """Data of different datasets that must not be mixed."""


class YearError(InputError, KeyError):
    """A year that a store, or one of its zones, does not hold."""

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


class ZoneError(InputError, KeyError):
    """A UTM zone that a store does not hold, or not with all that a reader needs."""

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


class MissingExtraError(GeoTesseraError, ImportError):
    """An optional package that is needed and not installed; the message names the extra."""


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


class StoreNotFoundError(GeoTesseraError, FileNotFoundError):
    """A directory of a store that does not exist."""

    def __str__(self) -> str:
        """Return the message itself; `OSError` would look for an errno."""
        return str(self.args[0]) if self.args else ""


class TransferError(GeoTesseraError, OSError):
    """Bytes that could not be transferred.

    Attributes
    ----------
    url : str
        Where the bytes were to come from.
    passing : bool
        Whether the same request may succeed a moment later.
    """

    passing = False

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
    retry_after : float or None
        Seconds that the server asks to wait.
    """

    retry_after: float | None = None

    def __init__(self, message: str, *, url: str = "", status: int = 0) -> None:
        super().__init__(message, url=url)
        self.status = status


class NotFoundError(HTTPStatusError):
    """A file that is not there: 404 or 410 from a server, or absent from a mirror on disk."""


class ForbiddenError(HTTPStatusError):
    """Access that was denied: 401, 403 or 407."""


class ThrottledError(HTTPStatusError):
    """A server that has too much to do, also after all attempts: 429 or 503."""


class UnreachableError(TransferError):
    """A server that could not be reached, or that stopped answering."""

    passing = True


class StalledError(UnreachableError):
    """A whole transfer in which no byte arrived for the stall timeout."""


class OfflineError(UnreachableError):
    """Bytes that are not in the cache, while nothing may be asked of a server."""

    passing = False


class TruncatedError(TransferError):
    """A body shorter or longer than announced."""

    passing = True


class SizeMismatchError(TruncatedError):
    """A file that its server has in another length than the registry says."""


class ChangedError(TransferError):
    """A file that changed on the server again and again while it was fetched."""


class ChecksumMismatchError(TransferError, ValueError):
    """Bytes whose digest is not the published one; they were thrown away."""

    passing = True


class UnwritableDestination(GeoTesseraError, OSError):  # noqa: N818 - upstream's name
    """A destination that cannot be written: read-only, forbidden, full or over quota.

    Attributes
    ----------
    errno : int
        The system's error number.
    """


class DiskFullError(UnwritableDestination):
    """A disk without room, or a quota or a limit on file sizes that is used up."""


class ReadOnlyError(UnwritableDestination):
    """A place where this user may not write."""


class DownloadError(TileError):
    """A batch of downloads of which some failed; the others were finished.

    Attributes
    ----------
    report : geotessera.download.DownloadReport
        What is complete, and why each other tile is not.
    """

    def __init__(self, report: DownloadReport) -> None:
        tiles = len(report.failed)
        whole = tiles + len(report.complete)
        first = next(iter(report.failed.values()), "")
        super().__init__(
            f"{tiles} of {whole} tiles could not be downloaded; ask again to continue where it "
            f"stopped, see .report.failed for each reason. The first: {first}"
        )
        self.report = report

    def __reduce__(self) -> tuple[type[DownloadError], tuple[DownloadReport]]:
        """Pickle by the report."""
        return DownloadError, (self.report,)


class IncompleteMosaicError(TileError):
    """A mosaic of which parts could not be made; the others are kept for the next run.

    Attributes
    ----------
    failed : dict of str to Exception
        The rasters, or the parts of the mosaic, that failed, and why.
    """

    def __init__(self, failed: dict[str, Exception]) -> None:
        name, first = next(iter(failed.items()), ("", ""))
        super().__init__(
            f"the mosaic is not complete: {len(failed)} of its tiles could not be had or read; "
            f"ask again to continue where it stopped. The first: {name}: {first}"
        )
        self.failed = failed

    def __reduce__(self) -> tuple[type[IncompleteMosaicError], tuple[dict[str, Exception]]]:
        """Pickle by what failed."""
        return IncompleteMosaicError, (self.failed,)
