"""The page of many edits: distributions, groups beside one another, and the riskiest edits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reports.figures import many, projections
from reports.numbers import number, times
from reports.pages import edit as edit_page
from reports.tables.arms import ARMS, rows, sayings, share
from reports.tables.edits import Edit, edits
from reports.tables.groups import FIGURES, GROUPINGS
from reports.tables.terms import NAMES

Document = Mapping[str, Any]
LISTED = 500  # rows of the table: the riskiest; the rest is in the figures and in the saved result
LONGEST = 160  # characters of a subject or prompt in a row of the table


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """Everything the page of many edits shows.

    Args:
        document: ``diag.verify/1`` of a list, or ``diag.screen/1`` with its table as ``rows``.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    found = edits(document)
    made = document["schema"] == "diag.verify/1"
    collapse = float(document["settings"]["collapse_ratio"]) if made else None
    return {
        "kind": "many", "d": document, "made": made, "n": len(found),
        "title": f"{len(found):,} edits {'performed' if made else 'screened'}",
        "headline": _performed(document) if made else _screened(document),
        "counts": _counts(found),
        "figures": _figures(document, found, collapse) if figures else {},
        "groups": _groups(document) if made else [],
        "arm_names": ARMS, "names": NAMES,
        "told": document["summary"]["damage_against_perplexity"] if made else None,
        "listed": [_row(document, edit) for edit in found[:LISTED]],
        "refused": _refused(document, made),
        "verify_command": _verify_command(document),
    }  # fmt: skip


def _figures(document: Document, found: list[Edit], collapse: float | None) -> dict[str, Any]:
    limits = document.get("limits", {})
    return {
        "rho": many.ratio(found, limits),
        "damage": many.damage(found, limits),
        "plane": many.plane(found, limits),
        "perplexity": many.perplexity(found, collapse, limits) if collapse else None,
        "closed_form": many.closed_form(found) if collapse else None,
        "projections": projections.figures(
            document.get("projections"), projections.of_edits(document.get("edits", ()))
        ),
    }


def _performed(document: Document) -> str:
    summary = document["summary"]
    broken, rescue = summary["collapsed"], summary["rescue"]
    text = (
        f"ROME as published broke the model with {broken['rome']:,} of {summary['n']:,} edits, "
        f"C-ROME with {broken['c_rome']:,}, P-ROME with {broken['p_rome']:,}"
    )
    if rescue["n"]:
        worst = rescue["c_rome_ratio_max"]
        text += (
            f"; where ROME did, C-ROME raised perplexity by at most "
            f"{'more than can be written' if worst is None else times(worst)}"
        )
    return f"{text}."


def _screened(document: Document) -> str:
    verdicts = [row["verdict"] for row in document["rows"] if row["error"] is None]
    at_risk = verdicts.count("collapse_risk")
    name = document["dataset"]["name"] if "dataset" in document else document["table"]
    return (
        f"ROME as published can destroy the model with {at_risk:,} of {len(verdicts):,} edits "
        f"of {name}."
    )


def _counts(found: list[Edit]) -> list[tuple[str, str, int]]:
    """Verdicts or outcomes, by where the subject's last token stands."""
    made: dict[tuple[str, str], int] = {}
    for edit in found:
        key = (_label(edit), _class(edit))
        made[key] = made.get(key, 0) + 1
    order = ("collapse_risk", "unclear", "safe")
    return [
        (label, kind, n)
        for (label, kind), n in sorted(made.items(), key=lambda item: order.index(item[0][1]))
    ]


def _label(edit: Edit) -> str:
    if edit.collapsed is not None:
        return "Collapsed" if edit.collapsed else "Not collapsed"
    return edit_page.VERDICTS[str(edit.verdict)]


def _class(edit: Edit) -> str:
    if edit.collapsed is not None:
        return "collapse_risk" if edit.collapsed else "safe"
    return str(edit.verdict)


def _row(document: Document, edit: Edit) -> dict[str, Any]:
    before, after = edit.prompt.split("{}", 1)
    request = edit.source.get("request", {})
    about = {
        "model": document.get("model", {"name": "MODEL"}), "site": document.get("site") or
        {"layer": "LAYER"},
        "request": {"subject": edit.subject, "prompt": edit.prompt,
                    "target_new": request.get("target_new"),
                    "target_true": request.get("target_true")},
    }  # fmt: skip
    made = edit.collapsed is not None
    return {
        "edit": edit, "label": _label(edit), "class": _class(edit),
        "before": _short(before), "subject": _short(edit.subject), "after": _short(after),
        "whole": f"{before}{edit.subject}{after}", "target": request.get("target_new"),
        "ratio": "overflowed" if made and edit.ratio is None else times(edit.ratio),
        "ratio_value": 1e300 if made and edit.ratio is None else edit.ratio,
        "arm_rows": rows(edit.source) if made else [],
        "sayings": sayings(edit.source) if made else [],
        "command": edit_page.command(about, "diag.keys", "--html edit.html"),
    }  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _groups(document: Document) -> list[dict[str, Any]]:
    """One table for each way of grouping: figures down, arms of each group across."""
    made = []
    for by, groups in document["groups"].items():
        lines = []
        for name, figure, is_share in FIGURES:
            cells = [
                _figure(group["arms"][arm].get(figure), is_share)
                for group in groups
                for arm in ARMS
            ]
            if any(cell[0] != "–" for cell in cells):
                lines.append((name, cells))
        made.append({"title": GROUPINGS.get(by, by), "by": by, "groups": groups, "lines": lines})
    return made


def _figure(value: Any, is_share: bool) -> tuple[str, str]:
    """A mean and its interval, as text."""
    if not isinstance(value, Mapping):
        return number(value), ""
    write = share if is_share else number
    return write(value["mean"]), f"{write(value['low'])} to {write(value['high'])}"


def _refused(document: Document, made: bool) -> list[str]:
    if not made:
        return [f"row {row['row']}: {row['error']}" for row in document["rows"] if row["error"]]
    return [
        f"record {refused['index']}: {refused['reason']}" for refused in document["refused"]
    ] + [
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
