"""The methods a document holds, in the table's order, each with its numbers in the one equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.numbers import counted, number, percent
from reports.tables.editors import UNKNOWN_COLOUR, UNKNOWN_MARKER
from reports.tables.verdicts import label
from rome_diagnosis.methods import METHODS, PARAMETERS, Method

Document = Mapping[str, Any]
# Groups of a screened data set, and the figures whose medians are shown.
PLACED = {"all": "all", "first": "looked up first", "later": "later"}
MEDIANS = {
    "relative_bound": "damage at most", "relative_bound_first_tokens": "at first tokens",
    "bare": "φ at the bare prompt", "prefixed": "φ after a prefix",
}  # fmt: skip
MEANING = (
    "Damage, in units of hidden states' norm, and φ, the share of the change that a prompt "
    "receives, are medians."
)
PLACES: Mapping[str, str] = {
    "bare": "bare prompt",
    "prefixed": "prefixed prompt",
    "other_first_tokens": "other first tokens",
    "later_tokens": "later tokens",
}


@dataclass(frozen=True)
class MethodRow:
    """One method of the family table.

    Attributes:
        name: Its name in documents.
        short: What it is called.
        note: What is particular to it; empty if unknown.
        metric: G as a formula; empty if unknown.
        matrix: M as a formula; empty if unknown.
        parameters: Its parameters in words, e.g. ``λ = 15,000``.
        condition: Condition number of M as text, or ``singular``.
        response: φ at each of :data:`PLACES`, as numbers.
        colour: ``#rrggbb``.
        marker: A matplotlib marker.
        is_chosen: Whether the document is about this method.
    """

    name: str
    short: str
    note: str
    metric: str
    matrix: str
    parameters: str
    condition: str
    response: Mapping[str, float | None]
    colour: str
    marker: str
    is_chosen: bool

    @property
    def shares(self) -> list[str]:
        """φ at each place, written."""
        return [percent(self.response.get(place)) for place in PLACES]


def rows(document: Document) -> list[MethodRow]:
    """The family table of a ``diag.batch/1`` document.

    Args:
        document: The document.

    Returns:
        A row for each method, those that this version does not know last.
    """
    given = {str(row["name"]): row for row in document["family"]}
    names = [name for name in METHODS if name in given] + [n for n in given if n not in METHODS]
    chosen = document["method"]["name"]
    return [_row(given[name], METHODS.get(name), name == chosen) for name in names]


def short(name: str) -> str:
    """What a method is called in figures and sentences."""
    return METHODS[name].short if name in METHODS else name


def parameters(values: Mapping[str, float]) -> str:
    """Parameters in words.

    Args:
        values: By name.

    Returns:
        E.g. ``λ = 15,000, λₙ = 20``; empty without any.
    """
    return ", ".join(f"{PARAMETERS.get(name, name)} = {number(v)}" for name, v in values.items())


def screened(document: Document) -> dict[str, Any] | None:
    """What a method would do with the edits of a screened data set.

    Args:
        document: A ``diag.screen/1`` document.

    Returns:
        ``id``, ``title``, ``head``, ``rows`` and ``told``; ``None`` where no method was asked for.
    """
    given = document.get("method")
    if given is None:
        return None
    name, groups = given["name"], given["groups"]
    called, tuned = short(name), parameters(given["parameters"])
    shown = {place: own for place in PLACED if (own := groups[place]["editors"].get(name))}
    verdicts = list(next(iter(shown.values()))["verdicts"]) if shown else []
    rows = [
        ("edits", *(number(groups[place]["n"]) for place in shown)),
        *(
            (label(verdict).text.lower(), *(number(own["verdicts"].get(verdict, 0))
                                            for own in shown.values()))
            for verdict in verdicts
        ),
        *(
            (what, *(percent((own[figure] or {}).get("median")) for own in shown.values()))
            for figure, what in MEDIANS.items()
        ),
    ]  # fmt: skip
    return {
        "id": "by-method",
        "title": f"With {called}, each edit by itself",
        "head": ("", *(PLACED[place] for place in shown)),
        "rows": rows,
        "told": [
            *([_faint(given)] if given["faint"] else []),
            f"{MEANING} {called}: {tuned}." if tuned else MEANING,
        ],
    }


def sentence(document: Document) -> str:
    """What a screened data set's method comes to, after a blank; empty without one.

    Args:
        document: A ``diag.screen/1`` document.
    """
    given = document.get("method")
    own = None if given is None else given["groups"]["all"]["editors"].get(given["name"])
    if given is None or own is None:
        return ""
    n, faint = given["groups"]["all"]["n"], given["faint"]
    take = "takes" if faint == 1 else "take"
    return (
        f" With {short(given['name'])} {number(own['verdicts'].get('collapse_risk', 0))} of "
        f"{counted(n, 'edit')} are a collapse risk, and {number(faint)} hardly {take}."
    )


def _faint(given: Document) -> str:
    n = given["groups"]["all"]["n"]
    return (
        f"{number(given['faint'])} of {counted(n, 'edit')} will hardly take at the bare prompt, "
        f"which receives less than {percent(given['faint_below'])} of the change."
    )


def _row(given: Document, known: Method | None, is_chosen: bool) -> MethodRow:
    rank = given["rank"]
    tuned = parameters(given["parameters"])
    if rank is not None:
        tuned += f"; rank {number(rank)}"
    condition = given["condition_number"]
    return MethodRow(
        name=given["name"],
        short=known.short if known else given["name"],
        note=known.note if known else "",
        metric=known.metric_formula if known else "",
        matrix=known.matrix_formula if known else "",
        parameters=tuned,
        condition="singular" if condition is None else number(condition),
        response=given["response"] or {},
        colour=known.colour if known else UNKNOWN_COLOUR,
        marker=known.marker if known else UNKNOWN_MARKER,
        is_chosen=is_chosen,
    )
