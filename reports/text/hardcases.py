"""The data card of hard edits as text in a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType

from reports.pages import hardcases as card
from reports.text import console as parts
from reports.text.console import Document

LISTED = 10


def show(document: Document, console: Console | None = None) -> None:
    """Prints a ``diag.hardcases/1`` document.

    Args:
        document: The card.
        console: Where to; standard output by default.
    """
    parts.show(render, document, console)


def render(document: Document) -> RenderableType:
    """Lays a ``diag.hardcases/1`` document out.

    Args:
        document: The card.

    Returns:
        Something ``rich`` prints.
    """
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
