"""The figures of many edits: how ρ and damage are distributed, and what damage predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.colours import BARE, DIM, FAIL, LINE, MEAN, WARN
from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import PERCENT, counted, number
from reports.tables import editors, terms
from reports.tables.editors import Shown
from reports.tables.edits import Edit
from rome_diagnosis.editors import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Limits = Mapping[str, float]  # a document's ``limits``: what verdicts rest on
Line = tuple[float, str, str]  # a limit: where, its text, its colour
Points = dict[Shown, list[tuple[float, float]]]
BINS = 36
NAME_SHARE = 0.35  # of a histogram's width, for the name of a limit
GROUPS = (
    ("collapsed", BARE),
    ("not collapsed", MEAN),
    ("first token", BARE),
    ("later token", MEAN),
)


def ratio(edits: Sequence[Edit], limits: Limits) -> Drawing | None:
    """How ρ is distributed, with the limits below which keys are called inconsistent."""
    values = _grouped(edits, lambda edit: edit.split.rho if edit.split else None)
    lines = _lines(limits, ("ratio_collapse", "", FAIL), ("ratio_safe", "", WARN))
    label = f"ρ = {terms.ratio_name()}"
    return _histogram("rho", "Distribution of ρ", label, values, lines, log=False)


def damage(edits: Sequence[Edit], limits: Limits) -> Drawing | None:
    """How the published editor's predicted damage is distributed, with the limits of a verdict."""
    values = _grouped(edits, lambda edit: 100 * edit.predicted if edit.predicted else None)
    lines = _lines(
        limits, ("damage_safe", "safe below ", WARN), ("damage_collapse", "collapse ", FAIL),
        percent=True,
    )  # fmt: skip
    name = editors.editor(PUBLISHED).short
    label = f"damage by {name}, % of hidden states' norm (logarithmic)"
    return _histogram("damage", "Distribution of predicted damage", label, values, lines, log=True)


