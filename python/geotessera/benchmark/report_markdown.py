"""A report as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geotessera.benchmark.report import Figure, Heading, Items, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.benchmark.report import Block

__all__ = ["to_markdown"]


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown; figures are left out, and what heads nothing else."""
    parts = []
    for block in _without_figures(blocks):
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
    return "\n\n".join(parts) + "\n"


def _without_figures(blocks: Sequence[Block]) -> list[Block]:
    kept: list[Block] = []
    for block in reversed([block for block in blocks if not isinstance(block, Figure)]):
        if isinstance(block, Heading):
            following = kept[-1] if kept else None
            if following is None:
                continue
            if isinstance(following, Heading) and following.level <= block.level:
                continue
        kept.append(block)
    return kept[::-1]


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
