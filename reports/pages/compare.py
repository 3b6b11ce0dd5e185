"""The page of several diagnoses side by side: a line for each diagnosis and editor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import several
from reports.numbers import counted, number, percent
from reports.pages.parts import sections
from reports.tables import editors, setup, verdicts

Document = Mapping[str, Any]
HEAD = ("Diagnosis", "editor", "verdict", "ρ", "at most", "expected", "first tokens", "bare prompt")
MEANING = (
    "Damage in units of hidden states' norm: at most, as it is expected, and at most at first "
    "tokens; then the share of the change that the bare prompt receives."
)
CAPTION = (
    "A line for each diagnosis. Dashed: the limit below which damage is safe; for ρ, below which "
    "keys are called inconsistent."
)


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.compare/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    rows = document["rows"]
    shown = editors.editors({name for own in rows for name in own["editors"]})
    drawn = [(several.panels(document), CAPTION)] if figures else []
    # What all were measured with; in what they differ their labels say.
    measured = [setup.measured_with({**document, **own}) for own in rows]
    same = [line for line in measured[0] if all(line in lines for lines in measured)]
    return sections.view(
        document,
        title=f"{counted(len(rows), 'diagnosis', 'diagnoses')} side by side",
        headline=document["summary"],
        sections=[
            sections.Section(
                "diagnoses", "Each diagnosis, editor by editor", (MEANING,), HEAD,
                [line for own in rows for line in _lines(own, shown)], drawn,
            )
        ],
    ) | {"measured_with": same}  # fmt: skip


def _lines(own: Document, shown: list[editors.Shown]) -> list[tuple[str, ...]]:
    return [
        (
            own["label"], editor.short, verdicts.label(of["verdict"]).text.lower(),
            number(own["ratio"]), percent(of["relative_bound"]), percent(_expected(of)),
            percent(of["relative_bound_first_tokens"]), percent(of["bare"]),
        )
        for editor in shown
        if (of := own["editors"].get(editor.name))
    ]  # fmt: skip


def _expected(of: Document) -> float | None:
    bound, share = of["relative_bound"], of.get("expected_share")
    return None if bound is None or share is None else bound * share
