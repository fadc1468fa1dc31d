"""Icechunk repositories of embeddings, and the registries of their tiles.

`geotessera.store.GeoTesseraZarr` reads a repository like any other store; what is here is for
who wants the repository itself. The package ``icechunk`` is needed, an extra of ours; for
`TileRegistry` it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geotessera.datasets import is_icechunk_location
from geotessera.sources.icechunk_session import open_session
from geotessera.tile_registry import TileRegistry

if TYPE_CHECKING:
    import os

    import icechunk
    import numpy as np
    import xarray as xr
    import zarr
    from numpy.typing import NDArray

    from geotessera.sources.icechunk import RepositoryStore
    from geotessera.xr.pixels import ZonePixels

__all__ = ["IcechunkStore", "TileRegistry", "ZoneArray", "is_icechunk_location", "open_session"]


class IcechunkStore:
    """A snapshot of an Icechunk repository of embeddings.

    Parameters
    ----------
    location : str or path
        ``s3://bucket/prefix``, or a directory.
    branch : str
        Whose newest snapshot is read.
    snapshot_id : str, optional
        Which snapshot is read instead.

    Attributes
    ----------
    url : str
        The location.
    groups : list of str
        The repository's groups, ``"31N"`` and so on.
    years : list of int
        Calendar years of all groups.
    session : icechunk.Session
        The read-only session.
    root : zarr.Group
        The root group, as zarr opens it.

    Raises
    ------
    MissingExtraError
        (an `ImportError`) if the package ``icechunk`` is not installed.
    FormatError
        (a `RuntimeError` and a `ValueError`) if there is no repository.

    Examples
    --------
    >>> store = IcechunkStore("path/to/repository.icechunk")  # doctest: +SKIP
    >>> store.open_zone(31).tessera.years  # doctest: +SKIP
    [2023, 2024]
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        branch: str = "main",
        snapshot_id: str | None = None,
    ) -> None:
        from geotessera.sources.icechunk import open_repository_store

        self.store: RepositoryStore = open_repository_store(
            location, branch=branch, snapshot_id=snapshot_id
        )
        self.url: str = self.store.location
        self.session: icechunk.Session = self.store.reader.session
        self.groups: list[str] = list(self.store.groups)
        self.years: list[int] = self.store.years

    def __repr__(self) -> str:
        return f"IcechunkStore({self.url!r}, years={self.years})"

    @property
    def root(self) -> zarr.Group:
        """The root group."""
        import zarr

        return zarr.open_group(self.session.store, mode="r")

    def zones(self) -> list[int]:
        """Return the UTM zones that there are groups for, ascending."""
        return self.store.zone_numbers

    def incomplete_years(self) -> dict[str, list[int]]:
        """Return, of each group that has such, the years it does not call complete."""
        return self.store.incomplete_years()

    def open_zone(self, zone: int) -> xr.Dataset:
        """Return a zone, both hemispheres of it, as a lazy Dataset in the native layout.

        Raises
        ------
        ZoneError
            (a `KeyError` and a `ValueError`) for a zone that there is no group for.
        """
        # Importing it gives Datasets their accessor.
        from geotessera.xr.store import zone_dataset

        return zone_dataset(self.store.zone(zone), chunks=None)

    def zone_arrays(self, zone: int) -> dict[str, ZoneArray]:
        """Return the arrays of pixels of a zone, both hemispheres of them, by name."""
        from geotessera.xr.pixels import ZonePixels

        opened = self.store.zone(zone)
        return {name: ZoneArray(ZonePixels(opened, name)) for name in opened.arrays}


class ZoneArray:
    """An array of pixels of a zone, read as it is indexed.

    ``array[…]`` takes numbers and slices, ``array.oindex[…]`` arrays for each axis as well, and
    ``array.vindex[…]`` arrays that are broadcast against each other: single pixels.

    Parameters
    ----------
    pixels : ZonePixels
        What is read.
    """

    def __init__(self, pixels: ZonePixels) -> None:
        self._pixels = pixels
        self.shape: tuple[int, ...] = pixels.shape
        self.dims: tuple[str, ...] = pixels.dims
        self.dtype: np.dtype[Any] = pixels.dtype
        self.ndim = len(pixels.shape)
        self.fill_value: Any = pixels.dtype.type(pixels.spec.fill)
        self.oindex = _Indexer(self._outer)
        self.vindex = _Indexer(self._points)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {size}" for dim, size in zip(self.dims, self.shape, strict=True))
        return f"<ZoneArray {self._pixels.name} ({sizes}) {self.dtype}>"

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part of the array."""
        return self._outer(key)

    def _outer(self, key: Any) -> NDArray[Any]:
        return self._pixels.outer(self._whole(key))

    def _points(self, key: Any) -> NDArray[Any]:
        import numpy as np

        whole = self._whole(key)
        arrays = [at for at, one in enumerate(whole) if not isinstance(one, slice)]
        slices = [at for at, one in enumerate(whole) if isinstance(one, slice)]
        points = np.broadcast_arrays(*(np.asarray(whole[at]) for at in arrays))
        ndim = points[0].ndim if points else 0
        # As NumPy does with arrays apart from each other: their axes first, then the slices'.
        axes: list[Any] = [None] * self.ndim
        for at, one in zip(arrays, points, strict=True):
            axes[at] = one.reshape(one.shape + (1,) * len(slices))
        for place, at in enumerate(slices):
            count = np.arange(self.shape[at])[whole[at]]
            axes[at] = count.reshape(
                (1,) * (ndim + place) + (-1,) + (1,) * (len(slices) - place - 1)
            )
        return self._pixels.points(tuple(axes))

    def _whole(self, key: Any) -> tuple[Any, ...]:
        """Return a key with one item for each axis."""
        given = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [one for one in given if one is Ellipsis]:
            at = next(at for at, one in enumerate(given) if one is Ellipsis)
            missing = self.ndim - len(given) + 1
            given = (*given[:at], *[slice(None)] * missing, *given[at + 1 :])
        if len(given) > self.ndim:
            raise IndexError(f"{len(given)} indices for an array with {self.ndim} axes")
        return (*given, *[slice(None)] * (self.ndim - len(given)))


class _Indexer:
    """Makes square brackets of a method."""

    def __init__(self, read: Any) -> None:
        self._read = read

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part of the array."""
        found: NDArray[Any] = self._read(key)
        return found
