"""The data card of hard edits as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from reports.pages import hardcases as card
from reports.text import console as parts
from reports.text.console import Document

LISTED = 10


def render(document: Document) -> RenderableType:
    """Lays a ``diag.hardcases/1`` document out for ``rich``."""
    shown = card.view(document)
    tables = [
        parts.section(title, parts.table(head, rows[:LISTED]))
        for title, head, rows in shown["tables"]
    ]
    return parts.page(
        shown["headline"],
        parts.section("How it was made", parts.table(None, shown["facts"])),
        *tables,
        parts.section("Measured with", parts.dim("\n".join(shown["measured_with"]))),
    )


show = parts.showing(render)
