"""The parts of a plain page: a heading over sentences, tables and figures.

What a page of this kind shows is said once, for HTML, Markdown and a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.figures.canvas import Drawing
from reports.marked import heading, line, repeat, table
from reports.tables import setup


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        id: Its anchor on the page.
        title: Its heading.
        sentences: Text before the table.
        head: Titles of the table's columns, the first of texts and the others of figures.
        rows: The table's cells.
        figures: Drawings, each with its caption.
    """

    id: str
    title: str
    sentences: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Sequence[tuple[Drawing | None, str]] = ()


def view(
    document: Mapping[str, Any], title: str, headline: str, sections: Sequence[Section]
) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: The document.
        title: The page's title.
        headline: What it says, in a few sentences.
        sections: Its parts.

    Returns:
        The template's values.
    """
    return {
        "kind": "sections", "d": document, "title": title, "headline": headline,
        "notes": setup.notes(document), "sections": sections,
        "measured_with": setup.measured_with(document),
    }  # fmt: skip


def markdown(shown: dict[str, Any]) -> list[str]:
    """The page as Markdown.

    Args:
        shown: The template's values, from :func:`view`.

    Returns:
        Lines.
    """
    lines = [*heading(1, shown["title"]), line(shown["headline"]), ""]
    for section in shown["sections"]:
        lines += heading(2, section.title)
        for sentence in section.sentences:
            lines += [line(sentence), ""]
        lines += table(section.head, section.rows) if section.rows else []
    return lines + repeat([shown["d"]], shown)
