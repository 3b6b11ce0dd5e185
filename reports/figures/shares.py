"""Shares beside one another: of tasks, of hard edits and easy ones, before and after edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.colours import BARE, DIM, LINE, MEAN
from reports.figures.canvas import Drawing, legend
from reports.numbers import COUNTED_OUT, share
from reports.tables import editors
from rome_diagnosis.shares import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
WHEN = ("before", "after")
LONGEST = 22  # characters of a name beside a figure


class SharePoint(NamedTuple):
    """One share, and the interval it is known within."""

    row: int
    value: float
    ends: tuple[float, float] | None


class Series(NamedTuple):
    """What one colour and marker stand for."""

    name: str
    look: tuple[str, str]
    points: list[SharePoint]


def tasks(document: Document) -> Drawing | None:
    """Scores in tasks, one standard error to either side; of a ``diag.tasks/1`` document."""
    points = [
        SharePoint(row, task["score"], None if task["stderr"] is None else
              (task["score"] - task["stderr"], task["score"] + task["stderr"]))
        for row, task in enumerate(document["tasks"].values())
    ]  # fmt: skip
    axis = "score ± standard error, per cent"
    return _draw("tasks-scores", axis, list(document["tasks"]), [Series("", MEAN, points)])


def broken(document: Document) -> Drawing | None:
    """Which share of performed edits broke the model; of a ``diag.hardcases/1`` document."""
    groups = {name: of["performed"] or {} for name, of in document["groups"].items()}
    arms = editors.arms({arm for of in groups.values() for arm in of})
    series = [
        Series(f"{name} edits", look, [
            SharePoint(row, of[arm.name]["mean"], (of[arm.name]["low"], of[arm.name]["high"]))
            for row, arm in enumerate(arms) if arm.name in of
        ])
        for (name, of), look in zip(groups.items(), (BARE, MEAN), strict=False)
    ]  # fmt: skip
    axis = "broke the model, per cent, 95 % interval"
    return _draw("hardcases-broken", axis, [arm.short for arm in arms], series)


def applied(document: Document) -> Drawing | None:
    """What the model answers before its edits and after; of a ``diag.apply/1`` document."""
    rows: dict[str, tuple[tuple[float, float], int]] = {}  # what, before and after, of how many
    asked = [edit["after"] for edit in document["edits"] if "after" in edit]
    for how, label in (("bare", "P(new), bare"), ("prefixed", "P(new), prefixed")):
        if asked:
            before, after = (fmean(a[how][f"p_{when}"] for a in asked) for when in WHEN)
            rows[label] = ((before, after), 0)
    kept = [own for edit in document["edits"] if (own := edit.get("locality"))]
    if kept:
        n = sum(own["n"] for own in kept)
        before, after = (sum(own[when] * own["n"] for own in kept) / n for when in WHEN)
        rows["neighbours kept"] = ((before, after), n)
    if recall := document["recall"]:
        rows["other facts recalled"] = ((recall["before"], recall["after"]), recall["n"])
    series = [
        Series(f"{when} the edits", look, [
            SharePoint(row, of[i], wilson(of[i], n) if n >= COUNTED_OUT else None)
            for row, (of, n) in enumerate(rows.values())
        ])
        for i, (when, look) in enumerate(zip(WHEN, ((DIM, "o"), BARE), strict=True))
    ]  # fmt: skip
    return _draw("applied-shares", "per cent", list(rows), series)


def _draw(name: str, axis: str, rows: Sequence[str], series: Sequence[Series]) -> Drawing | None:
    if not any(each.points for each in series):
        return None
    shift = 0.4 / len(series)

    def paint(axes: Axes) -> None:
        for row in range(len(rows)):
            axes.axhline(row, color=LINE, linewidth=0.8, zorder=0)
        for i, each in enumerate(series):
            colour, marker = each.look
            at = [point.row + shift * (i - (len(series) - 1) / 2) for point in each.points]
            for y, point in zip(at, each.points, strict=True):
                if point.ends:
                    axes.plot([100 * end for end in point.ends], (y, y), color=colour, alpha=0.5)
            axes.plot([100 * point.value for point in each.points], at, color=colour,
                      marker=marker, linestyle="none", label=each.name)  # fmt: skip
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(min(-4, axes.get_xlim()[0]), max(104, axes.get_xlim()[1]))
        axes.set_xlabel(axis)
        if len(series) > 1:
            legend(axes)

    alt = f"{axis}. " + "; ".join(
        f"{each.name}: ".removeprefix(": ")
        + ", ".join(f"{rows[point.row]} {share(point.value)}" for point in each.points)
        for each in series
    )
    left = 0.35 + 0.08 * max(len(_short(row)) for row in rows)
    return Drawing(name, alt, paint, size=(4.6, 1.1 + 0.32 * len(rows)), left=left)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
