"""The figures of many edits: how ρ and damage are distributed, and whether damage foretells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.figures.canvas import C_ROME, COLOURS, DIM, FAIL, LINE, ROME, SHAPES, WARN, draw, limit
from reports.figures.canvas import plain_log as log_axis
from reports.numbers import number
from reports.tables.edits import Edit
from reports.tables.terms import NAMES, VARIANTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Limits = Mapping[str, float]  # a document's ``limits``: what verdicts rest on
Drawn = tuple[str, str, str]  # group, colour, shape
NAME_SHARE = 0.35  # of a histogram's width, for the name of a limit
GROUPS: tuple[Drawn, ...] = (
    ("collapsed", ROME, "X"),
    ("not collapsed", C_ROME, "o"),
    ("first token", ROME, "X"),
    ("later token", C_ROME, "o"),
)


def _grouped(edits: Sequence[Edit], read: Callable[[Edit], float | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for edit in edits:
        value = read(edit)
        if value is not None and math.isfinite(value):
            found.setdefault(edit.group, []).append(value)
    return found


def _histogram(
    name: str, title: str, label: str, found: dict[str, list[float]],
    limits: Sequence[tuple[float, str, str]], *, log: bool,
) -> str | None:  # fmt: skip
    if not found:
        return None
    everything = [value for values in found.values() for value in values]
    low, high = min(everything), max(everything)

    def paint(axes: Axes) -> None:
        import seaborn as sns

        wide = [min([low, *(at for at, *_ in limits)]), max([high, *(at for at, *_ in limits)])]
        if log:
            edges = [math.log10(wide[0] / 1.05), math.log10(wide[1] * 1.05)]
        else:
            edges = [wide[0] - 0.02, wide[1] + 0.02]
        bins = 36
        step = (edges[1] - edges[0]) / bins
        borders = [edges[0] + i * step for i in range(bins + 1)]
        for group, colour, _ in GROUPS:
            if group in found:
                sns.histplot(
                    x=found[group], bins=[10**b for b in borders] if log else borders, ax=axes,
                    color=colour, alpha=0.55, element="step", linewidth=1.2,
                    label=f"{group} ({len(found[group]):,})",
                )  # fmt: skip
        if log:
            log_axis(axes, "x")
            # The last limit's name stands to the right of its line, even where no edit does.
            last = max((at for at, *_ in limits), default=wide[0])
            room = math.log10(last) + NAME_SHARE * (edges[1] - edges[0])
            axes.set_xlim(10 ** edges[0], 10 ** max(edges[1], room))
        for (at, text, colour), side in zip(sorted(limits), ("right", "left"), strict=False):
            limit(axes, at, text, colour=colour, align=side)
        axes.set_xlabel(label)
        axes.set_ylabel("edits")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)

    alt = f"{title}. " + "; ".join(
        f"{group}: {len(values):,} edits from {number(min(values))} to {number(max(values))}, "
        f"median {number(sorted(values)[len(values) // 2])}"
        for group, values in found.items()
    )
    return draw(name, alt, paint, top=0.5)


def ratio(edits: Sequence[Edit], limits: Limits) -> str | None:
    """How ρ is distributed, with the limits below which keys are called inconsistent."""
    found = _grouped(edits, lambda edit: edit.split.rho if edit.split else None)
    drawn = _drawn(limits, ("ratio_collapse", "", FAIL), ("ratio_safe", "", WARN))
    return _histogram("rho", "Distribution of ρ", "ρ = D_rome / D_c_rome", found, drawn, log=False)


def damage(edits: Sequence[Edit], limits: Limits) -> str | None:
    """How ROME's predicted damage is distributed, with the limits of a verdict."""
    found = _grouped(edits, lambda edit: edit.predicted if edit.predicted else None)
    drawn = _drawn(
        limits, ("damage_safe", "safe below ", WARN), ("damage_collapse", "collapse ", FAIL)
    )
    label = "damage by ROME, × residual stream (logarithmic)"
    return _histogram("damage", "Distribution of predicted damage", label, found, drawn, log=True)


def _drawn(limits: Limits, *asked: tuple[str, str, str]) -> list[tuple[float, str, str]]:
    """Where limits are drawn, with what text, in which colour; only those a document holds."""
    return [
        (limits[name], f"{text}{limits[name]:g}", colour)
        for name, text, colour in asked
        if name in limits
    ]


