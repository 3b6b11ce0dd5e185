"""The page of a sweep: which block is safe to edit, and where the attention sink is born."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import sweep as drawn
from reports.numbers import counted, number, percent
from reports.tables import editors, setup, verdicts

Document = Mapping[str, Any]
SINK = (
    "Block", "Stream at the first position", "at later ones", "ratio", "written by the MLP",
    "largest coordinates", "their share", "attention to the first",
)  # fmt: skip
MEASURES = ("Damage at most", "at first tokens", "at the bare prompt")


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.sweep/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    shown = editors.editors({name for row in document["layers"] for name in row["editors"]})
    return {
        "kind": "sweep", "d": document,
        "title": f"{document['request']['subject']} at {counted(len(document['layers']), 'block')}",
        "headline": document["summary"],
        "measures": MEASURES,
        "names": [editor.short for editor in shown],
        "rows": [(verdicts.label(row["verdict"]), cells(row, shown)) for row in document["layers"]],
        "figures": [
            (drawn.damage(document), "Damage at most, by the block that is edited."),
            (drawn.stream(document), "The residual stream that enters each block, averaged over "
                                     "contexts; where the lines part, the sink is born."),
        ] if figures else [],
        "sink_head": SINK,
        "sink_rows": sink_rows(document),
        "measured_with": setup.measured_with(document),
    }  # fmt: skip


def cells(row: Document, shown: list[editors.Shown]) -> list[str]:
    """One block's cells: the block, ρ, and :data:`MEASURES` of every editor.

    Args:
        row: One of the document's ``layers``.
        shown: The editors.

    Returns:
        Texts.
    """
    own = [row["editors"].get(editor.name) or {} for editor in shown]
    figures = ("relative_bound", "relative_bound_first_tokens", "bare")
    return [
        str(row["layer"]), number(row["ratio"]),
        *(percent(each.get(figure)) for figure in figures for each in own),
    ]  # fmt: skip


def sink_rows(document: Document) -> list[list[str]]:
    """The sink over depth, under :data:`SINK`."""
    return [
        [
            str(block["layer"]), number(block["norm_first"]), number(block["norm_later"]),
            number(block["norm_ratio"]), number(block["written"]),
            ", ".join(map(str, block["coordinates"])), percent(block["coordinates_share"]),
            percent(block["attention_to_first"]),
        ]
        for block in document["sink"]["blocks"]
    ]  # fmt: skip
