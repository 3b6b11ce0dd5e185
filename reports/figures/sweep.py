"""One edit over depth: each editor's damage at every block, and the first position's stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.colours import BARE, MEAN
from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import number
from reports.tables import editors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
Points = list[tuple[int, float]]
LIMITS = {"damage_safe": "safe below", "damage_collapse": "collapse risk"}


def damage(document: Document) -> Drawing | None:
    """Bounds on what each editor does to hidden states, by block.

    Args:
        document: A ``diag.sweep/1`` document.

    Returns:
        The figure; ``None`` where nothing was checked.
    """
    series: list[tuple[str, str, str, Points]] = []
    for editor in editors.editors({name for row in document["layers"] for name in row["editors"]}):
        points = _points(document["layers"], editor.name)
        if points:
            series.append((editor.short, editor.colour, editor.marker, points))
    if not series:
        return None

    def paint(axes: Axes) -> None:
        for name, text in LIMITS.items():
            if name in document["limits"]:
                limit(axes, document["limits"][name], text, vertical=False)
        _lines(axes, series)
        axes.set_xlabel("block that is edited")
        axes.set_ylabel("change of hidden states, in their norm")

    return Drawing("sweep-damage", _alt("Damage at most", series), paint, size=(6.4, 3.4), top=0.6)


def stream(document: Document) -> Drawing | None:
    """Norms of the residual stream that enters each block, at the first position and at later ones.

    Args:
        document: A ``diag.sweep/1`` document.

    Returns:
        The figure; ``None`` where there are no later positions.
    """
    blocks = document["sink"]["blocks"]
    named = (("first position", BARE, "norm_first"), ("later positions", MEAN, "norm_later"))
    series = [
        (text, *look, [(row["layer"], row[name]) for row in blocks if row[name]])
        for text, look, name in named
    ]
    if not all(points for *_, points in series):
        return None

    def paint(axes: Axes) -> None:
        _lines(axes, series)
        axes.set_xlabel("block the stream enters")
        axes.set_ylabel("norm of the residual stream")

    alt = _alt("Norm of the residual stream", series)
    return Drawing("sweep-stream", alt, paint, size=(6.4, 3.2), top=0.35)


def _points(rows: list[Document], editor: str) -> Points:
    bounds = (
        (row["layer"], (row["editors"].get(editor) or {}).get("relative_bound")) for row in rows
    )
    return [(layer, bound) for layer, bound in bounds if bound]


def _lines(axes: Axes, series: list[tuple[str, str, str, Points]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for text, colour, marker, points in series:
        blocks, values = zip(*points, strict=True)
        axes.plot(blocks, values, color=colour, marker=marker, markersize=5, label=text)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, columns=3)


def _alt(what: str, series: list[tuple[str, str, str, Points]]) -> str:
    return f"{what}, by block. " + "; ".join(
        f"{text}: " + ", ".join(f"{block}: {number(value)}" for block, value in points)
        for text, _, _, points in series
    )
