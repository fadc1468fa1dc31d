"""Where the registry files of a dataset are, and how they get here.

In order: a path, a directory, a URL, the mirror. What is local is read where it is; what
is remote is kept in the cache and renewed when the server has a newer one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geotessera.datasets import (
    BASE_URL,
    Mirror,
    MirrorLayout,
    dataset_label,
    dataset_path,
    tile_to_embedding_paths,
    version_path,
)
from geotessera.errors import ForbiddenError, HTTPStatusError, InputError, RegistryError
from geotessera.remote.partfile import atomic_path
from geotessera.remote.transfer import local_path
from geotessera.remote.transfer.refresh import refresh

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.types import TileId

__all__ = ["RegistryFiles"]

type StrPath = str | os.PathLike[str]

_LAYOUTS: tuple[MirrorLayout, ...] = ("B", "A", "A-simple")
_REGISTRY_NAMES = ("manifest.parquet", "registry.parquet")
_LANDMASKS_NAME = "landmasks.parquet"


def _optional_path(value: StrPath | None, option: str) -> Path | None:
    if value is None:
        return None
    path = local_path(value)
    if path is None:
        raise InputError(f"{option} {str(value)!r} is a URL: pass it as {option[:-5]}_url")
    return path.expanduser()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class RegistryFiles:
    """The registry files of one dataset.

    Parameters
    ----------
    version, variant : str
        Normalised version and variant.
    base : str
        The mirror, as `geotessera.datasets.base_url_from` returns it.
    cache_dir : Path
        Where copies are kept.
    registry_path, registry_dir, registry_url : optional
        Sources of the registry of embeddings, the first that is given counts.
    landmasks_path, landmasks_url : optional
        Sources of the registry of landmasks; by default beside the embeddings'.
    offline : bool
        Use what is in the cache.
    logger : logging.Logger
        Takes warnings.
    """

    version: str
    variant: str
    base: str
    cache_dir: Path
    registry_path: StrPath | None = None
    registry_dir: StrPath | None = None
    registry_url: str | None = None
    landmasks_path: StrPath | None = None
    landmasks_url: str | None = None
    offline: bool = False
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
    _layout: MirrorLayout | None = field(default=None, init=False)
    _copies: dict[Path, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        dataset_path(self.version, self.variant)  # raises where there are no tiles
        self._path = _optional_path(self.registry_path, "registry_path")
        self._directory = _optional_path(self.registry_dir, "registry_dir")
        self._landmasks = _optional_path(self.landmasks_path, "landmasks_registry_path")
        for path, option in ((self._path, "registry_path"), (self._landmasks, "landmasks_…_path")):
            if path is not None and not path.is_file():
                raise RegistryError(f"{option} {path} is not a file: check the path")
        if self.base == BASE_URL:
            self._layout = "B"

    # --- The files -----------------------------------------------------------------------

    def embeddings(self) -> Path:
        """Return the path of the registry of embeddings, renewed if it is a cached copy.

        Raises
        ------
        RegistryError
            (a `RuntimeError`) if it does not exist or could not be had.
        """
        if self._path is not None:
            return self._path
        if self._directory is not None:
            for name in _REGISTRY_NAMES:
                if (path := self._directory / name).is_file():
                    return path
            raise RegistryError(
                f"registry_dir {self._directory} has neither {' nor '.join(_REGISTRY_NAMES)}"
            )
        if self.registry_url is not None:
            return self._bring(self.registry_url, self._copy_of(self.registry_url))
        return self._from_mirror()

    def landmasks(self) -> Path | None:
        """Return the path of the registry of landmasks, or None where there is none.

        Raises
        ------
        RegistryError
            (a `RuntimeError`) if it could not be had.
        """
        if self._landmasks is not None:
            return self._landmasks
        if self.landmasks_url is not None:
            return self._bring(self.landmasks_url, self._copy_of(self.landmasks_url))
        directory = self._path.parent if self._path else self._directory
        if directory is not None:
            path = directory / _LANDMASKS_NAME
            return path if path.is_file() else None
        if self.registry_url is not None and self._layout is None:
            return None  # the mirror's layout is not known, and its landmasks may not belong
        mirror = self._mirror(self._layout or "A")
        return self._bring(mirror.landmasks_registry_url, self._landmasks_copy(mirror))

    def _from_mirror(self) -> Path:
        known = self._layout or self._remembered()
        layouts: list[MirrorLayout] = [known] if known else []
        if self.base != BASE_URL:
            layouts += [layout for layout in ("B", "A") if layout not in layouts]
        missing: list[str] = []
        reason: RegistryError | None = None
        for layout in layouts:
            mirror = self._mirror(layout)
            try:
                path = self._bring(mirror.registry_url, self._registry_copy(mirror))
            except RegistryError as error:
                if not (self.offline or _says_absent(error)):
                    raise
                missing.append(mirror.registry_url)
                # Of a refusal and an absence, the refusal is what to look into.
                reason = reason if _is_denied(reason) else error
                continue
            if layout != "A":  # which of its two forms is seen at the first tile
                self._settle(layout)
            return path
        where = "in the cache (offline)" if self.offline else f"at {self.base}"
        raise RegistryError(
            f"there is no registry of {dataset_label(self.version, self.variant)} {where}: "
            f"looked for {' and '.join(missing)}"
            + (f" ({reason.__cause__})" if reason is not None and _is_denied(reason) else "")
        ) from reason

    def _bring(self, url: str, cached: Path) -> Path:
        source = local_path(url)
        if source is not None:
            if not source.is_file():
                raise RegistryError(f"registry {source} does not exist") from FileNotFoundError(url)
            return source
        if self.offline:
            if cached.is_file():
                return cached
            raise RegistryError(
                f"offline, and there is no cached copy of {url} at {cached}: open the dataset "
                "once with a network, or give the path of a local registry"
            )
        self._copies[cached] = url
        return refresh(url, cached)

    def renew(self, path: Path) -> bool:
        """Fetch a cached copy anew, because it is damaged.

        A conditional request would keep it for as long as the server's file is the same.

        Returns
        -------
        bool
            Whether there is a new copy; not where `path` is no copy.

        Raises
        ------
        RegistryError
            (a `RuntimeError`) if it could not be had.
        """
        url = self._copies.get(path)
        if url is None:
            return False
        refresh(url, path, force=True, offline_ok=False)
        return True

    # --- Where copies are ----------------------------------------------------------------

    @property
    def _mirror_cache(self) -> Path:
        if self.base == BASE_URL:
            return self.cache_dir
        return self.cache_dir / "mirrors" / _digest(self.base)

    def _registry_copy(self, mirror: Mirror) -> Path:
        name = mirror.registry_url.rpartition("/")[2]
        folder = dataset_path(self.version, self.variant)
        return self._mirror_cache / folder / name

    def _landmasks_copy(self, mirror: Mirror) -> Path:
        return self._mirror_cache / version_path(self.version) / _LANDMASKS_NAME

    @property
    def landmasks_cache(self) -> Path:
        """Directory for copies of the mirror's landmasks."""
        return self._mirror_cache / version_path(self.version) / "landmasks"

    def _copy_of(self, url: str) -> Path:
        name = url.partition("?")[0].rpartition("/")[2]
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[-80:]
        return self.cache_dir / "urls" / f"{_digest(url)}-{name or 'registry.parquet'}"

    # --- The mirror's layout -------------------------------------------------------------

    def _mirror(self, layout: MirrorLayout) -> Mirror:
        return Mirror(self.base, self.version, self.variant, layout)

    def mirror(self, generation: str, tile: TileId) -> Mirror:
        """Return the mirror, its layout found out by where it has a tile.

        Parameters
        ----------
        generation : {"A", "B"}
            Of the registry: what the layout is where no layout has the tile.
        tile : TileId
            A tile of the registry.
        """
        layout = self._layout or self._remembered()
        if layout is None:
            order = _LAYOUTS if generation == "B" else (*_LAYOUTS[1:], "B")
            relative = tile_to_embedding_paths(tile.lon, tile.lat, tile.year)[0]
            for candidate in order:
                if _exists(self._mirror(candidate).tile_url(relative), self.offline):
                    layout = candidate
                    break
            else:
                return self._mirror("A" if generation == "A" else "B")
        self._settle(layout)
        return self._mirror(layout)

    @property
    def _memory(self) -> Path:
        return self._mirror_cache / f"layout-{dataset_path(self.version, self.variant)}.json"

    def _remembered(self) -> MirrorLayout | None:
        try:
            record = json.loads(self._memory.read_text(encoding="utf-8"))
            layout: MirrorLayout = record["layout"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return layout if layout in _LAYOUTS and record.get("base") == self.base else None

    def _settle(self, layout: MirrorLayout) -> None:
        """Use a layout from now on, and in later processes."""
        known, self._layout = self._layout, layout
        # The layout of a directory is found out faster than it is read back.
        if known == layout or self.base == BASE_URL or local_path(self.base) is not None:
            return
        record = json.dumps({"base": self.base, "layout": layout})
        with suppress(OSError), atomic_path(self._memory) as temporary:
            temporary.write_text(record, encoding="utf-8")


def _is_denied(error: RegistryError | None) -> bool:
    return error is not None and isinstance(error.__cause__, ForbiddenError)


def _says_absent(error: RegistryError) -> bool:
    cause = error.__cause__
    if isinstance(cause, HTTPStatusError):
        return cause.status in (403, 404, 410)  # object stores answer 403 for absent keys
    return isinstance(cause, FileNotFoundError)


def _exists(url: str, offline: bool) -> bool:
    path = local_path(url)
    if path is not None:
        return path.is_file()
    if offline:
        return False
    from geotessera.remote.http import open_url

    try:
        with open_url(url, method="HEAD"):
            return True
    except HTTPStatusError as error:
        if error.status in (403, 404, 410):
            return False
        raise
