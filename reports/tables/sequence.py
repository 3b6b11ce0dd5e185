"""Sentences and rows about a list of edits that text, Markdown and pages share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.numbers import at_most, counted, number, percent, share, times
from reports.tables import editors
from reports.tables.methods import parameters
from reports.tables.verdicts import label
from rome_diagnosis.methods import METHODS, Method

Document = Mapping[str, Any]
Row = tuple[str, ...]
HEAD = (
    "Edits", "Perplexity", "95\u00a0% interval", "Latest", "All edits", "With prefix", "Neighbours",
    "Other facts", "Damage", "On the texts", "‖ΔW‖/‖W‖", "σ₁/σ₁", "Model",
)  # fmt: skip
REACH_HEAD = ("", "Edits", "Dangerous alone", "Harm at edit", "Collapse at edit",
              "Damage at the end", "At first tokens")  # fmt: skip


def shown(name: str) -> Method | editors.Shown:
    """How a method is shown, whatever a document calls it."""
    return METHODS.get(name) or editors.editor(name)


def pace(document: Document) -> str:
    """How many edits are made together, in words."""
    batch = document.get("batch", 1)
    return "one after another" if batch == 1 else f"{number(batch)} at a time"


# A table of rows counts from 0 as Parquet does, a list of edits from 1 as people do.
COUNTED = "Edit 1 is row 0 of the table, edit 2 row 1, and so on."


def headline(document: Document) -> str:
    """What the list will do, or did."""
    n, method = len(document["edits"]), shown(document["method"])
    forecast, performance = document["forecast"], document["performance"]
    tuned = parameters(document.get("parameters", {}))
    sentence = f"{counted(n, 'edit')} of {document['dataset']['name']} with {method.label}"
    sentence += f" ({tuned})" if tuned else ""
    sentence += f", {pace(document)}: " if tuned or document.get("batch", 1) > 1 else ": "
    if forecast["not_checked"] is not None:
        sentence += "the damage of the list could not be forecast"
    elif forecast["collapse_at"] is None:
        sentence += "the list is not forecast to break the model"
        if forecast.get("harm_at") is not None:
            sentence += f", but to cost it other facts once {_made(forecast['harm_at'])}"
    else:
        sentence += f"the model is forecast to break once {_made(forecast['collapse_at'])}"
        sentence += _between(forecast["collapse_between"])
    if performance is None:
        return sentence + "."
    at = document["collapse_at"]
    done = (
        f"; {number(performance['made'])} {'was' if performance['made'] == 1 else 'were'} made and "
    )
    if at is not None:
        return f"{sentence}{done}it had broken after {number(at)}."
    last = document["checkpoints"][-1]["outcome"] if document["checkpoints"] else "intact"
    return sentence + done + ("it did not." if last == "intact" else f"the model was {last}.")


def _made(edits: int) -> str:
    """How many edits have been made: a number of edits, where "edit 3" is the third of the file."""
    return f"{counted(edits, 'edit')} {'is' if edits == 1 else 'are'} made"


def _between(ends: list[int | None]) -> str:
    early, late = ends
    if early is None or early == late:
        return ""
    if late is None:
        return f" ({number(early)} at the earliest, or never)"
    return f" (between {number(early)} and {number(late)})"


def culprit(document: Document) -> str | None:
    """Which edit broke the model; ``None`` where none did or nothing was edited."""
    performance = document["performance"]
    culprit = performance and performance["culprit"]
    if not culprit:
        return None
    which = f"Edit {number(culprit['index'] + 1)} ({culprit['subject']})"
    size = (
        ""
        if culprit["damage"] is None
        else f"; as it was made it does {percent(culprit['damage'])}"
    )
    if culprit["alone"]:
        return f"{which} broke it{size}, which breaks the unedited model by itself."
    return f"{which} was the last of many{size}: the list broke the model, not one edit."


def two_limits(document: Document) -> str | None:
    """Why one edit is held against another limit than a list; ``None`` in older documents."""
    limits = document["limits"]
    if not {"damage_collapse", "sequence_collapse"} <= set(limits):
        return None
    one, many = (percent(limits[f"{of}_collapse"]) for of in ("damage", "sequence"))
    return (
        f"One edit alone is held against {one}, a list against {many}: one edit changes hidden "
        "states in one direction, many in many, which costs more; each is where performed models "
        "collapsed."
    )


def reaches(document: Document) -> list[Row]:
    """How far the list gets: with each editor, without its dangerous edits, and repaired."""
    forecast = document["forecast"]
    rows = reaches_by_editor(document)
    short = shown(document["method"]).short
    if forecast["dangerous"]:
        rows.append(_reach(f"{short} without those", forecast["without_dangerous"], "0"))
        if forecast["with_remedy"] is not None:
            remedy = editors.editor(forecast["remedy"]).short
            rows.append(_reach(f"{short}, those by {remedy}", forecast["with_remedy"], "–"))
    return rows


def reaches_by_editor(forecast: Document) -> list[Row]:
    """How far a list gets with each editor: of a forecast, or of a screened data set's."""
    return [
        _reach(shown(name).short, reach, number(reach["n_dangerous"]))
        for name, reach in forecast["editors"].items()
    ]


