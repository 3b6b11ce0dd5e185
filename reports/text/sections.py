"""A plain page as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from reports.pages.page import view
from reports.text import console as parts
from reports.text.console import Document

LONGEST = 28  # characters of what a row is about


def render(document: Document) -> RenderableType:
    """Lays a document whose page is made of sections out for ``rich``."""
    shown = view(document, figures=False)
    return parts.page(
        parts.indented(shown["title"]),
        parts.indented(shown["headline"]),
        *(
            parts.section(
                section.title,
                *section.sentences,
                parts.table(
                    [section.head[0], *(f">{name}" for name in section.head[1:])],
                    [(parts.shortened(row[0], LONGEST), *row[1:]) for row in section.rows],
                    gap=1,
                )
                if section.rows
                else None,
            )
            for section in shown["sections"]
        ),
        parts.section("Measured with", *shown["measured_with"]),
    )


show = parts.showing(render)
