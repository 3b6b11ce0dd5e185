"""Several diagnoses side by side: each editor's damage, a line for each diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import number
from reports.tables import editors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
FIGURES = {
    "damage": ("relative_bound", "damage_safe", "change of hidden states, in their norm"),
    "first_tokens": ("relative_bound_first_tokens", "first_tokens_safe",
                     "change of first tokens, in their norm"),
}  # fmt: skip


def draw(name: str, documents: Sequence[Document], labels: Sequence[str]) -> Drawing | None:
    """Draws one kind of damage of every editor.

    Args:
        name: ``damage`` or ``first_tokens``.
        documents: ``diag.keys/1`` documents.
        labels: What each is called.

    Returns:
        The figure; ``None`` where nothing was checked.
    """
    figure, bound, axis = FIGURES[name]
    shown = editors.editors({each for document in documents for each in document["response"]})
    points = {
        editor: [
            (row, value)
            for row, document in enumerate(documents)
            if (value := document["damage"].get(editor.name, {}).get(figure))
        ]
        for editor in shown
    }
    if not any(points.values()):
        return None

    def paint(axes: Axes) -> None:
        for editor, own in points.items():
            rows, values = zip(*own, strict=True) if own else ((), ())
            axes.plot(values, rows, color=editor.colour, marker=editor.marker, linestyle="none",
                      label=editor.short)  # fmt: skip
        if bound in documents[0]["limits"]:
            limit(axes, documents[0]["limits"][bound], "")
        axes.set_xscale("log")
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        legend(axes, columns=3)

    alt = f"{axis}. " + "; ".join(
        f"{editor.short}: " + ", ".join(f"{labels[row]} {number(value)}" for row, value in own)
        for editor, own in points.items()
    )
    height = 1.2 + 0.3 * len(labels)
    return Drawing(f"several-{name}", alt, paint, size=(6.4, height), left=1.8, top=0.4)
