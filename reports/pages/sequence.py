"""The page of a list of edits: damage, perplexity and efficacy over edits, culprits, a table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reports.figures import sequence as figures_of
from reports.numbers import counted
from reports.pages.many import MADE
from reports.tables import sequence, setup, verdicts

Document = Mapping[str, Any]
LISTED = 500  # rows of the table of edits
DANGEROUS = 50  # listed by name
LONGEST = 160  # characters of a subject or prompt in a row


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """Everything the page shows.

    Args:
        document: A ``diag.sequence/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    edits, forecast = document["edits"], document["forecast"]
    culprit = (document["performance"] or {}).get("culprit")
    return {
        "kind": "sequence", "d": document, "f": forecast,
        "title": f"{counted(len(edits), 'edit')} {sequence.pace(document)}",
        "headline": sequence.headline(document),
        "culprit": sequence.culprit(document),
        "method": sequence.shown(document["method"]),
        "figures": {
            "damage": figures_of.damage(document),
            "perplexity": figures_of.perplexity(document),
            "efficacy": figures_of.efficacy(document),
            "tasks": figures_of.tasks(document),
        } if figures else {},
        "reach_head": sequence.REACH_HEAD, "reaches": sequence.reaches(document),
        "forgetting": sequence.forgetting(document),
        "two_limits": sequence.two_limits(document),
        "dangerous": forecast["dangerous"][:DANGEROUS],
        "more_dangerous": max(0, len(forecast["dangerous"]) - DANGEROUS),
        "advice": document["advice"],
        "head": sequence.HEAD, "checkpoints": sequence.checkpoints(document),
        "texts": [(point["edits"], point["text"]) for point in document["checkpoints"]],
        "rows": [_row(edit, place, culprit) for place, edit in enumerate(edits[:LISTED], 1)],
        "n": len(edits),
        "refused": [f"record {one['index'] + 1}: {one['reason']}" for one in document["refused"]],
        "notes": setup.notes(document),
        "measured_with": setup.measured_with(document),
        "unmeasured": [] if document["checkpoints"] else [(MADE, perform(document))],
    }  # fmt: skip


def perform(document: Document) -> str:
    """The command that makes the edits."""
    if document["command"]:
        return f"{document['command']} --perform"
    words = ["python", "-m", "diag.sequence", document["dataset"]["name"], "--perform"]
    words += ["--method", document["method"], "--order", document["order"]]
    if document.get("batch", 1) > 1:
        words += ["--batch", str(document["batch"])]
    for name, value in document.get("parameters", {}).items():
        words += [f"--{name}", f"{value:g}"]
    return shlex.join(words)


def _row(edit: Document, place: int, culprit: Document | None) -> dict[str, Any]:
    before, after = edit["prompt"].split("{}", 1)
    return {
        "edit": {"response": None, **edit}, "place": place,
        "before": _short(before), "subject": _short(edit["subject"]),
        "after": _short(after), "alone": sequence.alone(edit),
        "label": verdicts.label(edit["verdict"]),
        "culprit": culprit is not None and culprit["index"] == edit["index"],
    }  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
