"""Models on disk: the same fields as NumPy's archive or as JSON, checked when they are read."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotessera.errors import FormatError, InputError
from geotessera.pca.model import PcaModel
from geotessera.pca.stretch import METHODS, Stretch
from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os

__all__ = ["load", "save"]

FORMAT = "geotessera-pca-1"
"""What a file says it is."""

MAX_BYTES = 64 * 2**20
"""More than a model of 1000 bands needs; a larger file is not read."""

_SUFFIXES = (".npz", ".json")


def check_name(path: str | os.PathLike[str]) -> Path:
    """Return where a model is to be saved, by a name that says how."""
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{target}: a model is saved as .npz or .json")
    return target


def save(model: PcaModel, path: str | os.PathLike[str]) -> Path:
    """Write a model; see `PcaModel.save`."""
    target = check_name(path)
    fields: dict[str, Any] = {
        "format": FORMAT,
        "mean": model.mean,
        "scale": model.scale,
        "components": model.components,
        "explained_variance": model.explained_variance,
        "total_variance": model.total_variance,
        "pixels": model.pixels,
        "provenance": model.provenance,
    }
    if model.stretch is not None:
        fields["stretch_method"] = model.stretch.method
        fields["stretch_thresholds"] = model.stretch.thresholds
    with atomic_path(target, suffix=target.suffix) as temporary:
        if target.suffix.lower() == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **fields)
        else:
            plain = {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in fields.items()
            }
            text = json.dumps(plain, indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    return target


def load(path: str | os.PathLike[str]) -> PcaModel:
    """Read a model; see `PcaModel.load`."""
    source = Path(path)
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        return _model(_archive(data) if data[:2] == b"PK" else _json(data))
    except IsADirectoryError:
        raise FormatError(f"{source} is a directory, not a PCA model") from None
    except (
        ValueError,  # of JSON, of text and of NumPy too
        TypeError,
        KeyError,
        OverflowError,
        MemoryError,
        RuntimeError,  # of archives that are encrypted, compressed in another way, or nested
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = f"{error.args[0]} is missing" if type(error) is KeyError else str(error)
        raise FormatError(f"{source} is not a PCA model: {reason}") from error


def _archive(data: bytes) -> dict[str, Any]:
    # Not from the file: of one whose lengths are damaged the system says what is no argument.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _json(data: bytes) -> dict[str, Any]:
    def refuse(text: str) -> float:
        raise ValueError(f"{text} is no number that a model has")

    fields = json.loads(data, parse_constant=refuse)
    if not isinstance(fields, dict):
        raise TypeError("it holds no fields")
    return fields


def _model(fields: dict[str, Any]) -> PcaModel:
    if _text(fields, "format") != FORMAT:
        raise ValueError(f"format {_text(fields, 'format')!r}, expected {FORMAT!r}")
    mean = _numbers(fields, "mean", (None,))
    bands = len(mean)
    components = _numbers(fields, "components", (None, bands))
    count = len(components)
    if not 1 <= count <= bands:
        raise ValueError(f"{count} components of {bands} bands")
    scale = _numbers(fields, "scale", (bands,))
    variance = _numbers(fields, "explained_variance", (count,))
    total = float(_numbers(fields, "total_variance", ()))
    pixels = float(_numbers(fields, "pixels", ()))
    if not (scale > 0).all() or not (variance >= 0).all() or total < 0:
        raise ValueError("scales must be positive, and variances not negative")
    if pixels < 2 or pixels != int(pixels):
        raise ValueError(f"fitted to {pixels} pixels")
    model = PcaModel(
        mean,
        scale,
        components,
        variance,
        total,
        int(pixels),
        _text(fields, "provenance"),
        _stretch(fields, count),
    )
    with np.errstate(all="ignore"):
        usable = np.isfinite(model.weights).all() and np.isfinite(model.offsets).all()
    if not usable:
        raise ValueError("its weights are not finite")
    return model


def _stretch(fields: dict[str, Any], count: int) -> Stretch | None:
    if "stretch_method" not in fields:
        return None
    method = _text(fields, "stretch_method")
    if method not in METHODS:
        raise ValueError(f"balance method {method!r}")
    with np.errstate(over="ignore"):  # what is no float32 is infinite, and refused
        thresholds = _numbers(fields, "stretch_thresholds", (count, 255)).astype(np.float32)
    if not np.isfinite(thresholds).all() or (np.diff(thresholds, axis=1) < 0).any():
        raise ValueError("thresholds must be finite and ascend")
    return Stretch(method, thresholds)


def _numbers(fields: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> Any:
    """Return finite numbers of a shape as float64."""
    found = np.asarray(fields[key])
    if found.dtype.kind not in "fiu" or found.ndim != len(shape):
        raise ValueError(f"{key} is not an array of {len(shape)} dimensions of numbers")
    if any(want not in (None, have) for want, have in zip(shape, found.shape, strict=True)):
        raise ValueError(f"{key} has shape {found.shape}, expected {shape}")
    with np.errstate(over="ignore"):  # what is no float64 is infinite, and refused
        values = found.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{key} holds numbers that are not finite")
    return values


def _text(fields: dict[str, Any], key: str) -> str:
    found = fields[key]
    if isinstance(found, np.ndarray) and found.dtype.kind == "U" and found.ndim == 0:
        found = found.item()
    if not isinstance(found, str):
        raise TypeError(f"{key} is no text")
    return found