def in_order(screened: Document) -> dict[str, Any] | None:
    """A screened data set as a list: rows under :data:`REACH_HEAD`, and sentences.

    Args:
        screened: A ``diag.screen/1`` document.

    Returns:
        ``id``, ``title``, ``head``, ``rows``, ``told``; ``None`` where the list was not forecast.
    """
    listed = screened.get("in_order")
    if listed is None:
        return None
    why_not = listed["not_checked"]
    return {
        "id": "in-order",
        "title": "One after another, in this order",
        "head": REACH_HEAD,
        "rows": reaches_by_editor(listed),
        "told": [*listed["advice"], COUNTED] if why_not is None else [why_not],
    }


def _reach(name: str, reach: Document, dangerous: str) -> Row:
    return (
        name, number(reach["edits"]), dangerous, number(reach["harm_at"]),
        number(reach["collapse_at"]), percent(reach["damage"]), percent(reach["first_tokens"]),
    )  # fmt: skip


def alone(edit: Document) -> tuple[str, str]:
    """What one edit of a list does by itself, over the corpus and at first tokens.

    Args:
        edit: One of the document's ``edits``.

    Returns:
        Both, with the bound where less is expected.
    """
    share = edit.get("expected_share", 1.0)
    corpus, first = (
        at_most(bound, None if bound is None or share >= 1.0 else share * bound)
        for bound in (edit["damage"], edit["first_tokens"])
    )
    return corpus, first


def forgetting(document: Document) -> str:
    """What later edits are expected to do to earlier ones."""
    lost = document["forecast"]["forgetting"]
    return (
        f"Later edits are expected to add {percent(lost['median'])} of what an edit wrote at its "
        f"own key (median); {number(lost['n_lost'])} of {counted(lost['n'], 'edit')} receive "
        "as much again or more."
    )


def checkpoints(document: Document) -> list[Row]:
    """What was measured, one row a checkpoint; columns :data:`HEAD`."""
    return [
        (
            number(point["edits"]), times(point["ratio"]), _interval(point["ratio_interval"]),
            share(point["efficacy"]), share(point["efficacy_all"]),
            share(point["efficacy_prefixed"]), share(point["locality"]),
            share(point["recall"]), percent(point["damage_predicted"]),
            percent(point["damage_measured"]), number(point["weight_norm_ratio"]),
            times(point["top_singular_value"]), label(point["outcome"]).text.lower(),
        )
        for point in document["checkpoints"]
    ]  # fmt: skip


def _interval(ends: list[float] | None) -> str:
    return "–" if ends is None else " to ".join(times(end).removesuffix("×") for end in ends)