def _grouped(edits: Sequence[Edit], read: Callable[[Edit], float | None]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for edit in edits:
        value = read(edit)
        if value is not None and math.isfinite(value):
            groups.setdefault(edit.group, []).append(value)
    return groups


def _lines(limits: Limits, *asked: tuple[str, str, str], percent: bool = False) -> list[Line]:
    """Where limits are drawn, with what text, in which colour; only those a document holds."""
    scale, unit = (100.0, PERCENT) if percent else (1.0, "")
    return [
        (scale * limits[name], f"{text}{scale * limits[name]:g}{unit}", colour)
        for name, text, colour in asked
        if name in limits
    ]


def _histogram(
    name: str, title: str, label: str, groups: dict[str, list[float]], lines: Sequence[Line], *,
    log: bool,
) -> Drawing | None:  # fmt: skip
    if not groups:
        return None
    everything = [value for values in groups.values() for value in values]
    everything += [at for at, *_ in lines]
    low, high = min(everything), max(everything)
    start, end = (
        (math.log10(low / 1.05), math.log10(high * 1.05)) if log else (low - 0.02, high + 0.02)
    )
    borders = [start + i * (end - start) / BINS for i in range(BINS + 1)]

    def paint(axes: Axes) -> None:
        import seaborn as sns
        from matplotlib.ticker import MaxNLocator

        for group, (colour, _) in GROUPS:
            if group in groups:
                sns.histplot(
                    x=groups[group], bins=[10**b for b in borders] if log else borders, ax=axes,
                    color=colour, alpha=0.55, element="step", linewidth=1.2,
                    label=f"{group} ({len(groups[group]):,})",
                )  # fmt: skip
        if log:
            axes.set_xscale("log")
            # Names of limits stand to the left of the first line and to the right of the last, even
            # where no edit does.
            first, last = (
                math.log10(of((at for at, *_ in lines), default=low)) for of in (min, max)
            )
            room = NAME_SHARE * (end - start)
            axes.set_xlim(10 ** min(start, first - room), 10 ** max(end, last + room))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        for (at, text, colour), side in zip(sorted(lines), ("right", "left"), strict=False):
            limit(axes, at, text, colour=colour, align=side)
        axes.set_xlabel(label)
        axes.set_ylabel("number of edits")
        legend(axes, bbox_to_anchor=(0.5, 1.06))

    alt = f"{title}. " + "; ".join(
        f"{group}: {counted(len(values), 'edit')} from {number(min(values))} to "
        f"{number(max(values))}, median {number(sorted(values)[len(values) // 2])}"
        for group, values in groups.items()
    )
    return Drawing(name, alt, paint, top=0.5)


def plane(edits: Sequence[Edit], limits: Limits) -> Drawing | None:
    """Where each edit's unprefixed key lies, its own k̄ at (1, 0): ρ is the horizontal place."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for edit in edits:
        if edit.split:
            sine = math.sqrt(max(0.0, 1 - edit.split.cosine**2))
            place = (edit.split.rho, edit.split.length * sine)
            groups.setdefault(edit.group, []).append(place)
    if not groups:
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        axes.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for group, (colour, marker) in reversed(GROUPS):
            if group in groups:
                crowd = len(groups[group]) > 500
                axes.scatter(
                    [x for x, _ in groups[group]], [y for _, y in groups[group]], color=colour,
                    marker=marker, s=10 if crowd else 28, alpha=0.45 if crowd else 0.75,
                    linewidths=0, label=f"k_u, {group}",
                )  # fmt: skip
        axes.scatter([1], [0], color=DIM, marker="*", s=140, linewidths=0, label="k̄", zorder=4)
        for at, text, colour in _lines(limits, ("ratio_collapse", "ρ = ", FAIL)):
            limit(axes, at, text, colour=colour)
        axes.set_xlabel("along C⁻¹k̄, in lengths of k̄: ρ")
        axes.set_ylabel("across, in lengths of k̄")
        legend(axes, columns=3, bbox_to_anchor=(0.5, 1.06), markerscale=1.5)

    alt = (
        "Each edit's unprefixed key in the plane of its own two keys, the mean key at (1, 0); "
        + "; ".join(f"{group}: {counted(len(places), 'edit')}" for group, places in groups.items())
    )
    return Drawing("many-plane", alt, paint, size=(4.6, 3.6), top=0.5)


def perplexity(edits: Sequence[Edit], collapse: float, limits: Limits) -> Drawing | None:
    """Predicted damage against the perplexity ratio; beyond all numbers is drawn on top."""
    top = 10 * max(
        (
            arm["perplexity"]["ratio"] or 1
            for edit in edits
            for arm in edit.source.get("arms", {}).values()
        ),
        default=1.0,
    )
    points = _points(
        edits, lambda arm: (_percent(arm, "relative"), arm["perplexity"]["ratio"] or top)
    )
    if not points:
        return None

    def paint(axes: Axes) -> None:
        for at, text, colour in _lines(limits, ("damage_collapse", "damage ", FAIL), percent=True):
            limit(axes, at, text, colour=colour, align="right")
        limit(axes, collapse, f"collapse: {number(collapse)}×", vertical=False, align="left")
        _scatter(axes, points)
        axes.set_xlabel("predicted, % of hidden states' norm (logarithmic)")
        axes.set_ylabel("perplexity after / before (logarithmic)")

    alt = f"Predicted damage against perplexity ratio, {_counts(points)}"
    return Drawing("predicted", alt, paint, size=(4.6, 3.6), left=0.9, top=0.5)


def closed_form(edits: Sequence[Edit]) -> Drawing | None:
    """Damage in closed form against the same measured over the text set."""
    points = _points(
        edits, lambda arm: (_percent(arm, "relative"), _percent(arm, "measured_relative"))
    )
    if not points:
        return None

    def paint(axes: Axes) -> None:
        every = [value for places in points.values() for place in places for value in place]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        _scatter(axes, points)
        axes.set_xlabel("predicted in closed form, % (logarithmic)")
        axes.set_ylabel("measured over the text set, %")

    alt = f"Predicted against measured damage, {_counts(points)}"
    return Drawing("closed-form", alt, paint, size=(4.6, 3.6), left=0.9, top=0.5)


def _percent(arm: Mapping, name: str) -> float | None:
    value = arm["damage"][name]
    return None if value is None else 100 * value


def _points(
    edits: Sequence[Edit], read: Callable[[Mapping], tuple[float | None, float | None]]
) -> Points:
    points: Points = {}
    for edit in edits:
        for arm in editors.unprefixed(edit.source.get("arms", ())):
            x, y = read(edit.source["arms"][arm.name])
            if x and y:
                points.setdefault(arm, []).append((x, y))
    return points


def _scatter(axes: Axes, points: Points) -> None:
    for arm, places in points.items():
        axes.scatter(
            [x for x, _ in places], [y for _, y in places], color=arm.colour, marker=arm.marker,
            s=24, alpha=0.6, linewidths=0, label=arm.short,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    legend(axes, columns=min(4, len(points)), bbox_to_anchor=(0.5, 1.06))


def _counts(points: Points) -> str:
    return ", ".join(f"{arm.short}: {len(places):,}" for arm, places in points.items())
