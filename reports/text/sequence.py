"""A list of edits as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.numbers import number
from reports.pages.sequence import perform
from reports.tables import sequence, setup, verdicts
from reports.text import console as parts
from reports.text.console import Document

LISTED = 10
MEASURED = ("Edits", "Perplexity", "All edits", "With prefix", "Other facts", "Damage", "Model")


def render(document: Document) -> RenderableType:
    """Lays a ``diag.sequence/1`` document out for ``rich``."""
    forecast, culprit = document["forecast"], sequence.culprit(document)
    dangerous, pairs = forecast["dangerous"], forecast["pairs"]
    return parts.page(
        sequence.headline(document),
        Text(culprit, style="red") if culprit else None,
        parts.section("What to do", *(f"• {sentence}" for sentence in document["advice"])),
        parts.section("How far the list gets", _reaches(document), parts.dim(
            forecast["not_checked"] or sequence.forgetting(document)
        )),
        parts.section("Edits dangerous alone", _dangerous(document)) if dangerous else None,
        parts.section("Pairs that write on each other's keys", _pairs(document)) if pairs else None,
        parts.section("Measured", _measured(document)),
        parts.section("Not in the list", _refused(document)) if document["refused"] else None,
        parts.section("Measured with", _measured_with(document)),
    )  # fmt: skip


show = parts.showing(render)


def _reaches(document: Document) -> RenderableType:
    head = [sequence.REACH_HEAD[0], *(f">{name.lower()}" for name in sequence.REACH_HEAD[1:])]
    return parts.table(head, sequence.reaches(document), gap=1)


def _dangerous(document: Document) -> RenderableType:
    by_index = {edit["index"]: edit for edit in document["edits"]}
    dangerous = document["forecast"]["dangerous"]
    rows = []
    for one in dangerous[:LISTED]:
        edit = by_index.get(one["index"])
        rows.append(
            (
                number(one["index"] + 1),
                parts.edited(edit) if edit else parts.shortened(one["subject"]),
                number(edit["rho"]) if edit else "–", sequence.alone(edit)[0] if edit else "–",
                verdicts.label(one["verdict"]).text.lower(),
            )
        )  # fmt: skip
    more = len(dangerous) - LISTED
    return parts.page(
        parts.table((">edit", "prompt", ">ρ", ">damage alone", "verdict"), rows),
        parts.dim(f"and {more:,} more") if more > 0 else None,
        parts.dim(line) if (line := sequence.two_limits(document)) else None,
    )


def _pairs(document: Document) -> RenderableType:
    lines = [
        f"edits {number(pair['earlier'] + 1)} and {number(pair['later'] + 1)}: {pair['reason']}"
        for pair in document["forecast"]["pairs"]
    ]
    return Text(parts.first_of(lines, LISTED))


def _measured(document: Document) -> RenderableType:
    if not document["checkpoints"]:
        return parts.dim(f"nothing was edited; to make the edits: {perform(document)}")
    at = [sequence.HEAD.index(name) for name in MEASURED]
    rows = [[row[i] for i in at] for row in sequence.checkpoints(document)]
    return parts.table([*(f">{name.lower()}" for name in MEASURED[:-1]), "model"], rows)


def _refused(document: Document) -> RenderableType:
    lines = [f"record {one['index'] + 1}: {one['reason']}" for one in document["refused"]]
    return Text(parts.first_of(lines, LISTED))


def _measured_with(document: Document) -> RenderableType:
    return parts.dim("\n".join([*setup.notes(document), *setup.measured_with(document)]))
