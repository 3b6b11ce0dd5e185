"""A model that was edited and saved, as text in a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType

from reports.numbers import number, percent, times
from reports.text import console as parts
from reports.text.console import Document
from rome_diagnosis.editors import EDITORS

SHOWN = 20


def show(document: Document, console: Console | None = None) -> None:
    """Prints a ``diag.apply/1`` document.

    Args:
        document: The record of edits.
        console: Where to; standard output by default.
    """
    parts.show(render, document, console)


def render(document: Document) -> RenderableType:
    """Lays a ``diag.apply/1`` document out.

    Args:
        document: The record of edits.

    Returns:
        Something ``rich`` prints.
    """
    rows = []
    for edit in document["edits"][:SHOWN]:
        request = edit["request"]
        short = EDITORS[edit["editor"]].short if edit["editor"] in EDITORS else edit["editor"]
        after = edit.get("after")
        rows.append(
            (
                f"{request['prompt'].replace('{}', request['subject'])} … {request['target_new']}",
                short,
                "–" if after is None else _change(after["bare"]),
                "–" if after is None else _change(after["prefixed"]),
                "a prefix before the prompt" if edit["needs_prefix"] else "",
            )
        )
    ratio, recall = document["perplexity"]["ratio"], document["recall"]
    lines = [
        f"The model is {document['outcome']}: perplexity "
        f"{'overflowed' if ratio is None else times(ratio)} of before"
        + (f", {percent(recall['after'])} of other facts recalled." if recall else "."),
        f"{document['weight']} changed by {percent(document['relative_norm'])} of its norm.",
    ]
    head = ("edit", "editor", "P bare", f"P after {document['prefix']!r}", "needs")
    return parts.page(*lines, parts.table(head, rows))


def _change(efficacy: Document) -> str:
    return f"{number(efficacy['p_before'])} → {number(efficacy['p_after'])}"
