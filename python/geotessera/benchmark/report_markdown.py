"""A report as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.benchmark.report import Heading, Items, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.benchmark.report import Block

__all__ = ["to_markdown"]


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown; figures are left out."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {text}")
            case Paragraph(text):
                parts.append(text)
            case Items(items):
                parts.append("\n".join(f"- {item}" for item in items))
            case Table(columns, rows):
                lines = [columns, ("---",) * len(columns), *rows]
                parts.append("\n".join(_line(cells) for cells in lines))
            case _:
                pass
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
