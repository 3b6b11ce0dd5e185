"""A batch of edits as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.numbers import counted
from reports.pages import batch as page
from reports.tables import methods, setup, verdicts
from reports.text import console as parts
from reports.text.console import Document

LISTED = 10
PROMPT = 28  # characters of a prompt


def render(document: Document) -> RenderableType:
    """Lays a ``diag.batch/1`` document out for ``rich``."""
    title = Text.assemble(
        parts.badge(verdicts.label(str(document["verdict"]))), "  ", page.title(document)
    )
    pairs = page.pairs(document)
    return parts.page(
        title,
        "",
        parts.section("What was checked", _findings(document)),
        parts.section("The family: ΔWᵀ = R M⁻¹ KᵀG, and φ by method", _family(document)),
        parts.section("Pairs that disturb one another", _pairs(pairs, document["n_pairs"]))
        if pairs
        else None,
        parts.section("Edits that receive least", _edits(document)),
        parts.section("What became of the model", *_performed(document))
        if "performed" in document
        else None,
        parts.section("Measured with", parts.dim(_measured_with(document))),
    )


show = parts.showing(render)


def _findings(document: Document) -> RenderableType:
    rows = [
        (Text(f.status, style=parts.STYLES[f.style]), Text(f.message))
        for f in verdicts.findings(document)
    ]
    return parts.table(None, rows)


def _family(document: Document) -> RenderableType:
    rows: list[tuple[RenderableType, ...]] = [
        (
            Text(row.short, style="bold" if row.is_chosen else ""),
            row.parameters, row.condition, *row.shares,
        )
        for row in methods.rows(document)
    ]  # fmt: skip
    places = [f">φ {place}" for place in ("bare", "prefixed", "first", "later")]
    return parts.table(("", "with", ">cond M", *places), rows, gap=1)


def _pairs(pairs: list[tuple[str, str, str]], n: int) -> RenderableType:
    more = [(f"and {n - LISTED:,} more", "", "")] if n > LISTED else []
    return parts.table(("", "why", ">cosine"), [*pairs[:LISTED], *more])


def _edits(document: Document) -> RenderableType:
    done = "performed" in document
    rows = []
    for row in page.edits(document)[:LISTED]:
        prompt = parts.shortened(f"{row['before']}{row['subject']}{row['after']}", PROMPT)
        cells = (prompt, row["first"], row["bare"], row["prefixed"])
        rows.append((*cells, row["received"], row["p_bare"], row["p_prefixed"]) if done else cells)
    measured = (">did", ">P bare", ">prefixed") if done else ()
    head = ("prompt", "first", ">bare receives", ">prefixed", *measured)
    return parts.table(head, rows, gap=1)


def _performed(document: Document) -> list[RenderableType]:
    results = document["performed"]
    outcome = parts.badge(verdicts.label(str(results["outcome"])))
    return [
        outcome,
        *([results["prediction"]] if "prediction" in results else []),
        *(Text(reason) for reason in results["outcome_reasons"]),
        parts.table(None, page.performed(document)),
        parts.table(
            ("", ">succeed", ">P(new)", ">paraphrases", ">neighbours kept"),
            page.wordings(document),
        ),
        parts.table(
            (
                "block", ">residual", ">φ bare", ">‖ΔW‖/‖W‖", ">damage, closed form",
                ">measured",
            ),
            page.written(document),
        ),
    ]  # fmt: skip


def _measured_with(document: Document) -> str:
    command = [document["command"]] if document["command"] else []
    refused = len(document["refused"])
    none = "is no edit" if refused == 1 else "are no edits"
    lines = [f"{counted(refused, 'record')} {none}"] if refused else []
    return "\n".join([*lines, *setup.notes(document), *page.measured_with(document), *command])
