"""The datasets that one registry file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geotessera.coverage.grid import Coverage
from geotessera.datasets import normalize_version
from geotessera.errors import InputError, RegistryError, RegistrySchemaError
from geotessera.registry import Registry

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["coverages_of_manifest"]


def coverages_of_manifest(
    path: str | os.PathLike[str],
    versions: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
) -> dict[tuple[str, str], Coverage]:
    """Return where the datasets of a registry file have tiles.

    Parameters
    ----------
    path : path
        A registry with the columns version and variant.
    versions, variants : sequence of str, optional
        Those that are wanted; by default all.

    Returns
    -------
    dict of (str, str) to Coverage
        By version, normalised, and variant, in that order.
    """
    wanted = None if versions is None else {normalize_version(version) for version in versions}
    found = {
        (version, variant): Coverage.of_registry(
            Registry(version, variant, registry_path=Path(path))
        )
        for version, variant in _datasets(Path(path))
        if (wanted is None or version in wanted) and (variants is None or variant in variants)
    }
    if not found:
        raise InputError(
            f"No tiles to render after filtering: {path} holds no dataset of versions "
            f"{versions or 'any'}, variants {variants or 'any'}"
        )
    return found


def _datasets(path: Path) -> list[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
        missing = {"version", "variant", "year", "lon", "lat"} - set(file.schema_arrow.names)
        if missing:
            raise RegistrySchemaError(f"{path} has no column {', '.join(sorted(missing))}")
        pairs = set()
        for batch in file.iter_batches(2**20, columns=["version", "variant"]):
            distinct = pa.table(batch).group_by(["version", "variant"]).aggregate([])
            pairs |= set(zip(*(column.to_pylist() for column in distinct.columns), strict=True))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise RegistryError(f"registry {path} does not exist") from error
        raise RegistryError(f"registry {path} cannot be read: {error}") from error
    return sorted((normalize_version(version), variant) for version, variant in pairs)
