"""A model that was edited and saved, as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from reports.pages import apply as page
from reports.tables import setup
from reports.text import console as parts
from reports.text.console import Document

SHOWN = 20
WIDEST = 64  # characters of what the model says
COLUMNS = {0: "edit", 1: "made with", 2: ">P(new), bare", 3: ">after a prefix"}


def render(document: Document) -> RenderableType:
    """Lays a ``diag.apply/1`` document out for ``rich``."""
    edits = document["edits"]
    rows = [page.row(edit) for edit in edits[:SHOWN]]
    more = len(edits) - SHOWN
    return parts.page(
        page.headline(document),
        *document["outcome_reasons"],
        parts.table([*COLUMNS.values()], [[row[i] for i in COLUMNS] for row in rows]),
        parts.dim(f"and {more:,} more") if more > 0 else None,
        page.remarks(document),
        parts.section("What the model says", *_says(document)) if edits[0].get("says") else None,
        parts.dim(f"\nto take it back: {page.UNDO}"),
        parts.section("Measured with", *setup.measured_with(document)),
    )


show = parts.showing(render)


def _says(document: Document) -> list[str]:
    lines = []
    for _, prefix, prompt, before, after in page.says(document)[:SHOWN]:
        lines += [
            f"{prefix}{prompt} …",
            f"  before  {parts.shortened(before, WIDEST)}",
            f"  now     {parts.shortened(after, WIDEST)}",
        ]
    return lines
