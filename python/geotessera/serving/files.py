"""From a request's path to a file below one directory; media types; listings."""

from __future__ import annotations

import errno
import html
import mimetypes
import os
import stat
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from geotessera.errors import InputError
from geotessera.sizes import format_bytes

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = [
    "PAGES",
    "Refusal",
    "find_page",
    "listing",
    "locate",
    "media_type",
    "open_file",
    "refusal_of",
]

PAGES = ("index.html", "viewer.html", "map.html", "coverage.html")
"""Pages to open, the first that exists."""

_LISTED = 10_000  # names in a listing; a page of more helps nobody

# Said here, as what machines have in their own tables differs.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".geojson": "application/geo+json",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".pbf": "application/x-protobuf",
    ".pmtiles": "application/vnd.pmtiles",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".xml": "application/xml",
}
_OTHER = mimetypes.MimeTypes()


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is answered with a status and a line of text."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def media_type(name: str) -> str:
    """Return the media type of a file name."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - no file is looked at
    if suffix in _TYPES:
        return _TYPES[suffix]
    kind, encoding = _OTHER.guess_type("x" + suffix)
    return kind if kind is not None and encoding is None else "application/octet-stream"


def find_page(directory: str | os.PathLike[str], page: str | os.PathLike[str] | None = None) -> str:
    """Return the page of a directory to open, as its URL's path; "" for the listing.

    Parameters
    ----------
    directory : path
        What is served.
    page : path, optional
        Relative to the directory; by default the first of `PAGES`.

    Raises
    ------
    InputError
        (a `ValueError`) if the page does not exist, or lies outside the directory.
    """
    root = Path(directory).resolve()
    if page is None:
        return next((name for name in PAGES if (root / name).is_file()), "")
    path = (root / page).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"page {os.fspath(page)} lies outside {directory}")
    if not path.is_file():
        raise InputError(f"there is no page {os.fspath(page)} in {directory}")
    return quote(os.fsencode(path.relative_to(root).as_posix()))


def locate(root: Path, target: str) -> Path:
    """Return the file or directory below a root that a request's path names.

    Parameters
    ----------
    root : Path
        Resolved.
    target : str
        As it came: percent-encoded, perhaps with a query.

    Raises
    ------
    Refusal
        For what is malformed, not there, hidden, or outside.
    """
    raw = unquote_to_bytes(target.partition("?")[0].partition("#")[0])
    if not raw.startswith(b"/") or b"\\" in raw or any(byte < 32 or byte == 127 for byte in raw):
        raise Refusal(HTTPStatus.BAD_REQUEST, "this is no path of a file")
    segments = [part for part in os.fsdecode(raw).split("/") if part]
    if any(part in (".", "..") or (os.name == "nt" and ":" in part) for part in segments):
        raise Refusal(HTTPStatus.BAD_REQUEST, "a path may not hold . or ..")
    if any(part.startswith(".") for part in segments):
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such file")
    try:
        path = root.joinpath(*segments).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise refusal_of(error) from error
    # Links may lead about inside the directory, but not out of it, nor to what is hidden.
    if not path.is_relative_to(root):
        raise Refusal(HTTPStatus.FORBIDDEN, "this links to a place outside the served directory")
    if _is_hidden(path.relative_to(root)):
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such file")
    if raw.endswith(b"/") and not path.is_dir():
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such file")
    return path


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def refusal_of(error: Exception) -> Refusal:
    """Return the answer for what the system says of a file."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return Refusal(HTTPStatus.FORBIDDEN, "this file may not be read")
    if number in (errno.EMFILE, errno.ENFILE):
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many open files: try again")
    return Refusal(HTTPStatus.NOT_FOUND, "there is no such file")


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read; pipes and devices are refused, without waiting for them."""
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb", buffering=0)
    except OSError as error:
        raise refusal_of(error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such file")
    return file


def listing(root: Path, directory: Path) -> bytes:
    """Return a page that lists a directory below the root: what would be served, and no more."""
    rows: list[tuple[bool, str, os.stat_result]] = []
    try:
        with os.scandir(directory) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            for entry in islice(shown, _LISTED + 1):
                found = _served(root, entry)
                if found is not None:
                    rows.append((not stat.S_ISDIR(found.st_mode), entry.name, found))
    except OSError as error:
        raise refusal_of(error) from error
    more = len(rows) > _LISTED
    rows = sorted(rows[:_LISTED], key=lambda row: row[:2])
    place = "/" + "".join(part + "/" for part in directory.relative_to(root).parts)
    lines = [] if directory == root else ['<tr><td><a href="../">../</a></td></tr>']
    lines += [_row(is_file, name, found) for is_file, name, found in rows]
    if more:
        lines.append(f"<tr><td>… and more than {_LISTED:,} names</td></tr>")
    page = _LISTING.format(place=html.escape(place), rows="\n".join(lines))
    return page.encode("utf-8", "surrogateescape")


def _served(root: Path, entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        if entry.is_symlink():
            place = Path(entry.path).resolve(strict=True)
            if not place.is_relative_to(root) or _is_hidden(place.relative_to(root)):
                return None
        found = entry.stat()
    except (OSError, RuntimeError):
        return None
    return found if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode) else None


def _row(is_file: bool, name: str, found: os.stat_result) -> str:
    end = "" if is_file else "/"
    # ./ keeps a name such as "a:b" from being taken for a scheme.
    link = "./" + quote(os.fsencode(name)) + end
    size = format_bytes(found.st_size) if is_file else ""
    time = datetime.fromtimestamp(found.st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
    text = html.escape(name) + end
    return f'<tr><td><a href="{link}">{text}</a></td><td>{size}</td><td>{time}</td></tr>'


_LISTING = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{place}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }}
td {{ padding-right: 2rem; font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
<h1>{place}</h1>
<table>
{rows}
</table>
</body>
</html>
"""
