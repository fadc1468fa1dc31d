"""A page out of its parts: escaped, deflated, in one file."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.remote.partfile import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["deflated", "is_page", "write_page"]

_MARK = b'<meta name="generator" content="geotessera">'

_FIELD = re.compile(r"\{\{(\w+)\}\}")
_SOURCE_MAP = re.compile(rb"\n//# sourceMappingURL=\S+\s*$")


def _text(name: str) -> str:
    return resources.files("geotessera.pages").joinpath(name).read_text(encoding="utf-8")


def _filled(template: str, fields: Mapping[str, str]) -> str:
    # In one pass: what is put in is not looked at again, whatever a title contains.
    return _FIELD.sub(lambda match: fields[match[1]], template)


def deflated(content: bytes, level: int = 9) -> str:
    """Return bytes as the pages unpack them: zlib, then base64."""
    return base64.b64encode(zlib.compress(content, level)).decode()


@functools.cache
def _library() -> dict[str, str]:
    parts = {}
    for part, name in (("code", "maplibre-gl.mjs"), ("worker", "maplibre-gl-worker.mjs")):
        content = resources.files("geotessera.pages").joinpath("vendor", name).read_bytes()
        # The map of the source is not there to be found.
        parts[f"maplibre-{part}"] = deflated(_SOURCE_MAP.sub(b"", content))
    return parts


def _json(value: Any) -> str:
    """Return JSON that may stand in a script element: nothing in it closes one."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(script: str, more: Mapping[str, str]) -> str:
    """Return the content security policy: this page's script, and nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}' blob:",
        "worker-src": "blob: data:",
        "style-src": "'unsafe-inline'",
        "img-src": "blob: data:",
        "connect-src": "blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for rule, allowed in more.items():
        rules[rule] += f" {allowed}"
    return "; ".join(f"{rule} {allowed}" for rule, allowed in rules.items())


def write_page(
    output_html: str | os.PathLike[str],
    kind: str,
    title: str,
    data: Mapping[str, Any],
    parts: Mapping[str, str],
    policy: Mapping[str, str] | None = None,
) -> Path:
    """Write a page in one piece: it is whole or not there.

    Parameters
    ----------
    output_html : path
        The file; its directory is made.
    kind : {"viewer", "globe"}
        Whose body and script.
    title : str
        Plain text.
    data : mapping
        What the script reads, as JSON.
    parts : mapping of str to str
        Larger data by element id, from `deflated`.
    policy : mapping, optional
        Additions to the page's content security policy, by directive.
    """
    script = "\n" + _text("assets/common.js") + _text(f"assets/{kind}.js") + "\n"
    # Who passes a page on passes on the library: its licence goes with it.
    licence = html.escape(_text("vendor/LICENSE.txt"), quote=False)
    blobs = "\n".join(
        f'<script type="text/plain" id="{html.escape(part)}">{content}</script>'
        for part, content in (_library() | dict(parts)).items()
    )
    fields = {
        "policy": _policy(script, policy or {}),
        "title": html.escape(title),
        "style": _text("vendor/maplibre-gl.css") + _text("assets/page.css"),
        "body": _filled(_text(f"assets/{kind}.html"), {"title": html.escape(title)}),
        "data": f'<script type="application/json" id="data">{_json(data)}</script>\n{blobs}\n'
        f'<script type="text/plain" id="maplibre-licence">\n{licence}</script>',
        "script": script[1:-1],  # the template's line breaks are part of the script
    }
    page = _filled(_text("assets/page.html"), fields)
    with atomic_path(output_html) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
    return Path(output_html)


def is_page(path: Path) -> bool:
    """Return whether a file is a page that was made here."""
    try:
        with path.open("rb") as file:
            return _MARK in file.read(1024)
    except OSError:
        return False
