"""Whole jobs over stores, from what is asked for to files: upstream's names for them.

A region is chosen by one of `bbox`, `tile`, `region_file` and `country`, as in the command
line; see `geotessera.regions.choose_region`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.access.cell_store import store_location
from geotessera.datasets import default_variant, find_dataset, normalize_version
from geotessera.errors import InputError
from geotessera.raster import create_rgb
from geotessera.regions import choose_region
from geotessera.stages import file_identity, read_stage, save_stage, stage_matches
from geotessera.store import GeoTesseraZarr

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geotessera.regions import Region

    type StrPath = str | os.PathLike[str]

__all__ = [
    "cached_stream_rgb",
    "file_identity",
    "open_stream",
    "save_stage",
    "stage_matches",
    "stream_download",
    "stream_rgb",
]

_SCHEMA = "geotessera 1"
"""Changes when the same request makes another picture."""


def open_stream(
    version: str = "v1.1",
    variant: str | None = None,
    store_url: StrPath | None = None,
    cache_dir: StrPath | None = None,
) -> GeoTesseraZarr:
    """Open a dataset's store.

    Parameters
    ----------
    version, variant : str
        The dataset; by default the first variant with a store.
    store_url : str or path, optional
        Another place; it wins over the dataset.
    cache_dir : path, optional
        Where data are kept between runs.

    Raises
    ------
    NotPublishedError
        (a `ValueError`) if the dataset has no store.
    FileNotFoundError, FormatError
        If there is no store.
    """
    if store_url is not None:
        return GeoTesseraZarr(store_url, cache_dir=cache_dir)
    number = normalize_version(version)
    chosen = variant or default_variant(number, "stream")
    client = GeoTesseraZarr(store_location(number, chosen, None), cache_dir=cache_dir)
    if client.dataset is None:  # a mirror has what it is asked for
        client.dataset = find_dataset(number, chosen)
    return client


def stream_download(
    output: StrPath,
    *,
    bbox: str | Sequence[float] | None = None,
    tile: str | Sequence[float] | None = None,
    region_file: Any = None,
    country: str | None = None,
    year: int = 2024,
    version: str = "v1.1",
    variant: str | None = None,
    store_url: StrPath | None = None,
    cache_dir: StrPath | None = None,
    bands: str | None = None,
    depth: int | None = None,
    compress: str | None = "lzw",
    dry_run: bool = False,
) -> list[Any]:
    """Write a region as one float32 GeoTIFF for each UTM zone.

    Parameters
    ----------
    output : path
        Directory.
    bbox, tile, region_file, country
        The region; one of them. By its outline, zones and boxes are chosen.
    year : int
        Calendar year.
    version, variant, store_url, cache_dir
        As for `open_stream`.
    bands : str, optional
        Zero-based bands, such as ``"0,1,2"``.
    depth, compress, dry_run
        As for `GeoTesseraZarr.export_geotiffs`.

    Returns
    -------
    list of str, or list of dict
        Paths; of a dry run what would be written.

    Raises
    ------
    InputError
        (a `ValueError`) for a region, year, depth or bands that cannot be used.
    """
    region = choose_region(bbox=bbox, tile=tile, region_file=region_file, country=country)
    client = open_stream(version, variant, store_url, cache_dir)
    return client.export_geotiffs(
        region.bbox,
        year,
        output,
        bands=_bands(bands),
        depth=depth,
        compress=compress,
        dry_run=dry_run,
        outline=region.geometry,
    )


def stream_rgb(
    output: StrPath,
    *,
    bbox: str | Sequence[float] | None = None,
    tile: str | Sequence[float] | None = None,
    region_file: Any = None,
    country: str | None = None,
    year: int = 2024,
    version: str = "v1.1",
    variant: str | None = None,
    store_url: StrPath | None = None,
    cache_dir: StrPath | None = None,
    bands: str = "0,1,2",
    depth: int | None = None,
) -> Path:
    """Write three bands of a region as one picture: a uint8 GeoTIFF in EPSG:3857.

    Parameters
    ----------
    output : path
        The file; it appears whole or not at all.
    bands : str
        Zero-based bands for red, green and blue; each band's range becomes 0 to 255.
    bbox, tile, region_file, country, year, version, variant, store_url, cache_dir, depth
        As for `stream_download`.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    InputError
        (a `ValueError`) for other than three bands; otherwise as `stream_download`.
    """
    region = choose_region(bbox=bbox, tile=tile, region_file=region_file, country=country)
    chosen = _three(bands)
    target = Path(output)
    client = open_stream(version, variant, store_url, cache_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}_") as aside:
        paths = client.export_geotiffs(
            region.bbox, year, aside, bands=chosen, depth=depth, outline=region.geometry
        )
        create_rgb(paths, target)
    return target


def cached_stream_rgb(output: StrPath, *, force: bool = False, **kwargs: Any) -> tuple[Path, bool]:
    """Return the picture of a region, made anew unless an earlier run made the same.

    The marker beside the picture (``rgb_mosaic.json`` for ``rgb_mosaic.tif``) says which
    request it answers, and holds when both are moved to another directory.

    Parameters
    ----------
    output : path
        The picture.
    force : bool
        Make it in any case.
    **kwargs
        As for `stream_rgb`.

    Returns
    -------
    path : Path
        The picture.
    reused : bool
        Whether it was there.
    """
    target = Path(output)
    marker = target.with_suffix(".json")
    request = _request(**kwargs)
    if not force and _is_made(target, marker, request):
        return target, True
    marker.unlink(missing_ok=True)  # what is there does not outlive what it speaks of
    stream_rgb(target, **kwargs)
    save_stage(marker, {"request": request, "artifact": file_identity(target, target.parent)})
    return target, False


def _is_made(target: Path, marker: Path, request: str) -> bool:
    state = read_stage(marker)
    if not isinstance(state, dict) or state.get("request") != request or not target.is_file():
        return False
    made: bool = state.get("artifact") == file_identity(target, target.parent)
    return made


def _request(
    *,
    bbox: str | Sequence[float] | None = None,
    tile: str | Sequence[float] | None = None,
    region_file: Any = None,
    country: str | None = None,
    year: int = 2024,
    version: str = "v1.1",
    variant: str | None = None,
    store_url: StrPath | None = None,
    cache_dir: StrPath | None = None,
    bands: str = "0,1,2",
    depth: int | None = None,
) -> str:
    """Return a digest of all that decides the picture; nothing is asked of the store."""
    region = choose_region(bbox=bbox, tile=tile, region_file=region_file, country=country)
    number = normalize_version(version)
    chosen = variant or default_variant(number, "stream")
    place = str(store_url) if store_url is not None else store_location(number, chosen, None)
    state = {
        "schema": _SCHEMA,
        "bounds": list(region.bbox),
        "outline": _digest_of(region),
        "year": year,
        "version": number,
        "variant": chosen,
        "bands": _three(bands),
        "depth": depth,
        "store": place.rstrip("/") if "://" in place else str(Path(place).resolve()),
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _digest_of(region: Region) -> str | None:
    return None if region.geometry is None else hashlib.sha256(region.geometry.wkb).hexdigest()


def _bands(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"bands {text!r} is not a list of bands such as '0,1,2'") from error


def _three(text: str) -> list[int]:
    bands = _bands(text) or []
    if len(bands) != 3:
        raise InputError(f"bands {text!r}: web maps require exactly three, such as '0,1,2'")
    return bands
