"""Points sorted into the tiles that own them, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from geotessera import _native
from geotessera.grid import tile_key

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geotessera.types import TileId

__all__ = ["PointGroups", "group_points"]


@dataclass(frozen=True, slots=True, eq=False)
class PointGroups:
    """Points sorted into the tiles that own them.

    Parameters
    ----------
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees.
    keys : ndarray of int32, shape (T, 2)
        Tiles by hundredths of a degree of their centre, sorted.
    order : ndarray of int64, shape (N,)
        Rows of `points`, tile after tile, ascending inside each.
    offsets : ndarray of int64, shape (T + 1,)
        Where each tile's rows begin in `order`.
    """

    points: NDArray[np.float64]
    keys: NDArray[np.int32]
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def tiles(self) -> list[tuple[float, float]]:
        """Return the (longitude, latitude) centres of the tiles, in group order."""
        return [(lon / 100, lat / 100) for lon, lat in self.keys.tolist()]

    @classmethod
    def from_mapping(
        cls, points: NDArray[np.float64], tiles: Mapping[tuple[float, float], Sequence[int]]
    ) -> PointGroups:
        """Make groups from a mapping of tile centres to rows of `points`."""
        keys = sorted((tile_key(lon), tile_key(lat), (lon, lat)) for lon, lat in tiles)
        rows = [np.sort(np.asarray(tiles[centre], np.int64)) for _, _, centre in keys]
        return cls(
            points,
            np.array([key[:2] for key in keys], np.int32).reshape(-1, 2),
            np.concatenate([np.empty(0, np.int64), *rows]),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
        )

    def count_outside(
        self, tiles: Container[tuple[float, float]], failures: Iterable[TileId] | None
    ) -> int:
        """Return how many points lie in tiles that are neither given nor failed."""
        failed = {(tile.lon, tile.lat) for tile in failures or ()}
        return sum(
            len(rows)
            for tile, rows in zip(self.tiles(), self.rows(), strict=True)
            if tile not in tiles and tile not in failed
        )

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of `points` of each tile, in group order."""
        for start, stop in pairwise(self.offsets.tolist()):
            yield self.order[start:stop]


def group_points(points: NDArray[np.float64]) -> PointGroups:
    """Sort points into tiles.

    Parameters
    ----------
    points : ndarray of float64, shape (N, 2)
        (longitude, latitude) in WGS84 degrees.

    Raises
    ------
    ValueError
        If a point is not finite or not on the globe; the message names the row.
    """
    return PointGroups(points, *_native.group_by_tile(points))
