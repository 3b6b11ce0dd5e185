"""The page that holds perplexity and closed-form damage against downstream tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import surrogate as drawn
from reports.numbers import counted, fixed, number, percent, times
from reports.pages.parts.sections import Section
from reports.pages.parts.sections import view as page
from reports.tables import editors
from reports.tables.surrogate import in_points, onset, silence

Document = Mapping[str, Any]
PREDICTORS = {
    "ratio": "Perplexity ratio",
    "damage": "Damage, corpus tokens",
    "damage_first_tokens": "Damage, first tokens",
}
SHOWN = 20  # silent edits that are listed


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.surrogate/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    points = document["points"]
    return page(
        document,
        title=f"Perplexity held against tasks, {counted(len(points), 'edited model')}",
        headline=f"{onset(document)} {silence(document)}",
        sections=[
            Section(
                "relation", "How they go together", [RULE],
                ("Predictor", "models", "Spearman", "Pearson", "AUC"),
                together(document),
                [
                    (drawn.tasks(document), "Perplexity against the mean score of all tasks."),
                    (drawn.damage(document), "Damage in closed form, over corpus tokens."),
                    (drawn.first_tokens(document), "Damage in closed form, at first tokens."),
                ] if figures else [],
            ),
            Section(
                "tasks", "Task by task", ["Spearman's rank correlation."],
                ("Task", *PREDICTORS.values()), by_task(document),
            ),
            Section(
                "silent", "Where perplexity is silent and tasks are not", [silence(document)],
                ("Edit", "editor", "perplexity", "damage", "first tokens", "points"),
                [_row(points[i]) for i in document["silent"][:SHOWN]],
            ),
        ],
    )  # fmt: skip


RULE = (
    "Logarithms of the predictors against the change of the score; 95 % intervals over draws of "
    "edits, all editors of an edit and all steps of a list together. AUC: the chance that a model "
    "whose tasks suffered has more of it than one whose did not."
)


def together(document: Document) -> list[tuple[str, ...]]:
    """A row for each predictor against the mean score over tasks."""
    rows = []
    for name, title in PREDICTORS.items():
        relation = document["relations"][name]
        related = relation["together"]
        correlations = (_correlation(related, kind) for kind in ("spearman", "pearson"))
        rows.append((title, number(related["n"]), *correlations, fixed(relation["auc"])))
    return rows


def by_task(document: Document) -> list[tuple[str, ...]]:
    """A row for each task: its rank correlation with each predictor."""
    return [
        (
            task,
            *(
                _correlation(document["relations"][name]["tasks"][task], "spearman")
                for name in PREDICTORS
            ),
        )
        for task in document["tasks"]
    ]


def _correlation(related: Document, name: str) -> str:
    ends = related[f"{name}_interval"]
    between = f" ({fixed(ends[0])} to {fixed(ends[1])})" if ends else ""
    return f"{fixed(related[name])}{between}"


def _row(point: Document) -> tuple[str, ...]:
    return (
        point["label"], editors.editor(point["method"]).short, times(point["ratio"]),
        percent(point["damage"]), percent(point["damage_first_tokens"]),
        in_points(point["change"]),
    )  # fmt: skip
