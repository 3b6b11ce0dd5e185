"""The page of a model's scores in downstream tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import shares
from reports.numbers import counted, number, percent
from reports.pages.parts import sections

Document = Mapping[str, Any]
HEAD = ("Task", "metric", "score", "standard error", "documents", "other metrics")


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.tasks/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    tasks, limit = document["tasks"], document["limit"]
    asked = "" if limit is None else f", the first {counted(limit, 'document')} of each at most"
    return sections.view(
        document,
        title=f"{document['model']['name']} in {counted(len(tasks), 'downstream task')}",
        headline=f"Mean score {_with_error(document['mean'])}{asked}.",
        sections=[
            sections.Section(
                "tasks",
                "Scores",
                head=HEAD,
                rows=[
                    (
                        name, task["metric"], percent(task["score"]), percent(task["stderr"]),
                        number(task["n"]),
                        "; ".join(f"{other} {_with_error(score)}"
                                  for other, score in task["others"].items()) or "–",
                    )
                    for name, task in tasks.items()
                ],
                figures=[(shares.tasks(document), "The same scores.")] if figures else (),
            )
        ],
    )  # fmt: skip


def _with_error(score: Document) -> str:
    error = f" ± {percent(score['stderr'])}" if score["stderr"] is not None else ""
    return f"{percent(score['score'])}{error}"