def plane(edits: Sequence[Edit], limits: Limits) -> str | None:
    """Where each edit's unprefixed key lies, its own k̄ at (1, 0): ρ is the horizontal place."""
    found: dict[str, list[tuple[float, float]]] = {}
    for edit in edits:
        if edit.split:
            sine = math.sqrt(max(0.0, 1 - edit.split.cosine**2))
            place = (edit.split.rho, edit.split.length * sine)
            found.setdefault(edit.group, []).append(place)
    if not found:
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        axes.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for group, colour, shape in reversed(GROUPS):
            if group in found:
                many = len(found[group]) > 500
                axes.scatter(
                    [x for x, _ in found[group]], [y for _, y in found[group]], color=colour,
                    marker=shape, s=10 if many else 28, alpha=0.45 if many else 0.75,
                    linewidths=0, label=f"k_u, {group}",
                )  # fmt: skip
        axes.scatter([1], [0], color=DIM, marker="*", s=140, linewidths=0, label="k̄", zorder=4)
        for at, text, colour in _drawn(limits, ("ratio_collapse", "ρ = ", FAIL)):
            limit(axes, at, text, colour=colour)
        axes.set_xlabel("along C⁻¹k̄, in lengths of k̄: ρ")
        axes.set_ylabel("across, in lengths of k̄")
        axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.06),
            ncols=3,
            handletextpad=0.2,
            markerscale=1.5,
        )

    alt = (
        "Each edit's unprefixed key in the plane of its own two keys, the mean key at (1, 0); "
        + "; ".join(f"{group}: {len(places):,} edits" for group, places in found.items())
    )
    return draw("many-plane", alt, paint, size=(4.6, 3.6), top=0.5)


def _points(
    edits: Sequence[Edit], read: Callable[[dict], tuple[float | None, float | None]]
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for edit in edits:
        for variant in VARIANTS if "arms" in edit.source else ():
            x, y = read(edit.source["arms"][variant])
            if x and y:
                found.setdefault(variant, []).append((x, y))
    return found


def perplexity(edits: Sequence[Edit], collapse: float, limits: Limits) -> str | None:
    """Predicted damage against what happened to perplexity; beyond all numbers is drawn on top."""
    top = 10 * max(
        (
            arm["perplexity"]["ratio"] or 1
            for edit in edits
            for arm in edit.source.get("arms", {}).values()
        ),
        default=1.0,
    )
    found = _points(
        edits, lambda arm: (arm["damage"]["relative"], arm["perplexity"]["ratio"] or top)
    )
    if not found:
        return None

    def paint(axes: Axes) -> None:
        for at, text, colour in _drawn(limits, ("damage_collapse", "damage ", FAIL)):
            limit(axes, at, text, colour=colour)
        limit(axes, collapse, f"collapse: {number(collapse)}×", vertical=False)
        _scatter(axes, found)
        axes.set_xlabel("predicted, × residual stream (logarithmic)")
        axes.set_ylabel("perplexity after / before (logarithmic)")

    alt = f"Predicted damage against perplexity ratio, {_count(found)}"
    return draw("foretold", alt, paint, size=(4.6, 3.6), left=0.9, top=0.5)


def closed_form(edits: Sequence[Edit]) -> str | None:
    """Damage in closed form against the same measured over the text set."""
    found = _points(
        edits, lambda arm: (arm["damage"]["relative"], arm["damage"]["measured_relative"])
    )
    if not found:
        return None

    def paint(axes: Axes) -> None:
        every = [value for places in found.values() for place in places for value in place]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        _scatter(axes, found)
        axes.set_xlabel("predicted in closed form (logarithmic)")
        axes.set_ylabel("measured over the text set")

    return draw("closed-form", f"Predicted against measured damage, {_count(found)}", paint,
                size=(4.6, 3.6), left=0.9, top=0.5)  # fmt: skip


def _scatter(axes: Axes, found: dict[str, list[tuple[float, float]]]) -> None:
    for variant in VARIANTS:
        if variant in found:
            axes.scatter(
                [x for x, _ in found[variant]], [y for _, y in found[variant]],
                color=COLOURS[variant], marker=SHAPES[variant], s=24, alpha=0.6, linewidths=0,
                label=NAMES[variant],
            )  # fmt: skip
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=3, handletextpad=0.2)


def _count(found: dict[str, list[tuple[float, float]]]) -> str:
    return ", ".join(f"{NAMES[variant]}: {len(places):,}" for variant, places in found.items())
