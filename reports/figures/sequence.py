"""The figures of a list of edits: damage with its forecast, perplexity, and what still holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.colours import BARE, DIM, FAIL, FOURTH, INK, MEAN, THIRD, WARN
from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import PERCENT, counted, number
from reports.tables.sequence import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
FEWEST, MOST = 0.01, 1000.0  # per cent and times: beyond these a curve says nothing more
LEGEND = 3  # columns
MARKED = 0.25  # of the axes' diagonal from one mark of a curve to the next
HELD = (
    ("efficacy_all", "edits that hold", MEAN),
    ("efficacy_prefixed", "with a prefix", FOURTH),
    ("locality", "neighbouring facts", THIRD),
    ("recall", "other facts", BARE),
)


def damage(document: Document) -> Drawing | None:
    """Damage over edits: the forecast with its band, and what was measured on it.

    Args:
        document: A ``diag.sequence/1`` document.

    Returns:
        A figure; ``None`` where damage could not be checked.
    """
    curve = document["forecast"]["curve"]
    if not curve:
        return None
    method, limits = shown(document["method"]), document["limits"]
    measured = _points(document, "damage_measured", 100)
    others = [
        (shown(name), reach["curve"])
        for name, reach in document["editors"].items()
        if name != document["method"] and reach["curve"]
    ]

    def paint(axes: Axes) -> None:
        at = [point["edits"] for point in curve]
        axes.fill_between(
            at, _percents(curve, "low"), _percents(curve, "high"), color=method.colour, alpha=0.18,
            linewidth=0, label="interval",
        )  # fmt: skip
        _plot_others(axes, others)
        axes.plot(at, _percents(curve, "expected"), color=method.colour, label=method.short)
        if measured:
            axes.plot(
                *measured, color=INK, marker="o", markersize=3.5, linewidth=0.8, label="measured"
            )  # fmt: skip
        # Before lists had a limit of harm of their own, they were held against that of an edit.
        harm = "sequence_harm" if "sequence_harm" in limits else "damage_harm"
        for name, text, colour in (
            (harm, "harm", WARN), ("sequence_collapse", "collapse", FAIL),
        ):  # fmt: skip
            if name in limits:
                value = 100 * limits[name]
                caption = f"{text} {value:g}{PERCENT}"
                limit(axes, value, caption, vertical=False, colour=colour, align="left")
        _mark_collapse(axes, document)
        axes.set_yscale("log")
        axes.set_xlabel("edits made")
        axes.set_ylabel("change, % of hidden states' norm")
        legend(axes, columns=LEGEND)

    last = curve[-1]["damage"]["expected"]
    alt = (
        f"Expected damage over {counted(len(document['edits']), 'edit')}, up to "
        f"{number(100 * last)}{PERCENT} of hidden states' norm"
    )
    if measured:
        alt += f"; measured at {counted(len(measured[0]), 'checkpoint')}"
    rows = math.ceil((len(others) + 2 + bool(measured)) / LEGEND)
    top = 0.2 + 0.19 * rows
    return Drawing("sequence-damage", alt, paint, size=(4.6, 2.8 + top), left=0.95, top=top)


def _plot_others(axes: Axes, others: Sequence[tuple[Any, Sequence[Document]]]) -> None:
    """The curves of other methods, which differ in their marks as well as in colour."""
    for i, (other, points) in enumerate(others, 1):
        axes.plot(
            [point["edits"] for point in points], _percents(points, "expected"),
            color=other.colour, linewidth=0.9, linestyle=(0, (1, 1)), label=other.short,
            marker=other.marker, markersize=5, markerfacecolor="none",
            # Where curves lie on one another, their marks do not.
            markevery=(MARKED * i / (len(others) + 1), MARKED),
        )  # fmt: skip


def perplexity(document: Document) -> Drawing | None:
    """Perplexity over edits; ``None`` where nothing was edited."""
    points = _points(document, "ratio", 1)
    if not points:
        return None
    collapse = document.get("collapse_ratio")

    def paint(axes: Axes) -> None:
        axes.plot(*points, color=INK, marker="o", markersize=3.5, linewidth=0.8)
        axes.set_yscale("log")
        if collapse:
            limit(axes, collapse, f"collapse: {number(collapse)}×", vertical=False)
        _mark_collapse(axes, document)
        axes.set_xlabel("edits made")
        axes.set_ylabel("perplexity after / before")

    alt = f"Perplexity over that of the unedited model, up to {number(max(points[1]))}"
    return Drawing("sequence-perplexity", alt, paint, left=0.8)


def efficacy(document: Document) -> Drawing | None:
    """What the model still says over edits; ``None`` where nothing was edited."""
    curves = [
        (label, look, points)
        for name, label, look in HELD
        if (points := _points(document, name, 100, positive=False))
    ]
    if not curves:
        return None

    def paint(axes: Axes) -> None:
        for label, (colour, marker), points in curves:
            axes.plot(
                *points, color=colour, marker=marker, markersize=3.5, linewidth=1, label=label
            )  # fmt: skip
        _mark_collapse(axes, document)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("edits made")
        axes.set_ylabel("still given, %")
        legend(axes, columns=2)

    ends = ", ".join(f"{label} {number(points[1][-1])}{PERCENT}" for label, _, points in curves)
    return Drawing("sequence-efficacy", f"At the last checkpoint: {ends}", paint, top=0.6)


def tasks(document: Document) -> Drawing | None:
    """Scores in downstream tasks over edits; ``None`` where none was asked."""
    asked = document.get("tasks")
    points = [point for point in document["checkpoints"] if point.get("tasks")]
    if not asked or not points:
        return None
    at = [0, *(point["edits"] for point in points)]

    def scores(name: str) -> list[float]:
        return [asked[name]["score"], *(point["tasks"][name]["after"] for point in points)]

    each = {name: scores(name) for name in asked}
    mean = [sum(values) / len(each) for values in zip(*each.values(), strict=True)]

    def paint(axes: Axes) -> None:
        for values in each.values():
            axes.plot(at, [100 * value for value in values], color=DIM, linewidth=0.8)
        axes.plot(
            at, [100 * value for value in mean], color=INK, marker="o", markersize=3.5, label="mean"
        )  # fmt: skip
        _mark_collapse(axes, document)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("edits made")
        axes.set_ylabel("score, %")
        legend(axes, columns=1)

    ends = f"from {number(100 * mean[0])} to {number(100 * mean[-1])}{PERCENT}"
    alt = f"Mean score of {counted(len(each), 'task')} over edits, {ends}"
    return Drawing("sequence-tasks", alt, paint, top=0.6)


def _points(
    document: Document, name: str, scale: float, *, positive: bool = True
) -> tuple[list[int], list[float]] | None:
    """Where and what was measured; nothing where no checkpoint has it."""
    points = [
        (point["edits"], min(scale * point[name], scale * MOST))
        for point in document["checkpoints"]
        if point[name] is not None and (point[name] > 0 or not positive)
    ]
    return ([at for at, _ in points], [value for _, value in points]) if points else None


def _percents(curve: Sequence[Document], which: str) -> list[float]:
    values = [point["damage"].get(which, point["damage"]["expected"]) for point in curve]
    return [min(max(100 * value, FEWEST), 100 * MOST) for value in values]


def _mark_collapse(axes: Axes, document: Document) -> None:
    at = document["collapse_at"]
    if at is not None:
        axes.axvline(at, color=DIM, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
