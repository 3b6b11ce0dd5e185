"""The page of many edits: distributions, groups side by side, and the riskiest edits."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures import many, projections, surrogate
from reports.numbers import counted, number, percent
from reports.pages import edit as edit_page
from reports.tables import arms, editors, groups, methods, sequence, setup, verdicts
from reports.tables.edits import Edit, denominators, edits
from rome_diagnosis.editors import PUBLISHED, REMEDY

Document = Mapping[str, Any]
LISTED = 500  # rows of the table: the riskiest; the rest is in the figures and in the saved result
LONGEST = 160  # characters of a subject or prompt in a row of the table
MADE = "What became of the model: the edits were not made"
BEYOND = 1e300  # what a perplexity beyond all numbers sorts as


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """Everything the page of many edits shows.

    Args:
        document: ``diag.verify/1`` of a list, or ``diag.screen/1`` with its table as ``rows``.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    listed = edits(document)
    performed = document["schema"] == "diag.verify/1"
    collapse = float(document["settings"]["collapse_ratio"]) if performed else None
    return {
        "kind": "many", "d": document, "performed": performed, "n": len(listed),
        "title": f"{counted(len(listed), 'edit')} {'performed' if performed else 'screened'}",
        "headline": performed_sentence(document) if performed else (
            screened_sentence(document) + methods.sentence(document)
        ),
        "counts": _counts(listed),
        "figures": _figures(document, listed, collapse) if figures else {},
        "groups": grouped(document) if performed else [],
        "published": editors.editor(PUBLISHED),
        "arms": editors.arms(listed[0].source["arms"]) if performed and listed else [],
        "predictive": groups.predictive(document["summary"]) if performed else None,
        "listed": [_row(document, each) for each in listed[:LISTED]],
        "refused": refused(document),
        "beside": beside(document),
        "notes": setup.notes(document),
        "expected": any(each.expected is not None for each in listed),
        "first_tokens": any(each.predicted_first is not None for each in listed),
        "measured_with": setup.measured_with(document) if "model" in document else [],
        "unmeasured": [] if performed else [(MADE, _verify_command(document))],
    }  # fmt: skip


def _figures(document: Document, listed: list[Edit], collapse: float | None) -> dict[str, Any]:
    limits = document.get("limits", {})
    return {
        "rho": many.ratio(listed, limits),
        "damage": many.damage(listed, limits),
        "plane": many.plane(listed, limits),
        "perplexity": many.perplexity(listed, collapse, limits) if collapse else None,
        "closed_form": many.closed_form(listed) if collapse else None,
        "tasks": surrogate.tasks(held) if (held := _held(document)) else None,
        "projections": projections.figures(
            document.get("projections"), projections.of_edits(document.get("edits", ()))
        ),
    }


def _held(document: Document) -> Document | None:
    """How perplexity goes with downstream tasks, where these were asked."""
    return (document.get("summary") or {}).get("surrogate")


def beside(document: Document) -> list[dict[str, Any]]:
    """Tables that a screened data set has where they were asked for."""
    return [table for of in (methods.screened, sequence.in_order) if (table := of(document))]


def performed_sentence(document: Document) -> str:
    """How many edits broke the model with each editor, and what the remedy did to those."""
    summary = document["summary"]
    n, broken, rescue = summary["n"], summary["collapsed"], summary["rescue"]
    text = f"Of {counted(n, 'edit')}, {_each(broken, 'broke the model')}"
    outcomes = summary.get("outcomes") or {}
    damaged = {name: counts.get("damaged", 0) for name, counts in outcomes.items()}
    if any(damaged.values()):
        text += f"; {_each(damaged, 'damaged it')}"
    worst = rescue.get(f"{REMEDY}_ratio_max")
    if rescue["n"]:
        published, remedy = (editors.editor(name).short for name in (PUBLISHED, REMEDY))
        text += (
            f"; where {published} did, {remedy} changed perplexity by a factor of at most "
            f"{arms.factor(worst)}"
        )
    return f"{text}."


