"""`tessera_metadata.json`: which dataset the tiles of a directory come from.

Embeddings of different datasets live in unrelated feature spaces, and neither paths nor
files tell them apart; this record does.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.datasets import (
    EMBEDDINGS_DIR_NAME,
    TESSERA_NPY_MIRROR_URL,
    check_variant,
    dataset_label,
    dataset_path,
    normalize_version,
    version_path,
)
from geotessera.errors import DatasetMismatchError, InputError, NotPublishedError
from geotessera.grid import parse_grid_name
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = [
    "TESSERA_METADATA_FILENAME",
    "check_dataset_dir",
    "is_unlabelled",
    "label_dataset_dir",
    "recorded_dataset",
    "s3_embeddings_subdir",
    "write_tessera_metadata",
]

TESSERA_METADATA_FILENAME = "tessera_metadata.json"

logger = logging.getLogger("geotessera.registry")


def s3_embeddings_subdir(variant: str) -> str:
    """Return the directory name of a variant's embeddings in the retired S3 layout."""
    return EMBEDDINGS_DIR_NAME if variant == "vultr" else f"{EMBEDDINGS_DIR_NAME}.{variant}"


def write_tessera_metadata(
    output_dir: str | os.PathLike[str],
    dataset_version: str,
    dataset_variant: str,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Record which dataset a directory holds, over any earlier record.

    Parameters
    ----------
    output_dir : path
        Made if missing.
    dataset_version, dataset_variant : str
        The dataset.
    extra : mapping, optional
        Further entries, such as ``format``, ``year`` or ``tile_count``.

    Returns
    -------
    Path
        Of the record.

    Raises
    ------
    UnwritableDestination
        (an `OSError`) if it cannot be written.
    """
    norm = normalize_version(dataset_version)
    record: dict[str, Any] = {
        "dataset_version": norm,
        "dataset_version_path": version_path(norm),
        "dataset_variant": dataset_variant,
        "generated_at": datetime.now(UTC).isoformat(),
    }
    try:
        directory = dataset_path(norm, dataset_variant)
    except NotPublishedError:
        pass  # it has no tiles
    else:
        record["dataset_path"] = directory
        record["embeddings_subdir"] = EMBEDDINGS_DIR_NAME
        record["s3_embeddings_subdir"] = s3_embeddings_subdir(dataset_variant)
        record["source_url_prefix"] = f"{TESSERA_NPY_MIRROR_URL}/{directory}/"
    record |= extra or {}
    path = Path(output_dir) / TESSERA_METADATA_FILENAME
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def recorded_dataset(directory: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return the normalised version and the variant that a directory records, or None.

    Both become parts of paths and URLs, so a record that could lead elsewhere is none.
    """
    path = Path(directory) / TESSERA_METADATA_FILENAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record.get("dataset_version_path") or record.get("dataset_version")
        variant = record.get("dataset_variant")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(version, str):
        return None
    try:
        return normalize_version(version), check_variant(variant)
    except InputError:
        return None


def check_dataset_dir(directory: str | os.PathLike[str], version: str, variant: str) -> None:
    """Raise `DatasetMismatchError` if a directory records another dataset.

    A directory without a record is accepted: nothing is known of it.
    """
    recorded = recorded_dataset(directory)
    if recorded is None or recorded == (normalize_version(version), variant):
        return
    raise DatasetMismatchError(
        f"{directory} holds {dataset_label(*recorded)} embeddings, but "
        f"{dataset_label(version, variant)} was requested. Embeddings of different datasets "
        "cannot be interchanged: use a separate directory"
    )


def is_unlabelled(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory holds tiles but no record of what they are."""
    root = Path(directory)
    if (root / TESSERA_METADATA_FILENAME).exists():
        return False
    try:
        names = {entry.name for entry in root.iterdir()}
        tiles = EMBEDDINGS_DIR_NAME in names and any((root / EMBEDDINGS_DIR_NAME).iterdir())
    except OSError:
        return False
    return tiles or any(parse_grid_name(name)[0] is not None for name in names)


def label_dataset_dir(directory: str | os.PathLike[str], version: str, variant: str) -> None:
    """Record a dataset before the first tile is written; a failure is only logged.

    A directory that already holds tiles of unknown origin stays unknown.
    """
    if (Path(directory) / TESSERA_METADATA_FILENAME).exists() or is_unlabelled(directory):
        return
    try:
        write_tessera_metadata(directory, version, variant)
    except OSError as error:
        logger.warning("The dataset of %s could not be recorded: %s", directory, error)
