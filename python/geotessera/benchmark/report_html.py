"""A report as one HTML page that needs nothing else: no script, no font, no picture."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from geotessera.benchmark.plots import STYLE
from geotessera.benchmark.report import Figure, Heading, Items, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.benchmark.report import Block

__all__ = ["to_html"]

PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1c2321; --quiet: #5f6b68; --line: #d9dedc;
  --paper: #ffffff; --met: #0b7a75; --missed: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eae8; --quiet: #9aa5a1;
  --line: #3a4340; --paper: #151a18; --met: #4cc2b8; --missed: #f28b82; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 3px 12px 3px 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; }
.met { color: var(--met); } .missed { color: var(--missed); font-weight: 600; }
figure { margin: 1.2rem 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
"""


def to_html(blocks: Sequence[Block]) -> str:
    """Return blocks as a page; it is well-formed XML, too."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}{STYLE}</style></head>\n<body>\n"
        + "\n".join(_block(block) for block in blocks)
        + "\n</body></html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Items(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Figure(svg, caption):
            return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        case Table(columns, rows):
            head = "".join(f"<th>{escape(name)}</th>" for name in columns)
            body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
            return (
                f'<div class="table"><table><thead><tr>{head}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>"
            )


def _cell(text: str) -> str:
    style = f' class="{text}"' if text in ("met", "missed") else ""
    return f"<td{style}>{escape(text)}</td>"