def _each(counts: Mapping[str, int], what: str) -> str:
    """How many edits did something, with each editor."""
    first, *others = editors.unprefixed(counts)
    text = f"{number(counts[first.name])} {what} with {first.short}"
    return text + "".join(f", {number(counts[arm.name])} with {arm.short}" for arm in others)


def screened_sentence(document: Document) -> str:
    """How many edits of a data set are at risk."""
    judged = [row["verdict"] for row in document["rows"] if row["error"] is None]
    name = document["dataset"]["name"] if "dataset" in document else document["table"]
    return at_risk(judged.count("collapse_risk"), len(judged), name)


def at_risk(n: int, of: int, name: str) -> str:
    """How many edits of a data set can destroy the model.

    Args:
        n: Number of edits that can.
        of: Number of all edits.
        name: The data set's name.

    Returns:
        A sentence.
    """
    share = f" ({percent(n / of)})" if of else ""
    published = editors.editor(PUBLISHED).label
    return f"{published} can destroy the model with {n:,} of {of:,} edits{share} of {name}."


def _counts(listed: Sequence[Edit]) -> list[tuple[verdicts.Label, int]]:
    """Verdicts or outcomes, the worst first."""
    counts = Counter(edit.label for edit in listed)
    return sorted(counts.items(), key=lambda item: verdicts.severity(item[0].name))


def _row(document: Document, edit: Edit) -> dict[str, Any]:
    before, after = edit.prompt.split("{}", 1)
    request = edit.source.get("request", {})
    about = {
        "model": document.get("model", {"name": "MODEL"}),
        "site": document.get("site") or {"layer": "LAYER"},
        "request": {
            "subject": edit.subject,
            "prompt": edit.prompt,
            "target_new": request.get("target_new"),
            "target_true": request.get("target_true"),
        },
    }
    return {
        "edit": edit,
        "before": _short(before), "subject": _short(edit.subject), "after": _short(after),
        "target": request.get("target_new"),
        "ratio": arms.factor(edit.ratio) if edit.performed else "",
        "ratio_value": BEYOND if edit.performed and edit.ratio is None else edit.ratio,
        "arms": editors.arms(edit.source["arms"]) if edit.performed else [],
        "arm_rows": arms.rows(edit.source) if edit.performed else [],
        "generated": arms.generated(edit.source) if edit.performed else [],
        "denominators": [] if edit.performed else denominators(edit.source),
        "command": edit_page.command(about, "diag.keys", "--html edit.html"),
    }  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def grouped(document: Document, *, between: str = " to ") -> list[dict[str, Any]]:
    """One table for each way of grouping: figures down, arms of each group across.

    Args:
        document: A ``diag.verify/1`` document of a list.
        between: What separates the ends of an interval.

    Returns:
        For each way its title, groups, arms and rows.
    """
    tables = []
    for by, members in document["groups"].items():
        shown = groups.arms(members)
        tables.append(
            {"title": groups.GROUPINGS.get(by, by), "groups": members, "arms": shown,
             "rows": groups.rows(members, shown, between=between)}
        )  # fmt: skip
    return tables


def refused(document: Document) -> list[str]:
    """What could not be measured, with the reason.

    Args:
        document: As for :func:`view`.

    Returns:
        A line for each.
    """
    if document["schema"] != "diag.verify/1":
        return [f"row {row['row']}: {row['error']}" for row in document["rows"] if row["error"]]
    return [f"record {row['index'] + 1}: {row['reason']}" for row in document["refused"]] + [
        f"{edit['request']['subject']}: {edit['error']}"
        for edit in document["edits"]
        if "error" in edit
    ]


def _verify_command(document: Document) -> str:
    name, first = document.get("riskiest_file"), ""
    if not name:
        name = "riskiest.jsonl"
        if document.get("command"):
            first = f"{document['command']} --riskiest {name}\n"
    return f"{first}python -m diag.verify --edits {shlex.quote(name)} --json verify.json"
