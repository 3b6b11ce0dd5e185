"""The methods a document holds, in the table's order, each with its numbers in the one equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.numbers import number, percent
from reports.tables.editors import UNKNOWN_COLOUR, UNKNOWN_MARKER
from rome_diagnosis.methods import METHODS, PARAMETERS, Method

Document = Mapping[str, Any]
PLACES: Mapping[str, str] = {
    "bare": "bare prompt",
    "prefixed": "prefixed prompt",
    "other_first_tokens": "other first tokens",
    "later_tokens": "later tokens",
}


@dataclass(frozen=True)
class Row:
    """One method of the family table.

    Attributes:
        name: Its name in documents.
        short: What it is called.
        note: What is particular to it; empty if unknown.
        metric: G as a formula; empty if unknown.
        matrix: M as a formula; empty if unknown.
        parameters: Its parameters in words, e.g. ``λ = 15,000``.
        condition: Of M, or that it is singular.
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


def rows(document: Document) -> list[Row]:
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


def _row(given: Document, known: Method | None, is_chosen: bool) -> Row:
    rank = given["rank"]
    tuned = parameters(given["parameters"])
    if rank is not None:
        tuned += f"; rank {number(rank)}"
    condition = given["condition_number"]
    return Row(
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
