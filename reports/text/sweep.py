"""A sweep over blocks as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from reports.numbers import number, percent
from reports.pages.sweep import cells
from reports.tables import editors, setup, verdicts
from reports.text import console as parts
from reports.text.console import Document


def render(document: Document) -> RenderableType:
    """Lays a ``diag.sweep/1`` document out for ``rich``."""
    shown = editors.editors({name for row in document["layers"] for name in row["editors"]})
    return parts.page(
        parts.edited(document["request"]),
        parts.indented(document["summary"]),
        parts.section("Damage at most", _blocks(document, shown, 0)),
        parts.section("… at first tokens", _blocks(document, shown, 1)),
        parts.section(
            "Share of the change that the bare prompt receives", _blocks(document, shown, 2)
        ),
        parts.section("The first position over depth", _sink(document)),
        parts.section("Measured with", *setup.measured_with(document)),
    )


show = parts.showing(render)


def _blocks(document: Document, shown: list[editors.Shown], figure: int) -> RenderableType:
    """One figure of every editor, block by block."""
    rows: list[tuple[RenderableType, ...]] = []
    for row in document["layers"]:
        block, rho, *figures = cells(row, shown)
        own = figures[figure * len(shown) : (figure + 1) * len(shown)]
        rows.append((parts.badge(verdicts.label(row["verdict"])), block, rho, *own))
    return parts.table(("", ">block", ">ρ", *(f">{editor.short}" for editor in shown)), rows)


def _sink(document: Document) -> RenderableType:
    rows = [
        (
            str(block["layer"]), number(block["norm_first"]), number(block["norm_later"]),
            ", ".join(map(str, block["coordinates"])), percent(block["coordinates_share"]),
            percent(block["attention_to_first"]),
        )
        for block in document["sink"]["blocks"]
    ]  # fmt: skip
    titles = ("block", "stream", "later", "largest coordinates", "their share", "attention to it")
    return parts.table(tuple(f">{title}" for title in titles), rows)
